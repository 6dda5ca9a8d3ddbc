"""Whether a position's stop is really at the exchange, and the next step until it is (section 7).

Entry points: `fault` (is a stop that was seen the one we need), `standing` (the state), `next_step` (what to
do now), `after_refusal` (the exchange said no), `closer` (who closes a crossed position). Promises:
1. VERIFIED means seen: an accepted order that no list shows is ACKED, never more.
2. A failed list is None and proves nothing; only a successful list that lacks every stop closes a position.
3. A replacement is placed and seen before what it replaces is cancelled.
4. No stop is taken away from an open position, except one that does not protect it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from trading.domain.exit_plan import ExitPlan
from trading.domain.limits import Limits
from trading.domain.percent import is_crossed
from trading.domain.states import OrderPurpose, Protection


class StopFault(StrEnum):
    """Why a stop that was seen does not protect the position."""

    STORE = "STORE"
    SIDE = "SIDE"
    TRIGGER = "TRIGGER"
    COVER = "COVER"
    ENLARGES = "ENLARGES"


class StopState(StrEnum):
    """How far one of our stops has come, from its order row."""

    NONE = "NONE"
    IN_FLIGHT = "IN_FLIGHT"
    ACKED = "ACKED"
    GONE = "GONE"


class Step(StrEnum):
    """The next step of protecting a position."""

    NOTHING = "NOTHING"
    LOOK = "LOOK"
    PLACE_HARD = "PLACE_HARD"
    ADOPT = "ADOPT"
    CANCEL_LEFTOVER = "CANCEL_LEFTOVER"
    PLACE_SECOND = "PLACE_SECOND"
    MOVE_WORKING = "MOVE_WORKING"
    CANCEL_PREVIOUS = "CANCEL_PREVIOUS"
    ALARM = "ALARM"
    CLOSE_AT_MARKET = "CLOSE_AT_MARKET"


@dataclass(frozen=True, slots=True)
class SeenStop:
    """A resting stop as the stream or a list showed it; `purpose` is None when it is not ours.

    `quantity` is None on a close-position stop. `reduces` is true for close-position, reduce-only, or the
    position's own side in hedge mode. `is_conditional` tells the store it was found in.
    """

    client_order_id: str
    purpose: OrderPurpose | None
    is_buy: bool
    trigger_price: Decimal
    quantity: Decimal | None
    reduces: bool
    is_conditional: bool = True


@dataclass(frozen=True, slots=True)
class ProtectionView:
    """One position with what is known of its stops.

    `seen` is what the newest successful look at both stores showed, taken after the stops below were
    accepted; None when there was none. `unprotected_seconds` runs while nothing was accepted,
    `unseen_seconds` since the first acceptance. `second` is the newest stop beside the hard one.
    `is_shared`: a stranger holds a share on the same side, which a stop that closes the whole position would
    sell with ours. `is_outgrown`: a stop of this very position was seen and covers less than is open by now.
    """

    plan: ExitPlan
    open_quantity: Decimal
    seen: tuple[SeenStop, ...] | None
    hard: StopState = StopState.NONE
    second: StopState = StopState.NONE
    unprotected_seconds: float = 0.0
    unseen_seconds: float = 0.0
    is_spot: bool = False
    is_shared: bool = False
    is_outgrown: bool = False
    good: tuple[SeenStop, ...] = field(init=False, repr=False, compare=False)
    """Those of our stops among `seen` that protect all of the position."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "good", tuple(_good(self)))


def fault(
    stop: SeenStop, plan: ExitPlan, open_quantity: Decimal, *, is_spot: bool = False
) -> StopFault | None:
    """Return what is wrong with a stop that was seen; None when it protects the whole position.

    A trigger from the hard stop up to the plan's present stop is right: it is where we once moved it. Beyond,
    it belongs to another position and would close this one early.
    """
    if stop.is_conditional is is_spot:
        return StopFault.STORE
    if stop.is_buy is plan.is_long:
        return StopFault.SIDE
    if not _lies_on_our_way(stop.trigger_price, plan):
        return StopFault.TRIGGER
    if not (stop.reduces or is_spot):
        return StopFault.ENLARGES
    covers = stop.quantity is None or stop.quantity >= open_quantity
    return None if covers else StopFault.COVER


def _lies_on_our_way(price: Decimal, plan: ExitPlan) -> bool:
    first, last = sorted((plan.hard_stop_price, plan.stop_price))
    return first <= price <= last


def standing(view: ProtectionView) -> Protection:
    """Return how sure we may be of the stop."""
    if view.good:
        return Protection.VERIFIED
    accepted = StopState.ACKED in {view.hard, view.second}
    return Protection.ACKED if accepted else Protection.UNPROTECTED


def next_step(view: ProtectionView, limits: Limits) -> Step:
    """Return the next step for what is open; asked again after each, until it is NOTHING."""
    steps = {
        Protection.VERIFIED: _verified_step,
        Protection.ACKED: _unseen_step,
        Protection.UNPROTECTED: _unprotected_step,
    }
    return steps[standing(view)](view, limits)


