"""What user streams and the rarer market streams say."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import aiohttp

from paper.tests.wire import Wire


@asynccontextmanager
async def listening(server: Wire, path: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with aiohttp.ClientSession() as session, session.ws_connect(server.url + path) as socket:
        yield socket


async def heard(socket: aiohttp.ClientWebSocketResponse, seconds: float = 0.4) -> list[Any]:
    """Everything that arrives until it is quiet."""
    told = []
    try:
        while True:
            told.append(json.loads(await socket.receive_str(timeout=seconds)))
    except TimeoutError:
        return told


async def user_events(server: Wire, key: str, act: Any, query: str = "") -> list[Any]:
    server.signed(key, "GET", "/fapi/v3/account")
    listen = server.send("POST", "/fapi/v1/listenKey", headers={"X-MBX-APIKEY": key}).json["listenKey"]
    async with listening(server, f"/private/ws?listenKey={listen}{query}") as socket:
        await asyncio.to_thread(act)
        return await heard(socket)


async def test_settings_are_told_as_configuration(server: Wire) -> None:
    key = "told-config"

    def act() -> None:
        server.signed(key, "POST", "/fapi/v1/leverage", symbol="BTCUSDT", leverage=7)
        server.signed(key, "POST", "/fapi/v1/multiAssetsMargin", multiAssetsMargin="true")
        again = server.signed(key, "POST", "/fapi/v1/multiAssetsMargin", multiAssetsMargin="true")
        assert again.code == -4171

    told = await user_events(server, key, act)
    assert [event["e"] for event in told] == ["ACCOUNT_CONFIG_UPDATE"] * 2
    assert (told[0]["ac"], told[1]["ai"]) == ({"s": "BTCUSDT", "l": 7}, {"j": True})


async def test_the_short_fill_comes_first_and_only_when_asked_for(server: Wire) -> None:
    key = "told-lite"
    told = await user_events(
        server,
        key,
        lambda: server.market(key, "BUY", "0.01", newClientOrderId="one"),
        "&events=TRADE_LITE/ORDER_TRADE_UPDATE",
    )
    assert [event["e"] for event in told] == ["ORDER_TRADE_UPDATE", "TRADE_LITE", "ORDER_TRADE_UPDATE"]
    lite, full = told[1], told[2]["o"]
    assert {"e", "E", "T", "s", "q", "p", "m", "c", "S", "L", "l", "t", "i"} == set(lite)
    assert (lite["t"], lite["i"], lite["L"], lite["l"]) == (full["t"], full["i"], "100005.00", "0.010")


ACCOUNT_FIELDS = {"s", "pa", "ep", "bep", "cr", "up", "mt", "iw", "ps"}


async def test_an_account_update_tells_break_even_and_what_was_ever_realised(server: Wire) -> None:
    key = "told-account"

    def act() -> None:
        server.market(key, "BUY", "0.2")
        server.pin("BTCUSDT", "101000")
        server.market(key, "SELL", "0.1")
        server.market(key, "SELL", "0.1")
        server.market(key, "SELL", "0.1")

    told = await user_events(server, key, act, "&events=ACCOUNT_UPDATE")
    rows = [event["a"]["P"][0] for event in told]
    assert all(set(row) == ACCOUNT_FIELDS for row in rows)
    assert [(row["pa"], row["cr"]) for row in rows] == [
        ("0.2", "0.00000000"),
        ("0.1", "98.99000000"),
        ("0", "197.98000000"),
        ("-0.1", "197.98000000"),
    ]
    assert [row["ep"] for row in rows] == ["100005.00000000", "100005.00000000", "0", "100994.90000000"]
    assert [row["bep"] for row in rows] == ["100055.00250000", "99165.60245000", "0", "100944.40255000"]
    assert all(event["a"]["m"] == "ORDER" for event in told)
    assert [event["a"]["B"][0]["bc"] for event in told] == ["0.00000000"] * 4


async def test_a_balance_change_is_what_is_neither_profit_nor_fee(server: Wire) -> None:
    key = "told-balance"
    server.signed(key, "POST", "/fapi/v1/marginType", symbol="BTCUSDT", marginType="ISOLATED")
    server.market(key, "BUY", "0.1")

    def act() -> None:
        server.admin("POST", "/paper/account", key=key, deposit="250")
        moved = {"symbol": "BTCUSDT", "amount": "100", "type": "1"}
        server.signed(key, "POST", "/fapi/v1/positionMargin", **moved)

    deposit, transfer = [event["a"] for event in await user_events(server, key, act)]
    assert (deposit["m"], deposit["P"], deposit["B"][0]["bc"]) == ("DEPOSIT", [], "250.00000000")
    assert (transfer["m"], transfer["B"][0]["bc"]) == ("MARGIN_TRANSFER", "0.00000000")
    assert [set(event["B"][0]) for event in (deposit, transfer)] == [{"a", "wb", "cw", "bc"}] * 2
    assert (transfer["P"][0]["mt"], transfer["P"][0]["iw"]) == ("isolated", "600.02500000")
    assert float(deposit["B"][0]["cw"]) - float(transfer["B"][0]["cw"]) == 100


async def test_a_liquidation_is_called_for_then_closed_and_told_to_everybody(server: Wire) -> None:
    key = "told-liquidation"
    server.signed(key, "POST", "/fapi/v1/marginType", symbol="BTCUSDT", marginType="ISOLATED")
    server.signed(key, "POST", "/fapi/v1/leverage", symbol="BTCUSDT", leverage=20)
    server.market(key, "BUY", "0.1")

    def act() -> None:
        server.pin("BTCUSDT", "95470")
        server.pin("BTCUSDT", "95000")

    async with listening(server, "/ws/btcusdt@forceOrder") as public:
        told = await user_events(server, key, act)
        [forced] = await heard(public)
    names = [(event["e"], event.get("o", {}).get("x")) for event in told]
    assert names == [
        ("MARGIN_CALL", None),
        ("ORDER_TRADE_UPDATE", "NEW"),
        ("ORDER_TRADE_UPDATE", "CALCULATED"),
        ("ACCOUNT_UPDATE", None),
    ]
    assert told[0]["p"][0]["s"] == "BTCUSDT"
    order = told[2]["o"]
    assert (order["c"].startswith("autoclose-"), order["X"], order["o"]) == (True, "FILLED", "LIQUIDATION")
    assert told[3]["a"]["P"][0]["pa"] == "0"
    assert (forced["e"], forced["o"]["s"], forced["o"]["S"]) == ("forceOrder", "BTCUSDT", "SELL")


async def test_a_trailing_stop_is_told_when_it_wakes(server: Wire) -> None:
    key = "told-trailing"
    server.market(key, "BUY", "0.01")
    words = {"algoType": "CONDITIONAL", "symbol": "BTCUSDT", "side": "SELL", "type": "TRAILING_STOP_MARKET"}
    words |= {"quantity": "0.01", "callbackRate": "1", "activatePrice": "101000", "reduceOnly": "true"}

    def act() -> None:
        server.signed(key, "POST", "/fapi/v1/algoOrder", **words)
        for price in ("101000", "102000", "100900"):
            server.pin("BTCUSDT", price)

    told = await user_events(server, key, act, "&events=ALGO_UPDATE")
    steps = [(event["o"]["X"], event["o"]["ia"]) for event in told]
    assert steps == [
        ("NEW", False),
        ("NEW", True),
        ("TRIGGERING", True),
        ("TRIGGERED", True),
        ("FINISHED", True),
    ]
    assert told[-1]["o"]["ap"] == "100894.90"


async def test_market_streams_have_their_own_shapes(server: Wire) -> None:
    names = ["!bookTicker", "btcusdt_perpetual@continuousKline_1m", "!miniTicker@arr", "!ticker@arr"]
    names += ["btcusdt@depth5@100ms", "btcusdt@aggTrade", "btcusdt@trade", "btcusdt@depth@100ms"]
    async with listening(server, f"/public/stream?streams={'/'.join(names)}") as socket:
        server.pin("BTCUSDT", "100100")
        told = await heard(socket, 0.2)
    by_name: dict[str, list[Any]] = {}
    for message in told:
        by_name.setdefault(message["stream"], []).append(message["data"])
    assert set(by_name) == set(names)
    assert {row["s"] for row in by_name["!bookTicker"]} >= {"BTCUSDT", "SOLUSDT"}
    assert by_name[names[1]][0]["ct"] == "PERPETUAL"
    assert isinstance(by_name["!miniTicker@arr"][0], list)
    assert isinstance(by_name["!ticker@arr"][0], list)
    assert len(by_name["btcusdt@depth5@100ms"][-1]["b"]) == 5
    assert by_name["btcusdt@aggTrade"][-1]["p"] == "100100.00"
    assert by_name["btcusdt@trade"][-1]["e"] == "trade"


async def test_a_book_can_be_rebuilt_from_its_changes(server: Wire) -> None:
    async with listening(server, "/public/ws/btcusdt@depth") as socket:
        book = server.send("GET", "/fapi/v1/depth?symbol=BTCUSDT&limit=20").json
        sides = {"b": dict(book["bids"]), "a": dict(book["asks"])}
        for price in ("100100", "99900", "100050"):
            await asyncio.sleep(0.01)
            server.pin("BTCUSDT", price)
        changes = await heard(socket, 0.2)
        after = server.send("GET", "/fapi/v1/depth?symbol=BTCUSDT&limit=20").json
    for before, change in pairwise(changes):
        assert change["pu"] == before["u"]
    for change in (c for c in changes if c["u"] >= book["lastUpdateId"]):
        for side, levels in sides.items():
            for price, quantity in change[side]:
                levels[price] = quantity
                if not float(quantity):
                    del levels[price]
    assert sides["b"] == dict(after["bids"])
    assert sides["a"] == dict(after["asks"])


async def test_marks_come_each_three_seconds_unless_asked_for_each_second(server: Wire) -> None:
    async with listening(server, "/stream?streams=btcusdt@markPrice/btcusdt@markPrice@1s") as socket:
        told = [json.loads(await socket.receive_str(timeout=3))["stream"] for _ in range(6)]
    slow, fast = told.count("btcusdt@markPrice"), told.count("btcusdt@markPrice@1s")
    assert fast >= slow + 2


async def test_a_closed_listen_key_ends_its_connections_and_nobody_elses(server: Wire) -> None:
    key, other = "told-closing", "told-staying"
    headers = {"X-MBX-APIKEY": key}
    mine = server.send("POST", "/fapi/v1/listenKey", headers=headers).json["listenKey"]
    others = server.send("POST", "/fapi/v1/listenKey", headers={"X-MBX-APIKEY": other}).json["listenKey"]
    async with (
        listening(server, f"/private/ws/{mine}") as plain,
        listening(server, f"/private/stream?listenKey={mine}") as combined,
        listening(server, f"/ws/btcusdt@bookTicker/{mine}") as mixed,
        listening(server, f"/private/ws?listenKey={others}") as staying,
    ):
        await heard(mixed, 0.2)
        await asyncio.to_thread(server.market, key, "BUY", "0.01")
        assert (await asyncio.to_thread(server.send, "DELETE", "/fapi/v1/listenKey", "", headers)).json == {}
        for socket in (plain, combined):
            told = [await socket.receive(timeout=2) for _ in range(4)]
            assert [frame.type for frame in told[:3]] == [aiohttp.WSMsgType.TEXT] * 3
            assert told[3].type is aiohttp.WSMsgType.CLOSE
        await heard(mixed, 0.2)
        await asyncio.to_thread(server.market, key, "BUY", "0.01")
        await asyncio.to_thread(server.market, other, "BUY", "0.01")
        await asyncio.to_thread(server.pin, "BTCUSDT", "100001")
        assert {event["e"] for event in await heard(mixed, 0.2)} == {"bookTicker"}
        assert [event["e"] for event in await heard(staying, 0.2)] == [
            "ORDER_TRADE_UPDATE",
            "ORDER_TRADE_UPDATE",
            "ACCOUNT_UPDATE",
        ]
    assert server.send("PUT", "/fapi/v1/listenKey", headers=headers).code == -1125
    assert server.send("POST", "/fapi/v1/listenKey", headers=headers).json["listenKey"] != mine


async def test_a_connection_that_turns_to_another_account_hears_of_that_one_only(server: Wire) -> None:
    keys = ("told-before", "told-after")
    names = [
        server.send("POST", "/fapi/v1/listenKey", headers={"X-MBX-APIKEY": key}).json["listenKey"]
        for key in keys
    ]
    async with listening(server, "/private/ws") as socket:
        for number, name in enumerate(names):
            await socket.send_json({"method": "SUBSCRIBE", "params": [name], "id": number})
            assert json.loads(await socket.receive_str(timeout=2)) == {"result": None, "id": number}
        for key in keys:
            await asyncio.to_thread(server.market, key, "BUY", "0.01", newClientOrderId=key)
        told = await heard(socket, 0.3)
    assert {event["o"]["c"] for event in told if "o" in event} == {"told-after"}
