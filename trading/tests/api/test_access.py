"""Who may ask what: the whole matrix of routes and scopes, and how a refusal looks."""

import re
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError
from django.test import Client
from django.utils import timezone

from trading.api import reports
from trading.models import ApiToken, Halt, Signal
from trading.services.tokens import Scope, create_token, revoke_token
from trading.tests.api.conftest import Asker

ID = uuid4()
ROUTES = [
    ("POST", "signals", Scope.SIGNALS_WRITE),
    ("GET", "signals", Scope.READ),
    ("GET", f"signals/{ID}", Scope.READ),
    ("POST", "decisions", Scope.TRADE),
    ("GET", "decisions", Scope.READ),
    ("GET", f"decisions/{ID}", Scope.READ),
    ("GET", "multi-account/api-keys", Scope.READ),
    ("POST", "multi-account/api-keys", Scope.ADMIN),
    ("GET", f"multi-account/api-keys/{ID}", Scope.READ),
    ("PATCH", f"multi-account/api-keys/{ID}", Scope.ADMIN),
    ("DELETE", f"multi-account/api-keys/{ID}", Scope.ADMIN),
    ("POST", f"multi-account/api-keys/{ID}/verify", Scope.ADMIN),
    ("GET", f"multi-account/api-keys/{ID}/breakers", Scope.READ),
    ("GET", f"multi-account/api-keys/{ID}/day", Scope.READ),
    ("GET", f"multi-account/api-keys/{ID}/limits", Scope.READ),
    ("PUT", f"multi-account/api-keys/{ID}/limits/{ID}", Scope.ADMIN),
    ("DELETE", f"multi-account/api-keys/{ID}/limits/{ID}", Scope.ADMIN),
    ("GET", "multi-account/groups", Scope.READ),
    ("GET", "multi-account/tags", Scope.READ),
    ("POST", "multi-account/bulk", Scope.ADMIN),
    ("GET", "multi-account/export", Scope.ADMIN),
    ("POST", "multi-account/import", Scope.ADMIN),
    ("GET", f"multi-account/groups/{ID}/limits", Scope.READ),
    ("PUT", f"multi-account/groups/{ID}/limits/{ID}", Scope.ADMIN),
    ("DELETE", f"multi-account/groups/{ID}/limits/{ID}", Scope.ADMIN),
    ("GET", "limits", Scope.READ),
    ("GET", "limits/changes", Scope.READ),
    ("PUT", f"limits/{ID}", Scope.ADMIN),
    ("DELETE", f"limits/{ID}", Scope.ADMIN),
    ("GET", "positions", Scope.READ),
    ("GET", f"positions/{ID}", Scope.READ),
    ("POST", f"close-position/{ID}", Scope.TRADE),
    ("POST", "emergency-stop", Scope.TRADE),
    ("GET", "emergency-stop", Scope.READ),
    ("POST", "resume", Scope.TRADE),
    ("GET", "orders", Scope.READ),
    ("GET", "stats", Scope.READ),
    ("GET", "equity", Scope.READ),
    ("GET", "alerts", Scope.READ),
    ("GET", "status", Scope.READ),
    ("GET", "market", Scope.READ),
    ("GET", "exposure", Scope.READ),
    ("GET", f"multi-account/api-keys/{ID}/why", Scope.READ),
]
BY_PATH_AND_TOKEN = [("POST", f"webhooks/tradingview/{ID}")]
NAMES = [f"{method} {route.replace(str(ID), '<id>')}" for method, route, _ in ROUTES]


def ask(client: Client, method: str, route: str) -> int:
    """Ask with an empty body: 422 then means that the door was open."""
    return client.generic(method, f"/api/bot/{route}", "{}", content_type="application/json").status_code


@pytest.mark.parametrize(("method", "route", "scope"), ROUTES, ids=NAMES)
def test_a_route_opens_to_its_scope_alone(asking: Asker, method: str, route: str, scope: Scope) -> None:
    assert ask(asking(scope), method, route) not in {401, 403, 405, 500}
    assert ask(asking(*(other for other in Scope if other != scope)), method, route) == 403
    assert ask(Client(), method, route) == 401
    assert ask(Client(headers={"Authorization": "Bearer phx_guessed"}), method, route) == 401
    assert not Signal.objects.exists()
    assert not Halt.objects.exists()


