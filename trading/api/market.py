# ruff: noqa: ARG001 - the framework gives every route its request
from datetime import datetime

from django.conf import settings
from django.http import HttpRequest
from ninja import Router, Schema

from exchange.errors import ReadFailed
from trading.api.authentication import needs
from trading.api.errors import ApiError
from trading.api.numbers import Computed, Text
from trading.services import market, market_upkeep
from trading.services.desk_exposure import read_desk_exposure
from trading.services.market import MarketFigures
from trading.services.tokens import Scope

router = Router(tags=["market"])


class FigureOut(Schema):
    """One figure with where it came from and how old it is."""

    value: str
    source: str
    age_seconds: float


class MarketOut(Schema):
    """What is known of one perpetual; a figure that could not be read is named in `missing`.

    Prices, volume and depth in quote units; spread, 24 h range and annualised volatility are fractions.
    """

    symbol: str
    figures: dict[str, FigureOut]
    missing: list[str]


class CorrelationOut(Schema):
    """Pearson's r of two coins' hourly log returns of a week; null where too few are common: counts as 1."""

    symbol: str
    other: str
    r: Computed | None


class CoinOut(Schema):
    """One coin over all accounts, in quote units; `room` is what the desk may still take, null: not read."""

    base: str
    symbol: str
    accounts: int
    long_notional: Computed
    short_notional: Computed
    in_flight_notional: Computed
    risk: Computed
    ceiling: Computed | None
    room: Computed | None


class LoadOut(Schema):
    """How much of its risk budget an account uses, in quote units."""

    account: str
    positions: int
    risk: Computed
    budget: Computed
    side_risk: Computed
    side_budget: Computed
    gross_notional: Computed


class ExposureOut(Schema):
    """What the desk has at stake; `accounts` are those that use most of their budget."""

    at: datetime
    equity: Computed
    risk: Computed
    budget: Computed
    coins: list[CoinOut]
    accounts: list[LoadOut]
    correlations: list[CorrelationOut]


@router.get("market", auth=needs(Scope.READ), response=list[MarketOut])
def read_market(request: HttpRequest, symbol: Text = "") -> list[MarketOut]:
    """Every figure the rules ask for, of one symbol or of those the desk holds, awaits or has signals of."""
    now = settings.CLOCK.now()
    try:
        symbols = [_unified(symbol)] if symbol else market_upkeep.watched()[: market_upkeep.MOST_SHOWN]
        found = market.figures(symbols, now, with_depth=bool(symbol))
    except ReadFailed as failure:
        raise ApiError(503, "MARKET_UNREAD", "the market could not be read; ask again") from failure
    return [_market(one, now) for one in found.values()]


@router.get("exposure", auth=needs(Scope.READ), response=ExposureOut)
def read_exposure(request: HttpRequest) -> ExposureOut:
    """Exposure by coin, side and account, and how the coins held move together."""
    found = read_desk_exposure(settings.CLOCK.now())
    pairs = [(one, other) for n, one in enumerate(found.symbols) for other in found.symbols[n + 1 :]]
    return ExposureOut(
        at=found.at,
        equity=found.equity,
        risk=found.risk,
        budget=found.budget,
        coins=[
            CoinOut(**{name: getattr(coin, name) for name in CoinOut.model_fields}) for coin in found.coins
        ],
        accounts=[
            LoadOut(
                account=one.account.name,
                positions=one.positions,
                risk=one.risk,
                budget=one.budget,
                side_risk=one.side_risk,
                side_budget=one.side_budget,
                gross_notional=one.gross,
            )
            for one in found.accounts
        ],
        correlations=[CorrelationOut(symbol=a, other=b, r=found.correlations[a, b]) for a, b in pairs],
    )


def _unified(written: str) -> str:
    unified = market.unified_symbol(written)
    if unified is None:
        raise ApiError(422, "SYMBOL", f"{written} is not listed")
    return unified


def _market(found: MarketFigures, now: datetime) -> MarketOut:
    told = found.as_inputs(now)
    missing = told.pop("missing")
    return MarketOut(
        symbol=found.symbol, figures={name: FigureOut(**one) for name, one in told.items()}, missing=missing
    )
