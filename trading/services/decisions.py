"""Decisions settle: their shares amount to what the orders say, and with the last share a decision ends."""

from collections.abc import Sequence
from datetime import datetime

import structlog

from trading.domain.states import UNDECIDED, DecisionStatus
from trading.models import Decision
from trading.services import allocation as allocations
from trading.services import circuit, waves
from trading.services.bells import Bells
from trading.services.shares import settle_shares

log = structlog.get_logger(__name__)


def settle(decision_ids: Sequence[int], now: datetime) -> Bells:
    """Bring the allocations of open decisions to what their orders say, and complete those that are done."""
    bells = Bells()
    for decision in Decision.objects.filter(pk__in=decision_ids):
        if decision.status == DecisionStatus.OPEN:
            bells.add(circuit.stop_if_same_code(decision.pk, now))
        settle_shares(decision.allocations.order_by().values_list("pk", flat=True), now)
        if decision.status == DecisionStatus.OPEN:
            bells.add(waves.advance(decision, now))
            bells.add(_complete(decision, now))
    return bells


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
