"""What the closed hourly candles of a perpetual say: worked out once an hour, for every account and page.

A reading counts until the next candle closes; one that could not be renewed is left out after `OLDEST`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings

from exchange.budget import Priority
from exchange.port import Candle
from trading.domain.market import Regime, pearson, regime
from trading.services.candles import candles_of, moment_of, ms_of
from trading.services.indicators import (
    HOUR,
    HOURS_OF_WEEK,
    Indicators,
    hourly_returns,
    indicators,
    regime_figures,
)
from trading.services.valkey import keep, recall_many

HOURS_READ = 499
KEPT_SECONDS = 7200
OLDEST = timedelta(hours=2)
VOLUME_HOURS = 24


@dataclass(frozen=True, slots=True)
class Hours:
    """One perpetual by its closed hours; `volatility` is annualised, `returns` are those of the last week.

    `quote_volume_24h` is what its candles say; volume x close for hours whose quote volume is not told.
    """

    values: Indicators
    volatility: Decimal | None
    regime: Regime | None
    quote_volume_24h: Decimal | None
    returns: Mapping[datetime, float]


def hours_of(symbols: Iterable[str], now: datetime, urgency: Priority = Priority.ENTRY) -> dict[str, Hours]:
    """The hours of several perpetuals; one whose candles cannot be read, or are old, is left out."""
    wanted = list(dict.fromkeys(symbols))
    found = _kept(wanted, now)
    lacking = [symbol for symbol in wanted if symbol not in found]
    for symbol, rows in candles_of(lacking, "1h", HOURS_READ, now, urgency).items():
        if rows and now - rows[-1].closed_at <= OLDEST:
            found[symbol] = worked_out(rows)
            keep(_key(symbol), _written(found[symbol]), KEPT_SECONDS)
    return found


def lacking(symbols: Iterable[str], now: datetime) -> list[str]:
    """Those whose last closed hour is not worked out yet."""
    wanted = list(dict.fromkeys(symbols))
    known = _kept(wanted, now)
    return [symbol for symbol in wanted if symbol not in known]


def worked_out(candles: Sequence[Candle]) -> Hours:
    """What closed candles say, oldest first."""
    figures = regime_figures(candles)
    return Hours(
        values=indicators(candles),
        volatility=figures.volatility if figures else None,
        regime=regime(figures) if figures else None,
        quote_volume_24h=_volume(candles[-VOLUME_HOURS:]),
        returns=hourly_returns(candles[-HOURS_OF_WEEK - 1 :]),
    )


def correlations(symbol: str, others: Iterable[str], now: datetime) -> dict[str, Decimal | None]:
    """Pearson's r of hourly log returns over seven days with each other symbol.

    None where there are fewer common hours than the desk asks for, or a candle read failed.
    """
    wanted = set(others)
    if not wanted:
        return {}
    return {other: r for (_, other), r in _pairs([symbol], wanted, hours_of([symbol, *wanted], now)).items()}


def matrix(symbols: Sequence[str], now: datetime) -> dict[tuple[str, str], Decimal | None]:
    """The correlations of every two of several symbols, each pair both ways."""
    return _pairs(symbols, symbols, hours_of(symbols, now))


def _pairs(
    ones: Iterable[str], others: Iterable[str], known: Mapping[str, Hours]
) -> dict[tuple[str, str], Decimal | None]:
    returns = {symbol: hours.returns for symbol, hours in known.items()}
    least = settings.LIMITS.correlation_min_hours
    against = list(others)
    return {
        (one, other): pearson(returns.get(one, {}), returns.get(other, {}), min_hours=least)
        for one in ones
        for other in against
    }


def _volume(day: Sequence[Candle]) -> Decimal | None:
    if len(day) < VOLUME_HOURS:
        return None
    told = (row.volume * row.close if row.quote_volume is None else row.quote_volume for row in day)
    return sum(told, Decimal(0))


# ── kept ─────────────────────────────────────────────────────────────────────


def _key(symbol: str) -> str:
    return f"desk:hours:{symbol}"


def _kept(symbols: Sequence[str], now: datetime) -> dict[str, Hours]:
    raw = recall_many([_key(symbol) for symbol in symbols])
    read = {symbol: _read(json.loads(one)) for symbol, one in zip(symbols, raw, strict=True) if one}
    return {symbol: hours for symbol, hours in read.items() if _is_newest(hours, now)}


def _is_newest(hours: Hours, now: datetime) -> bool:
    at = hours.values.at
    return at is not None and timedelta(0) <= now - at < HOUR


def _written(hours: Hours) -> str:
    values = {name: _text(value) for name, value in asdict(hours.values).items() if name != "at"}
    at = hours.values.at
    kept = {
        "at": ms_of(at) if at else None,
        "values": values,
        "volatility": _text(hours.volatility),
        "regime": hours.regime,
        "quote_volume_24h": _text(hours.quote_volume_24h),
        "returns": [[ms_of(opened), value] for opened, value in hours.returns.items()],
    }
    return json.dumps(kept)


def _read(kept: Mapping[str, Any]) -> Hours:
    values = {name: _number(text) for name, text in kept["values"].items()}
    return Hours(
        values=Indicators(at=moment_of(kept["at"]), **values),
        volatility=_number(kept["volatility"]),
        regime=Regime(kept["regime"]) if kept["regime"] else None,
        quote_volume_24h=_number(kept["quote_volume_24h"]),
        returns={moment_of(opened): value for opened, value in kept["returns"]},
    )


def _text(value: Decimal | None) -> str | None:
    return None if value is None else str(value)


def _number(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
