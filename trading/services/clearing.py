"""Clearing: the stops of a closed position are taken away, once the exchange itself says that it is flat.

What is left there may be a stranger's share: our stop would close it.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import structlog

from exchange.port import Market, PositionReport
from trading.domain.states import OPEN, PositionStatus
from trading.models import Order, Position
from trading.services import pictures
from trading.services.bells import Bells
from trading.services.fills import record_fills
from trading.services.stops import STOPS

LOOK_AGAIN = timedelta(seconds=1)
FILLS_READ_BEFORE_OPENING = timedelta(minutes=1)

log = structlog.get_logger(__name__)


def clear_stops(closed: Sequence[Position], now: datetime) -> Bells:
    """Cancel what still rests of closed positions; one that the exchange still holds keeps its stops."""
    waiting = {position.pk: _live_stops(position) for position in closed}
    _leave([position for position in closed if not waiting[position.pk]])
    left = [position for position in closed if waiting[position.pk]]
    read = pictures.positions_of(position.account for position in left if position.market == Market.FUTURES)
    bells = Bells()
    for position in left:
        Position.objects.filter(pk=position.pk).update(check_at=now + LOOK_AGAIN)
        if _may_go(position, read):
            bells.cancel.extend(waiting[position.pk])
    held = [position for position in left if _is_held(position, read)]
    return bells.add(_read_missing_fills(held, now))


def _live_stops(position: Position) -> list[int]:
    live = Order.objects.filter(position=position, purpose__in=STOPS, status__in=OPEN)
    return list(live.values_list("pk", flat=True))


def _leave(positions: Sequence[Position]) -> None:
    ids = [position.pk for position in positions]
    Position.objects.filter(pk__in=ids, status=PositionStatus.CLOSED).update(check_at=None)


def _may_go(position: Position, read: Mapping[int, Sequence[PositionReport]]) -> bool:
    return position.market == Market.SPOT or pictures.is_flat(position, read)


def _is_held(position: Position, read: Mapping[int, Sequence[PositionReport]]) -> bool:
    return position.account_id in read and not _may_go(position, read)


def _read_missing_fills(held: Sequence[Position], now: datetime) -> Bells:
    """The exchange holds what our fills say is sold: an entry's execution has not reached us yet.

    The stop that closed it is known by its fills, so what is unknown now is no stop's.
    """
    since = {position: position.opened_at - FILLS_READ_BEFORE_OPENING for position in held}
    owners = {position.pk: position for position in held}
    bells = Bells()
    for position_id, reports in pictures.fills_of(since).items():
        position = owners[position_id]
        log.warning("closed_but_held", account=position.account.name, symbol=position.symbol)
        bells.add(record_fills(position.account, Market(position.market), reports, now))
    return bells
