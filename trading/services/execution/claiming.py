"""Claims: one owner per order, by compare-and-set with a lease; the claim token fences every write."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from statistics import median_low
from threading import BoundedSemaphore
from uuid import UUID, uuid4

from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from accounts.services.among import Among
from accounts.services.gateways import clock_offset_ms
from exchange.port import Market
from trading.domain.states import ExpireCode, OrderPurpose, OrderStatus, SkipCode
from trading.models import Decision, Order, Position
from trading.services import halts

LEASE = timedelta(seconds=20)

LONGEST_TURN_SECONDS = 0.25

_TURNS = BoundedSemaphore(2)

SENT_BY = (
    *("client_order_id", "account", "allocation", "position", "purpose", "market", "symbol", "side", "type"),
    *("quantity", "price", "trigger_price", "reduce_only", "close_position", "position_side", "reason"),
    *("status", "fence", "claimed_by", "lease_until", "deadline_at", "request_timestamp_ms"),
    *("exchange_order_id", "triggered_order_id", "filled_quantity"),
    *("allocation__decision", "allocation__acknowledged_at"),
    *("account__name", "account__exchange", "account__mode", "account__group", "account__source"),
    *("account__uuid", "account__environment_index", "account__key_fingerprint", "account__key_id"),
    *("account__api_key_ciphertext", "account__api_secret_ciphertext", "account__passphrase_ciphertext"),
    *("account__is_enabled", "account__heard_at", "account__clock_offset_ms"),
)
"""What sending and recording ask of an order, its account and its share; the rest is not read."""


def take(order_ids: Sequence[int], now: datetime) -> tuple[list[Order], list[Order]]:
    """Claim what may be sent and commit it SUBMITTED: the orders to send now, and those ended unsent.

    One commit before the network: until it, whoever dies leaves the rows as they were.
    """
    with _turn(), transaction.atomic():
        sendable, ended = drop_unsendable(claim(order_ids), now)
        return mark_submitted(sendable, now), ended


@contextmanager
def _turn() -> Iterator[None]:
    """Let two chunks of a process claim at a time, for a moment: a chunk that waits on a lock holds up none.

    Side by side eight share one processor, and the first order leaves when the last chunk is ready to.
    """
    is_ours = _TURNS.acquire(timeout=LONGEST_TURN_SECONDS)
    try:
        yield
    finally:
        if is_ours:
            _TURNS.release()


def claim(order_ids: Sequence[int]) -> list[Order]:
    """Take the orders that nobody holds; a lapsed claim may be taken over, for no byte of it has left."""
    token, wall = uuid4(), timezone.now()
    free = Q(status=OrderStatus.PENDING) | Q(status=OrderStatus.CLAIMED, lease_until__lt=wall)
    ripe = Q(due_at__isnull=True) | Q(due_at__lte=wall)
    Order.objects.filter(free & ripe, Among("pk", order_ids)).update(
        status=OrderStatus.CLAIMED, claimed_by=token, lease_until=wall + LEASE, fence=F("fence") + 1
    )
    return _held(token)


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


def mark_submitted(orders: Sequence[Order], now: datetime) -> list[Order]:
    """Commit SUBMITTED and the timestamp the requests will carry; returns the orders still ours to send.

    `now` is the moment of the claim: a sender that was paused since then is as much later, and sends no
    entry past its deadline and nothing whose lease is over.
    The timestamp is the exchange's time as we know it. A sender that is paused after this line sends a
    request the exchange refuses as too old; that is the only fence there.
    """
    if not orders:
        return []
    token, wall = orders[0].claimed_by, timezone.now()
    assert orders[0].lease_until is not None  # noqa: S101 -- claimed orders carry their lease
    late_by = wall - (orders[0].lease_until - LEASE)
    in_time = Q(deadline_at=None) | Q(deadline_at__gte=now + late_by)
    offset_ms = median_low(clock_offset_ms(order.account, Market(order.market)) for order in orders)
    written = {
        "status": OrderStatus.SUBMITTED,
        "request_timestamp_ms": int(wall.timestamp() * 1000) + offset_ms,
        "submitted_at": wall,
        "lease_until": wall + LEASE,
        "due_at": wall + LEASE,
    }
    ours = Order.objects.filter(Among("pk", [order.pk for order in orders]), claimed_by=token)
    count = ours.filter(in_time, status=OrderStatus.CLAIMED, lease_until__gt=wall).update(**written)
    submitted = list(orders)
    if count < len(orders):  # what another owner took meanwhile, or a halt cancelled, is not ours to send
        still_ours = set(ours.filter(status=OrderStatus.SUBMITTED).order_by().values_list("pk", flat=True))
        submitted = [order for order in orders if order.pk in still_ours]
    for order in submitted:
        for name, value in written.items():
            setattr(order, name, value)
    return submitted


def _held(token: UUID) -> list[Order]:
    """The orders of a claim. A decision and a halt's scope are read once, not once for each account."""
    orders = list(
        Order.objects.filter(claimed_by=token, status=OrderStatus.CLAIMED)
        .select_related("account", "allocation")
        .only(*SENT_BY)
        .order_by("pk")
    )
    shares = [order.allocation for order in orders if order.allocation is not None]
    decisions = Decision.objects.defer("candidates", "inputs").in_bulk({one.decision_id for one in shares})
    for share in shares:
        share.decision = decisions[share.decision_id]
    held = Position.objects.in_bulk({order.position_id for order in orders if order.position_id is not None})
    for order in orders:
        if order.position_id is not None:
            order.position = held[order.position_id]
    return orders


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
