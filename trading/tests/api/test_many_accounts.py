"""One deed for many accounts over HTTP, and their terms as a file."""

from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from redis import Redis

from accounts.models import Account, AccountGroup
from accounts.services.limits import effective_limits, set_override
from trading.services.tokens import Scope
from trading.tests import rows
from trading.tests.api.conftest import Asker

pytestmark = pytest.mark.django_db

MULTI = "/api/bot/multi-account"
ALL = (Scope.READ, Scope.ADMIN)


def act(client: Client, action: str, accounts: dict[str, Any], **told: str) -> Any:
    body = {"accounts": accounts, "action": action, **told}
    return client.post(f"{MULTI}/bulk", body, content_type="application/json")


@pytest.fixture
def accounts(db: None) -> list[Account]:
    calm = AccountGroup.objects.create(name="calm")
    return [
        rows.account(name, group=calm if name != "gamma" else None) for name in ("alpha", "beta", "gamma")
    ]


def test_many_are_moved_tagged_limited_paused_and_resumed(asking: Asker, accounts: list[Account]) -> None:
    client = asking(*ALL)
    ids = {"ids": [str(account.uuid) for account in accounts[:2]]}
    assert act(client, "tag", ids, tag="slow").json() == {"chosen": 2, "changed": 2}
    assert act(client, "move", {"tag": "slow"}, group="wild").json() == {"chosen": 2, "changed": 2}
    assert act(client, "limit", {"group": "wild"}, name="max_positions", value="2").json()["changed"] == 2
    assert act(client, "pause", {"group": "wild", "tag": "slow"}, reason="storm").json()["changed"] == 2
    shown = client.get(f"{MULTI}/api-keys?tag=slow&group=wild").json()["items"]
    assert sorted((one["name"], one["tags"], one["pause_reason"]) for one in shown) == [
        ("alpha", ["slow"], "storm"),
        ("beta", ["slow"], "storm"),
    ]
    assert act(client, "resume", {"tag": "slow"}).json() == {"chosen": 2, "changed": 2}
    assert client.get(f"{MULTI}/groups").json() == [
        {"name": "calm", "accounts": 0},
        {"name": "wild", "accounts": 2},
    ]
    assert client.get(f"{MULTI}/tags").json() == [{"name": "slow", "accounts": 2}]
    assert effective_limits(Account.objects.get(name="beta")).limits.max_positions == 2


def test_many_are_asked_about_with_one_message(
    asking: Asker, accounts: list[Account], redis: Redis, django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        answer = act(asking(*ALL), "verify", {"group": "calm"})
    assert answer.json() == {"chosen": 2, "changed": 2}
    assert Account.objects.filter(verification_asked_at__isnull=False).count() == 2
    assert sum(int(redis.llen(f"desk:{queue}")) for queue in ("orders", "exits", "monitor", "default")) == 1


@pytest.mark.parametrize(
    ("action", "chosen", "told", "code"),
    [
        ("pause", {"group": "calm"}, {}, "NO_REASON"),
        ("tag", {"group": "calm"}, {"tag": " "}, "NO_TAG"),
        ("limit", {"group": "calm"}, {"name": "daily_loss", "value": "1"}, "BAD_LIMIT"),
        ("limit", {"group": "calm"}, {"name": "nonsense", "value": "1"}, "BAD_LIMIT"),
        ("move", {"group": "calm"}, {"group": "strict"}, "BAD_LIMIT"),
        ("pause", {}, {"reason": "storm"}, "NOBODY_CHOSEN"),
        ("pause", {"ids": ["6f1d2a52-6a0d-4c3e-9f0e-111111111111"]}, {"reason": "storm"}, "UNKNOWN_ACCOUNT"),
    ],
)
def test_what_cannot_be_done_to_all_is_done_to_none(
    asking: Asker, accounts: list[Account], action: str, chosen: Any, told: dict[str, str], code: str
) -> None:
    set_override(AccountGroup.objects.create(name="strict"), "daily_loss", "3.5", "olga")
    set_override(accounts[1], "risk_per_trade", "1.5", "olga")
    answer = act(asking(*ALL), action, chosen, **told)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, code)
    assert set(Account.objects.values_list("is_enabled", "group__name")) == {(True, "calm"), (True, None)}


def test_terms_leave_and_come_back_as_a_file(asking: Asker, accounts: list[Account]) -> None:
    client = asking(*ALL)
    told = client.get(f"{MULTI}/export?kind=csv").content.decode()
    changed = told.replace(
        "alpha,binance,paper,database,futures; spot,calm", "alpha,binance,paper,database,futures; spot,wild"
    )
    assert changed != told
    for is_trial, group in ((True, "calm"), (False, "wild")):
        file = SimpleUploadedFile("accounts.csv", changed.encode())
        answer = client.post(f"{MULTI}/import", {"file": file, "kind": "csv", "is_trial": is_trial})
        assert answer.json() == {"changed": ["alpha"], "unchanged": 2, "is_trial": is_trial}
        alpha = Account.objects.get(name="alpha")
        assert alpha.group is not None
        assert alpha.group.name == group


def test_a_bad_file_is_refused_whole(asking: Asker, accounts: list[Account]) -> None:
    file = SimpleUploadedFile("accounts.csv", b"name,leverage\nalpha,4\nnobody,4\n")
    answer = asking(*ALL).post(f"{MULTI}/import", {"file": file, "kind": "csv", "is_trial": False})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "BAD_FILE")
    assert set(Account.objects.values_list("leverage", flat=True)) == {3}


def test_who_only_reads_changes_and_exports_nothing(asking: Asker, accounts: list[Account]) -> None:
    client = asking(Scope.READ)
    assert act(client, "pause", {"group": "calm"}, reason="storm").status_code == 403
    assert client.get(f"{MULTI}/export").status_code == 403
    assert Account.objects.filter(is_enabled=True).count() == 3
