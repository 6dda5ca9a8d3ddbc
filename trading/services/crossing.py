"""A stop the mark went through: the one that rests at the exchange comes first, the desk's close second."""

from datetime import datetime, timedelta

from django.conf import settings

from trading.domain.exit_plan import ExitPlan
from trading.domain.states import OrderStatus
from trading.models import Order, Position
from trading.services.intents import want_closed
from trading.services.position_rows import note
from trading.services.stops import STOPS


def follow_cross(position: Position, plan: ExitPlan, now: datetime) -> bool:
    """Start or end the priority of the resting stop on a locked row, not yet saved; False: nothing changed.

    Where no stop was seen at the exchange at this price, the position is wanted closed at once. One that was
    seen has two seconds, three when it fired and hangs; then whatever is open is wanted closed.
    """
    resting = _resting_stop(position, plan)
    if resting is None:
        return want_closed(position, plan.stop_reason, now)
    if position.crossed_at is None:
        position.crossed_at = now
        position.check_at = now + _patience(resting)
        note(position, "STOP_CROSSED", now, stop_price=plan.stop_price)
        return True
    ends_at = position.crossed_at + _patience(resting)
    if now >= ends_at:
        return want_closed(position, plan.stop_reason, now)
    is_new = position.check_at != ends_at
    position.check_at = ends_at
    return is_new


def _patience(resting: Order) -> timedelta:
    has_fired = bool(resting.triggered_order_id)
    limits = settings.LIMITS
    return timedelta(seconds=limits.stop_hung_seconds if has_fired else limits.stop_priority_seconds)


def _resting_stop(position: Position, plan: ExitPlan) -> Order | None:
    """A stop seen at the exchange whose trigger the mark has reached, too: at the plan's price or nearer."""
    at_plan = {"trigger_price__gte" if plan.is_long else "trigger_price__lte": plan.stop_price}
    resting = Order.objects.filter(
        position=position,
        purpose__in=STOPS,
        status__in=(OrderStatus.ACKNOWLEDGED, OrderStatus.PARTIALLY_FILLED),
        is_seen=True,
        **at_plan,
    )
    return resting.order_by("-pk").first()
