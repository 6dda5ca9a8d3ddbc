"""The story of one position as pages tell it: where its stop was, what was traded, how it was guarded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise

from trading.domain.exit_plan import ExitPlan
from trading.domain.states import PositionStatus, Protection
from trading.models import Fill, Order, Position, PositionEvent
from trading.services.plans import plan_of
from trading.services.positions import close_reason
from trading.services.stops import STOPS

BEFORE = Decimal("0.25")
SHORTEST = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class StopMove:
    """The stop that counted from a moment on."""

    at: datetime
    price: Decimal
    reason: str


@dataclass(frozen=True, slots=True)
class Trade:
    """One execution; `reason` says why it closed something and is empty for an entry."""

    at: datetime
    price: Decimal
    quantity: Decimal
    is_entry: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Guarded:
    """A stretch of its life in one state of protection; the last one lasts `until` now or the close."""

    state: str
    since: datetime
    until: datetime

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return max(0.0, (self.until - self.since).total_seconds())


@dataclass(frozen=True, slots=True)
class Story:
    """One position's life. The window is what a chart of it shows: the life and some time before it."""

    position: Position
    plan: ExitPlan | None
    since: datetime
    until: datetime
    moves: Sequence[StopMove]
    trades: Sequence[Trade]
    guarded: Sequence[Guarded]
    stops: Sequence[Order]
    steps: Sequence[PositionEvent]


def read_story(position: Position, now: datetime) -> Story:
    """Read the story in three queries."""
    plan = plan_of(position)
    ended = position.closed_at if position.status == PositionStatus.CLOSED else None
    until = ended or now
    steps = list(position.events.all())
    fills = position.fills.select_related("order").order_by("filled_at", "pk")
    lead = max(SHORTEST, (until - position.opened_at) * float(BEFORE))
    return Story(
        position=position,
        plan=plan,
        since=position.opened_at - lead,
        until=until if ended is None else until + lead / 3,
        moves=list(_moves(steps)),
        trades=[_trade(fill, position) for fill in fills],
        guarded=list(_guarded(position, steps, until)),
        stops=list(position.orders.filter(purpose__in=STOPS).order_by("pk")),
        steps=steps,
    )


def watched_symbol(position: Position) -> str:
    """The perpetual whose price the position is watched by: its own, or the one its signal named for spot."""
    allocation = position.allocation
    signal = allocation.decision.signal if allocation else None
    return signal.symbol if signal else position.symbol


def _moves(steps: Sequence[PositionEvent]) -> Iterator[StopMove]:
    for step in steps:
        if step.code in {"PLANNED", "STOP_MOVED"} and "stop_price" in step.detail:
            reason = str(step.detail.get("reason", "STOP_LOSS"))
            yield StopMove(step.at, Decimal(str(step.detail["stop_price"])), reason)


def _trade(fill: Fill, position: Position) -> Trade:
    is_entry = (fill.side == "buy") == position.is_long
    return Trade(
        fill.filled_at, fill.price, fill.quantity, is_entry, "" if is_entry else close_reason(fill).value
    )


def _guarded(position: Position, steps: Sequence[PositionEvent], until: datetime) -> Iterator[Guarded]:
    """Unprotected from the first fill on, then what each step said."""
    states = {state.value for state in Protection}
    changes = [(position.opened_at, Protection.UNPROTECTED.value)]
    changes += [(step.at, step.code) for step in steps if step.code in states]
    changes.append((max(until, changes[-1][0]), ""))
    for (since, state), (end, _) in pairwise(changes):
        if end > since:
            yield Guarded(state, since, min(end, until) if end > since else end)
