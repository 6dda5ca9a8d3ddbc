"""The exchange's clock and ours, beside the paper exchange's own."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from accounts.models import Account, Health
from accounts.services.clocks import watch_clocks
from accounts.services.gateways import clock_offset_ms, close_gateways
from accounts.services.registry import create_account
from accounts.services.verification import verify_account
from accounts.tasks import verify_accounts
from alerts.models import Alert, Severity
from exchange.port import Market
from tests.processes import PaperExchange

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("connections", "redis", "paper_exchange")]


@pytest.fixture
def account() -> Account:
    return create_account("clocked", "clocked-0001", "clocked-0001")


@pytest.fixture
def skewed(paper_exchange: PaperExchange) -> Iterator[PaperExchange]:
    """An exchange whose clock runs 30 s before ours."""
    close_gateways()
    paper_exchange.add_fault(kind="clock_skew", seconds=30, count=0)
    yield paper_exchange
    paper_exchange.delete("/paper/faults")
    close_gateways()


def test_clocks_that_agree_are_written_and_told_to_nobody(account: Account) -> None:
    read = watch_clocks(NOW)

    assert abs(read["binance"]) < 1000
    account.refresh_from_db()
    assert abs(account.clock_offset_ms - read["binance"]) <= 50
    assert not Alert.objects.exists()


def test_a_clock_too_far_away_is_one_alarm_until_it_is_right_and_stands_in_every_row(
    account: Account, skewed: PaperExchange
) -> None:
    other = create_account("clocked-too", "clocked-0002", "clocked-0002")
    verify_accounts()
    verify_accounts()

    for row in (account, other):
        row.refresh_from_db()
        assert 29_000 < row.clock_offset_ms < 31_000
    alert = Alert.objects.get(cleared_at=None, code="CLOCK")
    assert (alert.severity, alert.count) == (Severity.CRITICAL, 2)

    skewed.delete("/paper/faults")
    watch_clocks(NOW)
    account.refresh_from_db()
    assert abs(account.clock_offset_ms) < 1000
    assert not Alert.objects.filter(cleared_at=None, code="CLOCK").exists()


def test_a_distance_that_is_measured_is_applied_and_still_a_reason_against_the_account(
    account: Account, skewed: PaperExchange
) -> None:
    assert clock_offset_ms(account, Market.FUTURES) == 0, "nothing measured, nothing known"

    verdict = verify_account(account, NOW)

    assert verdict.code == "CLOCK", "every signed read was answered, or they would be the reason"
    account.refresh_from_db()
    assert (account.health, account.wallet_balance is not None) == (Health.UNHEALTHY, True)
    assert 29_000 < clock_offset_ms(account, Market.FUTURES) < 31_000


def test_a_clock_nobody_tells_changes_nothing(account: Account, paper_exchange: PaperExchange) -> None:
    Account.objects.update(clock_offset_ms=77)
    rule = {"kind": "http", "status": 502, "body": "<html>", "count": 0}
    paper_exchange.add_fault(endpoint="GET /fapi/v1/time", **rule)
    try:
        assert watch_clocks(NOW) == {}
    finally:
        paper_exchange.delete("/paper/faults")
    account.refresh_from_db()
    assert account.clock_offset_ms == 77
