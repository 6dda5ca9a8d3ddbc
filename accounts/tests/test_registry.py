from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.db import connection
from pytest_django import Settings

from accounts.credentials import Field, Opener, fingerprint
from accounts.errors import AccountRefused
from accounts.models import Account, Executor, Health
from accounts.services.registry import (
    VANISHED,
    create_account,
    create_paper_accounts,
    pause,
    replace_keys,
    resume,
    sync_environment_accounts,
    wipe_keys,
)
from alerts.models import Alert
from exchange.port import Market

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
KEY = "apikeyapikeyapikey-canary-0001"
SECRET = "secretsecretsecret-canary-0001"


@dataclass(frozen=True)
class Told:
    number: int = 1
    name: str = "house"
    exchange: str = "binance"
    mode: str = "paper"
    group: str = ""
    leverage: Decimal = Decimal(3)
    api_key: str = KEY
    api_secret: str = SECRET
    passphrase: str = ""


def opened(account: Account, settings: Settings, field: Field) -> str:
    account.refresh_from_db()
    ciphertext = getattr(account, f"{field.value}_ciphertext")
    return Opener(settings.HPKE_PRIVATE_KEY).open(bytes(ciphertext), account.key_id, account.uuid, field)


def markets(account: Account) -> Sequence[tuple[int, str]]:
    return list(account.executors.values_list("rank", "market"))


@pytest.mark.django_db
def test_a_new_account_is_unverified_with_sealed_keys_and_two_executors(settings: Settings) -> None:
    account = create_account("alpha", f" {KEY}\n", SECRET, group="swing", leverage=5)
    account.refresh_from_db()
    assert (account.health, account.is_enabled, account.leverage) == (Health.UNVERIFIED, True, 5)
    assert account.group is not None
    assert account.group.name == "swing"
    assert (account.key_last4, account.key_fingerprint) == ("0001", fingerprint(KEY))
    assert opened(account, settings, Field.API_KEY) == KEY
    assert opened(account, settings, Field.API_SECRET) == SECRET
    assert account.passphrase_ciphertext is None
    assert markets(account) == [(1, "futures"), (2, "spot")]


@pytest.mark.django_db
def test_the_first_market_named_is_the_primary_executor() -> None:
    account = create_account("alpha", KEY, SECRET, executors=(Market.SPOT,))
    assert markets(account) == [(1, "spot")]


@pytest.mark.django_db
def test_the_same_key_is_never_a_second_account() -> None:
    create_account("alpha", KEY, SECRET)
    with pytest.raises(AccountRefused, match="alpha") as refused:
        create_account("beta", KEY, "another secret"[:7])
    assert refused.value.code == "SAME_KEY"
    assert list(Account.objects.values_list("name", flat=True)) == ["alpha"]
    assert Executor.objects.count() == 2


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        ("NAME_TAKEN", {"name": "alpha"}),
        ("BAD_NAME", {"name": " "}),
        ("BAD_NAME", {"name": "a" * 81}),
        ("BAD_NAME", {"name": "two\nlines"}),
        ("NO_KEYS", {"api_secret": "  "}),
        ("BAD_KEYS", {"api_key": "key with blanks"}),
        ("BAD_KEYS", {"api_secret": "schlüssel"}),
        ("UNKNOWN_EXCHANGE", {"exchange": "mtgox"}),
        ("BAD_MODE", {"mode": "demo"}),
        ("BAD_LEVERAGE", {"leverage": 0}),
        ("BAD_LEVERAGE", {"leverage": 126}),
        ("NO_EXECUTOR", {"executors": ()}),
        ("NO_EXECUTOR", {"executors": (Market.SPOT, Market.SPOT)}),
    ],
)
def test_what_cannot_be_is_refused_by_code_and_nothing_is_stored(
    code: str, arguments: dict[str, object]
) -> None:
    create_account("alpha", KEY, SECRET)
    wanted = {"name": "beta", "api_key": "another-key-0002", "api_secret": "another-secret"} | arguments
    with pytest.raises(AccountRefused) as refused:
        create_account(**wanted)  # type: ignore[arg-type]  # a table of wrong arguments
    assert refused.value.code == code
    assert "schlüssel" not in str(refused.value)
    assert Account.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("exchange", ["bybit", "okx"])
