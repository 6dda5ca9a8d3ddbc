"""An invented market, the same for the same seed: any minute can be computed on its own, so it has a past.

The log price of an hour is a sum of noise over 1 to 1024 hours with amplitudes growing as the square root of
the period, half of it shared by all symbols. Volatility comes in clusters and regimes of three days; jumps
open a gap between two minutes and wear off over twelve hours. Minutes bridge the hours; within a minute the
price passes open, then low and high (high and low when the minute falls), then close.
"""

import math
import random
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise

from paper.engine.exchange import Point
from paper.feeds.candles import (
    DAY_MS,
    FUNDING_MS,
    HOUR_MS,
    MINUTE_MS,
    Candle,
    aggregated,
    merged,
    next_funding,
    opening,
)
from paper.feeds.feed import Settlement, on_grid
from paper.symbols import Instrument

OCTAVES = tuple(2**k for k in range(11))
SHARED = "*"
SHARED_WEIGHT = 0.5
OWN_WEIGHT = math.sqrt(1 - SHARED_WEIGHT**2)
MAJOR_HOURLY_VOLATILITY = 0.0045
MINOR_HOURLY_VOLATILITY = 0.007
MINUTES = 60
REGIME_HOURS = 72
REGIMES = (0.55, 0.8, 1.0, 1.0, 1.3, 1.9)
JUMP_BLOCK_MINUTES = 360
JUMP_CHANCE = 0.25
JUMP_LIFE_MINUTES = 720
PAST_DAYS = 60
MAX_BLOCKS = 1024
MINUTE_TURNOVER = 0.4
POINT_MS = MINUTE_MS // 4
WOBBLE = 0.00004
HOURS_A_STEP = 8


