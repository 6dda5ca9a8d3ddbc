from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from django.db import connection
from pytest_django import DjangoAssertNumQueries, Settings

from accounts.errors import AccountRefused
from accounts.models import Account, AccountGroup, LimitChange, LimitOverride
from accounts.services.limits import (
    Owner,
    clear_override,
    desk_limits,
    effective_desk_limits,
    effective_group_limits,
    effective_limits,
    effective_limits_of,
    history,
    set_override,
    set_overrides,
    usable_limits_of,
)
from accounts.services.registry import create_paper_accounts
from tests.meanwhile import meanwhile

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
    assert found.origin("max_positions") == "setting"


def test_an_account_overrides_its_group_and_a_group_the_desk(accounts: list[Account]) -> None:
    first, second, third = accounts
    assert first.group is not None
    set_override(first.group, "max_positions", "3", "olga")
    set_override(first.group, "risk_per_trade", "0.5", "olga")
    set_override(first, "max_positions", "2", "olga")
    found = effective_limits_of(accounts)
    assert [found[a.pk].limits.max_positions for a in accounts] == [2, 3, 5]
    assert [found[a.pk].origin("max_positions") for a in accounts] == ["account", "group", "setting"]
    assert found[second.pk].limits.risk_per_trade == Decimal("0.005")
    assert found[first.pk].shown()["risk_per_trade"] == ("0.5", "group")
    assert found[third.pk].shown()["risk_per_trade"] == ("1", "setting")


