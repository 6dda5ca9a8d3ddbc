"""Claims: one owner per order, by compare-and-set with a lease; the claim token fences every write."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from statistics import median_low
from threading import BoundedSemaphore
from uuid import uuid4

import structlog
from django.db import DatabaseError, transaction
from django.db.models import (
    BigIntegerField,
    CharField,
    DateTimeField,
    Exists,
    F,
    OuterRef,
    Q,
    QuerySet,
    UUIDField,
)
from django.utils import timezone

from accounts.models import Account
from accounts.services.fixed_queries import AmongGiven, FixedQuery, FixedTake, FixedUpdate, Given
from accounts.services.gateways import clock_offset_ms, measured_clocks
from exchange.port import Market
from trading.domain.states import ExpireCode, OrderPurpose, OrderStatus, PositionStatus, SkipCode
from trading.models import Decision, Order, Position
from trading.services import halts

log = structlog.get_logger(__name__)

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
    *("position__status", "position__quantity", "position__foreign_quantity"),
)
"""What sending and recording ask of an order, its account, share and position; the rest is not read."""

SENT_BY_POSITION = tuple(name for name in SENT_BY if not name.startswith("allocation__"))
"""The same of an exit or a stop, which has no share."""

_WALL = Given("wall", DateTimeField())
_LEASE = Given("lease_until", DateTimeField())
_TOKEN = Given("token", UUIDField())
_FREE = Q(status=OrderStatus.PENDING) | Q(status=OrderStatus.CLAIMED, lease_until__lt=_WALL)
_RIPE = Q(due_at__isnull=True) | Q(due_at__lte=_WALL)
_IN_TIME = Q(deadline_at=None) | Q(deadline_at__gte=Given("moment", DateTimeField()))

_STAMP = Given("request_timestamp_ms", BigIntegerField())

_CLAIM = FixedUpdate(
    lambda: Order.objects.filter(_FREE & _RIPE, AmongGiven("pk", "ids")),
    status=OrderStatus.CLAIMED,
    claimed_by=_TOKEN,
    lease_until=_LEASE,
    fence=F("fence") + 1,
)
_CLAIMED = FixedQuery(
    lambda: (
        Order.objects.filter(AmongGiven("pk", "ids"))
        .select_related("account", "allocation", "position")
        .only(*SENT_BY)
        .order_by("pk")
    )
)
_SUBMIT = FixedUpdate(
    lambda: Order.objects.filter(_IN_TIME, AmongGiven("pk", "ids")).filter(
        status=OrderStatus.CLAIMED, claimed_by=_TOKEN, lease_until__gt=_WALL
    ),
    status=OrderStatus.SUBMITTED,
    request_timestamp_ms=_STAMP,
    submitted_at=_WALL,
    lease_until=_LEASE,
    due_at=_LEASE,
)

_HELD_ALONE = Position.objects.filter(pk=OuterRef("position"), status=PositionStatus.OPEN, foreign_quantity=0)
_AT_VENUE = Account.objects.filter(pk=OuterRef("account"), exchange=Given("exchange", CharField()))
_TAKE = FixedTake(
    lambda: (
        Order.objects.filter(_FREE & _RIPE, AmongGiven("pk", "ids"), deadline_at=None)
        .filter(~Q(purpose=OrderPurpose.ENTRY), market=Market.FUTURES)
        .filter(Exists(_HELD_ALONE), Exists(_AT_VENUE))
    ),
    lambda: Order.objects.select_related("account", "position").only(*SENT_BY_POSITION).order_by("pk"),
    status=OrderStatus.SUBMITTED,
    claimed_by=_TOKEN,
    fence=F("fence") + 1,
    request_timestamp_ms=_STAMP,
    submitted_at=_WALL,
    lease_until=_LEASE,
    due_at=_LEASE,
)


def take(
    order_ids: Sequence[int], now: datetime, *, are_entries: bool = False
) -> tuple[list[Order], list[Order]]:
    """Claim what may be sent and commit it SUBMITTED: the orders to send now, and those ended unsent.

    Each is committed before the network, and until then whoever dies leaves its row as it was. Of
    `are_entries` every one takes the steps one by one anyway: one statement less is asked.
    """
    taken: list[Order] = []
    with _turn():
        try:
            for plain in () if are_entries else _take_plain(order_ids):
                taken += plain
            known = {order.pk for order in taken}
            left = [pk for pk in order_ids if pk not in known]
            submitted, ended = _take_by_steps(left, now) if left else ([], [])
        except DatabaseError as error:
            if not taken:
                raise
            # Those are SUBMITTED: unsent they would be looked up for half a minute. The rest is rung again.
            log.warning("claim_interrupted", orders=len(order_ids) - len(taken), error=type(error).__name__)
            return taken, []
    return [*taken, *submitted], ended


def _take_by_steps(order_ids: Sequence[int], now: datetime) -> tuple[list[Order], list[Order]]:
    with transaction.atomic():
        sendable, ended = drop_unsendable(claim(order_ids), now)
        return mark_submitted(sendable, now), ended


def _take_plain(order_ids: Sequence[int]) -> Iterator[list[Order]]:
    """Claim and submit, in one statement a venue, exits and stops at which there is nothing to decide.

    Those are a futures position's that is open and shared with nobody, at a venue whose clock this process
    has measured. It is both steps of the table at once, with the conditions of both: free, ripe, and not
    outlived. Whatever else is among them takes the steps one by one.
    """
    for exchange, offset_ms in measured_clocks(Market.FUTURES).items():
        wall = timezone.now()
        yield _TAKE.ask(
            ids=order_ids,
            exchange=exchange,
            token=uuid4(),
            wall=wall,
            lease_until=wall + LEASE,
            request_timestamp_ms=int(wall.timestamp() * 1000) + offset_ms,
        )


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
    return _held(_CLAIM.ask(ids=order_ids, token=token, wall=wall, lease_until=wall + LEASE))


def drop_unsendable(orders: Sequence[Order], now: datetime) -> tuple[list[Order], list[Order]]:
    """Split claimed orders into those still to be sent and those ended here, with nothing sent.

    Asked right before the send: an entry past its deadline expires, one under a halt or of a paused account
    is cancelled. An exit or a stop is dropped only where it would meet what is not its position's.
    """
    has_entries = any(order.purpose == OrderPurpose.ENTRY for order in orders)
    board = halts.standing(now) if has_entries else halts.NONE
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
    The timestamp is the time of the order's own exchange as we know it. A sender that is paused after this
    line sends a request the exchange refuses as too old; that is the only fence there.
    """
    if not orders:
        return []
    wall = timezone.now()
    assert orders[0].lease_until is not None  # noqa: S101 -- claimed orders carry their lease
    late_by = wall - (orders[0].lease_until - LEASE)
    lease_until, sent_at_ms = wall + LEASE, dict[int, int]()
    for timestamp_ms, mine in _by_timestamp(orders, wall).items():
        # What another owner took meanwhile, or a halt cancelled, is not ours to send.
        ours = _SUBMIT.ask(
            ids=[order.pk for order in mine],
            token=orders[0].claimed_by,
            wall=wall,
            moment=now + late_by,
            lease_until=lease_until,
            request_timestamp_ms=timestamp_ms,
        )
        sent_at_ms |= dict.fromkeys(ours, timestamp_ms)
    submitted = [order for order in orders if order.pk in sent_at_ms]
    for order in submitted:
        order.status, order.request_timestamp_ms = OrderStatus.SUBMITTED, sent_at_ms[order.pk]
        order.submitted_at, order.lease_until, order.due_at = wall, lease_until, lease_until
    return submitted


