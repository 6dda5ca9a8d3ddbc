"""Watching: each mark against the next levels of every open position; what is crossed is written and rung.

1. Levels in memory are copies of rows: a restart loses nothing, and what a row says was reached fires once.
2. The watcher sends nothing. It commits an intent or a moved stop, and returns the bells.
3. Of several watchers one writes, and only in a transaction that finds it still leading; the others keep
   what they saw crossed for a few seconds, so that whoever takes over misses nothing.
4. A stop that was seen at the exchange has priority for two seconds after the cross; `crossing` tells.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from time import monotonic

import structlog
from django.db import DatabaseError, transaction
from django.db.models import Q
from django.utils import timezone

from trading.domain import exits
from trading.domain.exit_plan import ExitPlan
from trading.domain.exits import ExitAction, MarkSpan
from trading.domain.states import CloseReason, PositionStatus
from trading.domain.watch import Breach, LevelBook
from trading.models import Position
from trading.services import levels, plans
from trading.services.bells import Bells
from trading.services.crossing import follow_cross
from trading.services.intents import STOP_RULES, already_wanted, want_closed
from trading.services.levels import Levels
from trading.services.position_rows import lock_many, note

CHUNK = 100
"""Positions written in one transaction: a decision's thousand accounts cross the same level in one tick."""

OVERLAP = timedelta(seconds=10)
"""How far a reload looks back: longer than any transaction between its writes and its commit."""

FIRST_SLICE = 5_000
SLICE = 1_000
ROUND_SECONDS = 60.0
KEPT_SECONDS = 5.0
"""Longer than any take-over: what a watcher that stands by saw crossed is its leader's work by then."""

Hold = Callable[[], bool]

log = structlog.get_logger(__name__)


class NotLeading(Exception):
    """Another watcher leads by now: nothing was written."""


def nobody_else() -> bool:
    """Hold for whoever watches alone: a replay."""
    return True


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
        if until is None:
            self.is_loaded = True
        self._after = until or 0

    def slice_seconds(self) -> float:
        """How long to wait for the next slice, so that a round takes a minute."""
        return min(ROUND_SECONDS, ROUND_SECONDS * SLICE / max(1, self.watched)) if self.is_loaded else 0.0

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
        """Watch rows as they are now; a mark seen since a row was written may have crossed it already."""
        for position_id, watched in found.items():
            if watched is None:
                self._book.remove(position_id)
            else:
                self._book.put(watched)
            self._forget_done(position_id, found)
        known = {
            watched.symbol
            for watched in found.values()
            if watched is not None and watched.version <= self._marked_at and watched.symbol in self._marks
        }
        fresh = self._book.breaches({symbol: self._marks[symbol] for symbol in known})
        self._note_crossed(
            breach
            for breach in fresh
            if (watched := found.get(breach.position_id)) is not None and watched.version <= self._marked_at
        )

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
        crossed = sorted(self._crossed)
        bells = Bells()
        for start in range(0, len(crossed), CHUNK):
            bells.add(self._act(crossed[start : start + CHUNK], now))
        return bells

    def forget_old(self) -> None:
        """For one who stands by: what was crossed longer ago than a take-over lasts is the leader's."""
        oldest = monotonic() - KEPT_SECONDS
        self._crossed = {pk: one for pk, one in self._crossed.items() if one.since > oldest}

    def _act(self, position_ids: list[int], now: datetime) -> Bells:
        try:
            spans = {position_id: self._crossed[position_id].span for position_id in position_ids}
            bells = evaluate(spans, now, self._hold)
            found = levels.levels_of(Q(pk__in=position_ids))
        except (DatabaseError, NotLeading) as error:
            log.warning("watch_not_written", positions=len(position_ids), error=type(error).__name__)
            return Bells()
        for position_id in position_ids:
            del self._crossed[position_id]
        self._put(found)
        return bells

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


def evaluate(spans: Mapping[int, MarkSpan], now: datetime, hold: Hold = nobody_else) -> Bells:
    """Follow the plan of each position through the marks it saw, in one transaction; what changed is rung.

    Raises `NotLeading`, with nothing written, when `hold` says so inside it.
    """
    bells = Bells()
    with transaction.atomic():
        if not hold():
            raise NotLeading
        for position in lock_many(spans):
            if _follow_plan(position, spans[position.pk], now):
                position.save()
                bells.positions.append(position.pk)
    return bells


def attend(position_ids: Sequence[int], now: datetime) -> Bells:
    """What needs no new mark: the time limit, and the end of a crossed stop's priority.

    Rings nothing of its own: whoever attends goes on closing the same positions.
    """
    ripe = Q(check_at__lte=now) & Q(pk__in=position_ids, status=PositionStatus.OPEN, closing_for="")
    waiting = list(Position.objects.filter(ripe, is_foreign=False).values_list("pk", flat=True))
    with transaction.atomic():
        for position in lock_many(waiting):
            plan = plans.plan_of(position)
            if plan is not None and _attend(position, plan, now):
                position.save()
    return Bells()


def _attend(position: Position, plan: ExitPlan, now: datetime) -> bool:
    if position.closing_for:
        return False
    if position.crossed_at is not None and follow_cross(position, plan, now):
        return True
    if plan.expires_at is not None and now >= plan.expires_at:
        return want_closed(position, CloseReason.TIME_LIMIT, now)
    return False


def due(now: datetime) -> list[int]:
    """Positions that asked to be looked at by now, closed ones with stops still to remove included."""
    return list(Position.objects.filter(check_at__lte=now).values_list("pk", flat=True))


def _follow_plan(position: Position, span: MarkSpan, now: datetime) -> bool:
    plan = plans.plan_of(position)
    if plan is None or position.status != PositionStatus.OPEN or position.closing_for:
        return False
    open_quantity = position.quantity - already_wanted(position)
    realized = position.realized_profit
    action = exits.evaluate(plan, span, now, open_quantity=open_quantity, realized=realized)
    if action is None:
        return False
    if action.levels or not action.closes_all:
        return _harvest(position, action, now)
    if action.reasons[0] in STOP_RULES:
        return follow_cross(position, plan, now)
    return want_closed(position, action.reasons[0], now)


def _harvest(position: Position, action: ExitAction, now: datetime) -> bool:
    """Take the reached levels and the nearer stop into the row, with what is wanted sold for them."""
    stop_before = position.stop_price
    plans.keep_plan(position, action.plan)
    if position.stop_price != stop_before:
        note(position, "STOP_MOVED", now, stop_price=position.stop_price, reason=action.plan.stop_reason)
    if action.quantity > 0:
        quantity = None if action.closes_all else action.quantity
        want_closed(position, action.reasons[-1], now, quantity=quantity, legs=action.levels)
    position.check_at = now
    return True
