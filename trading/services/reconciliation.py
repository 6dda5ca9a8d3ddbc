"""Reconciliation: the desk's rows as one fold, an exchange's exported ledger as the other."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from accounts.models import Account, Executor
from exchange.port import Market, OrderSide
from trading.domain.reconciliation import (
    Books,
    Difference,
    LedgerFill,
    MoneyMove,
    Placement,
    compare,
    fold,
)
from trading.domain.states import OrderStatus
from trading.models import EquitySnapshot, Fill, Income, Order
from trading.services import market
from trading.services.balances import SETTLED_ELSEWHERE

ORDINARY, CONDITIONAL = "ordinary", "conditional"
MONEY_KINDS = frozenset({"DEPOSIT", "TRANSFER", "FUNDING", "INSURANCE"})

LedgerRow = Mapping[str, Any]


def reconcile(ledger: Sequence[LedgerRow]) -> list[Difference]:
    """Every difference between our rows and the exchange's exported ledger; empty when they agree."""
    return compare(desk_books(), exchange_books(ledger))


def desk_books() -> Books:
    """Fold our own rows: orders, fills, income, and each account's money as first read before it traded."""
    return fold(_our_fills(), _our_placements(), [*_starts(), *_our_income()], _assets_by_symbol())


def exchange_books(ledger: Sequence[LedgerRow]) -> Books:
    """Fold the exchange's rows, of the accounts this desk has.

    Money on a market an account has no executor for, or whose money was never read, is not in our books, and
    so not in these; an order there is.
    """
    read = set(EquitySnapshot.objects.order_by().values_list("account__name", "market").distinct())
    traded = read & set(Executor.objects.values_list("account__name", "market"))
    names = set(Account.objects.values_list("name", flat=True))
    symbols = _symbols_by_id()
    mine = [row for row in ledger if row["account"] in names]
    return fold(
        (_their_fill(row, symbols) for row in mine if row["kind"] == "FILL"),
        (
            Placement(row["account"], row["client_order_id"], row["store"])
            for row in mine
            if row["kind"] == "PLACED"
        ),
        (
            MoneyMove(row["account"], row["market"], row["asset"], Decimal(row["money"]))
            for row in mine
            if row["kind"] in MONEY_KINDS and (row["account"], row["market"]) in traded
        ),
        _assets_by_symbol(),
    )


def _our_fills() -> Iterable[LedgerFill]:
    for fill in Fill.objects.select_related("account").order_by("pk"):
        yield LedgerFill(
            account=fill.account.name,
            market=fill.market,
            symbol=fill.symbol,
            trade_id=fill.trade_id,
            client_order_id=fill.order.client_order_id if fill.order else fill.client_order_id,
            is_buy=fill.side == OrderSide.BUY,
            quantity=fill.quantity,
            price=fill.price,
            fee=fill.fee,
            fee_asset=fill.fee_asset,
            realized=fill.realized_profit,
        )


def _our_placements() -> Iterable[Placement]:
    """Every order our rows say the exchange took, in the store it took it; a fired stop is in both."""
    for order in Order.objects.select_related("account"):
        # What a stop became proves that there was one, whoever lost the answer that named it.
        if order.exchange_order_id or order.triggered_order_id:
            store = CONDITIONAL if order.is_conditional and order.market == Market.FUTURES else ORDINARY
            yield Placement(order.account.name, order.client_order_id, store)
        if order.triggered_order_id and order.market == Market.FUTURES:
            yield Placement(order.account.name, order.client_order_id, ORDINARY)


def _starts() -> Iterable[MoneyMove]:
    """The first money ever read of each account and market: what all later moves start from."""
    for account in Account.objects.all():
        for kind in Market:
            first = EquitySnapshot.objects.filter(account=account, market=kind).order_by("at").first()
            if first is not None:
                yield MoneyMove(account.name, kind, "USDT", first.wallet)


def _our_income() -> Iterable[MoneyMove]:
    for income in Income.objects.select_related("account").exclude(kind__in=SETTLED_ELSEWHERE):
        first = (
            EquitySnapshot.objects.filter(account=income.account, market=Market.FUTURES)
            .order_by("at")
            .first()
        )
        if first is None or income.at > first.at:
            yield MoneyMove(income.account.name, Market.FUTURES, income.asset, income.quantity)


def _their_fill(row: LedgerRow, symbols: Mapping[tuple[str, str], str]) -> LedgerFill:
    return LedgerFill(
        account=row["account"],
        market=row["market"],
        symbol=symbols[row["market"], row["symbol"]],
        trade_id=str(row["fill_id"]),
        client_order_id=row["client_order_id"],
        is_buy=row["side"] == "BUY",
        quantity=Decimal(row["quantity"]),
        price=Decimal(row["price"]),
        fee=Decimal(row["fee"]),
        fee_asset=row["fee_asset"],
        realized=Decimal(row["realized"]),
    )


def _assets_by_symbol() -> dict[str, tuple[str, str]]:
    return {one.symbol: (one.base, one.quote) for kind in Market for one in market.instruments(kind).values()}


def _symbols_by_id() -> dict[tuple[str, str], str]:
    return {
        (kind.value, one.base + one.quote): one.symbol
        for kind in Market
        for one in market.instruments(kind).values()
    }


def unexplained_orders() -> list[str]:
    """Orders whose end is not known: while there is one, no agreement is final."""
    return list(
        Order.objects.filter(status__in=[OrderStatus.UNKNOWN, OrderStatus.SUBMITTED]).values_list(
            "client_order_id", flat=True
        )
    )
