"""One closer a position: the intent in the row, one live exit, tried again until the exchange is flat."""

import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from pytest_django import Settings
from redis import Redis

from alerts.models import Alert, Severity
from alerts.services import raise_alert
from exchange.port import Market, OrderSide, PositionReport
from tests.processes import PaperExchange
from trading import tasks
from trading.domain.states import CloseReason, OrderPurpose, OrderStatus, PositionStatus, SkipCode
from trading.models import Order, Position
from trading.services import closing, execution, pictures, protection
from trading.services.attempts import MOST_FAILED, failed_attempts
from trading.services.bells import Bells
from trading.services.closing import continue_closing, request_close, request_closes, settle_flat
from trading.services.execution import claiming
from trading.services.intents import intend_close
from trading.services.orders import new_exit
from trading.tests.services.holding import (
    ZERO,
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
    sell_elsewhere,
    stops_there,
    stranger,
    visit,
)
from trading.tests.services.journey import WEATHER, now
from trading.tests.services.sending import ABSENCE, lapse, look_up

pytestmark = pytest.mark.django_db

POSITIONS = "GET /fapi/v3/positionRisk"
ORDERS = "POST /fapi/v1/order"
RESTING_STOPS = "GET /fapi/v1/openAlgoOrders"
FILLS = "GET /fapi/v1/userTrades"


@pytest.fixture(autouse=True)
def exchange(paper_exchange: PaperExchange, settings: Settings) -> Iterator[PaperExchange]:
    settings.GATE_OFF = WEATHER
    with pinned_mark(paper_exchange):
        yield paper_exchange


def close(position: Position, reason: CloseReason = CloseReason.MANUAL) -> Position:
    answer(request_close(position.pk, reason=reason, now=now()))
    return fresh(position)


def exits_of(position: Position) -> list[Order]:
    return orders_of(position, OrderPurpose.EXIT)


def test_a_close_ends_flat_with_its_reason_and_no_stop_left() -> None:
    position = hold()
    closed = close(position)
    (order,) = exits_of(closed)
    assert (order.type, order.reduce_only, order.quantity) == ("market", True, position.quantity)
    assert (closed.status, closed.close_reason, closed.quantity) == ("CLOSED", CloseReason.MANUAL, ZERO)
    assert held_there(position.account) == []
    assert stops_there(position.account) == []
    assert closed.check_at is None


def test_asked_twice_there_is_one_exit_and_the_first_reason() -> None:
    position = hold()
    first = request_close(position.pk, reason=CloseReason.MANUAL, now=now())
    second = request_close(position.pk, reason=CloseReason.FLATTEN, now=now())
    assert len(exits_of(position)) == 1
    assert first.exits == second.exits
    answer(first)
    answer(second)
    assert len(exits_of(position)) == 1
    assert fresh(position).close_reason == CloseReason.MANUAL


def test_a_second_closer_is_refused_by_the_database_itself() -> None:
    position = hold()
    request_close(position.pk, reason=CloseReason.MANUAL, now=now())
    rival = new_exit(fresh(position), quantity=position.quantity, reason="MANUAL", now=now())
    with pytest.raises(IntegrityError), transaction.atomic():
        rival.save()
    assert len(exits_of(position)) == 1


