"""Equity as it was read: kept once, never repeated when stale, from before the first trade."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from accounts.models import Account
from exchange.port import MarkPrice
from trading.models import EquitySnapshot, Fill, Income, Order, Position
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


def transfer(row: Account, quantity: str, *, seconds_ago: float) -> None:
    at = NOW - timedelta(seconds=seconds_ago)
    told = {"kind": "TRANSFER", "asset": "USDT", "income_id": str(at)}
    Income.objects.create(account=row, quantity=Decimal(quantity), at=at, **told)


def test_a_withdrawal_is_no_fall_and_a_deposit_hides_none() -> None:
    leaving, coming = account("leaving"), account("coming")
    equity.record(NOW)
    later = NOW + timedelta(seconds=60)
    transfer(leaving, "-400", seconds_ago=-30)
    transfer(coming, "1000", seconds_ago=-30)
    Account.objects.filter(pk=leaving.pk).update(wallet_balance=600, balances_at=later)
    Account.objects.filter(pk=coming.pk).update(wallet_balance=1800, balances_at=later)
    equity.record(later)
    leaving.refresh_from_db()
    coming.refresh_from_db()
    assert leaving.peak_equity == 600
    # It was worth 800 of a peak of 1,000 when as much again and a quarter came.
    assert coming.peak_equity == 2250
    equity.record(later)
    leaving.refresh_from_db()
    assert leaving.peak_equity == 600, "a transfer moves the peak once"


def test_what_was_earned_on_spot_is_part_of_the_peak() -> None:
    row = account("a")
    Position.objects.create(
        account=row,
        market="spot",
        symbol="BTC/USDT",
        base="BTC",
        is_long=True,
        status="CLOSED",
        quantity=0,
        initial_quantity=1,
        entry_price=100,
        realized_profit=55,
        fees=5,
        opened_at=NOW,
        closed_at=NOW,
    )
    equity.record(NOW)
    row.refresh_from_db()
    assert row.peak_equity == 1050


@pytest.mark.parametrize("when", ["bought since the reading", "sale not yet booked"])
def test_spot_money_and_coins_of_different_moments_are_no_peak(
    monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    row = account("a", wallet="0")
    Account.objects.filter(pk=row.pk).update(spot_wallet=10_000)
    held = Position.objects.create(
        account=row,
        market="spot",
        symbol="BTC/USDT",
        base="BTC",
        is_long=True,
        quantity=50,
        initial_quantity=50,
        entry_price=100,
        opened_at=NOW,
    )
    trade = {"account": row, "position": held, "market": "spot", "symbol": "BTC/USDT", "quantity": 50}
    if when == "bought since the reading":
        seconds = timedelta(seconds=2)
        Fill.objects.create(**trade, trade_id="1", side="buy", price=100, filled_at=NOW + seconds)
    else:
        told = {"client_order_id": "x", "purpose": "EXIT", "type": "MARKET", "status": "UNKNOWN"}
        Order.objects.create(**trade, **told, base="BTC", side="sell", created_at=NOW)
    mark = MarkPrice(symbol="BTC/USDT", mark_price=Decimal(100), at=NOW)
    monkeypatch.setattr(equity, "fresh_marks", lambda *_: {"BTC/USDT": mark})

    equity.record(NOW + timedelta(seconds=5))

    row.refresh_from_db()
    assert row.peak_equity is None

    Order.objects.update(status="FILLED", fills_complete=True)
    Account.objects.filter(pk=row.pk).update(spot_wallet=5_000, balances_at=NOW + timedelta(seconds=40))
    equity.record(NOW + timedelta(seconds=45))
    row.refresh_from_db()
    assert row.peak_equity == 10_000


def test_a_first_snapshot_is_kept_for_accounts_without_one_and_only_for_those() -> None:
    account("old", read_seconds_ago=10_000)
    seen = account("seen")
    equity.record(NOW)
    assert equity.keep_first() == 1
    assert equity.keep_first() == 0
    assert EquitySnapshot.objects.filter(account=seen).count() == 1
