"""The one path to an exchange not yet tried: entry, stop, exit, lost answers, by the venue's own book."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from uuid import uuid4

import pytest
from pytest_django import Settings

from accounts.models import Account
from accounts.services.gateways import clock_offset_ms, close_gateways, gateways
from accounts.services.registry import create_account
from exchange.factory import ExperimentalFactory
from exchange.port import Market
from exchange.tests.venues import bybit, okx
from exchange.tests.venues.bybit import BybitWire
from exchange.tests.venues.engine import Book, open_bybit, open_okx
from exchange.tests.venues.okx import OkxWire
from exchange.tests.venues.wire import KEY, PASSPHRASE, SECRET, WireExchange, serving
from trading.domain.protection import WOULD_TRIGGER
from trading.domain.states import OrderPurpose, OrderStatus, PositionStatus, Protection
from trading.models import Order, Position
from trading.services import protection
from trading.services.execution import claiming
from trading.services.orders import new_exit
from trading.services.stop_rows import StopRows
from trading.tests.services.holding import answer
from trading.tests.services.journey import BTC, _verified, fit_accounts, now, read_back, set_columns
from trading.tests.services.sending import an_entry, grow_older, look_up, send

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("unthrottled", "faults")]

VENUES: dict[str, tuple[type[WireExchange], Callable[[WireExchange, Book], None]]] = {
    "bybit": (BybitWire, open_bybit),
    "okx": (OkxWire, open_okx),
}


@dataclass(frozen=True)
class Venue:
    """An exchange not yet tried, its book, and a fit account there."""

    wire: WireExchange
    book: Book
    account: Account


@pytest.fixture(params=sorted(VENUES))
def venue(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Venue]:
    close_gateways()
    settings.EXPERIMENTAL_VENUES = frozenset({request.param})
    wire_class, opened = VENUES[request.param]
    wire, book = wire_class(), Book()
    opened(wire, book)
    with serving(wire):
        # Marks and the market table stay those of the paper exchange.
        gateways()._factories[request.param] = ExperimentalFactory("paper", request.param, wire.url)
        account = create_account(f"t-{uuid4().hex[:12]}", KEY, SECRET, PASSPHRASE, exchange=request.param)
        set_columns(account, **_verified((Market.FUTURES,)))
        read_back(account, BTC)
        yield Venue(wire, book, account)
        close_gateways()


def placements(venue: Venue) -> list[str]:
    return [one.path for one in venue.wire.changes if "cancel" not in one.path]


def a_position(venue: Venue) -> Position:
    order = an_entry(venue.account)
    send(order)
    answer(look_up(order))
    assert order.position is not None
    return order.position


def stops_of(position: Position) -> list[Order]:
    return list(Order.objects.filter(position=position, purpose=OrderPurpose.HARD_STOP))


def test_an_entry_is_acknowledged_then_found_filled_in_base_units(venue: Venue) -> None:
    order = an_entry(venue.account)

    send(order)
    assert (order.status, order.filled_quantity) == (OrderStatus.ACKNOWLEDGED, Decimal(0))
    look_up(order)

    assert (order.status, order.fills_complete) == (OrderStatus.FILLED, True)
    assert (order.filled_quantity, order.average_price) == (Decimal("0.010"), order.price)
    position = Position.objects.get(account=venue.account)
    assert (position.quantity, position.status) == (Decimal("0.010"), PositionStatus.OPEN)
    assert len(placements(venue)) == 1


def test_its_hard_stop_is_placed_and_seen_and_the_position_closes_when_it_fires(venue: Venue) -> None:
    position = a_position(venue)
    answer(protection.protect([position.pk], now()))

    position.refresh_from_db()
    (stop,) = stops_of(position)
    assert (position.protection, stop.status) == (Protection.VERIFIED, OrderStatus.ACKNOWLEDGED)
    venue.book.fire(stop.client_order_id)
    look_up(stop)
    look_up(stop)

    position.refresh_from_db()
    assert (stop.status, stop.filled_quantity) == (OrderStatus.FILLED, Decimal("0.010"))
    assert (position.quantity, position.status) == (Decimal(0), PositionStatus.CLOSED)
    assert len(placements(venue)) == 2


def test_a_stop_that_would_fire_at_once_is_told_as_such(venue: Venue) -> None:
    is_bybit = venue.account.exchange == "bybit"
    refused = bybit.refusal(110093) if is_bybit else okx.order_refusal("51280", "0", algoId="")
    position_order = an_entry(venue.account)
    send(position_order)
    bells = look_up(position_order)
    venue.wire.answer("POST /v5/order/create" if is_bybit else "POST /api/v5/trade/order-algo", refused)
    position = position_order.position
    assert position is not None

    send(*stops_of(position))

    assert StopRows.of_many([position])[position.pk].refusal == WOULD_TRIGGER
    assert bells.exits == [stop.pk for stop in stops_of(position)]


def test_an_exit_at_market_closes_it(venue: Venue) -> None:
    position = a_position(venue)
    leave = new_exit(position, quantity=position.quantity, reason="MANUAL", now=now())
    leave.save()

    send(leave)
    look_up(leave)

    position.refresh_from_db()
    assert (leave.status, position.quantity) == (OrderStatus.FILLED, Decimal(0))
    assert venue.book.held == 0


def test_a_lost_answer_of_an_order_that_was_taken_is_found_and_not_sent_again(venue: Venue) -> None:
    venue.book.is_deaf = True
    order = an_entry(venue.account)

    send(order)
    assert order.status == OrderStatus.UNKNOWN
    look_up(order)

    assert (order.status, order.filled_quantity) == (OrderStatus.FILLED, Decimal("0.010"))
    assert len(placements(venue)) == len(venue.book.orders) == 1


def test_an_order_that_was_never_taken_is_absent_only_by_the_rule(venue: Venue) -> None:
    venue.book.is_away = True
    order = an_entry(venue.account)

    send(order)
    for _ in range(4):
        look_up(order)
        assert order.status == OrderStatus.UNKNOWN
    grow_older(order)
    look_up(order)

    assert (order.status, order.code) == (OrderStatus.EXPIRED, "NOT_PLACED")
    assert len(placements(venue)) == 1
    assert venue.book.orders == []


def test_each_request_of_a_chunk_carries_the_time_of_its_own_exchange(venue: Venue) -> None:
    """One clock for all would have the exchange that is behind refuse what is from its future."""
    here, too = fit_accounts(2)
    set_columns(venue.account, clock_offset_ms=-700)
    orders = [an_entry(account) for account in (here, venue.account, too)]
    claimed = claiming.claim([order.pk for order in orders])
    assert len(claiming.mark_submitted(claimed, now())) == 3
    for order in orders:
        order.refresh_from_db()
    at_home, there, beside = (order.request_timestamp_ms or 0 for order in orders)
    assert at_home == beside
    assert at_home - there == clock_offset_ms(here, Market.FUTURES) + 700
    assert [order.request_timestamp_ms for order in claimed] == [at_home, there, beside]
