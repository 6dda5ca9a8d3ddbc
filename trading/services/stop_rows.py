"""The stops of one position as our rows know them, before anybody looks at the exchange."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils import timezone

from accounts.services.fixed_queries import AmongGiven, FixedQuery
from exchange.port import Market, OrderReport, OrderSide
from trading.domain.protection import (
    NOT_FAILURES,
    STOP_EXISTS,
    TRIGGERS_NOW,
    WOULD_TRIGGER,
    SeenStop,
    StopState,
)
from trading.domain.states import OPEN, OrderPurpose, OrderStatus
from trading.models import Order, Position
from trading.services.stops import STOPS

TRIGGERS_NOW_TEXT = "trigger immediately"
"""Spot has no code of its own for a stop the price is through already: -2010 and these words."""

STREAMS_TELL_WITHIN = timedelta(seconds=1)
"""Later than this nothing is waited for: a list is read."""

ASKED_OF_STOPS = (
    *("client_order_id", "position", "purpose", "market", "side", "quantity", "trigger_price", "is_seen"),
    *("close_position", "reduce_only", "position_side", "status", "code", "message", "fills_complete"),
    *("exchange_order_id", "triggered_order_id", "acknowledged_at", "created_at"),
)
"""What looking after a position asks of its stops; whatever else is asked is read then."""

_STOPS = FixedQuery(
    lambda: (
        Order.objects.filter(AmongGiven("position_id", "positions"), purpose__in=STOPS)
        .only(*ASKED_OF_STOPS)
        .order_by("-pk")
    )
)

RESTING = frozenset({OrderStatus.ACKNOWLEDGED, OrderStatus.PARTIALLY_FILLED})


@dataclass(frozen=True, slots=True)
class StopRows:
    """Newest first. Two are equal while no stop was added and none changed its state."""

    orders: tuple[Order, ...]
    states: tuple[tuple[int, str], ...]

    def __eq__(self, other: object) -> bool:
        """Whether nothing moved between the two readings."""
        return isinstance(other, StopRows) and self.states == other.states

    def __hash__(self) -> int:
        return hash(self.states)

    @classmethod
    def of_many(cls, positions: Iterable[Position]) -> "dict[int, StopRows]":
        """Read the stops of several positions by position id, in one query."""
        by_position: dict[int, list[Order]] = {position.pk: [] for position in positions}
        for order in _STOPS.ask(positions=by_position):
            by_position[order.position_id or 0].append(order)
        return {
            pk: cls(tuple(orders), tuple((order.pk, order.status) for order in orders))
            for pk, orders in by_position.items()
        }

    @property
    def resting(self) -> list[Order]:
        """Stops the exchange has accepted and not ended."""
        return [order for order in self.orders if order.status in RESTING]

    @property
    def in_flight(self) -> list[Order]:
        """Stops whose acceptance is still open."""
        return [order for order in self.orders if order.status in OPEN and order.status not in RESTING]

    @property
    def is_firing(self) -> bool:
        """Whether a stop has fired and its executions are not all rows yet."""
        return any(
            (order.status in RESTING and order.triggered_order_id)
            or (order.status in {OrderStatus.FILLED, OrderStatus.EXPIRED} and not order.fills_complete)
            for order in self.orders
        )

    @property
    def refusal(self) -> str:
        """The code of the refusal that stands: of the newest stop, when it was never accepted."""
        newest = self.orders[0] if self.orders else None
        if newest is None or newest.status != OrderStatus.REJECTED or self.resting:
            return ""
        if newest.code in TRIGGERS_NOW or TRIGGERS_NOW_TEXT in newest.message.lower():
            return WOULD_TRIGGER
        return newest.code

    @property
    def refused_at_trigger(self) -> bool:
        """Whether the newest stop was accepted, fired, and was refused by the matching engine."""
        newest = self.orders[0] if self.orders else None
        return (
            newest is not None
            and newest.status == OrderStatus.REJECTED
            and newest.acknowledged_at is not None
            and not self.resting
        )

    @property
    def doubts_position(self) -> bool:
        """Whether the newest stop ended in a way that may mean there is nothing left to protect."""
        newest = self.orders[0] if self.orders else None
        if newest is None or self.resting or self.in_flight:
            return False
        return newest.status == OrderStatus.EXPIRED or newest.code in NOT_FAILURES

    @property
    def needs_look(self) -> bool:
        """Whether only a list can tell more: an accepted stop nobody saw, or one that rests already."""
        return any(not order.is_seen for order in self.resting) or self.refusal == STOP_EXISTS

    @property
    def is_just_accepted(self) -> bool:
        """Whether every stop that nobody saw was accepted so lately that a stream may yet show it."""
        oldest = timezone.now() - STREAMS_TELL_WITHIN
        unseen = [order for order in self.resting if not order.is_seen]
        return bool(unseen) and all(one.acknowledged_at and one.acknowledged_at > oldest for one in unseen)

    @property
    def is_told(self) -> bool:
        """Whether these rows say all there is to know of the stops: nothing is asked of the exchange."""
        return not (self.needs_look or self.refusal or self.doubts_position)

    @property
    def seen_before(self) -> tuple[SeenStop, ...]:
        """Resting stops that a stream or an earlier look showed."""
        return tuple(_from_row(order) for order in self.resting if order.is_seen)

    def state(self, purpose: OrderPurpose) -> StopState:
        """How far the newest stop of a purpose has come."""
        newest = next((order for order in self.orders if order.purpose == purpose), None)
        if newest is None or (newest.status == OrderStatus.REJECTED and newest.acknowledged_at is None):
            return StopState.NONE
        if newest.status in RESTING:
            return StopState.ACKED
        return StopState.IN_FLIGHT if newest.status in OPEN else StopState.GONE

    def refused_since(self, moment: datetime) -> int:
        """How many stops made since a time the exchange refused."""
        refused = (order for order in self.orders if order.status == OrderStatus.REJECTED)
        return sum(order.created_at > moment for order in refused)

    def seen_in(self, listed: Sequence[OrderReport], *, is_spot: bool) -> Iterator[SeenStop]:
        """The stops of a list; those of our rows with their purpose, an earlier position's leftovers too."""
        names = [report.client_order_id for report in listed]
        purposes = dict(
            Order.objects.filter(client_order_id__in=names).values_list("client_order_id", "purpose")
        )
        for report in listed:
            purpose = purposes.get(report.client_order_id)
            yield SeenStop(
                client_order_id=report.client_order_id,
                purpose=OrderPurpose(purpose) if purpose else None,
                is_buy=report.side == OrderSide.BUY,
                trigger_price=report.trigger_price or report.quantity * 0,
                quantity=None if report.close_position else report.quantity,
                reduces=report.close_position or report.reduce_only or bool(report.position_side),
                is_conditional=not is_spot,
            )


def _from_row(order: Order) -> SeenStop:
    assert order.trigger_price is not None  # noqa: S101 -- every stop has a trigger
    return SeenStop(
        client_order_id=order.client_order_id,
        purpose=OrderPurpose(order.purpose),
        is_buy=order.side == OrderSide.BUY,
        trigger_price=order.trigger_price,
        quantity=None if order.close_position else order.quantity,
        reduces=order.close_position or order.reduce_only or bool(order.position_side),
        is_conditional=order.market == Market.FUTURES,  # spot keeps its stops among the ordinary orders
    )
