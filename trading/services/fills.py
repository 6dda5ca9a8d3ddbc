"""Fills: the only thing that makes or ends a position. The same fill from two roads is one row."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from types import MappingProxyType

from django.db import transaction
from django.db.models import Q

from accounts.models import Account
from accounts.services.fixed_queries import AmongGiven, FixedQuery
from exchange.errors import ReadFailed
from exchange.port import FillReport, Market
from trading.domain.states import OrderStatus, predecessors
from trading.models import Decision, Fill, Order
from trading.services import market as market_tables
from trading.services import positions
from trading.services.bells import Bells
from trading.services.many_rows import change_rows, new_row
from trading.services.position_rows import lock_holders

ZERO = Decimal(0)
ASKED_OF_ORDERS = (
    *("client_order_id", "account", "allocation", "position", "purpose", "reason", "market", "symbol"),
    *("base", "type", "status", "quantity", "filled_quantity", "average_price", "trace_id"),
    *("exchange_order_id", "triggered_order_id", "side", "trigger_price", "close_position"),
    *("allocation__decision", "allocation__planned_risk", "allocation__exit_policy"),
    "allocation__acknowledged_at",
)
"""What executions ask of their order and its share; whatever else is asked is read then."""

SUMMED = ("filled_quantity", "average_price", "position")
ENDED_WHOLE = MappingProxyType(
    {
        "status": OrderStatus.FILLED,
        "fills_complete": True,
        "lease_until": None,
        "unknown_since": None,
        "due_at": None,
    }
)
"""What else is written of an order whose executions make it whole: nobody has to look at it again."""

Execution = tuple[int, str, str, str]
"""Account, market, symbol and trade id: one execution for ever."""


_ORDERS = FixedQuery(
    lambda: (
        Order.objects.filter(
            Q(AmongGiven("client_order_id", "names"))
            | Q(AmongGiven("account_id", "accounts"))
            & (Q(AmongGiven("exchange_order_id", "numbers")) | Q(AmongGiven("triggered_order_id", "numbers")))
        )
        .select_related("allocation")
        .only(*ASKED_OF_ORDERS)
        .order_by("pk")
    )
)
_DECISIONS = FixedQuery(
    lambda: (
        Decision.objects.filter(AmongGiven("pk", "ids"))
        .select_related("signal")
        .defer("candidates")
        .order_by()
    )
)
_THERE = FixedQuery(
    lambda: Fill.objects.filter(
        Q(AmongGiven("account_id", "accounts")) & Q(AmongGiven("trade_id", "trade_ids"))
        | Q(AmongGiven("order_id", "orders"))
    ).order_by()
)


@dataclass(frozen=True, slots=True)
class Executions:
    """What some road told of one account's executions on one market."""

    account_id: int
    market: Market
    reports: Sequence[FillReport]


def record_fills(account: Account, market: Market, reports: Sequence[FillReport], now: datetime) -> Bells:
    """Record the executions of one account on one market; see `record_executions`."""
    return record_executions([Executions(account.pk, market, reports)], now)


def record_executions(told: Sequence[Executions], now: datetime) -> Bells:
    """Insert the executions that are not yet rows, sum them on their orders and fold their positions.

    Idempotent: a known trade id changes nothing, unless it was taken for a stranger's and is now seen to be
    ours. One transaction, so a fill is never a row without its position having moved. The number of
    statements does not grow with the accounts.
    """
    for kind in {one.market for one in told}:
        warm_market_table(kind)
    with transaction.atomic(savepoint=False):
        # Two roads must not fold one position at once.
        accounts, orders = Orders.held({one.account_id for one in told}, told)
        return write_executions(told, accounts, orders, now)


def write_executions(
    told: Sequence[Executions],
    accounts: Mapping[int, Account],
    orders: "Orders",
    now: datetime,
    clear_after: timedelta = positions.AT_ONCE,
) -> Bells:
    """As `record_executions`, in a transaction that holds the accounts, by id, and has read the orders.

    `clear_after` as `positions.fold` takes it.
    """
    unique = {
        (one.account_id, one.market.value, report.symbol, report.trade_id): report
        for one in told
        for report in one.reports
    }
    behind = {key: orders.behind(key[0], key[1], report) for key, report in unique.items()}
    there = _rows_there(unique, [order for order in behind.values() if order is not None])
    known = {(row.account_id, row.market, row.symbol, row.trade_id): row for row in there}
    fresh = [
        _row(accounts[key[0]], Market(key[1]), report, behind[key])
        for key, report in unique.items()
        if key not in known
    ]
    adopted = [
        row for key, row in known.items() if key in unique and _adopt(row, accounts[key[0]], behind[key])
    ]
    if not fresh and not adopted:
        return Bells()
    touched = {row.order.pk: row.order for row in [*fresh, *adopted] if row.order is not None}
    _sum_fills(list(touched.values()), [*there, *fresh])
    bells = positions.fold(fresh, adopted, accounts, now, clear_after)
    _write_sums(list(touched.values()), now)
    shares = {order.allocation.decision_id for order in touched.values() if order.allocation is not None}
    bells.decisions.extend(sorted(shares))
    return bells


