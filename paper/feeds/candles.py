"""Candles, their intervals and how finer ones make coarser ones."""

from collections.abc import Iterable
from typing import NamedTuple

MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 86_400_000
FUNDING_MS = 8 * HOUR_MS
# Monday 1970-01-05: weeks open on Mondays.
WEEK_OFFSET_MS = 4 * DAY_MS

INTERVALS_MS = {
    "1s": 1_000,
    "1m": MINUTE_MS,
    "3m": 3 * MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "1h": HOUR_MS,
    "2h": 2 * HOUR_MS,
    "4h": 4 * HOUR_MS,
    "6h": 6 * HOUR_MS,
    "8h": FUNDING_MS,
    "12h": 12 * HOUR_MS,
    "1d": DAY_MS,
    "3d": 3 * DAY_MS,
    "1w": 7 * DAY_MS,
}


class Candle(NamedTuple):
    """One interval of one symbol; prices and quantities as floats, exact to the symbol's precision."""

    open_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    quote_volume: float


def opening(time_ms: int, interval_ms: int) -> int:
    """The open time of the interval this moment falls in."""
    offset = WEEK_OFFSET_MS if interval_ms == INTERVALS_MS["1w"] else 0
    return (time_ms - offset) // interval_ms * interval_ms + offset


def merged(candles: list[Candle], open_ms: int) -> Candle:
    """Several candles in time order as one."""
    return Candle(
        open_ms,
        candles[0].open,
        max(candle.high for candle in candles),
        min(candle.low for candle in candles),
        candles[-1].close,
        sum(candle.volume for candle in candles),
        sum(candle.quote_volume for candle in candles),
    )


def aggregated(candles: Iterable[Candle], interval_ms: int) -> list[Candle]:
    """Coarser candles out of finer ones in time order."""
    grouped: list[Candle] = []
    group: list[Candle] = []
    current = -1
    for candle in candles:
        start = opening(candle.open_ms, interval_ms)
        if start != current and group:
            grouped.append(merged(group, current))
            group = []
        current = start
        group.append(candle)
    if group:
        grouped.append(merged(group, current))
    return grouped


def next_funding(time_ms: int) -> int:
    """The next settlement strictly after this moment."""
    return (time_ms // FUNDING_MS + 1) * FUNDING_MS
