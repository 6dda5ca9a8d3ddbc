"""Streams against a venue that can fall silent, cut the line, expire a key or talk nonsense."""

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from exchange.credentials import Credentials
from exchange.factory import GatewayFactory
from exchange.port import FillReport, Market, MarkPrice, OrderSide, ReportStatus
from exchange.stream_events import (
    BalanceEvent,
    ConditionalEvent,
    ConfigEvent,
    OrderEvent,
    PositionEvent,
    StreamDown,
    StreamUp,
    UserEvent,
)
from exchange.streams import FuturesUserStream, MarkStream, SpotUserStream
from exchange.tests.conftest import RecordedVenue
from exchange.tests.orders import BTC

Script = Callable[[web.WebSocketResponse], Awaitable[None]]

PATIENCE_SECONDS = 20.0
"""What a busy machine may take to open lines and read markets; nothing here waits for it to pass."""


def at(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=milliseconds)


class Line:
    """The venue's WebSocket: one script a connection, the last one for all that follow."""

    def __init__(self) -> None:
        self.scripts: list[Script] = []
        self.opened: list[str] = []
        self.heard: list[Any] = []
        self.answers_pings = True
        self.pings = 0
        self.url = ""

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        self.opened.append(request.path_qs)
        script = self.scripts[min(len(self.opened), len(self.scripts)) - 1]
        listening = asyncio.create_task(self._listen(socket))
        await script(socket)
        listening.cancel()
        return socket

    async def _listen(self, socket: web.WebSocketResponse) -> None:
        async for message in socket:
            if message.type is WSMsgType.PING:
                self.pings += 1
                if self.answers_pings:
                    await socket.pong(message.data)
            elif message.type is WSMsgType.TEXT:
                self.heard.append(json.loads(message.data))


