"""Unmodified ccxt and ccxt.pro do what a desk does with them."""

import asyncio
from typing import Any

import ccxt
import pytest

from paper.tests.clients import client
from paper.tests.wire import Wire

BTC = "BTC/USDT:USDT"


async def test_futures_from_markets_to_a_closed_position(server: Wire) -> None:
    async with client("binanceusdm", server.url, "ccxt-usdm") as ex:
        markets = await ex.load_markets()
        assert markets[BTC]["limits"]["cost"]["min"] == 50
        assert (await ex.fetch_balance())["USDT"]["free"] == 10_000
        await ex.set_margin_mode("isolated", BTC)
        await ex.set_leverage(3, BTC)
        read_back = await ex.fetch_leverage(BTC)
        assert (read_back["longLeverage"], read_back["marginMode"]) == (3, "isolated")

        params = {"timeInForce": "IOC", "clientOrderId": "entry1"}
        entry = await ex.create_order(BTC, "limit", "buy", 0.05, 100_200, params)
        assert (entry["status"], entry["filled"], entry["average"]) == ("closed", 0.05, None)
        found = await ex.fetch_order(None, BTC, {"clientOrderId": "entry1"})
        assert (found["status"], found["average"], found["cost"]) == ("closed", 100_005, 5000.25)

        guard = {"closePosition": True, "workingType": "MARK_PRICE", "clientOrderId": "stop1"}
        stop = await ex.create_order(BTC, "market", "sell", 0.05, None, guard | {"stopLossPrice": 98_000})
        assert (stop["status"], stop["clientOrderId"]) == ("open", "stop1")
        with pytest.raises(ccxt.ExchangeError, match="-4130"):
            await ex.create_order(
                BTC, "market", "sell", 0.05, None, guard | {"stopLossPrice": 97_000, "clientOrderId": "stop2"}
            )
        [listed] = await ex.fetch_open_orders(BTC, params={"trigger": True})
        assert (listed["clientOrderId"], listed["triggerPrice"]) == ("stop1", 98_000)

        [position] = await ex.fetch_positions([BTC])
        assert (position["contracts"], position["side"], position["entryPrice"]) == (0.05, "long", 100_005)
        assert position["marginMode"] == "isolated"
        await ex.cancel_order(None, BTC, {"trigger": True, "clientOrderId": "stop1"})
        assert await ex.fetch_open_orders(BTC, params={"trigger": True}) == []

        closed = await ex.create_order(BTC, "market", "sell", 0.05, None, {"reduceOnly": True})
        assert closed["status"] == "closed"
        assert await ex.fetch_positions([BTC]) == []
        fills = await ex.fetch_my_trades(BTC)
        assert [(fill["price"], fill["info"]["realizedPnl"]) for fill in fills] == [
            (100_005, "0.00000000"),
            (99_995, "-0.50000000"),
        ]
        wallet = (await ex.fetch_balance())["USDT"]["total"]
        assert wallet == pytest.approx(10_000 - 0.5 - sum(fill["fee"]["cost"] for fill in fills), abs=1e-7)


async def test_an_immediate_order_away_from_the_book_expires_unfilled(server: Wire) -> None:
    async with client("binanceusdm", server.url, "ccxt-ioc") as ex:
        placed = await ex.create_order(BTC, "limit", "buy", 0.05, 99_000, {"timeInForce": "IOC"})
        assert (placed["status"], placed["filled"]) == ("expired", 0)


async def test_market_reads_parse(server: Wire) -> None:
    async with client("binanceusdm", server.url, "ccxt-reads") as ex:
        assert (await ex.fetch_ticker("ADA/USDT:USDT"))["quoteVolume"] > 0
        assert set(await ex.fetch_tickers()) >= {BTC}
        assert (await ex.fetch_bids_asks([BTC]))[BTC]["bid"] == 99_995
        assert (await ex.fetch_funding_rate(BTC))["markPrice"] == 100_000
        assert len(await ex.fetch_funding_rate_history(BTC, limit=3)) == 3
        assert (await ex.fetch_leverage_tiers([BTC]))[BTC][0]["maxLeverage"] == 150
        assert (await ex.fetch_order_book(BTC, 5))["asks"][0][0] == 100_005
        assert len(await ex.fetch_ohlcv("ADA/USDT:USDT", "15m", limit=20)) == 20
        assert (await ex.fetch_position_mode())["hedged"] is False
        assert (await ex.fetch_trading_fee(BTC))["taker"] == 0.0005
        assert (await ex.fetch_status())["status"] == "ok"
        assert await ex.fetch_funding_history(BTC) == []


async def test_spot_from_a_buy_to_a_stop_that_locks_it(server: Wire) -> None:
    async with client("binance", server.url, "ccxt-spot") as ex:
        await ex.load_markets()
        params = {"timeInForce": "IOC", "clientOrderId": "spot1"}
        bought = await ex.create_order("BTC/USDT", "limit", "buy", 0.01, 100_200, params)
        assert (bought["status"], bought["average"], bought["fee"]) == (
            "closed",
            100_005,
            {"currency": "BTC", "cost": 0.00001},
        )
        guard = {"stopPrice": 98_000, "clientOrderId": "guard1"}
        await ex.create_order("BTC/USDT", "STOP_LOSS_LIMIT", "sell", 0.00999, 95_060, guard)
        balance = await ex.fetch_balance()
        assert (balance["BTC"]["free"], balance["BTC"]["used"]) == (0, 0.00999)
        with pytest.raises(ccxt.InsufficientFunds):
            await ex.create_order("BTC/USDT", "market", "sell", 0.005)
        await ex.cancel_order(None, "BTC/USDT", {"clientOrderId": "guard1"})
        assert (await ex.fetch_balance())["BTC"]["free"] == 0.00999
        assert len(await ex.fetch_my_trades("BTC/USDT")) == 1


async def test_streams_tell_marks_and_what_happens_to_orders(server: Wire) -> None:
    async with client("binanceusdm", server.url, "ccxt-streams") as ex:
        await ex.load_markets()
        marks = await asyncio.wait_for(ex.watch_mark_prices(), 5)
        assert marks[BTC]["markPrice"] == 100_000

        async def closed_order() -> Any:
            while True:
                for order in await ex.watch_orders():
                    if order["status"] == "closed":
                        return order

        watching = asyncio.create_task(closed_order())
        await asyncio.sleep(0.2)
        await ex.create_order(BTC, "market", "buy", 0.01, None, {"clientOrderId": "seen1"})
        order = await asyncio.wait_for(watching, 5)
        assert (order["clientOrderId"], order["filled"], order["average"]) == ("seen1", 0.01, 100_005)


async def test_spot_user_events_come_over_the_websocket_api(server: Wire) -> None:
    async with client("binance", server.url, "ccxt-spot-streams") as ex:
        await ex.load_markets()
        watching = asyncio.create_task(ex.watch_balance())
        await asyncio.sleep(0.2)
        await ex.create_order("BTC/USDT", "market", "buy", 0.01)
        balance = await asyncio.wait_for(watching, 5)
        assert balance["BTC"]["free"] == 0.00999
