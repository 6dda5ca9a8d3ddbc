"""What one tick asks of an open position: close, harvest, move the stop, or nothing (section 6).

Promises:
1. No action closes more than is open, and none leaves what could not be closed alone.
2. Several targets in one tick are one action with summed legs and the furthest stop.
3. Where stop and target were both crossed between two ticks, it was the stop.
4. The stop of a trailing plan depends on the best mark only, not on how ticks were grouped.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from trading.domain.exit_plan import SINGLE_LOT_LEVEL, ExitPlan, Level, Outlook
from trading.domain.instrument import floor_to, round_stop
from trading.domain.percent import ZERO, price_at, price_move, sign
from trading.domain.states import CloseReason

TAKE_PROFITS = (CloseReason.TAKE_PROFIT_1, CloseReason.TAKE_PROFIT_2, CloseReason.TAKE_PROFIT_3)


@dataclass(frozen=True, slots=True)
class MarkSpan:
    """The lowest and highest mark since the last evaluation."""

    low: Decimal
    high: Decimal

    @classmethod
    def at(cls, mark_price: Decimal) -> "MarkSpan":
        """Return the span of a single mark."""
        return cls(low=mark_price, high=mark_price)

    def worst(self, *, is_long: bool) -> Decimal:
        """Return the mark that hurt the position most."""
        return self.low if is_long else self.high

    def best(self, *, is_long: bool) -> Decimal:
        """Return the mark that favoured the position most."""
        return self.high if is_long else self.low


@dataclass(frozen=True, slots=True)
class ExitAction:
    """What one tick asks for: close `quantity` (0 moves the stop only), then follow `plan`."""

    plan: ExitPlan
    quantity: Decimal = ZERO
    reasons: tuple[CloseReason, ...] = ()
    levels: tuple[int, ...] = ()
    closes_all: bool = False


@dataclass(frozen=True, slots=True)
class WatchPrices:
    """The next marks at which `evaluate` would act; None where nothing waits on that side."""

    adverse: Decimal
    favourable: Decimal | None


def evaluate(
    plan: ExitPlan,
    span: MarkSpan,
    now: datetime,
    *,
    open_quantity: Decimal,
    realized: Decimal = ZERO,
) -> ExitAction | None:
    """Return what the marks of `span` ask for; None while the plan holds as it is.

    `open_quantity` is what the exchange says is open, `realized` the profit of the legs closed so far.
    """
    if open_quantity <= 0:
        return None
    worst, best = span.worst(is_long=plan.is_long), span.best(is_long=plan.is_long)
    reason = close_reason(plan, worst, now, open_quantity=open_quantity, realized=realized)
    if reason is not None:
        return ExitAction(plan, open_quantity, (reason,), closes_all=True)
    after, newly = _reach(plan, best)
    after = _trail(after, best)
    return None if after == plan else _harvest(after, newly, open_quantity)


def close_reason(
    plan: ExitPlan, mark_price: Decimal, now: datetime, *, open_quantity: Decimal, realized: Decimal
) -> CloseReason | None:
    """Return the first reason to close everything at `mark_price`, worst first; None while none holds."""
    if _is_through(plan, plan.stop_price, mark_price):
        return plan.stop_reason
    guard = loss_guard_price(plan, open_quantity=open_quantity, realized=realized)
    if guard is not None and _is_through(plan, guard, mark_price):
        return CloseReason.LOSS_GUARD
    if plan.expires_at is not None and now >= plan.expires_at:
        return CloseReason.TIME_LIMIT
    return None


def _is_through(plan: ExitPlan, price: Decimal, mark_price: Decimal) -> bool:
    return (mark_price - price) * sign(is_long=plan.is_long) <= 0


def _is_reached(plan: ExitPlan, price: Decimal, mark_price: Decimal) -> bool:
    return (mark_price - price) * sign(is_long=plan.is_long) >= 0


def loss_guard_price(
    plan: ExitPlan | Outlook, *, open_quantity: Decimal, realized: Decimal
) -> Decimal | None:
    """Return the mark at which realised and open loss together reach the guard; None when there is none."""
    if plan.loss_guard_amount is None or open_quantity <= 0:
        return None
    room = (plan.loss_guard_amount + realized) / open_quantity
    price = plan.entry_price - room * sign(is_long=plan.is_long)
    return price if price > 0 else None


def _reach(plan: ExitPlan, mark_price: Decimal) -> tuple[ExitPlan, tuple[Level, ...]]:
    newly = tuple(
        level for level in plan.levels if not level.reached and _is_reached(plan, level.price, mark_price)
    )
    numbers = {level.number for level in newly}
    levels = tuple(replace(level, reached=level.reached or level.number in numbers) for level in plan.levels)
    return _ratchet(replace(plan, levels=levels), numbers), newly


def _ratchet(plan: ExitPlan, reached: set[int]) -> ExitPlan:
    """After the first target to break-even, after the second to the first target's price."""
    if 1 in reached:
        plan = plan.tighten(plan.break_even_price, CloseReason.BREAK_EVEN)
    if SINGLE_LOT_LEVEL in reached:
        plan = plan.tighten(plan.levels[0].price, CloseReason.RATCHET)
    return plan


