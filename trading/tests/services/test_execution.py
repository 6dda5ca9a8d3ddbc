"""The one path to the exchange, every way an answer can end, with the exchange's own ledger as the oracle."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django import Settings
from redis import Redis

from accounts.models import Breaker
from accounts.services.gateways import close_gateways, fetch_clock_offset_ms
from alerts.models import Alert
from exchange.port import Market, OrderSide
from tests.processes import PaperExchange, wait_until
from trading.domain.states import (
    AllocationOutcome,
    CloseReason,
    DecisionStatus,
    OrderStatus,
    PositionStatus,
)
from trading.models import Fill, Order, Position
from trading.services import emergency, execution
from trading.services.execution import claiming, recording, resolving, sending
from trading.services.orders import new_exit
from trading.tests.services.holding import at_exchange, fresh, held_there, hold, orders_of, stranger
from trading.tests.services.journey import BTC, WEATHER, fit_accounts, now, set_columns
from trading.tests.services.sending import (
    LOOK_UP,
    PLACE,
    a_decision,
    a_held_position,
    a_resting_stop,
    a_share,
    an_entry,
    grow_older,
    lapse,
    look_up,
    send,
    settled,
    share_of,
    told_of,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("unthrottled", "faults")]


ROOM = 100_000
"""Weight a minute, far beyond what all tests of a minute use together."""


@pytest.fixture
def counted(settings: Settings, redis: Redis) -> Iterator[Redis]:
    """A counted budget, in the broker."""
    settings.WEIGHT_LIMIT_PER_MINUTE = ROOM
    close_gateways()
    yield redis
    close_gateways()


# ── what an answer means ─────────────────────────────────────────────────────
def test_a_filled_order_is_filled_from_its_executions(paper_exchange: PaperExchange) -> None:
    order = an_entry()
    send(order)
    (fill,) = told_of(paper_exchange, order.account, "FILL")
    assert order.status == OrderStatus.FILLED
    assert order.fills_complete
    assert order.filled_quantity == Decimal(fill["quantity"]) == order.quantity
    assert order.average_price == Decimal(fill["price"])
    assert order.exchange_order_id == str(fill["order_id"])
    assert order.request_timestamp_ms is not None
    assert (order.claimed_by is not None, order.lease_until) == (True, None)


def test_a_filled_entry_is_read_when_the_minutes_room_for_entries_is_used_up(
    counted: Redis,
) -> None:
    send(an_entry())
    order = an_entry()
    (key,) = {name.rpartition(b":")[0].decode() for name in counted.scan_iter("desk:budget:*-futures:*")}
    minute = counted.time()[0] // 60
    for at in (minute, minute + 1):
        counted.set(f"{key}:{at}", ROOM * 8 // 10)
    send(order)
    assert order.fills_complete
    assert Position.objects.get(account=order.account).quantity == order.quantity


def test_a_partly_filled_order_that_expires_keeps_what_filled(paper_exchange: PaperExchange) -> None:
    order = an_entry()
    paper_exchange.add_fault(kind="partial", endpoint=PLACE, account=order.account.name, fraction="0.3")
    send(order)
    assert (order.status, order.filled_quantity) == (OrderStatus.EXPIRED, Decimal("0.003"))
    assert order.fills_complete
    share = settled(order)
    assert (share.outcome, share.filled_quantity) == (AllocationOutcome.PARTIAL, Decimal("0.003"))


@pytest.mark.parametrize(("code", "is_offered_on"), [(-2019, True), (-4164, True), (-1111, False)])
def test_a_refusal_ends_the_order_and_only_a_curable_one_is_offered_on(
    paper_exchange: PaperExchange, code: int, is_offered_on: bool
) -> None:
    order = an_entry()
    paper_exchange.add_fault(kind="http", endpoint=PLACE, account=order.account.name, status=400, code=code)
    bells = send(order)
    assert (order.status, order.code) == (OrderStatus.REJECTED, str(code))
    assert bells.allocations == ([order.allocation_id] if is_offered_on else [])
    assert bells.resolve == []
    assert told_of(paper_exchange, order.account) == []


def test_a_throttled_order_goes_again_under_the_same_id(paper_exchange: PaperExchange) -> None:
    order = an_entry()
    paper_exchange.add_fault(
        kind="http", endpoint=PLACE, account=order.account.name, status=429, code=-1003, retry_after=1
    )
    send(order)
    assert (order.status, order.code) == (OrderStatus.PENDING, "-1003")
    assert order.due_at is not None
    assert order.due_at > timezone.now()
    assert told_of(paper_exchange, order.account) == []
    send(order)
    assert order.status == OrderStatus.PENDING, "sent before the wait the exchange asked for was over"
    name = order.client_order_id
    Order.objects.filter(pk=order.pk).update(due_at=timezone.now())
    send(order)
    assert order.status == OrderStatus.FILLED
    assert [row["client_order_id"] for row in told_of(paper_exchange, order.account)] == [name]


def test_a_refusal_for_speed_says_nothing_against_the_account(paper_exchange: PaperExchange) -> None:
    order = an_entry()
    paper_exchange.add_fault(kind="http", endpoint=PLACE, account=order.account.name, status=429, code=-1003)
    send(order)
    assert not Breaker.objects.filter(account=order.account, rejections__gt=0).exists()


@pytest.fixture
def skewed(paper_exchange: PaperExchange) -> Iterator[PaperExchange]:
    """An exchange whose clock moves 30 s away from ours, and back after the test."""
    send(an_entry())  # a connection measures the clock when it is first used
    paper_exchange.add_fault(kind="clock_skew", seconds=30, count=0)
    yield paper_exchange
    paper_exchange.delete("/paper/faults")
    fetch_clock_offset_ms("binance")


def test_an_order_refused_for_its_time_goes_again_by_the_clock_measured_anew(skewed: PaperExchange) -> None:
    order = an_entry()
    bells = send(order)
    assert (order.status, order.code, order.unknown_since) == (OrderStatus.PENDING, "-1021", None)
    assert (bells.entries, bells.resolve, bells.allocations) == ([order.pk], [], [])
    assert not Breaker.objects.filter(account=order.account, rejections__gt=0).exists()
    assert told_of(skewed, order.account) == []
    name = order.client_order_id
    Order.objects.filter(pk=order.pk).update(due_at=timezone.now())
    send(order)
    assert order.status == OrderStatus.FILLED
    assert [row["client_order_id"] for row in told_of(skewed, order.account)] == [name]


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "close_socket"},
        {"kind": "truncate_body"},
        {"kind": "empty_body"},
        {"kind": "http", "status": 503, "code": -1007, "apply": True},
        {"kind": "http", "status": 200, "body": "{}", "apply": True},
        {"kind": "http", "status": 502, "body": "<html>bad gateway</html>", "apply": True},
    ],
    ids=lambda fault: f"{fault['kind']}-{fault.get('status', '')}",
)
def test_an_answer_that_proves_nothing_is_looked_up_and_found(
    paper_exchange: PaperExchange, fault: dict[str, object]
) -> None:
    order = an_entry()
    paper_exchange.add_fault(endpoint=PLACE, account=order.account.name, **fault)
    bells = send(order)
    assert order.status == OrderStatus.UNKNOWN
    assert (bells.resolve, bells.allocations, bells.entries) == ([order.pk], [], [])
    assert settled(order).outcome == AllocationOutcome.UNKNOWN
    look_up(order)
    assert (order.status, order.filled_quantity) == (OrderStatus.FILLED, order.quantity)
    assert len(told_of(paper_exchange, order.account)) == 1


def test_an_order_found_by_lookup_has_its_latency(paper_exchange: PaperExchange) -> None:
    order = an_entry()
    paper_exchange.add_fault(kind="close_socket", endpoint=PLACE, account=order.account.name)
    send(order)
    look_up(order)
    share = share_of(order)
    assert share.acknowledged_at is not None
    assert share.latency_ms is not None


# ── V17: the answer is lost ──────────────────────────────────────────────────
def test_absence_is_concluded_by_three_looks_over_ten_seconds_and_the_next_attempt_has_a_new_id(
    paper_exchange: PaperExchange,
) -> None:
    order = an_entry()
    paper_exchange.add_fault(kind="close_socket", endpoint=PLACE, account=order.account.name, apply=False)
    send(order)
    for looks in (1, 2):
        bells = look_up(order)
        assert (order.status, order.looks, bells.resolve) == (OrderStatus.UNKNOWN, looks, [order.pk])
    bells = look_up(order)
    assert (order.status, order.looks) == (OrderStatus.UNKNOWN, 3), "three looks at once are no proof"
    assert bells.allocations == []
    grow_older(order)
    bells = look_up(order)
    assert (order.status, order.code) == (OrderStatus.EXPIRED, "NOT_PLACED")
    assert bells.allocations == [order.allocation_id]
    assert an_entry(share=share_of(order), attempt=2).client_order_id != order.client_order_id
    assert told_of(paper_exchange, order.account) == []


def test_two_looks_are_no_proof_however_long_ago_the_first_was(paper_exchange: PaperExchange) -> None:
    order = an_entry()
    paper_exchange.add_fault(kind="close_socket", endpoint=PLACE, account=order.account.name, apply=False)
    send(order)
    look_up(order)
    grow_older(order)
    look_up(order)
    assert (order.status, order.looks) == (OrderStatus.UNKNOWN, 2)


def test_a_look_that_failed_is_no_look(paper_exchange: PaperExchange) -> None:
    order = an_entry()
    name = order.account.name
    paper_exchange.add_fault(kind="close_socket", endpoint=PLACE, account=name, apply=False)
    send(order)
    paper_exchange.add_fault(kind="http", endpoint=LOOK_UP, account=name, count=0, status=500)
    for _ in range(4):
        look_up(order)
        grow_older(order)
    assert (order.status, order.looks) == (OrderStatus.UNKNOWN, 0)


def test_what_one_worker_looks_up_another_waits_for(paper_exchange: PaperExchange) -> None:
    order = an_entry()
    paper_exchange.add_fault(kind="close_socket", endpoint=PLACE, account=order.account.name)
    send(order)
    Order.objects.filter(pk=order.pk).update(due_at=None)
    (held,) = resolving.hold_ripe([order.pk], timezone.now())
    bells = execution.resolve([order.pk], now())
    order.refresh_from_db()
    assert held.pk == order.pk
    assert (order.status, order.looks, bells.resolve) == (OrderStatus.UNKNOWN, 0, [order.pk])
    assert 10 < execution.seconds_until_look([order.pk]) <= resolving.LOOK_SECONDS, (
        "a look that died is made again"
    )


def test_the_look_that_may_prove_absence_is_not_put_off_for_longer_than_its_ten_seconds(
    paper_exchange: PaperExchange,
) -> None:
    order = an_entry()
    paper_exchange.add_fault(kind="close_socket", endpoint=PLACE, account=order.account.name, apply=False)
    send(order)
    for _ in range(4):
        look_up(order)
    grow_older(order, timedelta(seconds=7))
    look_up(order)
    assert execution.seconds_until_look([order.pk]) <= 3, "not the five seconds of its back-off"


def test_an_order_the_lookup_does_not_show_yet_is_found_later(paper_exchange: PaperExchange) -> None:
    order = an_entry()
    name = order.account.name
    paper_exchange.add_fault(kind="close_socket", endpoint=PLACE, account=name)
    paper_exchange.add_fault(kind="lookup_not_found", account=name, count=4, seconds=30)
    send(order)
    look_up(order)
    assert order.status == OrderStatus.UNKNOWN
    for _ in range(4):
        look_up(order)
    assert (order.status, order.filled_quantity) == (OrderStatus.FILLED, order.quantity)
    assert len(told_of(paper_exchange, order.account)) == 1


def test_an_execution_nobody_can_explain_forbids_to_conclude_absence(paper_exchange: PaperExchange) -> None:
    order = an_entry()
    name = order.account.name
    paper_exchange.add_fault(kind="close_socket", endpoint=PLACE, account=name)
    paper_exchange.add_fault(kind="lookup_not_found", account=name, count=0, seconds=60)
    send(order)
    for _ in range(4):
        look_up(order)
        grow_older(order, timedelta(seconds=4))
    assert order.looks >= 3
    assert order.status == OrderStatus.UNKNOWN


def test_a_stranger_trading_the_other_way_does_not_hold_the_conclusion_up(
    paper_exchange: PaperExchange,
) -> None:
    order = an_entry()
    paper_exchange.add_fault(kind="close_socket", endpoint=PLACE, account=order.account.name, apply=False)
    send(order)
    position = Position(account=order.account, market=Market.FUTURES, symbol=BTC, is_long=False)
    at_exchange(position, stranger(position, OrderSide.SELL, Decimal("0.002")))
    for _ in range(3):
        look_up(order)
    grow_older(order)
    look_up(order)
    assert (order.status, order.code) == (OrderStatus.EXPIRED, "NOT_PLACED")


def test_an_order_that_was_called_absent_and_shows_up_is_booked_all_the_same(
    paper_exchange: PaperExchange,
) -> None:
    order = an_entry()
    paper_exchange.add_fault(kind="close_socket", endpoint=PLACE, account=order.account.name)
    send(order)
    Order.objects.filter(pk=order.pk).update(
        status=OrderStatus.EXPIRED, code="NOT_PLACED", fills_complete=False, finished_at=now()
    )
    look_up(order)
    assert (order.status, order.filled_quantity) == (OrderStatus.FILLED, order.quantity)


def test_an_unknown_order_is_never_sent_again_nor_elsewhere(paper_exchange: PaperExchange) -> None:
    order = an_entry()
    paper_exchange.add_fault(kind="close_socket", endpoint=PLACE, account=order.account.name)
    send(order)
    bells = send(order)
    assert not bells
    assert len(told_of(paper_exchange, order.account)) == 1


def test_an_order_unknown_for_a_minute_is_an_alarm_that_ends_with_the_answer(
    paper_exchange: PaperExchange,
) -> None:
    order = an_entry()
    name = order.account.name
    paper_exchange.add_fault(kind="close_socket", endpoint=PLACE, account=name)
    paper_exchange.add_fault(kind="lookup_not_found", account=name, count=3, seconds=60)
    send(order)
    grow_older(order, timedelta(seconds=61))
    look_up(order)
    alert = Alert.objects.get(cause=f"unknown:{order.client_order_id}")
    assert (alert.code, alert.cleared_at) == ("OUTCOME_UNKNOWN", None)
    look_up(order)
    look_up(order)
    alert.refresh_from_db()
    assert order.status == OrderStatus.FILLED
    assert alert.cleared_at is not None


# ── a sender that died, paused or was doubled ────────────────────────────────
def test_a_sender_that_is_gone_leaves_an_order_to_look_up(paper_exchange: PaperExchange) -> None:
    order = an_entry()
    (claimed,) = claiming.claim([order.pk])
    claiming.mark_submitted([claimed], now())
    execution.resolve([order.pk], now())
    order.refresh_from_db()
    assert order.status == OrderStatus.SUBMITTED, "its sender may still be waiting for the answer"
    lapse(order)
    look_up(order)
    assert (order.status, order.code, order.looks) == (OrderStatus.UNKNOWN, "SENDER_GONE", 1)


def test_a_request_that_leaves_late_is_refused_by_the_exchange_itself(paper_exchange: PaperExchange) -> None:
    order = an_entry()
    (claimed,) = claiming.claim([order.pk])
    (submitted,) = claiming.mark_submitted([claimed], now())
    assert submitted.request_timestamp_ms is not None
    submitted.request_timestamp_ms -= 45_000
    (late,) = sending.send_all([submitted])
    assert late.error is not None
    assert late.error.code == "-1021"
    assert told_of(paper_exchange, order.account) == []


def test_a_late_refusal_does_not_revive_an_order_that_is_being_looked_up(
    paper_exchange: PaperExchange,
) -> None:
    order = an_entry()
    (claimed,) = claiming.claim([order.pk])
    (submitted,) = claiming.mark_submitted([claimed], now())
    lapse(order)
    look_up(order)
    submitted.request_timestamp_ms = 1
    recording.record(sending.send_all([submitted]), now())
    order.refresh_from_db()
    assert order.status == OrderStatus.UNKNOWN
    assert told_of(paper_exchange, order.account) == []


def test_a_claim_that_lapsed_is_taken_over_and_its_former_owner_sends_nothing(
    paper_exchange: PaperExchange,
) -> None:
    order = an_entry()
    former = claiming.claim([order.pk])
    lapse(order)
    send(order)
    assert order.status == OrderStatus.FILLED
    assert claiming.mark_submitted(former, now()) == []
    assert len(told_of(paper_exchange, order.account)) == 1


def test_a_claim_that_holds_is_nobody_elses(paper_exchange: PaperExchange) -> None:
    order = an_entry()
    claiming.claim([order.pk])
    assert not send(order)
    assert order.status == OrderStatus.CLAIMED
    assert told_of(paper_exchange, order.account) == []


@pytest.mark.django_db(transaction=True)
def test_two_workers_with_the_same_message_place_one_order(paper_exchange: PaperExchange) -> None:
    orders = [an_entry(account) for account in fit_accounts(4)]
    ids = [order.pk for order in orders]

    def work(_: int) -> None:
        try:
            execution.submit(ids, now())
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as workers:
        list(workers.map(work, range(2)))
    for order in orders:
        order.refresh_from_db()
        assert order.status == OrderStatus.FILLED
        assert [row["client_order_id"] for row in told_of(paper_exchange, order.account)] == [
            order.client_order_id
        ]


# ── what is asked right before the send ──────────────────────────────────────
def test_nothing_unsent_is_sent_after_the_deadline_and_the_decision_completes(
    paper_exchange: PaperExchange,
) -> None:
    order = an_entry()
    assert order.deadline_at is not None
    send(order, at=order.deadline_at + timedelta(milliseconds=1))
    assert (order.status, order.code) == (OrderStatus.EXPIRED, "DEADLINE")
    share = settled(order)
    assert (share.outcome, share.code) == (AllocationOutcome.EXPIRED, "DEADLINE")
    assert share.decision.status == DecisionStatus.COMPLETE
    assert told_of(paper_exchange, order.account) == []


@pytest.mark.parametrize("seconds", [-1, 1])
def test_a_halt_is_seen_right_before_the_send_even_one_raised_after_the_work_began(
    paper_exchange: PaperExchange, seconds: int
) -> None:
    order = an_entry()
    began = now()
    emergency.raise_halt(
        f"account:{order.account.name}",
        "HALT_ENTRIES",
        "because",
        "a test",
        began + timedelta(seconds=seconds),
    )
    send(order, at=began)
    assert (order.status, order.code) == (OrderStatus.CANCELLED, "HALTED")
    share = settled(order)
    assert (share.outcome, share.code) == (AllocationOutcome.SKIPPED, "HALTED")
    assert told_of(paper_exchange, order.account) == []


def test_a_paused_account_sends_no_entry(paper_exchange: PaperExchange) -> None:
    order = an_entry()
    set_columns(order.account, is_enabled=False)
    send(order)
    assert (order.status, order.code) == (OrderStatus.CANCELLED, "PAUSED")
    assert told_of(paper_exchange, order.account) == []


def test_an_exit_is_sent_whatever_stops_entries(paper_exchange: PaperExchange) -> None:
    position = a_held_position()
    set_columns(position.account, is_enabled=False)
    emergency.raise_halt("desk", "HALT_ENTRIES", "because", "a test", now())
    exit_order = new_exit(position, quantity=position.quantity, reason=CloseReason.MANUAL, now=now())
    exit_order.save()
    send(exit_order)
    assert exit_order.status == OrderStatus.FILLED
    assert held_there(position.account) == []
    assert fresh(position).status == PositionStatus.CLOSED


def test_five_accounts_with_one_refusal_stop_the_rest_of_the_decision(paper_exchange: PaperExchange) -> None:
    decision = a_decision()
    accounts = fit_accounts(6)
    orders = [an_entry(share=a_share(decision, account), account=account) for account in accounts]
    for account in accounts:
        paper_exchange.add_fault(kind="http", endpoint=PLACE, account=account.name, status=400, code=-1111)
    send(*orders[:5])
    orders[5].refresh_from_db()
    assert (orders[5].status, orders[5].code) == (OrderStatus.CANCELLED, "VENUE_CIRCUIT")
    share = settled(orders[5])
    assert (share.outcome, share.code) == (AllocationOutcome.DENIED, "VENUE_CIRCUIT")
    assert told_of(paper_exchange, accounts[5]) == []


# ── closes that may be repeated ──────────────────────────────────────────────
def an_unclear_exit(paper: PaperExchange, position: Position, quantity: Decimal, **changes: object) -> Order:
    order = new_exit(position, quantity=quantity, reason=CloseReason.MANUAL, now=now())
    order.save()
    for name, value in changes.items():
        setattr(position, name, value)
    position.save()
    paper.add_fault(kind="close_socket", endpoint=PLACE, account=position.account.name, apply=False)
    send(order)
    assert order.status == OrderStatus.UNKNOWN
    return order


def test_a_full_close_goes_again_after_one_look_and_one_read_of_the_position(
    paper_exchange: PaperExchange,
) -> None:
    position = a_held_position()
    order = an_unclear_exit(paper_exchange, position, position.quantity, closing_for=CloseReason.MANUAL)
    bells = look_up(order)
    assert (order.status, order.code, order.looks) == (OrderStatus.EXPIRED, "NOT_PLACED", 1)
    assert bells.positions == [position.pk]


def test_an_unclear_exit_whose_stop_fired_unheard_ends_once_the_stop_is_read(
    paper_exchange: PaperExchange,
) -> None:
    position = a_held_position()
    stop = a_resting_stop(position)
    order = an_unclear_exit(paper_exchange, position, position.quantity, closing_for=CloseReason.MANUAL)
    assert stop.trigger_price is not None
    paper_exchange.set_mark("BTCUSDT", str(stop.trigger_price - 10))
    wait_until(lambda: held_there(position.account) == [], "the stop to fire", 10)
    look_up(order)
    look_up(order)
    bells = look_up(order)
    assert order.status == OrderStatus.UNKNOWN, "somebody sold: it may have been this one"
    assert bells.resolve == [order.pk, stop.pk]
    execution.refresh(bells.resolve, now())
    grow_older(order)
    look_up(order)
    assert (order.status, order.code) == (OrderStatus.EXPIRED, "NOT_PLACED")
    closed = fresh(position)
    assert (closed.status, closed.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_LOSS)


def test_a_part_waits_for_the_absence_rule_for_sent_twice_it_would_sell_twice(
    paper_exchange: PaperExchange,
) -> None:
    position = a_held_position()
    part = {"quantity": "0.004", "legs": [], "reason": CloseReason.EXCESS}
    order = an_unclear_exit(paper_exchange, position, Decimal("0.004"), reduction=part)
    look_up(order)
    assert (order.status, order.looks) == (OrderStatus.UNKNOWN, 1)


# ── stops: fired, refused, cancelled ─────────────────────────────────────────
def test_a_stop_that_fired_is_followed_to_the_ordinary_order_it_became(
    paper_exchange: PaperExchange,
) -> None:
    position = a_held_position()
    stop = a_resting_stop(position)
    assert (stop.due_at, stop.triggered_order_id) == (None, "")
    assert stop.trigger_price is not None
    paper_exchange.set_mark("BTCUSDT", str(stop.trigger_price - 10))
    wait_until(lambda: held_there(position.account) == [], "the stop to fire", 10)
    look_up(stop)
    ordinary = next(row for row in told_of(paper_exchange, position.account, "FILL") if row["side"] == "SELL")
    assert (stop.status, stop.filled_quantity) == (OrderStatus.FILLED, position.quantity)
    assert stop.triggered_order_id == str(ordinary["order_id"])
    assert stop.exchange_order_id != stop.triggered_order_id
    closed = fresh(position)
    assert (closed.status, closed.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_LOSS)


def test_a_stop_whose_answer_was_lost_and_that_fired_keeps_its_name_in_both_stores(
    paper_exchange: PaperExchange,
) -> None:
    position = a_held_position()
    stop = a_resting_stop(position)
    number, trigger = stop.exchange_order_id, stop.trigger_price
    assert trigger is not None
    lost = {"status": OrderStatus.UNKNOWN, "exchange_order_id": "", "unknown_since": timezone.now()}
    Order.objects.filter(pk=stop.pk).update(**lost)
    stop.refresh_from_db()
    paper_exchange.set_mark("BTCUSDT", str(trigger - 10))
    wait_until(lambda: held_there(position.account) == [], "the stop to fire", 10)
    look_up(stop)
    assert (stop.status, stop.exchange_order_id) == (OrderStatus.FILLED, number)
    assert stop.triggered_order_id not in {"", number}


def test_a_cancelled_order_ends_and_stays_at_the_exchange_no_longer(paper_exchange: PaperExchange) -> None:
    position = a_held_position()
    stop = a_resting_stop(position)
    execution.cancel([stop.pk], now())
    stop.refresh_from_db()
    assert (stop.status, stop.fills_complete) == (OrderStatus.CANCELLED, True)
    assert len(told_of(paper_exchange, position.account, "CANCELED")) == 1


def test_a_cancel_that_comes_too_late_finds_the_fill(paper_exchange: PaperExchange) -> None:
    position = a_held_position()
    stop = a_resting_stop(position)
    assert stop.trigger_price is not None
    paper_exchange.set_mark("BTCUSDT", str(stop.trigger_price - 10))
    wait_until(lambda: held_there(position.account) == [], "the stop to fire", 10)
    execution.cancel([stop.pk], now())
    stop.refresh_from_db()
    assert (stop.status, stop.filled_quantity) == (OrderStatus.FILLED, position.quantity)
    assert told_of(paper_exchange, position.account, "CANCELED") == []


def test_a_cancel_that_fails_waits_and_leaves_the_row_as_it_was(paper_exchange: PaperExchange) -> None:
    position = a_held_position()
    stop = a_resting_stop(position)
    paper_exchange.add_fault(
        kind="http", endpoint="DELETE *", account=position.account.name, status=500, count=0
    )
    bells = execution.cancel([stop.pk], now())
    stop.refresh_from_db()
    assert stop.status == OrderStatus.ACKNOWLEDGED
    assert bells.cancel == [], "rung at once it would be asked again and again"
    assert stop.due_at is not None
    assert stop.due_at > timezone.now()


def test_a_cancel_of_what_was_never_sent_ends_it_here(paper_exchange: PaperExchange) -> None:
    order = an_entry()
    execution.cancel([order.pk], now())
    order.refresh_from_db()
    assert (order.status, order.code) == (OrderStatus.CANCELLED, "UNSENT")
    assert not send(order)
    assert told_of(paper_exchange, order.account) == []


def test_an_order_taken_before_it_fills_is_read_again(paper_exchange: PaperExchange) -> None:
    order = an_entry()
    paper_exchange.add_fault(kind="late_fill", endpoint=PLACE, account=order.account.name, seconds=0.5)
    send(order)
    assert order.status == OrderStatus.ACKNOWLEDGED
    assert order.filled_quantity == Decimal(0)
    assert not Fill.objects.filter(account=order.account).exists()
    assert order.due_at is not None
    wait_until(lambda: held_there(order.account) != [], "the late fill", 10)
    look_up(order)
    assert (order.status, order.filled_quantity) == (OrderStatus.FILLED, order.quantity)


def test_an_account_whose_key_is_gone_refuses_before_anything_leaves(paper_exchange: PaperExchange) -> None:
    order = an_entry()
    set_columns(order.account, key_fingerprint=uuid4().hex)
    send(order)
    assert order.status == OrderStatus.REJECTED
    assert told_of(paper_exchange, order.account) == []


def test_the_orders_of_a_refused_and_a_filled_account_end_apart(paper_exchange: PaperExchange) -> None:
    refused, filled = (an_entry(account) for account in fit_accounts(2))
    paper_exchange.add_fault(
        kind="http", endpoint=PLACE, account=refused.account.name, status=400, code=-2019
    )
    answer_bells = send(refused, filled)
    assert (refused.status, filled.status) == (OrderStatus.REJECTED, OrderStatus.FILLED)
    assert answer_bells.decisions == [share_of(filled).decision_id]
    assert answer_bells.allocations == [refused.allocation_id]  # its decision ends when its hand-over does


def test_a_spot_stop_cancelled_half_filled_is_read_before_the_rest_is_sold(
    paper_exchange: PaperExchange, settings: Settings
) -> None:
    settings.GATE_OFF = WEATHER
    paper_exchange.set_mark("BTCUSDT", "100000")
    position = hold(executors=(Market.SPOT,))
    (stop,) = orders_of(position)
    Order.objects.filter(pk=stop.pk).update(status=OrderStatus.PARTIALLY_FILLED)
    bells = execution.cancel([stop.pk], now())
    stop.refresh_from_db()
    assert (stop.status, stop.fills_complete) == (OrderStatus.CANCELLED, False)
    assert bells.resolve == [stop.pk]
    execution.refresh(bells.resolve, now())
    stop.refresh_from_db()
    assert stop.fills_complete


def test_a_futures_stop_that_is_cancelled_has_nothing_left_to_read() -> None:
    position = a_held_position()
    stop = a_resting_stop(position)
    bells = execution.cancel([stop.pk], now())
    stop.refresh_from_db()
    assert (stop.status, stop.fills_complete, bells.resolve) == (OrderStatus.CANCELLED, True, [])


def test_a_look_that_dies_before_the_executions_are_rows_leaves_the_order_to_be_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order = an_entry()
    sending.send_all(claiming.mark_submitted(claiming.claim([order.pk]), now()))
    lapse(order)
    with monkeypatch.context() as patch:
        patch.setattr(resolving, "record_fills", dies)
        with pytest.raises(RuntimeError, match="died"):
            look_up(order)
    order.refresh_from_db()
    assert (order.status, order.fills_complete) == (OrderStatus.UNKNOWN, False)
    look_up(order)
    order.refresh_from_db()
    assert (order.status, order.fills_complete) == (OrderStatus.FILLED, True)


def dies(*_: object) -> None:
    raise RuntimeError("died")
