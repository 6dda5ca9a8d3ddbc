"""The first order of an exit, committed with the intent itself, so that it leaves one hop after the mark.

The careful way (`closing`) reads the exchange's position first, a request that costs more than the order.
Here the account's stream is that reading: while it is proven alive and nobody else holds a share of the
symbol, our fills are what is open there. Whatever stands in the way (a stream that is away, a stranger,
another exit, an attempt that failed, spot coins locked by their stop) is left to `closing`, as is every
further attempt.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal

import structlog
from django.db import transaction

from accounts.services.fixed_queries import AmongGiven, FixedQuery
from exchange.port import Market
from trading.domain.states import OPEN, CloseReason, OrderPurpose
from trading.models import Order, Position
from trading.services import market
from trading.services.bells import Bells
from trading.services.closing import LONGEST_RETRY
from trading.services.intents import want
from trading.services.many_rows import inserting
from trading.services.orders import new_exit
from trading.services.position_changes import PositionChanges
from trading.services.position_rows import lock_beside

log = structlog.get_logger(__name__)

SET = 100
"""Positions wanted closed in one transaction."""

_EXITS = FixedQuery(
    lambda: (
        Order.objects.filter(AmongGiven("position", "ids"), purpose=OrderPurpose.EXIT)
        .only("position", "status", "fills_complete", "filled_quantity")
        .order_by()
    )
)


EarlierExits = dict[int | None, list[Order]]
"""The exits that positions have had so far, by the position."""


def close_in_sets(position_ids: Sequence[int], reason: CloseReason, now: datetime) -> Iterator[Bells]:
    """Want many positions closed, whole, and order what can be ordered at once; yields each set's bells.

    Whoever rings a set at once lets its exits leave while the next is written. Nothing but rows: a web
    process that holds no keys may ask for it.
    """
    for start in range(0, len(position_ids), SET):
        yield _close(position_ids[start : start + SET], reason, now)


def _close(position_ids: Sequence[int], reason: CloseReason, now: datetime) -> Bells:
    with transaction.atomic():
        changes = PositionChanges()
        locked, earlier = lock_with_exits(position_ids)
        for position in locked:
            event = want(position, reason, now)
            changes.take(position, None if event is None else [event])
        bells = write_and_order(changes, earlier, now)
    changed = {position.pk for position in changes.positions}
    bells.positions += [pk for pk in position_ids if pk not in changed]
    return bells


def lock_with_exits(position_ids: Iterable[int]) -> tuple[list[Position], EarlierExits]:
    """As `lock_many`, and the exits of each so far, in one exchange with the database."""
    locked, (exits,) = lock_beside(position_ids, _EXITS)
    earlier: EarlierExits = defaultdict(list)
    for order in exits:
        earlier[order.position_id].append(order)
    return locked, earlier


def write_and_order(changes: PositionChanges, earlier: EarlierExits, now: datetime) -> Bells:
    """Write what changed of locked rows, with the exits of those that want one; rings all that changed.

    One exchange with the database for all of it. Nothing is asked of the exchange.
    """
    clear = [one for one in changes.positions if one.is_closing and _is_told_by_its_stream(one, now)]
    ordered = [_exit(one, len(earlier[one.pk]) + 1, now) for one in clear if _are_done(earlier[one.pk])]
    orders = [order for order in ordered if order is not None]
    sent = {order.position_id for order in orders}
    for position in changes.positions:
        if position.pk in sent:
            position.check_at = now + LONGEST_RETRY
    changes.write(*inserting(Order, orders, known_by="client_order_id"))
    for order in orders:
        log.info(
            "exit_ordered",
            client_order_id=order.client_order_id,
            reason=order.reason,
            quantity=str(order.quantity),
        )
    return Bells(
        exits=[order.pk for order in orders],
        positions=[position.pk for position in changes.positions if position.pk not in sent],
    )


def _is_told_by_its_stream(position: Position, now: datetime) -> bool:
    if position.market != Market.FUTURES or position.is_foreign or position.foreign_quantity:
        return False
    return position.account.is_heard(now)


def _are_done(earlier: Sequence[Order]) -> bool:
    """Whether every exit before has ended with executions that are all rows: none alive, none failed."""
    return all(one.status not in OPEN and one.fills_complete and one.filled_quantity for one in earlier)


def _exit(position: Position, attempt: int, now: datetime) -> Order | None:
    """The exit of what is wanted, within what one order may hold where that is known."""
    is_whole = bool(position.closing_for)
    wanted = position.quantity if is_whole else Decimal(position.reduction["quantity"])
    quantity = min(wanted, position.quantity)
    instrument = market.known_instruments(Market.FUTURES).get(position.symbol)
    if instrument is not None and instrument.max_market_quantity:
        quantity = min(quantity, instrument.max_market_quantity)
    if quantity <= 0:
        return None
    legs = () if is_whole else position.reduction["legs"]
    reason = position.exit_reason
    return new_exit(position, quantity=quantity, reason=reason, legs=legs, attempt=attempt, now=now)
