"""Whatever arrives: a documented code or a closed connection, and nobody else notices."""

import asyncio
import hashlib
import hmac
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import aiohttp
import pytest

from paper.limits import BANNED, IGNORED_BEFORE_BAN, Exceeded, Limits
from paper.server import read_pairs
from paper.tests.wire import Wire

WORDS = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.01"}


@pytest.fixture(autouse=True)
def _still_served(server: Wire) -> Iterator[None]:
    """After every ill-treatment others are served, at once."""
    yield
    began = time.monotonic()
    assert server.market("bystander", "BUY", "0.001").status == 200
    assert time.monotonic() - began < 1


def address(server: Wire) -> tuple[str, int]:
    parts = urlsplit(server.url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def orders(server: Wire, key: str) -> int:
    return sum(row["kind"] == "PLACED" for row in server.ledger(key))


@pytest.mark.parametrize(
    ("path", "words", "code"),
    [
        ("/fapi/v1/order", WORDS | {"color": "red"}, -1104),
        ("/api/v3/order", WORDS | {"reduceOnly": "true"}, -1104),
        ("/fapi/v1/order", WORDS | {"stopPrice": "90000"}, -1106),
        ("/fapi/v1/order", WORDS | {"callbackRate": "1"}, -1106),
        ("/fapi/v1/order", WORDS | {"recvWindow": "60001"}, -1131),
        ("/fapi/v1/order", WORDS | {"recvWindow": "0"}, -1131),
        ("/fapi/v1/order", WORDS | {"timestamp": "noon"}, -1102),
        ("/fapi/v1/order", WORDS | {"recvWindow": "5.5"}, -1102),
        ("/fapi/v1/order", WORDS | {"quantity": "9" * 60}, -1100),
        ("/fapi/v1/order", WORDS | {"reduceOnly": "maybe"}, -1130),
        ("/fapi/v1/batchOrders", {"batchOrders": "[{"}, -1102),
        ("/fapi/v1/batchOrders", {"batchOrders": "[" * 5000}, -1102),
        ("/fapi/v1/batchOrders", {"batchOrders": "[" + ",".join(["{}"] * 6) + "]"}, -4082),
        ("/fapi/v1/leverage", {"symbol": "BTCUSDT", "leverage": "lots"}, -1102),
        ("/fapi/v1/leverage", {"symbol": "BTCUSDT", "leverage": "7.9"}, -1102),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_code(
    server: Wire, path: str, words: dict[str, str], code: int
) -> None:
    key = f"bad-{abs(code)}-{len(words)}"
    answer = server.signed(key, "POST", path, **words)
    assert (answer.status, answer.code) == (400, code)
    assert orders(server, key) == 0


LIMITED = WORDS | {"type": "LIMIT", "timeInForce": "GTC"}
OTHER_DIGITS = ("\u0661\u0662", "\uff11\uff12", "\u00b2", "1\u0660", "12\n", "1_2", "0x12", "1e1", "\u221e")


@pytest.mark.parametrize("digits", OTHER_DIGITS)
@pytest.mark.parametrize(
    ("path", "name", "words", "code"),
    [
        ("/fapi/v1/order", "quantity", WORDS, -1100),
        ("/fapi/v1/order", "price", LIMITED, -1100),
        ("/fapi/v1/order", "timestamp", WORDS, -1102),
        ("/fapi/v1/order", "recvWindow", WORDS, -1102),
        ("/api/v3/order", "quoteOrderQty", WORDS, -1100),
        ("/fapi/v1/leverage", "leverage", {"symbol": "BTCUSDT"}, -1102),
        ("/fapi/v1/countdownCancelAll", "countdownTime", {"symbol": "BTCUSDT"}, -1102),
    ],
)
def test_only_plain_digits_make_a_number(
    server: Wire, path: str, name: str, words: dict[str, str], code: int, digits: str
) -> None:
    answer = server.signed("bad-digits", "POST", path, **(words | {name: digits}))
    assert (answer.status, answer.code) == (400, code)
    assert orders(server, "bad-digits") == 0


@pytest.mark.parametrize("digits", OTHER_DIGITS)
@pytest.mark.parametrize(
    ("path", "name"),
    [("/fapi/v1/order", "orderId"), ("/fapi/v1/algoOrder", "algoId"), ("/fapi/v1/userTrades", "limit")],
)
def test_only_plain_digits_look_something_up(server: Wire, path: str, name: str, digits: str) -> None:
    answer = server.signed("bad-digits", "GET", path, symbol="BTCUSDT", **{name: digits})
    assert (answer.status, answer.code) == (400, -1102)


@pytest.mark.parametrize("digits", [*OTHER_DIGITS, "9" * 5000])
def test_only_plain_digits_length_a_page_of_the_market(server: Wire, digits: str) -> None:
    for path in ("/fapi/v1/depth?symbol=BTCUSDT", "/fapi/v1/klines?symbol=BTCUSDT&interval=1m"):
        answer = server.send("GET", f"{path}&limit={quote(digits)}")
        assert (answer.status, answer.code) == (400, -1102)


ONE = json.dumps(WORDS)


@pytest.mark.parametrize(
    ("batch", "code"),
    [
        ("", -1102),
        ("orders", -1102),
        ("[{", -1102),
        ("{}", -1102),
        ("7", -1102),
        ("null", -1102),
        ("[7]", -1102),
        (f"[{ONE}, null]", -1102),
        (f"[{ONE}, [{ONE}]]", -1102),
        (f'[{ONE}, "{{}}"]', -1102),
        (f'[{ONE}, {{"symbol": ["BTCUSDT"]}}]', -1102),
        (f'[{ONE}, {{"symbol": {{"a": [[]]}}}}]', -1102),
        (f"[{ONE}, {{'symbol': 'BTCUSDT'}}]", -1102),
        (f'[{ONE}, {{"quantity": NaN}}]', -1102),
        ("[]", -4082),
        ("[" + ",".join([ONE] * 6) + "]", -4082),
    ],
)
def test_a_batch_that_is_no_list_of_orders_places_none_of_them(server: Wire, batch: str, code: int) -> None:
    answer = server.signed("bad-batch", "POST", "/fapi/v1/batchOrders", batchOrders=batch)
    assert (answer.status, answer.code) == (400, code)
    assert orders(server, "bad-batch") == 0


def test_each_order_of_a_batch_answers_for_itself(server: Wire) -> None:
    rows: list[Any] = [
        WORDS | {"newClientOrderId": None, "reduceOnly": False},
        {},
        WORDS | {"quantity": 0.01},
        WORDS | {"quantity": "\u0661"},
        WORDS | {"type": "STOP_MARKET"},
    ]
    answer = server.signed("mixed-batch", "POST", "/fapi/v1/batchOrders", batchOrders=json.dumps(rows))
    assert answer.status == 200
    assert [row.get("code", row.get("status")) for row in answer.json] == ["NEW", -1102, "NEW", -1100, -4120]
    assert orders(server, "mixed-batch") == 2


@pytest.mark.parametrize(
    ("names", "code"),
    [
        ({"orderIdList": "[[1]]"}, -1102),
        ({"orderIdList": "7"}, -1102),
        ({"orderIdList": "[]"}, -4082),
        ({}, -1102),
    ],
)
def test_a_list_to_cancel_is_a_list_of_names(server: Wire, names: dict[str, str], code: int) -> None:
    answer = server.signed("bad-list", "DELETE", "/fapi/v1/batchOrders", symbol="BTCUSDT", **names)
    assert (answer.status, answer.code) == (400, code)


GUARD = {
    "algoType": "CONDITIONAL",
    "symbol": "BTCUSDT",
    "side": "SELL",
    "type": "STOP",
    "quantity": "0.01",
    "price": "89000",
    "triggerPrice": "90000",
}
RESTING = LIMITED | {"price": "95000"}


@pytest.mark.parametrize(
    ("path", "words"), [("/fapi/v1/order", RESTING), ("/fapi/v1/algoOrder", GUARD)], ids=["order", "stop"]
)
@pytest.mark.parametrize(
    ("ending", "code"),
    [
        ({"timeInForce": "GTD"}, -1102),
        ({"timeInForce": "GTD", "goodTillDate": ""}, -1102),
        ({"timeInForce": "GTD", "goodTillDate": "soon"}, -1102),
        ({"timeInForce": "GTD", "goodTillDate": "1"}, -5040),
        ({"timeInForce": "GTD", "goodTillDate": "253402300799000"}, -5040),
        ({"timeInForce": "EVER"}, -1115),
    ],
)
def test_good_till_a_date_needs_a_date_to_come(
    server: Wire, path: str, words: dict[str, str], ending: dict[str, str], code: int
) -> None:
    answer = server.signed("bad-date", "POST", path, **(words | ending))
    assert (answer.status, answer.code) == (400, code)
    assert orders(server, "bad-date") == 0


@pytest.mark.parametrize(("path", "words"), [("/fapi/v1/order", RESTING), ("/fapi/v1/algoOrder", GUARD)])
def test_a_date_is_kept_when_it_is_asked_for_and_ignored_otherwise(
    server: Wire, path: str, words: dict[str, str]
) -> None:
    date = (int(time.time()) + 3600) * 1000
    for force, kept in (("GTD", date), ("GTC", 0)):
        ending = {"timeInForce": force, "goodTillDate": str(date)}
        answer = server.signed("good-date", "POST", path, **(words | ending))
        assert (answer.status, answer.json["timeInForce"], answer.json["goodTillDate"]) == (200, force, kept)


@pytest.mark.parametrize("client_id", ["one\n", "o\u00f1e", "\u0661", "a" * 37, "a b"])
def test_a_client_id_is_plain_and_short(server: Wire, client_id: str) -> None:
    answer = server.market("bad-id", "BUY", "0.01", newClientOrderId=client_id)
    assert (answer.status, answer.code) == (400, -4015)
    assert orders(server, "bad-id") == 0


@pytest.mark.parametrize("name", ["btcusdt@depth7", "btcusdt@depth" + "9" * 5000, "!depth" + "9" * 5000])
async def test_a_depth_that_is_not_served_stays_silent_and_stops_nobody(server: Wire, name: str) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{server.url}/ws") as stream:
        await stream.send_json({"method": "SUBSCRIBE", "params": [name], "id": 1})
        assert json.loads(await stream.receive_str(timeout=3)) == {"result": None, "id": 1}
        await asyncio.to_thread(server.pin, "BTCUSDT", "100000")
        with pytest.raises(TimeoutError):
            await stream.receive_str(timeout=0.2)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (WORDS | {"symbol": "NOPEUSDT"}, -1121),
        (WORDS | {"type": "STOP_MARKET"}, -4120),
        (WORDS | {"quantity": "0"}, -4003),
        (WORDS | {"quantity": "0.00100001"}, -1111),
        (WORDS | {"quantity": "999999"}, -4005),
        (WORDS | {"quantity": "3"}, -2019),
        (WORDS | {"reduceOnly": "true"}, -2022),
        (LIMITED | {"price": "100000.05"}, -4014),
        (LIMITED | {"price": "96000", "quantity": "0.0001"}, -1111),
        (WORDS | {"symbol": "SOLUSDT", "quantity": "0.01"}, -4164),
    ],
)
def test_a_tested_order_is_refused_as_the_order_itself(
    server: Wire, words: dict[str, str], code: int
) -> None:
    key = f"tested-{abs(code)}-{len(words)}"
    tested = server.signed(key, "POST", "/fapi/v1/order/test", **words)
    placed = server.signed(key, "POST", "/fapi/v1/order", **words)
    assert (tested.status, tested.code) == (400, code)
    assert tested.json == placed.json
    assert orders(server, key) == 0


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (WORDS | {"quantity": "0"}, -1013),
        (WORDS | {"quantity": "3"}, -2010),
        (WORDS | {"side": "SELL"}, -2010),
        (WORDS | {"newOrderRespType": "LONG"}, -1136),
        (WORDS | {"color": "red"}, -1104),
        (WORDS | {"trailingDelta": "100"}, -2010),
        (LIMITED | {"price": "1"}, -1013),
    ],
)
def test_a_tested_spot_order_is_refused_as_the_order_itself(
    server: Wire, words: dict[str, str], code: int
) -> None:
    tested = server.signed("tested-spot", "POST", "/api/v3/order/test", **words)
    placed = server.signed("tested-spot", "POST", "/api/v3/order", **words)
    assert (tested.status, tested.code) == (400, code)
    assert tested.json == placed.json
    assert orders(server, "tested-spot") == 0


