"""Recording: what an answer means for the order's row, its allocation, its position and its breaker."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

import structlog
from django.db import transaction
from django.db.models import Case, DateTimeField, Field, PositiveIntegerField, Q, Value, When
from django.db.models.functions import Coalesce
from django.utils import timezone

from accounts.services import breakers
from exchange.errors import GatewayError, OrderNotPlaced, Throttled, VenueUnavailable
from exchange.port import Market, OrderReport, ReportStatus
from trading.domain import fallback
from trading.domain.states import TERMINAL, OrderPurpose, OrderStatus, predecessors
from trading.models import Allocation, Order
from trading.services.bells import Bells
from trading.services.execution.answers import Answer
from trading.services.fills import Executions, record_executions, warm_market_table
from trading.services.position_rows import lock_accounts

log = structlog.get_logger(__name__)

FIRST_LOOK = timedelta(milliseconds=300)
FILLS_LOOK = timedelta(seconds=1)
SHORTEST_WAIT_SECONDS = 0.25

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


def record(answers: Sequence[Answer], now: datetime) -> Bells:
    """Write a chunk's answers in one transaction and return what is due next."""
    bells = Bells()
    executions = [
        Executions(answer.order.account_id, Market(answer.order.market), answer.fills)
        for answer in answers
        if answer.fills
    ]
    for kind in {one.market for one in executions}:
        warm_market_table(kind)
    with transaction.atomic():
        # Accounts before orders, as whoever records executions does: the other way round is a deadlock.
        lock_accounts(one.account_id for one in executions)
        for is_entry_placed, run in groupby(answers, key=_is_entry_placed):
            if is_entry_placed:
                bells.add(_record_entries(list(run), now))
            else:
                for answer in run:
                    bells.add(_record_one(answer, now))
        if executions:
            bells.add(record_executions(executions, now))
    return bells


def _is_entry_placed(answer: Answer) -> bool:
    return answer.error is None and answer.order.purpose == OrderPurpose.ENTRY


def apply_report(
    order: Order,
    report: OrderReport,
    now: datetime,
    *,
    fills_known: bool = False,
    answered_at: datetime | None = None,
) -> Bells:
    """Move the row to what the exchange says, by compare-and-set; a stale report changes nothing.

    `fills_known` says that every execution behind the report is already, or is about to be, a row;
    `answered_at` is the wall clock of the report's arrival, now when not told.
    """
    answered_at = answered_at or timezone.now()
    if not _move(order, report, now, fills_known=fills_known, answered_at=answered_at):
        return Bells()
    _note_acknowledgements([(order, answered_at)])
    order.refresh_from_db()
    return due_after(order)


def _move(
    order: Order, report: OrderReport, now: datetime, *, fills_known: bool, answered_at: datetime
) -> bool:
    """The compare-and-set of `apply_report` alone; the row in memory stays as it was."""
    status = STATUS_OF[report.status]
    complete = fills_known or report.filled_quantity == 0
    changes: dict[str, object] = {
        "status": status,
        **_exchange_ids(order, report),
        "fills_complete": complete and status in TERMINAL,
        "unknown_since": None,
        "lease_until": None,
        "due_at": _next_look(order, report, timezone.now(), complete=complete),
        "message": report.reject_reason[:300],
        # The first of two roads tells when; the row in memory may be older than both.
        "acknowledged_at": Coalesce("acknowledged_at", Value(answered_at)),
    }
    if status in TERMINAL:
        changes["finished_at"] = Coalesce("finished_at", Value(now))
    if not Order.objects.filter(_may_become(status, report), pk=order.pk).update(**changes):
        return False
    if order.status != status:
        log.info(
            "order_moved", client_order_id=order.client_order_id, symbol=order.symbol, status=str(status)
        )
    return True


def due_after(order: Order) -> Bells:
    """Whoever waits for this order: its decision, or the position it protects or reduces."""
    bells = Bells()
    if order.allocation is not None:
        bells.decisions.append(order.allocation.decision_id)
    if order.position_id is not None:
        bells.positions.append(order.position_id)
    return bells