def _verified_step(view: ProtectionView, _limits: Limits) -> Step:
    if leftovers(view):
        return Step.CANCEL_LEFTOVER
    sells_too_much = view.is_shared and any(stop.quantity is None for stop in view.good)
    if (view.plan.has_moved_stop or sells_too_much) and current_working(view) is None:
        return Step.LOOK if view.second is StopState.IN_FLIGHT else Step.MOVE_WORKING
    return Step.CANCEL_PREVIOUS if superseded(view) else Step.NOTHING


def _unseen_step(view: ProtectionView, limits: Limits) -> Step:
    if view.is_outgrown:
        return Step.LOOK if StopState.IN_FLIGHT in {view.hard, view.second} else Step.MOVE_WORKING
    both_sent = {view.hard, view.second} <= {StopState.ACKED, StopState.GONE}
    if both_sent and view.seen is not None:
        return Step.CLOSE_AT_MARKET
    if view.unseen_seconds >= limits.second_stop_seconds and view.second is StopState.NONE:
        return Step.PLACE_SECOND
    return Step.ALARM if view.unseen_seconds >= limits.unseen_alarm_seconds else Step.LOOK


def _unprotected_step(view: ProtectionView, limits: Limits) -> Step:
    if view.unprotected_seconds >= limits.unprotected_seconds:
        return Step.CLOSE_AT_MARKET
    if view.seen and leftovers(view):
        return Step.CANCEL_LEFTOVER
    return Step.LOOK if view.hard is StopState.IN_FLIGHT else Step.PLACE_HARD


def _good(view: ProtectionView) -> list[SeenStop]:
    return [
        stop
        for stop in view.seen or ()
        if stop.purpose is not None
        and fault(stop, view.plan, view.open_quantity, is_spot=view.is_spot) is None
    ]


def leftovers(view: ProtectionView) -> list[SeenStop]:
    """Return our stops that do not protect this position: of one before it, or of another size."""
    return [stop for stop in view.seen or () if stop.purpose is not None and stop not in view.good]


def current_working(view: ProtectionView) -> SeenStop | None:
    """Return the stop that rests at the plan's present price; None when it must still be placed."""
    at_plan = (stop for stop in view.good if stop.trigger_price == view.plan.stop_price)
    return next((stop for stop in at_plan if not (view.is_shared and stop.quantity is None)), None)


def superseded(view: ProtectionView) -> list[SeenStop]:
    """Return working stops behind the one at the plan's present price; the hard stop stays till the end.

    But for a hard stop that would sell a stranger's share, too: it goes as soon as another protects ours.
    """
    current = current_working(view)
    if current is None:
        return []
    return [
        stop
        for stop in view.good
        if stop != current
        and (stop.purpose is OrderPurpose.WORKING_STOP or (view.is_shared and stop.quantity is None))
    ]


WOULD_TRIGGER = "-2021"
TRIGGERS_NOW = frozenset({WOULD_TRIGGER, "110092", "110093", "51278", "51280"})
"""The same in the words of every exchange: the mark is past the trigger already."""
STOP_EXISTS = "-4130"
NOT_FAILURES = frozenset({"-2022", "-4118", "110017", "51112", "51169", "51170"})
"""Refusals of an exit that mean "look again": the position is smaller than we thought, or gone."""


def after_refusal(
    code: str,
    *,
    plan: ExitPlan,
    open_quantity: Decimal,
    mark_price: Decimal | None,
    seen: Sequence[SeenStop] | None,
) -> Step:
    """Return the step after the exchange refused a stop with `code`.

    LOOK asks for what is missing: the mark, or a successful list. Others are tried again until the position
    has been unprotected too long.
    """
    if code == WOULD_TRIGGER:
        return _after_would_trigger(plan, mark_price)
    if code == STOP_EXISTS:
        return _after_stop_exists(plan, open_quantity, seen)
    return Step.LOOK if code in NOT_FAILURES else Step.PLACE_HARD


def _after_would_trigger(plan: ExitPlan, mark_price: Decimal | None) -> Step:
    if mark_price is None:
        return Step.LOOK
    crossed = is_crossed(is_long=plan.is_long, mark_price=mark_price, stop_price=plan.stop_price)
    return Step.CLOSE_AT_MARKET if crossed else Step.PLACE_HARD


def _after_stop_exists(plan: ExitPlan, open_quantity: Decimal, seen: Sequence[SeenStop] | None) -> Step:
    """A close-position stop rests already; only a look tells whether it is the one that protects us."""
    if seen is None:
        return Step.LOOK
    closing = [stop for stop in seen if stop.quantity is None and stop.purpose is not None]
    if any(fault(stop, plan, open_quantity) is None for stop in closing):
        return Step.ADOPT
    return Step.CANCEL_LEFTOVER if closing else Step.LOOK


def closes_on_contact(*, is_stop_untouched: bool, is_mark_inside: bool) -> bool:
    """Whether a crossing during an outage still closes once the exchange answers again."""
    return not (is_stop_untouched and is_mark_inside)