def test_a_tested_order_that_would_be_accepted_is_not_placed(server: Wire) -> None:
    for path in ("/fapi/v1/order/test", "/api/v3/order/test"):
        answer = server.signed("tested-good", "POST", path, **WORDS)
        assert (answer.status, answer.json) == (200, {})
    assert orders(server, "tested-good") == 0


def test_a_name_given_twice_is_refused(server: Wire) -> None:
    body = f"symbol=BTCUSDT&side=BUY&side=SELL&type=MARKET&quantity=0.01&timestamp={int(time.time() * 1000)}"
    signature = hmac.new(b"bad-twice", body.encode(), hashlib.sha256).hexdigest()
    answer = server.send(
        "POST", "/fapi/v1/order", f"{body}&signature={signature}", {"X-MBX-APIKEY": "bad-twice"}
    )
    assert answer.code == -1101
    assert orders(server, "bad-twice") == 0


def test_a_body_without_end_is_cut_off(server: Wire) -> None:
    connection = HTTPConnection(*address(server), timeout=5)
    chunks = (b"x" * 65_536 for _ in range(64))
    # The server may hang up before all of it was sent.
    with closing(connection), suppress(BrokenPipeError, ConnectionResetError):
        connection.request("POST", "/fapi/v1/order", chunks, {"X-MBX-APIKEY": "bad"}, encode_chunked=True)
        assert connection.getresponse().status == 413


