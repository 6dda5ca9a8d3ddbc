"""Limits over HTTP: where each comes from, who changed it, and that the next allocation goes by it."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from pytest_django import Settings

from accounts.models import Account, AccountGroup, LimitOverride
from accounts.services.gateways import close_gateways
from accounts.services.limits import set_override
from tests.meanwhile import meanwhile
from tests.processes import PaperExchange
from trading import tasks
from trading.domain.states import DenyCode
from trading.models import Decision, Order
from trading.services.selection import request
from trading.services.tokens import Scope
from trading.tests import rows
from trading.tests.api.conftest import Asker
from trading.tests.services.journey import WEATHER, a_signal, fit_accounts, now

pytestmark = pytest.mark.django_db

BOT = "/api/bot"
ALL = (Scope.READ, Scope.ADMIN)


def put(client: Client, path: str, value: str) -> Any:
    return client.put(f"{BOT}/{path}", {"value": value}, content_type="application/json")


def of_account(account: Account) -> str:
    return f"multi-account/api-keys/{account.uuid}/limits"


def told(client: Client, path: str, name: str) -> tuple[str, str]:
    return next(
        (one["value"], one["origin"]) for one in client.get(f"{BOT}/{path}").json() if one["name"] == name
    )


def test_each_limit_tells_its_value_and_who_set_it(asking: Asker) -> None:
    client = asking(*ALL)
    account = rows.account("alpha", group=AccountGroup.objects.create(name="calm"))
    group = "multi-account/groups/calm/limits"
    assert told(client, of_account(account), "max_positions") == ("5", "setting")
    assert put(client, "limits/max_positions", "4").json() == {
        "name": "max_positions",
        "value": "4",
        "unit": "",
        "origin": "desk",
    }
    assert told(client, of_account(account), "max_positions") == ("4", "desk")
    put(client, f"{group}/max_positions", "3")
    assert told(client, of_account(account), "max_positions") == ("3", "group")
    put(client, f"{of_account(account)}/max_positions", "2")
    assert told(client, of_account(account), "max_positions") == ("2", "account")
    assert told(client, group, "max_positions") == ("3", "group")
    assert told(client, "limits", "max_positions") == ("4", "desk")
    for path in (of_account(account), group, "limits"):
        client.delete(f"{BOT}/{path}/max_positions")
    assert told(client, of_account(account), "max_positions") == ("5", "setting")


def test_every_change_tells_who_and_when_and_what_was_before(asking: Asker) -> None:
    client, account = asking(*ALL), rows.account("alpha")
    put(client, f"{of_account(account)}/max_positions", "2")
    put(client, f"{of_account(account)}/max_positions", "3")
    put(client, "limits/max_positions", "4")
    whole = client.get(f"{BOT}/limits/changes").json()["items"]
    mine = client.get(f"{BOT}/limits/changes?account={account.uuid}").json()["items"]
    assert [(one["scope"], one["before"], one["after"]) for one in whole] == [
        ("desk", "", "4"),
        ("account", "2", "3"),
        ("account", "", "2"),
    ]
    assert [(one["owner_name"], one["after"]) for one in mine] == [("alpha", "3"), ("alpha", "2")]
    assert {one["changed_by"] for one in whole} == {"token:read+admin"}
    assert all(one["changed_at"] for one in whole)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("limits/unprotected_seconds", "5"),
        ("limits/nonsense", "1"),
        ("limits/daily_loss", "1"),
        ("{account}/leverage", "5"),
        ("{account}/max_positions", "0"),
        ("{account}/max_positions", "many"),
    ],
)
def test_a_limit_that_cannot_be_is_refused_and_not_stored(asking: Asker, path: str, value: str) -> None:
    account = rows.account("alpha")
    answer = put(asking(*ALL), path.format(account=of_account(account)), value)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "BAD_LIMIT")
    assert not LimitOverride.objects.exists()


def test_a_limit_nobody_has_is_not_taken_back(asking: Asker) -> None:
    answer = asking(*ALL).delete(f"{BOT}/limits/nonsense")
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "BAD_LIMIT")


def test_who_only_reads_sets_no_limit(asking: Asker) -> None:
    answer = put(asking(Scope.READ), "limits/max_positions", "2")
    assert answer.status_code == 403
    assert not LimitOverride.objects.exists()


# ── the next allocation ──────────────────────────────────────────────────────
@pytest.fixture
def market(paper_exchange: PaperExchange, settings: Settings) -> Iterator[None]:
    """A market to size by; what its weather is does not matter here."""
    settings.GATE_OFF = WEATHER
    settings.WEIGHT_LIMIT_PER_MINUTE = 100_000
    close_gateways()
    yield
    close_gateways()


def decide_again() -> Decision:
    """The tasks of one decision, as the workers run them; what was reserved before is gone."""
    Order.objects.all().delete()
    Decision.objects.all().delete()
    decision = request(a_signal(), now())
    tasks.decide([decision.pk])
    return decision


def risks(decision: Decision) -> list[Decimal]:
    shares = decision.allocations.order_by("account_id")
    return [(share.planned_risk or Decimal(0)).normalize() for share in shares]


@pytest.mark.usefixtures("market")
def test_a_limit_set_over_http_holds_from_the_next_allocation_on(asking: Asker) -> None:
    client = asking(*ALL)
    accounts = fit_accounts(2)
    assert risks(decide_again()) == [100, 100]
    put(client, f"{of_account(accounts[0])}/risk_per_trade", "0.5")
    assert risks(decide_again()) == [50, 100]
    put(client, "limits/risk_per_trade", "0.25")
    assert risks(decide_again()) == [50, 25]
    client.delete(f"{BOT}/{of_account(accounts[0])}/risk_per_trade")
    assert risks(decide_again()) == [25, 25]


@pytest.mark.usefixtures("market")
def test_a_limit_lowered_under_what_is_used_denies_and_sends_nothing(asking: Asker) -> None:
    client = asking(*ALL)
    (account,) = fit_accounts(1)
    rows.position(account, symbol="ETH/USDT:USDT", base="ETH", opened_at=now())
    put(client, f"{of_account(account)}/max_positions", "1")
    decision = decide_again()
    assert list(decision.allocations.values_list("outcome", "code")) == [("DENIED", DenyCode.MAX_POSITIONS)]
    assert not Order.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_of_two_who_set_a_limit_at_the_same_moment_both_are_answered_and_both_are_kept(asking: Asker) -> None:
    client = asking(*ALL)
    answer = meanwhile(
        lambda: set_override(None, "max_positions", "3", "olga"),
        lambda: put(client, "limits/max_positions", "4"),
    )
    assert (answer.status_code, answer.json()["value"]) == (200, "4")
    changes = client.get(f"{BOT}/limits/changes").json()["items"]
    assert [(one["before"], one["after"]) for one in changes] == [("3", "4"), ("", "3")]


def test_a_percentage_says_so(asking: Asker) -> None:
    told = {one["name"]: one["unit"] for one in asking(Scope.READ).get("/api/bot/limits").json()}
    assert (told["risk_budget"], told["max_positions"]) == ("%", "")
