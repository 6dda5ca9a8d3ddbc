"""Today's prices of the real market, read through ccxt's public calls: paper trading on what happens now.

Marks, funding and last prices are asked for once a second, closed candles once a minute; between two answers
the forming candle follows the last price, without volume. When the source does not answer, prices stay where
they were and `age_seconds` grows: an error is not a price. Filters and brackets are our own table's.
"""

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import Awaitable, Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import ccxt.async_support as ccxt

from paper.engine.exchange import Point
from paper.feeds.candles import DAY_MS, HOUR_MS, MINUTE_MS, Candle, aggregated, merged, next_funding, opening
from paper.feeds.feed import DataMissing, Settlement, on_grid
from paper.symbols import Instrument

KEPT = 1000
REFRESHED = 3
TIMEOUT_MS = 5000
USUAL_FUNDING = Decimal("0.0001")
PATHS = {"fapiPublic": "/fapi/v1", "fapiPublicV2": "/fapi/v2", "fapiPublicV3": "/fapi/v3"}


@dataclass(slots=True)
class Seen:
    """What the source last told about one symbol."""

    mark: float = 0.0
    last: float = 0.0
    index: float = 0.0
    funding_rate: Decimal = USUAL_FUNDING
    next_funding_ms: int = 0
    minutes: dict[int, Candle] = field(default_factory=dict)
    hours: dict[int, Candle] = field(default_factory=dict)
    settlements: list[Settlement] = field(default_factory=list)

    def follow(self, price: float, now_ms: int) -> None:
        """Let the forming minute and hour follow the last price."""
        for candles, length in ((self.minutes, MINUTE_MS), (self.hours, HOUR_MS)):
            start = opening(now_ms, length)
            forming = candles.get(start) or Candle(start, price, price, price, price, 0.0, 0.0)
            high, low = max(forming.high, price), min(forming.low, price)
            candles[start] = forming._replace(high=high, low=low, close=price)
            if len(candles) > KEPT:
                del candles[min(candles)]


