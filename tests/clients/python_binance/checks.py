"""python-binance as it is: orders of both stores, settings, reads, streams and the WebSocket API."""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

from binance import AsyncClient, BinanceSocketManager, Client
from binance.exceptions import BinanceAPIException

from tests.clients.checks import Place, expect, pass_checks

BTC, SOL = "BTCUSDT", "SOLUSDT"


def point_at(place: Place) -> None:
    """Addresses are class attributes; the constructor calls the exchange already."""
    for client in (Client, AsyncClient):
        client.API_URL = f"{place.url}/api"
        client.FUTURES_URL = f"{place.url}/fapi"
        client.MARGIN_API_URL = f"{place.url}/sapi"
        client.FUTURES_DATA_URL = f"{place.url}/futures/data"
        client.WS_FUTURES_URL = f"{place.streams}/ws-fapi/v1"
        client.WS_API_URL = f"{place.streams}/ws-api/v3"
    BinanceSocketManager.FSTREAM_URL = f"{place.streams}/"
    BinanceSocketManager.STREAM_URL = f"{place.streams}/"


def refused(code: int, call: Callable[[], Any]) -> None:
    """The call fails with that code."""
    try:
        call()
    except BinanceAPIException as error:
        expect(error.code, code)
    else:
        raise AssertionError(f"{code} was expected")


