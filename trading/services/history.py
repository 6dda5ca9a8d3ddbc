"""What closed decisions earned, counted in decisions: the memory of quality and of capped Kelly."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import DateTimeField, F, QuerySet, Sum

from accounts.services.fixed_queries import FixedQuery, Given
from trading.domain.percent import ZERO
from trading.domain.sizing import Kelly
from trading.domain.states import PositionStatus
from trading.models import Position

NET_PROFIT = F("realized_profit") - F("fees") + F("funding")

Book = tuple[str, bool]
"""A symbol as signals name it, and whether it is about longs."""


@dataclass(frozen=True, slots=True)
class Record:
    """How closed decisions ended: `wins` of `closed` had a net profit above zero over all accounts."""

    wins: int = 0
    closed: int = 0


def records(days: int, now: datetime) -> Mapping[Book, Record]:
    """Wins and closed decisions by symbol and side over the last days; a book without any is absent."""
    profits: dict[Book, list[Decimal]] = defaultdict(list)
    for symbol, is_long, net in _net_profits(now - timedelta(days=days)):
        profits[symbol, is_long].append(net)
    return {book: Record(sum(net > 0 for net in nets), len(nets)) for book, nets in profits.items()}


def kelly(days: int, now: datetime) -> Kelly | None:
    """Win rate and payoff of all closed decisions of the last days; None without both a win and a loss."""
    nets = [net for _, _, net in _net_profits(now - timedelta(days=days))]
    wins, losses = [net for net in nets if net > 0], [-net for net in nets if net < 0]
    if not wins or not losses:
        return None
    return Kelly(len(nets), Decimal(len(wins)) / len(nets), _mean(wins) / _mean(losses))


def _net_profits(since: datetime) -> list[tuple[str, bool, Decimal]]:
    """Net profit of each decision that was closed since then and has nothing open any more."""
    return [(symbol, is_long, net or ZERO) for symbol, is_long, net in _NET_PROFITS.ask(since=since)]


def _decisions_closed() -> QuerySet[Any, Any]:
    decided = Position.objects.filter(allocation__decision__signal__isnull=False)
    still_open = decided.filter(status=PositionStatus.OPEN).values("allocation__decision")
    since = Given("since", DateTimeField())
    ended = decided.filter(closed_at__gte=since).exclude(allocation__decision__in=still_open).order_by()
    by_decision = ended.values(
        "allocation__decision", "is_long", named=F("allocation__decision__signal__symbol")
    )
    return by_decision.annotate(net=Sum(NET_PROFIT)).values_list("named", "is_long", "net")


_NET_PROFITS = FixedQuery(_decisions_closed)


def _mean(values: Sequence[Decimal]) -> Decimal:
    return sum(values, ZERO) / len(values)
