"""What a replay ends with: the journey in counts, the statistics from rows, and the verdict of both folds."""

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime

from trading.domain.reconciliation import Difference
from trading.domain.states import OrderPurpose, PositionStatus
from trading.models import Allocation, Decision, Fill, Halt, Order, Position, PositionEvent, Signal

DIFFERENCES_SHOWN = 20


def journey(begun_at: datetime, ended_at: datetime) -> list[str]:
    """How many rows each step of the journey made, and how the positions ended."""
    allocations = Counter(
        f"{outcome} {code}".strip() for outcome, code in _pairs(Allocation, "outcome", "code")
    )
    closed = Position.objects.filter(status=PositionStatus.CLOSED).values_list("close_reason", flat=True)
    exits = Order.objects.filter(purpose=OrderPurpose.EXIT).values_list("reason", flat=True)
    events = PositionEvent.objects.values_list("code", flat=True)
    return [
        f"replayed            {begun_at:%Y-%m-%d %H:%M} to {ended_at:%Y-%m-%d %H:%M} UTC",
        f"signals             {Signal.objects.count()}",
        f"decisions           {_counts(Decision.objects.values_list('status', flat=True))}",
        f"allocations         {_counted(allocations)}",
        f"orders              {_counts(Order.objects.values_list('purpose', flat=True))}",
        f"fills               {Fill.objects.count()}",
        f"positions closed    {_counts(closed)}",
        f"positions open      {Position.objects.filter(status=PositionStatus.OPEN).count()}",
        f"exits ordered       {_counts(exits)}",
        f"halts raised        {_counts(Halt.objects.values_list('code', flat=True))}",
        f"steps of positions  {_counts(events)}",
    ]


def verdict(differences: Sequence[Difference], unexplained: Sequence[str]) -> list[str]:
    """The last words: agreement, or every difference."""
    if not differences and not unexplained:
        return ["reconciled: the exchange's ledger and the desk's rows agree to the last fill and unit"]
    lines = [f"NOT RECONCILED: {len(differences)} differences, {len(unexplained)} orders without a known end"]
    lines += [f"  {difference}" for difference in differences[:DIFFERENCES_SHOWN]]
    lines += [f"  no known end: {client_order_id}" for client_order_id in unexplained[:DIFFERENCES_SHOWN]]
    return lines


def _pairs(model: type[Allocation], *names: str) -> Iterable[tuple[str, str]]:
    return model.objects.values_list(*names)


def _counts(values: Iterable[str]) -> str:
    return _counted(Counter(value or "-" for value in values))


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "none"
