"""What a key is not allowed to do, it cannot do, on every way in."""

import json
from typing import Any

import aiohttp
import pytest

from paper.tests.wire import Wire

MARKET = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.01"}
STOP = {"symbol": "BTCUSDT", "side": "SELL", "type": "STOP_MARKET", "algoType": "CONDITIONAL"}
FUTURES_ACTIONS: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/fapi/v1/order", MARKET),
    ("POST", "/fapi/v1/order/test", MARKET),
    ("PUT", "/fapi/v1/order", {"symbol": "BTCUSDT", "orderId": 1, "side": "BUY", "quantity": 1, "price": 1}),
    ("DELETE", "/fapi/v1/order", {"symbol": "BTCUSDT", "orderId": 1}),
    ("POST", "/fapi/v1/batchOrders", {"batchOrders": json.dumps([MARKET])}),
    ("DELETE", "/fapi/v1/allOpenOrders", {"symbol": "BTCUSDT"}),
    ("POST", "/fapi/v1/countdownCancelAll", {"symbol": "BTCUSDT", "countdownTime": 1000}),
    ("POST", "/fapi/v1/algoOrder", STOP | {"triggerPrice": "90000", "closePosition": "true"}),
    ("DELETE", "/fapi/v1/algoOpenOrders", {"symbol": "BTCUSDT"}),
    ("POST", "/fapi/v1/leverage", {"symbol": "BTCUSDT", "leverage": 5}),
    ("POST", "/fapi/v1/marginType", {"symbol": "BTCUSDT", "marginType": "ISOLATED"}),
    ("POST", "/fapi/v1/positionSide/dual", {"dualSidePosition": "true"}),
]
READS = ["/fapi/v3/account", "/fapi/v3/positionRisk", "/fapi/v1/openOrders", "/fapi/v1/income"]


def forbid(server: Wire, key: str, permission: str) -> None:
    server.admin("POST", "/paper/account", key=key, permissions={permission: False})


def changes(server: Wire, key: str) -> set[str]:
    return {row["kind"] for row in server.ledger(key)} - {"DEPOSIT"}


@pytest.mark.parametrize(("method", "path", "words"), FUTURES_ACTIONS)
def test_a_key_without_futures_changes_nothing_there(
    server: Wire, method: str, path: str, words: dict[str, Any]
) -> None:
    key = "allowed-no-futures"
    forbid(server, key, "enableFutures")
    answer = server.signed(key, method, path, **words)
    assert (answer.status, answer.json) == (
        401,
        {"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."},
    )
    assert changes(server, key) == set()


def test_a_key_without_futures_may_look_and_listen(server: Wire) -> None:
    key = "allowed-reading"
    forbid(server, key, "enableFutures")
    assert [server.signed(key, "GET", path).status for path in READS] == [200] * len(READS)
    assert server.send("POST", "/fapi/v1/listenKey", headers={"X-MBX-APIKEY": key}).status == 200
    assert server.signed(key, "POST", "/api/v3/order", **MARKET).json["status"] == "FILLED"


def test_a_key_without_spot_trading_orders_nothing_there(server: Wire) -> None:
    key = "allowed-no-spot"
    forbid(server, key, "enableSpotAndMarginTrading")
    answer = server.signed(key, "POST", "/api/v3/order", **MARKET)
    assert (answer.status, answer.code, changes(server, key)) == (401, -2015, set())
    assert server.signed(key, "GET", "/api/v3/account").json["canTrade"] is False
    assert server.market(key, "BUY", "0.01").json["status"] == "FILLED"


async def test_the_websocket_api_is_no_way_around(server: Wire) -> None:
    key = "allowed-no-socket"
    forbid(server, key, "enableFutures")
    params = server.signed_params(key, **MARKET)
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{server.url}/ws-fapi/v1") as socket,
    ):
        await socket.send_json({"id": 1, "method": "order.place", "params": params})
        answer = json.loads(await socket.receive_str(timeout=3))
    assert (answer["status"], answer["error"]["code"]) == (401, -2015)
    assert changes(server, key) == set()