@pytest.mark.parametrize("mode", ["paper", "testnet", "live"])
def test_an_exchange_not_yet_tried_is_refused_unless_the_desk_names_it(
    settings: Settings, exchange: str, mode: str
) -> None:
    with pytest.raises(AccountRefused) as refused:
        create_account("alpha", KEY, SECRET, "phrase", exchange=exchange, mode=mode)
    assert refused.value.code == "EXPERIMENTAL_EXCHANGE"
    settings.ENVIRONMENT_ACCOUNTS = (Told(exchange=exchange, mode=mode, passphrase="phrase"),)
    assert "EXPERIMENTAL_VENUES" in sync_environment_accounts(NOW).refused["house"]
    assert not Account.objects.exists()

    settings.EXPERIMENTAL_VENUES = frozenset({exchange})
    assert markets(
        create_account("alpha", "another-key", SECRET, "phrase", exchange=exchange, mode=mode)
    ) == [(1, "futures")]
    assert sync_environment_accounts(NOW).created == ["house"]
    assert markets(Account.objects.get(name="house")) == [(1, "futures")]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        ("NO_EXECUTOR", {"executors": (Market.FUTURES, Market.SPOT), "passphrase": "phrase"}),
        ("NO_KEYS", {"passphrase": " "}),
    ],
)
def test_an_account_has_the_markets_and_the_keys_of_its_exchange(
    settings: Settings, code: str, arguments: dict[str, object]
) -> None:
    settings.EXPERIMENTAL_VENUES = frozenset({"okx"})
    with pytest.raises(AccountRefused) as refused:
        create_account("alpha", KEY, SECRET, exchange="okx", **arguments)  # type: ignore[arg-type]  # a table
    assert refused.value.code == code
    assert not Account.objects.exists()


@pytest.mark.django_db
def test_other_keys_of_an_exchange_with_passphrases_need_theirs(settings: Settings) -> None:
    settings.EXPERIMENTAL_VENUES = frozenset({"okx"})
    account = create_account("alpha", KEY, SECRET, "phrase", exchange="okx")

    with pytest.raises(AccountRefused) as refused:
        replace_keys(account, "another-key", "another-secret")

    assert refused.value.code == "NO_KEYS"
    assert opened(account, settings, Field.API_KEY) == KEY


@pytest.mark.django_db(transaction=True)
def test_one_key_added_from_many_threads_at_once_is_one_account() -> None:
    def add(number: int) -> str:
        try:
            return create_account(f"racer-{number}", KEY, SECRET).name
        except AccountRefused as refused:
            return refused.code
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(add, range(6)))
    assert sorted(outcomes)[:5] == ["SAME_KEY"] * 5
    assert Account.objects.count() == 1


@pytest.mark.django_db
def test_replaced_keys_must_be_verified_again(settings: Settings) -> None:
    account = create_account("alpha", KEY, SECRET)
    Account.objects.update(health=Health.HEALTHY, verified_at=NOW, permissions="SAFE")
    account.refresh_from_db()
    replace_keys(account, "another-key-0002", "another-secret", "phrase")
    assert opened(account, settings, Field.API_SECRET) == "another-secret"
    assert opened(account, settings, Field.PASSPHRASE) == "phrase"
    assert (account.health, account.verified_at, account.permissions) == (Health.UNVERIFIED, None, "")


@pytest.mark.django_db
def test_keys_of_another_account_do_not_replace_and_the_old_ones_stay(settings: Settings) -> None:
    create_account("alpha", KEY, SECRET)
    beta = create_account("beta", "another-key-0002", "another-secret")
    with pytest.raises(AccountRefused, match="alpha"):
        replace_keys(beta, KEY, SECRET)
    assert opened(beta, settings, Field.API_KEY) == "another-key-0002"


@pytest.mark.django_db
def test_a_paused_account_says_why_and_resumes_explicitly() -> None:
    account = create_account("alpha", KEY, SECRET)
    with pytest.raises(AccountRefused, match="NO_REASON"):
        pause(account, "  ")
    assert Account.objects.get().is_enabled
    pause(account, "tax audit")
    account.refresh_from_db()
    assert (account.is_enabled, account.pause_reason) == (False, "tax audit")
    resume(account)
    account.refresh_from_db()
    assert (account.is_enabled, account.pause_reason) == (True, "")


@pytest.mark.django_db
def test_an_archived_account_keeps_its_row_and_loses_its_keys_so_that_they_may_be_used_anew() -> None:
    account = create_account("alpha", KEY, SECRET, "phrase")
    wipe_keys(account, NOW)
    account.refresh_from_db()
    assert (account.archived_at, account.is_enabled) == (NOW, False)
    assert (account.api_key_ciphertext, account.api_secret_ciphertext, account.passphrase_ciphertext) == (
        None,
    ) * 3
    assert (account.key_fingerprint, account.key_last4) == (None, "")
    with pytest.raises(AccountRefused, match="ARCHIVED"):
        resume(account)
    with pytest.raises(AccountRefused, match="ARCHIVED"):
        replace_keys(account, KEY, SECRET)
    assert create_account("alpha again", KEY, SECRET).pk != account.pk


@pytest.mark.django_db
def test_paper_accounts_are_made_up_to_a_number_and_never_twice(settings: Settings) -> None:
    assert [account.name for account in create_paper_accounts(2)] == ["paper-0001", "paper-0002"]
    assert [account.name for account in create_paper_accounts(3)] == ["paper-0003"]
    account = Account.objects.get(name="paper-0003")
    assert (account.mode, account.exchange, markets(account)) == (
        "paper",
        "binance",
        [(1, "futures"), (2, "spot")],
    )
    assert (
        opened(account, settings, Field.API_KEY)
        == opened(account, settings, Field.API_SECRET)
        == "paper-0003"
    )


