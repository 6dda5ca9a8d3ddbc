"""What closed each position, judged from the exchange's own ledger and book, and from nothing of the desk's.

unprotected  it was open for longer than ten seconds of the market's time without a stop at the exchange
overshot     an order closed more than was open
doubled      its stop fired, and a further order closed it as well
unexplained  its stop did not fire at the first price beyond its trigger, or filled otherwise than the book
             there gives: a loss beyond the stop that is not the market's
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal

from paper import ledger
from paper.engine.book import walk
from paper.engine.orders import BUY, SELL
from paper.feeds.replay import ReplayFeed
from paper.ledger import Row
from paper.symbols import Instrument

UNPROTECTED_MS = 10_000
ANY_PRICE = {BUY: Decimal("Infinity"), SELL: Decimal(0)}
CONDITIONAL = "conditional"

Passed = Mapping[int, Decimal]
"""The prices of one symbol, mark and last alike, by their moment in milliseconds, in order of time."""


@dataclass(slots=True)
class Life:
    """One position at the exchange: what the ledger has of its symbol from its first fill until flat."""

    account: str
    symbol: str
    is_long: bool
    rows: list[Row] = field(default_factory=list)
    held: Decimal = Decimal(0)

    @property
    def closing_side(self) -> str:
        """The side of an order that reduces it."""
        return SELL if self.is_long else BUY

    @property
    def is_flat(self) -> bool:
        """Whether nothing of it is left; more than all of it may have been closed."""
        return self.held <= 0

    @property
    def closers(self) -> list[Row]:
        """The orders that reduce it, those that a stop became included."""
        placed = (row for row in self.rows if row.kind == ledger.PLACED and row.store != CONDITIONAL)
        return [row for row in placed if row.side == self.closing_side]

    def take(self, row: Row) -> None:
        """Add a row; `held` follows its fills."""
        self.rows.append(row)
        if row.kind == ledger.FILL:
            self.held += -row.quantity if row.side == self.closing_side else row.quantity

    def of(self, order: Row, kind: str) -> list[Row]:
        """What the ledger says of an order."""
        same = (row for row in self.rows if row.client_order_id == order.client_order_id)
        return [row for row in same if row.kind == kind]

    def __str__(self) -> str:
        return f"{self.account} {self.symbol} {'long' if self.is_long else 'short'}"


@dataclass(frozen=True, slots=True)
class StopOut:
    """A stop that fired: what was lost beyond its trigger, as a fraction of the trigger."""

    account: str
    symbol: str
    time_ms: int
    slip: Decimal


@dataclass(slots=True)
class Verdict:
    """What is wrong, by kind: nothing is the only good answer."""

    unprotected: list[str] = field(default_factory=list)
    overshot: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    unexplained: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> dict[str, list[str]]:
        """The kinds of which something was found."""
        return {kind: found for kind, found in asdict(self).items() if found}


def points_of(feed: ReplayFeed) -> dict[str, dict[int, Decimal]]:
    """Every price of every symbol that the feed passes."""
    passed: dict[str, dict[int, Decimal]] = defaultdict(dict)
    while True:
        for point in feed.points():
            passed[point.symbol][feed.now_ms] = point.mark
        if feed.done:
            return passed
        feed.advance()


def lives_of(rows: Iterable[Row]) -> Iterator[Life]:
    """The positions of one-way futures accounts one after another; those still open last."""
    open_ones: dict[tuple[str, str], Life] = {}
    for row in rows:
        place = (row.account, row.symbol)
        if row.kind == ledger.FILL and place not in open_ones:
            open_ones[place] = Life(*place, is_long=row.side == BUY)
        if place not in open_ones:
            continue
        open_ones[place].take(row)
        if open_ones[place].is_flat:
            yield open_ones.pop(place)
    yield from open_ones.values()


def judge(lives: Iterable[Life], passed: Mapping[str, Passed], table: Mapping[str, Instrument]) -> Verdict:
    """Judge every position; `passed` are the prices that the exchange went through, `table` its symbols."""
    verdict = Verdict()
    for life in lives:
        if life.held < 0:
            verdict.overshot.append(f"{life}: {-life.held} more than was open")
        bare_ms = _bare_ms(life, max(passed[life.symbol]))
        if bare_ms > UNPROTECTED_MS:
            verdict.unprotected.append(f"{life}: {bare_ms / 1000:.0f} s without a stop")
        for stop in _fired(life):
            _judge_stop(life, stop, passed[life.symbol], table[life.symbol], verdict)
    return verdict


def stop_outs_of(lives: Iterable[Life]) -> list[StopOut]:
    """Every stop that fired, and how far beyond its trigger it filled on average."""
    found = []
    for life in lives:
        for stop in _fired(life):
            fills = life.of(stop, ledger.FILL)
            filled = sum((row.quantity for row in fills), Decimal(0))
            paid = sum((row.quantity * row.price for row in fills), Decimal(0))
            slip = (stop.stop_price - paid / filled) / stop.stop_price
            found.append(StopOut(life.account, life.symbol, stop.time_ms, slip if life.is_long else -slip))
    return found


def _fired(life: Life) -> list[Row]:
    """The stops that became an order; a second one that fired after it finds the position flat."""
    return [row for row in life.rows if row.kind == ledger.TRIGGERED and life.of(row, ledger.FILL)]


def _bare_ms(life: Life, ended_ms: int) -> int:
    """The market's time from the first fill to flat, or to the end, without a resting stop."""
    resting: set[str] = set()
    bare_ms, since_ms = 0, life.rows[0].time_ms
    for row in life.rows:
        bare_ms += 0 if resting else row.time_ms - since_ms
        since_ms = row.time_ms
        if row.store == CONDITIONAL and row.side == life.closing_side:
            (resting.add if row.kind == ledger.PLACED else resting.discard)(row.client_order_id)
    return bare_ms if resting or life.is_flat else bare_ms + ended_ms - since_ms


def _judge_stop(life: Life, stop: Row, passed: Passed, instrument: Instrument, verdict: Verdict) -> None:
    fills = [(row.price, row.quantity) for row in life.of(stop, ledger.FILL)]
    filled = sum((quantity for _, quantity in fills), Decimal(0))
    book = walk(instrument, passed[stop.time_ms], stop.side, filled, ANY_PRICE[stop.side])
    if fills != book:
        verdict.unexplained.append(f"{life}: {stop.client_order_id} filled {fills}, the book had {book}")
    if _first_beyond_ms(life, stop, passed) != stop.time_ms:
        verdict.unexplained.append(f"{life}: {stop.client_order_id} fired late, at {stop.time_ms}")
    beside = [row.client_order_id for row in life.closers if row.time_ms >= stop.time_ms]
    if beside != [stop.client_order_id]:
        verdict.doubled.append(f"{life}: {stop.client_order_id} fired, {beside} closed")


def _first_beyond_ms(life: Life, stop: Row, passed: Passed) -> int:
    """The first moment since it was placed at which the price is at the trigger or past it."""
    (placed, *_) = life.of(stop, ledger.PLACED)
    later = ((moment, price) for moment, price in passed.items() if moment > placed.time_ms)
    way = 1 if life.is_long else -1
    return next(moment for moment, price in later if (price - stop.stop_price) * way <= 0)
