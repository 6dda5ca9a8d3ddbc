"""Each open position has a stop that was seen at the exchange, or it does not stay open."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.utils import timezone
from pytest_django import Settings

from accounts.models import Account
from alerts.models import Alert
from exchange.port import FillReport, Market, OrderReport, OrderSide
from exchange.stream_events import ConditionalEvent
from tests.processes import PaperExchange, wait_until
from trading.domain.states import CloseReason, OrderPurpose, OrderStatus, PositionStatus, Protection
from trading.models import Order, Position
from trading.services import audits, execution, monitoring, pictures, streams
from trading.services.bells import Bells
from trading.services.execution import claiming, sending
from trading.services.fills import record_fills
from trading.services.orders import new_stop
from trading.services.plans import keep_plan, plan_of
from trading.services.protection import protect
from trading.services.stops import stop_quantity
from trading.services.streams import Told
from trading.services.watcher import Watcher
from trading.tests.services.holding import (
    MARK,
    answer,
    at_exchange,
    cancel_elsewhere,
    codes_of,
    enter,
    fresh,
    held_there,
    hold,
    ids_of,
    orders_of,
    pinned_mark,
    read_fills,
    stops_there,
    stranger,
    tick,
    visit,
)
from trading.tests.services.journey import WEATHER, now
from trading.tests.services.sending import an_entry, lapse, look_up

pytestmark = pytest.mark.django_db

STOP = "POST /fapi/v1/algoOrder"
LIST = "GET /fapi/v1/openAlgoOrders"


@pytest.fixture(autouse=True)
def exchange(paper_exchange: PaperExchange, settings: Settings) -> Iterator[PaperExchange]:
    settings.GATE_OFF = WEATHER
    with pinned_mark(paper_exchange):
        yield paper_exchange


def send_stop(position: Position, at: datetime | None = None) -> Order:
    """Send the stop that waits, and only that."""
    execution.submit(ids_of(position, OrderPurpose.HARD_STOP, live=True), at or now())
    return orders_of(position, OrderPurpose.HARD_STOP)[-1]


def look(position: Position, at: datetime) -> tuple[Position, Bells]:
    """One look at one position, what it rings left unanswered."""
    bells = protect([position.pk], at)
    return fresh(position), bells


def test_an_accepted_stop_is_acked_until_a_list_shows_it(exchange: PaperExchange) -> None:
    exchange.add_fault(kind="http", endpoint=LIST, status=500, count=0)
    position = enter()
    order = send_stop(position)
    after, _ = look(position, now())
    assert (order.status, order.is_seen) == (OrderStatus.ACKNOWLEDGED, False)
    assert (after.protection, after.verified_at) == (Protection.ACKED, None)
    exchange.delete("/paper/faults")
    after, _ = look(position, now())
    assert after.protection == Protection.VERIFIED
    assert Order.objects.get(pk=order.pk).is_seen


def test_a_stop_seen_in_the_stream_needs_no_list(exchange: PaperExchange) -> None:
    exchange.add_fault(kind="http", endpoint=LIST, status=500, count=0)
    position = enter()
    order = send_stop(position)
    Order.objects.filter(pk=order.pk).update(is_seen=True)
    after, _ = look(position, now())
    assert after.protection == Protection.VERIFIED


def test_unprotected_seconds_run_from_the_first_fill_to_the_first_sight(exchange: PaperExchange) -> None:
    position = enter()
    began = position.fills.order_by("filled_at")[0].filled_at
    send_stop(position)
    after, _ = look(position, began + timedelta(seconds=4, milliseconds=250))
    assert after.unprotected_seconds == Decimal("4.250")
    assert after.unprotected_since is None


def test_the_clock_runs_again_when_a_verified_stop_is_lost() -> None:
    position = hold()
    before = position.unprotected_seconds
    (stop,) = orders_of(position)
    cancel_elsewhere(position, stop)
    Order.objects.filter(pk=stop.pk).update(status=OrderStatus.CANCELLED)
    at = now()
    after, bells = look(position, at)
    assert (after.protection, after.unprotected_since) == (Protection.UNPROTECTED, at)
    assert len(bells.exits) == 1
    execution.submit(bells.exits, now())
    after, _ = look(position, at + timedelta(seconds=2, milliseconds=500))
    assert after.protection == Protection.VERIFIED
    assert after.unprotected_seconds == before + Decimal("2.500")
    assert len(stops_there(position.account)) == 1


def test_v18_a_stop_the_mark_is_already_through_closes_at_market(exchange: PaperExchange) -> None:
    position = enter()
    exchange.set_mark("BTCUSDT", "97000")
    stop = send_stop(position)
    assert (stop.status, stop.code) == (OrderStatus.REJECTED, "-2021")
    answer(Bells(positions=[position.pk]))
    closed = fresh(position)
    (order,) = orders_of(position, OrderPurpose.EXIT)
    assert (order.reduce_only, order.type, order.status) == (True, "market", OrderStatus.FILLED)
    assert (closed.status, closed.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_FAILED)
    assert "closed at failed stop" in Alert.objects.get(code="STOP_FAILED").message
    assert "STOP_FAILED" in codes_of(closed)
    assert held_there(position.account) == []
    assert len(orders_of(position, OrderPurpose.HARD_STOP)) == 1


def test_would_trigger_with_the_mark_back_inside_is_placed_again(exchange: PaperExchange) -> None:
    position = enter()
    exchange.add_fault(kind="http", endpoint=STOP, status=400, code=-2021, message="would trigger", count=1)
    assert send_stop(position).code == "-2021"
    answer(Bells(positions=[position.pk]))
    after = fresh(position)
    assert (after.status, after.protection) == ("OPEN", Protection.VERIFIED)
    assert [stop.status for stop in orders_of(position)] == ["REJECTED", "ACKNOWLEDGED"]
    assert orders_of(position, OrderPurpose.EXIT) == []


def test_v21_a_second_close_position_stop_is_refused_and_the_first_still_protects() -> None:
    position = hold()
    first = orders_of(position)[0]
    second = new_stop(
        position,
        purpose=OrderPurpose.HARD_STOP,
        trigger_price=first.trigger_price,  # type: ignore[arg-type]  # a stop has a trigger
        quantity=None,
        close_position=True,
        now=now(),
    )
    second.save()
    answer(Bells(exits=[second.pk]))
    second.refresh_from_db()
    assert (second.status, second.code) == (OrderStatus.REJECTED, "-4130")
    after = fresh(position)
    assert (after.status, after.protection) == ("OPEN", Protection.VERIFIED)
    assert [stop.client_order_id for stop in stops_there(position.account)] == [first.client_order_id]


def stop_left_over(position: Position, trigger_price: Decimal) -> Order:
    """A close-position stop of an earlier position on the symbol that was never taken away."""
    earlier = fresh(position)
    earlier.pk, earlier.status, earlier.uuid = None, PositionStatus.CLOSED, type(position)().uuid
    earlier.check_at = None
    earlier.save(force_insert=True)
    stop = new_stop(
        earlier,
        purpose=OrderPurpose.HARD_STOP,
        trigger_price=trigger_price,
        quantity=None,
        close_position=True,
        now=now(),
    )
    stop.position = position  # it was sent while its own was open
    stop.save()
    execution.submit([stop.pk], now())
    Order.objects.filter(pk=stop.pk).update(position=earlier)
    return stop


def test_a_leftover_in_the_way_is_cancelled_and_the_right_stop_placed() -> None:
    position = enter()
    leftover = stop_left_over(position, Decimal(90_000))
    assert send_stop(position).code == "-4130"
    answer(Bells(positions=[position.pk]))
    after = visit(position, after_seconds=1.5)
    leftover.refresh_from_db()
    assert leftover.status == OrderStatus.CANCELLED
    assert after.protection == Protection.VERIFIED
    (resting,) = stops_there(position.account)
    assert resting.trigger_price == after.stop_price


def test_a_leftover_that_is_right_is_adopted_after_looking() -> None:
    position = enter()
    leftover = stop_left_over(position, position.stop_price)  # type: ignore[arg-type]  # it is planned
    assert send_stop(position).code == "-4130"
    answer(Bells(positions=[position.pk]))
    after = visit(position)
    leftover.refresh_from_db()
    assert (leftover.status, leftover.position_id) == (OrderStatus.ACKNOWLEDGED, position.pk)
    assert (after.status, after.protection) == ("OPEN", Protection.VERIFIED)
    assert [stop.client_order_id for stop in stops_there(position.account)] == [leftover.client_order_id]


def test_a_refused_stop_is_never_read_as_protection_without_looking(exchange: PaperExchange) -> None:
    position = enter()
    stop_left_over(position, position.stop_price)  # type: ignore[arg-type]  # it is planned
    exchange.add_fault(kind="http", endpoint=LIST, status=500, count=0)
    send_stop(position)
    after, bells = look(position, now())
    assert after.protection == Protection.UNPROTECTED
    assert not bells.exits
    assert not bells.cancel


def test_ten_seconds_without_a_stop_close_at_market(exchange: PaperExchange) -> None:
    position = enter()
    exchange.add_fault(kind="http", endpoint=STOP, status=400, code=-4045, message="too many", count=0)
    answer(Bells(positions=[position.pk]))
    began = orders_of(position)[0].created_at
    still = visit(position, at=began, after_seconds=9)
    assert (still.status, still.closing_for) == ("OPEN", "")
    closed = visit(position, at=began, after_seconds=10.1)
    assert (closed.status, closed.close_reason) == (PositionStatus.CLOSED, CloseReason.UNPROTECTED)
    assert Alert.objects.get(code="UNPROTECTED").severity == "CRITICAL"
    assert held_there(position.account) == []


def test_a_list_that_cannot_be_read_never_closes_an_accepted_stop(exchange: PaperExchange) -> None:
    position = enter()
    send_stop(position)
    exchange.add_fault(kind="http", endpoint=LIST, status=500, count=0)
    at = now()
    after, _ = look(position, at)
    for seconds in (5, 11, 31, 90):
        after, _ = look(position, at + timedelta(seconds=seconds))
    assert (after.status, after.closing_for, after.protection) == ("OPEN", "", Protection.ACKED)
    assert Alert.objects.filter(code="STOP_UNSEEN", cleared_at=None).exists()
    assert orders_of(position, OrderPurpose.EXIT) == []


def test_an_accepted_stop_no_list_shows_is_told_then_doubled_then_the_position_closed() -> None:
    position = enter()
    cancel_elsewhere(position, send_stop(position))
    at = now()
    after, bells = look(position, at)
    assert after.protection == Protection.ACKED
    assert not Alert.objects.filter(code="STOP_UNSEEN").exists()
    look(position, at + timedelta(seconds=10))
    assert Alert.objects.filter(code="STOP_UNSEEN").exists()
    after, bells = look(position, at + timedelta(seconds=30))
    assert (after.status, after.closing_for) == ("OPEN", "")
    execution.submit(bells.exits, now())
    (second,) = orders_of(position, OrderPurpose.WORKING_STOP)
    assert (second.close_position, second.quantity, second.reduce_only) == (False, position.quantity, True)
    cancel_elsewhere(position, second)
    answer(Bells(positions=[position.pk]), at + timedelta(seconds=31))
    closed = fresh(position)
    assert (closed.status, closed.close_reason) == (PositionStatus.CLOSED, CloseReason.UNPROTECTED)


def test_the_second_stop_that_is_seen_protects_and_nothing_is_closed() -> None:
    position = enter()
    cancel_elsewhere(position, send_stop(position))
    at = now()
    look(position, at)
    answer(Bells(positions=[position.pk]), at + timedelta(seconds=30))
    after = fresh(position)
    assert (after.status, after.protection) == ("OPEN", Protection.VERIFIED)
    assert len(stops_there(position.account)) == 1


def test_a_stop_refused_when_it_fired_closes_at_market(exchange: PaperExchange) -> None:
    position = hold()
    exchange.add_fault(kind="reject_trigger", account=position.account.name, count=1)
    exchange.set_mark("BTCUSDT", "98000")
    (stop,) = orders_of(position)
    execution.refresh([stop.pk], now())
    answer(Bells(positions=[position.pk]))
    closed = fresh(position)
    assert (closed.status, closed.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_FAILED)
    assert held_there(position.account) == []


def test_with_a_strangers_share_the_stop_has_a_quantity() -> None:
    position = enter()
    Order.objects.filter(position=position, purpose=OrderPurpose.HARD_STOP).delete()
    Position.objects.filter(pk=position.pk).update(foreign_quantity=Decimal(1))
    after = visit(position)
    (stop,) = orders_of(after)
    assert (stop.close_position, stop.quantity, stop.reduce_only) == (False, position.quantity, True)
    assert after.protection == Protection.VERIFIED


def test_a_foreign_position_gets_no_stop_from_us() -> None:
    position = enter()
    Order.objects.filter(position=position, purpose=OrderPurpose.HARD_STOP).delete()
    Position.objects.filter(pk=position.pk).update(is_foreign=True)
    visit(position, after_seconds=60)
    assert orders_of(position) == []
    assert fresh(position).status == "OPEN"


def test_nothing_is_rung_for_a_position_that_is_well() -> None:
    position = hold()
    assert protect([position.pk], now()) == Bells()
    assert fresh(position).check_at == position.opened_at + timedelta(hours=48)
    assert fresh(position).reduction == {}


def test_protecting_twice_places_one_stop() -> None:
    position = enter()
    protect([position.pk], now())
    protect([position.pk], now())
    assert len(orders_of(position)) == 1


def test_a_stop_no_list_shows_and_no_lookup_knows_is_doubted_and_another_is_placed(
    exchange: PaperExchange,
) -> None:
    position = hold()
    (stop,) = orders_of(position)
    cancel_elsewhere(position, stop)
    lookup = "GET /fapi/v1/algoOrder"
    exchange.add_fault(kind="http", endpoint=lookup, status=400, code=-2013, message="no order", count=0)
    at = now()
    for seconds in range(0, 60, 10):
        moment = at + timedelta(seconds=seconds)
        watched = audits.watched_symbols([position.account], moment)
        answer(monitoring.audit([position.account], watched, moment), moment)
        visit(position, at=at, after_seconds=seconds)
    resting = stops_there(position.account)
    assert [one.client_order_id for one in resting] != [stop.client_order_id]
    assert len(resting) == 1 or fresh(position).status == PositionStatus.CLOSED
    assert "STOP_UNSEEN" in set(Alert.objects.values_list("code", flat=True))


def test_a_fill_found_late_gets_its_stop_before_anybody_closes_it() -> None:
    order = an_entry()
    sending.send_all(claiming.mark_submitted(claiming.claim([order.pk]), now()))
    lapse(order)
    bells = look_up(order)
    Position.objects.update(unprotected_since=now() - timedelta(seconds=21))
    rung = protect(bells.positions, now())
    position = Position.objects.get(account=order.account)
    assert (position.closing_for, position.protection) == ("", Protection.UNPROTECTED)
    answer(bells.add(rung))
    assert fresh(position).protection == Protection.VERIFIED
    assert fresh(position).unprotected_seconds >= 20, "the clock runs from the fill all the same"


def test_a_share_bought_later_is_not_sold_by_our_stop(exchange: PaperExchange) -> None:
    position = hold()
    share = Decimal("0.020")
    at_exchange(position, stranger(position, OrderSide.BUY, share))
    answer(read_fills(position))
    for seconds in (1, 2, 3):
        position = visit(position, after_seconds=seconds)
    assert position.protection == Protection.VERIFIED
    assert [(one.close_position, one.quantity) for one in stops_there(position.account)] == [
        (False, position.quantity)
    ]
    exchange.set_mark("BTCUSDT", "98000")
    wait_until(lambda: held_there(position.account)[0].quantity == share, "our part to be sold")


@pytest.mark.parametrize("market", list(Market))
def test_a_stop_that_an_entry_found_late_outgrew_is_replaced_by_one_for_all(market: Market) -> None:
    position, late = hold(executors=(market,)), Decimal("0.010")
    if market == Market.FUTURES:  # beside a stranger a stop has a quantity, too
        at_exchange(position, stranger(position, OrderSide.BUY, Decimal("0.020")))
        read_fills(position)
        visit(visit(position), after_seconds=2)
    at_exchange(position, stranger(position, OrderSide.BUY, late))
    entry = Order.objects.get(position=position, purpose=OrderPurpose.ENTRY)
    bought = position.fills.filter(order=entry).latest("pk")
    report = FillReport(
        trade_id="late",
        exchange_order_id=entry.exchange_order_id,
        symbol=entry.symbol,
        side=OrderSide.BUY,
        price=bought.price,
        quantity=late,
        fee=late / 1000,
        fee_asset=bought.fee_asset,
        filled_at=bought.filled_at,
    )
    bells = record_fills(position.account, market, [report], now())
    answer(Bells(positions=[position.pk]))
    answer(bells)
    grown = visit(visit(position, after_seconds=2), after_seconds=4)
    assert grown.quantity > position.quantity
    assert (grown.status, grown.protection) == (PositionStatus.OPEN, Protection.VERIFIED)
    (resting,) = stops_there(position.account, position.symbol, market)
    assert resting.quantity == stop_quantity(grown)


def hear(position: Position) -> None:
    """Its account's stream was just proven alive."""
    Account.objects.filter(pk=position.account_id).update(heard_at=now())


