import json
import logging
import re
from datetime import UTC, datetime
from io import StringIO
from typing import Any, cast

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.urls import reverse
from pytest_django import DjangoCaptureOnCommitCallbacks
from redis import Redis

from accounts.credentials import Field, Opener
from accounts.models import (
    Account,
    AccountGroup,
    Breaker,
    DeskLimit,
    Health,
    LimitChange,
    LimitOverride,
    SymbolSetting,
    Tag,
)
from accounts.services.breakers import is_open, note_rejection
from accounts.services.limits import set_override
from accounts.services.registry import create_account, create_paper_accounts, replace_keys, wipe_keys
from accounts.services.verification import due_accounts
from tests.meanwhile import meanwhile

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
KEY, SECRET, PHRASE = "keycanary-5d1e-ab12", "secretcanary-5d1e-7788", "phrasecanary-5d1e-9900"
CANARIES = (KEY, SECRET, PHRASE)
TERMS = {
    "name": "alpha",
    "exchange": "binance",
    "mode": "paper",
    "group": "",
    "time_zone": "UTC",
    "leverage": "3",
    "position_mode": "one-way",
    "margin_mode": "isolated",
}

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator(client: Client) -> Client:
    client.force_login(get_user_model().objects.create_superuser("olga", password="a password of hers"))
    return client


def account_page(account: Account) -> str:
    return reverse("admin:accounts_account_change", args=[account.pk])


def inlines(**rows: str) -> dict[str, str]:
    management = {
        f"{prefix}-{kind}_FORMS": "0" for prefix in ("executors", "limits") for kind in ("TOTAL", "INITIAL")
    }
    return management | rows


def add(operator: Client, **typed: str) -> None:
    response = operator.post(reverse("admin:accounts_account_add"), TERMS | typed, follow=True)
    assert response.status_code == 200


def rung(redis: Redis) -> list[Any]:
    """The messages waiting in the queues."""
    queues = [f"desk:{queue}" for queue in settings.QUEUES]
    return [
        json.loads(message) for queue in queues for message in cast("list[bytes]", redis.lrange(queue, 0, -1))
    ]


def every_table() -> str:
    with connection.cursor() as cursor:
        rows: list[str] = []
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')  # noqa: S608 - names come from the database itself
            rows.extend(
                repr([bytes(c) if isinstance(c, memoryview) else c for c in row]) for row in cursor.fetchall()
            )
    return "\n".join(rows)


def test_an_account_added_in_the_admin_is_sealed_and_asked_about(
    operator: Client,
    redis: Redis,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        add(operator, api_key=KEY, api_secret=SECRET, passphrase=PHRASE, time_zone="Europe/Zurich")
    account = Account.objects.get()
    opener = Opener(settings.HPKE_PRIVATE_KEY)
    assert (
        opener.open(
            bytes(account.api_secret_ciphertext or b""), account.key_id, account.uuid, Field.API_SECRET
        )
        == SECRET
    )
    assert (account.time_zone, account.health) == ("Europe/Zurich", Health.UNVERIFIED)
    (message,) = rung(redis)
    assert message["headers"]["task"] == "accounts.tasks.verify_account"
    assert not any(canary in json.dumps(message) for canary in CANARIES)


def test_no_secret_is_in_any_table_dump_page_or_log(
    operator: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    add(operator, api_key=KEY, api_secret=SECRET, passphrase=PHRASE)
    account = Account.objects.get()
    replace_keys(account, KEY + "-second", SECRET + "-second", PHRASE)
    dumped = StringIO()
    call_command("dumpdata", "accounts", "alerts", "admin", stdout=dumped)
    pages = [operator.get(account_page(account)), operator.get(reverse("admin:accounts_account_changelist"))]
    shown = "".join(page.content.decode() for page in pages)
    assert "alpha" in dumped.getvalue()
    assert "••••cond" in shown
    everything = every_table() + dumped.getvalue() + shown + caplog.text + repr(account) + repr(vars(account))
    assert [canary for canary in CANARIES if canary in everything] == []


def test_a_refused_form_does_not_show_the_secret_again(operator: Client) -> None:
    page = operator.post(
        reverse("admin:accounts_account_add"), TERMS | {"name": "", "api_key": KEY, "api_secret": SECRET}
    )
    assert page.status_code == 200
    assert not Account.objects.exists()
    assert [canary for canary in CANARIES if canary in page.content.decode()] == []


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ({"api_key": KEY}, "NO_KEYS"),
        ({"api_key": KEY, "api_secret": SECRET, "exchange": "mtgox"}, "UNKNOWN_EXCHANGE"),
        ({"api_key": "paper-0001", "api_secret": SECRET}, "SAME_KEY"),
        ({"api_key": KEY, "api_secret": SECRET, "leverage": "126"}, "BAD_LEVERAGE"),
        ({"api_key": KEY, "api_secret": SECRET, "time_zone": "Mars/Olympus"}, "BAD_TIME_ZONE"),
    ],
)
def test_a_refusal_of_the_services_is_shown_and_nothing_is_stored(
    operator: Client, typed: dict[str, str], code: str
) -> None:
    create_paper_accounts(1)
    page = operator.post(reverse("admin:accounts_account_add"), TERMS | typed, follow=True)
    assert code in page.content.decode()
    assert list(Account.objects.values_list("name", flat=True)) == ["paper-0001"]


