"""Recording: what an answer means for the order's row, its allocation, its position and its breaker."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts.services import breakers
from accounts.services.among import Among
from accounts.services.fixed_queries import AmongGiven, FixedQuery
from exchange.errors import GatewayError, OrderNotPlaced, Throttled, VenueUnavailable
from exchange.port import Market, OrderReport, ReportStatus
from trading.domain import fallback
from trading.domain.states import TERMINAL, OrderPurpose, OrderStatus, predecessors
from trading.models import Allocation, Order
from trading.services.bells import Bells
from trading.services.execution.answers import Answer
from trading.services.fills import Executions, record_executions, warm_market_table
from trading.services.many_rows import change_rows
from trading.services.position_rows import hold_accounts
from trading.services.shares import settle_shares

log = structlog.get_logger(__name__)

FIRST_LOOK = timedelta(milliseconds=300)
FILLS_LOOK = timedelta(seconds=1)
SHORTEST_WAIT_SECONDS = 0.25

PROVEN = frozenset({OrderStatus.ACKNOWLEDGED, OrderStatus.PARTIALLY_FILLED})
"""An order in one of these was seen at the exchange."""

STATUS_OF: dict[ReportStatus, OrderStatus] = {
    ReportStatus.NEW: OrderStatus.ACKNOWLEDGED,
    ReportStatus.PARTIALLY_FILLED: OrderStatus.PARTIALLY_FILLED,
    ReportStatus.FILLED: OrderStatus.FILLED,
    ReportStatus.CANCELLED: OrderStatus.CANCELLED,
    ReportStatus.EXPIRED: OrderStatus.EXPIRED,
    ReportStatus.REJECTED: OrderStatus.REJECTED,
    # It fired and became an ordinary order under the same client id; that one's end will be ours.
    ReportStatus.TRIGGERED: OrderStatus.ACKNOWLEDGED,
}


@dataclass(frozen=True, slots=True)
class Reported:
    """What the exchange said of one order. `answered_at` is the wall clock of its arrival.

    `fills_known` says that every execution behind the report is about to be a row; those that are rows by
    now are seen there.
    """

    order: Order
    report: OrderReport
    fills_known: bool = False
    answered_at: datetime = field(default_factory=timezone.now)


def record(answers: Sequence[Answer], now: datetime) -> Bells:
    """Write a chunk's answers in one transaction and return what is due next."""
    executions = [
        Executions(answer.order.account_id, Market(answer.order.market), answer.fills)
        for answer in answers
        if answer.fills
    ]
    for kind in {one.market for one in executions}:
        warm_market_table(kind)
    bells = Bells()
    with transaction.atomic():
        # Accounts before orders, as whoever records executions does: the other way round is a deadlock.
        hold_accounts(answer.order.account_id for answer in answers)
        bells.add(apply_reports([_reported(answer) for answer in answers if answer.report], now))
        breakers.note_successes(
            [(one.order.account_id, one.order.symbol) for one in answers if _is_entry_placed(one)], now
        )
        for answer in answers:
            if answer.error is not None:
                bells.add(_record_error(answer.order, answer.error, now))
        if executions:
            bells.add(record_executions(executions, now))
        bells.unread = _unread(answers)
        awaited = set(bells.unread)
        settle_shares(_shares_of(answer.order for answer in answers if answer.order.pk not in awaited), now)
    # Whoever brings their executions rings for their positions, and may have done so by now.
    waiting = {
        answer.order.position_id
        for answer in answers
        if answer.order.pk in awaited or _is_told_elsewhere(answer)
    }
    bells.positions = [pk for pk in bells.positions if pk not in waiting]
    return bells


def _shares_of(orders: Iterable[Order]) -> set[int]:
    return {order.allocation_id for order in orders if order.allocation_id is not None}


def _unread(answers: Sequence[Answer]) -> list[int]:
    """Orders that filled and whose executions came neither with the answer nor, until now, by a stream."""
    filled = [answer.order.pk for answer in answers if answer.report and not answer.has_all_fills]
    if not filled:
        return []
    missing = Order.objects.filter(Among("pk", filled), status__in=TERMINAL, fills_complete=False)
    return list(missing.order_by("pk").values_list("pk", flat=True))


def _is_told_elsewhere(answer: Answer) -> bool:
    """Whether an exit's executions came by another road than with its answer."""
    is_filled = answer.report is not None and answer.report.filled_quantity > 0
    return is_filled and not answer.has_all_fills and answer.order.purpose == OrderPurpose.EXIT


def _is_entry_placed(answer: Answer) -> bool:
    return answer.error is None and answer.order.purpose == OrderPurpose.ENTRY


def _reported(answer: Answer) -> Reported:
    assert answer.report is not None  # noqa: S101 -- asked for those that have one
    return Reported(answer.order, answer.report, fills_known=answer.has_all_fills, answered_at=answer.at)


def apply_report(order: Order, report: OrderReport, now: datetime, *, fills_known: bool = False) -> Bells:
    """As `apply_reports` for one order; its row in memory is read again."""
    bells = apply_reports([Reported(order, report, fills_known=fills_known)], now)
    order.refresh_from_db()
    return bells


