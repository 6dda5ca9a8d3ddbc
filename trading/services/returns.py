"""What equity made day by day: drawdown, Sharpe and Sortino of the desk and of each account.

Futures only: a reading of a spot wallet does not value the coins in it, so its fall is no loss.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import empyrical
import numpy as np
from django.conf import settings
from django.db.models import CharField, Max
from django.db.models.functions import Cast, Substr

from exchange.port import Market
from trading.domain.percent import ONE, ZERO
from trading.domain.statistics import daily_returns, max_drawdown, unit_values
from trading.models import EquitySnapshot, Income
from trading.services.money_flow import READ_ASSET, TRANSFERS

DAYS_PER_YEAR = 365
FEWEST_DAYS = 2
SHOWN_RATIO = Decimal("0.0001")
HOUR_OF_READING = Substr(Cast("at", CharField()), 1, len("2026-11-20 12"))
"""As text, for SQLite truncates a time in Python, row by row: eight times as long over a month of minutes."""


@dataclass(frozen=True, slots=True)
class Returns:
    """What equity made over `days` days, of its hourly readings; deposits are no profit.

    `total_return` and `max_drawdown` are fractions of the unitised value; `sharpe` and `sortino` are of daily
    returns, annualised by 365, None where they have no meaning: under two days, or none of them different,
    or (Sortino) none of them negative.
    """

    days: int
    since: datetime
    until: datetime
    total_return: Decimal
    max_drawdown: Decimal
    sharpe: Decimal | None
    sortino: Decimal | None


@dataclass(frozen=True, slots=True)
class _Point:
    """Equity of one account at the end of an hour, and what was transferred in since the point before."""

    at: datetime
    equity: Decimal
    transferred: Decimal


def read_returns(
    account: str = "", since: datetime | None = None, until: datetime | None = None
) -> tuple[Returns | None, dict[str, Returns]]:
    """The returns of all accounts together and of each by name; None and absent where nothing was read."""
    series = _series(account, since, until)
    each = {name: returns for name, points in series.items() if (returns := returns_of(points)) is not None}
    return returns_of(_together(series)), each


def returns_of(points: Sequence[_Point]) -> Returns | None:
    """The figures of one series, oldest first; None for an empty one."""
    if not points:
        return None
    values = unit_values([(point.equity, point.transferred) for point in points])
    days = [point.at.astimezone(UTC).date() for point in points]
    made = daily_returns(list(zip(days, values, strict=True)))
    return Returns(
        days=len(made),
        since=points[0].at,
        until=points[-1].at,
        total_return=values[-1] - ONE,
        max_drawdown=max_drawdown(values),
        sharpe=_ratio(empyrical.sharpe_ratio, made) if len(set(made)) > 1 else None,
        sortino=_ratio(empyrical.sortino_ratio, made) if any(one < 0 for one in made) else None,
    )


def _ratio(rule: Callable[..., float], returns: Sequence[Decimal]) -> Decimal | None:
    if len(returns) < FEWEST_DAYS:
        return None
    value = float(rule(np.array(returns, dtype=float), annualization=DAYS_PER_YEAR))
    return Decimal(value).quantize(SHOWN_RATIO) if np.isfinite(value) else None


def _series(account: str, since: datetime | None, until: datetime | None) -> dict[str, list[_Point]]:
    moves = _transfers(account)
    series: dict[str, list[_Point]] = defaultdict(list)
    for name, at, equity in _hourly(account, since, until):
        before = series[name][-1].at if series[name] else at
        series[name].append(_Point(at, equity, _moved(moves.get(name, ()), before, at)))
    return dict(series)


def _hourly(
    account: str, since: datetime | None, until: datetime | None
) -> Iterable[tuple[str, datetime, Decimal]]:
    """The last reading of each account in each hour, in order of time."""
    rows = EquitySnapshot.objects.filter(market=Market.FUTURES, account__mode=settings.MODE).order_by()
    rows = rows.filter(account__name=account) if account else rows
    rows = rows.filter(at__gte=since) if since else rows
    rows = rows.filter(at__lte=until) if until else rows
    hours = rows.annotate(hour=HOUR_OF_READING).values("account_id", "hour").annotate(last=Max("at"))
    lasts = {(hour["account_id"], hour["last"]) for hour in hours}
    found = rows.filter(at__in=hours.values("last")).order_by("at")
    for pk, name, at, wallet, unrealized in found.values_list(
        "account_id", "account__name", "at", "wallet", "unrealized_profit"
    ):
        if (pk, at) in lasts:
            yield name, at, wallet + unrealized


def _transfers(account: str) -> Mapping[str, Sequence[tuple[datetime, Decimal]]]:
    rows = Income.objects.filter(kind__in=TRANSFERS, asset=READ_ASSET).order_by("at")
    rows = rows.filter(account__name=account) if account else rows
    moves: dict[str, list[tuple[datetime, Decimal]]] = defaultdict(list)
    for name, at, quantity in rows.values_list("account__name", "at", "quantity"):
        moves[name].append((at, quantity))
    return moves


def _moved(moves: Iterable[tuple[datetime, Decimal]], after: datetime, until: datetime) -> Decimal:
    return sum((quantity for at, quantity in moves if after < at <= until), ZERO)


def _together(series: Mapping[str, Sequence[_Point]]) -> list[_Point]:
    """All accounts as one: who comes later brings its money in, who is not read keeps what it had."""
    last: dict[str, Decimal] = {}
    points: list[_Point] = []
    for _, named in sorted(_by_hour(series).items()):
        brought = sum((point.equity for name, point in named if name not in last), ZERO)
        moved = sum((point.transferred for _, point in named), ZERO)
        last.update({name: point.equity for name, point in named})
        at = max(point.at for _, point in named)
        points.append(_Point(at, sum(last.values(), ZERO), brought + moved))
    return points


def _by_hour(series: Mapping[str, Sequence[_Point]]) -> dict[datetime, list[tuple[str, _Point]]]:
    hours: dict[datetime, list[tuple[str, _Point]]] = defaultdict(list)
    for name, points in series.items():
        for point in points:
            hours[point.at.replace(minute=0, second=0, microsecond=0)].append((name, point))
    return hours
