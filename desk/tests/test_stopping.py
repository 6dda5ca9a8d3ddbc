"""The page that stops everything: named first, confirmed by name, told with proof, resumed with a reason."""

import json
from base64 import b64decode
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from redis import Redis

from accounts.models import AccountGroup
from trading.domain.states import CloseReason, OrderPurpose, OrderStatus
from trading.models import Halt, Order, Position
from trading.tests import rows

pytestmark = pytest.mark.django_db
ASKED = {"scope": "desk", "level": "FLATTEN", "reason": "the market is not what it was"}


def ask(client: Client, **changes: str) -> Any:
    return client.post("/desk/stop/ask/", ASKED | changes)


def confirm(client: Client, **changes: str) -> Any:
    return client.post("/desk/stop/raise/", ASKED | {"confirmation": ASKED["level"]} | changes)


def text_of(response: Any) -> str:
    return " ".join(response.content.decode().split())


def test_asking_names_what_would_happen_and_stops_nothing(operator: Client, redis: Redis) -> None:
    rows.position(rows.account("alpha"))
    rows.position(rows.account("beta"), is_foreign=True, is_long=False)
    page = text_of(ask(operator))
    assert "FLATTEN of desk: is that what you want?" in page
    assert "closed at market" in page
    assert "Close these 1 too" in page
    assert "beta" in page
    assert not Halt.objects.exists()
    assert not Position.objects.exclude(closing_for="").exists()


def test_a_confirmed_flatten_wants_ours_closed_and_leaves_strangers_and_stops(
    operator: Client, redis: Redis
) -> None:
    ours, foreign = rows.position(rows.account("alpha")), rows.position(rows.account("beta"), is_foreign=True)
    answer = confirm(operator)
    assert (answer.status_code, answer["Location"]) == (302, "/desk/stop/")
    halt = Halt.objects.get()
    assert (halt.scope, halt.level, halt.raised_by) == ("desk", "FLATTEN", "olga")
    assert halt.reason == ASKED["reason"]
    assert [Position.objects.get(pk=one.pk).closing_for for one in (ours, foreign)] == ["FLATTEN", ""]
    assert not Order.objects.exists()  # a web process sends nothing: workers do, rung or by the sweep
    confirm(operator)
    assert Halt.objects.count() == 1


def test_strangers_positions_go_only_when_they_were_ticked(operator: Client, redis: Redis) -> None:
    foreign = rows.position(rows.account("beta"), is_foreign=True)
    confirm(operator, includes_foreign="on")
    foreign.refresh_from_db()
    assert foreign.closing_for == CloseReason.FLATTEN


@pytest.mark.parametrize(
    "changes",
    [
        {"confirmation": "yes"},
        {"confirmation": ""},
        {"reason": ""},
        {"level": "PANIC"},
        {"scope": "account:x"},
    ],
    ids=str,
)
def test_without_the_levels_own_name_a_reason_and_a_scope_nothing_is_stopped(
    operator: Client, redis: Redis, changes: dict[str, str]
) -> None:
    position = rows.position(rows.account("alpha"))
    assert confirm(operator, **changes).status_code == 422
    position.refresh_from_db()
    assert (Halt.objects.exists(), position.closing_for) == (False, "")


def test_an_unknown_scope_is_said_where_it_was_typed(operator: Client, redis: Redis) -> None:
    answer = ask(operator, scope="account:nobody")
    assert answer.status_code == 422
    assert "no such scope here" in text_of(answer)


@pytest.mark.parametrize(
    ("scope", "reached"),
    [("account:alpha", {"alpha"}), ("group:quick", {"beta"}), ("desk", {"alpha", "beta"})],
)
def test_a_scope_reaches_its_own_positions_only(
    operator: Client, redis: Redis, scope: str, reached: set[str]
) -> None:
    alpha, beta = rows.account("alpha"), rows.account("beta")
    beta.group = AccountGroup.objects.create(name="quick")
    beta.save()
    for one in (alpha, beta):
        rows.position(one)
    confirm(operator, scope=scope)
    wanted = Position.objects.filter(closing_for="FLATTEN").values_list("account__name", flat=True)
    assert set(wanted) == reached


def test_cancelling_orders_recalls_entries_and_no_stop(operator: Client, redis: Redis) -> None:
    account = rows.account("alpha")
    position = rows.position(account)
    share = rows.allocation(rows.decision(), account)
    entry = rows.entry(share, "entry", status=OrderStatus.ACKNOWLEDGED)
    stop = rows.entry(share, "stop", purpose=OrderPurpose.HARD_STOP, status=OrderStatus.ACKNOWLEDGED)
    Order.objects.filter(pk=stop.pk).update(allocation=None, position=position)
    page = text_of(ask(operator, level="CANCEL_ORDERS"))
    assert "kept, with their stops" in page
    confirm(operator, level="CANCEL_ORDERS", confirmation="cancel_orders")
    (rung,) = [json.loads(row) for row in redis.lrange("desk:exits", 0, -1)]
    assert rung["headers"]["task"].endswith("cancel_orders")
    assert json.loads(b64decode(rung["body"]))[0] == [[entry.pk]]


def test_the_proof_of_flat_is_shown_by_account_with_what_is_left(operator: Client, redis: Redis) -> None:
    proof = {
        "accounts": {
            "alpha": {"is_flat": True, "residuals": [], "foreign": [], "seconds_to_flat": 1.24},
            "beta": {
                "is_flat": False,
                "residuals": [{"symbol": "BTC/USDT:USDT", "quantity": "0.2", "reason": "-2019"}],
                "foreign": [{"symbol": "ETH/USDT:USDT", "quantity": "1"}],
            },
        }
    }
    values = {
        "scope": "desk",
        "level": "FLATTEN",
        "reason": "drill",
        "raised_by": "olga",
        "raised_at": rows.NOON,
    }
    Halt.objects.create(**values, result=proof)
    page = text_of(operator.get("/desk/stop/"))
    for words in ("Not proven flat yet", "1.2 s", "-2019", "foreign, not touched"):
        assert words in page


def test_resuming_needs_a_reason_and_lifts_its_scope_alone(operator: Client, redis: Redis) -> None:
    rows.account("alpha")
    for scope in ("desk", "account:alpha"):
        confirm(operator, scope=scope, level="HALT_ENTRIES", confirmation="HALT_ENTRIES")
    assert operator.post("/desk/stop/resume/", {"scope": "desk", "reason": ""}).status_code == 422
    assert Halt.objects.filter(resumed_at__isnull=True).count() == 2
    operator.post("/desk/stop/resume/", {"scope": "desk", "reason": "drill over"})
    lifted = Halt.objects.get(scope="desk")
    assert (lifted.resumed_by, lifted.resume_reason) == ("olga", "drill over")
    assert Halt.objects.filter(resumed_at__isnull=True).count() == 1


def test_who_may_only_look_can_stop_nothing(operator: Client, redis: Redis) -> None:
    viewer = User.objects.create_user("vera")
    viewer.user_permissions.add(Permission.objects.get(codename="view_position"))
    client = Client()
    client.force_login(viewer)
    assert "stopping needs the right to trade" in text_of(client.get("/desk/stop/"))
    assert [ask(client).status_code, confirm(client).status_code] == [403, 403]
    assert client.post("/desk/stop/resume/", {"scope": "desk", "reason": "x"}).status_code == 403
    assert confirm(Client()).status_code == 302
    assert not Halt.objects.exists()
