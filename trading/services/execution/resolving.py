"""Looking up: the only step after an unclear answer, and the way rows learn what streams did not tell.

Absence is proven by the rule of `absence`. A full close is the one exception: reduce-only, it may be tried
again after one look and one read of the position, for where nobody else holds anything it can close nothing
twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.db import transaction
from django.db.models import Min, Q
from django.utils import timezone

from accounts.services.gateways import gateway_for
from alerts.models import Severity
from alerts.services import clear_alert, raise_alert
from exchange.budget import Priority, priority
from exchange.errors import GatewayError
from exchange.loop import IoLoop
from exchange.port import ExchangeGateway, FillReport, Market, OrderReport, ReportStatus
from trading.domain.states import ExpireCode, OrderPurpose, OrderStatus, PositionStatus
from trading.models import Order
from trading.services import pictures
from trading.services.bells import Bells
from trading.services.execution import absence, recording
from trading.services.fills import record_fills, warm_market_table
from trading.services.position_rows import lock_accounts
from trading.services.stops import STOPS

log = structlog.get_logger(__name__)

BACK_OFF_SECONDS = (0.3, 1.0, 2.0, 4.0, 5.0)
ALARM_AFTER = timedelta(seconds=60)
LOOK_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Look:
    """One successful look in both stores: what was found, and its executions.

    `fired` is the stop that became the ordinary order of the report.
    """

    report: OrderReport | None
    fills: Sequence[FillReport] = ()
    fired: OrderReport | None = None
    is_position_open: bool = False


def resolve(order_ids: Sequence[int], now: datetime) -> Bells:
    """Look up orders whose fate is unclear: UNKNOWN ones, and SUBMITTED ones whose sender is gone."""
    wall = timezone.now()
    Order.objects.filter(pk__in=order_ids, status=OrderStatus.SUBMITTED, lease_until__lt=wall).update(
        status=OrderStatus.UNKNOWN, code="SENDER_GONE", unknown_since=wall, lease_until=None
    )
    bells = _look_at(hold_ripe(order_ids, wall), now)
    waiting = Order.objects.filter(pk__in=order_ids, status=OrderStatus.UNKNOWN, due_at__gt=wall)
    bells.resolve.extend(pk for pk in waiting.values_list("pk", flat=True) if pk not in bells.resolve)
    return bells


def seconds_until_look(order_ids: Sequence[int]) -> float:
    """How long until the first of these orders may be looked at again."""
    first = Order.objects.filter(pk__in=order_ids).aggregate(first=Min("due_at"))["first"]
    return max(0.0, (first - timezone.now()).total_seconds()) if first is not None else 0.0


def hold_ripe(order_ids: Sequence[int], wall: datetime) -> list[Order]:
    """Unclear orders whose wait is over, held for as long as a look takes.

    Rung by the sweep and by the last look, two workers would ask for the same order at once: twice the
    weight of a minute that exits need as well.
    """
    is_ripe = Q(due_at__isnull=True) | Q(due_at__lte=wall)
    with transaction.atomic():
        rows = Order.objects.filter(is_ripe, pk__in=order_ids, status=OrderStatus.UNKNOWN).order_by("pk")
        held = list(rows.select_for_update().values_list("pk", flat=True))
        Order.objects.filter(pk__in=held).update(due_at=wall + timedelta(seconds=LOOK_SECONDS))
    return _rows(held, frozenset({OrderStatus.UNKNOWN}))


def refresh(order_ids: Sequence[int], now: datetime) -> Bells:
    """Read orders the exchange is known to have had, and the executions still missing from our rows."""
    known = _rows(order_ids, frozenset({OrderStatus.ACKNOWLEDGED, OrderStatus.PARTIALLY_FILLED})) + list(
        Order.objects.filter(
            pk__in=order_ids,
            fills_complete=False,
            status__in=[OrderStatus.FILLED, OrderStatus.EXPIRED, OrderStatus.CANCELLED],
        ).select_related("account", "allocation__decision", "position")
    )
    return _look_at(known, now)


def _rows(order_ids: Sequence[int], statuses: frozenset[OrderStatus]) -> list[Order]:
    return list(
        Order.objects.filter(pk__in=order_ids, status__in=statuses).select_related(
            "account", "allocation__decision", "position"
        )
    )


def _look_at(orders: Sequence[Order], now: datetime) -> Bells:
    bells = Bells()
    looking: list[tuple[Order, ExchangeGateway]] = []
    for order in orders:
        try:
            looking.append((order, gateway_for(order.account, Market(order.market))))
        except GatewayError as error:
            bells.add(_postpone(order, error))
    asked_at = timezone.now()
    looks = IoLoop.current().run_all([_look(order, gateway) for order, gateway in looking], LOOK_SECONDS)
    absent: list[tuple[Order, ExchangeGateway]] = []
    for (order, gateway), look in zip(looking, looks, strict=True):
        if not isinstance(look, Look):
            bells.add(_postpone(order, look))
        elif look.report is not None:
            bells.add(_apply(order, [*filter(None, [look.fired]), look.report], look.fills, now))
        elif order.status != OrderStatus.UNKNOWN:
            bells.add(_end_gone(order, now) if _is_gone(order, asked_at) else _rest(order))
        elif absence.count_look(order, _back_off(order.looks + 1)):
            if look.is_position_open:  # sent again, a full close cannot close more than is there
                bells.add(_end_absent(order, now))
            else:
                absent.append((order, gateway))
    return bells.add(_conclude(absent, asked_at, now))


async def _look(order: Order, gateway: ExchangeGateway) -> Look:
    """Ask both stores; a conditional order that fired is followed to the ordinary order it became."""
    with priority(Priority.LOOKUP):
        return await _look_in_both(order, gateway)


async def _look_in_both(order: Order, gateway: ExchangeGateway) -> Look:
    name = order.client_order_id
    report = await gateway.fetch_order(order.symbol, name, is_conditional=order.is_conditional)
    if report is None and order.status == OrderStatus.UNKNOWN:
        report = await gateway.fetch_order(order.symbol, name, is_conditional=not order.is_conditional)
    fired = report if report is not None and report.status == ReportStatus.TRIGGERED else None
    if fired is not None:
        # The ordinary order it became carries the same client id, in the other store.
        became = await gateway.fetch_order(order.symbol, name, is_conditional=False)
        report, fired = (became, fired) if became is not None else (fired, None)
    if report is not None:
        return Look(report, await _fills(order, gateway, report), fired)
    return Look(None, is_position_open=await _is_open(order, gateway))


async def _fills(order: Order, gateway: ExchangeGateway, report: OrderReport) -> Sequence[FillReport]:
    # A futures stop that fired fills under another id; a spot stop stays one order in one store.
    is_elsewhere = report.is_conditional and order.market == Market.FUTURES
    if report.filled_quantity <= order.filled_quantity or is_elsewhere:
        return ()
    return await gateway.fetch_fills(order.symbol, exchange_order_id=report.exchange_order_id)


async def _is_open(order: Order, gateway: ExchangeGateway) -> bool:
    if order.status != OrderStatus.UNKNOWN or order.position is None or not _is_full_close(order):
        return False
    return pictures.our_share(await gateway.fetch_positions(), order.position) > 0


def _apply(order: Order, reports: Sequence[OrderReport], fills: Sequence[FillReport], now: datetime) -> Bells:
    """Write what was found: the last report is how the order stands, one before it how it came there."""
    filled = sum(fill.quantity for fill in fills) + (order.filled_quantity if not fills else 0)
    known = filled >= reports[-1].filled_quantity
    if fills:
        warm_market_table(Market(order.market))
    # One commit: an order whose fills count as known, and are not, is never read again.
    with transaction.atomic():
        lock_accounts([order.account_id] if fills else [])
        told = [recording.Reported(order, report, fills_known=known) for report in reports]
        bells = recording.apply_reports(told, now)
        order.refresh_from_db()
        if fills:
            bells.add(record_fills(order.account, Market(order.market), fills, now))
    clear_alert(f"unknown:{order.client_order_id}", now=now)
    return bells


def _rest(order: Order) -> Bells:
    """One look without an acknowledged order proves nothing; look again later.

    A stop that nobody finds must not count as protection either: its position is looked at at once.
    """
    Order.objects.filter(pk=order.pk).update(due_at=timezone.now() + timedelta(seconds=5), is_seen=False)
    return Bells(positions=[order.position_id] if order.position_id else [])


def _is_gone(order: Order, asked_at: datetime) -> bool:
    """Whether a stop nobody finds, long after it was accepted, has no position left to protect or to close.

    The exchange forgets what was cancelled days ago; its row would be cancelled again every second for ever.
    """
    if order.purpose not in STOPS or order.status not in recording.PROVEN or order.acknowledged_at is None:
        return False
    is_over = order.position is not None and order.position.status == PositionStatus.CLOSED
    return is_over and asked_at - order.acknowledged_at >= absence.SPAN


def _end_gone(order: Order, now: datetime) -> Bells:
    """Should it rest all the same, the audits that look for leftovers see it and cancel it."""
    Order.objects.filter(pk=order.pk, status__in=recording.PROVEN).update(
        status=OrderStatus.CANCELLED, code="GONE", finished_at=now, due_at=None, fills_complete=True
    )
    return recording.due_after(order)


def _conclude(absent: Sequence[tuple[Order, ExchangeGateway]], asked_at: datetime, now: datetime) -> Bells:
    """End the attempts that are proven absent; the others are looked at again."""
    bells = Bells()
    for order, verdict in absence.judge(absent, asked_at, now):
        if isinstance(verdict, OrderReport):
            bells.add(_apply(order, [verdict], (), now))
        elif verdict:
            bells.add(_end_absent(order, now))
        else:
            _alarm(order, timezone.now(), now)
            bells.resolve.append(order.pk)
            bells.resolve.extend(_resting_beside(order))
    return bells


def _resting_beside(order: Order) -> list[int]:
    """The stops beside an exit that three looks did not find: one that fired unheard may have closed it all.

    Until its executions are rows the exit cannot be called absent, for they could be the exit's.
    """
    if order.position_id is None or order.looks < absence.LOOKS:
        return []
    resting = Order.objects.filter(
        position=order.position_id,
        purpose__in=STOPS,
        status__in=(OrderStatus.ACKNOWLEDGED, OrderStatus.PARTIALLY_FILLED),
    )
    return list(resting.exclude(pk=order.pk).order_by("pk").values_list("pk", flat=True))


def _end_absent(order: Order, now: datetime) -> Bells:
    bells = recording.end_unplaced(order, OrderStatus.EXPIRED, ExpireCode.NOT_PLACED, "", now, offer_on=True)
    if bells:
        clear_alert(f"unknown:{order.client_order_id}", now=now)
    return bells


def _is_full_close(order: Order) -> bool:
    """Whether all of the position is meant to go, by an order that finds nothing else to close.

    A stranger's share on the same side it would find: sent twice it would sell that, too.
    """
    held = order.position
    if order.purpose != OrderPurpose.EXIT or not (order.reduce_only or order.position_side):
        return False
    return held is not None and bool(held.closing_for) and not held.foreign_quantity


def _postpone(order: Order, error: BaseException) -> Bells:
    """A failed look is no look: it counts for nothing and is made again."""
    wall = timezone.now()
    Order.objects.filter(pk=order.pk).update(due_at=wall + _back_off(order.looks + 1))
    log.warning("lookup_failed", client_order_id=order.client_order_id, error=type(error).__name__)
    if order.status == OrderStatus.UNKNOWN:
        _alarm(order, wall, wall)
        return Bells(resolve=[order.pk])
    return Bells()


def _alarm(order: Order, wall: datetime, now: datetime) -> None:
    if order.unknown_since is None or wall - order.unknown_since < ALARM_AFTER:
        return
    raise_alert(
        f"unknown:{order.client_order_id}",
        Severity.CRITICAL,
        "OUTCOME_UNKNOWN",
        f"Order {order.client_order_id} on {order.symbol}: the exchange has not said for over 60 s whether it"
        " exists. Its exposure stays reserved and nothing is sent in its place.",
        account=order.account.name,
        symbol=order.symbol,
        now=now,
    )


def _back_off(looks: int) -> timedelta:
    return timedelta(seconds=BACK_OFF_SECONDS[min(looks, len(BACK_OFF_SECONDS) - 1)])
