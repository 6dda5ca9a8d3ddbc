"""The twenty fault switches of the contract, by their numbers, with and without the request applied."""

import asyncio
import json
import time
from contextlib import suppress
from http.client import RemoteDisconnected
from typing import Any

import aiohttp
import pytest

from paper.tests.conftest import StartServer
from paper.tests.wire import Wire

ORDER = "POST /fapi/v1/order"
BOTH_WAYS = pytest.mark.parametrize("applied", [True, False])
UNKNOWN = "Unknown error, please check your request or try again later."
THROTTLED = "Request throttled by system-level protection. Reduce-only/close-position orders are exempt."


def fault(server: Wire, key: str, kind: str, **values: Any) -> None:
    server.admin("POST", "/paper/faults", kind=kind, account=key, **values)


def filled(server: Wire, key: str) -> str:
    """What the ledger says was executed."""
    rows = [row for row in server.ledger(key) if row["kind"] == "FILL"]
    return f"{sum(float(row['quantity']) for row in rows):.3f}"


def rest(server: Wire, key: str, client_id: str = "rest") -> Any:
    words = {"side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.01", "price": "99000"}
    path = "/fapi/v1/order"
    return server.signed(key, "POST", path, symbol="BTCUSDT", newClientOrderId=client_id, **words).json


def order_status(server: Wire, key: str, client_id: str = "rest") -> Any:
    asked = {"symbol": "BTCUSDT", "origClientOrderId": client_id}
    return server.signed(key, "GET", "/fapi/v1/order", **asked).json.get("status")


def algo_status(server: Wire, key: str) -> Any:
    return server.signed(key, "GET", "/fapi/v1/algoOrder", clientAlgoId="guard").json.get("algoStatus")


ANSWERS = {
    "1-timeout": (408, -1007, "Timeout waiting for response from backend server.", None),
    "2-unknown": (503, -1000, UNKNOWN, None),
    "2-unavailable": (503, 0, "", "Service Unavailable."),
    "2-internal": (503, -1001, "Internal error; unable to process your request. Please try again.", None),
    "3-gateway-timeout": (504, 0, "", "<html>Gateway Time-out</html>"),
    "3-bad-gateway": (502, 0, "", "<html>Bad Gateway</html>"),
    "8-too-many": (429, -1003, "Too many requests", None),
    "8-banned": (418, -1003, "Way too many requests; IP banned", None),
}


@BOTH_WAYS
@pytest.mark.parametrize("name", ANSWERS)
def test_switches_1_2_3_8_answer_with_an_error(server: Wire, name: str, applied: bool) -> None:
    key = f"switch-{name}-{applied}"
    status, code, message, body = ANSWERS[name]
    words = {"status": status, "code": code, "message": message, "body": body, "apply": applied}
    fault(server, key, "http", endpoint=ORDER, **words)
    answer = server.market(key, "BUY", "0.01")
    assert answer.status == status
    assert answer.text == body if body else answer.code == code
    assert filled(server, key) == ("0.010" if applied else "0.000")
    assert server.market(key, "BUY", "0.01").status == 200


def test_switch_2_spares_what_reduces(server: Wire) -> None:
    key = "switch-2-spared"
    server.market(key, "BUY", "0.01")
    words = {"status": 503, "code": -1008, "message": THROTTLED, "count": 0}
    fault(server, key, "http", endpoint="POST /fapi/v1/*", spares_reducing=True, **words)
    assert server.market(key, "BUY", "0.01").code == -1008
    assert server.stop_order(key, "95000").status == 200
    assert server.market(key, "SELL", "0.01", reduceOnly="true").json["status"] == "FILLED"


@pytest.mark.parametrize("seconds", [7, None])
def test_switch_8_comes_with_and_without_a_time_to_return(server: Wire, seconds: int | None) -> None:
    key = f"switch-8-{seconds}"
    fault(server, key, "http", endpoint=ORDER, status=429, code=-1003, retry_after=seconds)
    assert server.market(key, "BUY", "0.01").headers.get("retry-after") == (str(seconds) if seconds else None)


