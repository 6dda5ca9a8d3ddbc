"""The watcher's memory: levels of all open positions, and the marks that crossed them and wait to be written.

1. Levels in memory are copies of rows: a restart loses nothing, and what a row says was reached fires once.
2. Of several watchers one writes, and only in a transaction that finds it still leading; the others keep
   what they saw crossed for a few seconds, so that whoever takes over misses nothing.
3. A mark of before a row was written never crosses its levels: a stop that was moved past the price of then
   would be taken for reached by whoever comes to hear that price late.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from time import monotonic

import structlog
from django.db import DatabaseError
from django.utils import timezone

from exchange.loop import gc_freeze
from trading.domain.exits import MarkSpan
from trading.domain.watch import Breach, LevelBook
from trading.services import levels, watching
from trading.services.bells import Bells
from trading.services.levels import Levels
from trading.services.watching import Hold, NotLeading, nobody_else

CHUNK = 25
"""Positions written in one transaction: the first exits of a thousand leave while the next are written."""

OVERLAP = timedelta(seconds=10)
"""How far a reload looks back: longer than any transaction between its writes and its commit."""

FIRST_SLICE = 2_500
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
        self._marked_at: Mapping[str, int] = {}
        self._read_at: datetime | None = None
        self._after = 0
        self._unread: Sequence[int] | None = None
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
        found = levels.all_levels()
        self._book = LevelBook(watched for watched in found.values() if watched is not None)
        self._see_again(found)
        # Only now: a read that failed is made again, from where the last good one began.
        self._read_at, self.is_loaded = wall, True

    def begin(self, marks: Mapping[str, Decimal], *, late_seconds: float = 0.0) -> None:
        """Begin to load slice by slice: first the positions whose stop these marks have reached already."""
        wall = timezone.now()
        self._note_marks(marks, late_seconds)
        self._take(levels.levels_of(levels.stops_behind(marks)) if marks else {})
        self._unread = levels.open_ids(self._after)
        self._read_at = wall

    def take_slice(self) -> None:
        """Read the next slice of all open positions, over and over: whatever a refresh missed is found."""
        if self.is_loaded:
            found = levels.next_levels(self._after, SLICE)
            until = max(found) if len(found) == SLICE else None
            self._take(dict.fromkeys(self._book.between(self._after, until)) | found)
            self._after = until or 0
        else:
            self._load_on()

    def _load_on(self) -> None:
        # Without a beginning, too, nobody is loaded before everybody is read.
        unread = levels.open_ids() if self._unread is None else self._unread
        ids = unread[:FIRST_SLICE]
        self._take(dict.fromkeys(ids) | levels.levels_of(ids))
        gc_freeze()  # what is watched is no garbage: looking through it again costs more than loading
        self._unread = unread[FIRST_SLICE:]
        self.is_loaded = not self._unread
        self._after = 0 if self.is_loaded else ids[-1]

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
        self._take(levels.levels_of(moved))
        self._read_at = wall

    def _take(self, found: Levels) -> None:
        """Watch rows as they are now."""
        self._put(found)
        for position_id in found:
            self._forget_done(position_id, found)
        self._see_again(found)

    def _see_again(self, found: Levels) -> None:
        """Marks seen since rows were written may have crossed them already; one of before never does."""
        symbols = {one.symbol for one in found.values() if one is not None and one.symbol in self._marks}
        marks = {symbol: self._marks[symbol] for symbol in symbols}
        self._note_crossed(breach for breach in self._book.breaches(marks) if breach.position_id in found)

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

    def see(self, marks: Mapping[str, Decimal], *, late_seconds: float = 0.0) -> None:
        """Note what these marks have crossed, which were the market's so long ago."""
        self._note_marks(marks, late_seconds)
        self._note_crossed(self._book.breaches(marks))

    def act(self, now: datetime) -> Bells:
        """Follow the plans of what was crossed, and return the bells; what cannot be written is kept."""
        bells = Bells()
        for chunk in self.acts(now):
            bells.add(chunk)
        return bells

    def acts(self, now: datetime) -> Iterator[Bells]:
        """As `act`, chunk by chunk: whoever rings each at once lets its exits leave before the next."""
        crossed, followed = sorted(self._crossed), list[int]()
        for start in range(0, len(crossed), CHUNK):
            chunk = crossed[start : start + CHUNK]
            try:
                yield watching.evaluate({pk: self._crossed[pk].span for pk in chunk}, now, self._hold)
            except (DatabaseError, NotLeading) as error:
                log.warning("watch_not_written", positions=len(chunk), error=type(error).__name__)
            else:
                followed += chunk
        self._watch_anew(followed)

    def _watch_anew(self, followed: Sequence[int]) -> None:
        """Read what was just followed. Last, for the next mark only; unread, it is followed once more."""
        if not followed:
            return
        try:
            found = levels.levels_of(followed)
        except DatabaseError as error:
            log.warning("levels_not_read", positions=len(followed), error=type(error).__name__)
            return
        for position_id in followed:
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

    def _note_marks(self, marks: Mapping[str, Decimal], late_seconds: float) -> None:
        moment = levels.version_at(timezone.now() - timedelta(seconds=late_seconds))
        self._marks = {**self._marks, **marks}
        self._marked_at = {**self._marked_at, **dict.fromkeys(marks, moment)}

    def _note_crossed(self, breaches: Iterable[Breach]) -> None:
        since = monotonic()
        for breach in breaches:
            if self._is_of_before(breach):
                continue
            mark = breach.mark_price
            crossed = self._crossed.setdefault(breach.position_id, _Crossed(MarkSpan.at(mark), since))
            crossed.span = MarkSpan(min(crossed.span.low, mark), max(crossed.span.high, mark))
            crossed.since = since

    def _is_of_before(self, breach: Breach) -> bool:
        version = self._book.version_of(breach.position_id)
        return version is not None and version > self._marked_at[breach.symbol]
