from decimal import Decimal

import pytest
from pytest_django import DjangoAssertNumQueries, Settings

from accounts.errors import AccountRefused
from accounts.models import Account, AccountGroup, LimitOverride
from accounts.services.limits import effective_limits, effective_limits_of, set_override
from accounts.services.registry import create_paper_accounts

pytestmark = pytest.mark.django_db


@pytest.fixture
def accounts() -> list[Account]:
    group = AccountGroup.objects.create(name="swing")
    made = create_paper_accounts(3)
    for account in made[:2]:
        account.group = group
        account.save()
    return made


def test_without_overrides_the_limits_are_the_desks(accounts: list[Account], settings: Settings) -> None:
    found = effective_limits(accounts[0])
    assert found.limits == settings.LIMITS
    assert found.origin("max_positions") == "desk"


def test_an_account_overrides_its_group_and_a_group_the_desk(accounts: list[Account]) -> None:
    first, second, third = accounts
    assert first.group is not None
    set_override(first.group, "max_positions", "3", "olga")
    set_override(first.group, "risk_per_trade", "0.5", "olga")
    set_override(first, "max_positions", "2", "olga")
    found = effective_limits_of(accounts)
    assert [found[a.pk].limits.max_positions for a in accounts] == [2, 3, 5]
    assert [found[a.pk].origin("max_positions") for a in accounts] == ["account", "group", "desk"]
    assert found[second.pk].limits.risk_per_trade == Decimal("0.005")
    assert found[first.pk].shown()["risk_per_trade"] == ("0.5", "group")
    assert found[third.pk].shown()["risk_per_trade"] == ("1", "desk")


def test_the_limits_of_many_accounts_are_two_queries(
    accounts: list[Account], django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    set_override(accounts[0], "max_positions", "2", "olga")
    with django_assert_num_queries(2):
        effective_limits_of(accounts)


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_positons", "3"), ("max_positions", "many"), ("max_positions", "0"), ("risk_per_trade", "NaN")],
)
def test_a_limit_that_cannot_be_is_refused_and_not_stored(
    accounts: list[Account], name: str, value: str
) -> None:
    with pytest.raises(AccountRefused, match=name) as refused:
        set_override(accounts[0], name, value, "olga")
    assert refused.value.code == "BAD_LIMIT"
    assert not LimitOverride.objects.exists()


def test_a_groups_limit_that_contradicts_one_of_its_accounts_is_refused(accounts: list[Account]) -> None:
    assert accounts[0].group is not None
    set_override(accounts[0], "risk_per_trade", "1.5", "olga")
    with pytest.raises(AccountRefused, match="daily_loss"):
        set_override(accounts[0].group, "daily_loss", "3.5", "olga")
    assert effective_limits(accounts[0]).limits.daily_loss == Decimal("0.05")


def test_an_account_whose_stored_overrides_contradict_has_no_limits_to_enter_under(
    accounts: list[Account],
) -> None:
    LimitOverride.objects.create(account=accounts[0], name="daily_loss", value="1")
    with pytest.raises(ValueError, match="daily_loss"):
        effective_limits(accounts[0])
    assert sorted(effective_limits_of(accounts)) == [accounts[1].pk, accounts[2].pk]


@pytest.mark.parametrize("name", ["leverage", "unprotected_seconds", "DESK_DAILY_TRADES"])
def test_a_limit_of_the_desk_cannot_be_set_for_an_account_and_is_not_shown_as_its_own(
    accounts: list[Account], name: str
) -> None:
    with pytest.raises(AccountRefused, match="is the desk's"):
        set_override(accounts[0], name, "1", "olga")
    assert not LimitOverride.objects.exists()
    assert name.lower() not in effective_limits(accounts[0]).shown()
