"""Why an account would enter or not: the same answer the gate gives, with every other rule's beside it."""

import re
from dataclasses import replace
from decimal import Decimal

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings
from redis import Redis

from exchange.port import Market
from trading.domain.states import DenyCode
from trading.models import Allocation, Decision, Order, Signal
from trading.services import market
from trading.services.allocation import allocate
from trading.services.desk_exposure import read_desk_exposure
from trading.services.selection import request, select
from trading.services.tokens import Scope, create_token
from trading.services.why import Reading, read_why
from trading.tests.services.journey import (
    BTC,
    ETH,
    SOL,
    WEATHER,
    a_position,
    a_signal,
    fit_accounts,
    now,
    set_columns,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("paper_exchange")]


@pytest.fixture(autouse=True)
def calm(settings: Settings) -> None:
    settings.GATE_OFF = WEATHER


@pytest.fixture
def operator() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("olga"))
    return client


def text_of(client: Client, path: str) -> str:
    response = client.get(path)
    assert response.status_code == 200
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


def refusing(reading: Reading) -> list[str]:
    return [answer.code for answer in reading.refusing]


def test_a_sound_account_would_enter_and_tells_its_size_as_the_decision_then_does() -> None:
    (account,) = fit_accounts(1, executors=(Market.FUTURES,))
    signal = a_signal()
    (reading,) = read_why(account, now()).readings
    assert (reading.symbol, reading.side, reading.code) == (BTC, "LONG", "")
    assert len(reading.answers) == len(DenyCode) - 1
    allocate(request(signal, now()).pk, now())
    assert Decimal(reading.sizing["quantity"]) == pytest.approx(
        Order.objects.get().quantity, rel=Decimal("0.01")
    )


def test_every_rule_that_refuses_is_told_with_its_numbers_the_first_as_the_decision_tells_it() -> None:
    (account,) = fit_accounts(1, executors=(Market.FUTURES,))
    a_position(account, BTC)
    set_columns(account, is_multi_assets=True, available_balance=Decimal(0))
    signal = a_signal()
    (reading,) = read_why(account, now()).readings
    assert refusing(reading) == ["ACCOUNT_UNHEALTHY", "POSITION_OPEN", "MARGIN"]
    assert reading.refusing[0].detail == {"reasons": "multi-assets margin"}
    assert reading.refusing[2].detail is not None
    assert Decimal(reading.refusing[2].detail["available"]) < 0
    decision = request(signal, now())
    allocate(decision.pk, now())
    assert decision.allocations.get().code == reading.code


def test_asking_writes_nothing_and_holds_nothing() -> None:
    (account,) = fit_accounts(1)
    a_signal()
    with CaptureQueriesContext(connection) as asked:
        read_why(account, now())
    assert not any(
        re.match("INSERT|UPDATE|DELETE|.*FOR UPDATE", one["sql"]) for one in asked.captured_queries
    )
    assert not Decision.objects.exists()
    assert not Allocation.objects.exists()
    assert Signal.objects.count() == 1


def test_a_coin_can_be_named_in_any_spelling_and_without_a_signal() -> None:
    (account,) = fit_accounts(1, SOL)
    readings = read_why(account, now(), "SOLUSDT", "SHORT").readings
    assert [(one.symbol, one.side, one.market, one.code) for one in readings] == [
        (SOL, "SHORT", "futures", ""),
        (SOL, "SHORT", "spot", "NO_MARKET"),
    ]
    with pytest.raises(ValueError, match="not listed"):
        read_why(account, now(), "NOSUCH")


def test_standings_stand_beside_their_limits(settings: Settings) -> None:
    (account,) = fit_accounts(1, executors=(Market.FUTURES,))
    a_position(account, ETH, quantity="0.1")
    a_signal()
    told = {one.name: one for one in read_why(account, now()).standings}
    assert (told["positions and entries in flight"].value, told["positions and entries in flight"].limit) == (
        1,
        5,
    )
    risk = told["open risk"]
    assert risk.limit == pytest.approx(500, rel=Decimal("0.01"))
    assert 0 < (risk.value or 0) < 10
    assert told["day's profit, never to fall to"].limit == -500


def test_the_page_and_the_api_say_it(operator: Client) -> None:
    (account,) = fit_accounts(1, executors=(Market.FUTURES,))
    set_columns(account, available_balance=Decimal(0))
    a_signal()
    page = text_of(operator, f"/desk/accounts/{account.uuid}/why/")
    assert "DENIED MARGIN" in page
    assert "available 0" in page
    assert "Nothing can be told" in text_of(operator, f"/desk/accounts/{account.uuid}/why/?symbol=NOSUCH")
    reader = Client(headers={"Authorization": f"Bearer {create_token('r', (Scope.READ,))}"})
    route = f"/api/bot/multi-account/api-keys/{account.uuid}/why"
    told = reader.get(route).json()
    (reading,) = told["readings"]
    assert (reading["code"], told["account"]) == ("MARGIN", account.name)
    assert [rule["code"] for rule in reading["rules"] if rule["refuses"]] == ["MARGIN"]
    assert {rule["code"] for rule in reading["rules"] if rule["is_off"]} == set(WEATHER)
    assert reader.get(f"{route}?symbol=NOSUCH").status_code == 422


