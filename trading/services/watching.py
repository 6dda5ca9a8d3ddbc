"""Watching: each mark against the next levels of every open position; what is crossed is written and rung.

1. Levels in memory are copies of rows: a restart loses nothing, and what a row says was reached fires once.
2. The watcher sends nothing. It commits an intent or a moved stop, and returns the bells.
3. A stop that was seen at the exchange has priority for two seconds after the cross; `crossing` tells.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import structlog
from django.db import DatabaseError, transaction
from django.db.models import F, Q
from django.db.models.functions import Coalesce
from django.utils import timezone

from trading.domain import exits
from trading.domain.exit_plan import ExitPlan
from trading.domain.exits import ExitAction, MarkSpan
from trading.domain.states import CloseReason, PositionStatus
from trading.domain.watch import LevelBook, Watched
from trading.models import Position
from trading.services import plans
from trading.services.bells import Bells
from trading.services.crossing import follow_cross
from trading.services.intents import STOP_RULES, already_wanted, want_closed
from trading.services.position_rows import lock_many, note

CHUNK = 100
"""Positions written in one transaction: a decision's thousand accounts cross the same level in one tick."""

OVERLAP = timedelta(seconds=10)
"""How far a reload looks back: longer than any transaction between its writes and its commit."""

RELOAD_ALL = timedelta(seconds=60)

log = structlog.get_logger(__name__)


class Watcher:
    """The levels of all open positions and the marks not yet acted upon. No I/O but the database."""

    def __init__(self) -> None:
        self._book = LevelBook()
        self._spans: dict[int, MarkSpan] = {}
        self._read_at: datetime | None = None
        self._loaded_at: datetime | None = None

    @property
    def watched(self) -> int:
        """How many positions are watched."""
        return len(self._book)

    def load(self) -> None:
        """Take every open position's levels from the rows; what they say was reached never fires again."""
        wall = timezone.now()
        found = _levels(Q(status=PositionStatus.OPEN))
        self._book = LevelBook(watched for watched in found.values() if watched is not None)
        # Only now: a read that failed is made again, from where the last good one began.
        self._read_at = self._loaded_at = wall

    def refresh(self) -> None:
        """Take over what moved since the last read; everything once a minute."""
        wall = timezone.now()
        if self._loaded_at is None or self._read_at is None or wall - self._loaded_at >= RELOAD_ALL:
            self.load()
            return
        self._take(_levels(Q(updated_at__gte=self._read_at - OVERLAP)))
        self._read_at = wall

    def on_marks(self, marks: Mapping[str, Decimal], now: datetime) -> Bells:
        """Act on one tick: the marks by perpetual symbol. Returns what is due.

        A position whose row could not be written keeps the span of its marks until it can.
        """
        self.refresh()
        for breach in self._book.breaches(marks):
            self._widen(breach.position_id, breach.mark_price)
        crossed = sorted(self._spans)
        bells = Bells()
        for start in range(0, len(crossed), CHUNK):
            bells.add(self._act(crossed[start : start + CHUNK], now))
        return bells

    def _act(self, position_ids: list[int], now: datetime) -> Bells:
        try:
            bells = evaluate({position_id: self._spans[position_id] for position_id in position_ids}, now)
            self._take(_levels(Q(pk__in=position_ids)))
        except DatabaseError as error:
            log.warning("watch_not_written", positions=len(position_ids), error=type(error).__name__)
            return Bells()
        for position_id in position_ids:
            del self._spans[position_id]
        return bells

    def _widen(self, position_id: int, mark_price: Decimal) -> None:
        known = self._spans.get(position_id, MarkSpan.at(mark_price))
        self._spans[position_id] = MarkSpan(min(known.low, mark_price), max(known.high, mark_price))

    def _take(self, levels: Mapping[int, Watched | None]) -> None:
        for position_id, watched in levels.items():
            if watched is None:
                self._book.remove(position_id)
            else:
                self._book.put(watched)


def evaluate(spans: Mapping[int, MarkSpan], now: datetime) -> Bells:
    """Follow the plan of each position through the marks it saw, in one transaction; what changed is rung."""
    bells = Bells()
    with transaction.atomic():
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


def _levels(which: Q) -> dict[int, Watched | None]:
    """The next levels of positions by id; None where nothing is watched (any more).

    A spot position is watched by the mark of the perpetual its signal named.
    """
    rows = Position.objects.filter(which).annotate(
        watched_symbol=Coalesce(F("allocation__decision__signal__symbol"), F("symbol"))
    )
    return {position.pk: _watched(position, position.watched_symbol) for position in rows}


def _watched(position: Position, symbol: str) -> Watched | None:
    plan = plans.plan_of(position)
    if plan is None or position.status != PositionStatus.OPEN or position.closing_for:
        return None
    open_quantity = position.quantity - already_wanted(position)
    prices = exits.watch_prices(plan, open_quantity=open_quantity, realized=position.realized_profit)
    return Watched(position.pk, symbol, position.is_long, prices)
