"""Not placed: what must agree before an attempt is called absent and its share may be offered again."""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone
from pytest_django import Settings

from accounts.services.gateways import gateway_for
from exchange.errors import OrderRejected
from exchange.loop import IoLoop
from exchange.port import FillReport, Market, OrderSide
from tests.processes import PaperExchange
from trading.domain.states import DenyCode, OrderPurpose, OrderStatus
from trading.models import Fill, Order, Position
from trading.services.allocation import allocate
from trading.services.execution import absence, claiming, recording
from trading.services.execution.answers import Answer
from trading.services.exposure import exposures
from trading.services.fills import record_fills
from trading.services.orders import new_stop
from trading.services.selection import request
from trading.tests.services.holding import SECONDS, at_exchange, stranger
from trading.tests.services.journey import BTC, ETH, WEATHER, a_signal, fit_accounts, now
from trading.tests.services.sending import (
    LOOK_UP,
    PLACE,
    a_held_position,
    an_entry,
    grow_older,
    look_up,
    send,
    settled,
    share_of,
    told_of,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("unthrottled", "faults")]

EXECUTIONS = "GET /fapi/v1/userTrades"
POSITIONS = "GET /fapi/v3/positionRisk"
OPEN_ORDERS = "GET /fapi/v1/openOrders"
HITS_A_LOOK = 3
"""One look asks for the order in its store, in the other, and in its own once more."""


def lost(paper: PaperExchange, *, applied: bool, hidden_looks: int = 0) -> Order:
    """An entry whose answer was lost, and which so many looks will not find although it is there."""
    order = an_entry()
    name = order.account.name
    paper.add_fault(kind="close_socket", endpoint=PLACE, account=name, apply=applied)
    if hidden_looks:
        paper.add_fault(kind="lookup_not_found", account=name, count=hidden_looks * HITS_A_LOOK, seconds=600)
    send(order)
    assert order.status == OrderStatus.UNKNOWN
    return order


def looked_up_to_the_end(order: Order) -> None:
    """Three looks over the whole span, all of which find nothing."""
    look_up(order)
    look_up(order)
    grow_older(order)
    look_up(order)


def executions_of(order: Order) -> Sequence[FillReport]:
    gateway = gateway_for(order.account, Market.FUTURES)
    since = now() - timedelta(minutes=1)
    return IoLoop.current().run(gateway.fetch_fills(order.symbol, since=since), SECONDS)


def bought_by_a_stranger(order: Order) -> None:
    position = Position(account=order.account, market=Market.FUTURES, symbol=BTC, is_long=True)
    at_exchange(position, stranger(position, OrderSide.BUY, Decimal("0.002")))


# ── what the executions tell ─────────────────────────────────────────────────
def test_an_execution_that_names_a_stranger_does_not_hold_the_conclusion_up(
    paper_exchange: PaperExchange,
) -> None:
    order = lost(paper_exchange, applied=False)
    bought_by_a_stranger(order)
    looked_up_to_the_end(order)
    assert (order.status, order.code) == (OrderStatus.EXPIRED, "NOT_PLACED")


def test_an_order_its_execution_tells_of_is_booked_though_no_store_shows_it(
    paper_exchange: PaperExchange,
) -> None:
    order = lost(paper_exchange, applied=True, hidden_looks=3)
    looked_up_to_the_end(order)
    (placed,) = told_of(paper_exchange, order.account)
    assert (order.status, order.filled_quantity) == (OrderStatus.FILLED, order.quantity)
    assert order.exchange_order_id == str(placed["order_id"])
    assert settled(order).outcome == "FILLED"


def test_our_own_execution_read_as_a_strangers_is_no_proof_of_absence(paper_exchange: PaperExchange) -> None:
    order = lost(paper_exchange, applied=True, hidden_looks=3)
    record_fills(order.account, Market.FUTURES, executions_of(order), now())
    assert Fill.objects.get(account=order.account).order is None
    looked_up_to_the_end(order)
    assert (order.status, order.filled_quantity) == (OrderStatus.FILLED, order.quantity)
    assert len(told_of(paper_exchange, order.account)) == 1


