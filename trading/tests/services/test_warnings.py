"""What an operator hears before a limit is reached: one warning a cause, gone with it."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings

from accounts.models import Account
from alerts.models import Alert
from exchange.port import Market
from trading.domain.states import PositionStatus
from trading.services.exposure import exposures
from trading.services.warnings import warn
from trading.tests import rows
from trading.tests.rows import NOON, SYMBOL

pytestmark = pytest.mark.django_db

DAY: dict[str, Any] = {
    "balances_at": NOON,
    "day_started_at": NOON.replace(hour=0),
    "day_baseline_equity": Decimal(10_000),
    "spot_available": Decimal(10_000),
}


def warned(accounts: list[Account], marks: Mapping[str, str] | None = None) -> list[tuple[str, int]]:
    """One look: the codes that stand afterwards, each with its count."""
    at = {symbol: Decimal(mark) for symbol, mark in (marks or {}).items()}
    limits = {account.pk: settings.LIMITS for account in accounts}
    warn(accounts, limits, exposures(accounts, limits, at, NOON), at, NOON)
    standing = Alert.objects.filter(cleared_at__isnull=True).order_by("code")
    return list(standing.values_list("code", "count"))


@pytest.mark.parametrize(("wallet", "expected"), [("9801", []), ("9800", [("DAY_LOSS", 1)])])
def test_a_day_at_minus_two_percent_is_told_once_and_taken_back(
    wallet: str, expected: list[tuple[str, int]]
) -> None:
    account = rows.account(**DAY, wallet_balance=Decimal(wallet))
    assert warned([account]) == expected
    assert warned([account]) == expected, "the same cause is no second warning"
    account.wallet_balance = Decimal(9_900)
    assert warned([account]) == []


def test_the_day_of_who_trades_spot_alone_is_told_of_its_spot_money() -> None:
    account = rows.account(
        **DAY | {"day_baseline_equity": Decimal(0)}, wallet_balance=Decimal(0), spot_wallet=Decimal(9_700)
    )
    sold = {"status": PositionStatus.CLOSED, "closed_at": NOON, "quantity": Decimal(0)}
    spot = {"market": Market.SPOT, "symbol": "BTC/USDT", "leverage": 1}
    rows.position(account, **sold, **spot, realized_profit=Decimal(-300))
    assert warned([account]) == [("DAY_LOSS", 1)]


@pytest.mark.parametrize(
    ("mark", "expected"),
    [
        ("100.1", []),
        ("99", ["DECISION_LOSING"]),
        ("98.4", ["DECISION_LOSING", "STOP_NEAR"]),
    ],
)
def test_a_decision_that_loses_or_nears_its_stops_is_told_once_for_all_its_accounts(
    mark: str, expected: list[str]
) -> None:
    made = rows.decision(rows.signal())
    accounts = [rows.account(name, **DAY) for name in ("alpha", "beta")]
    for account in accounts:
        rows.position(account, allocation=rows.allocation(made, account))
    assert [code for code, _ in warned(accounts, {SYMBOL: mark})] == expected


def test_a_decision_that_wins_on_one_account_is_not_losing_on_all() -> None:
    made = rows.decision(rows.signal())
    accounts = [rows.account(name, **DAY) for name in ("alpha", "beta")]
    for account, entry_price in zip(accounts, ("100", "98.9"), strict=True):
        share = rows.allocation(made, account)
        rows.position(account, allocation=share, entry_price=Decimal(entry_price), stop_price=Decimal(97))
    assert warned(accounts, {SYMBOL: "99"}) == []


def test_a_stop_moved_into_profit_is_no_loss_to_be_near() -> None:
    made = rows.decision(rows.signal())
    account = rows.account(**DAY)
    rows.position(account, allocation=rows.allocation(made, account), stop_price=Decimal(101))
    assert warned([account], {SYMBOL: "101.1"}) == []


@pytest.mark.parametrize(("available", "expected"), [("1000", []), ("999", [("MARGIN_LOW", 1)])])
def test_margin_under_the_reserve_is_told(available: str, expected: list[tuple[str, int]]) -> None:
    account = rows.account(**DAY, available_balance=Decimal(available))
    assert warned([account]) == expected


def test_a_mark_that_swings_around_the_entry_is_one_warning() -> None:
    made = rows.decision(rows.signal())
    accounts = [rows.account(name, **DAY) for name in ("alpha", "beta")]
    for account in accounts:
        rows.position(account, allocation=rows.allocation(made, account))
    for mark in ("99.9", "100.1", "99.9", "100", "99.9"):
        assert warned(accounts, {SYMBOL: mark}) == [("DECISION_LOSING", 1)]
    assert Alert.objects.count() == 1
    assert warned(accounts, {SYMBOL: "101"}) == []


def test_what_swings_around_the_day_s_warning_and_the_reserve_is_one_warning_each() -> None:
    account = rows.account(**DAY)
    for wallet, available in (("9799", "900"), ("9801", "985"), ("9799", "979"), ("9815", "1070")):
        account.wallet_balance, account.available_balance = Decimal(wallet), Decimal(available)
        assert warned([account]) == [("DAY_LOSS", 1), ("MARGIN_LOW", 1)]
    account.wallet_balance, account.available_balance = Decimal(9_900), Decimal(1_100)
    assert warned([account]) == []