def test_keys_left_empty_stay_and_only_changed_columns_are_written(operator: Client) -> None:
    account = create_account("alpha", KEY, SECRET)
    sealed = bytes(account.api_secret_ciphertext or b"")
    page = operator.get(account_page(account))
    Account.objects.update(health=Health.HEALTHY, verified_at=NOW)
    operator.post(account_page(account), TERMS | inlines() | {"leverage": "5"})
    account.refresh_from_db()
    assert page.status_code == 200
    assert (account.leverage, account.health, account.verified_at) == (5, Health.HEALTHY, NOW)
    assert bytes(account.api_secret_ciphertext or b"") == sealed


def test_new_keys_typed_into_the_form_must_be_verified_again(operator: Client) -> None:
    account = create_account("alpha", KEY, SECRET)
    Account.objects.update(health=Health.HEALTHY, verified_at=NOW)
    typed = {"api_key": "another-key-0002", "api_secret": "another-secret"}
    operator.post(account_page(account), TERMS | inlines() | typed)
    account.refresh_from_db()
    assert (account.key_last4, account.health) == ("0002", Health.UNVERIFIED)


def test_no_operator_can_delete_an_account(operator: Client) -> None:
    account = create_paper_accounts(1)[0]
    assert (
        operator.post(
            reverse("admin:accounts_account_delete", args=[account.pk]), {"post": "yes"}
        ).status_code
        == 403
    )
    everything = {"action": "delete_selected", "_selected_action": [account.pk], "post": "yes"}
    operator.post(reverse("admin:accounts_account_changelist"), everything)
    assert Account.objects.filter(pk=account.pk).exists()


