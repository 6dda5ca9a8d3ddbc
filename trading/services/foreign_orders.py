"""Open orders that are not ours: kept while they rest, so that the gate keeps off their coins. Never touched.

A stream tells of them at once, an audit of the symbols it lists; what either shows as gone is forgotten.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from alerts.services import clear_alerts
from exchange.port import Market, OrderReport, ReportStatus
from trading.models import ForeignOrder

RESTING = frozenset({ReportStatus.NEW, ReportStatus.PARTIALLY_FILLED})


@dataclass(frozen=True, slots=True)
class Seen:
    """One order that is not ours, as it was just shown."""

    account_id: int
    market: Market
    report: OrderReport

    @property
    def key(self) -> tuple[int, str, str]:
        """What makes it one order."""
        return self.account_id, self.market.value, self.report.client_order_id


def alert_cause(account_id: int, client_order_id: str) -> str:
    """The cause under which people are told of one."""
    return f"foreign_order:{account_id}:{client_order_id}"


def keep(seen: Iterable[Seen], now: datetime) -> None:
    """Keep those that rest and forget those that ended. Told twice or late it says the same."""
    newest = {one.key: one for one in seen if one.report.client_order_id}
    resting = [one for one in newest.values() if one.report.status in RESTING]
    ForeignOrder.objects.bulk_create(
        [
            ForeignOrder(
                account_id=one.account_id,
                market=one.market,
                symbol=one.report.symbol,
                base=one.report.symbol.partition("/")[0],
                client_order_id=one.report.client_order_id,
                seen_at=now,
            )
            for one in resting
        ],
        update_conflicts=True,
        unique_fields=["account", "market", "client_order_id"],
        update_fields=["seen_at"],
    )
    ended = {key for key, one in newest.items() if one.report.status not in RESTING}
    if ended:
        named = ForeignOrder.objects.filter(
            account__in={key[0] for key in ended}, client_order_id__in={key[2] for key in ended}
        )
        _forget([row for row in named if (row.account_id, row.market, row.client_order_id) in ended], now)


def forget_unlisted(
    account_id: int, symbols: Collection[str], listed: Collection[str], now: datetime
) -> None:
    """Forget the account's orders on these symbols that a list of both stores, read whole, does not show."""
    mine = ForeignOrder.objects.filter(account=account_id, symbol__in=symbols)
    _forget(list(mine.exclude(client_order_id__in=listed)), now)


def _forget(gone: Sequence[ForeignOrder], now: datetime) -> None:
    """Drop the rows with what was told of them."""
    if gone:
        ForeignOrder.objects.filter(pk__in=[row.pk for row in gone]).delete()
        clear_alerts([alert_cause(row.account_id, row.client_order_id) for row in gone], now)