def test_an_exit_that_filled_while_another_closer_read_is_not_repeated(
    exchange: PaperExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    position = hold()
    leg = Decimal("0.010")
    intend_close(position.pk, reason=CloseReason.TAKE_PROFIT_1, now=now(), quantity=leg, legs=[1])
    read = pictures.positions_of

    def sold_meanwhile(*asked: Any) -> dict[int, Sequence[PositionReport]]:
        monkeypatch.setattr(pictures, "positions_of", read)
        reading = read(*asked)
        exchange.add_fault(kind="http", endpoint=FILLS, status=500, count=0, account=position.account.name)
        execution.submit(continue_closing([position.pk], now()).exits, now())
        return reading

    monkeypatch.setattr(pictures, "positions_of", sold_meanwhile)
    execution.submit(continue_closing([position.pk], now()).exits, now())
    (order,) = exits_of(position)
    assert (order.quantity, order.status, order.fills_complete) == (leg, OrderStatus.FILLED, False)
    assert held_there(position.account)[0].quantity == position.quantity - leg


def test_many_are_closed_with_one_exit_each() -> None:
    held = [hold(), hold("SHORT")]
    answer(request_closes([position.pk for position in held], reason=CloseReason.FLATTEN, now=now()))
    assert [fresh(position).status for position in held] == ["CLOSED", "CLOSED"]
    assert [len(exits_of(position)) for position in held] == [1, 1]


def test_a_slow_account_delays_no_other_accounts_exit(exchange: PaperExchange) -> None:
    slow, other = hold(), hold("SHORT")
    exchange.add_fault(kind="delay", endpoint=POSITIONS, seconds=7, count=0, account=slow.account.name)
    began = time.monotonic()
    bells = request_closes([slow.pk, other.pk], reason=CloseReason.FLATTEN, now=now())
    assert time.monotonic() - began < 4
    assert {order.quantity for order in Order.objects.filter(pk__in=bells.exits)} == {
        slow.quantity,
        other.quantity,
    }


@pytest.mark.parametrize("is_flat", [True, False])
def test_who_needs_further_looks_comes_after_the_others_exits(exchange: PaperExchange, is_flat: bool) -> None:
    """An account the exchange shows flat, and a stop-out that never arrived."""
    slow, other = hold(), hold("SHORT")
    at = now()
    intend_close(slow.pk, reason=CloseReason.STOP_LOSS, now=at)
    if is_flat:
        sell_elsewhere(slow, slow.quantity)
    else:
        name = slow.account.name
        exchange.add_fault(kind="http", endpoint=ORDERS, status=403, body="", count=1, account=name)
        visit(slow, at=at)
    later = at + timedelta(seconds=2)
    intend_close(other.pk, reason=CloseReason.FLATTEN, now=later)
    bells = continue_closing([slow.pk, other.pk], later)
    (exit_order,) = exits_of(other)
    assert (bells.exits, bells.positions) == ([exit_order.pk], [slow.pk])
    assert fresh(slow).closing_for == CloseReason.STOP_LOSS
    answer(bells, later)
    assert fresh(slow).closing_for == ("STOP_LOSS" if is_flat else "")
    assert fresh(slow).status == ("CLOSED" if is_flat else "OPEN")


def test_a_part_leaves_the_rest_open_and_protected() -> None:
    position = hold()
    part = Decimal("0.010")
    answer(request_close(position.pk, reason=CloseReason.MANUAL, now=now(), quantity=part))
    after = fresh(position)
    assert (after.status, after.quantity, after.reduction) == ("OPEN", position.quantity - part, {})
    assert held_there(position.account)[0].quantity == position.quantity - part
    assert len(stops_there(position.account)) == 1


def test_an_exit_is_capped_to_what_the_exchange_says_is_open() -> None:
    position = hold()
    sell_elsewhere(position, Decimal("0.010"))
    request_close(position.pk, reason=CloseReason.MANUAL, now=now())
    (order,) = exits_of(position)
    assert order.quantity == position.quantity - Decimal("0.010")


def beside_a_stranger(share: Decimal) -> Position:
    """A long of ours on a symbol where somebody else is long as well."""
    position = hold()
    at_exchange(position, stranger(position, OrderSide.BUY, share))
    read_fills(position)
    assert fresh(position).foreign_quantity == share
    return position


@pytest.mark.parametrize("left", [ZERO, Decimal("0.010")])
def test_an_exit_never_reaches_into_a_strangers_share(left: Decimal) -> None:
    share = Decimal("0.020")
    position = beside_a_stranger(share)
    sell_elsewhere(position, position.quantity - left)  # as our own stop whose executions nobody told us
    close(position)
    closed = visit(position, after_seconds=2)
    assert [order.quantity for order in exits_of(closed)] == ([left] if left else [])
    assert [held.quantity for held in held_there(position.account)] == [share]
    assert closed.status == PositionStatus.CLOSED


@pytest.mark.parametrize("has_arrived", [True, False])
def test_beside_a_strangers_share_an_exit_is_not_called_lost_after_one_look(has_arrived: bool) -> None:
    position = beside_a_stranger(Decimal("0.020"))
    bells = request_close(position.pk, reason=CloseReason.MANUAL, now=now())
    (order,) = claiming.mark_submitted(claiming.claim(bells.exits), now())
    lapse(order)
    if has_arrived:
        sell_elsewhere(position, position.quantity)
    look_up(order)
    assert (order.status, order.looks) == (OrderStatus.UNKNOWN, 1)


@pytest.mark.parametrize("left", [ZERO, Decimal("0.010")])
def test_an_exit_that_waited_while_its_stop_fired_is_not_sent_into_a_strangers_share(left: Decimal) -> None:
    share = Decimal("0.020")
    position = beside_a_stranger(share)
    waiting = request_close(position.pk, reason=CloseReason.MANUAL, now=now()).exits
    stopped = sell_elsewhere(position, position.quantity - left)
    Order.objects.filter(pk=ids_of(position, OrderPurpose.HARD_STOP)[0]).update(
        triggered_order_id=stopped.exchange_order_id
    )
    read_fills(position)
    assert execution.submit(waiting, now()) == Bells()
    (order,) = exits_of(position)
    assert (order.status, order.code) == (OrderStatus.CANCELLED, SkipCode.OUTLIVED)
    assert [held.quantity for held in held_there(position.account)] == [share + left]
    assert visit(position, after_seconds=2).status == PositionStatus.CLOSED
    assert [held.quantity for held in held_there(position.account)] == [share]


def test_v16_a_failed_read_closes_nothing_in_our_rows_and_stops_no_exit(exchange: PaperExchange) -> None:
    position = hold()
    exchange.add_fault(kind="http", endpoint=POSITIONS, status=500, count=0)
    settle_flat([position.pk], now())
    assert (fresh(position).status, fresh(position).quantity) == ("OPEN", position.quantity)
    closed = close(position)
    (order,) = exits_of(closed)
    assert order.quantity == position.quantity
    assert closed.close_reason == CloseReason.MANUAL


def test_stops_stay_until_the_exchange_itself_says_flat(exchange: PaperExchange) -> None:
    position = hold()
    exchange.add_fault(kind="http", endpoint=POSITIONS, status=500, count=0)
    closed = close(position)
    (stop,) = orders_of(closed, OrderPurpose.HARD_STOP)
    assert stop.status == OrderStatus.ACKNOWLEDGED
    assert closed.check_at is not None
    exchange.delete("/paper/faults")
    visit(closed, after_seconds=1)
    (stop,) = orders_of(closed, OrderPurpose.HARD_STOP)
    assert stop.status in {OrderStatus.CANCELLED, OrderStatus.EXPIRED}
    assert fresh(position).check_at is None


@pytest.mark.parametrize("code", [-2011, -4117])
def test_a_stop_that_cannot_be_cancelled_is_tried_once_a_second(exchange: PaperExchange, code: int) -> None:
    position = visit(beside_a_stranger(Decimal("0.020")))  # whose share keeps the stop at the exchange
    refused = {"kind": "http", "endpoint": "DELETE /fapi/v1/algoOrder", "status": 400, "code": code}
    exchange.add_fault(**refused, account=position.account.name, count=0)
    closed = close(position)
    assert (closed.status, len(stops_there(position.account))) == (PositionStatus.CLOSED, 1)
    exchange.delete("/paper/faults")
    visit(closed, after_seconds=2)
    assert stops_there(position.account) == []


def test_a_stop_the_exchange_has_forgotten_is_not_cancelled_for_ever() -> None:
    position = hold()
    (stop,) = orders_of(position, OrderPurpose.HARD_STOP)
    cancel_elsewhere(position, stop)
    Order.objects.filter(pk=stop.pk).update(client_order_id="pxforgotten")
    closed = close(position)
    stop.refresh_from_db()
    assert stop.status == OrderStatus.ACKNOWLEDGED, "one look so soon after it was accepted proves nothing"
    Order.objects.filter(pk=stop.pk).update(acknowledged_at=now() - ABSENCE)
    closed = visit(closed, after_seconds=2)
    stop.refresh_from_db()
    assert (stop.status, stop.code) == (OrderStatus.CANCELLED, "GONE")
    assert visit(closed, after_seconds=4).check_at is None


def test_what_somebody_else_closed_is_booked_and_nothing_is_sent() -> None:
    position = hold()
    sell_elsewhere(position, position.quantity)
    closed = close(position)
    assert (closed.status, closed.close_reason) == (PositionStatus.CLOSED, CloseReason.FOREIGN)
    assert exits_of(closed) == []


def test_a_flat_exchange_that_our_fills_do_not_explain_is_told_and_not_invented(
    exchange: PaperExchange,
) -> None:
    position = hold()
    sell_elsewhere(position, position.quantity)
    exchange.add_fault(kind="http", endpoint=FILLS, body="[]", status=200, count=0)
    settle_flat([position.pk], now())
    assert (fresh(position).status, fresh(position).quantity) == ("OPEN", position.quantity)
    assert Alert.objects.filter(code="FLAT_UNEXPLAINED", cleared_at=None).count() == 1


def test_a_partly_filled_exit_is_followed_by_one_for_the_rest(exchange: PaperExchange) -> None:
    position = hold()
    exchange.add_fault(
        kind="partial", endpoint=ORDERS, fraction="0.5", count=1, account=position.account.name
    )
    closed = close(position)
    for _ in range(3):
        closed = visit(position, after_seconds=2)
    first, second = exits_of(closed)
    assert (first.status, second.status) == ("EXPIRED", "FILLED")
    assert 0 < first.filled_quantity < position.quantity
    assert second.quantity == position.quantity - first.filled_quantity
    assert first.client_order_id != second.client_order_id
    assert closed.status == PositionStatus.CLOSED
    assert held_there(position.account) == []


def test_an_exit_whose_answer_was_lost_is_resolved_before_another_is_made(exchange: PaperExchange) -> None:
    position = hold()
    exchange.add_fault(kind="close_socket", endpoint=ORDERS, count=1, account=position.account.name)
    bells = request_close(position.pk, reason=CloseReason.MANUAL, now=now())
    execution.submit(bells.exits, now())
    (order,) = exits_of(position)
    assert order.status == OrderStatus.UNKNOWN
    again = continue_closing([position.pk], now() + timedelta(seconds=5))
    assert not again.exits
    assert len(exits_of(position)) == 1
    Order.objects.filter(pk=order.pk).update(due_at=now())
    answer(execution.resolve([order.pk], now()))
    assert fresh(position).status == PositionStatus.CLOSED
    assert len(exits_of(position)) == 1


def test_refused_exits_are_tried_again_with_a_wait_and_then_told(exchange: PaperExchange) -> None:
    position = hold()
    exchange.add_fault(kind="http", endpoint=ORDERS, status=400, code=-4131, message="PERCENT_PRICE", count=0)
    at = now()
    answer(request_close(position.pk, reason=CloseReason.MANUAL, now=at), at)
    assert len(exits_of(position)) == 1
    assert fresh(position).check_at == at + timedelta(milliseconds=200)
    assert not Alert.objects.filter(code="EXIT_FAILING").exists()
    for second in range(1, 5):
        visit(position, at=at, after_seconds=2 * second)
    assert [order.status for order in exits_of(position)] == ["REJECTED"] * 5
    alert = Alert.objects.get(code="EXIT_FAILING")
    assert alert.severity == "CRITICAL"
    assert (fresh(position).status, fresh(position).closing_for) == ("OPEN", "MANUAL")
    exchange.delete("/paper/faults")
    closed = visit(position, at=at, after_seconds=20)
    assert closed.status == PositionStatus.CLOSED
    alert.refresh_from_db()
    assert alert.cleared_at is not None


def test_an_alarm_of_an_exit_ends_where_its_position_was_closed_meanwhile(
    exchange: PaperExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    position = hold()
    exchange.add_fault(kind="http", endpoint=ORDERS, status=400, code=-4131, message="PERCENT_PRICE", count=0)
    at = now()
    answer(request_close(position.pk, reason=CloseReason.MANUAL, now=at), at)

    def closed_first(*told: Any, **more: Any) -> None:
        Position.objects.filter(pk=position.pk).update(status=PositionStatus.CLOSED, closed_at=at)
        raise_alert(*told, **more)

    monkeypatch.setattr(closing, "raise_alert", closed_first)
    for second in range(1, 5):
        visit(position, at=at, after_seconds=2 * second)
    assert Alert.objects.get(code="EXIT_FAILING").cleared_at is not None


def test_an_exit_refused_every_second_of_a_night_is_tried_again_and_reads_few_of_its_attempts() -> None:
    position = hold()
    intend_close(position.pk, reason=CloseReason.MANUAL, now=now())
    long_ago, night = now() - timedelta(hours=10), 36_000
    for attempt in range(night - MOST_FAILED, night + 1):
        refused = new_exit(
            fresh(position), quantity=position.quantity, reason="MANUAL", attempt=attempt, now=long_ago
        )
        refused.status, refused.code, refused.fills_complete = OrderStatus.REJECTED, "-2015", True
        refused.save()
    failed = failed_attempts(position)
    assert [order.attempt for order in failed] == list(range(night, night - MOST_FAILED, -1))
    assert visit(position).status == PositionStatus.CLOSED


def test_reduce_only_refused_because_it_is_flat_is_no_failure(exchange: PaperExchange) -> None:
    position = hold()
    bells = request_close(position.pk, reason=CloseReason.MANUAL, now=now())
    sell_elsewhere(position, position.quantity)
    answer(bells)
    closed = visit(position, after_seconds=2)
    (order,) = exits_of(closed)
    assert (order.status, order.code) == ("REJECTED", "-2022")
    assert (closed.status, closed.close_reason) == ("CLOSED", CloseReason.FOREIGN)
    assert not Alert.objects.filter(code="EXIT_FAILING").exists()


def stopped_out_while_away(exchange: PaperExchange) -> tuple[Position, datetime]:
    """A long whose stop the desk saw crossed while the exchange answered nothing for its account."""
    position = hold()
    exchange.add_fault(kind="http", endpoint="*", status=403, body="", count=0, account=position.account.name)
    at = now()
    intend_close(position.pk, reason=CloseReason.STOP_LOSS, now=at)
    for second in (0, 2, 4, 6):
        visit(position, at=at, after_seconds=second)
    return fresh(position), at


def test_an_outage_costs_one_attempt_and_the_intent_stands(exchange: PaperExchange) -> None:
    position, at = stopped_out_while_away(exchange)
    (order,) = exits_of(position)
    assert (order.status, order.code) == ("REJECTED", "HTTP_403")
    assert (position.status, position.closing_for) == ("OPEN", "STOP_LOSS")
    assert position.check_at == at + timedelta(seconds=7)


def test_on_contact_a_stop_out_the_mark_took_back_is_withdrawn(exchange: PaperExchange) -> None:
    position, at = stopped_out_while_away(exchange)
    exchange.delete("/paper/faults")
    after = visit(position, at=at, after_seconds=8)
    assert (after.status, after.closing_for, after.crossed_at) == ("OPEN", "", None)
    assert after.protection == "VERIFIED"
    assert len(exits_of(position)) == 1
    assert held_there(position.account)[0].quantity == position.quantity


def test_on_contact_a_position_whose_stop_is_gone_is_closed(exchange: PaperExchange) -> None:
    position, at = stopped_out_while_away(exchange)
    exchange.delete("/paper/faults")
    cancel_elsewhere(position, orders_of(position, OrderPurpose.HARD_STOP)[0])
    closed = visit(position, at=at, after_seconds=8)
    assert (closed.status, closed.close_reason) == ("CLOSED", CloseReason.STOP_LOSS)
    assert held_there(position.account) == []


@pytest.mark.parametrize("reason", [CloseReason.FLATTEN, CloseReason.STOP_LOSS])
def test_a_flatten_goes_out_while_the_conditional_store_does_not_answer(
    exchange: PaperExchange, reason: CloseReason
) -> None:
    """And a stop-out, where the positions can be read: that the exchange answers is all it waits for."""
    position = hold()
    name = position.account.name
    exchange.add_fault(kind="http", endpoint=ORDERS, status=403, body="", count=1, account=name)
    exchange.add_fault(kind="http", endpoint=RESTING_STOPS, status=500, count=0, account=name)
    at = now()
    intend_close(position.pk, reason=reason, now=at)
    visit(position, at=at)
    closed = visit(position, at=at, after_seconds=2)
    assert [(order.status, order.code) for order in exits_of(position)] == [
        ("REJECTED", "HTTP_403"),
        ("FILLED", ""),
    ]
    assert closed.close_reason == reason


def test_a_flatten_is_tried_every_second_of_an_outage(exchange: PaperExchange) -> None:
    position = hold()
    exchange.add_fault(kind="http", endpoint="*", status=403, body="", count=0, account=position.account.name)
    at = now()
    intend_close(position.pk, reason=CloseReason.FLATTEN, now=at)
    for second in range(6):
        visit(position, at=at, after_seconds=second)
    assert len(exits_of(position)) == 6


def test_a_foreign_position_goes_only_by_an_operators_word() -> None:
    position = enter()
    Position.objects.filter(pk=position.pk).update(is_foreign=True)
    assert not intend_close(position.pk, reason=CloseReason.STOP_LOSS, now=now())
    assert fresh(position).closing_for == ""
    assert exits_of(position) == []
    assert intend_close(position.pk, reason=CloseReason.FLATTEN, now=now())


def test_a_closed_position_cannot_be_closed_again() -> None:
    closed = close(hold())
    assert request_close(closed.pk, reason=CloseReason.MANUAL, now=now()) == Bells()
    assert len(exits_of(closed)) == 1


def test_spot_frees_its_coins_sells_and_leaves_no_stop() -> None:
    position = hold(executors=(Market.SPOT,))
    closed = close(position)
    (order,) = exits_of(closed)
    assert (order.side, order.reduce_only, order.status) == ("sell", False, "FILLED")
    assert order.quantity is not None
    assert order.quantity <= position.quantity
    assert (closed.status, closed.close_reason) == ("CLOSED", CloseReason.MANUAL)
    assert stops_there(position.account, position.symbol, Market.SPOT) == []
    assert [stop.status for stop in orders_of(closed, OrderPurpose.HARD_STOP)] == ["CANCELLED"]
    assert closed.unprotected_seconds < 3


def test_coins_locked_by_a_stop_that_its_row_calls_cancelled_are_freed_and_sold() -> None:
    position = hold(executors=(Market.SPOT,))
    stops = Order.objects.filter(position=position, purpose=OrderPurpose.HARD_STOP)
    stops.update(status=OrderStatus.CANCELLED)
    at = now()

    answer(request_close(position.pk, reason=CloseReason.MANUAL, now=at), at)
    closed = visit(position, at=at, after_seconds=2)

    assert [(one.status, one.code) for one in exits_of(position)] == [("REJECTED", "-2010"), ("FILLED", "")]
    assert (closed.status, closed.close_reason) == ("CLOSED", CloseReason.MANUAL)
    assert stops_there(position.account, position.symbol, Market.SPOT) == []


def test_an_alert_of_a_refused_stop_ends_with_its_position() -> None:
    position = hold()
    raise_alert(f"stop-refused:{position.pk}", Severity.WARNING, "STOP_REFUSED", "refused", now=now())

    close(position)

    assert not Alert.objects.filter(code="STOP_REFUSED", cleared_at=None).exists()


def test_a_spot_part_is_sold_and_the_rest_gets_its_stop_back() -> None:
    position = hold(executors=(Market.SPOT,))
    answer(request_close(position.pk, reason=CloseReason.MANUAL, now=now(), quantity=position.quantity / 2))
    after = visit(position, after_seconds=1.1)
    after = visit(after, after_seconds=2.2)
    assert after.status == "OPEN"
    assert Decimal("0.49") < after.quantity / position.quantity < Decimal("0.52")
    (resting,) = stops_there(position.account, position.symbol, Market.SPOT)
    assert after.quantity - Decimal("0.00001") < resting.quantity <= after.quantity
    assert after.protection == "VERIFIED"
    assert codes_of(after).count("VERIFIED") == 2


def test_an_exit_is_sent_before_any_stop_is_looked_at(monkeypatch: pytest.MonkeyPatch, redis: Redis) -> None:
    position = hold()
    intend_close(position.pk, reason=CloseReason.MANUAL, now=now())
    looks: list[list[str]] = []

    def look(position_ids: list[int], moment: datetime) -> Bells:
        looks.append([order.status for order in orders_of(position, OrderPurpose.EXIT)])
        return protection.protect(position_ids, moment)

    monkeypatch.setattr(tasks, "protection", SimpleNamespace(protect=look))
    tasks.see_through(Bells(positions=[position.pk]))
    assert looks[0] == ["FILLED"]
    assert fresh(position).status == PositionStatus.CLOSED


def test_a_close_asked_for_during_an_outage_is_not_withdrawn(
    exchange: PaperExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    position = hold()
    exchange.add_fault(kind="http", endpoint=ORDERS, status=403, body="", count=1)
    at = now()
    intend_close(position.pk, reason=CloseReason.STOP_LOSS, now=at)
    visit(position, at=at)
    read = pictures.marks_of

    def asked_meanwhile(positions: Any) -> Any:
        monkeypatch.setattr(pictures, "marks_of", read)
        intend_close(position.pk, reason=CloseReason.MANUAL, now=at)
        return read(positions)

    monkeypatch.setattr(pictures, "marks_of", asked_meanwhile)
    for seconds in (2, 4):
        visit(position, at=at, after_seconds=seconds)
    after = fresh(position)
    assert (after.status, after.close_reason) == (PositionStatus.CLOSED, CloseReason.MANUAL)