def told(order: Order, **changes: Any) -> Bells:
    """The account's stream shows the stop as it rests at the exchange, or with changes."""
    resting = stops_there(order.account)
    report = next(one for one in resting if one.client_order_id == order.client_order_id)
    event = ConditionalEvent(replace(report, **changes), now())
    return streams.apply([Told(order.account_id, Market.FUTURES, event)], now())


def is_left_alone(position: Position) -> bool:
    """Whether nobody comes back before the plan's time limit."""
    plan = plan_of(position)
    assert plan is not None
    return position.check_at == plan.expires_at


def lists_read(exchange: PaperExchange) -> int:
    return int(exchange.get("/paper/status")["requests_by_endpoint"].get(LIST, 0))


def test_a_stop_is_verified_in_the_moment_its_stream_shows_it() -> None:
    position = enter()
    order = send_stop(position)
    bells = told(order)
    after = fresh(position)
    assert (after.protection, after.unprotected_since) == (Protection.VERIFIED, None)
    assert is_left_alone(after)
    assert not bells, "nothing is left to be looked after"
    assert "VERIFIED" in codes_of(position)


def test_a_stop_that_its_stream_shows_after_its_position_was_closed_is_cleared_away() -> None:
    position = enter()
    order = send_stop(position)
    Position.objects.filter(pk=position.pk).update(status=PositionStatus.CLOSED, quantity=0)
    bells = told(order)
    assert bells.positions == [position.pk]
    assert fresh(position).protection == Protection.UNPROTECTED


