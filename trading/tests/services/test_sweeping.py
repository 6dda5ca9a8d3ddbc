"""Every bell may be lost: the sweep finds each row that waits for somebody, and no other."""

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from trading.domain.states import AllocationOutcome, DecisionStatus, OrderPurpose, OrderStatus
from trading.models import Decision, Order, TickSlot
from trading.services import ticks
from trading.services.bells import Bells
from trading.services.sweeping import is_anything_due, sweep
from trading.tests import rows

pytestmark = pytest.mark.django_db

S = OrderStatus
NOW = rows.NOON + timedelta(seconds=5)
"""The desk's clock; every row was written at noon."""


def ago(seconds: float) -> Any:
    return timezone.now() - timedelta(seconds=seconds)


def a_row(status: OrderStatus, **values: Any) -> Order:
    share = rows.allocation(rows.decision(rows.signal(uuid4().hex)), rows.account(f"a-{uuid4().hex[:8]}"))
    return rows.entry(share, uuid4().hex, **{"status": status, "filled_quantity": 0, **values})


def an_exit(status: OrderStatus, purpose: OrderPurpose = OrderPurpose.EXIT, **values: Any) -> Order:
    order = a_row(status, purpose=purpose, **values)
    order.position = rows.position(order.account)
    order.allocation = None
    order.save()
    return order


def aged(decision: Decision) -> Decision:
    Decision.objects.filter(pk=decision.pk).update(recorded_at=ago(10))
    return decision


@pytest.mark.parametrize(
    ("status", "values"),
    [
        (S.PENDING, {}),
        (S.PENDING, {"due_at": ago(1)}),
        (S.CLAIMED, {"lease_until": ago(1)}),
    ],
    ids=["never rung", "its wait is over", "its owner died"],
)
def test_an_unsent_order_is_rung_again(status: OrderStatus, values: dict[str, Any]) -> None:
    assert sweep(NOW) == Bells()
    entry = a_row(status, **values)
    exit_order = an_exit(status, **values)
    bells = sweep(NOW)
    assert (bells.entries, bells.exits) == ([entry.pk], [exit_order.pk])


@pytest.mark.parametrize(
    ("status", "values"),
    [
        (S.SUBMITTED, {"lease_until": ago(1)}),
        (S.UNKNOWN, {"due_at": ago(1)}),
        (S.UNKNOWN, {}),
        (S.ACKNOWLEDGED, {"due_at": ago(1)}),
        (S.PARTIALLY_FILLED, {"due_at": ago(1)}),
        (S.FILLED, {"fills_complete": False, "finished_at": rows.NOON}),
        (S.EXPIRED, {"fills_complete": False, "finished_at": rows.NOON}),
        (S.CANCELLED, {"fills_complete": False, "finished_at": rows.NOON}),
    ],
)
def test_an_order_nobody_looks_at_is_looked_up(status: OrderStatus, values: dict[str, Any]) -> None:
    order = a_row(status, **values)
    assert sweep(NOW).resolve == [order.pk]
    assert is_anything_due(NOW)


@pytest.mark.parametrize(
    ("status", "values"),
    [
        (S.PENDING, {"created_at": NOW - timedelta(seconds=2)}),
        (S.PENDING, {"due_at": ago(-3600)}),
        (S.CLAIMED, {"lease_until": ago(-3600)}),
        (S.SUBMITTED, {"lease_until": ago(-3600)}),
        (S.UNKNOWN, {"due_at": ago(-3600)}),
        (S.FILLED, {"fills_complete": True, "finished_at": rows.NOON}),
        (S.REJECTED, {"fills_complete": True, "finished_at": rows.NOON}),
    ],
)
def test_an_order_somebody_works_on_or_that_ended_is_left_alone(
    status: OrderStatus, values: dict[str, Any]
) -> None:
    a_row(status, **values)
    assert sweep(NOW) == Bells()


def test_a_stop_that_rests_is_due_to_nobody() -> None:
    an_exit(S.ACKNOWLEDGED, OrderPurpose.HARD_STOP)
    assert sweep(NOW) == Bells()
    assert not is_anything_due(NOW)


def test_an_open_decision_is_settled_again_once_it_is_not_fresh() -> None:
    decision = rows.decision(rows.signal(), status=DecisionStatus.OPEN)
    assert sweep(NOW).decisions == []
    aged(decision)
    assert sweep(NOW).decisions == [decision.pk]
    assert is_anything_due(NOW)


def test_a_complete_decision_that_a_late_execution_reopened_is_settled_again() -> None:
    decision = aged(rows.decision(rows.signal()))
    rows.allocation(decision, rows.account(), outcome=AllocationOutcome.PENDING)
    rows.allocation(decision, rows.account("beta"), outcome=AllocationOutcome.UNKNOWN)
    assert sweep(NOW).decisions == [decision.pk]


def refused_share(**changes: Any) -> int:
    decision = aged(rows.decision(rows.signal(), status=DecisionStatus.OPEN, **changes))
    share = rows.allocation(decision, rows.account(), outcome=AllocationOutcome.PENDING)
    rows.entry(share, uuid4().hex, status=S.REJECTED, code="-2019", filled_quantity=0, fills_complete=True)
    return share.pk


def test_a_refused_share_whose_offer_was_lost_is_offered_again() -> None:
    share = refused_share()
    assert sweep(NOW).allocations == [share]


def test_a_refused_share_is_not_offered_after_the_deadline() -> None:
    refused_share(deadline_at=NOW - timedelta(seconds=1))
    assert sweep(NOW).allocations == []


def test_a_position_whose_look_is_due_is_attended() -> None:
    position = rows.position(rows.account(), check_at=rows.NOON, plan={"is": "there"})
    bells = sweep(NOW)
    assert bells.positions == [position.pk]
    assert is_anything_due(NOW)


def test_the_oldest_rows_come_first() -> None:
    orders = [a_row(S.PENDING) for _ in range(3)]
    assert sweep(NOW).entries == [order.pk for order in orders]


# ── ticks ────────────────────────────────────────────────────────────────────
def test_a_tick_is_taken_once_however_often_it_comes() -> None:
    assert ticks.take("sweep", 5, rows.NOON)
    assert not ticks.take("sweep", 5, rows.NOON + timedelta(seconds=4))
    assert ticks.take("sweep", 5, rows.NOON + timedelta(seconds=5))
    assert ticks.take("monitor", 5, rows.NOON)
    assert TickSlot.objects.count() == 3


def test_old_ticks_are_forgotten_and_young_ones_kept() -> None:
    ticks.take("sweep", 5, rows.NOON - timedelta(days=3))
    ticks.take("sweep", 5, rows.NOON)
    assert ticks.forget_old(rows.NOON) == 1
    assert TickSlot.objects.get().taken_at == rows.NOON
    assert Decimal(TickSlot.objects.get().slot) == int(rows.NOON.timestamp()) // 5
