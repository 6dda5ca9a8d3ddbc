"""Claims: one owner per order, by compare-and-set with a lease; the claim token fences every write."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from statistics import median_low
from uuid import UUID, uuid4

from django.db.models import F, Q, QuerySet
from django.utils import timezone

from trading.domain.states import ExpireCode, OrderPurpose, OrderStatus, SkipCode
from trading.models import Order
from trading.services import halts

LEASE = timedelta(seconds=20)


def claim(order_ids: Sequence[int]) -> list[Order]:
    """Take the orders that nobody holds; a lapsed claim may be taken over, for no byte of it has left."""
    token, wall = uuid4(), timezone.now()
    free = Q(status=OrderStatus.PENDING) | Q(status=OrderStatus.CLAIMED, lease_until__lt=wall)
    ripe = Q(due_at__isnull=True) | Q(due_at__lte=wall)
    Order.objects.filter(free & ripe, pk__in=order_ids).update(
        status=OrderStatus.CLAIMED, claimed_by=token, lease_until=wall + LEASE, fence=F("fence") + 1
    )
    return _held(token, OrderStatus.CLAIMED)


def drop_unsendable(orders: Sequence[Order], now: datetime) -> tuple[list[Order], list[Order]]:
    """Split claimed orders into those still to be sent and those ended here, with nothing sent.

    Asked right before the send: an entry past its deadline expires, one under a halt or of a paused account
    is cancelled. Exits and stops are never dropped.
    """
    board = halts.standing(now)
    sendable, ended = [], []
    for order in orders:
        code = _why_not(order, board, now)
        if not code:
            sendable.append(order)
            continue
        status = OrderStatus.EXPIRED if code == ExpireCode.DEADLINE else OrderStatus.CANCELLED
        told = {"status": status, "code": code, "finished_at": now, "fills_complete": True}
        if _owned(order).update(**told, lease_until=None, due_at=None):
            ended.append(order)
    return sendable, ended


def mark_submitted(orders: Sequence[Order]) -> list[Order]:
    """Commit SUBMITTED and the timestamp the requests will carry; returns the orders still ours to send.

    The timestamp is the exchange's time as we know it. A sender that is paused after this line sends a
    request the exchange refuses as too old; that is the only fence there.
    """
    if not orders:
        return []
    token, wall = orders[0].claimed_by, timezone.now()
    offset_ms = median_low(order.account.clock_offset_ms for order in orders)
    Order.objects.filter(
        pk__in=[order.pk for order in orders], claimed_by=token, status=OrderStatus.CLAIMED
    ).update(
        status=OrderStatus.SUBMITTED,
        request_timestamp_ms=int(wall.timestamp() * 1000) + offset_ms,
        submitted_at=wall,
        lease_until=wall + LEASE,
        due_at=wall + LEASE,
    )
    assert token is not None  # noqa: S101 -- claimed orders carry their claim
    return _held(token, OrderStatus.SUBMITTED)


def _held(token: UUID, status: OrderStatus) -> list[Order]:
    return list(
        Order.objects.filter(claimed_by=token, status=status)
        .select_related("account", "allocation__decision", "position")
        .order_by("account_id", "pk")
    )


def _why_not(order: Order, board: halts.HaltBoard, now: datetime) -> str:
    if order.purpose != OrderPurpose.ENTRY:
        return ""
    if order.deadline_at is not None and now > order.deadline_at:
        return ExpireCode.DEADLINE
    if board.blocks_entry(order.account, order.symbol):
        return SkipCode.HALTED
    return "" if order.account.is_enabled else SkipCode.PAUSED


def _owned(order: Order) -> QuerySet[Order]:
    return Order.objects.filter(pk=order.pk, claimed_by=order.claimed_by, fence=order.fence)
