"""Accounts and their keys over HTTP: written once, never read."""

from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from redis import Redis

from accounts.models import Account
from accounts.services.breakers import note_rejection
from trading.domain.states import OrderStatus, PositionStatus
from trading.services.tokens import Scope
from trading.tests import rows
from trading.tests.api.conftest import Asker

pytestmark = pytest.mark.django_db

KEYS = "/api/bot/multi-account/api-keys"
CANARY_KEY, CANARY_SECRET, CANARY_PHRASE = "canary-key-7f3a91", "canary-secret-c41b02", "canary-phrase-99e1d7"
ALL = (Scope.READ, Scope.ADMIN)


def add(client: Client, **changes: Any) -> Any:
    told = {"name": "alpha", "api_key": CANARY_KEY, "api_secret": CANARY_SECRET, "passphrase": CANARY_PHRASE}
    return client.post(KEYS, told | changes, content_type="application/json")


def change(client: Client, account: Account, **changes: Any) -> Any:
    return client.patch(f"{KEYS}/{account.uuid}", changes, content_type="application/json")


def test_an_account_is_added_and_sent_to_verification(
    asking: Asker, redis: Redis, django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        response = add(asking(*ALL), group="north", leverage=5)

    told = response.json()
    assert response.status_code == 201
    assert (told["name"], told["group"], told["leverage"], told["health"]) == (
        "alpha",
        "north",
        5,
        "UNVERIFIED",
    )
    assert [(way["market"], way["rank"]) for way in told["executors"]] == [("futures", 1), ("spot", 2)]
    assert told["key_last4"] == CANARY_KEY[-4:]
    assert redis.llen("desk:monitor") + redis.llen("desk:default") == 1


def test_no_answer_ever_holds_a_key(asking: Asker, redis: Redis) -> None:
    client = asking(*Scope)
    add(client)
    account = Account.objects.get()
    answers: list[Any] = [
        client.get(KEYS),
        client.get(f"{KEYS}/{account.uuid}"),
        change(client, account, api_key=CANARY_KEY + "2", api_secret=CANARY_SECRET + "2"),
        client.post(f"{KEYS}/{account.uuid}/verify"),
        add(client),
        add(client, name="beta", api_key=CANARY_KEY + "2"),
        add(client, name="gamma", api_secret=[CANARY_SECRET]),
        add(client, name="delta", secret=CANARY_SECRET),
        client.get("/api/bot/status"),
        client.get("/api/bot/alerts"),
    ]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 202, 409, 409, 422, 422, 200, 200]
    for answer in answers:
        for secret in (CANARY_KEY, CANARY_SECRET, CANARY_PHRASE):
            assert secret not in answer.content.decode()


def test_one_real_account_is_never_two_rows(asking: Asker, redis: Redis) -> None:
    client = asking(*ALL)
    add(client)

    response = add(client, name="beta")

    assert (response.status_code, response.json()["error"]["code"]) == (409, "SAME_KEY")
    assert Account.objects.count() == 1


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"exchange": "nowhere"}, "UNKNOWN_EXCHANGE"),
        ({"exchange": "bybit"}, "EXPERIMENTAL_EXCHANGE"),
        ({"leverage": 0}, "BAD_LEVERAGE"),
        ({"leverage": 126}, "BAD_LEVERAGE"),
        ({"executors": []}, "NO_EXECUTOR"),
        ({"executors": ["options"]}, "INVALID"),
        ({"api_secret": ""}, "INVALID"),
        ({"withdraw": True}, "UNKNOWN_FIELD"),
    ],
    ids=str,
)
def test_a_bad_account_is_not_stored(asking: Asker, redis: Redis, changes: dict[str, Any], code: str) -> None:
    response = add(asking(*ALL), **changes)

    assert (response.status_code, response.json()["error"]["code"]) == (422, code)
    assert not Account.objects.exists()


def test_a_pause_needs_a_reason_and_a_refused_change_changes_nothing(asking: Asker, redis: Redis) -> None:
    account = rows.account()
    client = asking(*ALL)

    refused = change(client, account, leverage=7, is_enabled=False)
    account.refresh_from_db()
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "NO_REASON")
    assert (account.leverage, account.is_enabled) == (3, True)

    paused = change(client, account, leverage=7, is_enabled=False, pause_reason="holiday").json()
    assert (paused["leverage"], paused["is_enabled"], paused["pause_reason"]) == (7, False, "holiday")
    assert change(client, account, is_enabled=True).json()["pause_reason"] == ""


def test_an_account_is_marked_a_canary_and_unmarked(asking: Asker, redis: Redis) -> None:
    account = rows.account()
    client = asking(*ALL)
    assert client.get(f"{KEYS}/{account.uuid}").json()["is_canary"] is False
    assert change(client, account, is_canary=True).json()["is_canary"] is True
    assert change(client, account, leverage=4).json()["is_canary"] is True
    assert change(client, account, is_canary=False).json()["is_canary"] is False


def test_an_account_with_something_open_keeps_its_keys(asking: Asker, redis: Redis) -> None:
    holder, waiter = rows.account("holder"), rows.account("waiter")
    position = rows.position(holder)
    order = rows.entry(
        rows.allocation(rows.decision(rows.signal()), waiter), "pxunknown", status=OrderStatus.UNKNOWN
    )
    client = asking(*ALL)

    answers = [client.delete(f"{KEYS}/{account.uuid}") for account in (holder, waiter)]

    assert [answer.json()["error"]["code"] for answer in answers] == ["HAS_POSITION", "UNRESOLVED_ORDER"]
    assert not Account.objects.filter(api_key_ciphertext=None).exists()

    position.status, position.quantity = PositionStatus.CLOSED, 0
    position.save()
    order.status = OrderStatus.FILLED
    order.save()
    unread = client.delete(f"{KEYS}/{waiter.uuid}")
    assert unread.json()["error"]["code"] == "UNRESOLVED_ORDER", "what filled may be a position no row shows"

    order.fills_complete = True
    order.save()
    assert [client.delete(f"{KEYS}/{account.uuid}").status_code for account in (holder, waiter)] == [204, 204]


def test_a_deleted_account_is_archived_and_its_keys_are_gone(asking: Asker, redis: Redis) -> None:
    account = rows.account()
    client = asking(*ALL)

    assert client.delete(f"{KEYS}/{account.uuid}").status_code == 204

    account.refresh_from_db()
    assert account.archived_at is not None
    assert (account.api_key_ciphertext, account.api_secret_ciphertext, account.key_fingerprint) == (
        None,
        None,
        None,
    )
    assert client.get(KEYS).json()["items"] == []
    assert [item["name"] for item in client.get(f"{KEYS}?archived=true").json()["items"]] == ["alpha"]
    assert client.delete(f"{KEYS}/{account.uuid}").json()["error"]["code"] == "ARCHIVED"


def test_what_the_exchange_keeps_refusing_of_an_account_is_told(asking: Asker) -> None:
    account = rows.account("alpha")
    for _ in range(3):
        note_rejection(account, "BTC/USDT:USDT", "-2019", settings.CLOCK.now())
    (told,) = asking(Scope.READ).get(f"{KEYS}/{account.uuid}/breakers").json()
    assert (told["state"], told["symbol"], told["code"], told["rejections"]) == ("open", "", "-2019", 3)
    assert asking(Scope.READ).get(f"{KEYS}/{rows.account('beta').uuid}/breakers").json() == []