@BOTH_WAYS
def test_switch_4_closes_the_connection(server: Wire, applied: bool) -> None:
    key = f"switch-4-{applied}"
    fault(server, key, "close_socket", endpoint=ORDER, apply=applied)
    with pytest.raises((RemoteDisconnected, ConnectionResetError)):
        server.market(key, "BUY", "0.01")
    assert filled(server, key) == ("0.010" if applied else "0.000")


@BOTH_WAYS
@pytest.mark.parametrize("kind", ["truncate_body", "empty_body"])
def test_switch_5_spoils_a_body_of_status_200(server: Wire, kind: str, applied: bool) -> None:
    key = f"switch-5-{kind}-{applied}"
    fault(server, key, kind, endpoint=ORDER, apply=applied)
    answer = server.market(key, "BUY", "0.01")
    assert (answer.status, answer.text.endswith("}")) == (200, False)
    assert filled(server, key) == ("0.010" if applied else "0.000")


@BOTH_WAYS
def test_switch_6_answers_after_the_client_gave_up(server: Wire, applied: bool) -> None:
    key = f"switch-6-{applied}"
    fault(server, key, "delay", endpoint=ORDER, seconds=0.4, apply=applied, status=504)
    began = time.monotonic()
    answer = server.market(key, "BUY", "0.01")
    assert time.monotonic() - began >= 0.4
    assert answer.status == (200 if applied else 504)
    assert filled(server, key) == ("0.010" if applied else "0.000")


def test_switch_7_hides_a_fresh_order_for_a_while(server: Wire) -> None:
    key = "switch-7"
    fault(server, key, "lookup_not_found", seconds=2, count=0)
    rest(server, key)
    assert order_status(server, key) is None
    time.sleep(2.05)
    assert order_status(server, key) == "NEW"


def test_switch_9_sets_the_servers_clock_ahead(server: Wire) -> None:
    key = "switch-9"
    fault(server, key, "clock_skew", seconds=30)
    assert server.market(key, "BUY", "0.01").code == -1021
    assert filled(server, key) == "0.000"
    assert server.market(key, "BUY", "0.01").status == 200


def test_switch_10_fills_a_part_and_lets_the_rest_expire(server: Wire) -> None:
    fault(server, "switch-10", "partial", fraction="0.4")
    placed = server.market("switch-10", "BUY", "0.1").json
    assert (placed["status"], placed["executedQty"]) == ("EXPIRED", "0.040")


@pytest.mark.parametrize("path", ["/fapi/v1/order", "/api/v3/order"])
def test_switch_11_acknowledges_and_fills_later(server: Wire, path: str) -> None:
    key = f"switch-11-{path[1]}"
    fault(server, key, "late_fill", seconds=2)
    words = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.01"}
    placed = server.signed(key, "POST", path, newClientOrderId="late", newOrderRespType="RESULT", **words)
    assert (placed.json["status"], filled(server, key)) == ("NEW", "0.000")
    end = time.monotonic() + 20
    while filled(server, key) != "0.010":
        assert time.monotonic() < end
        time.sleep(0.05)


def test_switch_12_and_17_are_how_it_always_is(server: Wire) -> None:
    placed = [server.market("switch-17", "BUY", "0.01", newClientOrderId="same") for _ in range(2)]
    assert [answer.json["status"] for answer in placed] == ["FILLED", "FILLED"]
    assert "avgPrice" not in placed[0].json
    assert filled(server, "switch-17") == "0.020"


def test_switch_13_lets_a_stop_slip(server: Wire) -> None:
    key = "switch-13"
    server.market(key, "BUY", "0.01")
    server.stop_order(key, "99000", clientAlgoId="guard")
    fault(server, key, "slippage", bps=100)
    server.pin("BTCUSDT", "99000")
    last = [row for row in server.ledger(key) if row["kind"] == "FILL"][-1]
    assert last["price"] == "98005.0"  # 99000 less one percent, less half the spread, on the tick


def test_switch_13_beyond_the_bound_leaves_the_position_open(server: Wire) -> None:
    key = "switch-13-open"
    server.market(key, "BUY", "0.01")
    server.stop_order(key, "99000", clientAlgoId="guard")
    fault(server, key, "slippage", bps=900)
    server.pin("BTCUSDT", "99000")
    assert (algo_status(server, key), filled(server, key)) == ("REJECTED", "0.010")


