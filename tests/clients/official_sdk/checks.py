"""The official derivatives SDK as it is: its models refuse any field of another type than documented."""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

from binance_common.configuration import (
    ConfigurationRestAPI,
    ConfigurationWebSocketAPI,
    ConfigurationWebSocketStreams,
)
from binance_common.errors import BadRequestError
from binance_sdk_derivatives_trading_usds_futures import DerivativesTradingUsdsFutures

from tests.clients.checks import Place, expect, pass_checks

BTC, SOL = "BTCUSDT", "SOLUSDT"
KEY = "official-sdk"
SOON_SECONDS = 10


def plain(value: Any) -> Any:
    """What a model holds, under the names of the wire."""
    if isinstance(value, list):
        return [plain(row) for row in value]
    return plain(value.to_dict()) if hasattr(value, "to_dict") else value


def refused(code: int, call: Callable[[], Any]) -> None:
    """The call fails with that code."""
    try:
        call()
    except BadRequestError as error:
        expect(error.status_code, code)  # this is where it keeps the code
    else:
        raise AssertionError(f"{code} was expected")


def kind_of(message: Any) -> str:
    """The event a message was recognised as."""
    return type(getattr(message, "actual_instance", message)).__name__


class Rest:
    """The REST client."""

    def __init__(self, place: Place) -> None:
        self.place = place
        configuration = ConfigurationRestAPI(api_key=KEY, api_secret=KEY, base_path=place.url, timeout=5000)
        self.api = DerivativesTradingUsdsFutures(config_rest_api=configuration).rest_api

    def call(self, name: str, **params: Any) -> Any:
        """The parsed answer of one method."""
        return plain(getattr(self.api, name)(**params).data())

    def checks(self) -> list[Callable[[], None]]:
        """In order: each begins flat."""
        return [
            self.market_reads_fit_their_models,
            self.settings,
            self.a_market_order_opens_and_closes,
            self.a_limit_order_rests_is_modified_and_cancelled,
            self.a_batch_is_placed_and_cancelled,
            self.stop_target_and_trail_live_in_the_conditional_store,
            self.all_are_cancelled_in_both_stores,
            self.a_stop_fires_into_an_order_of_its_client_id,
            self.account_reads_fit_their_models,
            self.isolated_margin_is_added,
            self.refusals_carry_their_codes,
            self.hedged_sides_are_held_apart,
        ]

    def market_reads_fit_their_models(self) -> None:
        """Public data, with a symbol and without."""
        call, symbol = self.call, {"symbol": BTC}
        call("test_connectivity")
        expect(call("check_server_time")["serverTime"] > 0, True)
        expect(BTC in {row["symbol"] for row in call("exchange_information")["symbols"]}, True)
        expect(len(call("kline_candlestick_data", interval="1m", limit=5, **symbol)), 5)
        expect(len(call("mark_price_kline_candlestick_data", interval="1m", limit=5, **symbol)), 5)
        expect(len(call("index_price_kline_candlestick_data", interval="1m", limit=5, pair=BTC)), 5)
        continuous = {"pair": BTC, "contract_type": "PERPETUAL", "interval": "1m", "limit": 5}
        expect(len(call("continuous_contract_kline_candlestick_data", **continuous)), 5)
        expect(float(call("mark_price", **symbol)["markPrice"]), 100_000.0)
        expect(float(call("ticker24hr_price_change_statistics", **symbol)["lastPrice"]), 100_000.0)
        expect(float(call("symbol_order_book_ticker", **symbol)["askPrice"]), 100_005.0)
        expect(float(call("symbol_price_ticker_v2", **symbol)["price"]), 100_000.0)
        for read in ("mark_price", "ticker24hr_price_change_statistics", "symbol_order_book_ticker"):
            expect(BTC in {row["symbol"] for row in call(read)}, True)
        expect(float(call("order_book", limit=5, **symbol)["bids"][0][0]), 99_995.0)
        expect(len(call("recent_trades_list", limit=5, **symbol)), 5)
        expect(len(call("compressed_aggregate_trades_list", limit=5, **symbol)), 5)
        expect(len(call("get_funding_rate_history", limit=3, **symbol)), 3)
        expect(BTC in {row["symbol"] for row in call("get_funding_rate_info")}, True)
        expect(call("open_interest", **symbol)["symbol"], BTC)

    def settings(self) -> None:
        """Leverage, margin type, modes."""
        call = self.call
        expect(call("change_initial_leverage", symbol=BTC, leverage=7)["leverage"], 7)
        expect(call("change_margin_type", symbol=SOL, margin_type="ISOLATED")["code"], 200)
        refused(-4046, lambda: call("change_margin_type", symbol=SOL, margin_type="ISOLATED"))
        expect(call("get_current_position_mode")["dualSidePosition"], False)
        expect(call("get_current_multi_assets_mode")["multiAssetsMargin"], False)
        [config] = call("symbol_configuration", symbol=BTC)
        expect((config["leverage"], config["marginType"]), (7, "CROSSED"))
        expect(call("futures_account_configuration")["dualSidePosition"], False)
        call("notional_and_leverage_brackets", symbol=BTC)
        expect(call("user_commission_rate", symbol=BTC)["takerCommissionRate"], "0.000500")
        expect({row["rateLimitType"] for row in call("query_user_rate_limit")}, {"ORDERS"})

    def a_market_order_opens_and_closes(self) -> None:
        """Bought, seen, sold reduce-only."""
        call = self.call
        order = {"symbol": BTC, "type": "MARKET", "quantity": 0.05, "new_order_resp_type": "RESULT"}
        placed = call("new_order", side="BUY", **order)
        expect((placed["status"], placed["executedQty"]), ("FILLED", "0.050"))
        found = call("query_order", symbol=BTC, order_id=placed["orderId"])
        expect(float(found["avgPrice"]), 100_005.0)
        [position] = call("position_information_v3", symbol=BTC)
        expect(float(position["positionAmt"]), 0.05)
        call("position_information_v2", symbol=BTC)
        call("new_order", side="SELL", reduce_only="true", **order)
        expect(call("position_information_v3", symbol=BTC), [])

    def a_limit_order_rests_is_modified_and_cancelled(self) -> None:
        """GTC."""
        call = self.call
        order = {"symbol": BTC, "side": "BUY", "quantity": 0.01}
        placed = call("new_order", type="LIMIT", time_in_force="GTC", price=90_000, **order)
        number = placed["orderId"]
        call("modify_order", order_id=number, price=91_000, **order)
        [listed] = call("current_all_open_orders", symbol=BTC)
        expect(float(listed["price"]), 91_000.0)
        expect(call("query_current_open_order", symbol=BTC, order_id=number)["status"], "NEW")
        expect(call("cancel_order", symbol=BTC, order_id=number)["status"], "CANCELED")
        expect(call("current_all_open_orders"), [])

    def a_batch_is_placed_and_cancelled(self) -> None:
        """Two orders in one call each."""
        order = {"symbol": BTC, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.01"}
        batch = [order | {"price": "90000"}, order | {"price": "91000"}]
        placed = self.call("place_multiple_orders", batch_orders=batch)
        numbers = [row["orderId"] for row in placed]
        self.call("cancel_multiple_orders", symbol=BTC, order_id_list=numbers)
        expect(self.call("current_all_open_orders"), [])

    def stop_target_and_trail_live_in_the_conditional_store(self) -> None:
        """Each type, listed and asked for."""
        call = self.call
        order = {"algo_type": "CONDITIONAL", "symbol": BTC, "side": "SELL", "quantity": 0.01}
        stop = call(
            "new_algo_order", type="STOP_MARKET", trigger_price=98_000, client_algo_id="stop1", **order
        )
        call("new_algo_order", type="TAKE_PROFIT_MARKET", trigger_price=102_000, **order)
        call(
            "new_algo_order", type="TRAILING_STOP_MARKET", callback_rate=1.5, activate_price=101_000, **order
        )
        call("new_algo_order", type="STOP", trigger_price=98_000, price=97_900, **order)
        expect((stop["algoStatus"], stop["clientAlgoId"]), ("NEW", "stop1"))
        expect(call("current_all_open_orders"), [])
        expect(len(call("current_all_algo_open_orders", symbol=BTC)), 4)
        expect(call("query_algo_order", client_algo_id="stop1")["algoStatus"], "NEW")
        expect(call("cancel_algo_order", algo_id=stop["algoId"])["msg"], "success")
        expect(len(call("query_all_algo_orders", symbol=BTC)), 4)

    def all_are_cancelled_in_both_stores(self) -> None:
        """Two calls."""
        call = self.call
        order = {"symbol": BTC, "side": "BUY", "type": "LIMIT", "time_in_force": "GTC"}
        call("new_order", quantity=0.01, price=90_000, **order)
        call("cancel_all_open_orders", symbol=BTC)
        left = len(call("current_all_algo_open_orders"))
        expect((len(call("current_all_open_orders")), left), (0, 3))
        call("cancel_all_algo_open_orders", symbol=BTC)
        expect(call("current_all_algo_open_orders"), [])

    def a_stop_fires_into_an_order_of_its_client_id(self) -> None:
        """At the price the book gives."""
        call = self.call
        call("new_order", symbol=SOL, side="BUY", type="MARKET", quantity=10)
        call(
            "new_algo_order", algo_type="CONDITIONAL", symbol=SOL, side="SELL", type="STOP_MARKET",
            trigger_price=145, close_position="true", working_type="MARK_PRICE", client_algo_id="guard1",
        )  # fmt: skip
        self.place.pin(SOL, "140")
        fired = call("query_algo_order", client_algo_id="guard1")
        expect(fired["algoStatus"], "FINISHED")
        found = call("query_order", symbol=SOL, orig_client_order_id="guard1")
        expect((found["status"], str(found["orderId"])), ("FILLED", fired["actualOrderId"]))
        expect(float(found["avgPrice"]) < 140, True)
        self.place.pin(SOL, "150")

    def account_reads_fit_their_models(self) -> None:
        """Both versions of account and balance; fills, orders, income."""
        call = self.call
        wallet = call("account_information_v3")["totalWalletBalance"]
        expect(call("account_information_v2")["totalWalletBalance"], wallet)
        for read in ("futures_account_balance_v2", "futures_account_balance_v3"):
            expect({row["asset"]: row["balance"] for row in call(read)}["USDT"], wallet)
        expect([row["side"] for row in call("account_trade_list", symbol=BTC)], ["BUY", "SELL"])
        expect(len(call("all_orders", symbol=BTC)) >= 4, True)
        kinds = {row["incomeType"] for row in call("get_income_history")}
        expect({"REALIZED_PNL", "COMMISSION"} <= kinds, True)

    def isolated_margin_is_added(self) -> None:
        """To an isolated position."""
        call = self.call
        call("new_order", symbol=SOL, side="BUY", type="MARKET", quantity=10)
        call("modify_isolated_position_margin", symbol=SOL, amount=20, type=1)
        [position] = call("position_information_v3", symbol=SOL)
        expect(float(position["isolatedWallet"]) > 20, True)
        call("new_order", symbol=SOL, side="SELL", type="MARKET", quantity=10, reduce_only="true")

    def refusals_carry_their_codes(self) -> None:
        """A few of each sort."""
        order = {"symbol": BTC, "side": "BUY", "type": "MARKET"}
        refused(-2019, lambda: self.call("new_order", quantity=100, **order))
        refused(-2022, lambda: self.call("new_order", quantity=0.01, reduce_only="true", **order))
        refused(-4120, lambda: self.call("new_order", **(order | {"type": "STOP_MARKET", "quantity": 0.01})))
        refused(-2013, lambda: self.call("query_order", symbol=BTC, orig_client_order_id="never"))
        refused(-2011, lambda: self.call("cancel_algo_order", client_algo_id="never"))

    def hedged_sides_are_held_apart(self) -> None:
        """Both sides open, both closed."""
        call, order = self.call, {"symbol": BTC, "type": "MARKET"}
        call("change_position_mode", dual_side_position="true")
        call("new_order", side="BUY", position_side="LONG", quantity=0.02, **order)
        call("new_order", side="SELL", position_side="SHORT", quantity=0.01, **order)
        held = {row["positionSide"]: float(row["positionAmt"]) for row in call("position_information_v3")}
        expect(held, {"LONG": 0.02, "SHORT": -0.01})
        call("new_order", side="SELL", position_side="LONG", quantity=0.02, **order)
        call("new_order", side="BUY", position_side="SHORT", quantity=0.01, **order)
        call("change_position_mode", dual_side_position="false")


class Sockets:
    """Streams, and the WebSocket API."""

    def __init__(self, place: Place, rest: Rest) -> None:
        self.rest = rest
        streams = ConfigurationWebSocketStreams(stream_url=place.streams)
        requests = ConfigurationWebSocketAPI(
            api_key=KEY, api_secret=KEY, stream_url=f"{place.streams}/ws-fapi/v1"
        )
        sdk = DerivativesTradingUsdsFutures(config_ws_streams=streams, config_ws_api=requests)
        self.streams, self.requests = sdk.websocket_streams, sdk.websocket_api

    async def market_streams_fit_their_models(self) -> None:
        """Of each kind one message."""
        connection = await self.streams.create_connection()
        try:
            for subscribe in (
                connection.mark_price_stream,
                connection.individual_symbol_ticker_streams,
                connection.individual_symbol_mini_ticker_stream,
                connection.individual_symbol_book_ticker_streams,
                connection.aggregate_trade_streams,
                connection.diff_book_depth_streams,
            ):
                told: asyncio.Queue[Any] = asyncio.Queue()
                stream = await subscribe(symbol=BTC.lower())
                stream.on("message", told.put_nowait)
                message = await asyncio.wait_for(told.get(), SOON_SECONDS)
                expect(plain(message)["s"], BTC)
        finally:
            await connection.close_connection(close_session=True)

    async def the_user_stream_fits_its_models(self) -> None:
        """A market order, then a stop placed and cancelled."""
        key = self.rest.call("start_user_data_stream")["listenKey"]
        self.rest.call("keepalive_user_data_stream")
        told: asyncio.Queue[Any] = asyncio.Queue()
        connection = await self.streams.create_connection()
        try:
            (await connection.user_data(key)).on("message", told.put_nowait)
            await asyncio.sleep(0.3)
            await asyncio.to_thread(self._act)
            kinds = [kind_of(await asyncio.wait_for(told.get(), SOON_SECONDS)) for _ in range(5)]
        finally:
            await connection.close_connection(close_session=True)
        expect(kinds, ["OrderTradeUpdate", "OrderTradeUpdate", "AccountUpdate", "AlgoUpdate", "AlgoUpdate"])
        self.rest.call("close_user_data_stream")

    def _act(self) -> None:
        call = self.rest.call
        call("new_order", symbol=BTC, side="BUY", type="MARKET", quantity=0.01)
        order = {"algo_type": "CONDITIONAL", "symbol": BTC, "side": "SELL", "quantity": 0.01}
        stop = call("new_algo_order", type="STOP_MARKET", trigger_price=98_000, **order)
        call("cancel_algo_order", algo_id=stop["algoId"])

    async def orders_go_over_the_websocket_api(self) -> None:
        """Placed, asked for, cancelled; a conditional one; reads of both versions."""
        connection = await self.requests.create_connection()
        order = {"symbol": BTC, "side": "BUY", "quantity": 0.01}
        try:
            placed = await connection.new_order(type="LIMIT", time_in_force="GTC", price=90_000, **order)
            number = plain(placed.data())["result"]["orderId"]
            found = await connection.query_order(symbol=BTC, order_id=number)
            expect(plain(found.data())["result"]["status"], "NEW")
            gone = await connection.cancel_order(symbol=BTC, order_id=number)
            expect(plain(gone.data())["result"]["status"], "CANCELED")
            for name in ("account_information", "futures_account_balance", "position_information"):
                for read in (getattr(connection, name), getattr(connection, f"{name}_v2")):
                    expect(plain((await read()).data())["status"], 200)
            book = plain((await connection.order_book(symbol=BTC)).data())
            expect(float(book["result"]["bids"][0][0]), 99_995.0)
        finally:
            await connection.close_connection(close_session=True)


async def main() -> int:
    """All checks."""
    place = Place.of_environment()
    rest = Rest(place)
    sockets = Sockets(place, rest)
    return await pass_checks(
        [
            *rest.checks(),
            sockets.market_streams_fit_their_models,
            sockets.the_user_stream_fits_its_models,
            sockets.orders_go_over_the_websocket_api,
        ]
    )


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
