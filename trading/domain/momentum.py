"""A small momentum rule over closed candles, the desk's demonstration source.

It claims nothing: it says a side where the last candles moved further than their own noise and the averages
agree, and otherwise names why it is silent. Stop and target are multiples of the noise, the reward twice the
risk. Averages are floats inside; prices come out as Decimals.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from itertools import pairwise
from typing import Protocol

from trading.domain.percent import clamp, price_at


class Bar(Protocol):
    """A closed candle."""

    @property
    def high(self) -> Decimal:
        """Highest price."""

    @property
    def low(self) -> Decimal:
        """Lowest price."""

    @property
    def close(self) -> Decimal:
        """Last price."""


class Silence(StrEnum):
    """Why the rule says nothing."""

    TOO_FEW_CANDLES = "TOO_FEW_CANDLES"
    NO_MOVEMENT = "NO_MOVEMENT"
    WEAK_MOVE = "WEAK_MOVE"
    AVERAGES_DISAGREE = "AVERAGES_DISAGREE"


@dataclass(frozen=True, slots=True)
class MomentumSignal:
    """A side with its prices; `score` in [0, 1]."""

    is_long: bool
    score: Decimal
    entry_price: Decimal
    stop_price: Decimal
    take_profit_price: Decimal


FAST, SLOW, LOOKBACK, NOISE = 20, 50, 20, 14
CANDLES_NEEDED = SLOW + LOOKBACK
MIN_STRENGTH = Decimal(2)
MIN_STOP = Decimal("0.010")
MAX_STOP = Decimal("0.05")
STOP_IN_NOISE = Decimal(2)
REWARD = Decimal(2)
BASE_SCORE = Decimal("0.60")
SCORE_OF_STRENGTH = Decimal("0.03")
BEST_SCORE = Decimal("0.90")


def momentum(candles: Sequence[Bar]) -> MomentumSignal | Silence:
    """Return a signal, or why there is none, from closed candles, oldest first."""
    if len(candles) < CANDLES_NEEDED:
        return Silence.TOO_FEW_CANDLES
    noise = average_range(candles[-NOISE - 1 :])
    if noise <= 0:
        return Silence.NO_MOVEMENT
    close = candles[-1].close
    move = close - candles[-1 - LOOKBACK].close
    if abs(move) < MIN_STRENGTH * noise:
        return Silence.WEAK_MOVE
    closes = [float(candle.close) for candle in candles]
    is_long = move > 0
    if (ema(closes, FAST) > ema(closes, SLOW)) is not is_long:
        return Silence.AVERAGES_DISAGREE
    return _signal(is_long=is_long, close=close, strength=abs(move) / noise, noise=noise)


def _signal(*, is_long: bool, close: Decimal, strength: Decimal, noise: Decimal) -> MomentumSignal:
    stop = clamp(STOP_IN_NOISE * noise / close, MIN_STOP, MAX_STOP)
    return MomentumSignal(
        is_long=is_long,
        score=min(BEST_SCORE, BASE_SCORE + SCORE_OF_STRENGTH * strength).quantize(Decimal("0.0001")),
        entry_price=close,
        stop_price=price_at(is_long=is_long, entry_price=close, move=-stop),
        take_profit_price=price_at(is_long=is_long, entry_price=close, move=REWARD * stop),
    )


def ema(values: Sequence[float], period: int) -> float:
    """Return the exponential moving average, smoothed by 2 / (period + 1), seeded with the first value."""
    weight = 2 / (period + 1)
    average = values[0]
    for value in values[1:]:
        average += weight * (value - average)
    return average


def average_range(candles: Sequence[Bar]) -> Decimal:
    """Return the mean true range over all candles but the first, which only gives the close before."""
    ranges = [
        max(newer.high, older.close) - min(newer.low, older.close) for older, newer in pairwise(candles)
    ]
    return sum(ranges, Decimal(0)) / len(ranges)
