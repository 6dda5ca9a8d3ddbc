"""The watcher's memory: levels of all open positions, and the marks that crossed them and wait to be written.

1. Levels in memory are copies of rows: a restart loses nothing, and what a row says was reached fires once.
2. Of several watchers one writes, and only in a transaction that finds it still leading; the others keep
   what they saw crossed for a few seconds, so that whoever takes over misses nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from time import monotonic

import structlog
from django.db import DatabaseError
from django.db.models import Q
from django.utils import timezone

from exchange.loop import gc_freeze
from trading.domain.exits import MarkSpan
from trading.domain.states import PositionStatus
from trading.domain.watch import Breach, LevelBook
from trading.services import levels, watching
from trading.services.bells import Bells
from trading.services.levels import Levels
from trading.services.watching import Hold, NotLeading, nobody_else

CHUNK = 25
"""Positions written in one transaction: the first exits of a thousand leave while the next are written."""

OVERLAP = timedelta(seconds=10)
"""How far a reload looks back: longer than any transaction between its writes and its commit."""

FIRST_SLICE = 5_000
SLICE = 1_000
ROUND_SECONDS = 60.0
LONGEST_SLICE_SECONDS = 10.0
KEPT_SECONDS = 5.0
"""Longer than any take-over: what a watcher that stands by saw crossed is its leader's work by then."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Crossed:
    """The marks that crossed a level of a position, since when."""

    span: MarkSpan
    since: float


