"""What no route takes: text no database stores, and times no calendar holds."""

from base64 import urlsafe_b64encode
from typing import Any

import pytest

from accounts.models import AccountGroup, LimitOverride
from tests.processes import PaperExchange
from trading.models import Halt, Signal
from trading.services.tokens import Scope
from trading.tests.api.conftest import Asker

pytestmark = pytest.mark.django_db

FILTERS = (
    "signals?status=",
    "signals?source=",
    "decisions?status=",
    "positions?account=",
    "positions?symbol=",
    "orders?status=",
    "orders?account=",
    "orders?symbol=",
    "orders?purpose=",
    "stats?account=",
    "stats?symbol=",
    "stats?source=",
    "equity?account=",
)
NUL = "bot\0"


@pytest.mark.parametrize("path", FILTERS)
def test_a_filter_with_a_nul_character_is_refused(asking: Asker, path: str) -> None:
    client = asking(Scope.READ)
    assert client.get(f"/api/bot/{path}%00").status_code == 422
    assert client.get(f"/api/bot/{path}bot%00bot%0A").status_code == 422
    assert client.get(f"/api/bot/{path}bot%0A").status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("emergency-stop", {"scope": f"account:{NUL}", "level": "FLATTEN", "reason": "drill"}),
        ("emergency-stop", {"scope": "desk", "level": "FLATTEN", "reason": NUL}),
        ("resume", {"scope": "desk", "reason": NUL}),
        ("multi-account/api-keys", {"name": NUL, "api_key": "k", "api_secret": "s"}),
        ("multi-account/api-keys", {"name": "n", "api_key": "k", "api_secret": "s", "group": NUL}),
        ("multi-account/api-keys", {"name": "n", "api_key": "k", "api_secret": "s", "exchange": NUL}),
        ("multi-account/api-keys", {"name": "n", "api_key": NUL, "api_secret": "s"}),
    ],
    ids=str,
)
def test_a_body_with_a_nul_character_is_refused_and_changes_nothing(
    asking: Asker, path: str, body: dict[str, Any]
) -> None:
    client = asking(Scope.TRADE, Scope.ADMIN)
    assert client.post(f"/api/bot/{path}", body, content_type="application/json").status_code == 422
    assert not Halt.objects.exists()


@pytest.mark.parametrize("route", ["equity", "stats"])
@pytest.mark.parametrize(
    "asked",
    [
        "until=0001-01-01T00:00:00Z",
        "since=0001-01-01T00:00:00%2B05:00",
        "until=9999-12-31T23:59:59-05:00",
        "since=1969-12-31T23:59:59Z",
        "until=2199-12-31T23:59:59-12:00",
    ],
)
def test_a_time_beyond_every_record_is_refused(asking: Asker, route: str, asked: str) -> None:
    assert asking(Scope.READ).get(f"/api/bot/{route}?{asked}").status_code == 422


def test_the_widest_period_that_may_be_asked_about_is_answered(asking: Asker) -> None:
    asked = "since=1970-01-01T00:00:00Z&until=2200-01-01T00:00:00%2B12:00"
    assert asking(Scope.READ).get(f"/api/bot/equity?{asked}").status_code == 200


def test_a_signal_that_ends_beyond_the_calendar_is_refused_and_the_list_still_answers(
    asking: Asker, paper_exchange: PaperExchange
) -> None:
    client = asking(Scope.SIGNALS_WRITE, Scope.READ)
    told = {"source": "bot", "external_id": "end", "symbol": "BTCUSDT", "side": "LONG", "action": "close"}
    for ends in ("9999-12-31T23:59:59-05:00", "9999-12-31T00:00:00Z"):
        answer = client.post("/api/bot/signals", told | {"expires_at": ends}, content_type="application/json")
        assert answer.status_code == 422
    assert not Signal.objects.exists()
    assert client.get("/api/bot/signals").json()["items"] == []


@pytest.mark.parametrize("number", ["9" * 40, "-1"], ids=str)
def test_a_cursor_beyond_every_row_is_no_crash(asking: Asker, number: str) -> None:
    cursor = urlsafe_b64encode(f"after:{number}".encode()).decode()
    assert asking(Scope.READ).get(f"/api/bot/signals?cursor={cursor}").status_code == 200


def test_a_body_that_is_too_large_is_refused_as_that(asking: Asker) -> None:
    body = {"source": "x" * 3_000_000}
    answer = asking(Scope.SIGNALS_WRITE).post("/api/bot/signals", body, content_type="application/json")
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "TOO_LARGE")
    assert not Signal.objects.exists()


@pytest.mark.parametrize("path", ["groups/%00/limits/max_positions", "groups/calm/limits/%00"])
def test_a_path_with_a_nul_character_is_refused(asking: Asker, path: str) -> None:
    AccountGroup.objects.create(name="calm")
    body = {"value": "5"}
    answer = asking(Scope.ADMIN).put(f"/api/bot/multi-account/{path}", body, content_type="application/json")
    assert answer.status_code in {404, 422}


@pytest.mark.parametrize("name", ["nope", "x" * 300])
def test_a_limit_that_does_not_exist_is_refused_by_name_however_long_it_is(asking: Asker, name: str) -> None:
    body = {"value": "5"}
    answer = asking(Scope.ADMIN).put(f"/api/bot/limits/{name}", body, content_type="application/json")
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "BAD_LIMIT")
    assert not LimitOverride.objects.exists()


@pytest.mark.usefixtures("paper_exchange")
def test_a_source_of_blanks_has_no_name(asking: Asker) -> None:
    body = {"source": " ", "external_id": "1", "symbol": "BTCUSDT", "side": "LONG", "action": "close"}
    answer = asking(Scope.SIGNALS_WRITE).post("/api/bot/signals", body, content_type="application/json")
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "SOURCE")
    assert not Signal.objects.exists()