@pytest.mark.parametrize(
    "noise", [b"\x00\xff" * 400, b"GET\r\n\r\n", b"POST / HTTP/9.9\r\n\r\n", b"A" * 20_000]
)
def test_noise_is_answered_or_hung_up_on(server: Wire, noise: bytes) -> None:
    with socket.create_connection(address(server), timeout=5) as wire:
        wire.sendall(noise + b"\r\n\r\n")
        heard = wire.recv(100)
    assert heard == b"" or heard.startswith(b"HTTP/1.")
    assert not heard.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("path", ["/ws", "/ws-fapi/v1"])
@pytest.mark.parametrize("frame", [b"\xff\xfe", b"x" * 70_000])
async def test_a_frame_that_is_no_text_or_too_long_ends_the_connection(
    server: Wire, path: str, frame: bytes
) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(server.url + path) as stream:
        await stream.send_frame(frame, aiohttp.WSMsgType.TEXT)
        assert (await stream.receive(timeout=3)).type in {aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED}


@pytest.mark.parametrize(
    "text", ["{", "[]", "7", '{"id": 1}', '{"id": 1, "method": "order.place", "params": [1]}']
)
async def test_a_malformed_request_over_the_websocket_api_is_answered(server: Wire, text: str) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{server.url}/ws-fapi/v1") as stream:
        await stream.send_str(text)
        answer = json.loads(await stream.receive_str(timeout=3))
        assert (answer["status"], answer["error"]["code"]) == (400, -1100)


