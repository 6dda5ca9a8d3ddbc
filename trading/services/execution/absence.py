"""Absence: when an order that neither store shows may be called not placed.

After at least three successful looks in both stores, the last one begun the receive window plus 5 s after the
first, and only when the lists of open orders, the executions on the symbol since the send and the position
there say nothing else. Whatever could not be read, or is explained by nobody, leaves the order unknown.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

import structlog
from django.utils import timezone

from exchange.budget import Priority, priority
from exchange.loop import IoLoop
from exchange.port import ExchangeGateway, FillReport, Market, OrderReport, OrderSide, PositionReport
from trading.domain.states import OrderStatus, PositionStatus
from trading.models import Fill, Order, Position
from trading.services.fills import record_fills

log = structlog.get_logger(__name__)

LOOKS = 3
SPAN = timedelta(seconds=10)
SEARCH_SECONDS = 15.0
NAMES_ASKED = 20
"""So many orders behind executions are asked for their names at a look; the rest at the next one."""
COUNTED_LOOKS = 30_000
"""The column holds no more."""
ZERO = Decimal(0)

Absent = tuple[Order, ExchangeGateway]


@dataclass(frozen=True, slots=True)
class Traces:
    """What an order the stores do not show would have left: executions since the send, and a position."""

    executions: Sequence[FillReport] = ()
    positions: Sequence[PositionReport] = ()


def count_look(order: Order, wait: timedelta) -> bool:
    """Count a look that found nothing; False when the row moved or another look was counted meanwhile."""
    wall = timezone.now()
    looks, first = min(order.looks + 1, COUNTED_LOOKS), order.first_look_at or wall
    due = wall + wait
    if wall < first + SPAN:  # the look that may prove it is not put off
        due = min(due, first + SPAN)
    counted = Order.objects.filter(pk=order.pk, status=OrderStatus.UNKNOWN, looks=order.looks).update(
        looks=looks, first_look_at=first, due_at=due
    )
    order.looks, order.first_look_at = looks, first
    return bool(counted)


def judge(
    absent: Sequence[Absent], asked_at: datetime, now: datetime
) -> Iterator[tuple[Order, OrderReport | bool]]:
    """Whether the look begun at `asked_at` (wall clock) proves an order absent; its report when found."""
    ripe = [one for one in absent if _may_be_proven(one[0], asked_at)]
    found = IoLoop.current().run_all([_search(order, gateway) for order, gateway in ripe], SEARCH_SECONDS)
    traces = {order.pk: trace for (order, _), trace in zip(ripe, found, strict=True)}
    for order, gateway in absent:
        trace = traces.get(order.pk)
        if isinstance(trace, OrderReport):
            yield order, trace
        elif isinstance(trace, Traces):
            yield order, _leave_no_doubt(order, trace, gateway, now)
        else:
            if trace is not None:
                log.warning("search_failed", client_order_id=order.client_order_id, error=str(trace)[:200])
            yield order, False


def _may_be_proven(order: Order, asked_at: datetime) -> bool:
    """Three looks, the last begun long enough after the first: a look that took long is no later for it."""
    assert order.first_look_at is not None  # noqa: S101 -- set with the first look counted
    if order.exchange_order_id or order.triggered_order_id or order.filled_quantity:
        return False  # some other road told of it
    return order.looks >= LOOKS and asked_at - order.first_look_at >= SPAN


async def _search(order: Order, gateway: ExchangeGateway) -> OrderReport | Traces:
    """Look where else an order would show that neither store tells of by its client id."""
    with priority(Priority.LOOKUP):
        for is_conditional in (order.is_conditional, not order.is_conditional):
            for report in await gateway.fetch_open_orders(order.symbol, is_conditional=is_conditional):
                if report.client_order_id == order.client_order_id:
                    return report
        since = order.submitted_at or timezone.now() - SPAN
        executions = await gateway.fetch_fills(order.symbol, since=since - timedelta(seconds=1))
        is_futures = order.market == Market.FUTURES
        return Traces(executions, await gateway.fetch_positions() if is_futures else ())


def _leave_no_doubt(order: Order, traces: Traces, gateway: ExchangeGateway, now: datetime) -> bool:
    """Whether every execution this way has another owner, and the position is what they explain."""
    unnamed = _unnamed(order, traces.executions)
    asked = unnamed[:NAMES_ASKED]
    answers = IoLoop.current().run_all([_owner(order, gateway, number) for number in asked], SEARCH_SECONDS)
    answered = zip(asked, answers, strict=True)
    owners = {number: name for number, name in answered if isinstance(name, str)}
    for number, name in owners.items():
        if name == order.client_order_id:
            _adopt(order, number, traces.executions, now)
            return False
    return len(owners) == len(unnamed) and not _has_moved(order, traces)


async def _owner(order: Order, gateway: ExchangeGateway, number: str) -> str:
    with priority(Priority.LOOKUP):
        return await gateway.fetch_client_order_id(order.symbol, number)


def _unnamed(order: Order, executions: Sequence[FillReport]) -> list[str]:
    """The exchange's numbers of orders that executed this way and of which no row of ours tells whose.

    A row without an order and without a name proves nothing: read by its symbol, our own looks like that.
    """
    same_way = [one for one in executions if one.side == order.side]
    rows = Fill.objects.filter(
        account_id=order.account_id,
        symbol=order.symbol,
        market=order.market,
        trade_id__in=[one.trade_id for one in same_way],
    )
    named = set(rows.exclude(order=None, client_order_id="").values_list("trade_id", flat=True))
    return list(dict.fromkeys(one.exchange_order_id for one in same_way if one.trade_id not in named))


def _adopt(order: Order, number: str, executions: Sequence[FillReport], now: datetime) -> None:
    """It executed, whatever the stores say: its executions are booked, and it is never called absent."""
    log.warning("order_found_by_execution", client_order_id=order.client_order_id, number=number)
    # What a futures stop executes is numbered as the ordinary order it became.
    is_elsewhere = order.is_conditional and order.market == Market.FUTURES
    column = "triggered_order_id" if is_elsewhere else "exchange_order_id"
    Order.objects.filter(pk=order.pk, status=OrderStatus.UNKNOWN).update(**{column: number})
    ours = [one for one in executions if one.exchange_order_id == number]
    record_fills(order.account, Market(order.market), ours, now)


def _has_moved(order: Order, traces: Traces) -> bool:
    """Whether the exchange holds more this way than our rows and the executions not yet booked explain.

    A spot wallet says nothing: coins come from anywhere.
    """
    if order.market != Market.FUTURES:
        return False
    here = {"account_id": order.account_id, "market": order.market, "symbol": order.symbol}
    booked = set(
        Fill.objects.filter(**here, trade_id__in=[one.trade_id for one in traces.executions]).values_list(
            "trade_id", flat=True
        )
    )
    rows = Position.objects.filter(**here, status=PositionStatus.OPEN)
    ours = sum((_signed(one.quantity + one.foreign_quantity, one.is_long) for one in rows), ZERO)
    unbooked = sum(
        (
            _signed(one.quantity, one.side == OrderSide.BUY)
            for one in traces.executions
            if one.trade_id not in booked
        ),
        ZERO,
    )
    there = sum(
        (_signed(one.quantity, one.is_long) for one in traces.positions if one.symbol == order.symbol), ZERO
    )
    return _signed(there - ours - unbooked, order.side == OrderSide.BUY) > 0


def _signed(quantity: Decimal, is_up: bool) -> Decimal:
    return quantity if is_up else -quantity