def _trail(plan: ExitPlan, mark_price: Decimal) -> ExitPlan:
    start = plan.trail_start_price
    if start is None or not _is_reached(plan, start, mark_price):
        return plan
    move = floor_to(price_move(is_long=plan.is_long, entry_price=start, price=mark_price), plan.trail_step)
    if plan.trail_move is not None and move <= plan.trail_move:
        return plan
    peak = price_at(is_long=plan.is_long, entry_price=start, move=move)
    stop = price_at(is_long=plan.is_long, entry_price=peak, move=-plan.trail_distance)
    followed = replace(plan, trail_move=move)
    return followed.tighten(round_stop(stop, plan.tick, is_long=plan.is_long), CloseReason.TRAILING)


def _harvest(plan: ExitPlan, newly: tuple[Level, ...], open_quantity: Decimal) -> ExitAction:
    legs = tuple(level for level in newly if level.quantity > 0 and not _is_ride(plan, level))
    if not legs:
        return ExitAction(plan)
    wanted = sum((leg.quantity for leg in legs), ZERO)
    rest = open_quantity - wanted
    # What would stay under the minimum could never be sent again, so the last closing leg takes it along.
    closes_all = plan.is_harvested or rest < plan.min_quantity
    return ExitAction(
        plan=plan,
        quantity=open_quantity if closes_all else wanted,
        reasons=tuple(TAKE_PROFITS[leg.number - 1] for leg in legs),
        levels=tuple(leg.number for leg in legs),
        closes_all=closes_all,
    )


def _is_ride(plan: ExitPlan, level: Level) -> bool:
    return plan.runner and level.number == plan.levels[-1].number


def watch_prices(
    plan: ExitPlan | Outlook, *, open_quantity: Decimal, realized: Decimal = ZERO
) -> WatchPrices:
    """Return the next marks the watcher must look out for; the time limit needs no mark."""
    nearest = max if plan.is_long else min
    guard = loss_guard_price(plan, open_quantity=open_quantity, realized=realized)
    adverse = plan.stop_price if guard is None else nearest(plan.stop_price, guard)
    ahead = plan.ahead
    if plan.trail_start_price is not None:
        ahead = (*ahead, _next_trail_price(plan, plan.trail_start_price))
    soonest = min if plan.is_long else max
    return WatchPrices(adverse, soonest(ahead) if ahead else None)


def _next_trail_price(plan: ExitPlan | Outlook, start: Decimal) -> Decimal:
    if plan.trail_move is None:
        return start
    return price_at(is_long=plan.is_long, entry_price=start, move=plan.trail_move + plan.trail_step)