@pytest.mark.django_db
def test_a_desk_of_real_money_has_no_paper_accounts(settings: Settings) -> None:
    settings.MODE = "live"
    with pytest.raises(AccountRefused, match="NOT_PAPER"):
        create_paper_accounts(1)
    assert not Account.objects.exists()


@pytest.mark.django_db
def test_an_account_told_by_the_environment_is_a_row_without_keys(settings: Settings) -> None:
    settings.ENVIRONMENT_ACCOUNTS = (Told(group="swing", leverage=Decimal(7)),)
    assert sync_environment_accounts(NOW).created == ["house"]
    account = Account.objects.get()
    assert (account.source, account.environment_index, account.leverage) == ("environment", 1, 7)
    assert account.key_fingerprint == fingerprint(KEY)
    assert (account.api_key_ciphertext, account.api_secret_ciphertext) == (None, None)
    assert markets(account) == [(1, "futures"), (2, "spot")]
    again = sync_environment_accounts(NOW)
    assert (again.created, again.updated, again.paused, again.refused) == ([], [], [], {})


@pytest.mark.django_db
def test_a_vanished_environment_account_is_paused_never_deleted_and_comes_back(settings: Settings) -> None:
    settings.ENVIRONMENT_ACCOUNTS = (Told(),)
    sync_environment_accounts(NOW)
    settings.ENVIRONMENT_ACCOUNTS = ()
    assert sync_environment_accounts(NOW).paused == ["house"]
    account = Account.objects.get()
    assert (account.is_enabled, account.pause_reason) == (False, VANISHED)
    assert sync_environment_accounts(NOW).paused == []
    settings.ENVIRONMENT_ACCOUNTS = (Told(),)
    assert sync_environment_accounts(NOW).updated == ["house"]
    assert Account.objects.get().is_enabled


@pytest.mark.django_db
def test_a_look_at_the_environment_never_resumes_what_an_operator_paused(settings: Settings) -> None:
    settings.ENVIRONMENT_ACCOUNTS = (Told(),)
    sync_environment_accounts(NOW)
    pause(Account.objects.get(), "tax audit")
    sync_environment_accounts(NOW)
    assert Account.objects.get().pause_reason == "tax audit"


@pytest.mark.django_db
def test_a_changed_environment_key_must_be_verified_again(settings: Settings) -> None:
    settings.ENVIRONMENT_ACCOUNTS = (Told(),)
    sync_environment_accounts(NOW)
    Account.objects.update(health=Health.HEALTHY, verified_at=NOW)
    settings.ENVIRONMENT_ACCOUNTS = (Told(api_key="another-key-0002"),)
    assert sync_environment_accounts(NOW).updated == ["house"]
    account = Account.objects.get()
    assert (account.health, account.key_fingerprint) == (Health.UNVERIFIED, fingerprint("another-key-0002"))


@pytest.mark.django_db
def test_a_process_that_is_told_no_keys_leaves_what_a_worker_wrote_of_them(settings: Settings) -> None:
    settings.ENVIRONMENT_ACCOUNTS = (Told(),)
    sync_environment_accounts(NOW)
    settings.ENVIRONMENT_ACCOUNTS = (Told(api_key="", api_secret=""),)
    assert sync_environment_accounts(NOW).updated == []
    assert Account.objects.get().key_fingerprint == fingerprint(KEY)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "key", "code"), [("beta", KEY, "SAME_KEY"), ("alpha", "other-key-2", "NAME_TAKEN")]
)
def test_an_environment_account_that_is_already_another_row_is_refused_with_an_alert(
    settings: Settings, name: str, key: str, code: str
) -> None:
    create_account("alpha", KEY, SECRET)
    settings.ENVIRONMENT_ACCOUNTS = (Told(name=name, api_key=key),)
    assert list(sync_environment_accounts(NOW).refused) == [name]
    assert Account.objects.count() == 1
    assert Alert.objects.get().code == code
    settings.ENVIRONMENT_ACCOUNTS = (Told(name="house", api_key="third-key-0003"),)
    sync_environment_accounts(NOW)
    assert Alert.objects.get().cleared_at == NOW


@pytest.mark.django_db
def test_the_keys_of_an_environment_account_are_not_replaced_here(settings: Settings) -> None:
    settings.ENVIRONMENT_ACCOUNTS = (Told(),)
    sync_environment_accounts(NOW)
    with pytest.raises(AccountRefused, match="ENVIRONMENT_KEYS"):
        replace_keys(Account.objects.get(), "another-key-0002", "another-secret")
    assert Account.objects.get().api_key_ciphertext is None
