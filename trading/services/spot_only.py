"""Accounts that trade spot alone: their keys may have no right to ask for futures, and need none."""

from collections.abc import Iterable

from django.db.models import Exists, OuterRef

from accounts.models import Account, Executor
from accounts.services.among import Among
from exchange.port import Market
from trading.domain.states import OPEN, PositionStatus
from trading.models import Order, Position


def spot_only(accounts: Iterable[Account]) -> set[int]:
    """The ids of those whose only way is spot, and which have no position and no live order on futures."""
    ways = Executor.objects.filter(account=OuterRef("pk"), is_enabled=True)
    on_futures = {"account": OuterRef("pk"), "market": Market.FUTURES}
    found = Account.objects.filter(
        Exists(ways.filter(market=Market.SPOT)),
        ~Exists(ways.filter(market=Market.FUTURES)),
        ~Exists(Position.objects.filter(**on_futures, status=PositionStatus.OPEN)),
        ~Exists(Order.objects.filter(**on_futures, status__in=sorted(OPEN))),
        Among("pk", [account.pk for account in accounts]),
    )
    return set(found.order_by().values_list("pk", flat=True))