def test_executions_nobody_names_leave_the_order_unknown(paper_exchange: PaperExchange) -> None:
    order = lost(paper_exchange, applied=False)
    bought_by_a_stranger(order)
    paper_exchange.add_fault(kind="lookup_not_found", account=order.account.name, count=0, seconds=600)
    looked_up_to_the_end(order)
    assert (order.status, order.looks) == (OrderStatus.UNKNOWN, 3)


# ── what the position and the lists tell ─────────────────────────────────────
def test_a_position_that_moved_this_way_without_an_execution_leaves_the_order_unknown(
    paper_exchange: PaperExchange,
) -> None:
    order = lost(paper_exchange, applied=True, hidden_looks=4)
    paper_exchange.add_fault(
        kind="http", endpoint=EXECUTIONS, account=order.account.name, status=200, body="[]"
    )
    looked_up_to_the_end(order)
    assert (order.status, order.looks) == (OrderStatus.UNKNOWN, 3)
    look_up(order)
    assert order.status == OrderStatus.FILLED


@pytest.mark.parametrize("endpoint", [EXECUTIONS, POSITIONS, OPEN_ORDERS])
def test_what_could_not_be_read_proves_nothing(paper_exchange: PaperExchange, endpoint: str) -> None:
    order = lost(paper_exchange, applied=False)
    paper_exchange.add_fault(kind="http", endpoint=endpoint, account=order.account.name, status=500)
    looked_up_to_the_end(order)
    assert (order.status, order.looks) == (OrderStatus.UNKNOWN, 3)
    look_up(order)
    assert (order.status, order.code) == (OrderStatus.EXPIRED, "NOT_PLACED")


def test_a_stop_the_list_shows_is_there_whatever_the_query_says(paper_exchange: PaperExchange) -> None:
    position = a_held_position()
    name = position.account.name
    stop = new_stop(
        position,
        purpose=OrderPurpose.HARD_STOP,
        trigger_price=(position.entry_price * Decimal("0.98")).quantize(Decimal("0.1")),
        quantity=None,
        close_position=True,
        now=now(),
    )
    stop.save()
    paper_exchange.add_fault(kind="close_socket", endpoint="POST /fapi/v1/algoOrder", account=name)
    paper_exchange.add_fault(kind="lookup_not_found", account=name, count=0, seconds=600)
    send(stop)
    look_up(stop)
    assert (stop.status, stop.looks) == (OrderStatus.ACKNOWLEDGED, 0)
    assert stop.exchange_order_id


# ── how looks are counted ────────────────────────────────────────────────────
def test_two_looks_at_the_same_moment_count_as_one(paper_exchange: PaperExchange) -> None:
    order = lost(paper_exchange, applied=False)
    copies = [Order.objects.get(pk=order.pk) for _ in range(2)]
    assert [absence.count_look(copy, timedelta(0)) for copy in copies] == [True, False]
    order.refresh_from_db()
    assert order.looks == 1


def test_a_look_that_took_ten_seconds_proves_no_more_than_its_beginning(
    paper_exchange: PaperExchange,
) -> None:
    order = lost(paper_exchange, applied=False)
    first = timezone.now()
    order.looks, order.first_look_at = 3, first
    gateway = gateway_for(order.account, Market.FUTURES)
    early, late = first + timedelta(seconds=9.9), first + timedelta(seconds=10)
    assert list(absence.judge([(order, gateway)], early, now())) == [(order, False)]
    assert list(absence.judge([(order, gateway)], late, now())) == [(order, True)]


def test_a_look_of_an_order_that_moved_meanwhile_counts_nothing(paper_exchange: PaperExchange) -> None:
    order = lost(paper_exchange, applied=False)
    stale = Order.objects.get(pk=order.pk)
    Order.objects.filter(pk=order.pk).update(status=OrderStatus.ACKNOWLEDGED)
    assert not absence.count_look(stale, timedelta(0))


