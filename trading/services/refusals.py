"""Refusals told to people: equal ones are one alert with a count, however many accounts share it."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from alerts.models import Alert, Severity
from alerts.services import clear_alert, raise_alert
from trading.domain.states import AllocationOutcome, DenyCode
from trading.models import Allocation, Decision

DENIED = "DENIED"

WARNING_CODES = frozenset(
    {
        DenyCode.ACCOUNT_UNHEALTHY,
        DenyCode.STALE_DATA,
        DenyCode.OUTCOME_UNKNOWN,
        DenyCode.DAILY_LOSS,
        DenyCode.SETTINGS,
        DenyCode.MARGIN,
        DenyCode.VENUE_CIRCUIT,
    }
)
"""What somebody may want to put right; the other refusals are the rules at work."""


def tell(decision: Decision, allocations: Sequence[Allocation], now: datetime) -> None:
    """Raise one alert a code that denied in this decision; a code that denied nobody is over."""
    denied = [one for one in allocations if one.outcome == AllocationOutcome.DENIED]
    counts = Counter(one.code for one in denied)
    for code, count in counts.items():
        severity = Severity.WARNING if code in WARNING_CODES else Severity.INFO
        message = f"{code}: {count} of {len(allocations)} accounts denied {_subject(decision)}."
        account = denied[0].account.name if len(denied) == 1 else ""
        raise_alert(
            _cause(code), severity, DENIED, message, now=now, account=account, symbol=_symbol(decision)
        )
    for cause in _standing() - {_cause(code) for code in counts}:
        clear_alert(cause, now)


def _standing() -> set[str]:
    return set(Alert.objects.filter(code=DENIED, cleared_at__isnull=True).values_list("cause", flat=True))


def _cause(code: str) -> str:
    return f"denied:{code}"


def _symbol(decision: Decision) -> str:
    return decision.signal.symbol if decision.signal else ""


def _subject(decision: Decision) -> str:
    return f"{decision.signal.side} {decision.signal.symbol}" if decision.signal else "the decision"