class LiveFeed:
    """The real market as a feed; `refresh` asks for prices, `catch_up` for candles and settlements."""

    kind = "live"
    done = False

    def __init__(self, instruments: dict[str, Instrument], url: str = "") -> None:
        """`url` is another server that speaks the same, instead of the exchange itself."""
        self.instruments = instruments
        self.symbols = frozenset(instruments)
        self.now_ms = int(time.time() * 1000)
        self.seen: defaultdict[str, Seen] = defaultdict(Seen)
        self.heard = 0.0
        self.failures = 0
        options = {"fetchCurrencies": False, "fetchMargins": False, "fetchMarkets": {"types": ["linear"]}}
        words: dict[str, Any] = {"options": options, "timeout": TIMEOUT_MS, "enableRateLimit": not url}
        if url:
            words["urls"] = {"api": {name: url + path for name, path in PATHS.items()}}
        self.source: Any = ccxt.binanceusdm(words)

    @property
    def age_seconds(self) -> float:
        """How long ago the source last told a price."""
        return time.time() - self.heard

    # asking

    async def open(self) -> None:
        """Markets, prices and candles, before anybody is served. Raises DataMissing without a source."""
        try:
            await self.source.load_markets()
            listed = set(self.source.markets_by_id) & self.symbols
            self.instruments = {symbol: self.instruments[symbol] for symbol in sorted(listed)}
            self.symbols = frozenset(listed)
            await self._ask()
            await self._ask_candles(KEPT)
        except ccxt.BaseError as error:
            await self.close()
            raise DataMissing(f"the source of live prices does not answer: {error}") from error

    async def refresh(self) -> None:
        """Take the present prices; without an answer the old ones stay."""
        self.now_ms = max(self.now_ms, int(time.time() * 1000))
        try:
            await self._ask()
        except ccxt.BaseError:
            self.failures += 1

    async def catch_up(self) -> None:
        """Replace candles that were followed from prices by the source's own."""
        with contextlib.suppress(ccxt.BaseError):
            await self._ask_candles(REFRESHED)

    async def close(self) -> None:
        """Let go of the source."""
        await self.source.close()

    async def _ask(self) -> None:
        marks, prices = await asyncio.gather(
            self.source.fapiPublicGetPremiumIndex(), self.source.fapiPublicV2GetTickerPrice()
        )
        for row in marks:
            if row["symbol"] in self.symbols:
                self._take_mark(self.seen[row["symbol"]], row)
        for row in prices:
            if row["symbol"] in self.symbols:
                seen = self.seen[row["symbol"]]
                seen.last = float(row["price"])
                seen.follow(seen.last, self.now_ms)
        self.heard = time.time()

    def _take_mark(self, seen: Seen, row: dict[str, Any]) -> None:
        seen.mark, seen.index = float(row["markPrice"]), float(row["indexPrice"])
        seen.funding_rate = Decimal(row["lastFundingRate"] or 0)
        seen.next_funding_ms = int(row["nextFundingTime"]) or next_funding(self.now_ms)

    async def _ask_candles(self, count: int) -> None:
        for symbol in self.instruments:
            await asyncio.gather(*self._questions(symbol, count))

    def _questions(self, symbol: str, count: int) -> Iterable[Awaitable[None]]:
        yield self._ask_interval(symbol, "1m", self.seen[symbol].minutes, count)
        yield self._ask_interval(symbol, "1h", self.seen[symbol].hours, count)
        yield self._ask_settlements(symbol)

    async def _ask_interval(self, symbol: str, interval: str, candles: dict[int, Candle], count: int) -> None:
        asked = {"symbol": symbol, "interval": interval, "limit": count}
        for row in await self.source.fapiPublicGetKlines(asked):
            opened, high, low, close, volume = (float(cell) for cell in row[1:6])
            candles[int(row[0])] = Candle(int(row[0]), opened, high, low, close, volume, float(row[7]))

    async def _ask_settlements(self, symbol: str) -> None:
        rows = await self.source.fapiPublicGetFundingRate({"symbol": symbol, "limit": 100})
        self.seen[symbol].settlements = [
            Settlement(
                int(row["fundingTime"]), Decimal(row["fundingRate"]), Decimal(row.get("markPrice") or 0)
            )
            for row in rows
        ]

    # the feed

    def advance(self) -> bool:
        """The market moves by itself."""
        return False

    def points(self) -> list[Point]:
        """The last prices heard of every symbol."""
        return [
            Point(
                symbol,
                on_grid(seen.mark, instrument),
                on_grid(seen.last, instrument),
                on_grid(seen.index, instrument),
                seen.funding_rate,
                seen.next_funding_ms,
            )
            for symbol, instrument in self.instruments.items()
            if (seen := self.seen[symbol]).mark and seen.last
        ]

    def first_ms(self, symbol: str, interval_ms: int) -> int:
        """The oldest candle that was asked for."""
        seen = self.seen[symbol]
        return min(seen.hours if interval_ms % HOUR_MS == 0 else seen.minutes, default=self.now_ms)

    def candles(self, symbol: str, interval_ms: int, start_ms: int, end_ms: int) -> list[Candle]:
        """From minutes, or from hours when the interval is whole hours; as far back as was asked for."""
        seen = self.seen[symbol]
        fine = seen.hours if interval_ms % HOUR_MS == 0 else seen.minutes
        first = opening(start_ms, interval_ms)
        if first < start_ms:
            first += interval_ms
        stop = opening(end_ms, interval_ms) + interval_ms
        return aggregated((fine[at] for at in sorted(fine) if first <= at < stop), interval_ms)

    def preparing(self, _symbol: str, _interval_ms: int, _start_ms: int, _end_ms: int) -> Iterator[None]:
        """Candles are at hand."""
        return iter(())

    def day(self, symbol: str) -> Candle:
        """The last 24 hours, from hours."""
        start = self.now_ms - DAY_MS
        hours = self.seen[symbol].hours
        return merged([hours[at] for at in sorted(hours) if at > start], start)

    def funding(self, symbol: str, start_ms: int, end_ms: int) -> list[Settlement]:
        """The settlements the source told of."""
        return [row for row in self.seen[symbol].settlements if start_ms <= row.time_ms <= end_ms]
