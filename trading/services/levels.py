"""The next levels of open positions as the rows tell them, in few columns: a hundred thousand in seconds."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal

import orjson
from django.db.models import F, Q, QuerySet, TextField
from django.db.models.functions import Cast, Coalesce

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


def levels_of(which: Q) -> Levels:
    """The next levels of positions by id; None where nothing is watched (any more)."""
    return _read(Position.objects.filter(which).order_by())


def next_levels(after: int, count: int) -> Levels:
    """The levels of the next so many open positions beyond an id, in their order."""
    following = Position.objects.filter(status=PositionStatus.OPEN, pk__gt=after).order_by("pk")
    return _read(following[:count])


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
    rows = Position.objects.filter(updated_at__gte=moment).order_by().values_list("pk", "updated_at")
    return {pk: version_at(at) for pk, at in rows}


def versions() -> Iterator[tuple[int, str, bool, int]]:
    """Id, symbol, side and state of every watched position."""
    rows = Position.objects.filter(WATCHED).order_by().values_list("pk", _SYMBOL, "is_long", "updated_at")
    for pk, symbol, is_long, at in rows:
        yield pk, symbol, is_long, version_at(at)


def version_at(moment: datetime) -> int:
    """The state of a row written at a moment, as a number."""
    return (moment - EPOCH) // MICROSECOND


def _read(rows: "QuerySet[Position]") -> Levels:
    return {row[0]: _watched(*row) for row in rows.values_list(*_COLUMNS)}


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
    plan = exit_plan.from_json(orjson.loads(plan_text))
    wanted = ZERO if reduction_text == NOTHING else Decimal(orjson.loads(reduction_text)["quantity"])
    prices = exits.watch_prices(plan, open_quantity=quantity - wanted, realized=realized)
    return Watched(pk, symbol, is_long, prices, version_at(updated_at))