def _by_timestamp(orders: Sequence[Order], wall: datetime) -> dict[int, list[Order]]:
    """The orders by what their requests will carry: each exchange, and each of its markets, has a clock."""
    by_clock: dict[tuple[str, str], list[Order]] = defaultdict(list)
    for order in orders:
        by_clock[order.account.exchange, order.market].append(order)
    by_timestamp: dict[int, list[Order]] = defaultdict(list)
    for mine in by_clock.values():
        offset_ms = median_low(clock_offset_ms(order.account, Market(order.market)) for order in mine)
        by_timestamp[int(wall.timestamp() * 1000) + offset_ms] += mine
    return by_timestamp


def _held(order_ids: Sequence[int]) -> list[Order]:
    """Claimed orders. A decision and a halt's scope are read once, not once for each account."""
    orders: list[Order] = _CLAIMED.ask(ids=order_ids) if order_ids else []
    shares = [order.allocation for order in orders if order.allocation is not None]
    decisions = Decision.objects.defer("candidates", "inputs").in_bulk({one.decision_id for one in shares})
    for share in shares:
        share.relate(decision=decisions[share.decision_id])
    return orders


def _why_not(order: Order, board: halts.HaltBoard, now: datetime) -> str:
    if order.purpose != OrderPurpose.ENTRY:
        return SkipCode.OUTLIVED if _is_outlived(order) else ""
    if order.deadline_at is not None and now > order.deadline_at:
        return ExpireCode.DEADLINE
    if board.blocks_entry(order.account, order.symbol):
        return SkipCode.HALTED
    return "" if order.account.is_enabled else SkipCode.PAUSED


def _is_outlived(order: Order) -> bool:
    """Whether its position was closed while it waited, or beside a stranger holds less than it would sell.

    Sent all the same it would reduce whatever is held there next: a stranger's share, or an entry of ours.
    """
    held = order.position
    if held is None:
        return False
    is_shared_exit = held.foreign_quantity > 0 and order.purpose == OrderPurpose.EXIT
    sells_more = is_shared_exit and order.quantity is not None and order.quantity > held.quantity
    return sells_more or held.status == PositionStatus.CLOSED


def _owned(order: Order) -> QuerySet[Order]:
    return Order.objects.filter(pk=order.pk, claimed_by=order.claimed_by, fence=order.fence)
