"""What the whole desk has at stake, by coin and side, and how its coins move together."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.conf import settings

from accounts.models import Account
from accounts.services.limits import desk_limits, effective_limits_of
from exchange.errors import ReadFailed
from exchange.port import Market
from trading.domain.gate import Stake
from trading.domain.limits import Limits
from trading.domain.percent import ONE, ZERO
from trading.domain.sizing import desk_ceiling
from trading.domain.states import PositionStatus
from trading.models import Position
from trading.services import hours, market
from trading.services.exposure import Exposure, InFlight, exposures, first_wallet
from trading.services.market import MarketFigures
from trading.services.prices import seen_marks

MOST_ACCOUNTS = 20


@dataclass(frozen=True, slots=True)
class CoinExposure:
    """One coin over all accounts, held and on its way; money in quote units.

    `risk` is the loss at the stops with costs. `ceiling` is what the desk may take of it in all, None where
    volume or book could not be read.
    """

    base: str
    symbol: str
    accounts: int
    long_notional: Decimal
    short_notional: Decimal
    in_flight_notional: Decimal
    risk: Decimal
    ceiling: Decimal | None
    figures: MarketFigures | None

    @property
    def gross(self) -> Decimal:
        """Longs and shorts together."""
        return self.long_notional + self.short_notional

    @property
    def net(self) -> Decimal:
        """Longs less shorts."""
        return self.long_notional - self.short_notional

    @property
    def room(self) -> Decimal | None:
        """What the desk may still take."""
        return None if self.ceiling is None else max(ZERO, self.ceiling - self.gross)


@dataclass(frozen=True, slots=True)
class AccountExposure:
    """How much of its risk budget an account uses, in all and on its heavier side, in quote units."""

    account: Account
    risk: Decimal
    budget: Decimal
    side_risk: Decimal
    is_long: bool
    side_budget: Decimal
    gross: Decimal
    positions: int

    @property
    def used(self) -> Decimal:
        """The part of the budget that is used, a fraction; 1 where there is no budget."""
        return self.risk / self.budget if self.budget > 0 else Decimal(int(self.risk > 0))


@dataclass(frozen=True, slots=True)
class DeskExposure:
    """Everything at stake as it was at `at`; `correlations` by the two symbols, None where unknown."""

    at: datetime
    equity: Decimal
    risk: Decimal
    budget: Decimal
    coins: Sequence[CoinExposure]
    accounts: Sequence[AccountExposure]
    symbols: Sequence[str]
    correlations: Mapping[tuple[str, str], Decimal | None]
    correlation_limit: Decimal

    def rows(self) -> list[tuple[str, list[tuple[Decimal | None, bool]]]]:
        """The matrix, a row a symbol: each r, and whether two coins count as alike."""
        return [(one, [self._cell(one, other) for other in self.symbols]) for one in self.symbols]

    def _cell(self, one: str, other: str) -> tuple[Decimal | None, bool]:
        r = self.correlations[one, other]
        return r, one != other and (r is None or r >= self.correlation_limit)


def read_desk_exposure(now: datetime) -> DeskExposure:
    """Read what active and paused accounts hold and await; archived ones hold nothing that is entered again.

    Positions are weighed at the last marks the watcher published, however old: the page tells their age.
    """
    accounts = list(
        Account.objects.filter(archived_at__isnull=True, mode=settings.MODE)
        .select_related("group")
        .prefetch_related("executors")
    )
    limits = {pk: found.limits for pk, found in effective_limits_of(accounts).items()}
    known = [account for account in accounts if account.pk in limits]
    found = exposures(known, limits, _marks(), now)
    busy = [account for account in known if found[account.pk].held or found[account.pk].in_flight]
    symbols = sorted({symbol for symbol in map(_perpetual, _symbols(found.values())) if symbol})
    figures = market.figures(symbols, now, with_depth=True) if symbols else {}
    equity = sum((wallet.equity for one in found.values() for wallet in one.wallets.values()), ZERO)
    desk = desk_limits()
    return DeskExposure(
        at=now,
        equity=equity,
        risk=sum((one.risk() for one in found.values()), ZERO),
        budget=desk.desk_risk_budget * equity,
        coins=_coins(found, figures, desk),
        accounts=_heaviest([_account(one, found[one.pk], limits[one.pk]) for one in busy]),
        symbols=symbols,
        correlations=_correlations(symbols, now),
        correlation_limit=desk.correlation,
    )


def _marks() -> dict[str, Decimal]:
    opened = Position.objects.filter(status=PositionStatus.OPEN).order_by()
    one_each = [
        Position(market=on, symbol=symbol) for on, symbol in opened.values_list("market", "symbol").distinct()
    ]
    return {symbol: mark.mark_price for symbol, mark in seen_marks(one_each).items()}


def _symbols(found: Iterable[Exposure]) -> set[str]:
    return {stake.symbol for one in found for stake in one.stakes}


def _perpetual(symbol: str) -> str | None:
    try:
        return market.symbol_on(symbol, Market.FUTURES)
    except ReadFailed:
        return None


def _correlations(symbols: Sequence[str], now: datetime) -> dict[tuple[str, str], Decimal | None]:
    return hours.matrix(symbols, now) if symbols else {}


def _coins(
    found: Mapping[int, Exposure], figures: Mapping[str, MarketFigures], desk: Limits
) -> list[CoinExposure]:
    stakes: dict[str, list[tuple[int, Stake]]] = defaultdict(list)
    for pk, one in found.items():
        for stake in one.stakes:
            stakes[stake.base].append((pk, stake))
    by_base = {symbol.partition("/")[0]: seen for symbol, seen in figures.items()}
    coins = [_coin(base, of_coin, by_base.get(base), desk) for base, of_coin in stakes.items()]
    return sorted(coins, key=lambda coin: -coin.gross)


def _coin(
    base: str, stakes: Sequence[tuple[int, Stake]], figures: MarketFigures | None, desk: Limits
) -> CoinExposure:
    return CoinExposure(
        base=base,
        symbol=figures.symbol if figures else stakes[0][1].symbol,
        accounts=len({pk for pk, _ in stakes}),
        long_notional=sum((stake.notional for _, stake in stakes if stake.is_long), ZERO),
        short_notional=sum((stake.notional for _, stake in stakes if not stake.is_long), ZERO),
        in_flight_notional=sum((one.notional for _, one in stakes if isinstance(one, InFlight)), ZERO),
        risk=sum((stake.risk for _, stake in stakes), ZERO),
        ceiling=_ceiling(figures, desk),
        figures=figures,
    )


def _ceiling(figures: MarketFigures | None, desk: Limits) -> Decimal | None:
    if figures is None or figures.quote_volume_24h is None or figures.depth_notional is None:
        return None
    return desk_ceiling(
        desk,
        quote_volume_24h=figures.quote_volume_24h,
        depth_notional=figures.depth_notional,
    )


def _account(account: Account, one: Exposure, limits: Limits) -> AccountExposure:
    markets = [Market(way.market) for way in account.executors.all() if way.is_enabled]
    budget = limits.risk_budget * first_wallet(one, markets).equity
    side_share = limits.same_direction if Market.FUTURES in markets else ONE
    longs, shorts = one.risk(is_long=True), one.risk(is_long=False)
    return AccountExposure(
        account=account,
        risk=longs + shorts,
        budget=budget,
        side_risk=max(longs, shorts),
        is_long=longs >= shorts,
        side_budget=side_share * budget,
        gross=one.notional(),
        positions=len(one.stakes),
    )


def _heaviest(accounts: Sequence[AccountExposure]) -> list[AccountExposure]:
    """Those that use most of their budget: of a thousand, the ones somebody may want to look at."""
    return sorted(accounts, key=lambda one: (-one.used, one.account.name))[:MOST_ACCOUNTS]
