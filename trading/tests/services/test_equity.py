"""Equity as it was read: kept once, never repeated when stale, from before the first trade."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from accounts.models import Account
from trading.models import EquitySnapshot
from trading.services import equity

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)

pytestmark = pytest.mark.django_db


def account(
    name: str, *, wallet: str = "1000", unrealized: str = "0", read_seconds_ago: float = 0
) -> Account:
    return Account.objects.create(
        name=name,
        wallet_balance=Decimal(wallet),
        unrealized_profit=Decimal(unrealized),
        balances_at=NOW - timedelta(seconds=read_seconds_ago),
    )


def test_a_reading_is_kept_once_however_often_it_is_recorded() -> None:
    account("a")
    equity.record(NOW)
    equity.record(NOW + timedelta(seconds=60))
    assert EquitySnapshot.objects.count() == 1


def test_a_stale_reading_is_not_repeated_as_news() -> None:
    account("a", read_seconds_ago=91)
    assert equity.record(NOW) == 0
    assert not EquitySnapshot.objects.exists()


def test_the_peak_rises_with_equity_and_never_falls() -> None:
    row = account("a", wallet="1000", unrealized="50")
    equity.record(NOW)
    Account.objects.filter(pk=row.pk).update(unrealized_profit=Decimal(-200))
    equity.record(NOW)
    row.refresh_from_db()
    assert row.peak_equity == Decimal(1050)


def test_a_first_snapshot_is_kept_for_accounts_without_one_and_only_for_those() -> None:
    account("old", read_seconds_ago=10_000)
    seen = account("seen")
    equity.record(NOW)
    assert equity.keep_first() == 1
    assert equity.keep_first() == 0
    assert EquitySnapshot.objects.filter(account=seen).count() == 1
