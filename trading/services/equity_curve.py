"""Equity over time, of the desk or of one account, from the snapshots the desk took.

Futures only: a reading of a spot wallet does not value the coins in it, so its fall is no loss.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby
from operator import itemgetter

from django.conf import settings
from django.db.models import Max, QuerySet
from django.db.models.functions import TruncHour, TruncMinute

from exchange.port import Market
from trading.models import EquitySnapshot

MOST_POINTS = 360
MOST_ROWS = 80_000
MINUTE = timedelta(minutes=1)

Reading = tuple[datetime, int, Decimal, Decimal]
"""Step, account, wallet, unrealised profit."""


@dataclass(frozen=True, slots=True)
class EquityPoint:
    """Equity at a time in quote units, summed over `accounts` accounts."""

    at: datetime
    equity: Decimal
    accounts: int


def read_curve(since: datetime, until: datetime, account: str = "") -> list[EquityPoint]:
    """The curve between two moments, oldest first, at most `MOST_POINTS` points.

    An account not read at a point counts with what it last had, and before its first reading with that one:
    a failed reading is no loss of money, and joining is no profit.
    """
    rows = EquitySnapshot.objects.filter(market=Market.FUTURES, at__gte=since, at__lte=until)
    rows = rows.filter(account__mode=settings.MODE)
    rows = rows.filter(account__name=account) if account else rows.filter(account__archived_at__isnull=True)
    series = rows.order_by().values("account_id").distinct().count()
    step = TruncMinute if series * ((until - since) / MINUTE) <= MOST_ROWS else TruncHour
    return _thinned(list(_carried(list(_last_of_each(rows, step)))))


def _last_of_each(rows: QuerySet[EquitySnapshot], step: type[TruncMinute | TruncHour]) -> Iterable[Reading]:
    """The last reading of each account in each step, in order of time."""
    steps = rows.order_by().annotate(step=step("at")).values("account_id", "step")
    chosen = EquitySnapshot.objects.filter(pk__in=steps.annotate(last=Max("pk")).values("last"))
    found = chosen.annotate(step=step("at")).order_by("step", "at")
    return found.values_list("step", "account_id", "wallet", "unrealized_profit")


def _carried(rows: Sequence[Reading]) -> Iterator[EquityPoint]:
    last = {account_id: wallet + unrealized for _, account_id, wallet, unrealized in reversed(rows)}
    for at, read in groupby(rows, key=itemgetter(0)):
        last |= {account_id: wallet + unrealized for _, account_id, wallet, unrealized in read}
        yield EquityPoint(at, sum(last.values(), Decimal(0)), len(last))


def _thinned(points: Sequence[EquityPoint]) -> list[EquityPoint]:
    step = max(1, -(-len(points) // MOST_POINTS))
    # Counted from the newest, so that the present is always on the curve.
    return list(points[::-1][::step][::-1])
