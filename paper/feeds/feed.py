"""What the exchange asks of a source of prices."""

from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple, Protocol

from paper.engine.exchange import Point
from paper.feeds.candles import Candle
from paper.symbols import Instrument

WARM_DAYS = 30


class DataMissing(Exception):  # said to the person who chose the feed
    """There are no prices to start with."""


class Settlement(NamedTuple):
    """One past funding: its time, its rate and the mark price it was reckoned with."""

    time_ms: int
    funding_rate: Decimal
    mark_price: Decimal


class Feed(Protocol):
    """A clock with prices. Times are milliseconds UTC of the feed, which need not be today's."""

    kind: str

    @property
    def now_ms(self) -> int:
        """The moment the feed stands at."""

    @property
    def done(self) -> bool:
        """Nothing is left to advance to."""

    @property
    def symbols(self) -> frozenset[str]:
        """The symbols it has prices for."""

    def advance(self) -> bool:
        """Move one price point; whether that closed a candle of the driving timeframe."""

    def points(self) -> list[Point]:
        """The prices at `now_ms`, of the symbols that moved."""

    def first_ms(self, symbol: str, interval_ms: int) -> int:
        """Where its past begins: there is no candle of that interval before."""

    def candles(self, symbol: str, interval_ms: int, start_ms: int, end_ms: int) -> list[Candle]:
        """Candles opened within [start_ms, end_ms], the forming one last; never beyond `now_ms`."""

    def preparing(self, symbol: str, interval_ms: int, start_ms: int, end_ms: int) -> Iterator[None]:
        """Short steps of work, after which the same `candles` are quick."""

    def day(self, symbol: str) -> Candle:
        """The rolling last 24 hours as one candle."""

    def funding(self, symbol: str, start_ms: int, end_ms: int) -> list[Settlement]:
        """Settlements that have happened, oldest first."""


def on_grid(value: float, instrument: Instrument) -> Decimal:
    """The float as a price the market could show."""
    return max(1, round(value / float(instrument.tick))) * instrument.tick