@pytest.mark.parametrize(
    "otherwise",
    [
        {"side": OrderSide.BUY},
        {"trigger_price": Decimal(1)},
        {"close_position": False, "quantity": Decimal("0.001")},
    ],
    ids=["side", "trigger", "cover"],
)
def test_a_stop_that_its_stream_shows_otherwise_than_ordered_is_not_verified(
    otherwise: dict[str, Any],
) -> None:
    position = enter()
    order = send_stop(position)
    bells = told(order, **otherwise)
    assert not Order.objects.get(pk=order.pk).is_seen
    assert fresh(position).protection == Protection.UNPROTECTED
    assert bells.positions == [position.pk], "a list makes it clear"


def test_while_a_stream_is_about_to_tell_of_a_stop_no_list_is_read(exchange: PaperExchange) -> None:
    position = enter()
    hear(position)
    order, read = send_stop(position), lists_read(exchange)
    after, bells = look(position, now())
    assert (after.protection, bells.exits, lists_read(exchange)) == (Protection.ACKED, [], read)
    assert not is_left_alone(after), "it is looked at again, were the stream to stay silent"
    accepted_at = timezone.now() - timedelta(seconds=1)
    Order.objects.filter(pk=order.pk).update(acknowledged_at=accepted_at)
    after, _ = look(position, now())
    assert (after.protection, lists_read(exchange)) == (Protection.VERIFIED, read + 1)