def test_a_refusal_carries_code_message_and_the_id_of_the_request(db: None) -> None:
    response = Client().get("/api/bot/positions")

    assert set(response.json()) == {"error"}
    assert response.json()["error"] == {
        "code": "UNAUTHORIZED",
        "message": "Unauthorized",
        "request_id": response["X-Request-ID"],
    }


def test_no_route_and_wrong_method_are_refused_in_the_envelope(asking: Asker) -> None:
    client = asking(Scope.READ)

    assert client.get("/api/bot/nothing").json()["error"]["code"] == "NOT_FOUND"
    wrong_method = client.delete("/api/bot/positions")
    assert (wrong_method.status_code, wrong_method.json()["error"]["code"]) == (405, "METHOD_NOT_ALLOWED")
    assert client.get(f"/api/bot/signals/{ID}").json()["error"]["code"] == "NOT_FOUND"
    assert client.get("/api/bot/positions?cursor=guess").json()["error"]["code"] == "CURSOR"
    assert client.get("/api/bot/positions?limit=501").json()["error"]["code"] == "INVALID"


def test_a_body_that_is_no_json_is_refused_in_the_envelope(asking: Asker) -> None:
    response = asking(Scope.SIGNALS_WRITE).post("/api/bot/signals", "{", content_type="application/json")

    assert (response.status_code, response.json()["error"]["code"]) == (400, "BAD_REQUEST")


def test_a_failure_within_tells_no_more_than_its_request_id(
    asking: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("canary-91c3 of the inside")

    monkeypatch.setattr(reports, "read_status", fail)

    response = asking(Scope.READ).get("/api/bot/status")

    assert (response.status_code, response.json()["error"]["code"]) == (500, "INTERNAL")
    assert "canary" not in response.content.decode()


def test_a_database_that_is_away_is_503_so_that_senders_ask_again(
    asking: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OperationalError("database is locked")

    monkeypatch.setattr(reports, "read_status", fail)

    response = asking(Scope.READ).get("/api/bot/status")

    assert (response.status_code, response.json()["error"]["code"]) == (503, "UNAVAILABLE")


def test_a_revoked_or_expired_token_is_refused_at_once(asking: Asker) -> None:
    client = asking(Scope.READ)
    row = ApiToken.objects.get()
    assert ask(client, "GET", "positions") == 200

    ApiToken.objects.update(expires_at=timezone.now())
    assert ask(client, "GET", "positions") == 401

    ApiToken.objects.update(expires_at=None)
    revoke_token(row, timezone.now())
    assert ask(client, "GET", "positions") == 401


def test_an_operator_asks_by_session_as_far_as_their_permissions_go(db: None) -> None:
    viewer = User.objects.create_user("vera", password="a long password")
    client = Client()
    client.force_login(viewer)
    assert ask(client, "GET", "positions") == 403

    owner = Client()
    owner.force_login(User.objects.create_superuser("olga"))
    assert ask(owner, "GET", "positions") == 200


def test_a_session_without_the_csrf_token_changes_nothing(db: None) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("olga"))
    body = {"scope": "desk", "level": "HALT_ENTRIES", "reason": "forged"}

    response = client.post("/api/bot/emergency-stop", body, content_type="application/json")

    assert (response.status_code, response.json()["error"]["code"]) == (403, "FORBIDDEN")
    assert not Halt.objects.exists()


def test_the_api_page_is_for_who_may_read(asking: Asker) -> None:
    client = Client()
    assert client.get("/api/bot/docs").status_code == 302
    assert client.get("/api/bot/openapi.json").status_code == 302

    client.force_login(User.objects.create_superuser("olga"))
    assert client.get("/api/bot/docs").status_code == 200
    schema = asking(Scope.READ).get("/api/bot/openapi.json").json()
    assert asking(Scope.TRADE).get("/api/bot/openapi.json").status_code == 302
    told = {(method.upper(), path) for path, routes in schema["paths"].items() for method in routes}
    assert {(method, re.sub(r"{.*?}", str(ID), path)) for method, path in told} == {
        (method, f"/api/bot/{route}")
        for method, route in [*BY_PATH_AND_TOKEN, *((method, route) for method, route, _ in ROUTES)]
    }
    assert all(
        "4XX" in route["responses"] for routes in schema["paths"].values() for route in routes.values()
    )


def test_a_token_is_stored_as_a_hash_only(db: None) -> None:
    token = create_token("bot", ["read"])

    row = ApiToken.objects.get()
    assert token not in str(vars(row))
    assert row.token_hash != token
    assert (row.prefix, row.scopes) == (token[:12], ["read"])