def test_switch_14_refuses_at_the_trigger(server: Wire) -> None:
    key = "switch-14"
    server.market(key, "BUY", "0.01")
    server.stop_order(key, "99000", clientAlgoId="guard")
    fault(server, key, "reject_trigger")
    server.pin("BTCUSDT", "98000")
    assert (algo_status(server, key), filled(server, key)) == ("REJECTED", "0.010")


def test_switch_15_hides_a_listed_stop_from_its_lookup(server: Wire) -> None:
    key = "switch-15"
    fault(server, key, "lookup_not_found", endpoint="GET /fapi/v1/algoOrder", seconds=30)
    server.stop_order(key, "90000", clientAlgoId="guard")
    assert server.signed(key, "GET", "/fapi/v1/algoOrder", clientAlgoId="guard").code == -2013
    listed = server.signed(key, "GET", "/fapi/v1/openAlgoOrders").json
    assert [row["clientAlgoId"] for row in listed] == ["guard"]


STREAM_FAULTS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "silent": ({"kind": "hide_event", "count": 0}, []),
    "dropped": ({"kind": "hide_event", "event": "ACCOUNT_UPDATE"}, ["ORDER", "ORDER"]),
    "duplicated": (
        {"kind": "duplicate_event", "event": "ACCOUNT_UPDATE"},
        ["ORDER", "ORDER", "ACCOUNT", "ACCOUNT"],
    ),
    "reordered": ({"kind": "reorder_event", "event": "ORDER_TRADE_UPDATE", "count": 1}, ["ORDER"]),
}


@pytest.mark.parametrize("name", STREAM_FAULTS)
async def test_switch_16_spoils_the_user_stream(server: Wire, name: str) -> None:
    key, (rule, expected) = f"switch-16-{name}", STREAM_FAULTS[name]
    listen = server.send("POST", "/fapi/v1/listenKey", headers={"X-MBX-APIKEY": key}).json["listenKey"]
    server.admin("POST", "/paper/faults", account=key, **rule)
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{server.url}/private/ws/{listen}") as socket,
    ):
        await asyncio.to_thread(server.market, key, "BUY", "0.01")
        told = []
        with suppress(TimeoutError):  # quiet: everything was told
            while True:
                told.append(json.loads(await socket.receive_str(timeout=0.5)))
    if name == "reordered":
        assert [event["o"]["x"] for event in told if "o" in event] == ["TRADE", "NEW"]
    else:
        assert [event["e"].partition("_")[0] for event in told] == expected


async def test_switch_16_ends_a_listen_key(server: Wire) -> None:
    key = "switch-16-expired"
    listen = server.send("POST", "/fapi/v1/listenKey", headers={"X-MBX-APIKEY": key}).json["listenKey"]
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{server.url}/private/ws/{listen}") as socket,
    ):
        fault(server, key, "expire_listen_key")
        event = json.loads(await socket.receive_str(timeout=2))
        assert (event["e"], event["listenKey"]) == ("listenKeyExpired", listen)
        server.send("POST", "/fapi/v1/listenKey", headers={"X-MBX-APIKEY": key})
        server.market(key, "BUY", "0.01")
        with pytest.raises(TimeoutError):
            await socket.receive_str(timeout=0.3)
    assert server.send("PUT", "/fapi/v1/listenKey", headers={"X-MBX-APIKEY": f"{key}-2"}).code == -1125


@BOTH_WAYS
def test_switch_18_fires_a_stop_while_it_is_cancelled(server: Wire, applied: bool) -> None:
    key = f"switch-18-{applied}"
    server.market(key, "BUY", "0.01")
    server.stop_order(key, "95000", clientAlgoId="guard")
    fault(server, key, "cancel_race", apply=applied)
    assert server.signed(key, "DELETE", "/fapi/v1/algoOrder", clientAlgoId="guard").code == -4117
    assert algo_status(server, key) == ("FINISHED" if applied else "NEW")
    assert filled(server, key) == ("0.020" if applied else "0.010")


