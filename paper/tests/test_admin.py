"""Administration: refused by name, with nothing changed, and not within everybody's reach."""

import json
from typing import Any

import pytest

from paper.status_page import named
from paper.tests.conftest import StartServer
from paper.tests.wire import Answer, Wire


def change(server: Wire, path: str, values: Any, **headers: str) -> Answer:
    return server.send("POST", path, json.dumps(values), {"X-Paper-Secret": server.secret} | headers)


BAD_ACCOUNTS: list[dict[str, Any]] = [
    {"deposit": "lots"},
    {"deposit": "1e400"},
    {"deposit": "-10001"},
    {"spot": "BTC"},
    {"spot": {"BTC": "1", "ETH": "many"}},
    {"spot": {"BTC": "-1"}},
    {"permissions": ["enableFutures"]},
    {"permissions": {"enableFutures": "no"}},
    {"dual": "false"},
    {"revoked": 1},
    {"secret": 7},
]


@pytest.mark.parametrize("values", BAD_ACCOUNTS, ids=[json.dumps(values) for values in BAD_ACCOUNTS])
def test_an_account_is_changed_as_a_whole_or_not_at_all(server: Wire, values: dict[str, Any]) -> None:
    key = "admin-known"
    server.signed(key, "GET", "/fapi/v3/account")
    [before] = server.admin("GET", f"/paper/wallets?key={key}")
    rows = len(server.ledger(key))
    answer = change(server, "/paper/account", {"key": key, "deposit": "5", "spot": {"SOL": "5"}} | values)
    assert (answer.status, set(answer.json)) == (400, {"error"})
    assert server.admin("GET", f"/paper/wallets?key={key}") == [before]
    assert len(server.ledger(key)) == rows
    assert change(server, "/paper/account", {"key": "admin-new"} | values).status == 400
    assert server.admin("GET", "/paper/wallets?key=admin-new") == []


@pytest.mark.parametrize("key", ["", "two words", "<b>", "\u0661", "a" * 129])
def test_an_account_has_a_key_that_could_sign(server: Wire, key: str) -> None:
    assert change(server, "/paper/account", {"key": key}).status == 400


@pytest.mark.parametrize("price", ["0", "-1", "NaN", "Infinity", "1e30", "much", [], {}])
def test_a_price_is_held_only_where_a_price_could_be(server: Wire, price: Any) -> None:
    answer = change(server, "/paper/mark", {"symbol": "BTCUSDT", "price": price})
    assert (answer.status, set(answer.json)) == (400, {"error"})
    assert change(server, "/paper/mark", {"symbol": "BTCUSDT", "price": "1", "last": "0"}).status == 400
    assert server.admin("GET", "/paper/status")["marks"]["BTCUSDT"] == "100000.00"


@pytest.mark.parametrize("since", ["-1", "x", "\u00b2", "1.5"])
def test_the_ledger_is_read_from_a_number_on(server: Wire, since: str) -> None:
    query = "%C2%B2" if since == "\u00b2" else since
    headers = {"X-Paper-Secret": server.secret}
    assert server.send("GET", f"/paper/ledger?since={query}", headers=headers).status == 400


def test_a_secret_of_strange_letters_is_wrong_like_any_other(server: Wire) -> None:
    assert server.send("GET", "/paper/status", headers={"X-Paper-Secret": "\u00ff\u00e9"}).status == 401


def test_a_page_of_another_site_cannot_administer(start_server: StartServer) -> None:
    server = start_server("--symbols", "BTCUSDT", "--admin-secret", "")
    host = server.url.removeprefix("http://")
    assert server.send("GET", "/paper/status").status == 200
    assert change(server, "/paper/faults", {"kind": "close_socket"}, Origin="https://evil.test").status == 403
    assert change(server, "/paper/faults", {"kind": "close_socket"}, Origin="null").status == 403
    assert server.admin("GET", "/paper/faults") == []
    assert server.send("GET", "/paper/faults", headers={"Origin": f"http://{host}"}).status == 200


def test_the_page_tells_other_hosts_no_whole_key() -> None:
    """A key that brought no secret is its own secret."""
    assert named("paper-0007", in_full=True) == "paper-0007"
    assert named("paper-0007", in_full=False) == "pape\N{HORIZONTAL ELLIPSIS}"
