"""Indicators by TA-Lib over closed candles: floats inside, Decimal out, None where history is too short."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from math import log

import numpy as np
import talib
from numpy.typing import NDArray

from exchange.port import Candle
from trading.domain.market import RegimeFigures, annualised_volatility

Series = NDArray[np.float64]

HOUR = timedelta(hours=1)
HOURS_OF_DAY = 24
HOURS_OF_WEEK = 168
BAND_HOURS = 20
FEWEST_HOURS = 28
"""ADX(14) needs two of its periods before it says anything."""

SIGNIFICANT_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Indicators:
    """Figures of one symbol from its closed candles, the newest closed at `at`.

    Prices in quote units; `range_24h` is (high - low) / close of the last 24 candles, a fraction.
    """

    at: datetime | None
    close: Decimal | None
    ema50: Decimal | None
    ema200: Decimal | None
    adx14: Decimal | None
    atr14: Decimal | None
    range_24h: Decimal | None


def indicators(candles: Sequence[Candle]) -> Indicators:
    """The indicators of `candles`, closed ones only, oldest first, one hour each."""
    high, low, close = (
        _series([getattr(candle, name) for candle in candles]) for name in ("high", "low", "close")
    )
    return Indicators(
        at=candles[-1].closed_at if candles else None,
        close=candles[-1].close if candles else None,
        ema50=_last(talib.EMA(close, timeperiod=50)) if candles else None,
        ema200=_last(talib.EMA(close, timeperiod=200)) if candles else None,
        adx14=_last(talib.ADX(high, low, close, timeperiod=14)) if candles else None,
        atr14=_last(talib.ATR(high, low, close, timeperiod=14)) if candles else None,
        range_24h=_day_range(candles),
    )


def regime_figures(candles: Sequence[Candle]) -> RegimeFigures | None:
    """What the regime is told from, of a week of closed hours; None where history is too short.

    The bands are squeezed while Bollinger's (20, 2) lie inside Keltner's: EMA(20) +/- 1.5 x ATR(20).
    """
    week = candles[-HOURS_OF_WEEK - 1 :]
    volatility = annualised_volatility(list(hourly_returns(week).values()))
    if volatility is None or len(candles) <= FEWEST_HOURS:
        return None
    high, low, close = (_series([getattr(one, name) for one in week]) for name in ("high", "low", "close"))
    adx14 = _last(talib.ADX(high, low, close, timeperiod=14))
    if adx14 is None:
        return None
    upper, _, lower = talib.BBANDS(close, timeperiod=BAND_HOURS, nbdevup=2.0, nbdevdn=2.0)
    middle = talib.EMA(close, timeperiod=BAND_HOURS)[-1]
    reach = 1.5 * talib.ATR(high, low, close, timeperiod=BAND_HOURS)[-1]
    return RegimeFigures(
        volatility=volatility,
        is_squeezed=bool(upper[-1] < middle + reach and lower[-1] > middle - reach),
        adx14=adx14,
        move_20=candles[-1].close / candles[-1 - BAND_HOURS].close - 1,
    )


def hourly_returns(candles: Sequence[Candle]) -> dict[datetime, float]:
    """Log return of each candle against the hour before, by opening time; beside a gap there is none."""
    return {
        newer.opened_at: log(float(newer.close) / float(older.close))
        for older, newer in pairwise(candles)
        if newer.opened_at - older.opened_at == HOUR
    }


def _series(values: Sequence[Decimal]) -> Series:
    return np.array([float(value) for value in values], dtype=np.float64)


def _last(series: Series) -> Decimal | None:
    value = float(series[-1])
    return None if np.isnan(value) else Decimal(f"{value:.{SIGNIFICANT_DIGITS}g}")


def _day_range(candles: Sequence[Candle]) -> Decimal | None:
    day = candles[-HOURS_OF_DAY:]
    if len(day) < HOURS_OF_DAY:
        return None
    spread = max(candle.high for candle in day) - min(candle.low for candle in day)
    return spread / day[-1].close