async def test_more_than_ten_requests_a_second_end_a_stream(server: Wire) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{server.url}/ws") as stream:
        for number in range(30):
            await stream.send_json({"method": "LIST_SUBSCRIPTIONS", "id": number})
        answered = 0
        while (await stream.receive(timeout=3)).type is aiohttp.WSMsgType.TEXT:
            answered += 1
        assert answered <= 20


async def test_a_connection_carries_1024_streams_and_no_more(server: Wire) -> None:
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{server.url}/ws") as stream:
        for number, count in ((1, 1000), (2, 25), (3, 24)):
            names = [f"none{number}x{place}@trade" for place in range(count)]
            await stream.send_json({"method": "SUBSCRIBE", "params": names, "id": number})
            answer = json.loads(await stream.receive_str(timeout=3))
            assert ("error" in answer) == (number == 2)


def test_a_thousand_idle_connections_stand_in_nobodys_way(server: Wire) -> None:
    with ExitStack() as idle:
        for _ in range(1000):
            idle.enter_context(socket.create_connection(address(server), timeout=5))
        began = time.monotonic()
        for _ in range(20):
            assert server.market("busy", "BUY", "0.001").status == 200
        assert time.monotonic() - began < 5


async def test_a_reader_that_does_not_read_is_hung_up_on_while_others_are_told(server: Wire) -> None:
    names = "/".join(f"!ticker@arr@{number}" for number in range(40))
    with ExitStack() as ended:
        slow = ended.enter_context(socket.create_connection(address(server), timeout=10))
        await _left_behind(server, slow, names)