def says(*messages: object, then: str = "wait") -> Script:
    async def script(socket: web.WebSocketResponse) -> None:
        for message in messages:
            await socket.send_str(message if isinstance(message, str) else json.dumps(message))
        if then == "wait":
            await asyncio.sleep(3600)
        await socket.close()

    return script


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    made = Line()
    app = web.Application()
    app.router.add_get("/{tail:.*}", made.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    made.url = f"ws://{host}:{port}"
    yield made
    await runner.cleanup()


@pytest.fixture
def stream(venue: RecordedVenue, line: Line, factory: GatewayFactory, keys: Credentials) -> FuturesUserStream:
    venue.answer("POST /fapi/v1/listenKey", {"listenKey": "LK" * 32})
    venue.answer("PUT /fapi/v1/listenKey", {})
    gateway = factory.for_account(keys, Market.FUTURES)
    return FuturesUserStream(gateway, factory._session.get, line.url, ping_seconds=0.1)


async def first(count: int, stream: Any, seconds: float = PATIENCE_SECONDS) -> list[UserEvent]:
    events: list[UserEvent] = []
    async with asyncio.timeout(seconds), aclosing(stream.events()) as told:
        async for event in told:
            events.append(event)
            if len(events) == count:
                break
    return events


def order_update(**changes: Any) -> dict[str, Any]:
    order = {
        "s": "BTCUSDT",
        "c": "phx1",
        "S": "SELL",
        "o": "MARKET",
        "f": "GTC",
        "q": "0.013",
        "p": "0",
        "ap": "69990.5",
        "sp": "0",
        "x": "TRADE",
        "X": "PARTIALLY_FILLED",
        "i": 777,
        "l": "0.005",
        "z": "0.010",
        "L": "69985.0",
        "N": "USDT",
        "n": "0.17496250",
        "T": 1789000000400,
        "t": 9,
        "m": False,
        "R": True,
        "wt": "CONTRACT_PRICE",
        "ot": "MARKET",
        "ps": "BOTH",
        "cp": False,
        "rp": "-3.5",
        **changes,
    }
    return {"e": "ORDER_TRADE_UPDATE", "E": 1789000000410, "T": 1789000000400, "o": order}


def algo_update(**changes: Any) -> dict[str, Any]:
    order = {
        "caid": "phxstop1",
        "aid": 2148719,
        "at": "CONDITIONAL",
        "o": "STOP_MARKET",
        "s": "BTCUSDT",
        "S": "SELL",
        "ps": "BOTH",
        "q": "0.013",
        "X": "TRIGGERED",
        "ai": "777",
        "ap": "0.00000",
        "aq": "0.00000",
        "tp": "70000",
        "cp": True,
        "R": False,
        "rm": "",
        **changes,
    }
    return {"e": "ALGO_UPDATE", "T": 1789000000500, "E": 1789000000510, "o": order}


async def test_an_execution_is_an_order_event_with_its_fill(line: Line, stream: FuturesUserStream) -> None:
    line.scripts = [says(order_update())]

    up, event = await first(2, stream)

    assert isinstance(up, StreamUp)
    assert isinstance(event, OrderEvent)
    assert (event.report.status, event.report.filled_quantity) == (
        ReportStatus.PARTIALLY_FILLED,
        Decimal("0.010"),
    )
    assert event.report.average_price == Decimal("69990.5")
    assert event.fill == FillReport(
        trade_id="9",
        exchange_order_id="777",
        symbol=BTC,
        side=OrderSide.SELL,
        price=Decimal("69985.0"),
        quantity=Decimal("0.005"),
        fee=Decimal("0.17496250"),
        fee_asset="USDT",
        filled_at=at(1789000000400),
        realized_profit=Decimal("-3.5"),
        client_order_id="phx1",
    )
    assert line.opened == [f"/private/ws?listenKey={'LK' * 32}"]


async def test_an_order_that_only_rests_has_no_fill(line: Line, stream: FuturesUserStream) -> None:
    new = order_update(x="NEW", X="NEW", l="0", z="0", L="0", t=0)
    del new["o"]["N"], new["o"]["n"]
    line.scripts = [says(new)]

    _, event = await first(2, stream)

    assert isinstance(event, OrderEvent)
    assert (event.report.status, event.fill) == (ReportStatus.NEW, None)


@pytest.mark.parametrize(
    ("changes", "status", "triggered", "reason"),
    [
        ({"X": "NEW", "ai": ""}, ReportStatus.NEW, None, ""),
        ({"X": "TRIGGERING", "ai": ""}, ReportStatus.TRIGGERED, None, ""),
        ({}, ReportStatus.TRIGGERED, "777", ""),
        ({"X": "FINISHED"}, ReportStatus.TRIGGERED, "777", ""),
        (
            {"X": "REJECTED", "ai": "", "rm": "Reduce Only reject"},
            ReportStatus.REJECTED,
            None,
            "Reduce Only reject",
        ),
        ({"X": "EXPIRED", "ai": ""}, ReportStatus.EXPIRED, None, ""),
    ],
)
async def test_a_stop_tells_its_own_life(
    line: Line,
    stream: FuturesUserStream,
    changes: dict[str, str],
    status: ReportStatus,
    triggered: str | None,
    reason: str,
) -> None:
    line.scripts = [says(algo_update(**changes))]

    _, event = await first(2, stream)

    assert isinstance(event, ConditionalEvent)
    report = event.report
    assert (report.client_order_id, report.is_conditional, report.close_position) == ("phxstop1", True, True)
    assert (report.status, report.triggered_order_id, report.reject_reason) == (status, triggered, reason)
    assert report.trigger_price == Decimal(70000)


async def test_an_account_update_tells_balances_and_positions_with_the_reason(
    line: Line, stream: FuturesUserStream
) -> None:
    balance = {"a": "USDT", "wb": "9988.5", "cw": "9500", "bc": "-0.375"}
    position = {
        "s": "BTCUSDT",
        "pa": "-0.013",
        "ep": "91508.9",
        "up": "-11.79",
        "mt": "isolated",
        "ps": "BOTH",
    }
    change = {"m": "FUNDING_FEE", "B": [balance], "P": [position]}
    line.scripts = [says({"e": "ACCOUNT_UPDATE", "E": 1789000000600, "T": 1789000000599, "a": change})]

    _, first_told, second_told = await first(3, stream)

    assert first_told == BalanceEvent("USDT", Decimal("9988.5"), "FUNDING_FEE", at(1789000000600))
    assert second_told == PositionEvent(
        symbol=BTC,
        is_long=False,
        quantity=Decimal("0.013"),
        entry_price=Decimal("91508.9"),
        unrealized_profit=Decimal("-11.79"),
        position_side=None,
        reason="FUNDING_FEE",
        at=at(1789000000600),
    )


async def test_a_changed_leverage_and_mode_are_told(line: Line, stream: FuturesUserStream) -> None:
    leverage = {"e": "ACCOUNT_CONFIG_UPDATE", "E": 1000, "T": 999, "ac": {"s": "BTCUSDT", "l": 25}}
    mode = {"e": "ACCOUNT_CONFIG_UPDATE", "E": 1000, "T": 999, "ai": {"j": True}}
    line.scripts = [says(leverage, mode)]

    _, told, also = await first(3, stream)

    assert told == ConfigEvent(at(1000), symbol=BTC, leverage=25)
    assert also == ConfigEvent(at(1000), is_multi_assets=True)


async def test_what_the_desk_does_not_know_is_no_event(line: Line, stream: FuturesUserStream) -> None:
    line.scripts = [says({"e": "TRADE_LITE", "E": 1}, {"e": "SOMETHING_NEW"}, [], "x", order_update())]

    _, event = await first(2, stream)

    assert isinstance(event, OrderEvent)


@pytest.mark.parametrize(
    "last",
    [{"e": "listenKeyExpired", "E": 1, "listenKey": "x"}, order_update(X="NEVER_SEEN"), {"e": "ALGO_UPDATE"}],
)
async def test_a_stream_that_can_no_longer_be_trusted_goes_down_and_comes_back(
    venue: RecordedVenue, line: Line, stream: FuturesUserStream, last: object
) -> None:
    line.scripts = [says(last), says(order_update())]

    events = await first(4, stream)

    assert [type(event) for event in events] == [StreamUp, StreamDown, StreamUp, OrderEvent]
    assert len(venue.asked_for("POST /fapi/v1/listenKey")) == 2


async def test_a_cut_line_is_told_and_never_shows_the_key(line: Line, stream: FuturesUserStream) -> None:
    line.scripts = [says(then="close"), says()]

    _, down, up = await first(3, stream)

    assert isinstance(down, StreamDown)
    assert isinstance(up, StreamUp)
    assert "LK" not in down.reason


async def test_silence_is_proven_alive_by_pings(line: Line, stream: FuturesUserStream) -> None:
    line.scripts = [says()]
    reading = asyncio.create_task(first(2, stream))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while line.pings < 3:  # noqa: ASYNC110 - the count has no event
            await asyncio.sleep(0.01)

    assert stream.alive_at is not None
    assert (datetime.now(UTC) - stream.alive_at).total_seconds() < 0.3
    assert (stream.is_up, len(line.opened)) == (True, 1)
    reading.cancel()


async def test_a_line_that_answers_no_ping_is_down(line: Line, stream: FuturesUserStream) -> None:
    line.answers_pings = False
    line.scripts = [says()]

    _, down = await first(2, stream)

    assert isinstance(down, StreamDown)
    assert down.reason == "no answer to a ping"


async def test_the_listen_key_is_kept_alive_while_nothing_happens(
    venue: RecordedVenue, line: Line, factory: GatewayFactory, keys: Credentials
) -> None:
    venue.answer("POST /fapi/v1/listenKey", {"listenKey": "LK"})
    venue.answer("PUT /fapi/v1/listenKey", {})
    gateway = factory.for_account(keys, Market.FUTURES)
    line.scripts = [says()]
    stream = FuturesUserStream(
        gateway, factory._session.get, line.url, ping_seconds=0.05, keep_alive_seconds=0.1
    )
    reading = asyncio.create_task(first(2, stream))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(venue.asked_for("PUT /fapi/v1/listenKey")) < 2:  # noqa: ASYNC110 - the count has no event
            await asyncio.sleep(0.01)

    assert {asked.key for asked in venue.asked_for("PUT /fapi/v1/listenKey")} == {"paper-0001"}
    reading.cancel()


async def test_a_key_that_is_gone_is_asked_for_anew_and_a_failed_try_is_not_the_end(
    venue: RecordedVenue, line: Line, factory: GatewayFactory, keys: Credentials
) -> None:
    venue.answer("POST /fapi/v1/listenKey", {"listenKey": "LK"})
    gateway = factory.for_account(keys, Market.FUTURES)
    line.scripts = [says()]
    fast: dict[str, float] = {"ping_seconds": 0.05, "keep_alive_seconds": 0.05}
    venue.refuse("PUT /fapi/v1/listenKey", -1003, status=429)
    patient = asyncio.create_task(
        first(2, FuturesUserStream(gateway, factory._session.get, line.url, **fast))
    )
    await asyncio.sleep(0.4)
    assert not patient.done()
    patient.cancel()

    venue.refuse("PUT /fapi/v1/listenKey", -1125, "This listenKey does not exist.")
    events = await first(3, FuturesUserStream(gateway, factory._session.get, line.url, **fast))

    assert [type(event) for event in events] == [StreamUp, StreamDown, StreamUp]


async def test_a_refused_listen_key_waits_and_tries_again(
    venue: RecordedVenue, line: Line, stream: Any
) -> None:
    line.scripts = [says()]
    venue.refuse("POST /fapi/v1/listenKey", -2015, status=401)
    reading = asyncio.create_task(first(1, stream))
    await asyncio.sleep(0.6)
    assert not reading.done()
    venue.answer("POST /fapi/v1/listenKey", {"listenKey": "LK"})

    (up,) = await reading

    assert isinstance(up, StreamUp)
    assert len(venue.asked_for("POST /fapi/v1/listenKey")) <= 5


async def test_a_line_that_opens_and_is_cut_at_once_is_opened_less_and_less_often(
    venue: RecordedVenue, line: Line, stream: FuturesUserStream
) -> None:
    line.scripts = [says(then="close")]
    reading = asyncio.create_task(first(1_000, stream))
    await asyncio.sleep(4.0)
    reading.cancel()

    assert 2 <= len(venue.asked_for("POST /fapi/v1/listenKey")) <= 5


# -- spot ------------------------------------------------------------------------------------------------


@pytest.fixture
def spot_stream(line: Line, factory: GatewayFactory, keys: Credentials) -> SpotUserStream:
    return SpotUserStream(
        factory.for_account(keys, Market.SPOT), factory._session.get, line.url, ping_seconds=0.2
    )


def execution_report(**changes: Any) -> dict[str, Any]:
    return {
        "e": "executionReport",
        "E": 1789000000700,
        "s": "BTCUSDT",
        "c": "phxspot1",
        "C": "",
        "S": "BUY",
        "o": "MARKET",
        "f": "GTC",
        "q": "0.00200",
        "p": "0.00",
        "P": "0.00",
        "x": "TRADE",
        "X": "PARTIALLY_FILLED",
        "r": "NONE",
        "i": 28,
        "l": "0.00100",
        "z": "0.00100",
        "L": "70001.00",
        "n": "0.00000100",
        "N": "BTC",
        "T": 1789000000699,
        "t": 5,
        "m": False,
        "Z": "70.00100",
        **changes,
    }


async def test_the_spot_stream_is_subscribed_by_a_signed_request(
    line: Line, spot_stream: SpotUserStream
) -> None:
    line.scripts = [says({"id": "1", "status": 200, "result": {"subscriptionId": 0}})]

    await first(1, spot_stream)

    (asked,) = line.heard
    params = dict(asked["params"])
    signature = params.pop("signature")
    query = "&".join(f"{name}={params[name]}" for name in sorted(params))
    assert asked["method"] == "userDataStream.subscribe.signature"
    assert list(params) == ["apiKey", "recvWindow", "timestamp"]
    assert signature == hmac.new(b"paper-0001", query.encode(), hashlib.sha256).hexdigest()
    assert line.opened == ["/ws-api/v3"]


async def test_spot_executions_and_balances_are_the_same_events(
    line: Line, spot_stream: SpotUserStream
) -> None:
    balances = {
        "e": "outboundAccountPosition",
        "E": 1789000000701,
        "B": [{"a": "BTC", "f": "0.5", "l": "0.25"}],
    }
    cancelled = execution_report(
        x="CANCELED", X="CANCELED", c="cancel-id", C="phxspot1", o="STOP_LOSS_LIMIT", P="69000"
    )
    line.scripts = [
        says(
            {"id": "1", "status": 200, "result": {"subscriptionId": 0}},
            *({"subscriptionId": 0, "event": event} for event in (execution_report(), balances, cancelled)),
        )
    ]

    _, bought, held, gone = await first(4, spot_stream)

    assert isinstance(bought, OrderEvent)
    assert bought.fill is not None
    assert (bought.fill.fee, bought.fill.fee_asset, bought.report.average_price) == (
        Decimal("0.000001"),
        "BTC",
        Decimal(70001),
    )
    assert held == BalanceEvent("BTC", Decimal("0.75"), "", at(1789000000701), locked=Decimal("0.25"))
    assert isinstance(gone, OrderEvent)
    assert (gone.report.client_order_id, gone.report.status) == ("phxspot1", ReportStatus.CANCELLED)
    assert (gone.report.is_conditional, gone.fill) == (True, None)


async def test_a_refused_spot_subscription_is_never_up(line: Line, spot_stream: SpotUserStream) -> None:
    line.scripts = [says({"id": "1", "status": 401, "error": {"code": -2015}})]

    with pytest.raises(TimeoutError):
        await first(1, spot_stream, seconds=0.5)
    assert spot_stream.is_up is False


# -- marks -----------------------------------------------------------------------------------------------


def mark_row(price: str, milliseconds: int = 1789000000000) -> dict[str, Any]:
    return {
        "e": "markPriceUpdate",
        "E": milliseconds,
        "s": "BTCUSDT",
        "p": price,
        "r": "0.0001",
        "T": 1789027200000,
    }


def polled_row(price: str) -> dict[str, Any]:
    funding = {"lastFundingRate": "0.0001", "nextFundingTime": 1789027200000}
    return {"symbol": "BTCUSDT", "markPrice": price, "time": 1789000009000, **funding}


@pytest.fixture
def mark_stream(line: Line, factory: GatewayFactory) -> MarkStream:
    polled = factory.market_data(Market.FUTURES)
    return MarkStream(
        factory._session.get,
        line.url,
        polled,
        stale_after_seconds=0.3,
        poll_seconds=0.1,
        ping_seconds=0.1,
    )


async def test_marks_come_as_batches_of_one_subscription(line: Line, mark_stream: MarkStream) -> None:
    line.scripts = [says({"result": None, "id": 1}, [mark_row("70000.1")], [mark_row("70000.2")])]

    async with asyncio.timeout(PATIENCE_SECONDS), aclosing(mark_stream.batches()) as batches:
        one, two = await anext(batches), await anext(batches)
        stale = mark_stream.is_stale

    assert one == [
        MarkPrice(BTC, Decimal("70000.1"), at(1789000000000), Decimal("0.0001"), at(1789027200000))
    ]
    assert two[0].mark_price == Decimal("70000.2")
    assert stale is False
    assert line.opened == ["/market/ws"]
    assert line.heard == [{"method": "SUBSCRIBE", "params": ["!markPrice@arr@1s"], "id": 1}]


async def test_a_silent_stream_is_visibly_stale_and_polled(
    venue: RecordedVenue, line: Line, mark_stream: MarkStream
) -> None:
    venue.answer("GET /fapi/v1/premiumIndex", [polled_row("69999")])
    line.scripts = [says([mark_row("70000.1")])]
    told = []

    async with asyncio.timeout(PATIENCE_SECONDS), aclosing(mark_stream.batches()) as batches:
        async for batch in batches:
            told.append((batch[0].mark_price, mark_stream.is_stale))
            if told[-1][1] and (Decimal("70000.1"), False) in told:
                break

    assert told[-1] == (Decimal(69999), True)


async def test_neither_stream_nor_poll_is_silence_not_an_error(
    venue: RecordedVenue, line: Line, mark_stream: MarkStream
) -> None:
    venue.answer("GET /fapi/v1/premiumIndex", "", 502)
    line.scripts = [says()]

    async with aclosing(mark_stream.batches()) as batches:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(batches), 0.8)

    assert mark_stream.is_stale is True


