"""ccxt.pro as it is: market streams, the user stream, and orders over the WebSocket API."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import ccxt
import pytest

from tests.clients.ccxt_clients import ASYNC, BTC, SOL, Client, Kind, with_production_errors
from tests.processes import PaperExchange

Connect = Callable[[Kind], Client]
both = pytest.mark.parametrize("kind", ASYNC, ids=str)
SOON_SECONDS = 10


async def soon(watching: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(watching, SOON_SECONDS)


class Watch:
    """What one watch method of a client tells, until it is asked for; one reader for each."""

    def __init__(self, watch: Callable[..., Awaitable[Any]], *words: Any) -> None:
        self._watch = watch
        self._words = words
        self._told: asyncio.Queue[Any] = asyncio.Queue()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while True:
            told = await self._watch(*self._words)
            for row in told if isinstance(told, list) else [told]:
                self._told.put_nowait(dict(row))

    async def until(self, true: Callable[[Any], bool]) -> list[Any]:
        """What was told up to the first row of which it is true."""
        rows: list[Any] = []
        while not rows or not true(rows[-1]):
            rows.append(await soon(self._told.get()))
        return rows

    async def stop(self) -> None:
        """Read no more."""
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)


@both
async def test_market_streams_tell_what_the_rest_interface_tells(connect: Connect, kind: Kind) -> None:
    client = connect(kind)
    await client.load_markets()
    assert (await soon(client.watch_ticker(BTC)))["last"] == 100_000
    assert len(await soon(client.watch_tickers([BTC, SOL]))) >= 1
    assert (await soon(client.watch_mark_price(BTC)))["markPrice"] == 100_000
    assert (await soon(client.watch_mark_prices()))[SOL]["markPrice"] == 150
    quote = (await soon(client.watch_bids_asks([BTC])))[BTC]
    assert (quote["bid"], quote["ask"]) == (99_995, 100_005)
    assert (await soon(client.watch_trades(BTC)))[-1]["price"] == 100_000
    assert (await soon(client.watch_ohlcv(BTC, "1m")))[-1][4] == 100_000
    book = await soon(client.watch_order_book(BTC, 10))
    assert (book["bids"][0][0], book["asks"][0][0]) == (99_995, 100_005)


@both
async def test_marks_are_told_each_second(paper: PaperExchange, connect: Connect, kind: Kind) -> None:
    client = connect(kind)
    await client.load_markets()
    marks = Watch(client.watch_mark_price, BTC)
    await marks.until(lambda row: row["markPrice"] == 100_000)
    paper.set_mark("BTCUSDT", "100100")
    told = await marks.until(lambda row: row["markPrice"] == 100_100)
    assert {row["markPrice"] for row in told} <= {100_000, 100_100}
    await marks.stop()


@both
async def test_the_user_stream_tells_an_order_from_new_to_filled(connect: Connect, kind: Kind) -> None:
    client = connect(kind)
    await client.load_markets()
    orders, fills = Watch(client.watch_orders), Watch(client.watch_my_trades)
    await asyncio.sleep(0.3)
    await client.create_order(BTC, "market", "buy", 0.01, None, {"clientOrderId": "told1"})
    told = await orders.until(lambda row: row["status"] == "closed")
    assert {row["clientOrderId"] for row in told} == {"told1"}
    assert (told[-1]["filled"], told[-1]["average"], told[0]["status"]) == (0.01, 100_005, "open")
    [fill] = await fills.until(lambda row: row["side"] == "buy")
    assert (fill["price"], fill["amount"], fill["fee"]["cost"]) == (100_005, 0.01, 0.500025)
    await client.create_order(BTC, "limit", "buy", 0.01, 90_000, {"clientOrderId": "told2"})
    await client.cancel_order(None, BTC, {"clientOrderId": "told2"})
    rested = await orders.until(lambda row: row["status"] == "canceled")
    assert [row["status"] for row in rested] == ["open", "canceled"]
    await orders.stop()
    await fills.stop()


@both
async def test_the_user_stream_tells_balance_and_position(connect: Connect, kind: Kind) -> None:
    client = connect(kind)
    await client.load_markets()
    balances, positions = Watch(client.watch_balance), Watch(client.watch_positions)
    await asyncio.sleep(0.3)
    await client.create_order(BTC, "market", "buy", 0.01)
    told = await balances.until(lambda row: row["USDT"]["total"] != 10_000)
    assert told[-1]["USDT"]["total"] == 9999.499975
    held = await positions.until(lambda row: row["contracts"] == 0.01)
    assert (held[-1]["symbol"], held[-1]["side"], held[-1]["entryPrice"]) == (BTC, "long", 100_005)
    await balances.stop()
    await positions.stop()


@both
async def test_a_stop_that_fires_is_told_as_an_order_of_its_client_id(
    paper: PaperExchange, connect: Connect, kind: Kind
) -> None:
    client = connect(kind)
    await client.load_markets()
    await client.create_order(SOL, "market", "buy", 10)
    guard = {"stopLossPrice": 145, "reduceOnly": True, "clientOrderId": "guard1"}
    await client.create_order(SOL, "market", "sell", 10, None, guard)
    orders = Watch(client.watch_orders)
    await asyncio.sleep(0.3)
    paper.set_mark("SOLUSDT", "140")
    told = await orders.until(lambda row: row["status"] == "closed" and row["filled"] == 10)
    assert told[-1]["clientOrderId"] == "guard1"
    await orders.stop()


@both
async def test_orders_are_placed_and_cancelled_over_the_websocket_api(connect: Connect, kind: Kind) -> None:
    client = with_production_errors(connect(kind))
    await client.load_markets()
    params = {"clientOrderId": "socket1"}
    placed = await soon(client.create_order_ws(BTC, "limit", "buy", 0.01, 90_000, params))
    assert (placed["status"], placed["clientOrderId"]) == ("open", "socket1")
    assert [o["id"] for o in await client.fetch_open_orders(BTC)] == [placed["id"]]
    found = await soon(client.fetch_order_ws(placed["id"], BTC))
    assert (found["price"], found["status"]) == (90_000, "open")
    cancelled = await soon(client.cancel_order_ws(placed["id"], BTC))
    assert cancelled["status"] == "canceled"
    assert await client.fetch_open_orders(BTC) == []
    with pytest.raises(ccxt.InsufficientFunds):
        await soon(client.create_order_ws(BTC, "market", "buy", 100))


@both
async def test_account_and_positions_are_read_over_the_websocket_api(connect: Connect, kind: Kind) -> None:
    client = connect(kind)
    await client.load_markets()
    opened = await soon(client.create_order_ws(BTC, "market", "buy", 0.01))
    assert opened["filled"] == 0.01
    assert (await soon(client.fetch_balance_ws({"type": "swap"})))["USDT"]["total"] < 10_000
    [position] = await soon(client.fetch_positions_ws([BTC]))
    assert (position["side"], position["contracts"]) == ("long", 0.01)
