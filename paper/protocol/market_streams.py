"""Market stream messages, by stream name."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from paper.engine.book import Quote
from paper.engine.orders import BUY, SELL
from paper.feeds.candles import INTERVALS_MS
from paper.protocol.market import book_row, depth_levels, kline_row
from paper.symbols import Instrument

if TYPE_CHECKING:
    from paper.service import Service

Payload = dict[str, Any] | list[dict[str, Any]]
DEPTH_LEVELS = 20
SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Stream:
    """A parsed stream name: `symbol` is empty for the whole market.

    `period_ms` is the least time between two messages; `apart` sends the whole market row by row.
    """

    symbol: str
    kind: str
    interval: str = ""
    period_ms: int = 0
    apart: bool = False

    @property
    def has_state(self) -> bool:
        """Whether its last message tells where things stand, so that a new subscriber gets it at once."""
        return self.kind not in EVENTS and not self.is_difference

    @property
    def is_difference(self) -> bool:
        """Whether it tells changes of the book only."""
        return self.kind == "depth" and not self.interval


EVENTS = frozenset({"trade", "aggTrade", "forceOrder", SILENT})
KINDS = frozenset({"markPrice", "ticker", "miniTicker", "bookTicker", "depth"}) | EVENTS - {SILENT}
DEPTHS = frozenset({"depth", "depth5", "depth10", "depth20"})
NAME = re.compile(r"!?[A-Za-z0-9_]+(@[A-Za-z0-9_]+)*")
SLOW_MARKS_MS = 3000


def parse_stream(name: str) -> Stream | None:
    """`btcusdt@kline_1m`, `!markPrice@arr@1s`, ...; None for what is no stream's name.

    What is not served stays silent, as an unknown symbol does.
    """
    if not NAME.fullmatch(name):
        return None
    symbol, _, rest = ("", "", name[1:]) if name.startswith("!") else name.partition("@")
    kind, _, speed = rest.partition("@")
    head, _, interval = kind.partition("_")
    if head in {"kline", "continuousKline"} and interval in INTERVALS_MS:
        return Stream(symbol.upper().partition("_")[0], head, interval)
    if kind in DEPTHS:
        return Stream(symbol.upper(), "depth", kind.removeprefix("depth"))
    if kind not in KINDS:
        return Stream(symbol.upper(), SILENT)
    slow = kind == "markPrice" and not speed.endswith("1s")
    return Stream(symbol.upper(), kind, "", SLOW_MARKS_MS if slow else 0, apart=name == "!bookTicker")


@dataclass(slots=True)
class Book:
    """The book of a symbol as its listeners know it, and what they were told last."""

    update_id: int
    sides: dict[str, dict[str, str]]
    round: int = 0
    told: dict[str, Any] | None = None


class MarketStreams:
    """Builds the current message of a stream."""

    def __init__(self, service: "Service") -> None:
        self.service = service
        self.books: dict[str, Book] = {}
        self.round = 0

    def payload(self, stream: Stream) -> Payload | None:
        """The message now, None when there is nothing to say."""
        venue = self.service.exchange.venue
        if not stream.symbol:
            rows = [self._one(stream, quote) for quote in venue.quotes.values()]
            return [row for row in rows if row is not None] or None
        quote = venue.quotes.get(stream.symbol)
        return self._one(stream, quote) if quote else None

    def _one(self, stream: Stream, quote: Quote) -> dict[str, Any] | None:
        instrument = self.service.exchange.venue.markets.futures[quote.symbol]
        shown: dict[str, Any] | None = None
        match stream.kind:
            case "markPrice":
                shown = self._mark_price(quote)
            case "kline":
                shown = self._kline(quote, instrument, stream.interval)
            case "continuousKline":
                shown = self._continuous(quote, instrument, stream.interval)
            case "bookTicker":
                shown = self._book_ticker(quote, instrument)
            case "ticker" | "miniTicker":
                shown = self._ticker(quote, instrument, full=stream.kind == "ticker")
            case "trade" | "aggTrade":
                shown = self._print(quote, instrument, stream.kind)
            case "depth" if stream.is_difference:
                shown = self._difference(quote, instrument)
            case "depth":
                shown = self._partial_depth(quote, instrument, int(stream.interval))
        return shown

    @property
    def now_ms(self) -> int:
        """The feed's clock."""
        return self.service.exchange.venue.now_ms

    def _mark_price(self, quote: Quote) -> dict[str, Any]:
        mark = f"{quote.mark:.8f}"
        return {
            "e": "markPriceUpdate",
            "E": self.now_ms,
            "s": quote.symbol,
            "p": mark,
            "ap": mark,
            "P": f"{quote.index:.8f}",
            "i": f"{quote.index:.8f}",
            "r": f"{quote.funding_rate:.8f}",
            "T": quote.next_funding_ms,
            "st": 1,
            "ps": quote.symbol,
        }

    def _kline(self, quote: Quote, instrument: Instrument, interval: str) -> dict[str, Any] | None:
        length = INTERVALS_MS[interval]
        feed = self.service.feed
        found = feed.candles(quote.symbol, length, feed.now_ms - 2 * length, feed.now_ms)
        if not found:
            return None
        shown = self.service.with_pin(quote.symbol, found, length)
        candle = shown[-1]
        if len(shown) > 1 and self.service.previous_ms < candle.open_ms - 1:
            candle = shown[-2]  # it closed between the last price and this one, and nobody was told
        row = kline_row(candle, length, instrument)
        names = ("t", "o", "h", "l", "c", "v", "T", "q", "n", "V", "Q", "B")
        closed = self.now_ms >= candle.open_ms + length - 1
        kline = dict(zip(names, row, strict=True)) | {"s": quote.symbol, "i": interval, "x": closed}
        return {"e": "kline", "E": self.now_ms, "s": quote.symbol, "k": kline | {"f": 1, "L": row[8]}}

    def _continuous(self, quote: Quote, instrument: Instrument, interval: str) -> dict[str, Any] | None:
        shown = self._kline(quote, instrument, interval)
        if shown is None:
            return None
        kline = {name: value for name, value in shown["k"].items() if name != "s"}
        head = {"e": "continuous_kline", "E": self.now_ms, "ps": quote.symbol, "ct": "PERPETUAL"}
        return head | {"k": kline}

    def _book_ticker(self, quote: Quote, instrument: Instrument) -> dict[str, Any]:
        row = book_row(quote, instrument, self.now_ms)
        return {
            "e": "bookTicker",
            "u": quote.update_id,
            "E": self.now_ms,
            "T": self.now_ms,
            "s": quote.symbol,
            "b": row["bidPrice"],
            "B": row["bidQty"],
            "a": row["askPrice"],
            "A": row["askQty"],
        }

    def _ticker(self, quote: Quote, instrument: Instrument, *, full: bool) -> dict[str, Any]:
        day = self.service.day(quote.symbol)
        digits = instrument.price_precision
        shown: dict[str, Any] = {
            "e": "24hrTicker" if full else "24hrMiniTicker",
            "E": self.now_ms,
            "s": quote.symbol,
            "c": instrument.price(quote.last),
            "o": f"{day.open:.{digits}f}",
            "h": f"{day.high:.{digits}f}",
            "l": f"{day.low:.{digits}f}",
            "v": f"{day.volume:.{instrument.quantity_precision}f}",
            "q": f"{day.quote_volume:.2f}",
        }
        if not full:
            return shown
        change = day.close - day.open
        book = book_row(quote, instrument, self.now_ms)
        return shown | {
            "p": f"{change:.{digits}f}",
            "P": f"{change / day.open * 100:.3f}",
            "w": f"{day.quote_volume / day.volume if day.volume else day.close:.{digits}f}",
            "Q": instrument.quantity(instrument.min_quantity),
            "b": book["bidPrice"],
            "B": book["bidQty"],
            "a": book["askPrice"],
            "A": book["askQty"],
            "O": self.now_ms - 86_400_000,
            "C": self.now_ms,
            "F": 1,
            "L": 86_400,
            "n": 86_400,
        }

    def _print(self, quote: Quote, instrument: Instrument, kind: str) -> dict[str, Any]:
        number = self.now_ms // 1000
        shown: dict[str, Any] = {
            "e": kind,
            "E": self.now_ms,
            "T": self.now_ms,
            "s": quote.symbol,
            "p": instrument.price(quote.last),
            "q": instrument.quantity(instrument.min_quantity),
            "m": bool(number % 2),
        }
        if kind == "trade":
            return shown | {"t": number, "X": "MARKET"}
        return shown | {"a": number, "f": number, "l": number, "nq": shown["q"]}

    def _partial_depth(self, quote: Quote, instrument: Instrument, count: int) -> dict[str, Any]:
        bids, asks = (depth_levels(instrument, quote, side, count) for side in (SELL, BUY))
        return self._depth_update(quote, quote.update_id - 1, bids, asks)

    def begin(self, stream: Stream) -> None:
        """Somebody listens: changes of the book are told from here on."""
        quote = self.service.exchange.venue.quotes.get(stream.symbol)
        if stream.is_difference and quote is not None and stream.symbol not in self.books:
            self.books[stream.symbol] = Book(quote.update_id, self._sides(quote))

    def end(self, stream: Stream) -> None:
        """Nobody listens any more."""
        if stream.is_difference:
            self.books.pop(stream.symbol, None)

    def _sides(self, quote: Quote) -> dict[str, dict[str, str]]:
        instrument = self.service.exchange.venue.markets.futures[quote.symbol]
        return {side: dict(depth_levels(instrument, quote, side, DEPTH_LEVELS)) for side in (SELL, BUY)}

    def _difference(self, quote: Quote, instrument: Instrument) -> dict[str, Any] | None:
        """Changed levels since the last message, gone ones with quantity zero; one message a round."""
        book = self.books.get(quote.symbol)
        if book is None:
            return None
        if book.round == self.round:
            return book.told
        book.round, book.told = self.round, None
        if book.update_id == quote.update_id:
            return None
        sides, zero = self._sides(quote), instrument.quantity(instrument.step * 0)
        bids, asks = (_changes(book.sides[side], sides[side], zero) for side in (SELL, BUY))
        book.told = self._depth_update(quote, book.update_id, bids, asks)
        book.update_id, book.sides = quote.update_id, sides
        return book.told

    def _depth_update(
        self, quote: Quote, before: int, bids: list[list[str]], asks: list[list[str]]
    ) -> dict[str, Any]:
        return {
            "e": "depthUpdate",
            "E": self.now_ms,
            "T": self.now_ms,
            "s": quote.symbol,
            "U": before + 1,
            "u": quote.update_id,
            "pu": before,
            "b": bids,
            "a": asks,
        }


def _changes(before: dict[str, str], now: dict[str, str], zero: str) -> list[list[str]]:
    gone = [[price, zero] for price in before if price not in now]
    return gone + [[price, quantity] for price, quantity in now.items() if before.get(price) != quantity]
