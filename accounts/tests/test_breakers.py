from datetime import UTC, datetime, timedelta

import pytest
from pytest_django import DjangoAssertNumQueries

from accounts.models import Account, Breaker
from accounts.services.breakers import (
    is_open,
    note_money,
    note_rejection,
    note_success,
    note_successes,
    note_verified,
    open_accounts,
    state_of,
    states,
)
from accounts.services.limits import set_override
from accounts.services.registry import create_paper_accounts
from alerts.models import Alert, Severity

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
BTC, ETH = "BTC/USDT:USDT", "ETH/USDT:USDT"
MARGIN, SYMBOL_CLOSED, KEY_REFUSED = "-2019", "-4141", "-2015"

pytestmark = pytest.mark.django_db


@pytest.fixture
def account() -> Account:
    return create_paper_accounts(1)[0]


def reject(account: Account, code: str, times: int = 3, now: datetime = NOW) -> list[bool]:
    return [note_rejection(account, BTC, code, now) for _ in range(times)]


def test_the_third_equal_rejection_opens_and_is_one_alert(account: Account) -> None:
    assert reject(account, MARGIN, 5) == [False, False, True, False, False]
    assert is_open(account, BTC, NOW)
    alert = Alert.objects.get()
    assert (alert.code, alert.severity, alert.count) == ("BREAKER_OPEN", Severity.WARNING, 1)


def test_a_symbol_code_holds_back_that_symbol_only(account: Account) -> None:
    reject(account, SYMBOL_CLOSED)
    assert is_open(account, BTC, NOW)
    assert not is_open(account, ETH, NOW)


def test_a_margin_code_holds_back_every_symbol(account: Account) -> None:
    reject(account, MARGIN)
    assert is_open(account, ETH, NOW)


def test_local_denials_leave_no_trace(account: Account) -> None:
    assert reject(account, "MARGIN", 10) == [False] * 10
    assert not Breaker.objects.exists()
    assert not Alert.objects.exists()


def test_a_success_closes_it_early_and_ends_the_alert(account: Account) -> None:
    reject(account, MARGIN)
    note_success(account, ETH, NOW + timedelta(minutes=1))
    assert not is_open(account, BTC, NOW + timedelta(minutes=1))
    assert Alert.objects.get().cleared_at == NOW + timedelta(minutes=1)
    assert reject(account, MARGIN, 2) == [False, False]


def test_a_success_on_another_symbol_leaves_a_symbols_breaker_open(account: Account) -> None:
    reject(account, SYMBOL_CLOSED)
    note_success(account, ETH, NOW)
    assert is_open(account, BTC, NOW)


def test_refused_keys_open_at_once_critically_and_a_verification_closes(account: Account) -> None:
    assert reject(account, KEY_REFUSED, 1) == [True]
    assert Alert.objects.get().severity == Severity.CRITICAL
    reject(account, SYMBOL_CLOSED)
    note_verified(account, NOW)
    assert not is_open(account, ETH, NOW)
    assert is_open(account, BTC, NOW)


def test_an_account_may_have_a_limit_of_its_own(account: Account) -> None:
    set_override(account, "breaker_rejections", "1", "olga")
    assert reject(account, MARGIN, 1) == [True]


def test_the_open_ones_of_many_accounts_are_one_query(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    accounts = create_paper_accounts(3)
    ids = [account.pk for account in accounts]
    reject(accounts[0], MARGIN)
    reject(accounts[1], SYMBOL_CLOSED)
    with django_assert_num_queries(1):
        assert open_accounts(ids, BTC, NOW) == {accounts[0].pk, accounts[1].pk}
    assert open_accounts(ids, ETH, NOW) == {accounts[0].pk}
    assert open_accounts(ids, BTC, NOW + timedelta(minutes=5)) == frozenset()


def test_many_successes_close_what_they_prove_and_cost_one_query_when_nothing_counts(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    accounts = create_paper_accounts(3)
    with django_assert_num_queries(1):
        note_successes([(account.pk, BTC) for account in accounts], NOW)
    reject(accounts[0], MARGIN)
    reject(accounts[1], SYMBOL_CLOSED)
    note_successes([(accounts[0].pk, ETH), (accounts[1].pk, ETH)], NOW)
    assert open_accounts([one.pk for one in accounts], BTC, NOW) == {accounts[1].pk}


def test_money_that_comes_closes_what_the_want_of_it_opened_and_nothing_else(account: Account) -> None:
    other = create_paper_accounts(2)[0]
    reject(account, MARGIN)
    reject(account, SYMBOL_CLOSED)
    reject(other, MARGIN)
    note_money([account.pk], NOW + timedelta(minutes=1))
    assert list(states(account).values_list("code", flat=True)) == [SYMBOL_CLOSED]
    assert is_open(other, ETH, NOW)
    assert not is_open(account, ETH, NOW)
    assert Alert.objects.filter(cleared_at=None).count() == 2


def test_money_for_nobody_asks_the_database_nothing(
    account: Account, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(0):
        note_money([], NOW)


def test_a_mode_put_right_closes_what_the_mode_opened(account: Account) -> None:
    reject(account, "-4061")
    note_verified(account, NOW)
    assert not is_open(account, BTC, NOW)


def test_a_breaker_is_open_then_half_open_then_closed(account: Account) -> None:
    reject(account, MARGIN)
    row = Breaker.objects.get()
    later = NOW + timedelta(minutes=6)
    assert [state_of(row, at) for at in (NOW, later)] == ["open", "half-open"]
    note_success(account, BTC, later)
    row.refresh_from_db()
    assert state_of(row, later) == "closed"
