import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from paper.streams import QUEUE_LENGTH, Connection, read_path
from paper.tests.wire import Wire


@asynccontextmanager
async def connected(server: Wire, path: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with aiohttp.ClientSession() as session, session.ws_connect(server.url + path) as socket:
        yield socket


async def receive(socket: aiohttp.ClientWebSocketResponse) -> Any:
    return json.loads(await socket.receive_str(timeout=5))


def listen_key(server: Wire, key: str) -> str:
    answer = server.send("POST", "/fapi/v1/listenKey", headers={"X-MBX-APIKEY": key})
    return str(answer.json["listenKey"])


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("/ws", "", (False, [], "")),
        ("/ws/btcusdt@markPrice", "", (False, ["btcusdt@markPrice"], "")),
        ("/market/ws/0", "", (False, [], "")),
        ("/private/ws/abc", "", (False, [], "abc")),
        ("/private/ws", "listenKey=abc", (False, [], "abc")),
        ("/private/stream", "streams=abc", (True, [], "abc")),
        ("/stream", "streams=a@trade/!markPrice@arr", (True, ["a@trade", "!markPrice@arr"], "")),
        ("/market/stream", "streams=a@kline_1m", (True, ["a@kline_1m"], "")),
    ],
)
def test_every_form_of_address_is_understood(
    path: str, query: str, expected: tuple[bool, list[str], str]
) -> None:
    assert read_path(path, query)[:3] == expected


async def test_a_subscription_is_acknowledged_and_fed(server: Wire) -> None:
    async with connected(server, "/market/ws/0") as socket:
        await socket.send_json({"method": "SUBSCRIBE", "params": ["btcusdt@markPrice@1s"], "id": 7})
        answer, mark = await receive(socket), await receive(socket)
        assert answer == {"result": None, "id": 7}
        assert (mark["e"], mark["s"], mark["p"]) == ("markPriceUpdate", "BTCUSDT", "100000.00000000")
        server.pin("BTCUSDT", "100100")
        told = [(await receive(socket))["p"] for _ in range(2)]
        assert told[-1] == "100100.00000000"


MARK = "e E s p ap P i r T st ps"
DAY = "e E s c o h l v q"
DEPTH = "e E T s U u pu b a"
STREAMS = {
    "btcusdt@markPrice": ("markPriceUpdate", MARK),
    "btcusdt@markPrice@1s": ("markPriceUpdate", MARK),
    "btcusdt@miniTicker": ("24hrMiniTicker", DAY),
    "btcusdt@ticker": ("24hrTicker", f"{DAY} p P w Q b B a A O C F L n"),
    "btcusdt@bookTicker": ("bookTicker", "e E T s u b B a A"),
    "btcusdt@trade": ("trade", "e E T s p q m t X"),
    "btcusdt@aggTrade": ("aggTrade", "e E T s p q nq m a f l"),
    "btcusdt@kline_1m": ("kline", "e E s k"),
    "btcusdt_perpetual@continuousKline_1m": ("continuous_kline", "e E ps ct k"),
    "btcusdt@depth": ("depthUpdate", DEPTH),
    "btcusdt@depth@100ms": ("depthUpdate", DEPTH),
    "btcusdt@depth5": ("depthUpdate", DEPTH),
    "btcusdt@depth10@250ms": ("depthUpdate", DEPTH),
    "btcusdt@depth20@500ms": ("depthUpdate", DEPTH),
    "!bookTicker": ("bookTicker", "e E T s u b B a A"),
    "!markPrice@arr": ("markPriceUpdate", MARK),
    "!markPrice@arr@1s": ("markPriceUpdate", MARK),
    "!miniTicker@arr": ("24hrMiniTicker", DAY),
    "!ticker@arr": ("24hrTicker", f"{DAY} p P w Q b B a A O C F L n"),
}


@pytest.mark.parametrize("name", STREAMS)
async def test_every_stream_of_the_contract_says_what_it_promises(server: Wire, name: str) -> None:
    event, names = STREAMS[name]
    async with connected(server, "/market/ws/0") as socket:
        await socket.send_json({"method": "SUBSCRIBE", "params": [name], "id": 1})
        assert await receive(socket) == {"result": None, "id": 1}
        server.pin("BTCUSDT", "100100")
        told = await receive(socket)
    rows = told if "@arr" in name else [told]
    assert [(row["e"], set(row)) for row in rows] == [(event, set(names.split()))] * len(rows)
    assert name == "!bookTicker" or "BTCUSDT" in {row.get("s", row.get("ps")) for row in rows}


async def test_combined_streams_name_their_stream(server: Wire) -> None:
    async with connected(server, "/stream?streams=!markPrice@arr/btcusdt@bookTicker") as socket:
        messages = [await receive(socket) for _ in range(4)]
        by_name = {message["stream"]: message["data"] for message in messages}
        assert {row["s"] for row in by_name["!markPrice@arr"]} >= {"BTCUSDT", "SOLUSDT"}
        assert (by_name["btcusdt@bookTicker"]["b"], by_name["btcusdt@bookTicker"]["a"]) == (
            "99995.00",
            "100005.00",
        )


async def test_malformed_frames_are_answered_and_harm_nobody(server: Wire) -> None:
    async with connected(server, "/ws") as socket:
        for text in ("{", "[]", '{"method": "SUBSCRIBE", "params": "x"}', '{"method": "DANCE", "id": 1}'):
            await socket.send_str(text)
            assert "error" in await receive(socket)
        await socket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 2})
        assert await receive(socket) == {"result": [], "id": 2}


