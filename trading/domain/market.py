"""What closed hourly candles say of a symbol: likeness to another, volatility, regime (sections 3 and 11).

Statistics are floats inside, because they are estimates; what a rule compares comes out as a Decimal.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from statistics import StatisticsError, correlation, stdev

HOURS_OF_YEAR = 24 * 365
_DIGITS = Decimal("0.000001")

HIGH_VOLATILITY = Decimal("0.60")
SQUEEZED_VOLATILITY = Decimal("0.20")
LOW_VOLATILITY = Decimal("0.15")
STRONG_ADX = Decimal(25)
TREND_MOVE = Decimal("0.05")


class Regime(StrEnum):
    """The character of a market, in the order in which the rules are asked."""

    HIGH_VOLATILITY = "HIGH_VOLATILITY"
    BREAKOUT = "BREAKOUT"
    BULL = "BULL"
    BEAR = "BEAR"
    LOW_VOLATILITY = "LOW_VOLATILITY"
    RANGE = "RANGE"


@dataclass(frozen=True, slots=True)
class RegimeFigures:
    """Figures of one symbol: annualised volatility and 20-bar move as fractions, ADX(14), band squeeze."""

    volatility: Decimal
    is_squeezed: bool
    adx14: Decimal
    move_20: Decimal


def regime(figures: RegimeFigures) -> Regime:
    """Return the first regime whose rule holds; RANGE when none does."""
    rules = (
        (figures.volatility > HIGH_VOLATILITY, Regime.HIGH_VOLATILITY),
        (figures.is_squeezed and figures.volatility < SQUEEZED_VOLATILITY, Regime.BREAKOUT),
        (figures.adx14 > STRONG_ADX and figures.move_20 > TREND_MOVE, Regime.BULL),
        (figures.adx14 > STRONG_ADX and figures.move_20 < -TREND_MOVE, Regime.BEAR),
        (figures.volatility < LOW_VOLATILITY, Regime.LOW_VOLATILITY),
    )
    return next((found for holds, found in rules if holds), Regime.RANGE)


def annualised_volatility(returns: Sequence[float]) -> Decimal | None:
    """Return the standard deviation of hourly log returns times sqrt(24 x 365); None under two returns."""
    try:
        return _rounded(stdev(returns) * math.sqrt(HOURS_OF_YEAR))
    except StatisticsError:
        return None


def pearson(
    one: Mapping[datetime, float], other: Mapping[datetime, float], *, min_hours: int
) -> Decimal | None:
    """Return Pearson's r over the hours both have; None under `min_hours`, or where one never moved.

    None is to be taken as 1: what cannot be shown to differ must not be held twice.
    """
    common = sorted(one.keys() & other.keys())
    if len(common) < min_hours:
        return None
    try:
        return _rounded(correlation([one[hour] for hour in common], [other[hour] for hour in common]))
    except StatisticsError:
        return None


def _rounded(number: float) -> Decimal:
    return Decimal(number).quantize(_DIGITS)