def apply_reports(told: Sequence[Reported], now: datetime) -> Bells:
    """Move rows to what the exchange says, by compare-and-set; a stale report changes nothing.

    Reports of one order are applied in the order given. In memory only what the rows said before is kept.
    What a row says already is not written to it again.
    """
    bells = Bells()
    waiting = list(told)
    while waiting:
        turn: dict[int, Reported] = {}
        for one in waiting:
            turn.setdefault(one.order.pk, one)
        waiting = [one for one in waiting if turn[one.order.pk] is not one]
        bells.add(_apply_each_once(list(turn.values()), now))
    return bells


def _apply_each_once(told: Sequence[Reported], now: datetime) -> Bells:
    """What other roads wrote meanwhile counts: executions that are rows by now, a position, a second id."""
    rows = _KNOWN.ask(ids=[one.order.pk for one in told])
    known = {pk: dict(zip(KNOWN_COLUMNS, columns, strict=True)) for pk, *columns in rows}
    moved: dict[int, Reported] = {}
    for status, same in _by_status(told).items():
        there = [one for one in same if one.order.pk in known]
        for one in there:
            for name, value in known[one.order.pk].items():
                setattr(one.order, name, value)
        moved |= {one.order.pk: one for one in _move(status, there, now)}
    in_order = [one for one in told if one.order.pk in moved]
    _note_acknowledgements(in_order)
    return due_after_all([one.order for one in in_order])


def _by_status(told: Sequence[Reported]) -> dict[OrderStatus, list[Reported]]:
    found: dict[OrderStatus, list[Reported]] = defaultdict(list)
    for one in told:
        found[STATUS_OF[one.report.status]].append(one)
    return found


KNOWN_COLUMNS = (
    *("status", "filled_quantity", "position_id", "exchange_order_id", "triggered_order_id"),
    *("fills_complete", "acknowledged_at"),
)
_KNOWN = FixedQuery(
    lambda: Order.objects.filter(AmongGiven("pk", "ids")).order_by().values_list("pk", *KNOWN_COLUMNS)
)
MOVED_COLUMNS = (
    "exchange_order_id",
    "triggered_order_id",
    "fills_complete",
    "due_at",
    "message",
    "acknowledged_at",
)


def _move(status: OrderStatus, told: Sequence[Reported], now: datetime) -> list[Reported]:
    """The compare-and-set of many rows to one status, in one statement; those that are there now."""
    wall = timezone.now()
    same: dict[str, object] = {"status": status, "unknown_since": None, "lease_until": None}
    moved = {one.order.pk for one in told if _is_known_whole(one)}
    for only, group in _movable(status, [one for one in told if one.order.pk not in moved]):
        rows = [_moved_row(one, status, now, wall) for one in group]
        moved |= set(
            change_rows(
                Order,
                [*MOVED_COLUMNS, "finished_at"] if status in TERMINAL else MOVED_COLUMNS,
                rows,
                same=same,
                # The first of two roads tells when; the row in memory may be older than both.
                first_stays=("acknowledged_at", "finished_at"),
                only=only,
            )
        )
    for one in told:
        if one.order.pk in moved and one.order.status != status:
            log.info(
                "order_moved",
                client_order_id=one.order.client_order_id,
                symbol=one.order.symbol,
                status=str(status),
            )
    return [one for one in told if one.order.pk in moved]


def _is_known_whole(one: Reported) -> bool:
    """Whether the row says all that a report of a whole fill could: it is not written again.

    Answer and stream tell the same of each entry. Which of them is second finds all of it written.
    """
    order = one.order
    return (
        one.report.status == ReportStatus.FILLED
        and order.status == OrderStatus.FILLED
        and order.fills_complete
        and order.acknowledged_at is not None
        and _exchange_ids(order, one.report) == (order.exchange_order_id, order.triggered_order_id)
    )


def _moved_row(one: Reported, status: OrderStatus, now: datetime, wall: datetime) -> list[object]:
    order, report = one.order, one.report
    complete = one.fills_known or order.filled_quantity >= report.filled_quantity
    exchange_order_id, triggered_order_id = _exchange_ids(order, report)
    row: list[object] = [
        order.pk,
        exchange_order_id,
        triggered_order_id,
        complete and status in TERMINAL,
        _next_look(order, report, wall, complete=complete),
        report.reject_reason[:300],
        one.answered_at,
    ]
    return [*row, now] if status in TERMINAL else row


def due_after(order: Order) -> Bells:
    """Whoever waits for this order: its decision, or the position it protects or reduces."""
    return due_after_all([order])


def due_after_all(orders: Sequence[Order]) -> Bells:
    """As `due_after` of many, each of them once."""
    decisions = (order.allocation.decision_id for order in orders if order.allocation is not None)
    positions = (order.position_id for order in orders if order.position_id is not None)
    return Bells(decisions=list(dict.fromkeys(decisions)), positions=list(dict.fromkeys(positions)))