def end_unplaced(
    order: Order, status: OrderStatus, code: str, message: str, now: datetime, *, offer_on: bool
) -> Bells:
    """End an order that certainly is not at the exchange; `offer_on` lets another attempt take its share."""
    ended = Order.objects.filter(pk=order.pk, status__in=predecessors(status)).update(
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


def _record_entries(answers: Sequence[Answer], now: datetime) -> Bells:
    """Entries that were taken: what one query can say of all of them is not asked of each."""
    moved = [answer for answer in answers if _move_to_answer(answer, now)]
    _note_acknowledgements([(answer.order, answer.at) for answer in moved])
    bells = _due_after_all([answer.order for answer in moved])
    breakers.note_successes([(answer.order.account_id, answer.order.symbol) for answer in answers], now)
    return bells


def _move_to_answer(answer: Answer, now: datetime) -> bool:
    assert answer.report is not None  # noqa: S101 -- an answer is a report or an error
    return _move(answer.order, answer.report, now, fills_known=answer.has_all_fills, answered_at=answer.at)


def _due_after_all(orders: Sequence[Order]) -> Bells:
    """As `due_after`; an execution told by the stream may have given an order its position meanwhile."""
    given = dict(Order.objects.filter(pk__in=[order.pk for order in orders]).values_list("pk", "position_id"))
    bells = Bells()
    for order in orders:
        order.position_id = given[order.pk]
        bells.add(due_after(order))
    return bells


def _record_one(answer: Answer, now: datetime) -> Bells:
    order = answer.order
    if answer.error is not None:
        return _record_error(order, answer.error, now)
    assert answer.report is not None  # noqa: S101 -- an answer is a report or an error
    return apply_report(order, answer.report, now, fills_known=answer.has_all_fills, answered_at=answer.at)


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
    Order.objects.filter(pk=order.pk, claimed_by=order.claimed_by, status=OrderStatus.SUBMITTED).update(
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
    marked = Order.objects.filter(pk=order.pk, status=OrderStatus.SUBMITTED).update(
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


def _may_become(status: OrderStatus, report: OrderReport) -> Q:
    """The rows a report may move: an ended one goes back to being filled only for an execution it lacks."""
    before = predecessors(status)
    if status != OrderStatus.PARTIALLY_FILLED:
        return Q(status__in=before | {status})
    late = Q(status__in=before & TERMINAL, filled_quantity__lt=report.filled_quantity)
    return Q(status__in=(before - TERMINAL) | {status}) | late


def _note_acknowledgements(answered: Sequence[tuple[Order, datetime]]) -> None:
    """Keep the first answer's arrival and its distance from the decision, both by the wall clock."""
    arrivals = {
        order.allocation.pk: (at, _latency_ms(order.allocation, at))
        for order, at in answered
        if order.allocation is not None and order.allocation.acknowledged_at is None
    }
    if not arrivals:
        return
    Allocation.objects.filter(pk__in=arrivals, acknowledged_at__isnull=True).update(
        acknowledged_at=_by_key({pk: at for pk, (at, _) in arrivals.items()}, DateTimeField()),
        latency_ms=_by_key({pk: ms for pk, (_, ms) in arrivals.items()}, PositiveIntegerField()),
    )


def _latency_ms(allocation: Allocation, at: datetime) -> int:
    since = at - allocation.decision.recorded_at
    return max(0, round(since.total_seconds() * 1000))


def _by_key(values: Mapping[int, object], column: "Field[Any, Any]") -> Case:
    """One statement's value for each of many rows."""
    return Case(
        *(When(pk=pk, then=Value(value, column)) for pk, value in values.items()), output_field=column
    )


def _exchange_ids(order: Order, report: OrderReport) -> dict[str, str]:
    """Where the report's id belongs: a stop that fired has a second id, in the ordinary store."""
    if order.is_conditional and not report.is_conditional:
        return {"triggered_order_id": report.exchange_order_id or order.triggered_order_id}
    return {
        "exchange_order_id": report.exchange_order_id or order.exchange_order_id,
        "triggered_order_id": report.triggered_order_id or order.triggered_order_id,
    }


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
