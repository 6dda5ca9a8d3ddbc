"""The sweep: every row that is still open and has nobody working on it is rung again.

It is the normal path of recovery, from a lost bell to a whole broker come back empty.
"""

from datetime import datetime, timedelta

from django.db.models import Q
from django.utils import timezone

from trading.domain.states import (
    OPEN,
    UNDECIDED,
    AllocationOutcome,
    DecisionStatus,
    OrderPurpose,
    OrderStatus,
)
from trading.models import Allocation, Decision, Order
from trading.services import watching
from trading.services.bells import Bells

UNRUNG_AFTER = timedelta(seconds=3)
MOST_ROWS = 2_000

_UNDECIDED = Q(status=DecisionStatus.OPEN) | Q(allocations__outcome__in=UNDECIDED)
"""A completed decision counts again when a late execution reopened one of its shares."""

_UNREAD = Q(
    status__in=[OrderStatus.FILLED, OrderStatus.EXPIRED, OrderStatus.CANCELLED],
    fills_complete=False,
    finished_at__isnull=False,
)
"""Orders that ended, with executions the exchange reported and no row tells of."""


def sweep(now: datetime) -> Bells:
    """Find what is due: orders to send or look up, decisions to settle, positions to attend."""
    wall = timezone.now()
    bells = Bells()
    _sweep_unsent(wall, now, bells)
    _sweep_unclear(wall, bells)
    _sweep_undecided(wall, now, bells)
    bells.positions.extend(watching.due(now))
    return bells


def is_anything_due(now: datetime) -> bool:
    """Whether any row still has work due by `now`; a replay waits for this to become False."""
    moving = Q(status__in=OPEN - {OrderStatus.ACKNOWLEDGED})
    resting = Q(status=OrderStatus.ACKNOWLEDGED)
    awaited = resting & (Q(purpose=OrderPurpose.ENTRY) | Q(due_at__isnull=False))
    if Order.objects.filter(moving | awaited | _UNREAD).exists():
        return True
    if Decision.objects.filter(_UNDECIDED).exists():
        return True
    return bool(watching.due(now))


def _sweep_unsent(wall: datetime, now: datetime, bells: Bells) -> None:
    unrung = Q(due_at__isnull=True, created_at__lt=now - UNRUNG_AFTER) | Q(due_at__lte=wall)
    free = Q(status=OrderStatus.PENDING) & unrung
    lapsed = Q(status=OrderStatus.CLAIMED, lease_until__lt=wall)
    due = Order.objects.filter(free | lapsed).order_by("pk")
    for pk, purpose in due.values_list("pk", "purpose")[:MOST_ROWS]:
        (bells.entries if purpose == OrderPurpose.ENTRY else bells.exits).append(pk)


def _sweep_undecided(wall: datetime, now: datetime, bells: Bells) -> None:
    """Decisions nobody settled, and their shares whose next executor was never asked."""
    undecided = Decision.objects.filter(_UNDECIDED, recorded_at__lt=wall - UNRUNG_AFTER).order_by("pk")
    bells.decisions.extend(undecided.values_list("pk", flat=True).distinct()[:MOST_ROWS])
    refused = Allocation.objects.filter(
        outcome=AllocationOutcome.PENDING,
        decision__in=bells.decisions,
        decision__deadline_at__gt=now,
        orders__status__in=[OrderStatus.REJECTED, OrderStatus.EXPIRED],
    ).exclude(orders__status__in=OPEN)
    bells.allocations.extend(refused.order_by("pk").values_list("pk", flat=True).distinct()[:MOST_ROWS])


def _sweep_unclear(wall: datetime, bells: Bells) -> None:
    gone = Q(status=OrderStatus.SUBMITTED, lease_until__lt=wall)
    unknown = Q(status=OrderStatus.UNKNOWN) & (Q(due_at__isnull=True) | Q(due_at__lte=wall))
    silent = Q(status__in=[OrderStatus.ACKNOWLEDGED, OrderStatus.PARTIALLY_FILLED], due_at__lte=wall)
    # Whose stream is alive is told within a moment: to read it at once as well would use the budget up.
    unread = _UNREAD & (Q(due_at__isnull=True) | Q(due_at__lte=wall))
    due = Order.objects.filter(gone | unknown | silent | unread).order_by("pk")
    bells.resolve.extend(due.values_list("pk", flat=True)[:MOST_ROWS])