# ── what was seen at the exchange is never ended as unplaced ─────────────────
def test_a_refusal_does_not_end_an_order_the_exchange_acknowledged(paper_exchange: PaperExchange) -> None:
    order = an_entry()
    paper_exchange.add_fault(kind="late_fill", endpoint=PLACE, account=order.account.name, seconds=600)
    send(order)
    assert order.status == OrderStatus.ACKNOWLEDGED
    bells = recording.record([Answer(order, error=OrderRejected("-2019", "no margin"))], now())
    order.refresh_from_db()
    assert order.status == OrderStatus.ACKNOWLEDGED
    assert bells.allocations == []


def test_a_duplicate_client_id_means_that_it_is_there(paper_exchange: PaperExchange) -> None:
    order = an_entry()
    paper_exchange.add_fault(
        kind="http", endpoint=PLACE, account=order.account.name, status=400, code=-4116, apply=True
    )
    bells = send(order)
    assert (order.status, order.code, bells.allocations) == (OrderStatus.UNKNOWN, "-4116", [])
    look_up(order)
    assert order.status == OrderStatus.FILLED
    assert len(told_of(paper_exchange, order.account)) == 1


# ── meanwhile ────────────────────────────────────────────────────────────────
def test_while_it_is_unknown_its_exposure_is_reserved_and_its_coin_is_closed_to_entries(
    paper_exchange: PaperExchange, settings: Settings
) -> None:
    settings.GATE_OFF = WEATHER
    (account,) = fit_accounts(1, BTC, ETH)
    order = an_entry(account)
    paper_exchange.add_fault(kind="close_socket", endpoint=PLACE, account=account.name, apply=False)
    paper_exchange.add_fault(kind="http", endpoint=LOOK_UP, account=account.name, count=0, status=500)
    send(order)
    look_up(order)
    assert order.status == OrderStatus.UNKNOWN
    at_stake = exposures([account], {account.pk: settings.LIMITS}, {}, now())[account.pk]
    assert (at_stake.risk(), at_stake.notional("BTC")) == (order.reserved_risk, order.reserved_notional)
    refused, other = request(a_signal(BTC, "SHORT"), now()), request(a_signal(ETH), now())
    assert allocate(refused.pk, now()).entries == []
    assert refused.allocations.get().code == DenyCode.OUTCOME_UNKNOWN
    assert len(allocate(other.pk, now()).entries) == 1, "another coin of the account is not closed"


# ── the deadline ─────────────────────────────────────────────────────────────
def paused(orders: Sequence[Order], seconds: float) -> Sequence[Order]:
    """Claimed orders whose owner stood still for so long since."""
    for order in orders:
        assert order.lease_until is not None
        order.lease_until -= timedelta(seconds=seconds)
        Order.objects.filter(pk=order.pk).update(lease_until=order.lease_until)
    return orders


@pytest.mark.parametrize(("seconds", "is_sent"), [(14, True), (16, False)])
def test_a_sender_that_paused_between_claim_and_send_sends_nothing_past_the_deadline(
    paper_exchange: PaperExchange, seconds: float, is_sent: bool
) -> None:
    order = an_entry()
    claimed = paused(claiming.claim([order.pk]), seconds)
    deadline = share_of(order).decision.deadline_at
    assert deadline is not None
    assert bool(claiming.mark_submitted(claimed, deadline - timedelta(seconds=15))) == is_sent


def test_a_sender_whose_lease_is_over_sends_nothing_exits_included(paper_exchange: PaperExchange) -> None:
    order = an_entry()
    Order.objects.filter(pk=order.pk).update(purpose=OrderPurpose.EXIT, deadline_at=None)
    claimed = claiming.claim([order.pk])
    assert claiming.mark_submitted(paused(claimed, 20), now()) == []
    order.refresh_from_db()
    assert order.status == OrderStatus.CLAIMED
