"""The next levels of every open position, sorted, so that a tick costs two comparisons a symbol.

Per symbol one list of prices that a falling mark crosses and one that a rising mark crosses. The extreme of
each list is looked at first: while it holds, every other level behind it holds too. A copy of rows, never the
truth: it is loaded from them, and `digest` tells what it holds, so that a sweep can compare it with them.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from operator import attrgetter
from typing import NamedTuple

from trading.domain.exits import MarkSpan, WatchPrices


class Level(NamedTuple):
    """A price at which one position asks for something; sorted by price, then position."""

    price: Decimal
    position_id: int
    is_adverse: bool


class Breach(NamedTuple):
    """A level that the mark has reached."""

    position_id: int
    symbol: str
    level: Level
    mark_price: Decimal


@dataclass(frozen=True, slots=True)
class Watched:
    """One open position as the book keeps it; `version` tells which state of its row the prices are of."""

    position_id: int
    symbol: str
    is_long: bool
    prices: WatchPrices
    version: int = 0

    def is_crossed_by(self, span: MarkSpan) -> bool:
        """Whether the marks of a span reach one of its levels."""
        worst, best = span.worst(is_long=self.is_long), span.best(is_long=self.is_long)
        ahead = self.prices.favourable
        if self.is_long:
            return worst <= self.prices.adverse or (ahead is not None and best >= ahead)
        return worst >= self.prices.adverse or (ahead is not None and best <= ahead)


class Digest:
    """How many positions of each symbol and side, and a sum over their ids and versions.

    A position more, less, or of another state changes the sum; the order in which they came does not.
    """

    def __init__(self) -> None:
        self._sums: dict[str, tuple[int, int]] = {}

    def add(self, symbol: str, position_id: int, version: int, *, is_long: bool) -> None:
        """Count a position in."""
        self._move(symbol, 1, _weight(position_id, version), is_long=is_long)

    def drop(self, symbol: str, position_id: int, version: int, *, is_long: bool) -> None:
        """Count a position out."""
        self._move(symbol, -1, -_weight(position_id, version), is_long=is_long)

    def sums(self) -> dict[str, tuple[int, int]]:
        """Count and sum by ``symbol LONG`` or ``symbol SHORT``; what holds nothing is left out."""
        return {key: told for key, told in self._sums.items() if told[0]}

    def _move(self, symbol: str, count: int, weight: int, *, is_long: bool) -> None:
        key = f"{symbol} {'LONG' if is_long else 'SHORT'}"
        known_count, known_sum = self._sums.get(key, (0, 0))
        self._sums[key] = (known_count + count, (known_sum + weight) % _SUM_LIMIT)


_SUM_LIMIT = 2**52
"""Sums stay whole numbers wherever JSON is read."""


def _weight(position_id: int, version: int) -> int:
    return (position_id * 1_000_003 + version) * 2_654_435_761 % _SUM_LIMIT


_price = attrgetter("price")


@dataclass(slots=True)
class _Side:
    """The levels of one symbol: `falling` is crossed from above, `rising` from below."""

    falling: list[Level] = field(default_factory=list)
    rising: list[Level] = field(default_factory=list)

    def crossed_by(self, mark_price: Decimal) -> list[Level]:
        crossed: list[Level] = []
        if self.falling and self.falling[-1].price >= mark_price:
            crossed += reversed(self.falling[bisect_left(self.falling, mark_price, key=_price) :])
        if self.rising and self.rising[0].price <= mark_price:
            crossed += self.rising[: bisect_right(self.rising, mark_price, key=_price)]
        return crossed


class LevelBook:
    """The levels of all watched positions; not safe for two threads at once."""

    def __init__(self, watched: Iterable[Watched] = ()) -> None:
        """Load many at once: sorted in the end, which a hundred thousand insertions would not be."""
        self._watched: dict[int, Watched] = {}
        self._symbols: dict[str, _Side] = {}
        self._digest = Digest()
        for each in watched:
            self._watched[each.position_id] = each
        for each in self._watched.values():
            self._digest.add(each.symbol, each.position_id, each.version, is_long=each.is_long)
            for levels, level in self._places(each):
                levels.append(level)
        for side in self._symbols.values():
            side.falling.sort()
            side.rising.sort()

    def __len__(self) -> int:
        return len(self._watched)

    def __contains__(self, position_id: int) -> bool:
        return position_id in self._watched

    def put(self, watched: Watched) -> None:
        """Add a position, or replace its levels by new ones."""
        if self._watched.get(watched.position_id) == watched:
            return
        self.remove(watched.position_id)
        self._watched[watched.position_id] = watched
        self._digest.add(watched.symbol, watched.position_id, watched.version, is_long=watched.is_long)
        for levels, level in self._places(watched):
            insort(levels, level)

    def remove(self, position_id: int) -> None:
        """Forget a position; nothing happens when it is not watched."""
        watched = self._watched.pop(position_id, None)
        if watched is None:
            return
        self._digest.drop(watched.symbol, position_id, watched.version, is_long=watched.is_long)
        for levels, level in self._places(watched):
            del levels[bisect_left(levels, level)]

    def breaches(self, marks: Mapping[str, Decimal]) -> list[Breach]:
        """Return every level that these marks have reached; a level stays until it is put anew or removed."""
        found: list[Breach] = []
        for symbol, mark_price in marks.items():
            side = self._symbols.get(symbol)
            if side is not None:
                found += (
                    Breach(level.position_id, symbol, level, mark_price)
                    for level in side.crossed_by(mark_price)
                )
        return found

    def watched(self) -> Mapping[int, Watched]:
        """Return what is watched, by position."""
        return dict(self._watched)

    def version_of(self, position_id: int) -> int | None:
        """Return which state of its row a position is watched in; None when it is not."""
        watched = self._watched.get(position_id)
        return None if watched is None else watched.version

    def between(self, after: int, until: int | None) -> list[int]:
        """Return the watched positions with ids beyond `after`, up to `until` or without end."""
        return [pk for pk in self._watched if pk > after and (until is None or pk <= until)]

    def digest(self) -> Mapping[str, tuple[int, int]]:
        """Return what is watched as counts and sums, for the sweep that compares it with the rows."""
        return self._digest.sums()

    def symbols(self) -> frozenset[str]:
        """Return the symbols with at least one level."""
        return frozenset(symbol for symbol, side in self._symbols.items() if side.falling or side.rising)

    def _places(self, watched: Watched) -> list[tuple[list[Level], Level]]:
        side = self._symbols.setdefault(watched.symbol, _Side())
        adverse, favourable = (side.falling, side.rising) if watched.is_long else (side.rising, side.falling)
        places = [(adverse, Level(watched.prices.adverse, watched.position_id, is_adverse=True))]
        if watched.prices.favourable is not None:
            places.append(
                (favourable, Level(watched.prices.favourable, watched.position_id, is_adverse=False))
            )
        return places
