"""Where the money of each asset came from and went, between two readings of the exchange, to the last unit.

Start and end are readings; everything between them is our rows. What they do not explain is told.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db.models import Max, Min, QuerySet

from exchange.port import Market, OrderSide
from trading.domain.percent import ZERO
from trading.domain.statistics import MoneyFlow
from trading.models import EquitySnapshot, Fill, Income

FUNDING = "FUNDING_FEE"
TRANSFERS = frozenset(
    {
        "TRANSFER",
        "INTERNAL_TRANSFER",
        "CROSS_COLLATERAL_TRANSFER",
        "STRATEGY_UMFUTURES_TRANSFER",
        "COIN_SWAP_DEPOSIT",
        "COIN_SWAP_WITHDRAW",
    }
)
"""Money that came or went and is neither profit nor loss."""

SAID_BY_FILLS = frozenset({"REALIZED_PNL", "COMMISSION"})
READ_ASSET = "USDT"
"""The asset a reading of an account's money is in; no reading tells of another one."""

Book = tuple[int, str]
"""Account and market."""


@dataclass(frozen=True, slots=True)
class AssetFlow:
    """The money of one asset on one market over `accounts` accounts, from their first reading to their last.

    On spot `flow.other` holds what was paid for coins and got for them. `flow` is None for an asset that no
    reading tells of; its fees are known all the same.
    """

    market: str
    asset: str
    accounts: int
    since: datetime | None
    until: datetime | None
    fees: Decimal
    flow: MoneyFlow | None


@dataclass(frozen=True, slots=True)
class _Reading:
    at: datetime
    wallet: Decimal
    unrealized: Decimal


@dataclass(slots=True)
class _Sums:
    """What our rows say moved one asset of one market."""

    realized: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO
    transfers: Decimal = ZERO
    other: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class _Window:
    """From an account's first reading to its last; `is_whole` when nothing of it lies before."""

    first: _Reading
    last: _Reading
    is_whole: bool

    def holds_fill(self, at: datetime) -> bool:
        """Whether a fill lies within; the first reading of all was before any of them."""
        return (self.is_whole or at > self.first.at) and at <= self.last.at

    def holds_income(self, at: datetime) -> bool:
        """Whether a movement lies within: what was there when first read is in that reading."""
        return self.first.at < at <= self.last.at


def read_flows(
    account: str = "", since: datetime | None = None, until: datetime | None = None
) -> list[AssetFlow]:
    """The flow of every asset that was read or that a fee was paid in, of the desk or of one account."""
    windows = _windows(account, since, until)
    read = {(market, READ_ASSET): _Sums() for _, market in windows}
    sums: dict[tuple[str, str], _Sums] = defaultdict(_Sums, read)
    _add_fills(sums, windows)
    _add_incomes(sums, windows)
    return [_asset_flow(market, asset, sums[market, asset], windows) for market, asset in sorted(sums)]


def _windows(account: str, since: datetime | None, until: datetime | None) -> dict[Book, _Window]:
    rows = EquitySnapshot.objects.order_by()
    rows = rows.filter(account__name=account) if account else rows
    rows = rows.filter(at__lte=until) if until else rows
    told = rows.filter(at__gte=since) if since else rows
    ends = list(told.values_list("account_id", "market").annotate(first=Min("at"), last=Max("at")))
    readings = _readings(told, {at for _, _, first, last in ends for at in (first, last)})
    began = {
        (one, market): at for one, market, at in rows.values_list("account_id", "market").annotate(Min("at"))
    }
    return {
        (one, market): _Window(
            readings[one, market, first], readings[one, market, last], began[one, market] == first
        )
        for one, market, first, last in ends
    }


def _readings(
    rows: QuerySet[EquitySnapshot], moments: Iterable[datetime]
) -> Mapping[tuple[int, str, datetime], _Reading]:
    found = rows.filter(at__in=list(moments)).values_list(
        "account_id", "market", "at", "wallet", "unrealized_profit"
    )
    return {(one, market, at): _Reading(at, wallet, open_) for one, market, at, wallet, open_ in found}


def _add_fills(sums: dict[tuple[str, str], _Sums], windows: Mapping[Book, _Window]) -> None:
    # Summed here and not by the database: SQLite sums decimals as floats.
    for fill in Fill.objects.filter(account_id__in={one for one, _ in windows}).order_by().iterator(2000):
        window = windows.get((fill.account_id, fill.market))
        if window is None or not window.holds_fill(fill.filled_at):
            continue
        base, quote = _assets(fill.symbol)
        sums[fill.market, quote].realized += fill.realized_profit
        if fill.fee:
            sums[fill.market, fill.fee_asset or quote].fees += fill.fee
        if fill.market == Market.SPOT:
            sign = 1 if fill.side == OrderSide.BUY else -1
            sums[fill.market, quote].other -= sign * fill.quantity * fill.price
            sums[fill.market, base].other += sign * fill.quantity


def _assets(symbol: str) -> tuple[str, str]:
    """Base and quote of a unified symbol, BTC/USDT:USDT or BTC/USDT."""
    base, _, rest = symbol.partition("/")
    return base, rest.partition(":")[0]


def _add_incomes(sums: dict[tuple[str, str], _Sums], windows: Mapping[Book, _Window]) -> None:
    rows = Income.objects.filter(account_id__in={one for one, _ in windows}).exclude(kind__in=SAID_BY_FILLS)
    for income in rows.order_by().iterator(2000):
        window = windows.get((income.account_id, Market.FUTURES))
        if window is None or not window.holds_income(income.at):
            continue
        _add_income(sums[Market.FUTURES, income.asset], income)


def _add_income(sums: _Sums, income: Income) -> None:
    if income.kind == FUNDING:
        sums.funding += income.quantity
    elif income.kind in TRANSFERS:
        sums.transfers += income.quantity
    else:
        sums.other += income.quantity


def _asset_flow(market: str, asset: str, sums: _Sums, windows: Mapping[Book, _Window]) -> AssetFlow:
    read = [window for (_, on), window in windows.items() if on == market]
    return AssetFlow(
        market=str(market),
        asset=asset,
        accounts=len(read),
        since=min((window.first.at for window in read), default=None),
        until=max((window.last.at for window in read), default=None),
        fees=sums.fees,
        flow=_flow(sums, read) if asset == READ_ASSET else None,
    )


def _flow(sums: _Sums, read: Iterable[_Window]) -> MoneyFlow:
    windows = list(read)
    opened = sum((window.first.unrealized for window in windows), ZERO)
    closed = sum((window.last.unrealized for window in windows), ZERO)
    return MoneyFlow(
        start=sum((window.first.wallet for window in windows), opened),
        realized=sums.realized,
        fees=sums.fees,
        funding=sums.funding,
        transfers=sums.transfers,
        other=sums.other,
        unrealized_change=closed - opened,
        end=sum((window.last.wallet for window in windows), closed),
    )
