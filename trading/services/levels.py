"""The next levels of open positions as the rows tell them, in few columns: a hundred thousand in seconds."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
from django.db.models import DateTimeField, F, Q, QuerySet, TextField
from django.db.models.functions import Cast, Coalesce

from accounts.services.fixed_queries import AmongGiven, FixedQuery, Given
from exchange.marks import EPOCH
from trading.domain import exit_plan, exits
from trading.domain.states import PositionStatus
from trading.domain.watch import Watched
from trading.models import Position

ZERO = Decimal(0)
MICROSECOND = timedelta(microseconds=1)
NOTHING = "{}"

WATCHED = Q(status=PositionStatus.OPEN, closing_for="", stop_price__isnull=False)
"""What a watcher has in its book; all else is closed, is being closed, or has no plan yet."""

_SYMBOL = Coalesce(F("allocation__decision__signal__symbol"), F("symbol"))
"""A spot position is watched by the mark of the perpetual its signal named."""

_COLUMNS = (
    "pk",
    _SYMBOL,
    "is_long",
    "updated_at",
    "status",
    "closing_for",
    Cast("plan", TextField()),
    "quantity",
    Cast("reduction", TextField()),
    "realized_profit",
)
"""JSON as text: what takes it apart here is three times as fast as the field's own way."""

Levels = dict[int, Watched | None]

_OF = FixedQuery(lambda: Position.objects.filter(AmongGiven("pk", "ids")).order_by().values_list(*_COLUMNS))
_WRITTEN = FixedQuery(
    lambda: (
        Position.objects.filter(updated_at__gte=Given("moment", DateTimeField()))
        .order_by()
        .values_list("pk", "updated_at")
    )
)


def levels_of(position_ids: Collection[int]) -> Levels:
    """The next levels of positions by id; None where nothing is watched (any more)."""
    return _levels(_OF.ask(ids=position_ids) if position_ids else ())


def all_levels() -> Levels:
    """The next levels of every open position."""
    return _levels(Position.objects.filter(status=PositionStatus.OPEN).order_by().values_list(*_COLUMNS))


def open_ids(after: int = 0) -> list[int]:
    """The ids of open positions beyond one, in their order."""
    return list(_open_beyond(after).values_list("pk", flat=True))


def next_levels(after: int, count: int) -> Levels:
    """The levels of the next so many open positions beyond an id."""
    # The ids by themselves: sorted with them, the plans of all rows beyond would be taken apart for a few.
    following = _open_beyond(after).values("pk")[:count]
    return _levels(Position.objects.filter(pk__in=following).order_by().values_list(*_COLUMNS))


def _open_beyond(after: int) -> "QuerySet[Position]":
    return Position.objects.filter(status=PositionStatus.OPEN, pk__gt=after).order_by("pk")


def stops_behind(marks: Mapping[str, Decimal]) -> dict[int, Decimal]:
    """The mark by position for those whose stop these marks have reached, without reading any plan."""
    rows = Position.objects.filter(WATCHED).order_by().values_list("pk", _SYMBOL, "is_long", "stop_price")
    return {
        pk: mark
        for pk, symbol, is_long, stop in rows
        if (mark := marks.get(symbol)) is not None and (mark <= stop if is_long else mark >= stop)
    }


def versions_since(moment: datetime) -> dict[int, int]:
    """The states of all rows that were written since a moment."""
    return {pk: version_at(at) for pk, at in _WRITTEN.ask(moment=moment)}


def versions() -> Iterator[tuple[int, str, bool, int]]:
    """Id, symbol, side and state of every watched position."""
    rows = Position.objects.filter(WATCHED).order_by().values_list("pk", _SYMBOL, "is_long", "updated_at")
    for pk, symbol, is_long, at in rows:
        yield pk, symbol, is_long, version_at(at)


def version_at(moment: datetime) -> int:
    """The state of a row written at a moment, as a number."""
    return (moment - EPOCH) // MICROSECOND


def _levels(rows: Iterable[tuple[Any, ...]]) -> Levels:
    return {row[0]: _watched(*row) for row in rows}


def _watched(
    pk: int,
    symbol: str,
    is_long: bool,
    updated_at: datetime,
    status: str,
    closing_for: str,
    plan_text: str,
    quantity: Decimal,
    reduction_text: str,
    realized: Decimal,
) -> Watched | None:
    if status != PositionStatus.OPEN or closing_for or plan_text == NOTHING:
        return None
    plan = exit_plan.outlook_from_json(orjson.loads(plan_text))
    wanted = ZERO if reduction_text == NOTHING else Decimal(orjson.loads(reduction_text)["quantity"])
    prices = exits.watch_prices(plan, open_quantity=quantity - wanted, realized=realized)
    return Watched(pk, symbol, is_long, prices, version_at(updated_at))
