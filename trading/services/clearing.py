"""Clearing: the stops of a closed position are taken away, once the exchange itself says that it is flat.

What is left there may be a stranger's share: our stop would close it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import structlog

from accounts.services.among import Among
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
    """Cancel what still rests of closed positions; one that the exchange still holds keeps its stops.

    Each is tried once a second: a cancel that finds nothing rings its position again at once.
    """
    if not closed:
        return Bells()
    waiting = _live_stops(closed)
    _leave([position.pk for position in closed if position.pk not in waiting])
    left = [position for position in closed if position.pk in waiting and _is_due(position, now)]
    read = pictures.positions_of(position.account for position in left if position.market == Market.FUTURES)
    Position.objects.filter(Among("pk", [one.pk for one in left])).update(check_at=now + LOOK_AGAIN)
    bells = Bells()
    for position in left:
        if _may_go(position, read):
            bells.cancel.extend(waiting[position.pk])
    held = [position for position in left if _is_held(position, read)]
    return bells.add(_read_missing_fills(held, now))


def _live_stops(positions: Iterable[Position]) -> dict[int, list[int]]:
    """The stops that still rest or may, by the position that has any."""
    found: dict[int, list[int]] = defaultdict(list)
    among = Among("position_id", [position.pk for position in positions])
    live = Order.objects.filter(among, purpose__in=STOPS, status__in=OPEN).order_by("pk")
    for position_id, pk in live.values_list("position_id", "pk"):
        found[position_id].append(pk)
    return found


def _is_due(position: Position, now: datetime) -> bool:
    return position.check_at is None or position.check_at <= now


def _leave(position_ids: Sequence[int]) -> None:
    left = Position.objects.filter(Among("pk", position_ids), status=PositionStatus.CLOSED)
    left.update(check_at=None)


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
