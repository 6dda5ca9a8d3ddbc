"""Decisions settle: each allocation's outcome is derived from its orders, never kept beside them."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

import structlog
from django.db import transaction
from django.utils import timezone

from trading.domain.states import (
    OPEN,
    UNDECIDED,
    AllocationOutcome,
    DecisionStatus,
    DenyCode,
    ExpireCode,
    OrderPurpose,
    OrderStatus,
    SkipCode,
)
from trading.models import Allocation, Decision, Order
from trading.services import allocation as allocations
from trading.services import circuit
from trading.services.bells import Bells

log = structlog.get_logger(__name__)

BASIS_POINTS = Decimal(10_000)


def settle(decision_ids: Sequence[int], now: datetime) -> Bells:
    """Bring the allocations of open decisions to what their orders say, and complete those that are done."""
    bells = Bells()
    for decision in Decision.objects.filter(pk__in=decision_ids):
        if decision.status == DecisionStatus.OPEN:
            bells.add(circuit.stop_if_same_code(decision.pk, now))
        _settle_allocations(decision, now)
        if decision.status == DecisionStatus.OPEN:
            bells.add(_complete(decision, now))
    return bells


def _settle_allocations(decision: Decision, now: datetime) -> None:
    """One settler at a time: what another read earlier would be written over what this one found."""
    with transaction.atomic():
        list(Decision.objects.select_for_update().filter(pk=decision.pk).values_list("pk"))
        for allocation in decision.allocations.prefetch_related("orders"):
            settle_allocation(allocation, decision, now)


def settle_allocation(allocation: Allocation, decision: Decision, now: datetime) -> None:
    """Write the outcome the allocation's orders amount to; a later fill corrects an earlier end."""
    entries = sorted(
        (order for order in allocation.orders.all() if order.purpose == OrderPurpose.ENTRY),
        key=lambda order: order.attempt,
    )
    if not entries:
        _expire_unordered(allocation, decision, now)
        return
    outcome, code = outcome_of(entries, allocation.quantity)
    filled = sum((order.filled_quantity for order in entries), Decimal(0))
    known = (allocation.outcome, allocation.code, allocation.attempts, allocation.filled_quantity)
    if known == (outcome, code, len(entries), filled):
        return  # every chunk settles its decision: what others settled is not written again
    average = _average(entries, filled)
    Allocation.objects.filter(pk=allocation.pk).update(
        outcome=outcome,
        code=code,
        market=entries[-1].market,
        executor=entries[-1].executor,
        attempts=len(entries),
        filled_quantity=filled,
        average_price=average,
        slippage_bps=_slippage_bps(average, decision),
        updated_at=timezone.now(),
    )


def outcome_of(entries: Sequence[Order], quantity: Decimal | None) -> tuple[AllocationOutcome, str]:
    """The outcome and code that attempts, oldest first, amount to."""
    filled = sum((order.filled_quantity for order in entries), Decimal(0))
    last = entries[-1]
    if any(order.status == OrderStatus.UNKNOWN for order in entries):
        return AllocationOutcome.UNKNOWN, last.code
    if any(order.status in OPEN or not order.fills_complete for order in entries):
        return AllocationOutcome.PENDING, ""
    if filled:
        whole = quantity is not None and filled >= quantity
        return (AllocationOutcome.FILLED if whole else AllocationOutcome.PARTIAL), ""
    return _unfilled(last)


def _unfilled(last: Order) -> tuple[AllocationOutcome, str]:
    if last.status == OrderStatus.REJECTED:
        return AllocationOutcome.REJECTED, last.code
    if last.status == OrderStatus.CANCELLED and not last.exchange_order_id:
        is_denied = last.code in set(DenyCode) - set(SkipCode)
        return (AllocationOutcome.DENIED if is_denied else AllocationOutcome.SKIPPED), last.code
    return AllocationOutcome.EXPIRED, last.code if last.code in set(ExpireCode) else ExpireCode.NO_FILL


def _expire_unordered(allocation: Allocation, decision: Decision, now: datetime) -> None:
    """A share that never became an order ends at the deadline."""
    if decision.deadline_at is None or now <= decision.deadline_at:
        return
    Allocation.objects.filter(pk=allocation.pk, outcome=AllocationOutcome.PENDING).update(
        outcome=AllocationOutcome.EXPIRED, code=ExpireCode.DEADLINE, updated_at=timezone.now()
    )


def _complete(decision: Decision, now: datetime) -> Bells:
    if decision.allocations.filter(outcome__in=UNDECIDED).exists():
        return Bells()
    bells = allocations.advance_route(decision.pk, now)
    if bells or decision.allocations.filter(outcome__in=UNDECIDED).exists():
        return bells
    if Decision.objects.filter(pk=decision.pk, status=DecisionStatus.OPEN).update(
        status=DecisionStatus.COMPLETE, completed_at=now
    ):
        log.info("decision_complete", decision=str(decision.uuid), trace_id=decision.trace_id)
        if not Decision.objects.filter(pk=decision.pk).exclude(stopped_code="").exists():
            circuit.clear(now)
    return bells


def _average(entries: Sequence[Order], filled: Decimal) -> Decimal | None:
    if not filled:
        return None
    paid = sum(
        (order.average_price * order.filled_quantity for order in entries if order.average_price is not None),
        Decimal(0),
    )
    return paid / filled


def _slippage_bps(average: Decimal | None, decision: Decision) -> Decimal | None:
    """How much worse than the decision's mark the average was, in basis points; negative is better."""
    if average is None or not decision.mark_price or decision.signal is None:
        return None
    worse = average - decision.mark_price if decision.signal.is_long else decision.mark_price - average
    return worse / decision.mark_price * BASIS_POINTS
