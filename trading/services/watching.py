"""Watching: the plan of a position followed through the marks it saw; what is due is written and rung.

1. Nothing is sent here. An intent or a moved stop is committed, with the first order of an exit where nothing
   stands in its way, and the bells are returned.
2. A stop that was seen at the exchange has priority for two seconds after the cross; `crossing` tells.
3. A chunk of positions is read and written in a fixed number of statements.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from django.db import transaction
from django.db.models import Q

from trading.domain import exits
from trading.domain.exit_plan import ExitPlan
from trading.domain.exits import ExitAction, MarkSpan
from trading.domain.states import CloseReason, PositionStatus
from trading.models import Position, PositionEvent
from trading.services import plans
from trading.services.bells import Bells
from trading.services.crossing import RestingStops, follow_cross
from trading.services.intents import STOP_RULES, already_wanted, want
from trading.services.position_changes import PositionChanges
from trading.services.position_rows import lock_many, step
from trading.services.quick_exits import lock_with_exits, write_and_order

Hold = Callable[[], bool]


class NotLeading(Exception):
    """Another watcher leads by now: nothing was written."""


def nobody_else() -> bool:
    """Hold for whoever watches alone: a replay."""
    return True


def evaluate(spans: Mapping[int, MarkSpan], now: datetime, hold: Hold = nobody_else) -> Bells:
    """Follow the plan of each position through the marks it saw, in one transaction; what changed is rung.

    Raises `NotLeading`, with nothing written, when `hold` says so inside it.
    """
    with transaction.atomic():
        if not hold():
            raise NotLeading
        locked, earlier = lock_with_exits(spans)
        stops, changes = RestingStops(locked), PositionChanges()
        for position in locked:
            changes.take(position, _follow_plan(position, spans[position.pk], stops, now))
        return write_and_order(changes, earlier, now)


def attend(position_ids: Sequence[int], now: datetime) -> Bells:
    """What needs no new mark: the time limit, and the end of a crossed stop's priority.

    Rings nothing of its own: whoever attends goes on closing the same positions.
    """
    ripe = Q(check_at__lte=now) & Q(pk__in=position_ids, status=PositionStatus.OPEN, closing_for="")
    waiting = list(Position.objects.filter(ripe, is_foreign=False).values_list("pk", flat=True))
    if not waiting:
        return Bells()
    with transaction.atomic():
        locked = lock_many(waiting)
        stops, changes = RestingStops(locked), PositionChanges()
        for position in locked:
            plan = plans.plan_of(position)
            changes.take(position, None if plan is None else _attend(position, plan, stops, now))
        changes.write()
    return Bells()


def _attend(
    position: Position, plan: ExitPlan, stops: RestingStops, now: datetime
) -> Sequence[PositionEvent] | None:
    if position.closing_for:
        return None
    if position.crossed_at is not None:
        steps = follow_cross(position, plan, stops, now)
        if steps is not None:
            return steps
    if plan.expires_at is not None and now >= plan.expires_at:
        return _wanted(want(position, CloseReason.TIME_LIMIT, now))
    return None


def due(now: datetime) -> list[int]:
    """Positions that asked to be looked at by now, closed ones with stops still to remove included."""
    return list(Position.objects.filter(check_at__lte=now).values_list("pk", flat=True))


def _follow_plan(
    position: Position, span: MarkSpan, stops: RestingStops, now: datetime
) -> Sequence[PositionEvent] | None:
    """Take what the marks ask for into the row in memory; the steps of its timeline, None for nothing."""
    plan = plans.plan_of(position)
    if plan is None or position.status != PositionStatus.OPEN or position.closing_for:
        return None
    open_quantity = position.quantity - already_wanted(position)
    realized = position.realized_profit
    action = exits.evaluate(plan, span, now, open_quantity=open_quantity, realized=realized)
    if action is None:
        return None
    if action.levels or not action.closes_all:
        return _harvest(position, action, now)
    if action.reasons[0] in STOP_RULES:
        return follow_cross(position, plan, stops, now)
    return _wanted(want(position, action.reasons[0], now))


def _harvest(position: Position, action: ExitAction, now: datetime) -> list[PositionEvent]:
    """Take the reached levels and the nearer stop into the row, with what is wanted sold for them."""
    stop_before, steps = position.stop_price, []
    plans.keep_plan(position, action.plan)
    if position.stop_price != stop_before:
        told = {"stop_price": position.stop_price, "reason": action.plan.stop_reason}
        steps.append(step(position, "STOP_MOVED", now, **told))
    if action.quantity > 0:
        quantity = None if action.closes_all else action.quantity
        wanted = want(position, action.reasons[-1], now, quantity=quantity, legs=action.levels)
        steps += _wanted(wanted) or []
    position.check_at = now
    return steps


def _wanted(event: PositionEvent | None) -> list[PositionEvent] | None:
    return None if event is None else [event]
