"""Ours against the exchange's picture of one account: what differs, named by what has to be done about it.

Pure and order-free: the same two pictures give the same differences. It must only be called with a picture
that was read whole; a failed read is no picture, and nothing may be concluded from it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

ZERO = Decimal(0)


class DifferenceKind(StrEnum):
    """What is not the same on both sides."""

    VANISHED = "VANISHED"  # ours is open, the exchange is flat: book its fills, with the reason
    QUANTITY_MISMATCH = "QUANTITY_MISMATCH"  # both open, not the same quantity: book the missing fills
    SIDE_MISMATCH = "SIDE_MISMATCH"  # the exchange holds the other side
    FOREIGN_POSITION = "FOREIGN_POSITION"  # the exchange holds what none of our rows explains
    FOREIGN_GONE = "FOREIGN_GONE"  # a foreign position we showed is no longer there
    FOREIGN_ORDER = "FOREIGN_ORDER"  # an open order that is not ours
    ORPHAN_STOP = "ORPHAN_STOP"  # a stop of ours rests where nothing is left to protect
    MISSING_STOP = "MISSING_STOP"  # a stop we counted on is in no successful list
    UNTRACKED_STOP = "UNTRACKED_STOP"  # a stop of ours rests at the exchange while our row calls it ended


@dataclass(frozen=True, slots=True)
class OurPosition:
    """One of our open rows. `foreign_quantity` is the share on the symbol that we know is not ours."""

    position_id: int
    symbol: str
    is_long: bool
    quantity: Decimal
    is_foreign: bool = False
    foreign_quantity: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class TheirPosition:
    """One open position as the exchange lists it."""

    symbol: str
    is_long: bool
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class OurStop:
    """A stop of ours; `is_resting` when our row says that it rests, `is_long` the side it protects."""

    order_id: int
    client_order_id: str
    symbol: str
    position_id: int
    is_resting: bool
    is_position_open: bool
    is_long: bool | None = None


@dataclass(frozen=True, slots=True)
class TheirOrder:
    """One open order of either store as the exchange lists it."""

    client_order_id: str
    symbol: str


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference, with our row where there is one and the exchange's figures where there are."""

    kind: DifferenceKind
    symbol: str
    position_id: int | None = None
    order_id: int | None = None
    client_order_id: str = ""
    is_long: bool | None = None
    quantity: Decimal = ZERO


def compare_positions(
    ours: Iterable[OurPosition], theirs: Iterable[TheirPosition], in_flight: frozenset[str] = frozenset()
) -> list[Difference]:
    """Differences between our open positions and the exchange's.

    Symbols `in_flight` have an order of ours under way: a difference there may be its fill, not yet a row,
    and is left to the order.
    """
    held = {(their.symbol, their.is_long): their for their in theirs if their.quantity > ZERO}
    differences: list[Difference] = []
    explained: set[tuple[str, bool]] = set()
    for our in ours:
        key = (our.symbol, our.is_long)
        explained.add(key)
        if our.symbol not in in_flight and (found := _difference(our, held.get(key), held)):
            differences.append(found)
    for key, their in held.items():
        if key not in explained and their.symbol not in in_flight:
            differences.append(
                Difference(
                    DifferenceKind.FOREIGN_POSITION,
                    their.symbol,
                    is_long=their.is_long,
                    quantity=their.quantity,
                )
            )
    return differences


def compare_orders(
    stops: Sequence[OurStop],
    known_ids: frozenset[str],
    resting: Iterable[TheirOrder],
    listed_symbols: frozenset[str],
) -> list[Difference]:
    """Differences between our stops and the open orders of both stores on `listed_symbols`."""
    listed = list(resting)
    present = {order.client_order_id for order in listed}
    by_id = {stop.client_order_id: stop for stop in stops}
    differences = [
        _of_stop(DifferenceKind.MISSING_STOP, stop)
        for stop in stops
        if stop.is_resting
        and stop.is_position_open
        and stop.symbol in listed_symbols
        and stop.client_order_id not in present
    ]
    for order in listed:
        stop = by_id.get(order.client_order_id)
        if stop is not None and not stop.is_position_open:
            differences.append(_of_stop(DifferenceKind.ORPHAN_STOP, stop))
        elif stop is not None and not stop.is_resting:
            differences.append(_of_stop(DifferenceKind.UNTRACKED_STOP, stop))
        elif stop is None and order.client_order_id not in known_ids:
            differences.append(
                Difference(DifferenceKind.FOREIGN_ORDER, order.symbol, client_order_id=order.client_order_id)
            )
    return differences


def _difference(
    our: OurPosition, their: TheirPosition | None, held: dict[tuple[str, bool], TheirPosition]
) -> Difference | None:
    if their is None:
        return _absent(our, held.get((our.symbol, not our.is_long)))
    if their.quantity == our.quantity + our.foreign_quantity:
        return None
    return Difference(
        DifferenceKind.QUANTITY_MISMATCH,
        our.symbol,
        our.position_id,
        is_long=our.is_long,
        quantity=their.quantity,
    )


def _absent(our: OurPosition, opposite: TheirPosition | None) -> Difference:
    if our.is_foreign:
        return Difference(DifferenceKind.FOREIGN_GONE, our.symbol, our.position_id, is_long=our.is_long)
    kind = DifferenceKind.VANISHED if opposite is None else DifferenceKind.SIDE_MISMATCH
    quantity = ZERO if opposite is None else opposite.quantity
    return Difference(kind, our.symbol, our.position_id, is_long=our.is_long, quantity=quantity)


def _of_stop(kind: DifferenceKind, stop: OurStop) -> Difference:
    return Difference(
        kind,
        stop.symbol,
        position_id=stop.position_id,
        order_id=stop.order_id,
        client_order_id=stop.client_order_id,
        is_long=stop.is_long,
    )
