"""The venue circuit: one code from enough accounts of a decision stops the rest of it."""

from collections import Counter
from datetime import datetime

from django.db import transaction
from django.db.models import QuerySet

from accounts.services.limits import desk_limits
from alerts.models import Alert, Severity
from alerts.services import clear_alerts, raise_alert
from trading.domain.breaker import venue_circuit
from trading.domain.states import AllocationOutcome, DenyCode, OrderPurpose, OrderStatus
from trading.models import Allocation, Decision, Order
from trading.services.bells import Bells
from trading.services.unsent import cancel_unsent

CAUSE = "venue-circuit:"


def stop_if_same_code(decision_id: int, now: datetime) -> Bells:
    """Stop what is unsent of a decision that the exchange refuses everywhere by one code; else nothing.

    Accounts are counted, not attempts. Unsent entries are cancelled, their shares DENIED(VENUE_CIRCUIT).
    """
    entries = _entries(decision_id)
    rejected = (
        entries.filter(status=OrderStatus.REJECTED).order_by().values_list("account_id", "code").distinct()
    )
    rejections = Counter(code for _, code in rejected)
    offered = entries.order_by().values("account_id").distinct().count()
    code = venue_circuit(rejections, offered, desk_limits())
    return Bells() if code is None else _stop(decision_id, code, rejections[code], now)


def clear(now: datetime) -> None:
    """A decision ran to its end: what stopped an earlier one is over, and is told again should it return."""
    standing = Alert.objects.filter(cause__startswith=CAUSE, cleared_at__isnull=True)
    clear_alerts(list(standing.values_list("cause", flat=True)), now)


def _entries(decision_id: int) -> QuerySet[Order]:
    return Order.objects.filter(allocation__decision=decision_id, purpose=OrderPurpose.ENTRY)


def _stop(decision_id: int, code: str, accounts: int, now: datetime) -> Bells:
    with transaction.atomic():
        running = Decision.objects.filter(pk=decision_id, stopped_code="")
        if not running.update(stopped_code=f"{DenyCode.VENUE_CIRCUIT} {code}"):
            return Bells()
        stopped = cancel_unsent(_entries(decision_id), DenyCode.VENUE_CIRCUIT, now)
        Allocation.objects.filter(pk__in=stopped, outcome=AllocationOutcome.PENDING).update(
            outcome=AllocationOutcome.DENIED,
            code=DenyCode.VENUE_CIRCUIT,
            detail={"exchange_code": code, "accounts": accounts},
        )
    message = f"{accounts} accounts were refused with {code}: the rest of the decision was stopped."
    raise_alert(f"{CAUSE}{code}", Severity.CRITICAL, DenyCode.VENUE_CIRCUIT, message, now=now)
    return Bells(decisions=[decision_id])