def test_a_working_stop_that_nobody_could_see_yet_is_not_placed_again(exchange: PaperExchange) -> None:
    position = hold()
    exchange.add_fault(kind="http", endpoint=LIST, status=500, count=0)
    ratchet(position)
    for seconds in (0, 2, 4):
        visit(position, after_seconds=seconds)
    (working,) = orders_of(position, OrderPurpose.WORKING_STOP)
    assert (working.status, working.is_seen) == (OrderStatus.ACKNOWLEDGED, False)
    assert not is_left_alone(fresh(position))
    exchange.delete("/paper/faults")
    after = visit(position, after_seconds=6)
    assert after.protection == Protection.VERIFIED
    assert is_left_alone(after)
    assert len(orders_of(position, OrderPurpose.WORKING_STOP)) == 1


def ratchet(position: Position) -> None:
    """Move the plan's stop to break-even, as a reached target would."""
    plan = plan_of(position)
    assert plan is not None
    keep_plan(position, replace(plan, stop_price=plan.hard_stop_price + MARK / 1000))
    position.save()


def test_a_working_stop_that_is_listed_late_is_placed_once(
    exchange: PaperExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    position, listed = hold(), pictures.resting_stops_of
    plan = plan_of(position)
    assert plan is not None

    def lagging(positions: Iterable[Position]) -> dict[int, Sequence[OrderReport]]:
        (hard,) = orders_of(position, OrderPurpose.HARD_STOP)
        there = listed(positions).items()
        return {
            pk: [one for one in all_ if one.client_order_id == hard.client_order_id] for pk, all_ in there
        }

    monkeypatch.setattr(pictures, "resting_stops_of", lagging)
    exchange.set_mark("BTCUSDT", str(plan.levels[0].price))
    tick(Watcher(), plan.levels[0].price)
    for seconds in (2, 4):
        visit(position, after_seconds=seconds)
    (working,) = orders_of(position, OrderPurpose.WORKING_STOP)
    assert working.status == OrderStatus.ACKNOWLEDGED
    monkeypatch.undo()
    after = visit(position, after_seconds=6)
    assert (after.protection, len(orders_of(position, OrderPurpose.WORKING_STOP))) == (Protection.VERIFIED, 1)
    visit(position, after_seconds=40)
    assert len(stops_there(position.account)) == 2  # the hard one, which never moves, and the working one
