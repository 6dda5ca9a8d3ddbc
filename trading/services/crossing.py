"""A stop the mark went through: the one that rests at the exchange comes first, the desk's close second."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.conf import settings

from trading.domain.exit_plan import ExitPlan
from trading.domain.states import OrderStatus
from trading.models import Order, Position, PositionEvent
from trading.services.intents import want
from trading.services.position_rows import step
from trading.services.stops import STOPS


class RestingStops:
    """The stops of positions that were seen at the exchange and rest there; read when first asked for."""

    def __init__(self, positions: Sequence[Position]) -> None:
        """Nothing is read: most levels that are crossed are targets."""
        self._asked = [position.pk for position in positions]
        self._found: dict[int, list[Order]] | None = None

    def of(self, position: Position) -> Sequence[Order]:
        """Those of one position, the newest first."""
        if self._found is None:
            self._found = self._read()
        return self._found[position.pk]

    def _read(self) -> dict[int, list[Order]]:
        found: dict[int, list[Order]] = defaultdict(list)
        resting = Order.objects.filter(
            position__in=self._asked,
            purpose__in=STOPS,
            status__in=(OrderStatus.ACKNOWLEDGED, OrderStatus.PARTIALLY_FILLED),
            is_seen=True,
        )
        for order in resting.only("position", "trigger_price", "triggered_order_id").order_by("-pk"):
            assert order.position_id is not None  # noqa: S101 -- asked for by position
            found[order.position_id].append(order)
        return found


def follow_cross(
    position: Position, plan: ExitPlan, stops: RestingStops, now: datetime
) -> list[PositionEvent] | None:
    """Start or end the priority of the resting stop on a locked row, in memory.

    Returns the steps of its timeline, None where nothing changed. Where none of its resting `stops` was seen
    at the exchange at this price, the position is wanted closed at once. One that was seen has two seconds,
    three when it fired and hangs; then whatever is open is wanted closed.
    """
    resting = _at_plan(plan, stops.of(position))
    if resting is None:
        return _wanted(position, plan, now)
    if position.crossed_at is None:
        position.crossed_at = now
        position.check_at = now + _patience(resting)
        return [step(position, "STOP_CROSSED", now, stop_price=plan.stop_price)]
    ends_at = position.crossed_at + _patience(resting)
    if now >= ends_at:
        return _wanted(position, plan, now)
    is_new = position.check_at != ends_at
    position.check_at = ends_at
    return [] if is_new else None


def _wanted(position: Position, plan: ExitPlan, now: datetime) -> list[PositionEvent] | None:
    wanted = want(position, plan.stop_reason, now)
    return None if wanted is None else [wanted]


def _patience(resting: Order) -> timedelta:
    has_fired = bool(resting.triggered_order_id)
    limits = settings.LIMITS
    return timedelta(seconds=limits.stop_hung_seconds if has_fired else limits.stop_priority_seconds)


def _at_plan(plan: ExitPlan, stops: Sequence[Order]) -> Order | None:
    """A stop whose trigger the mark has reached, too: at the plan's price or nearer."""
    for order in stops:
        trigger = order.trigger_price
        if trigger is not None and (
            trigger >= plan.stop_price if plan.is_long else trigger <= plan.stop_price
        ):
            return order
    return None