def warm_market_table(kind: Market) -> None:
    """Read the market table before the transaction that will need it: no network inside one."""
    try:
        market_tables.instruments(kind)
    except ReadFailed:
        return  # the fold does without filters until they can be read


def _rows_there(told: Collection[Execution], orders: Sequence[Order]) -> list[Fill]:
    """The executions that are rows by now: of those told, and of the orders behind them."""
    return _THERE.ask(
        accounts={key[0] for key in told},
        trade_ids={key[3] for key in told},
        orders={order.pk for order in orders},
    )


def _sum_fills(orders: Sequence[Order], fills: Sequence[Fill]) -> None:
    """Set the orders' filled quantity and average price from all their executions, in memory.

    An average is never guessed.
    """
    filled = dict.fromkeys((order.pk for order in orders), ZERO)
    paid = filled.copy()
    for fill in fills:
        if fill.order_id in filled:
            filled[fill.order_id] += fill.quantity
            paid[fill.order_id] += fill.price * fill.quantity
    for order in orders:
        order.filled_quantity = filled[order.pk]
        order.average_price = paid[order.pk] / filled[order.pk] if filled[order.pk] else None


def _write_sums(orders: Sequence[Order], now: datetime) -> None:
    """Write the sums and positions of orders, and end those that are filled whole with them: a row once."""
    sums = {one.pk: (one.pk, one.filled_quantity, one.average_price, one.position_id) for one in orders}
    may_end = predecessors(OrderStatus.FILLED) | {OrderStatus.FILLED}
    whole = [one.pk for one in orders if one.quantity is not None and one.filled_quantity >= one.quantity]
    ended = change_rows(
        Order,
        (*SUMMED, "finished_at"),
        [(*sums[pk], now) for pk in whole],
        same=ENDED_WHOLE,
        first_stays=("finished_at",),
        only=Q(status__in=may_end),
    )
    left = sums.keys() - set(ended)
    change_rows(Order, SUMMED, [sums[pk] for pk in sorted(left)])


def _adopt(fill: Fill, account: Account, order: Order | None) -> bool:
    """Give an execution without an order the one it belongs to, in memory; whether that changed anything."""
    if order is None or fill.order_id is not None:
        return False
    fill.account = account
    fill.order, fill.client_order_id = order, order.client_order_id
    return True


@dataclass(frozen=True, slots=True)
class Orders:
    """Our orders behind some executions. The exchange numbers the orders of each symbol by themselves."""

    by_client_id: Mapping[tuple[int, str, str], Order]
    by_exchange_id: Mapping[tuple[int, str, str, str], Order]

    @classmethod
    def held(
        cls, account_ids: Collection[int], told: Sequence[Executions], names: Collection[str] = ()
    ) -> tuple[dict[int, Account], "Orders"]:
        """Lock accounts, by id, and load the orders then, with what their decisions knew.

        A decision is read once, not once for each of its accounts. `names` are the client ids of further
        orders wanted.
        """
        reports = [report for one in told for report in one.reports]
        client_ids = {report.client_order_id for report in reports if report.client_order_id}
        asked = _ORDERS.told(
            names=client_ids.union(names),
            accounts={one.account_id for one in told},
            numbers={report.exchange_order_id for report in reports},
        )
        found: list[Order]
        accounts, found = lock_holders(account_ids, asked)
        shares = [order.allocation for order in found if order.allocation is not None]
        known = _DECISIONS.ask(ids={share.decision_id for share in shares}) if shares else ()
        decisions: dict[int, Decision] = {decision.pk: decision for decision in known}
        for share in shares:
            share.relate(decision=decisions[share.decision_id])
        orders = cls(
            {(order.account_id, order.market, order.client_order_id): order for order in found},
            {
                (order.account_id, order.market, *key): order
                for order in found
                if (key := _exchange_key(order))[1]
            },
        )
        return accounts, orders

    def behind(self, account_id: int, market: str, report: FillReport) -> Order | None:
        """The order this execution belongs to; None for a stranger's."""
        by_id = self.by_exchange_id.get((account_id, market, report.symbol, report.exchange_order_id))
        return self.by_client_id.get((account_id, market, report.client_order_id)) or by_id


def _exchange_key(order: Order) -> tuple[str, str]:
    """A futures stop's own id counts in another store: only the id of the order it became is a match."""
    has_own_store = order.is_conditional and order.market == Market.FUTURES
    return order.symbol, order.triggered_order_id if has_own_store else order.exchange_order_id


def _row(account: Account, market: Market, report: FillReport, order: Order | None) -> Fill:
    fill = new_row(
        Fill,
        account_id=account.pk,
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
        position_side=report.position_side or "",
        filled_at=report.filled_at,
    )
    fill.relate(order=order)
    return fill