def test_the_limits_of_many_accounts_are_one_query(
    accounts: list[Account], django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    set_override(accounts[0], "max_positions", "2", "olga")
    with django_assert_num_queries(1):
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


def changes(of: Account | AccountGroup | None) -> list[tuple[str, str, str, str]]:
    return list(history(of).values_list("name", "before", "after", "changed_by"))


def test_what_is_set_for_the_desk_holds_for_all_that_have_it_not_otherwise(accounts: list[Account]) -> None:
    first, second, _ = accounts
    assert first.group is not None
    set_override(None, "max_positions", "4", "olga")
    set_override(None, "cooldown_seconds", "120", "olga")
    set_override(first.group, "max_positions", "3", "olga")
    found = effective_limits_of(accounts)
    assert [found[a.pk].limits.max_positions for a in accounts] == [3, 3, 4]
    assert [found[a.pk].origin("max_positions") for a in accounts] == ["group", "group", "desk"]
    assert found[second.pk].limits.cooldown_seconds == 120
    assert desk_limits().max_positions == 4
    assert effective_desk_limits().shown_whole()["cooldown_seconds"] == ("120", "desk")
    assert effective_group_limits(first.group).shown()["max_positions"] == ("3", "group")
    clear_override(None, "max_positions", "olga")
    assert effective_limits(accounts[2]).origin("max_positions") == "setting"


@pytest.mark.parametrize(
    ("name", "value"),
    [("unprotected_seconds", "5"), ("stop_priority_seconds", "1"), ("risk_budget", "0.5"), ("nonsense", "1")],
)
def test_what_every_process_goes_by_and_what_contradicts_is_not_set_for_the_desk(
    accounts: list[Account], name: str, value: str
) -> None:
    with pytest.raises(AccountRefused) as refused:
        set_override(None, name, value, "olga")
    assert refused.value.code == "BAD_LIMIT"
    assert not LimitOverride.objects.exists()
    assert not LimitChange.objects.exists()


def test_a_limit_of_the_desk_that_contradicts_one_account_is_refused_by_its_name(
    accounts: list[Account],
) -> None:
    set_override(accounts[1], "risk_per_trade", "1.5", "olga")
    with pytest.raises(AccountRefused, match="paper-0002: daily_loss"):
        set_override(None, "daily_loss", "3.5", "olga")
    assert desk_limits().daily_loss == Decimal("0.05")


def test_every_change_is_kept_with_what_was_before_and_who(accounts: list[Account]) -> None:
    account = accounts[0]
    set_override(account, "max_positions", "2", "olga")
    set_override(account, "max_positions", "2", "oleg")
    set_override(account, "max_positions", "3", "oleg")
    clear_override(account, "max_positions", "olga")
    assert changes(account) == [
        ("max_positions", "3", "", "olga"),
        ("max_positions", "2", "3", "oleg"),
        ("max_positions", "", "2", "olga"),
    ]
    assert changes(accounts[1]) == []
    assert changes(None) == []
    assert history(account)[0].owner_name == "paper-0001"


def test_a_refused_change_leaves_no_history(accounts: list[Account]) -> None:
    with pytest.raises(AccountRefused):
        set_override(accounts[0], "daily_loss", "1", "olga")
    assert not LimitChange.objects.exists()


def test_one_limit_is_set_on_many_accounts_or_on_none(
    accounts: list[Account], django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_max_num_queries(12):
        assert set_overrides(accounts, {"max_positions": "2"}, "olga") == 3
    assert set_overrides(accounts, {"max_positions": "2"}, "olga") == 0
    set_override(accounts[1], "risk_per_trade", "1.5", "olga")
    with pytest.raises(AccountRefused, match="paper-0002"):
        set_overrides(accounts, {"daily_loss": "3.5"}, "olga")
    assert not LimitOverride.objects.filter(name="daily_loss").exists()


def test_exits_of_an_account_whose_limits_contradict_go_by_the_desks(accounts: list[Account]) -> None:
    set_override(None, "loss_guard", "2", "olga")
    LimitOverride.objects.create(account=accounts[0], name="daily_loss", value="1")
    assert usable_limits_of(accounts)[accounts[0].pk].loss_guard == 2


# ── two at once ──────────────────────────────────────────────────────────────
def steps_of(owner: Owner) -> list[tuple[str, str, str]]:
    return list(history(owner).order_by("pk").values_list("before", "after", "changed_by"))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("scope", ["desk", "group", "account"])
@pytest.mark.parametrize("was", ["", "2"], ids=["unset", "set before"])
def test_of_two_who_set_a_limit_at_once_the_second_follows_on_the_first(
    accounts: list[Account], scope: str, was: str
) -> None:
    owner = {"desk": None, "group": accounts[0].group, "account": accounts[0]}[scope]
    if was:
        set_override(owner, "max_positions", was, "before")
    meanwhile(
        lambda: set_override(owner, "max_positions", "3", "olga"),
        lambda: set_override(owner, "max_positions", "4", "pavel"),
    )
    assert LimitOverride.objects.get(name="max_positions").value == "4"
    assert steps_of(owner)[-2:] == [(was, "3", "olga"), ("3", "4", "pavel")]


@pytest.mark.django_db(transaction=True)
def test_a_limit_set_while_another_clears_it_is_set_anew(accounts: list[Account]) -> None:
    owner = accounts[0]
    set_override(owner, "max_positions", "2", "before")
    meanwhile(
        lambda: clear_override(owner, "max_positions", "olga"),
        lambda: set_override(owner, "max_positions", "4", "pavel"),
    )
    assert steps_of(owner)[-2:] == [("2", "", "olga"), ("", "4", "pavel")]
    assert effective_limits(owner).limits.max_positions == 4


@pytest.mark.django_db(transaction=True)
def test_two_who_set_the_limits_of_the_same_accounts_never_wait_for_each_other(
    accounts: list[Account],
) -> None:
    ways = [accounts, list(reversed(accounts))] * 3

    def set_all(number: int) -> int:
        try:
            return set_overrides(ways[number], {"max_positions": f"{number + 2}"}, "somebody")
        finally:
            connection.close()

    with ThreadPoolExecutor(len(ways)) as pool:
        assert list(pool.map(set_all, range(len(ways)))) == [len(accounts)] * len(ways)
    assert len(set(LimitOverride.objects.values_list("value", flat=True))) == 1
    assert LimitChange.objects.count() == len(ways) * len(accounts)
