"""The waves of a staged decision, in its rows: everybody is sized, reserved and committed at once.

The canaries' orders are rung; those of the rest are held until `advance` lets them go, skips them or sees
the deadline pass. Whoever dies in between leaves rows the sweep rings for; a wave is let go once, by a
compare-and-set under the decision's lock, and its orders are claimed as any others.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from accounts.services.limits import desk_limits
from alerts.models import Alert, Severity
from alerts.services import clear_alerts, raise_alert
from trading.domain.states import (
    UNDECIDED,
    AllocationOutcome,
    ExpireCode,
    OrderPurpose,
    OrderStatus,
    SkipCode,
)
from trading.domain.waves import Canaries, Verdict, Wave, judge
from trading.models import Allocation, Decision, Order
from trading.services import routes
from trading.services.assessment import Assessment
from trading.services.bells import Bells
from trading.services.unsent import cancel_unsent

log = structlog.get_logger(__name__)

CAUSE = "canaries:"
HOLD = timedelta(hours=1)
"""Beyond every deadline: a hold that nobody ended ends as an entry that is too late, never as an order."""

TAKEN = frozenset({OrderStatus.ACKNOWLEDGED, OrderStatus.PARTIALLY_FILLED, OrderStatus.FILLED})


def canaries_first(line: Sequence[tuple[Allocation, Assessment]]) -> list[tuple[Allocation, Assessment]]:
    """The start order of a staged decision, each share told its wave; within a wave it stays as it was."""
    for share, one in line:
        share.wave = Wave.CANARIES if one.account.is_canary else Wave.REST
    return sorted(line, key=lambda pair: pair[0].wave)


def hold(order: Order, share: Allocation) -> Order:
    """Keep a new order, not yet saved, from being rung and claimed while its share's wave waits."""
    if share.wave != Wave.CANARIES:
        order.due_at = timezone.now() + HOLD
    return order


def to_judge(orders: Iterable[Order]) -> list[int]:
    """The decisions of these orders whose rest waits for such answers; nothing is read for it."""
    shares = [order.allocation for order in orders if order.allocation is not None]
    return sorted({share.decision_id for share in shares if _is_waiting(share.decision)})


def advance(decision: Decision, now: datetime) -> Bells:
    """Let the rest of a staged decision go, skip it, or end it at the deadline; nothing while it waits."""
    if not _is_waiting(decision):
        return Bells()
    with transaction.atomic():
        locked = Decision.objects.select_for_update(no_key=True).get(pk=decision.pk)
        if not _is_waiting(locked):
            return Bells()
        if routes.is_late(locked, now):
            return _end_late(locked, now)
        verdict = judge(_canaries(locked), desk_limits())
        if verdict == Verdict.WAIT:
            return Bells()
        return _release(locked, now) if verdict == Verdict.RELEASE else _skip(locked, SkipCode(verdict), now)


def _is_waiting(decision: Decision) -> bool:
    return decision.is_staged and decision.wave == Wave.CANARIES and not decision.stopped_code


def _held(decision: Decision) -> QuerySet[Order]:
    return Order.objects.filter(
        allocation__decision=decision,
        allocation__wave=Wave.REST,
        purpose=OrderPurpose.ENTRY,
        status=OrderStatus.PENDING,
    )


def _release(decision: Decision, now: datetime) -> Bells:
    Decision.objects.filter(pk=decision.pk).update(wave=Wave.REST)
    released = list(_held(decision).order_by("pk").values_list("pk", flat=True))
    Order.objects.filter(pk__in=released, status=OrderStatus.PENDING).update(due_at=None)
    _clear(now)
    log.info("wave_released", decision=str(decision.uuid), orders=len(released))
    return Bells(entries=released)


def _skip(decision: Decision, code: SkipCode, now: datetime) -> Bells:
    Decision.objects.filter(pk=decision.pk).update(stopped_code=code)
    skipped = cancel_unsent(_held(decision), code, now)
    canaries = _canaries(decision)
    told = {"canaries": str(canaries.sent_for), "refused": str(canaries.refused)}
    _end_shares(skipped, AllocationOutcome.SKIPPED, code, told)
    message = (
        f"{canaries.refused} of {canaries.sent_for} canaries were refused by the exchange,"
        f" {canaries.acknowledged} acknowledged: the other {len(skipped)} accounts were skipped."
    )
    raise_alert(f"{CAUSE}{code}", Severity.CRITICAL, code, message, now=now)
    return Bells()


def _end_late(decision: Decision, now: datetime) -> Bells:
    """The canaries' answers came too late for the rest, or not at all: nothing of it was ever sent."""
    Decision.objects.filter(pk=decision.pk).update(wave=Wave.REST)
    late = cancel_unsent(_held(decision), ExpireCode.DEADLINE, now, status=OrderStatus.EXPIRED)
    _end_shares(late, AllocationOutcome.EXPIRED, ExpireCode.DEADLINE, {})
    return Bells()


def _end_shares(
    allocation_ids: Sequence[int], outcome: AllocationOutcome, code: str, detail: dict[str, str]
) -> None:
    ended = Allocation.objects.filter(pk__in=allocation_ids, outcome=AllocationOutcome.PENDING)
    told = {"detail": detail} if detail else {}
    ended.update(outcome=outcome, code=code, updated_at=timezone.now(), **told)


def _canaries(decision: Decision) -> Canaries:
    shares = Allocation.objects.filter(decision=decision, wave=Wave.CANARIES, place__isnull=False)
    stands = [_stands(share) for share in shares.prefetch_related("orders")]
    return Canaries(
        sent_for=len(stands),
        waiting=stands.count("waiting"),
        acknowledged=stands.count("acknowledged"),
        refused=stands.count("refused"),
    )


def _stands(share: Allocation) -> str:
    entries = [order for order in share.orders.all() if order.purpose == OrderPurpose.ENTRY]
    if any(entry.status == OrderStatus.REJECTED for entry in entries):
        return "refused"
    if any(entry.status in TAKEN or entry.exchange_order_id for entry in entries):
        return "acknowledged"
    return "waiting" if share.outcome in UNDECIDED else "unsent"


def _clear(now: datetime) -> None:
    """Canaries were acknowledged: what stopped an earlier decision is told again should it return."""
    standing = Alert.objects.filter(cause__startswith=CAUSE, cleared_at__isnull=True)
    clear_alerts(list(standing.values_list("cause", flat=True)), now)
