"""Equity: each account's money as it was last read, kept over time. A stale reading is no news."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import F, Q, Sum

from accounts.models import Account
from exchange.port import Market
from trading.domain.peak import raised_peak
from trading.domain.percent import ZERO
from trading.domain.states import OPEN, OrderPurpose, PositionStatus
from trading.models import EquitySnapshot, Fill, Income, Order, Position
from trading.services.money_flow import READ_ASSET, TRANSFERS
from trading.services.prices import fresh_marks

UNIT = Decimal("0.00000001")
CLOCKS_APART = timedelta(seconds=1)
"""The exchange's clock may say otherwise than ours which came first."""
FRESH = timedelta(seconds=90)
"""A reading older than this says nothing about now; the curve then carries the last one on by itself."""


def record(now: datetime) -> int:
    """Keep a snapshot of every account and market read recently; returns how many were kept.

    The snapshot carries the time of the reading, so the same reading is kept once.
    """
    read = list(Account.objects.filter(archived_at__isnull=True, balances_at__gte=now - FRESH))
    _raise_peaks(read, now)
    snapshots = [snapshot for account in read for snapshot in _snapshots(account)]
    return len(EquitySnapshot.objects.bulk_create(snapshots, ignore_conflicts=True))


def keep_first() -> int:
    """Keep a first snapshot of accounts that have none, before they can trade: their money flows from it."""
    unseen = Account.objects.filter(
        archived_at__isnull=True, balances_at__isnull=False, equity_snapshots__isnull=True
    )
    snapshots = [snapshot for account in unseen for snapshot in _snapshots(account)]
    return len(EquitySnapshot.objects.bulk_create(snapshots, ignore_conflicts=True))


def _snapshots(account: Account) -> list[EquitySnapshot]:
    figures = [(Market.FUTURES, account.wallet_balance, account.unrealized_profit)]
    figures.append((Market.SPOT, account.spot_wallet, Decimal(0)))
    return [
        EquitySnapshot(
            account=account,
            market=market,
            at=account.balances_at,
            wallet=wallet,
            unrealized_profit=unrealized or Decimal(0),
        )
        for market, wallet, unrealized in figures
        if wallet is not None and account.balances_at is not None
    ]


@dataclass(frozen=True, slots=True)
class _Coins:
    """An account's open spot positions at the marks now: their open profit, and what they are worth."""

    profit: Decimal = ZERO
    worth: Decimal = ZERO


def made_on_spot(account_ids: Sequence[int]) -> dict[int, Decimal]:
    """What each account's spot trades ever realised, after fees; nothing lists a spot wallet's movements."""
    ours = Position.objects.filter(account__in=account_ids, market=Market.SPOT, is_foreign=False)
    earned = ours.order_by().values("account_id").annotate(net=Sum(F("realized_profit") - F("fees")))
    return {account_id: net or ZERO for account_id, net in earned.values_list("account_id", "net")}


def _value(account: Account, made: Decimal, coins: _Coins) -> Decimal | None:
    """What drawdown is measured of: the futures equity and what spot trading made; None while unread.

    Idle spot money does not count: it would let the money that trades fall further. Without futures money it
    is the spot money and its coins, whose deposits and withdrawals nothing tells.
    """
    if account.wallet_balance is not None and account.wallet_balance > ZERO:
        return account.wallet_balance + (account.unrealized_profit or ZERO) + made + coins.profit
    return None if account.spot_wallet is None else account.spot_wallet + coins.worth


def _raise_peaks(accounts: Sequence[Account], now: datetime) -> None:
    """Keep each account's highest value, moved by its transfers; drawdown is measured from it."""
    made, coins = made_on_spot([one.pk for one in accounts]), _coins(accounts, now)
    moved, trading = _transfers(accounts), _traded_since_the_reading(accounts)
    for account in accounts:
        if account.pk in trading:
            continue
        held = coins.get(account.pk, _Coins())
        value = None if held is None else _value(account, made.get(account.pk, ZERO), held)
        if value is None or account.balances_at is None:
            continue
        peak = raised_peak(account.peak_equity, value, moved.get(account.pk, ZERO)).quantize(UNIT)
        if (peak, account.balances_at) == (account.peak_equity, account.peak_at):
            continue
        # Unless a resume has put it back meanwhile.
        unchanged = Account.objects.filter(pk=account.pk, peak_equity=account.peak_equity)
        unchanged.update(peak_equity=peak, peak_at=account.balances_at)


def _coins(accounts: Sequence[Account], now: datetime) -> dict[int, _Coins | None]:
    """By account; None where the mark of a coin is missing: what it is worth is then not known."""
    mine = Position.objects.filter(account__in=[one.pk for one in accounts], status=PositionStatus.OPEN)
    rows = list(mine.filter(market=Market.SPOT, is_foreign=False))
    marks = fresh_marks(rows, now) if rows else {}
    found: dict[int, _Coins | None] = {}
    for row in rows:
        mark, before = marks.get(row.symbol), found.get(row.account_id, _Coins())
        if mark is None or before is None:
            found[row.account_id] = None
            continue
        worth = row.quantity * mark.mark_price
        open_profit = worth - row.quantity * row.entry_price
        found[row.account_id] = _Coins(before.profit + open_profit, before.worth + worth)
    return found


def _traded_since_the_reading(accounts: Sequence[Account]) -> set[int]:
    """The accounts whose spot money was read before or amid a trade that their rows tell otherwise.

    Money of before a purchase beside what was bought, or that of a sale beside the coins, is a value that was
    never there; kept as the highest, it would halt the account for a fall that never was.
    """
    mine = Q(account__in=[one.pk for one in accounts], market=Market.SPOT)
    traded = Fill.objects.filter(mine, filled_at__gte=F("account__balances_at") - CLOCKS_APART)
    unsettled = Q(status__in=OPEN) | Q(fills_complete=False)
    selling = Order.objects.filter(mine, unsettled, purpose=OrderPurpose.EXIT)
    return {pk for rows in (traded, selling) for pk in rows.order_by().values_list("account_id", flat=True)}


def _transfers(accounts: Sequence[Account]) -> dict[int, Decimal]:
    """What was paid in and out of each futures wallet between the last peak and the last reading."""
    told = Income.objects.filter(
        Q(account__peak_at__isnull=False, at__gt=F("account__peak_at")),
        account__in=[one.pk for one in accounts],
        at__lte=F("account__balances_at"),
        kind__in=TRANSFERS,
        asset=READ_ASSET,
    )
    moved = told.order_by().values("account_id").annotate(n=Sum("quantity"))
    return dict(moved.values_list("account_id", "n"))