def end_unplaced(
    order: Order, status: OrderStatus, code: str, message: str, now: datetime, *, offer_on: bool
) -> Bells:
    """End an order that certainly is not at the exchange; `offer_on` lets another attempt take its share."""
    # What the exchange acknowledged, or executed in part, is there, whoever says otherwise; and what a later
    # owner of the same id has sent is none of ours.
    ended = Order.objects.filter(
        pk=order.pk, fence=order.fence, status__in=predecessors(status) - PROVEN, filled_quantity=0
    ).update(
        status=status,
        code=code,
        message=message[:300],
        finished_at=now,
        lease_until=None,
        due_at=None,
        unknown_since=None,
        fills_complete=True,
    )
    if not ended:
        return Bells()
    log.info("order_not_placed", client_order_id=order.client_order_id, code=code)
    order.refresh_from_db()
    bells = due_after(order)
    if order.purpose == OrderPurpose.ENTRY and order.allocation_id and offer_on:
        bells.allocations.append(order.allocation_id)
    return bells


def _record_error(order: Order, error: GatewayError, now: datetime) -> Bells:
    if isinstance(error, Throttled):
        return _put_back(order, error)
    if isinstance(error, OrderNotPlaced):
        if order.purpose == OrderPurpose.ENTRY:
            breakers.note_rejection(order.account, order.symbol, error.code, now)
        offer_on = isinstance(error, VenueUnavailable) or fallback.may_be_offered_on(error.code)
        return end_unplaced(order, OrderStatus.REJECTED, error.code, error.message, now, offer_on=offer_on)
    return _mark_unknown(order, error)


def _put_back(order: Order, error: Throttled) -> Bells:
    """Let the same id go again after the wait the exchange asked for: it was definitely refused."""
    wait = max(error.retry_after_seconds, SHORTEST_WAIT_SECONDS)
    Order.objects.filter(pk=order.pk, fence=order.fence, status=OrderStatus.SUBMITTED).update(
        status=OrderStatus.PENDING,
        code=error.code,
        lease_until=None,
        due_at=timezone.now() + timedelta(seconds=wait),
    )
    if order.purpose == OrderPurpose.ENTRY:
        return Bells(entries=[order.pk])
    return Bells(exits=[order.pk])


def _mark_unknown(order: Order, error: GatewayError) -> Bells:
    wall = timezone.now()
    marked = Order.objects.filter(pk=order.pk, fence=order.fence, status=OrderStatus.SUBMITTED).update(
        status=OrderStatus.UNKNOWN,
        code=error.code,
        message=error.message[:300],
        unknown_since=wall,
        lease_until=None,
        due_at=wall + FIRST_LOOK,
    )
    if not marked:
        return Bells()
    log.warning("order_outcome_unknown", client_order_id=order.client_order_id, code=error.code)
    bells = due_after(order)
    bells.resolve.append(order.pk)
    return bells


def _movable(status: OrderStatus, told: Sequence[Reported]) -> Iterator[tuple[Q, list[Reported]]]:
    """The rows a status may move, as conditions and what they are asked for.

    An ended order goes back to being partly filled only for an execution that it lacks.
    """
    before = predecessors(status)
    if status != OrderStatus.PARTIALLY_FILLED:
        yield Q(status__in=before | {status}), list(told)
        return
    for one in told:
        late = Q(status__in=before & TERMINAL, filled_quantity__lt=one.report.filled_quantity)
        yield Q(status__in=(before - TERMINAL) | {status}) | late, [one]


def _note_acknowledgements(told: Sequence[Reported]) -> None:
    """Keep the first answer's arrival and its distance from the decision, both by the wall clock."""
    rows = [
        (order.allocation.pk, one.answered_at, _latency_ms(order.allocation, one.answered_at))
        for one in told
        if (order := one.order).allocation is not None and order.allocation.acknowledged_at is None
    ]
    unanswered = Q(acknowledged_at__isnull=True)
    change_rows(Allocation, ("acknowledged_at", "latency_ms"), rows, only=unanswered)


def _latency_ms(allocation: Allocation, at: datetime) -> int:
    since = at - allocation.decision.recorded_at
    return max(0, round(since.total_seconds() * 1000))


def _exchange_ids(order: Order, report: OrderReport) -> tuple[str, str]:
    """Its own id and the triggered one: a stop that fired has a second id, in the ordinary store."""
    if order.is_conditional and not report.is_conditional:
        return order.exchange_order_id, report.exchange_order_id or order.triggered_order_id
    return (
        report.exchange_order_id or order.exchange_order_id,
        report.triggered_order_id or order.triggered_order_id,
    )


def _next_look(order: Order, report: OrderReport, wall: datetime, *, complete: bool) -> datetime | None:
    """When the row must be looked at again, were no stream to tell: never for a stop that simply rests."""
    if report.status == ReportStatus.TRIGGERED or not complete:
        return wall + FILLS_LOOK
    if STATUS_OF[report.status] in TERMINAL:
        return None
    is_resting = report.is_conditional and report.status == ReportStatus.NEW
    if is_resting and not order.triggered_order_id:
        return None
    return wall + FILLS_LOOK
