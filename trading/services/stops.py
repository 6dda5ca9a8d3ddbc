"""The orders of stops, committed and ready to be sent. Only stops rest at the exchange, never targets."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from exchange.port import Market
from trading.domain.exit_plan import ExitPlan
from trading.domain.instrument import floor_quantity, round_stop
from trading.domain.limits import Limits
from trading.domain.percent import ONE, sign
from trading.domain.states import OPEN, CloseReason, OrderPurpose
from trading.models import Order, Position
from trading.services import plans
from trading.services.orders import new_stop
from trading.services.plans import instrument_of

STOPS = (OrderPurpose.HARD_STOP, OrderPurpose.WORKING_STOP)


def is_spot(position: Position) -> bool:
    """Whether the position is coins in a wallet."""
    return position.market == Market.SPOT


def stop_quantity(position: Position) -> Decimal:
    """What a stop has to cover: all that is open, on spot what the step lets us sell of it."""
    instrument = instrument_of(position) if is_spot(position) else None
    return floor_quantity(instrument, position.quantity) if instrument else position.quantity


def order_hard_stop(position: Position, now: datetime) -> Order | None:
    """Commit the order of the stop that is never moved; None while one is alive or the plan is missing."""
    there = list(Order.objects.filter(position=position, purpose__in=STOPS))
    plan = plans.plan_of(position)
    if plan is None:
        return None
    order = new_hard_stop(position, plan, there, plans.limits_of(position.account), now)
    if order is not None:
        order.save()
    return order


def new_hard_stop(
    position: Position, plan: ExitPlan, there: Sequence[Order], limits: Limits, now: datetime
) -> Order | None:
    """Build the order of the stop that is never moved; None while one is alive.

    `there` are all stops the position ever had. On spot none rests while an exit is wanted: it would lock the
    coins the exit has to sell.
    """
    alive = {order.purpose for order in there if order.status in OPEN}
    if OrderPurpose.HARD_STOP in alive:
        return None
    if is_spot(position):
        return None if position.is_closing or alive else _spot_stop(position, plan, there, limits, now)
    is_shared = position.foreign_quantity > 0
    order = new_stop(
        position,
        purpose=OrderPurpose.HARD_STOP,
        trigger_price=plan.hard_stop_price,
        quantity=position.quantity if is_shared else None,
        close_position=not is_shared,
        attempt=_next_attempt(there, OrderPurpose.HARD_STOP),
        now=now,
    )
    order.reason = CloseReason.STOP_LOSS
    return order


def order_second_stop(position: Position, now: datetime) -> Order | None:
    """Commit a stop with a quantity beside one that was accepted but never seen.

    A second close-position stop would be refused.
    """
    plan = plans.plan_of(position)
    if plan is None or is_spot(position) or _has_live(position, OrderPurpose.WORKING_STOP):
        return None
    return _commit_stop(_stop_for_quantity(position, plan, now), plan.stop_reason)


def order_working_stop(position: Position, now: datetime) -> Order | None:
    """Commit the futures stop at the plan's present price for what is open now, beside the hard one."""
    plan = plans.plan_of(position)
    if plan is None or position.quantity <= 0 or is_spot(position):
        return None
    return _commit_stop(_stop_for_quantity(position, plan, now), plan.stop_reason)


def _stop_for_quantity(position: Position, plan: ExitPlan, now: datetime) -> Order:
    return new_stop(
        position,
        purpose=OrderPurpose.WORKING_STOP,
        trigger_price=plan.stop_price,
        quantity=position.quantity,
        close_position=False,
        now=now,
    )


def _spot_stop(
    position: Position, plan: ExitPlan, there: Sequence[Order], limits: Limits, now: datetime
) -> Order | None:
    """A stop-loss limit through the trigger, for what the wallet can really give: our fills less fees."""
    instrument = instrument_of(position)
    if instrument is None:
        return None
    through = limits.spot_stop_limit * sign(is_long=position.is_long)
    purpose = OrderPurpose.WORKING_STOP if plan.has_moved_stop else OrderPurpose.HARD_STOP
    order = new_stop(
        position,
        purpose=purpose,
        trigger_price=plan.stop_price,
        quantity=floor_quantity(instrument, position.quantity),
        close_position=False,
        price=round_stop(plan.stop_price * (ONE - through), instrument.tick, is_long=position.is_long),
        attempt=_next_attempt(there, purpose),
        now=now,
    )
    order.reason = plan.stop_reason
    return order


def _next_attempt(there: Sequence[Order], purpose: OrderPurpose) -> int:
    return sum(order.purpose == purpose for order in there) + 1


def _commit_stop(order: Order, reason: CloseReason) -> Order:
    order.reason = reason
    order.save()
    return order


def _has_live(position: Position, purpose: OrderPurpose) -> bool:
    return Order.objects.filter(position=position, purpose=purpose, status__in=OPEN).exists()