async def test_a_line_that_answers_pings_but_says_nothing_is_opened_anew(
    venue: RecordedVenue, line: Line, mark_stream: MarkStream
) -> None:
    venue.answer("GET /fapi/v1/premiumIndex", "", 502)
    line.scripts = [says(), says([mark_row("2")])]

    async with asyncio.timeout(PATIENCE_SECONDS), aclosing(mark_stream.batches()) as batches:
        batch = await anext(batches)

    assert (batch[0].mark_price, len(line.opened)) == (Decimal(2), 2)


async def test_where_all_marks_stay_silent_the_watched_are_asked_for_one_by_one(
    venue: RecordedVenue, line: Line, factory: GatewayFactory
) -> None:
    venue.answer("GET /fapi/v1/premiumIndex", "", 502)

    async def says_what_was_asked_for(socket: web.WebSocketResponse) -> None:
        while len(line.heard) < 2:  # noqa: ASYNC110 -- of the fixture, which knows no event
            await asyncio.sleep(0.01)
        await says(mark_row("2"))(socket)

    line.scripts = [says(), says_what_was_asked_for]
    told = {"stale_after_seconds": 0.1, "poll_seconds": 0.1, "ping_seconds": 0.1}
    polled = factory.market_data(Market.FUTURES)
    stream = MarkStream(
        factory._session.get, line.url, polled, watched=lambda: {BTC, "GONE/USDT:USDT"}, **told
    )

    async with asyncio.timeout(PATIENCE_SECONDS), aclosing(stream.batches()) as batches:
        batch = await anext(batches)

    assert (batch[0].symbol, batch[0].mark_price) == (BTC, Decimal(2))
    assert [message["params"] for message in line.heard] == [["!markPrice@arr@1s"], ["btcusdt@markPrice@1s"]]


async def test_a_cut_stream_comes_back_by_itself(line: Line, mark_stream: MarkStream) -> None:
    line.scripts = [says([mark_row("1")], then="close"), says([mark_row("2")])]

    prices: list[Decimal] = []
    async with asyncio.timeout(PATIENCE_SECONDS), aclosing(mark_stream.batches()) as batches:
        async for batch in batches:
            prices.extend(mark.mark_price for mark in batch)
            if len(prices) == 2:
                break

    assert prices == [1, 2]
    assert mark_stream.is_stale is False
