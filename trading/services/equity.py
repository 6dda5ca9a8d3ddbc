"""Equity: each account's money as it was last read, kept over time. A stale reading is no news."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import Q

from accounts.models import Account
from exchange.port import Market
from trading.models import EquitySnapshot

FRESH = timedelta(seconds=90)
"""A reading older than this says nothing about now; the curve then carries the last one on by itself."""


def record(now: datetime) -> int:
    """Keep a snapshot of every account and market read recently; returns how many were kept.

    The snapshot carries the time of the reading, so the same reading is kept once.
    """
    read = list(Account.objects.filter(archived_at__isnull=True, balances_at__gte=now - FRESH))
    _raise_peaks(read)
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


def _raise_peaks(accounts: Sequence[Account]) -> None:
    """Keep each account's highest equity; drawdown is measured from it. It only rises."""
    for account in accounts:
        if account.wallet_balance is None:
            continue
        equity = account.wallet_balance + (account.unrealized_profit or Decimal(0))
        if account.peak_equity is not None and account.peak_equity >= equity:
            continue
        Account.objects.filter(pk=account.pk).filter(
            Q(peak_equity__isnull=True) | Q(peak_equity__lt=equity)
        ).update(peak_equity=equity)