async def _left_behind(server: Wire, slow: socket.socket, names: str) -> None:
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    host, port = address(server)
    head = (
        f"GET /stream?streams={names} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    slow.sendall(head.encode())
    assert slow.recv(12) == b"HTTP/1.1 101"
    before = server.admin("GET", "/paper/status")["streams"]
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{server.url}/ws/solusdt@markPrice@1s") as quick,
    ):
        for _ in range(250):
            await asyncio.to_thread(server.pin, "BTCUSDT", "100000")
        assert json.loads(await quick.receive_str(timeout=3))["s"] == "SOLUSDT"
        assert server.admin("GET", "/paper/status")["streams"] == before  # the quick one for the slow one


def test_who_ignores_refusals_is_banned_for_longer_each_time() -> None:
    limits = Limits(10)
    told: list[tuple[int, int]] = []

    def ask(now: float) -> None:
        try:
            limits.weigh("a", 11, now=now)
        except Exceeded as refused:
            told.append((refused.status, refused.retry_after_seconds))

    for _ in range(IGNORED_BEFORE_BAN):
        ask(30.0)
    assert set(told) == {(429, 30)}
    ask(30.0)
    ask(149.0)
    assert told[-2:] == [(BANNED, 121), (BANNED, 2)]
    assert limits.weigh("b", 1, now=149.0) == 1
    assert limits.weigh("a", 1, now=180.0) == 1
    for _ in range(IGNORED_BEFORE_BAN + 1):
        ask(181.0)
    assert told[-1] == (BANNED, 241)


@pytest.mark.parametrize(
    "text", ["", "&&", "a", "a=", "=b", "a=b&c", "a=b=c&d==", "a=1&a=2", "a=%20b+c", "é=ü&x", "a;b=c", "a= b"]
)
def test_the_short_way_to_read_a_request_reads_what_the_long_way_reads(text: str) -> None:
    assert read_pairs(text) == parse_qsl(text, keep_blank_values=True)


def test_a_long_look_into_the_past_lets_others_in_between(server: Wire) -> None:
    path = "/fapi/v1/klines?symbol=XRPUSDT&interval=4h&limit=1000"
    with ThreadPoolExecutor(1) as beside:
        asked = beside.submit(server.send, "GET", path)
        answered = 0
        while not asked.done():
            answered += server.send("GET", "/fapi/v1/ping").status == 200
    assert asked.result().status == 200
    assert answered > 5
