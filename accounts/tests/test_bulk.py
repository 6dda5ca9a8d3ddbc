"""Many accounts at once: all or none, in a number of queries that does not grow with them."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.errors import AccountRefused
from accounts.models import Account, AccountGroup, AccountSource, Health, LimitOverride, Tag
from accounts.services import bulk
from accounts.services.limits import set_override
from accounts.services.registry import create_paper_accounts, wipe_keys
from accounts.services.verification import due_accounts

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

pytestmark = pytest.mark.django_db


def test_pausing_keeps_the_reason_and_resuming_leaves_archived_ones_alone() -> None:
    first, second, gone = create_paper_accounts(3)
    wipe_keys(gone, NOW)
    assert bulk.pause_all([first, second], " storm ") == 2
    assert set(Account.objects.exclude(pk=gone.pk).values_list("is_enabled", "pause_reason")) == {
        (False, "storm")
    }
    assert bulk.resume_all(list(Account.objects.all())) == (2, ["paper-0003"])
    gone.refresh_from_db()
    assert not gone.is_enabled


def test_a_pause_without_a_reason_pauses_nobody() -> None:
    accounts = create_paper_accounts(2)
    with pytest.raises(AccountRefused) as refused:
        bulk.pause_all(accounts, " ")
    assert refused.value.code == "NO_REASON"
    assert Account.objects.filter(is_enabled=True).count() == 2


def test_accounts_asked_about_are_due_though_they_are_healthy_the_never_verified_first() -> None:
    accounts = create_paper_accounts(3)
    for account in accounts[:2]:
        Account.objects.filter(pk=account.pk).update(
            health=Health.HEALTHY, verified_at=NOW - timedelta(minutes=1)
        )
    assert list(due_accounts(NOW)) == [accounts[2]]
    assert bulk.ask_verification(accounts[:2], NOW) == 2
    assert list(due_accounts(NOW)) == [accounts[2], accounts[0], accounts[1]]


def test_an_account_told_by_the_environment_keeps_its_group_and_nobody_is_moved() -> None:
    accounts = create_paper_accounts(2)
    Account.objects.filter(pk=accounts[1].pk).update(source=AccountSource.ENVIRONMENT)
    with pytest.raises(AccountRefused) as refused:
        bulk.move_all(list(Account.objects.all()), "swing")
    assert refused.value.code == "ENVIRONMENT_GROUP"
    assert not Account.objects.filter(group__isnull=False).exists()


def test_a_move_into_a_group_whose_limits_contradict_an_accounts_own_moves_nobody() -> None:
    accounts = create_paper_accounts(2)
    set_override(AccountGroup.objects.create(name="calm"), "daily_loss", "3.5", "olga")
    set_override(accounts[1], "risk_per_trade", "1.5", "olga")
    with pytest.raises(AccountRefused, match="paper-0002") as refused:
        bulk.move_all(accounts, "calm")
    assert refused.value.code == "BAD_LIMIT"
    assert not Account.objects.filter(group__isnull=False).exists()


def test_a_tag_is_put_once_and_taken_from_those_that_have_it() -> None:
    accounts = create_paper_accounts(3)
    assert bulk.tag_all(accounts[:2], " slow ") == 2
    assert bulk.tag_all(accounts, "slow") == 1
    assert list(Tag.objects.values_list("name", flat=True)) == ["slow"]
    assert bulk.untag_all(accounts[1:], "slow") == 2
    assert list(Account.objects.filter(tags__name="slow")) == [accounts[0]]


@pytest.mark.parametrize("word", ["", "  ", "x" * 41])
def test_what_is_no_word_is_no_tag(word: str) -> None:
    with pytest.raises(AccountRefused) as refused:
        bulk.tag_all(create_paper_accounts(1), word)
    assert refused.value.code == "NO_TAG"
    assert not Tag.objects.exists()


def questions(count: int) -> list[int]:
    """How many statements each deed takes over so many accounts."""
    create_paper_accounts(count)
    accounts = list(Account.objects.all())
    asked = []
    for act in (
        lambda: bulk.pause_all(accounts, "storm"),
        lambda: bulk.resume_all(accounts),
        lambda: bulk.ask_verification(accounts, NOW),
        lambda: bulk.move_all(accounts, "swing"),
        lambda: bulk.tag_all(accounts, "slow"),
        lambda: bulk.set_limit_for_all(accounts, "max_positions", "2", "olga"),
        lambda: bulk.set_limit_for_all(accounts, "max_positions", "", "olga"),
        lambda: bulk.untag_all(accounts, "slow"),
    ):
        with CaptureQueriesContext(connection) as seen:
            act()
        asked.append(len(seen))
    AccountGroup.objects.filter(accounts=None).delete()
    Account.objects.update(group=None)
    AccountGroup.objects.all().delete()
    Tag.objects.all().delete()
    return asked


def test_no_deed_asks_more_of_the_database_for_more_accounts() -> None:
    few = questions(2)
    assert questions(30) == few
    assert not LimitOverride.objects.exists()
