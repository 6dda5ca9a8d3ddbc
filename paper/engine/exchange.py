"""The whole engine behind one door: markets, stores and risk over one venue, moved by price points."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from paper.engine.book import Quote
from paper.engine.conditional import ConditionalStore
from paper.engine.futures import FuturesMarket
from paper.engine.risk import RiskEngine
from paper.engine.spot import SpotMarket
from paper.engine.venue import Settings, Venue
from paper.symbols import Markets


@dataclass(slots=True)
class Point:
    """One symbol's new prices; `funding_rate` is what the next settlement will use."""

    symbol: str
    mark: Decimal
    last: Decimal
    index: Decimal
    funding_rate: Decimal
    next_funding_ms: int


class Exchange:
    """Accounts and orders over quotes that only `move` changes."""

    def __init__(self, markets: Markets, settings: Settings) -> None:
        self.venue = Venue(markets, settings)
        self.futures = FuturesMarket(self.venue)
        self.conditional = ConditionalStore(self.venue, self.futures)
        self.risk = RiskEngine(self.venue, self.futures)
        self.spot = SpotMarket(self.venue)
        self.pinned: dict[str, tuple[Decimal, Decimal]] = {}

    def move(self, now_ms: int, points: Iterable[Point]) -> None:
        """Take the feed's next prices: funding first, then triggers, resting orders and liquidations.

        All quotes change before anything reacts, so that an account is judged at one moment.
        """
        self.venue.now_ms = max(now_ms, self.venue.now_ms)
        quotes = [self._take(point) for point in points]
        self.futures.release_held_back()
        self.spot.release_held_back()
        self.react(quotes)

    def _take(self, point: Point) -> Quote:
        quote = self.venue.quotes.get(point.symbol)
        if quote is None:
            quote = Quote(point.symbol, point.mark, point.last, point.index)
            quote.next_funding_ms = point.next_funding_ms
            self.venue.quotes[point.symbol] = quote
        quote.mark, quote.last = self.pinned.get(point.symbol, (point.mark, point.last))
        quote.index = point.index
        quote.renew(self.venue.now_ms)
        if self.venue.now_ms >= quote.next_funding_ms:
            self.risk.charge_funding(quote)
        quote.funding_rate, quote.next_funding_ms = point.funding_rate, point.next_funding_ms
        return quote

    def react(self, quotes: list[Quote]) -> None:
        """Everything new quotes set off; stops go before liquidations."""
        for quote in quotes:
            self.conditional.on_quote(quote)
            self.futures.match_resting(quote.symbol)
            self.spot.on_quote(quote.symbol)
        self.risk.check(quotes)

    def pin(self, symbol: str, mark: Decimal, last: Decimal) -> None:
        """Jump a symbol's prices and keep them there until released."""
        self.venue.instrument(symbol)
        self.pinned[symbol] = (mark, last)
        quote = self.venue.quotes[symbol]
        quote.mark, quote.last = mark, last
        quote.renew(self.venue.now_ms)
        self.react([quote])

    def release(self, symbol: str) -> None:
        """Let the feed move the symbol again."""
        self.pinned.pop(symbol, None)