def test_the_list_pauses_resumes_and_asks_for_verification(
    operator: Client, redis: Redis, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    accounts = create_paper_accounts(2)
    chosen = {"_selected_action": [account.pk for account in accounts]}
    page = reverse("admin:accounts_account_changelist")
    operator.post(page, {"action": "pause_selected", **chosen})
    assert set(Account.objects.values_list("is_enabled", "pause_reason")) == {(False, "Paused by olga.")}
    assert "paused: UNVERIFIED" in operator.get(page).content.decode()
    operator.post(page, {"action": "resume_selected", **chosen})
    assert set(Account.objects.values_list("is_enabled", flat=True)) == {True}
    Account.objects.update(health=Health.HEALTHY, verified_at=settings.CLOCK.now())
    with django_capture_on_commit_callbacks(execute=True):
        operator.post(page, {"action": "verify_selected", **chosen})
    assert [message["headers"]["task"] for message in rung(redis)] == ["accounts.tasks.verify_accounts"]
    assert due_accounts(settings.CLOCK.now()).count() == 2


def test_an_archived_account_cannot_be_resumed_from_the_list(operator: Client) -> None:
    account = create_paper_accounts(1)[0]
    wipe_keys(account, NOW)
    page = reverse("admin:accounts_account_changelist")
    answer = operator.post(page, {"action": "resume_selected", "_selected_action": [account.pk]}, follow=True)
    assert "paper-0001 is archived" in answer.content.decode()
    assert not Account.objects.get().is_enabled


def test_a_limit_set_in_the_admin_shows_its_value_and_origin_and_who_set_it(operator: Client) -> None:
    account = create_account("alpha", KEY, SECRET)
    row = {"limits-TOTAL_FORMS": "1", "limits-0-name": "max_positions", "limits-0-value": "2"}
    operator.post(account_page(account), TERMS | inlines() | row)
    override = LimitOverride.objects.get()
    assert (override.account, override.value, override.changed_by) == (account, "2", "olga")
    page = operator.get(account_page(account)).content.decode()
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", page)
    shown = [tuple(cells[place : place + 3]) for place in range(len(cells))]
    assert ("max_positions", "2", "account") in shown
    assert ("risk_per_trade", "1 %", "setting") in shown
    assert list(
        LimitChange.objects.values_list("account__name", "name", "before", "after", "changed_by")
    ) == [("alpha", "max_positions", "", "2", "olga")]
    assert ("max_positions", "–", "2") in shown


def test_a_limit_that_contradicts_is_refused_in_the_admin(operator: Client) -> None:
    account = create_account("alpha", KEY, SECRET)
    row = {"limits-TOTAL_FORMS": "1", "limits-0-name": "daily_loss", "limits-0-value": "1"}
    page = operator.post(account_page(account), TERMS | inlines() | row, follow=True)
    assert "BAD_LIMIT" in page.content.decode()
    assert not LimitOverride.objects.exists()


def test_a_breaker_is_seen_and_closed_by_an_operator(operator: Client) -> None:
    account = create_paper_accounts(1)[0]
    now = settings.CLOCK.now()
    for _ in range(3):
        note_rejection(account, "BTC/USDT:USDT", "-2019", now)
    page = reverse("admin:accounts_breaker_changelist")
    assert "all symbols" in operator.get(page).content.decode()
    operator.post(page, {"action": "close_selected", "_selected_action": [Breaker.objects.get().pk]})
    assert not is_open(account, "BTC/USDT:USDT", now)


def test_closing_one_breaker_leaves_another_of_the_same_code_open(operator: Client) -> None:
    account = create_paper_accounts(1)[0]
    now = settings.CLOCK.now()
    for symbol in ("BTC/USDT:USDT", "ETH/USDT:USDT"):
        for _ in range(3):
            note_rejection(account, symbol, "-1111", now)
    chosen = Breaker.objects.get(symbol="BTC/USDT:USDT")
    page = reverse("admin:accounts_breaker_changelist")
    operator.post(page, {"action": "close_selected", "_selected_action": [chosen.pk]})
    assert not is_open(account, "BTC/USDT:USDT", now)
    assert is_open(account, "ETH/USDT:USDT", now)


def test_every_page_of_the_app_answers(operator: Client) -> None:
    account = create_paper_accounts(1)[0]
    group = AccountGroup.objects.create(name="swing")
    set_override(group, "max_positions", "2", "olga")
    SymbolSetting.objects.create(
        account=account, symbol="BTC/USDT:USDT", leverage=3, is_isolated=True, read_at=NOW
    )
    set_override(None, "max_positions", "4", "olga")
    account.tags.add(Tag.objects.create(name="slow"))
    for model in apps.get_app_config("accounts").get_models():
        if model in (Account, AccountGroup, Breaker, DeskLimit, LimitChange, SymbolSetting, Tag):
            assert (
                operator.get(reverse(f"admin:accounts_{model._meta.model_name}_changelist")).status_code
                == 200
            )
    assert operator.get(reverse("admin:accounts_accountgroup_change", args=[group.pk])).status_code == 200


def ask(operator: Client, action: str, chosen: list[Account], **asked: str) -> str:
    """The page an action asks with, then what it says when it is answered."""
    page = reverse("admin:accounts_account_changelist")
    body = {"action": action, "_selected_action": [account.pk for account in chosen]}
    asks = operator.post(page, body)
    assert "All are changed, or none." in asks.content.decode()
    return operator.post(page, body | asked | {"apply": "1"}, follow=True).content.decode()


def test_chosen_accounts_are_moved_tagged_and_limited_together(operator: Client) -> None:
    accounts = create_paper_accounts(3)
    swing = AccountGroup.objects.create(name="swing")
    assert "2 are in swing." in ask(operator, "move_selected", accounts[:2], group=str(swing.pk))
    assert "2 tagged slow." in ask(operator, "tag_selected", accounts[:2], tag="slow")
    said = ask(operator, "limit_selected", accounts[:2], name="max_positions", value="2")
    assert "max_positions is 2 on 2: 2 changed." in said
    slow = Tag.objects.get()
    assert "1 were tagged slow." in ask(operator, "untag_selected", accounts[1:], tag=str(slow.pk))
    assert list(swing.accounts.values_list("name", flat=True)) == ["paper-0001", "paper-0002"]
    assert list(slow.accounts.values_list("name", flat=True)) == ["paper-0001"]
    assert set(LimitChange.objects.values_list("owner_name", "changed_by")) == {
        ("paper-0001", "olga"),
        ("paper-0002", "olga"),
    }


def test_a_limit_that_cannot_stand_is_shown_beside_the_form_and_set_on_none(operator: Client) -> None:
    accounts = create_paper_accounts(2)
    said = ask(operator, "limit_selected", accounts, name="daily_loss", value="1")
    assert "BAD_LIMIT" in said
    assert not LimitOverride.objects.exists()


def test_all_of_a_filtered_list_are_chosen_by_its_filters(operator: Client) -> None:
    first, second, third = create_paper_accounts(3)
    first.tags.add(Tag.objects.create(name="slow"))
    second.tags.add(Tag.objects.get())
    page = f"{reverse('admin:accounts_account_changelist')}?tags__id__exact={Tag.objects.get().pk}"
    body = {"action": "tag_selected", "_selected_action": [first.pk], "select_across": "1", "index": "0"}
    asks = operator.post(page, body).content.decode()
    assert "2 accounts chosen" in asks
    operator.post(page, body | {"tag": "both", "apply": "1"})
    assert set(Tag.objects.get(name="both").accounts.all()) == {first, second}
    assert third.tags.count() == 0


def test_accounts_leave_as_a_file_without_keys_and_come_back_changed(operator: Client) -> None:
    account = create_account("alpha", KEY, SECRET, PHRASE)
    body = {"action": "export_as_json", "_selected_action": [account.pk]}
    answer = operator.post(reverse("admin:accounts_account_changelist"), body)
    told = answer.content.decode()
    assert answer["Content-Disposition"] == 'attachment; filename="accounts.json"'
    assert [canary for canary in (*CANARIES, account.key_last4) if canary in told] == []

    file = told.replace('"leverage": 3', '"leverage": 5').encode()
    page = reverse("admin:accounts_account_bring_file")
    tried = operator.post(page, {"file": SimpleUploadedFile("a.json", file), "is_trial": "on"})
    assert "1 accounts would be changed (nothing was)" in tried.content.decode()
    account.refresh_from_db()
    assert account.leverage == 3
    operator.post(page, {"file": SimpleUploadedFile("a.json", file)})
    account.refresh_from_db()
    assert account.leverage == 5


def test_a_limit_of_the_desk_is_set_changed_and_taken_back_in_the_admin(operator: Client) -> None:
    add_page = reverse("admin:accounts_desklimit_add")
    operator.post(add_page, {"name": "max_positions", "value": "4"})
    row = DeskLimit.objects.get()
    operator.post(
        reverse("admin:accounts_desklimit_change", args=[row.pk]), {"name": "max_positions", "value": "6"}
    )
    refused = operator.post(add_page, {"name": "risk_budget", "value": "0.5"}, follow=True)
    assert "BAD_LIMIT" in refused.content.decode()
    assert list(DeskLimit.objects.values_list("name", "value", "changed_by")) == [
        ("max_positions", "6", "olga")
    ]
    row = DeskLimit.objects.get()
    operator.post(reverse("admin:accounts_desklimit_delete", args=[row.pk]), {"post": "yes"})
    assert not DeskLimit.objects.exists()
    assert list(LimitChange.objects.values_list("before", "after")) == [("6", ""), ("4", "6"), ("", "4")]


def test_a_viewer_of_accounts_exports_and_changes_nothing(client: Client) -> None:
    viewer = get_user_model().objects.create_user("vera", is_staff=True)
    viewer.user_permissions.set(Permission.objects.filter(codename__startswith="view_"))
    client.force_login(viewer)
    account = create_paper_accounts(1)[0]
    page = reverse("admin:accounts_account_changelist")
    chosen = {
        "_selected_action": [account.pk],
        "apply": "1",
        "tag": "slow",
        "name": "max_positions",
        "value": "2",
    }
    for action in ("tag_selected", "limit_selected", "pause_selected", "move_selected"):
        client.post(page, {"action": action, **chosen})
    assert client.get(reverse("admin:accounts_account_bring_file")).status_code == 403
    account.refresh_from_db()
    assert (account.is_enabled, account.tags.count(), LimitOverride.objects.count()) == (True, 0, 0)


@pytest.mark.django_db(transaction=True)
def test_a_word_that_somebody_else_adds_at_the_same_moment_is_there_once_and_the_second_is_told(
    operator: Client,
) -> None:
    add = reverse("admin:accounts_tag_add")
    answer = meanwhile(
        lambda: Tag.objects.create(name="fast"), lambda: operator.post(add, {"name": "fast"}, follow=True)
    )
    assert answer.status_code == 200
    assert re.search("TAKEN|already exists", answer.content.decode())
    assert Tag.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_limit_that_somebody_else_sets_at_the_same_moment_stands_and_the_second_is_told(
    operator: Client,
) -> None:
    group = AccountGroup.objects.create(name="calm")
    typed = {"limits-TOTAL_FORMS": "1", "limits-INITIAL_FORMS": "0", "limits-0-group": f"{group.pk}"}
    typed |= {"limits-0-name": "max_positions", "limits-0-value": "4", "name": "calm"}
    answer = meanwhile(
        lambda: set_override(group, "max_positions", "3", "pavel"),
        lambda: operator.post(
            reverse("admin:accounts_accountgroup_change", args=[group.pk]), typed, follow=True
        ),
    )
    assert answer.status_code == 200
    assert re.search("TAKEN|already exists", answer.content.decode())
    assert [(one.before, one.after) for one in LimitChange.objects.all()] == [("", "3")]
    assert LimitOverride.objects.get().value == "3"


@pytest.mark.django_db(transaction=True)
def test_a_limit_of_the_desk_set_at_the_same_moment_by_two_is_that_of_the_second(operator: Client) -> None:
    typed = {"name": "max_positions", "value": "4"}
    meanwhile(
        lambda: set_override(None, "max_positions", "3", "pavel"),
        lambda: operator.post(reverse("admin:accounts_desklimit_add"), typed, follow=True),
    )
    assert [(one.before, one.after, one.changed_by) for one in LimitChange.objects.order_by("pk")] == [
        ("", "3", "pavel"),
        ("3", "4", "olga"),
    ]


def test_times_are_told_to_the_second_and_limits_with_their_unit(operator: Client) -> None:
    set_override(None, "risk_budget", "4", "olga")
    LimitChange.objects.update(changed_at=NOW)
    assert (
        "2026-03-01 12:00:00"
        in operator.get(reverse("admin:accounts_limitchange_changelist")).content.decode()
    )
    page = operator.get(reverse("admin:accounts_desklimit_add")).content.decode()
    assert ">risk_budget %</option>" in page
    assert ">max_positions</option>" in page
