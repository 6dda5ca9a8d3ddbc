"""Fills: the only thing that makes or ends a position. The same fill from two roads is one row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db import transaction
from django.db.models import Q

from accounts.models import Account
from exchange.errors import ReadFailed
from exchange.port import FillReport, Market
from trading.domain.states import OrderStatus, predecessors
from trading.models import Fill, Order
from trading.services import market as market_tables
from trading.services import positions
from trading.services.bells import Bells


def record_fills(account: Account, market: Market, reports: Sequence[FillReport], now: datetime) -> Bells:
    """Insert the executions that are not yet rows, sum them on their orders and fold their positions.

    Idempotent: a known trade id changes nothing, unless it was taken for a stranger's and is now seen to be
    ours. One transaction, so a fill is never a row without its position having moved.
    """
    warm_market_table(market)
    with transaction.atomic():
        # Two roads must not fold one position at once.
        Account.objects.select_for_update(no_key=True).get(pk=account.pk)
        orders = _Orders.of(account, market, reports)
        rows = _new_rows(account, market, reports, orders)
        if not rows:
            return Bells()
        touched = {row.order.pk: row.order for row in rows if row.order is not None}
        for order in touched.values():
            sum_fills(order, now)
        bells = positions.fold(rows, now)
    bells.decisions.extend(
        {order.allocation.decision_id for order in touched.values() if order.allocation is not None}
    )
    return bells


def warm_market_table(kind: Market) -> None:
    """Read the market table before the transaction that will need it: no network inside one."""
    try:
        market_tables.instruments(kind)
    except ReadFailed:
        return  # the fold does without filters until they can be read


def sum_fills(order: Order, now: datetime) -> None:
    """Set an order's filled quantity and average price from its fills; an average is never guessed."""
    fills = list(order.fills.values_list("price", "quantity"))
    filled = sum((quantity for _, quantity in fills), Decimal(0))
    order.filled_quantity = filled
    order.average_price = sum((p * q for p, q in fills), Decimal(0)) / filled if filled else None
    order.save(update_fields=["filled_quantity", "average_price"])
    if order.quantity is not None and filled >= order.quantity:
        Order.objects.filter(pk=order.pk, status__in=predecessors(OrderStatus.FILLED)).update(
            status=OrderStatus.FILLED, finished_at=now, fills_complete=True
        )


def _new_rows(
    account: Account, market: Market, reports: Sequence[FillReport], orders: "_Orders"
) -> list[Fill]:
    """The executions that are not yet rows, inserted, and those that had no order and have one now.

    An execution read by its symbol before its order's number was known looks like a stranger's.
    """
    unique = {(report.symbol, report.trade_id): report for report in reports}
    trade_ids = [report.trade_id for report in reports]
    rows = Fill.objects.filter(account=account, market=market, trade_id__in=trade_ids)
    known = {(row.symbol, row.trade_id): row for row in rows}
    fresh = [
        _row(account, market, report, orders.behind(report))
        for key, report in unique.items()
        if key not in known
    ]
    Fill.objects.bulk_create(fresh)
    adopted = [row for key, row in known.items() if key in unique and _adopt(row, orders.behind(unique[key]))]
    return fresh + adopted


def _adopt(fill: Fill, order: Order | None) -> bool:
    """Give an execution without an order the one it belongs to; whether that changed anything."""
    if order is None or fill.order_id is not None:
        return False
    fill.order, fill.client_order_id = order, order.client_order_id
    fill.save(update_fields=["order", "client_order_id"])
    return True


@dataclass(frozen=True, slots=True)
class _Orders:
    """Our orders behind some executions. The exchange numbers the orders of each symbol by themselves."""

    by_client_id: Mapping[str, Order]
    by_exchange_id: Mapping[tuple[str, str], Order]

    @classmethod
    def of(cls, account: Account, market: Market, reports: Sequence[FillReport]) -> "_Orders":
        """Load them in one query."""
        exchange_ids = {report.exchange_order_id for report in reports}
        client_ids = {report.client_order_id for report in reports if report.client_order_id}
        found = Order.objects.select_related("allocation__decision", "position").filter(
            Q(exchange_order_id__in=exchange_ids)
            | Q(triggered_order_id__in=exchange_ids)
            | Q(client_order_id__in=client_ids),
            account=account,
            market=market,
        )
        orders = {order.client_order_id: order for order in found}
        return cls(orders, {key: order for order in orders.values() if (key := _exchange_key(order))[1]})

    def behind(self, report: FillReport) -> Order | None:
        """The order this execution belongs to; None for a stranger's."""
        by_id = self.by_exchange_id.get((report.symbol, report.exchange_order_id))
        return self.by_client_id.get(report.client_order_id) or by_id


def _exchange_key(order: Order) -> tuple[str, str]:
    """A futures stop's own id counts in another store: only the id of the order it became is a match."""
    has_own_store = order.is_conditional and order.market == Market.FUTURES
    return order.symbol, order.triggered_order_id if has_own_store else order.exchange_order_id


def _row(account: Account, market: Market, report: FillReport, order: Order | None) -> Fill:
    return Fill(
        account=account,
        order=order,
        position=order.position if order else None,
        market=market,
        symbol=report.symbol,
        trade_id=report.trade_id,
        exchange_order_id=report.exchange_order_id,
        client_order_id=report.client_order_id,
        side=report.side,
        price=report.price,
        quantity=report.quantity,
        fee=report.fee,
        fee_asset=report.fee_asset,
        realized_profit=report.realized_profit,
        is_maker=report.is_maker,
        filled_at=report.filled_at,
    )