class Rest:
    """The blocking client."""

    def __init__(self, place: Place, key: str) -> None:
        self.place = place
        self.client = Client(key, key)

    def checks(self) -> list[Callable[[], None]]:
        """In order: each begins flat."""
        return [
            self.market_reads,
            self.settings,
            self.a_market_order_opens_and_closes,
            self.a_limit_order_rests_is_modified_and_cancelled,
            self.a_batch_answers_for_each_order,
            self.stop_target_and_trail_live_in_the_conditional_store,
            self.all_are_cancelled_in_both_stores,
            self.a_stop_fires_into_an_order_of_its_client_id,
            self.balance_account_and_history,
            self.refusals_carry_their_codes,
            self.hedged_sides_are_held_apart,
            self.spot_is_bought_and_sold,
        ]

    def market_reads(self) -> None:
        """Public futures data."""
        api = self.client
        expect(api.futures_ping(), {})
        info = api.futures_exchange_info()
        expect(BTC in {row["symbol"] for row in info["symbols"]}, True)
        expect(len(api.futures_klines(symbol=BTC, interval="1m", limit=5)), 5)
        expect(len(api.futures_mark_price_klines(symbol=BTC, interval="1m", limit=5)), 5)
        expect(
            len(api.futures_continuous_klines(pair=BTC, contractType="PERPETUAL", interval="1m", limit=5)), 5
        )
        expect(float(api.futures_mark_price(symbol=BTC)["markPrice"]), 100_000.0)
        expect(float(api.futures_ticker(symbol=BTC)["lastPrice"]), 100_000.0)
        expect(float(api.futures_symbol_ticker(symbol=BTC)["price"]), 100_000.0)
        expect(float(api.futures_orderbook_ticker(symbol=BTC)["askPrice"]), 100_005.0)
        expect(float(api.futures_order_book(symbol=BTC, limit=5)["bids"][0][0]), 99_995.0)
        expect(len(api.futures_recent_trades(symbol=BTC, limit=5)), 5)
        expect(len(api.futures_aggregate_trades(symbol=BTC, limit=5)), 5)
        expect(len(api.futures_funding_rate(symbol=BTC, limit=3)), 3)
        expect(api.futures_open_interest(symbol=BTC)["symbol"], BTC)

    def settings(self) -> None:
        """Leverage, margin type, modes."""
        api = self.client
        expect(api.futures_change_leverage(symbol=BTC, leverage=7)["leverage"], 7)
        expect(api.futures_change_margin_type(symbol=SOL, marginType="ISOLATED")["code"], 200)
        refused(-4046, lambda: api.futures_change_margin_type(symbol=SOL, marginType="ISOLATED"))
        expect(api.futures_get_position_mode(), {"dualSidePosition": False})
        expect(api.futures_get_multi_assets_mode(), {"multiAssetsMargin": False})
        [config] = api.futures_symbol_config(symbol=BTC)
        expect((config["leverage"], config["marginType"]), (7, "CROSSED"))
        expect(api.futures_account_config()["canTrade"], True)
        expect(api.futures_leverage_bracket(symbol=BTC)[0]["brackets"][0]["initialLeverage"], 150)
        expect(api.futures_commission_rate(symbol=BTC)["takerCommissionRate"], "0.000500")

    def a_market_order_opens_and_closes(self) -> None:
        """Bought, seen, sold reduce-only."""
        api = self.client
        placed = api.futures_create_order(symbol=BTC, side="BUY", type="MARKET", quantity=0.05)
        expect((placed["status"], placed["executedQty"], "avgPrice" in placed), ("NEW", "0.000", False))
        order = api.futures_get_order(symbol=BTC, orderId=placed["orderId"])
        expect((order["status"], float(order["avgPrice"])), ("FILLED", 100_005.0))
        [position] = api.futures_position_information(symbol=BTC)
        expect(float(position["positionAmt"]), 0.05)
        closed = api.futures_create_order(
            symbol=BTC,
            side="SELL",
            type="MARKET",
            quantity=0.05,
            reduceOnly="true",
            newOrderRespType="RESULT",
        )
        expect(closed["status"], "FILLED")
        expect(api.futures_position_information(symbol=BTC), [])

    def a_limit_order_rests_is_modified_and_cancelled(self) -> None:
        """GTC."""
        api = self.client
        given = {"symbol": BTC, "side": "BUY", "quantity": 0.01}
        placed = api.futures_create_order(type="LIMIT", timeInForce="GTC", price=90_000, **given)
        api.futures_modify_order(orderId=placed["orderId"], price=91_000, **given)
        [listed] = api.futures_get_open_orders(symbol=BTC)
        expect(float(listed["price"]), 91_000.0)
        expect(api.futures_cancel_order(symbol=BTC, orderId=placed["orderId"])["status"], "CANCELED")
        expect(api.futures_get_open_orders(symbol=BTC), [])

    def a_batch_answers_for_each_order(self) -> None:
        """One is placed, one refused."""
        order = {"symbol": BTC, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.01"}
        rows = [order | {"price": "90000"}, order | {"quantity": "0.001", "price": "40000"}]
        placed = self.client.futures_place_batch_order(batchOrders=rows)
        expect([row.get("status", row.get("code")) for row in placed], ["NEW", -4164])
        self.client.futures_cancel_orders(symbol=BTC, orderidlist=[placed[0]["orderId"]])
        expect(self.client.futures_get_open_orders(symbol=BTC), [])

    def stop_target_and_trail_live_in_the_conditional_store(self) -> None:
        """The client sends the conditional types there by itself."""
        api = self.client
        given = {"symbol": BTC, "side": "SELL", "quantity": 0.01}
        stop = api.futures_create_order(
            type="STOP_MARKET", stopPrice=98_000, newClientOrderId="stop1", **given
        )
        api.futures_create_order(type="TAKE_PROFIT_MARKET", stopPrice=102_000, **given)
        api.futures_create_order(
            type="TRAILING_STOP_MARKET", callbackRate=1.5, activatePrice=101_000, **given
        )
        api.futures_create_order(type="STOP", stopPrice=98_000, price=97_900, timeInForce="GTC", **given)
        expect(stop["algoStatus"], "NEW")
        expect(api.futures_get_open_orders(symbol=BTC), [])
        expect(len(api.futures_get_open_algo_orders(symbol=BTC)), 4)
        expect(api.futures_get_algo_order(algoId=stop["algoId"])["algoStatus"], "NEW")
        expect(api.futures_cancel_algo_order(algoId=stop["algoId"])["msg"], "success")
        expect(len(api.futures_get_all_algo_orders(symbol=BTC)), 4)

    def all_are_cancelled_in_both_stores(self) -> None:
        """Two calls."""
        api = self.client
        api.futures_create_order(
            symbol=BTC, side="BUY", type="LIMIT", timeInForce="GTC", quantity=0.01, price=90_000
        )
        api.futures_cancel_all_open_orders(symbol=BTC)
        expect((len(api.futures_get_open_orders()), len(api.futures_get_open_algo_orders())), (0, 3))
        api.futures_cancel_all_algo_open_orders(symbol=BTC)
        expect(api.futures_get_open_algo_orders(), [])

    def a_stop_fires_into_an_order_of_its_client_id(self) -> None:
        """At the price the book gives."""
        api = self.client
        api.futures_create_order(symbol=SOL, side="BUY", type="MARKET", quantity=10)
        stop = api.futures_create_algo_order(
            algoType="CONDITIONAL", symbol=SOL, side="SELL", type="STOP_MARKET", triggerPrice=145,
            closePosition="true", workingType="MARK_PRICE", clientAlgoId="guard1",
        )  # fmt: skip
        self.place.pin(SOL, "140")
        fired = api.futures_get_algo_order(algoId=stop["algoId"])
        expect(fired["algoStatus"], "FINISHED")
        order = api.futures_get_order(symbol=SOL, origClientOrderId="guard1")
        expect((order["status"], str(order["orderId"])), ("FILLED", fired["actualOrderId"]))
        expect(float(order["avgPrice"]) < 140, True)
        self.place.pin(SOL, "150")

    def balance_account_and_history(self) -> None:
        """What is left, and how it came about."""
        api = self.client
        [usdt] = [row for row in api.futures_account_balance() if row["asset"] == "USDT"]
        account = api.futures_account()
        expect(account["totalWalletBalance"], usdt["balance"])
        fills = api.futures_account_trades(symbol=BTC)
        expect([fill["side"] for fill in fills], ["BUY", "SELL"])
        kinds = {row["incomeType"] for row in api.futures_income_history()}
        expect({"REALIZED_PNL", "COMMISSION"} <= kinds, True)
        expect(len(api.futures_get_all_orders(symbol=BTC)) >= 4, True)

    def refusals_carry_their_codes(self) -> None:
        """A few of each sort."""
        api = self.client
        order = {"symbol": BTC, "side": "BUY", "type": "MARKET"}
        refused(-2019, lambda: api.futures_create_order(quantity=100, **order))
        refused(-1111, lambda: api.futures_create_order(quantity=0.0101, **order))
        refused(-2022, lambda: api.futures_create_order(quantity=0.01, reduceOnly="true", **order))
        refused(-1121, lambda: api.futures_mark_price(symbol="NONEUSDT"))
        refused(-2013, lambda: api.futures_get_order(symbol=BTC, origClientOrderId="never"))
        refused(-2011, lambda: api.futures_cancel_order(symbol=BTC, origClientOrderId="never"))

    def hedged_sides_are_held_apart(self) -> None:
        """Both sides open, one closed."""
        api = self.client
        api.futures_change_position_mode(dualSidePosition="true")
        order = {"symbol": BTC, "type": "MARKET"}
        api.futures_create_order(side="BUY", positionSide="LONG", quantity=0.02, **order)
        api.futures_create_order(side="SELL", positionSide="SHORT", quantity=0.01, **order)
        api.futures_create_order(side="SELL", positionSide="LONG", quantity=0.02, **order)
        [left] = [p for p in api.futures_position_information(symbol=BTC) if float(p["positionAmt"])]
        expect((left["positionSide"], float(left["positionAmt"])), ("SHORT", -0.01))
        api.futures_create_order(side="BUY", positionSide="SHORT", quantity=0.01, **order)
        api.futures_change_position_mode(dualSidePosition="false")

    def spot_is_bought_and_sold(self) -> None:
        """Market orders, with their fills."""
        api = self.client
        bought = api.order_market_buy(symbol=BTC, quantity=0.01)
        expect((bought["status"], float(bought["fills"][0]["price"])), ("FILLED", 100_005.0))
        expect(float(api.get_asset_balance("BTC")["free"]), 0.00999)
        expect(api.order_market_sell(symbol=BTC, quantity=0.00999)["status"], "FILLED")
        expect(len(api.get_my_trades(symbol=BTC)), 2)
        expect(len(api.get_klines(symbol=BTC, interval="1m", limit=5)), 5)
        expect(api.get_account_api_permissions()["enableFutures"], True)


class Streams:
    """The asynchronous client with its socket manager."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.client: Any = None

    async def the_client_connects(self) -> None:
        """It pings the spot address first."""
        self.client = await AsyncClient.create(self.key, self.key)

    async def market_streams_are_told(self) -> None:
        """A mark, and two combined."""
        sockets = BinanceSocketManager(self.client)
        async with sockets.symbol_mark_price_socket(BTC) as socket:
            message = await asyncio.wait_for(socket.recv(), 10)
            expect(float(message["data"]["p"]), 100_000.0)
        streams = ["btcusdt@kline_1m", "btcusdt@ticker"]
        async with sockets.futures_multiplex_socket(streams) as socket:
            told = {(await asyncio.wait_for(socket.recv(), 10))["stream"] for _ in range(4)}
            expect(told, set(streams))

    async def the_user_stream_tells_an_order(self) -> None:
        """From NEW to the balance."""
        async with BinanceSocketManager(self.client).futures_user_socket() as socket:
            await self.client.futures_create_order(symbol=BTC, side="BUY", type="MARKET", quantity=0.01)
            told = [await asyncio.wait_for(socket.recv(), 10) for _ in range(3)]
        kinds = [row["e"] for row in told]
        expect(kinds, ["ORDER_TRADE_UPDATE", "ORDER_TRADE_UPDATE", "ACCOUNT_UPDATE"])
        expect([row["o"]["X"] for row in told[:2]], ["NEW", "FILLED"])

    async def orders_go_over_the_websocket_api(self) -> None:
        """Placed, asked for, cancelled, and a conditional one."""
        api = self.client
        placed = await api.ws_futures_create_order(
            symbol=BTC, side="BUY", type="LIMIT", timeInForce="GTC", quantity=0.01, price=90_000
        )
        found = await api.ws_futures_get_order(symbol=BTC, orderId=placed["orderId"])
        expect(found["status"], "NEW")
        gone = await api.ws_futures_cancel_order(symbol=BTC, orderId=placed["orderId"])
        expect(gone["status"], "CANCELED")
        stop = await api.ws_futures_create_algo_order(
            algoType="CONDITIONAL",
            symbol=BTC,
            side="SELL",
            type="STOP_MARKET",
            triggerPrice=98_000,
            quantity=0.01,
        )
        await api.ws_futures_cancel_algo_order(algoId=stop["algoId"])

    async def reads_go_over_the_websocket_api(self) -> None:
        """Account, balance and positions, in both versions; the book."""
        api = self.client
        for read in (api.ws_futures_account_position, api.ws_futures_v2_account_position):
            held = [row for row in await read() if float(row["positionAmt"])]
            expect([row["symbol"] for row in held], [BTC])
        for read in (api.ws_futures_account_balance, api.ws_futures_v2_account_balance):
            expect([row["asset"] for row in await read()], ["USDT"])
        for read in (api.ws_futures_account_status, api.ws_futures_v2_account_status):
            expect(float((await read())["totalWalletBalance"]) < 10_000, True)
        book = await api.ws_futures_get_order_book(symbol=BTC)
        expect(float(book["bids"][0][0]), 99_995.0)
        expect(float((await api.ws_futures_get_order_book_ticker(symbol=BTC))["askPrice"]), 100_005.0)

    async def the_client_closes(self) -> None:
        """Its connections end."""
        await self.client.close_connection()


async def main() -> int:
    """All checks."""
    place = Place.of_environment()
    point_at(place)
    rest, streams = Rest(place, "python-binance"), Streams("python-binance-streams")
    return await pass_checks(
        [
            *rest.checks(),
            streams.the_client_connects,
            streams.market_streams_are_told,
            streams.the_user_stream_tells_an_order,
            streams.orders_go_over_the_websocket_api,
            streams.reads_go_over_the_websocket_api,
            streams.the_client_closes,
        ]
    )


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
