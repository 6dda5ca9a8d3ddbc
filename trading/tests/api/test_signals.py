"""Intake over HTTP: the good is one row for ever, the bad is refused with a code and stored nowhere."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client

from tests.processes import PaperExchange
from trading.models import Signal, SignalSource
from trading.services.tokens import Scope
from trading.tests import rows
from trading.tests.api.conftest import Asker

pytestmark = pytest.mark.django_db


def body(**changes: Any) -> dict[str, Any]:
    told = {
        "source": "bot",
        "external_id": "s-1",
        "symbol": "BTCUSDT",
        "side": "LONG",
        "score": "0.81",
        "entry_price": "100",
        "stop_price": "99",
        "take_profit_price": "103",
    }
    return {name: value for name, value in (told | changes).items() if value is not ...}


def send(client: Client, **changes: Any) -> Any:
    return client.post("/api/bot/signals", body(**changes), content_type="application/json")


def test_a_signal_is_taken_in_once_and_known_afterwards(asking: Asker, paper_exchange: PaperExchange) -> None:
    client = asking(Scope.SIGNALS_WRITE, Scope.READ)

    first, again = send(client), send(client, score="0.2")

    assert (first.status_code, again.status_code) == (201, 200)
    told = first.json()
    assert told["id"] == again.json()["id"]
    assert Signal.objects.count() == 1
    assert told["symbol"] == "BTC/USDT:USDT"
    assert (told["score"], told["stop_price"], told["status"]) == ("0.81", "99", "OPEN")
    assert client.get(f"/api/bot/signals/{told['id']}").json() == again.json()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"symbol": "NOPEUSDT"}, "UNKNOWN_SYMBOL"),
        ({"symbol": "'; DROP TABLE orders; --"}, "UNKNOWN_SYMBOL"),
        ({"side": "BUY"}, "INVALID"),
        ({"side": ...}, "MISSING"),
        ({"action": "double"}, "INVALID"),
        ({"stop_price": "101"}, "STOP_WRONG_SIDE"),
        ({"side": "SHORT", "take_profit_price": "90"}, "STOP_WRONG_SIDE"),
        ({"take_profit_price": "99.5"}, "TARGET_WRONG_SIDE"),
        ({"stop_price": ...}, "MISSING"),
        ({"stop_price": "NaN"}, "NOT_A_NUMBER"),
        ({"stop_price": float("nan")}, "NOT_A_NUMBER"),
        ({"entry_price": "Infinity"}, "NOT_A_NUMBER"),
        ({"entry_price": "many"}, "NOT_A_NUMBER"),
        ({"entry_price": {"at": "market"}}, "NOT_A_NUMBER"),
        ({"stop_price": "-99"}, "NEGATIVE"),
        ({"stop_price": "0"}, "NEGATIVE"),
        ({"entry_price": "1e30"}, "ABSURD"),
        ({"entry_price": "100.0000000000001"}, "ABSURD"),
        ({"stop_price": "0.01"}, "ABSURD"),
        ({"score": "1.01"}, "SCORE"),
        ({"score": "-0.1"}, "SCORE"),
        ({"score": ...}, "SCORE"),
        ({"created_at": "2020-01-01T00:00:00Z"}, "STALE"),
        ({"created_at": "2099-01-01T00:00:00Z"}, "FUTURE"),
        ({"created_at": "2026-11-20T12:00:00"}, "TIME_ZONE"),
        ({"created_at": "yesterday"}, "INVALID"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "EXPIRED"),
        ({"external_id": ""}, "INVALID"),
        ({"external_id": "x" * 101}, "INVALID"),
        ({"source": ...}, "MISSING"),
        ({"quantity": "1000"}, "UNKNOWN_FIELD"),
    ],
    ids=str,
)
def test_a_bad_signal_is_refused_with_a_code_and_nothing_is_stored(
    asking: Asker, paper_exchange: PaperExchange, changes: dict[str, Any], code: str
) -> None:
    response = send(asking(Scope.SIGNALS_WRITE), **changes)

    assert (response.status_code, response.json()["error"]["code"]) == (422, code)
    assert not Signal.objects.exists()
    assert not SignalSource.objects.exists()


def test_a_paused_source_is_refused(asking: Asker, paper_exchange: PaperExchange) -> None:
    SignalSource.objects.create(name="bot", is_active=False)

    response = send(asking(Scope.SIGNALS_WRITE))

    assert (response.status_code, response.json()["error"]["code"]) == (422, "SOURCE_PAUSED")
    assert not Signal.objects.exists()


def test_a_signal_may_say_when_it_was_made_and_when_it_ends(
    asking: Asker, paper_exchange: PaperExchange
) -> None:
    made = datetime.now(UTC) - timedelta(minutes=1)
    ends = made + timedelta(hours=1)

    told = send(asking(Scope.SIGNALS_WRITE), created_at=made.isoformat(), expires_at=ends.isoformat()).json()

    assert datetime.fromisoformat(told["expires_at"]) - datetime.fromisoformat(
        told["created_at"]
    ) == timedelta(hours=1)


def test_signals_are_listed_newest_first_by_cursor(asking: Asker) -> None:
    for number in range(5):
        rows.signal(f"s-{number}")
    client = asking(Scope.READ)

    first = client.get("/api/bot/signals?limit=3").json()
    rows.signal("came meanwhile")
    second = client.get(f"/api/bot/signals?limit=3&cursor={first['next']}").json()

    assert [item["external_id"] for item in first["items"]] == ["s-4", "s-3", "s-2"]
    assert [item["external_id"] for item in second["items"]] == ["s-1", "s-0"]
    assert second["next"] is None