# ── exposure and market ──────────────────────────────────────────────────────


def test_exposure_is_told_by_coin_side_and_account(redis: Redis) -> None:
    one, other = fit_accounts(2)
    a_position(one, BTC, quantity="0.02")
    a_position(other, BTC, is_long=False, quantity="0.01")
    a_position(one, ETH, quantity="0.1")
    found = read_desk_exposure(now())
    coins = {coin.base: coin for coin in found.coins}
    bitcoin = coins["BTC"]
    assert bitcoin.accounts == 2
    assert bitcoin.long_notional == pytest.approx(2 * bitcoin.short_notional, rel=Decimal("0.01"))
    assert bitcoin.ceiling is not None
    assert bitcoin.room == bitcoin.ceiling - bitcoin.gross
    assert [load.account for load in found.accounts] == [one, other]
    assert found.risk == sum(coin.risk for coin in found.coins)
    assert found.budget == found.equity * Decimal("0.05")
    assert found.correlations[BTC, BTC] == 1
    assert found.correlations[BTC, ETH] == found.correlations[ETH, BTC]


def test_entries_on_their_way_count_and_are_told_apart() -> None:
    fit_accounts(1)
    allocate(request(a_signal(), now()).pk, now())
    (coin,) = read_desk_exposure(now()).coins
    assert coin.in_flight_notional == coin.long_notional > 0


def test_pages_and_routes_of_market_exposure_and_choices(
    operator: Client, settings: Settings, redis: Redis
) -> None:
    settings.LIMITS = replace(settings.LIMITS, min_quality=Decimal(1))
    (account,) = fit_accounts(1)
    a_position(account, ETH)
    signal = a_signal(BTC)
    (decision,) = select(now())
    looks = text_of(operator, "/desk/choices/")
    assert "none: QUALITY" in looks.replace("  ", " ")
    assert "none" in text_of(operator, "/desk/choices/?only=none")
    page = text_of(operator, f"/desk/decisions/{decision.uuid}/")
    assert "quality too low (QUALITY)" in page
    assert "1 signal waited, 1 was a candidate" in page
    assert "BTC/USDT" in text_of(operator, "/desk/market/")
    assert "By coin" in text_of(operator, "/desk/exposure/")
    reader = Client(headers={"Authorization": f"Bearer {create_token('r', (Scope.READ,))}"})
    told = {one["symbol"]: one for one in reader.get("/api/bot/market").json()}
    assert set(told) == {BTC, ETH}
    assert told[BTC]["missing"] == ["depth_notional"]
    assert set(told[BTC]["figures"]["regime"]) == {"value", "source", "age_seconds"}
    assert reader.get("/api/bot/market?symbol=BTCUSDT").json()[0]["missing"] == []
    assert reader.get("/api/bot/market?symbol=NOSUCH").status_code == 422
    exposure = reader.get("/api/bot/exposure").json()
    assert [coin["base"] for coin in exposure["coins"]] == ["ETH"]
    detail = reader.get(f"/api/bot/decisions/{decision.uuid}").json()
    assert detail["considered"] == {"waiting": 1, "candidates": 1}
    assert detail["candidates"][0]["verdict"] == "QUALITY"
    assert detail["candidates"][0]["signal"] == str(signal.uuid)


def test_a_coin_not_listed_on_a_market_is_told_as_the_decision_would() -> None:
    (account,) = fit_accounts(1, executors=(Market.SPOT,))
    alone = next(one for one in market.instruments(Market.FUTURES) if not market.symbol_on(one, Market.SPOT))
    (reading,) = read_why(account, now(), alone, "LONG").readings
    assert (reading.code, refusing(reading)) == ("SYMBOL_CLOSED", ["SYMBOL_CLOSED"])


def test_the_budgets_shown_are_of_the_money_the_gate_asks_about() -> None:
    (account,) = fit_accounts(1, executors=(Market.SPOT,))
    set_columns(account, wallet_balance=Decimal(70), available_balance=Decimal(70))
    a_position(account, ETH)
    told = {one.name: one for one in read_why(account, now(), BTC, "LONG").standings}
    assert [told[name].limit for name in ("open risk", "risk of longs")] == [500, 500]
    (load,) = read_desk_exposure(now()).accounts
    assert [load.budget, load.side_budget] == [500, 500], "who trades spot alone is long alone"