class SyntheticFeed:
    """Seeded prices for every instrument. `seek` follows a clock, `advance` moves a quarter of a minute."""

    kind = "synthetic"
    done = False

    def __init__(self, instruments: dict[str, Instrument], seed: int, now_ms: int) -> None:
        self.instruments = instruments
        self.seed = seed
        self.now_ms = now_ms
        self.symbols = frozenset(instruments)
        self._noise: dict[str, float] = {}
        self._blocks: dict[tuple[str, int], list[Candle]] = {}
        self._hours: dict[tuple[str, int], Candle] = {}

    # randomness

    def _gauss(self, key: str) -> float:
        found = self._noise.get(key)
        if found is None:
            found = self._noise[key] = self._dice(key).gauss(0, 1)
        return found

    def _dice(self, key: str) -> random.Random:
        return random.Random(f"{self.seed}:{key}")  # noqa: S311  # reproducible prices, not secrets

    def _volatility(self, symbol: str, hour: int) -> float:
        """The multiple of normal volatility: the regime, and clusters within it."""
        regime = self._dice(f"{symbol}:regime:{hour // REGIME_HOURS}").choice(REGIMES)
        return regime * math.exp(0.45 * self._smooth(f"{symbol}:vol", hour, 24))

    def _smooth(self, name: str, hour: int, period: int) -> float:
        left, place = divmod(hour, period)
        weight = place / period
        here, there = self._gauss(f"{name}:{period}:{left}"), self._gauss(f"{name}:{period}:{left + 1}")
        return here * (1 - weight) + there * weight

    def _path(self, name: str, hour: int) -> float:
        return sum(math.sqrt(period) * self._smooth(name, hour, period) for period in OCTAVES)

    # prices

    def _hourly_volatility(self, symbol: str) -> float:
        major = self.instruments[symbol].spread_bps < Decimal("1.5")
        return MAJOR_HOURLY_VOLATILITY if major else MINOR_HOURLY_VOLATILITY

    def _anchor(self, symbol: str, hour: int) -> float:
        """Log price at the start of the hour, before jumps."""
        drift = SHARED_WEIGHT * self._path(SHARED, hour) + OWN_WEIGHT * self._path(symbol, hour)
        reference = math.log(float(self.instruments[symbol].reference_price))
        return reference + drift * self._hourly_volatility(symbol) / 2

    def _jumps(self, symbol: str, first_minute: int) -> list[tuple[int, float]]:
        """Jumps that still weigh on the hour from `first_minute`: their minute and their log move."""
        found = []
        last = (first_minute + MINUTES) // JUMP_BLOCK_MINUTES
        for block in range(last - JUMP_LIFE_MINUTES // JUMP_BLOCK_MINUTES - 1, last + 1):
            dice = self._dice(f"{symbol}:jump:{block}")
            if dice.random() < JUMP_CHANCE:
                minute = block * JUMP_BLOCK_MINUTES + dice.randrange(JUMP_BLOCK_MINUTES)
                found.append((minute, dice.choice((-1, 1)) * dice.uniform(0.003, 0.012)))
        return found

    def _block(self, symbol: str, hour: int) -> list[Candle]:
        """The sixty minutes of an hour."""
        found = self._blocks.get((symbol, hour))
        if found is None:
            if len(self._blocks) >= MAX_BLOCKS:
                self._blocks.clear()
            found = self._blocks[symbol, hour] = self._made_block(symbol, hour)
        return found

    def _made_block(self, symbol: str, hour: int) -> list[Candle]:
        dice = self._dice(f"{symbol}:hour:{hour}")
        deviation = self._hourly_volatility(symbol) * self._volatility(symbol, hour) / math.sqrt(MINUTES)
        path = self._bridge(symbol, hour, dice, deviation)
        jumps = self._jumps(symbol, hour * MINUTES)
        instrument = self.instruments[symbol]
        turnover = float(instrument.depth_notional) * MINUTE_TURNOVER
        block = []
        for minute in range(MINUTES):
            now = hour * MINUTES + minute
            first = _rounded(math.exp(path[minute] + _weight(jumps, now, now)), instrument)
            last = _rounded(math.exp(path[minute + 1] + _weight(jumps, now + 1, now)), instrument)
            high = _rounded(max(first, last) * (1 + abs(dice.gauss(0, 0.6)) * deviation), instrument)
            low = _rounded(min(first, last) * (1 - abs(dice.gauss(0, 0.6)) * deviation), instrument)
            busy = math.exp(dice.gauss(0, 0.5)) * (1 + abs(math.log(last / first)) / deviation)
            volume = round(turnover * busy / last, instrument.quantity_precision)
            block.append(Candle(now * MINUTE_MS, first, high, low, last, volume, volume * (first + last) / 2))
        return block

    def _bridge(self, symbol: str, hour: int, dice: random.Random, deviation: float) -> list[float]:
        """A random walk from this hour's anchor to the next one's, minute by minute."""
        start, end = self._anchor(symbol, hour), self._anchor(symbol, hour + 1)
        walk = [0.0]
        for _ in range(MINUTES):
            walk.append(walk[-1] + dice.gauss(0, deviation))
        slope = (end - start - walk[-1]) / MINUTES
        return [start + step + slope * minute for minute, step in enumerate(walk)]

    def _minute(self, symbol: str, minute: int) -> Candle:
        return self._block(symbol, minute // MINUTES)[minute % MINUTES]

    def _turns(self, symbol: str, minute: int, candle: Candle) -> list[tuple[float, float]]:
        """The (second, price) corners the price passes within the minute."""
        dice = self._dice(f"{symbol}:turn:{minute}")
        rises = candle.close >= candle.open
        first, second = (candle.low, candle.high) if rises else (candle.high, candle.low)
        return [
            (0, candle.open),
            (dice.randint(10, 25), first),
            (dice.randint(30, 50), second),
            (60, candle.close),
        ]

    def price(self, symbol: str, time_ms: int) -> float:
        """The last price at that moment."""
        minute, rest = divmod(time_ms, MINUTE_MS)
        corners = self._turns(symbol, minute, self._minute(symbol, minute))
        return _between(corners, rest / 1000)

    # the feed

    def seek(self, now_ms: int) -> None:
        """Follow a clock, never backwards."""
        self.now_ms = max(self.now_ms, now_ms)

    def advance(self) -> bool:
        """Move to the next quarter of a minute."""
        self.now_ms = (self.now_ms // POINT_MS + 1) * POINT_MS
        return self.now_ms % MINUTE_MS == 0

    def points(self) -> list[Point]:
        """The prices of every symbol; the mark wobbles around the last by a fraction of a basis point."""
        return [self._point(symbol, instrument) for symbol, instrument in self.instruments.items()]

    def _point(self, symbol: str, instrument: Instrument) -> Point:
        last = self.price(symbol, self.now_ms)
        seconds = self.now_ms / 1000
        mark = last * (1 + WOBBLE * math.sin(seconds / 13 + len(symbol)))
        index = last * (1 + WOBBLE * math.sin(seconds / 29))
        settles = next_funding(self.now_ms)
        return Point(
            symbol,
            on_grid(mark, instrument),
            on_grid(last, instrument),
            on_grid(index, instrument),
            self._funding_rate(symbol, settles),
            settles,
        )

    def _funding_rate(self, symbol: str, settles_ms: int) -> Decimal:
        """The rate of that settlement, around one basis point."""
        noise = self._gauss(f"{symbol}:funding:{settles_ms // FUNDING_MS}")
        return Decimal(f"{max(-0.0003, min(0.0005, 0.0001 * (1 + noise))):.8f}")

    def funding(self, symbol: str, start_ms: int, end_ms: int) -> list[Settlement]:
        """Settlements of the last `PAST_DAYS` days that have happened."""
        first = max(start_ms, self.now_ms - PAST_DAYS * DAY_MS)
        times = range(next_funding(first - 1), min(end_ms, self.now_ms) + 1, FUNDING_MS)
        return [
            Settlement(time_ms, self._funding_rate(symbol, time_ms), self._on_the_hour(symbol, time_ms))
            for time_ms in times
        ]

    def _on_the_hour(self, symbol: str, time_ms: int) -> Decimal:
        """The price an hour opens with, without making its minutes."""
        minute = time_ms // MINUTE_MS
        weight = _weight(self._jumps(symbol, minute), minute, minute)
        return on_grid(math.exp(self._anchor(symbol, time_ms // HOUR_MS) + weight), self.instruments[symbol])

    def _hour(self, symbol: str, hour: int) -> Candle:
        found = self._hours.get((symbol, hour))
        if found is None:
            found = self._hours[symbol, hour] = merged(self._made_block(symbol, hour), hour * HOUR_MS)
        return found

    def _forming(self, symbol: str) -> Candle:
        """The running minute, up to now."""
        minute, rest = divmod(self.now_ms, MINUTE_MS)
        whole = self._minute(symbol, minute)
        corners = self._turns(symbol, minute, whole)
        second = rest / 1000
        last = _rounded(_between(corners, second), self.instruments[symbol])
        seen = [price for moment, price in corners if moment <= second] + [last]
        share = (second + 1) / 60
        digits = self.instruments[symbol].quantity_precision
        volume = round(whole.volume * share, digits)
        return Candle(
            whole.open_ms, whole.open, max(seen), min(seen), last, volume, whole.quote_volume * share
        )

    def first_ms(self, _symbol: str, interval_ms: int) -> int:
        """Where its past begins."""
        return opening(self.now_ms - PAST_DAYS * DAY_MS, interval_ms) + interval_ms

    def candles(self, symbol: str, interval_ms: int, start_ms: int, end_ms: int) -> list[Candle]:
        """Aggregated from minutes, or from hours when the interval is whole hours."""
        start_ms = max(start_ms, self.first_ms(symbol, interval_ms))
        first, end_ms = opening(start_ms, interval_ms), min(end_ms, self.now_ms)
        if first < start_ms:
            first += interval_ms
        stop = min(opening(end_ms, interval_ms) + interval_ms, self.now_ms + 1)
        return aggregated(self._fine(symbol, interval_ms, first, stop), interval_ms)

    def preparing(self, symbol: str, interval_ms: int, start_ms: int, end_ms: int) -> Iterator[None]:
        """Make the hours that are not known yet, a few at a time."""
        start_ms, end_ms = max(start_ms, self.now_ms - PAST_DAYS * DAY_MS), min(end_ms, self.now_ms)
        if interval_ms % HOUR_MS or symbol not in self.instruments:
            return
        for number, hour in enumerate(range(start_ms // HOUR_MS, end_ms // HOUR_MS)):
            if (symbol, hour) not in self._hours:
                self._hour(symbol, hour)
                if number % HOURS_A_STEP == 0:
                    yield

    def _fine(self, symbol: str, interval_ms: int, start_ms: int, stop_ms: int) -> list[Candle]:
        fine: list[Candle] = []
        minute, this_minute = start_ms // MINUTE_MS, self.now_ms // MINUTE_MS
        last = -(-stop_ms // MINUTE_MS)
        if interval_ms % HOUR_MS == 0:
            hours = range(minute // MINUTES, min(last, this_minute) // MINUTES)
            fine = [self._hour(symbol, hour) for hour in hours]
            minute = max(minute, hours.stop * MINUTES)
        fine += [self._minute(symbol, m) for m in range(minute, min(last, this_minute))]
        if minute <= this_minute < last:
            fine.append(self._forming(symbol))
        return fine

    def day(self, symbol: str) -> Candle:
        """The last 24 hours: 23 whole ones and the minutes of the running one."""
        start = (self.now_ms // HOUR_MS - 23) * HOUR_MS
        return merged(self._fine(symbol, HOUR_MS, start, self.now_ms + 1), start)


def _weight(jumps: list[tuple[int, float]], minute: int, until: int) -> float:
    """What the jumps up to minute `until` still add to the log price at `minute`."""
    total = 0.0
    for jumped, move in jumps:
        age = minute - jumped
        if jumped <= until and age < JUMP_LIFE_MINUTES:
            total += move * (1 - age / JUMP_LIFE_MINUTES)
    return total


def _rounded(value: float, instrument: Instrument) -> float:
    return float(on_grid(value, instrument))


def _between(corners: list[tuple[float, float]], second: float) -> float:
    for (left, before), (right, after) in pairwise(corners):
        if second <= right:
            return before + (after - before) * (second - left) / (right - left)
    return corners[-1][1]
