"""An account's day since midnight in its own zone, derived from its rows at every look, never counted up.

Futures money comes from executions and funding, spot money from the positions that fold ours; unrealised
profit is not in it. At the exchange the same sums are what its wallet moved by, transfers left out.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import Count, F, Q, Sum
from django.db.models.functions import Coalesce

from accounts.models import Account
from exchange.port import Market
from trading.domain.percent import ZERO
from trading.domain.states import OrderPurpose, PositionStatus
from trading.models import Fill, Income, Order, Position
from trading.services.exposure import day_start
from trading.services.money_flow import READ_ASSET

FUNDING = "FUNDING_FEE"
NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True)
class Day:
    """What an account's day has come to, in quote units; `loss` and `fees` are positive when they cost.

    `trades` are the decisions it entered, `wins` and `losses` its positions closed with a net gain or loss.
    """

    since: datetime
    trades: int = 0
    wins: int = 0
    losses: int = 0
    profit: Decimal = ZERO
    loss: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO

    @property
    def net(self) -> Decimal:
        """Everything realised since midnight."""
        return self.profit - self.loss - self.fees + self.funding


def read_days(accounts: Sequence[Account], now: datetime) -> dict[int, Day]:
    """The day of each account by its id; some queries for each midnight there is among them."""
    by_midnight: dict[datetime, list[int]] = defaultdict(list)
    for account in accounts:
        by_midnight[day_start(account, now)].append(account.pk)
    return {pk: day for since, ids in by_midnight.items() for pk, day in _days(ids, since).items()}


def _days(ids: Sequence[int], since: datetime) -> dict[int, Day]:
    futures, spot = _of_fills(ids, since), _of_coins(ids, since)
    funding = _by_account(
        Income.objects.filter(account__in=ids, at__gte=since, kind=FUNDING, asset=READ_ASSET), Sum("quantity")
    )
    entered = Order.objects.filter(account__in=ids, purpose=OrderPurpose.ENTRY, created_at__gte=since)
    trades = _by_account(entered.filter(filled_quantity__gt=0), Count("allocation", distinct=True))
    ended = _endings(ids, since)
    days = {}
    for pk in ids:
        sums = [one[pk] for one in (futures, spot) if pk in one]
        days[pk] = Day(
            since=since,
            trades=int(trades.get(pk, 0)),
            wins=ended.get(pk, (0, 0))[0],
            losses=ended.get(pk, (0, 0))[1],
            profit=sum((profit for profit, _, _ in sums), ZERO),
            loss=-sum((loss for _, loss, _ in sums), ZERO),
            fees=sum((fees for _, _, fees in sums), ZERO),
            funding=Decimal(funding.get(pk, 0)),
        )
    return days


def _of_fills(ids: Sequence[int], since: datetime) -> dict[int, tuple[Decimal, Decimal, Decimal]]:
    """Gains, losses and fees of futures executions; a fee in another asset is no money of this wallet."""
    rows = Fill.objects.filter(account__in=ids, filled_at__gte=since, market=Market.FUTURES)
    return _sums(rows, "realized_profit", Sum("fee", filter=Q(fee_asset__in=["", READ_ASSET])))


def _of_coins(ids: Sequence[int], since: datetime) -> dict[int, tuple[Decimal, Decimal, Decimal]]:
    """Of spot positions closed today, whole: a spot execution tells no profit of its own."""
    rows = Position.objects.filter(
        account__in=ids, closed_at__gte=since, market=Market.SPOT, is_foreign=False
    )
    return _sums(rows, "realized_profit", Sum("fees"))


def _sums(rows: Any, column: str, fees: Sum) -> dict[int, tuple[Decimal, Decimal, Decimal]]:
    summed = (
        rows.order_by()
        .values("account_id")
        .annotate(
            gained=Coalesce(Sum(column, filter=Q(**{f"{column}__gt": 0})), NOTHING),
            lost=Coalesce(Sum(column, filter=Q(**{f"{column}__lt": 0})), NOTHING),
            paid=Coalesce(fees, NOTHING),
        )
    )
    return {
        pk: (gained, lost, paid)
        for pk, gained, lost, paid in summed.values_list("account_id", "gained", "lost", "paid")
    }


def _by_account(rows: Any, figure: Any) -> dict[int, Any]:
    told = rows.order_by().values("account_id").annotate(n=figure)
    return {pk: n or 0 for pk, n in told.values_list("account_id", "n")}


def _endings(ids: Sequence[int], since: datetime) -> Mapping[int, tuple[int, int]]:
    """Positions closed today with a net gain, and with a net loss."""
    closed = Position.objects.filter(
        account__in=ids, status=PositionStatus.CLOSED, closed_at__gte=since, is_foreign=False
    ).annotate(net=F("realized_profit") - F("fees") + F("funding"))
    told = (
        closed.order_by()
        .values("account_id")
        .annotate(wins=Count("pk", filter=Q(net__gt=0)), losses=Count("pk", filter=Q(net__lt=0)))
    )
    return {pk: (wins, losses) for pk, wins, losses in told.values_list("account_id", "wins", "losses")}
