from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings
from redis import Redis

from accounts.models import Account
from accounts.services.registry import create_account
from accounts.tasks import boot
from accounts.tests.test_registry import Told

pytestmark = pytest.mark.django_db


def said(*words: str) -> str:
    output = StringIO()
    call_command(*words, stdout=output)
    return output.getvalue()


def test_paper_accounts_are_made_from_the_command_line_and_a_second_run_makes_none() -> None:
    assert said("create_paper_accounts", "--count=3") == "3 paper accounts made, 3 asked for.\n"
    assert said("create_paper_accounts", "--count=3") == "0 paper accounts made, 3 asked for.\n"
    assert Account.objects.count() == 3


def test_a_desk_of_real_money_refuses_the_command(settings: Settings) -> None:
    settings.MODE = "live"
    with pytest.raises(CommandError, match="no paper accounts"):
        said("create_paper_accounts", "--count=3")


def test_environment_accounts_are_synchronised_from_the_command_line(settings: Settings) -> None:
    settings.ENVIRONMENT_ACCOUNTS = (Told(),)
    assert said("sync_accounts") == "made: house\nchanged: none\npaused: none\n"
    settings.ENVIRONMENT_ACCOUNTS = ()
    assert said("sync_accounts").endswith("paused: house\n")


def test_a_refused_environment_account_fails_the_command_by_name_without_its_key(settings: Settings) -> None:
    create_account("alpha", Told().api_key, "secret")
    settings.ENVIRONMENT_ACCOUNTS = (Told(),)
    with pytest.raises(CommandError) as refused:
        said("sync_accounts")
    assert str(refused.value) == "house refused: This key is already the account alpha."


def test_a_desk_that_starts_looks_at_the_environment_and_asks_how_its_accounts_are(
    settings: Settings, redis: Redis
) -> None:
    settings.ENVIRONMENT_ACCOUNTS = (Told(),)
    boot()
    assert Account.objects.get().name == "house"
    waiting = [bytes(key) for key in redis.scan_iter("desk:*") if redis.type(key) == b"list"]
    assert [redis.llen(queue) for queue in waiting] == [1]