async def test_a_firing_stop_is_told_in_the_exchanges_order(server: Wire) -> None:
    key = "stream-stop"
    server.signed(key, "GET", "/fapi/v3/account")
    async with connected(server, f"/private/ws?listenKey={listen_key(server, key)}") as socket:
        server.market(key, "BUY", "0.01")
        server.stop_order(key, "99000", clientAlgoId="guard")
        server.pin("BTCUSDT", "98000")
        told = []
        messages = [await receive(socket) for _ in range(10)]
        for message in messages:
            shown = message.get("o", message.get("a"))
            told.append((message["e"], shown.get("x") or shown.get("X") or shown.get("m")))
        assert told == [
            ("ORDER_TRADE_UPDATE", "NEW"),
            ("ORDER_TRADE_UPDATE", "TRADE"),
            ("ACCOUNT_UPDATE", "ORDER"),
            ("ALGO_UPDATE", "NEW"),
            ("ALGO_UPDATE", "TRIGGERING"),
            ("ALGO_UPDATE", "TRIGGERED"),
            ("ORDER_TRADE_UPDATE", "NEW"),
            ("ORDER_TRADE_UPDATE", "TRADE"),
            ("ACCOUNT_UPDATE", "ORDER"),
            ("ALGO_UPDATE", "FINISHED"),
        ]
        assert messages[-2]["a"]["P"][0]["pa"] == "0"


async def test_user_streams_carry_only_their_own_account_and_the_events_asked_for(server: Wire) -> None:
    server.signed("stream-mine", "GET", "/fapi/v3/account")
    address = f"/private/ws?listenKey={listen_key(server, 'stream-mine')}&events=ACCOUNT_UPDATE"
    async with connected(server, address) as socket:
        server.market("stream-other", "BUY", "0.01")
        server.market("stream-mine", "BUY", "0.01")
        message = await receive(socket)
        assert (message["e"], message["a"]["P"][0]["pa"]) == ("ACCOUNT_UPDATE", "0.01")
        with pytest.raises(asyncio.TimeoutError):
            await socket.receive_str(timeout=0.2)


async def test_an_ended_listen_key_is_told_and_cannot_be_extended(server: Wire) -> None:
    key = "stream-key"
    headers = {"X-MBX-APIKEY": key}
    first = listen_key(server, key)
    assert listen_key(server, key) == first
    assert server.send("PUT", "/fapi/v1/listenKey", headers=headers).status == 200
    async with connected(server, f"/private/ws/{first}") as socket:
        server.admin("POST", "/paper/faults", kind="expire_listen_key", account=key)
        message = await receive(socket)
        assert (message["e"], message["listenKey"]) == ("listenKeyExpired", first)
    assert server.send("PUT", "/fapi/v1/listenKey", headers=headers).code == -1125
    assert listen_key(server, key) != first


async def test_events_can_be_hidden_and_doubled(server: Wire) -> None:
    key = "stream-fault"
    server.signed(key, "GET", "/fapi/v3/account")
    rules = [
        {"kind": "hide_event", "account": key, "event": "ORDER_TRADE_UPDATE", "count": 0},
        {"kind": "duplicate_event", "account": key, "event": "ACCOUNT_UPDATE"},
    ]
    async with connected(server, f"/private/ws?listenKey={listen_key(server, key)}") as socket:
        server.admin("POST", "/paper/faults", rules=rules)
        server.market(key, "BUY", "0.01")
        assert [(await receive(socket))["e"] for _ in range(2)] == ["ACCOUNT_UPDATE"] * 2


async def test_orders_can_be_placed_over_the_websocket_api(server: Wire) -> None:
    params = {
        "apiKey": "stream-api", "newOrderRespType": "RESULT", "quantity": "0.01", "side": "BUY",
        "symbol": "BTCUSDT", "timestamp": int(time.time() * 1000), "type": "MARKET",
    }  # fmt: skip
    text = "&".join(f"{name}={params[name]}" for name in sorted(params))
    signature = hmac.new(b"stream-api", text.encode(), hashlib.sha256).hexdigest()
    async with connected(server, "/ws-fapi/v1") as socket:
        await socket.send_json(
            {"id": "a", "method": "order.place", "params": params | {"signature": signature}}
        )
        answer = await receive(socket)
        assert (answer["id"], answer["status"], answer["result"]["status"]) == ("a", 200, "FILLED")
        await socket.send_json({"id": "b", "method": "order.place", "params": params | {"signature": "00"}})
        answer = await receive(socket)
        assert (answer["status"], answer["error"]["code"]) == (400, -1022)
    assert sum(row["kind"] == "FILL" for row in server.ledger("stream-api")) == 1


async def test_a_reader_that_stops_reading_is_cut_off_and_nobody_waits_for_it() -> None:
    aborted: list[bool] = []

    class Transport(asyncio.WriteTransport):
        def abort(self) -> None:
            aborted.append(True)

    transport = Transport()
    connection = Connection(web.WebSocketResponse(), combined=False, transport=transport)
    for _ in range(QUEUE_LENGTH):
        connection.send(b"{}")
    assert aborted == []
    connection.send(b"{}")
    assert aborted == [True]
    assert connection.queue.get_nowait() is None
