"""The next levels of every open position, sorted, so that a tick costs two comparisons a symbol.

Per symbol one list of prices that a falling mark crosses and one that a rising mark crosses. The extreme of
each list is looked at first: while it holds, every other level behind it holds too. A copy of rows, never the
truth: it is loaded from them, and a sweep compares it with them.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from operator import attrgetter
from typing import NamedTuple

from trading.domain.exits import WatchPrices


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
    """One open position as the book keeps it."""

    position_id: int
    symbol: str
    is_long: bool
    prices: WatchPrices


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
        for each in watched:
            self._watched[each.position_id] = each
        for each in self._watched.values():
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
        for levels, level in self._places(watched):
            insort(levels, level)

    def remove(self, position_id: int) -> None:
        """Forget a position; nothing happens when it is not watched."""
        watched = self._watched.pop(position_id, None)
        if watched is None:
            return
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
        """Return what is watched, by position, for the sweep that compares it with the rows."""
        return dict(self._watched)

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