@BOTH_WAYS
def test_switch_19_fills_an_order_while_it_is_cancelled(server: Wire, applied: bool) -> None:
    key = f"switch-19-{applied}"
    rest(server, key)
    fault(server, key, "cancel_race", apply=applied)
    cancel = server.signed(key, "DELETE", "/fapi/v1/order", symbol="BTCUSDT", origClientOrderId="rest")
    assert cancel.code == -2011
    assert order_status(server, key) == ("FILLED" if applied else "NEW")
    assert filled(server, key) == ("0.010" if applied else "0.000")


@pytest.mark.parametrize("dual", [True, False])
def test_switch_20_finds_an_account_not_as_it_was_left(server: Wire, dual: bool) -> None:
    key = f"switch-20-{dual}"
    held = {"foreign_position": "-0.02", "foreign_order": "0.01"}
    modes = {"dual": dual, "margin_type": "ISOLATED", "leverage": 7}
    fault(server, key, "mismatch", symbol="BTCUSDT", **modes, **held)
    found = server.signed(key, "GET", "/fapi/v1/symbolConfig", symbol="BTCUSDT").json[0]
    assert (found["marginType"], found["leverage"]) == ("ISOLATED", 7)
    mode = server.signed(key, "GET", "/fapi/v1/positionSide/dual").json
    assert mode == {"dualSidePosition": dual}
    [order] = server.signed(key, "GET", "/fapi/v1/openOrders").json
    assert (order["clientOrderId"], order["origQty"]) == ("foreign-order", "0.010")
    positions = server.signed(key, "GET", "/fapi/v3/positionRisk").json
    assert {(row["positionSide"], row["positionAmt"]) for row in positions} >= {
        ("SHORT" if dual else "BOTH", "-0.020")
    }


@BOTH_WAYS
@pytest.mark.parametrize("kind", ["http", "close_socket", "empty_body"])
async def test_requests_over_the_websocket_api_are_met_alike(server: Wire, kind: str, applied: bool) -> None:
    key = f"switch-ws-{kind}-{applied}"
    fault(server, key, kind, endpoint=ORDER, apply=applied, status=503, code=-1000)
    words = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.01"}
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{server.url}/ws-fapi/v1") as socket,
    ):
        await socket.send_json(
            {"id": 1, "method": "order.place", "params": server.signed_params(key, **words)}
        )
        if kind == "http":
            answer = json.loads(await socket.receive_str(timeout=2))
            assert (answer["status"], answer["error"]["code"]) == (503, -1000)
        elif kind == "close_socket":
            assert (await socket.receive(timeout=2)).type in {
                aiohttp.WSMsgType.CLOSE,
                aiohttp.WSMsgType.CLOSED,
            }
        else:
            with pytest.raises(TimeoutError):
                await socket.receive_str(timeout=0.3)
    assert filled(server, key) == ("0.010" if applied else "0.000")


def test_probabilities_are_seeded(start_server: StartServer) -> None:
    told = []
    for _ in range(2):
        server = start_server("--symbols", "BTCUSDT", "--fault-seed", "3")
        rule = {"kind": "http", "endpoint": "GET /fapi/v1/ping", "status": 502, "body": "x"}
        server.admin("POST", "/paper/faults", **rule, probability=0.5, count=0)
        told.append([server.send("GET", "/fapi/v1/ping").status for _ in range(24)])
    assert told[0] == told[1]
    assert set(told[0]) == {200, 502}


def test_a_file_of_rules_is_active_from_the_start(start_server: StartServer, tmp_path: Any) -> None:
    rules = tmp_path / "faults.json"
    rules.write_text(
        '{"rules": [{"kind": "http", "endpoint": "GET /fapi/v1/ping", "status": 502, "body": "x"}]}'
    )
    server = start_server("--symbols", "BTCUSDT", "--faults", str(rules))
    assert [server.send("GET", "/fapi/v1/ping").status for _ in range(2)] == [502, 200]
    rules.write_text('[{"kind": "gremlin"}]')
    with pytest.raises(pytest.fail.Exception, match="did not start"):
        start_server("--symbols", "BTCUSDT", "--faults", str(rules))
