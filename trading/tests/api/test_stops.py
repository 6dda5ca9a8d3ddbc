"""Stop everything over HTTP."""

from typing import Any

import pytest
from django.test import Client
from redis import Redis

from trading.models import Halt
from trading.services.tokens import Scope
from trading.tests import rows
from trading.tests.api.conftest import Asker

pytestmark = pytest.mark.django_db


def stop(client: Client, **changes: str) -> Any:
    told = {"scope": "desk", "level": "HALT_ENTRIES", "reason": "a drill"}
    return client.post("/api/bot/emergency-stop", told | changes, content_type="application/json")


def resume(client: Client, scope: str) -> Any:
    body = {"scope": scope, "reason": "drill over"}
    return client.post("/api/bot/resume", body, content_type="application/json")


def test_a_halt_stands_until_its_scope_is_resumed(asking: Asker, redis: Redis) -> None:
    rows.account("alpha")
    client = asking(Scope.TRADE, Scope.READ)

    assert stop(client).status_code == 202
    assert stop(client, scope="account:alpha", level="CANCEL_ORDERS").status_code == 202
    standing = client.get("/api/bot/emergency-stop").json()["items"]
    assert {(halt["scope"], halt["level"]) for halt in standing} == {
        ("desk", "HALT_ENTRIES"),
        ("account:alpha", "CANCEL_ORDERS"),
    }
    assert standing[0]["raised_by"] == "token:trade+read"

    left = resume(client, "desk").json()["items"]
    assert [halt["scope"] for halt in left] == ["account:alpha"]
    lifted = Halt.objects.get(scope="desk")
    assert (lifted.resumed_by, lifted.resume_reason) == ("token:trade+read", "drill over")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"scope": "account:nobody"}, "SCOPE"),
        ({"scope": "everything"}, "SCOPE"),
        ({"level": "PANIC"}, "INVALID"),
        ({"reason": ""}, "INVALID"),
        ({"force": "yes"}, "UNKNOWN_FIELD"),
    ],
    ids=str,
)
def test_a_stop_of_nothing_known_is_refused(
    asking: Asker, redis: Redis, changes: dict[str, str], code: str
) -> None:
    response = stop(asking(Scope.TRADE), **changes)

    assert (response.status_code, response.json()["error"]["code"]) == (422, code)
    assert not Halt.objects.exists()


def test_a_reason_of_blanks_is_none(asking: Asker, redis: Redis) -> None:
    client = asking(Scope.TRADE, Scope.READ)
    body = {"scope": "desk", "level": "HALT_ENTRIES", "reason": " "}
    assert client.post("/api/bot/emergency-stop", body, content_type="application/json").status_code == 422
    assert not Halt.objects.exists()