class Watcher:
    """The levels of all open positions and the marks not yet acted upon. No I/O but the database."""

    def __init__(self, hold: Hold = nobody_else) -> None:
        """`hold` is asked inside each transaction that writes: whether this one still leads."""
        self._hold = hold
        self._book = LevelBook()
        self._crossed: dict[int, _Crossed] = {}
        self._marks: Mapping[str, Decimal] = {}
        self._marked_at = 0
        self._read_at: datetime | None = None
        self._after = 0
        self.is_loaded = False

    @property
    def watched(self) -> int:
        """How many positions are watched."""
        return len(self._book)

    def symbols(self) -> frozenset[str]:
        """The symbols whose marks are waited for."""
        return self._book.symbols()

    @property
    def read_at(self) -> datetime | None:
        """Everything written before this is watched, or will be once `is_loaded`."""
        return self._read_at

    def digest(self) -> Mapping[str, tuple[int, int]]:
        """What is watched, as counts and sums by symbol and side."""
        return self._book.digest()

    # ── from rows ────────────────────────────────────────────────────────────

    def load(self) -> None:
        """Take every open position's levels from the rows; what they say was reached never fires again."""
        wall = timezone.now()
        found = levels.levels_of(Q(status=PositionStatus.OPEN))
        self._book = LevelBook(watched for watched in found.values() if watched is not None)
        self._see_again(found)
        # Only now: a read that failed is made again, from where the last good one began.
        self._read_at, self.is_loaded = wall, True

    def begin(self, marks: Mapping[str, Decimal]) -> None:
        """Begin to load slice by slice: first the positions whose stop these marks have reached already."""
        wall = timezone.now()
        self._note_marks(marks)
        self._take(levels.levels_of(Q(pk__in=levels.stops_behind(marks))) if marks else {})
        self._read_at = wall

    def take_slice(self) -> None:
        """Read the next slice of all open positions, over and over: whatever a refresh missed is found."""
        size = SLICE if self.is_loaded else FIRST_SLICE
        found = levels.next_levels(self._after, size)
        until = max(found) if len(found) == size else None
        self._take(dict.fromkeys(self._book.between(self._after, until)) | found)
        if not self.is_loaded:
            gc_freeze()  # what is watched is no garbage: looking through it again costs more than loading
        if until is None:
            self.is_loaded = True
        self._after = until or 0

    def slice_seconds(self) -> float:
        """How long to wait for the next slice, so that a round takes a minute at most."""
        if not self.is_loaded:
            return 0.0
        return min(LONGEST_SLICE_SECONDS, ROUND_SECONDS * SLICE / max(1, self.watched))

    def refresh(self) -> None:
        """Take over what moved since the last read."""
        if self._read_at is None:
            self.load()
            return
        wall = timezone.now()
        written = levels.versions_since(self._read_at - OVERLAP)
        moved = [pk for pk, version in written.items() if self._book.version_of(pk) != version]
        self._take(levels.levels_of(Q(pk__in=moved)) if moved else {})
        self._read_at = wall

    def _take(self, found: Levels) -> None:
        """Watch rows as they are now."""
        self._put(found)
        for position_id in found:
            self._forget_done(position_id, found)
        self._see_again(found)

    def _see_again(self, found: Levels) -> None:
        """Marks seen since rows were written may have crossed them already; one of before never does."""
        old = {one.position_id: one for one in found.values() if one and one.version <= self._marked_at}
        marks = {one.symbol: self._marks[one.symbol] for one in old.values() if one.symbol in self._marks}
        self._note_crossed(breach for breach in self._book.breaches(marks) if breach.position_id in old)

    def _forget_done(self, position_id: int, found: Levels) -> None:
        """What was crossed is done when the row asks for nothing at those marks any more."""
        crossed, watched = self._crossed.get(position_id), found[position_id]
        if crossed is not None and (watched is None or not watched.is_crossed_by(crossed.span)):
            del self._crossed[position_id]

    # ── from marks ───────────────────────────────────────────────────────────

    def on_marks(self, marks: Mapping[str, Decimal], now: datetime) -> Bells:
        """Act on one tick: the marks by perpetual symbol. Returns what is due.

        A position whose row could not be written keeps the span of its marks until it can.
        """
        self.see(marks)
        bells = self.act(now)
        self.refresh()
        return bells.add(self.act(now))

    def see(self, marks: Mapping[str, Decimal]) -> None:
        """Note what these marks have crossed."""
        self._note_marks(marks)
        self._note_crossed(self._book.breaches(marks))

    def act(self, now: datetime) -> Bells:
        """Follow the plans of what was crossed, and return the bells; what cannot be written is kept."""
        bells = Bells()
        for chunk in self.acts(now):
            bells.add(chunk)
        return bells

    def acts(self, now: datetime) -> Iterator[Bells]:
        """As `act`, chunk by chunk: whoever rings each at once lets its exits leave before the next."""
        crossed = sorted(self._crossed)
        for start in range(0, len(crossed), CHUNK):
            chunk = crossed[start : start + CHUNK]
            try:
                # First the bells: what is read again here is for the next mark.
                yield watching.evaluate({pk: self._crossed[pk].span for pk in chunk}, now, self._hold)
                found = levels.levels_of(Q(pk__in=chunk))
            except (DatabaseError, NotLeading) as error:
                log.warning("watch_not_written", positions=len(chunk), error=type(error).__name__)
                continue
            for position_id in chunk:
                del self._crossed[position_id]
            self._put(found)

    @property
    def crossed(self) -> frozenset[int]:
        """The positions whose crossed levels wait to be written."""
        return frozenset(self._crossed)

    def forget_all(self) -> None:
        """Keep nothing of what was crossed."""
        self._crossed.clear()

    def forget_old(self) -> None:
        """For one who stands by: what was crossed longer ago than a take-over lasts is the leader's."""
        oldest = monotonic() - KEPT_SECONDS
        self._crossed = {pk: one for pk, one in self._crossed.items() if one.since > oldest}

    def _put(self, found: Levels) -> None:
        """Watch what was just followed; its levels are crossed again by the next mark only."""
        for position_id, watched in found.items():
            if watched is None:
                self._book.remove(position_id)
            else:
                self._book.put(watched)

    def _note_marks(self, marks: Mapping[str, Decimal]) -> None:
        self._marks = {**self._marks, **marks}
        self._marked_at = levels.version_at(timezone.now())

    def _note_crossed(self, breaches: Iterable[Breach]) -> None:
        since = monotonic()
        for breach in breaches:
            mark = breach.mark_price
            crossed = self._crossed.setdefault(breach.position_id, _Crossed(MarkSpan.at(mark), since))
            crossed.span = MarkSpan(min(crossed.span.low, mark), max(crossed.span.high, mark))
            crossed.since = since
