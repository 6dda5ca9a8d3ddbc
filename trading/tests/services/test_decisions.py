"""What the orders of a share amount to, and when a decision is over."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from trading.domain.states import AllocationOutcome, DecisionStatus, OrderStatus
from trading.models import Allocation, Decision, Order
from trading.services.decisions import settle
from trading.tests import rows

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("paper_exchange")]

S, A = OrderStatus, AllocationOutcome


def an_open_decision(side: str = "LONG", **values: Any) -> Decision:
    told = {"status": DecisionStatus.OPEN, "route_policy": "all"}
    return rows.decision(rows.signal(side=side), **told | values)


def a_share(decision: Decision, name: str = "alpha", **values: Any) -> Allocation:
    told: dict[str, Any] = {
        "outcome": A.PENDING,
        "filled_quantity": 0,
        "average_price": None,
        "latency_ms": None,
    }
    return rows.allocation(decision, rows.account(name), **told | values)


def an_attempt(share: Allocation, status: OrderStatus, filled: str = "0", **values: Any) -> Order:
    told: dict[str, Any] = {
        "status": status,
        "filled_quantity": Decimal(filled),
        "average_price": Decimal(100) if Decimal(filled) else None,
        "fills_complete": True,
        "attempt": share.orders.count() + 1,
    }
    return rows.entry(share, f"px{share.pk}a{share.orders.count() + 1}", **told | values)


def settled(share: Allocation, *, seconds: int = 1) -> Allocation:
    settle([share.decision_id], rows.NOON + timedelta(seconds=seconds))
    share.refresh_from_db()
    return share


@pytest.mark.parametrize(
    ("status", "order", "outcome", "code"),
    [
        (S.FILLED, {"filled": "2"}, A.FILLED, ""),
        (S.EXPIRED, {"filled": "0.5"}, A.PARTIAL, ""),
        (S.EXPIRED, {}, A.EXPIRED, "NO_FILL"),
        (S.EXPIRED, {"code": "-1003"}, A.EXPIRED, "NO_FILL"),
        (S.EXPIRED, {"code": "DEADLINE"}, A.EXPIRED, "DEADLINE"),
        (S.EXPIRED, {"code": "NOT_PLACED"}, A.EXPIRED, "NOT_PLACED"),
        (S.REJECTED, {"code": "-2019"}, A.REJECTED, "-2019"),
        (S.CANCELLED, {"code": "HALTED"}, A.SKIPPED, "HALTED"),
        (S.CANCELLED, {"code": "PAUSED"}, A.SKIPPED, "PAUSED"),
        (S.CANCELLED, {"code": "UNSENT"}, A.SKIPPED, "UNSENT"),
        (S.CANCELLED, {"code": "SIGNAL_CANCELLED"}, A.SKIPPED, "SIGNAL_CANCELLED"),
        (S.CANCELLED, {"code": "VENUE_CIRCUIT"}, A.DENIED, "VENUE_CIRCUIT"),
        (S.CANCELLED, {"exchange_order_id": "9"}, A.EXPIRED, "NO_FILL"),
        (S.UNKNOWN, {"code": "TIMEOUT"}, A.UNKNOWN, "TIMEOUT"),
        (S.SUBMITTED, {}, A.PENDING, ""),
        (S.ACKNOWLEDGED, {}, A.PENDING, ""),
        (S.FILLED, {"filled": "2", "fills_complete": False}, A.PENDING, ""),
    ],
)
def test_the_outcome_and_code_of_an_attempt(
    status: OrderStatus, order: dict[str, Any], outcome: AllocationOutcome, code: str
) -> None:
    share = a_share(an_open_decision())
    an_attempt(share, status, **order)
    settled(share, seconds=16)  # past the deadline nobody waits for another executor
    assert (share.outcome, share.code) == (outcome, code)
    is_over = outcome not in {A.PENDING, A.UNKNOWN}
    assert Decision.objects.get().status == (DecisionStatus.COMPLETE if is_over else DecisionStatus.OPEN)


def test_an_unknown_attempt_outweighs_every_other() -> None:
    share = a_share(an_open_decision())
    an_attempt(share, S.UNKNOWN, code="TIMEOUT")
    an_attempt(share, S.FILLED, "2")
    assert settled(share).outcome == A.UNKNOWN


def test_two_attempts_that_filled_are_averaged_by_quantity() -> None:
    share = a_share(an_open_decision())
    an_attempt(share, S.EXPIRED, "0.5", average_price=Decimal(100))
    an_attempt(share, S.FILLED, "1.5", average_price=Decimal("100.4"))
    settled(share)
    assert (share.outcome, share.filled_quantity, share.average_price, share.attempts) == (
        A.FILLED,
        Decimal(2),
        Decimal("100.3"),
        2,
    )


@pytest.mark.parametrize(("side", "bps"), [("LONG", Decimal(20)), ("SHORT", Decimal(-20))])
def test_slippage_is_how_much_worse_than_the_mark_of_the_decision(side: str, bps: Decimal) -> None:
    share = a_share(an_open_decision(side))
    an_attempt(share, S.FILLED, "2", average_price=Decimal("100.2"))
    assert settled(share).slippage_bps == bps


def test_without_a_fill_there_is_no_slippage_and_no_average() -> None:
    share = a_share(an_open_decision())
    an_attempt(share, S.EXPIRED)
    settled(share)
    assert (share.slippage_bps, share.average_price, share.filled_quantity) == (None, None, Decimal(0))


def test_a_share_that_never_became_an_order_ends_at_the_deadline_and_not_before() -> None:
    share = a_share(an_open_decision())
    assert settled(share, seconds=15).outcome == A.PENDING
    assert Decision.objects.get().status == DecisionStatus.OPEN
    settled(share, seconds=16)
    assert (share.outcome, share.code) == (A.EXPIRED, "DEADLINE")
    assert Decision.objects.get().status == DecisionStatus.COMPLETE


def test_a_decision_is_complete_when_its_last_share_is() -> None:
    decision = an_open_decision()
    first, last = a_share(decision), a_share(decision, "beta")
    an_attempt(first, S.FILLED, "2")
    order = an_attempt(last, S.UNKNOWN, code="TIMEOUT")
    settled(first, seconds=60)
    decision.refresh_from_db()
    assert (decision.status, decision.completed_at) == (DecisionStatus.OPEN, None)
    Order.objects.filter(pk=order.pk).update(status=S.EXPIRED, code="NOT_PLACED")
    settled(last, seconds=70)
    decision.refresh_from_db()
    assert decision.status == DecisionStatus.COMPLETE
    assert decision.completed_at == rows.NOON + timedelta(seconds=70)


def test_settled_twice_is_settled_once() -> None:
    share = a_share(an_open_decision())
    an_attempt(share, S.FILLED, "2")
    settled(share, seconds=1)
    settled(share, seconds=2)
    decision = Decision.objects.get()
    assert decision.completed_at == rows.NOON + timedelta(seconds=1)
    assert share.outcome == A.FILLED


def test_a_late_execution_corrects_a_share_of_a_decision_that_was_over() -> None:
    share = a_share(an_open_decision())
    order = an_attempt(share, S.EXPIRED, code="NOT_PLACED")
    assert settled(share, seconds=16).outcome == A.EXPIRED
    Order.objects.filter(pk=order.pk).update(
        status=S.FILLED, filled_quantity=2, average_price=Decimal("100.1")
    )
    settled(share)
    assert (share.outcome, share.code, share.average_price) == (A.FILLED, "", Decimal("100.1"))


def test_a_denied_share_stays_denied() -> None:
    share = a_share(an_open_decision(), outcome=A.DENIED, code="MARGIN")
    settled(share, seconds=60)
    assert (share.outcome, share.code) == (A.DENIED, "MARGIN")


def test_what_is_settled_is_not_written_again() -> None:
    decision = an_open_decision()
    for name in ("one", "another"):
        an_attempt(a_share(decision, name), S.FILLED, filled="2")
    settle([decision.pk], rows.NOON)
    with CaptureQueriesContext(connection) as asked:
        settle([decision.pk], rows.NOON + timedelta(seconds=1))
    written = [query["sql"] for query in asked if query["sql"].startswith("UPDATE")]
    assert written == []
