"""binance-futures-connector as it is: parameters in the query, no conditional endpoint, legacy streams."""

import asyncio
import json
import queue
import sys
from collections.abc import Callable
from typing import Any

from binance.error import ClientError
from binance.um_futures import UMFutures
from binance.websocket.um_futures.websocket_client import UMFuturesWebsocketClient

from tests.clients.checks import Place, expect, pass_checks

BTC, SOL = "BTCUSDT", "SOLUSDT"
SOON_SECONDS = 10


def refused(code: int, call: Callable[[], Any]) -> None:
    """The call fails with that code."""
    try:
        call()
    except ClientError as error:
        expect(error.error_code, code)
    else:
        raise AssertionError(f"{code} was expected")


class Checks:
    """The whole client."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.api = UMFutures("connector", "connector", base_url=place.url)

    def market_reads(self) -> None:
        """Public data."""
        api = self.api
        expect(api.ping(), {})
        expect(BTC in {row["symbol"] for row in api.exchange_info()["symbols"]}, True)
        expect(len(api.klines(BTC, "1m", limit=5)), 5)
        expect(len(api.continuous_klines(BTC, "PERPETUAL", "1m", limit=5)), 5)
        expect(float(api.mark_price(BTC)["markPrice"]), 100_000.0)
        expect(float(api.ticker_24hr_price_change(BTC)["lastPrice"]), 100_000.0)
        expect(float(api.ticker_price(BTC)["price"]), 100_000.0)
        expect(float(api.book_ticker(BTC)["askPrice"]), 100_005.0)
        expect(float(api.depth(BTC, limit=5)["bids"][0][0]), 99_995.0)
        expect(len(api.trades(BTC, limit=5)), 5)
        expect(len(api.agg_trades(BTC, limit=5)), 5)
        expect(len(api.funding_rate(BTC, limit=3)), 3)
        expect(api.open_interest(BTC)["symbol"], BTC)

    def settings(self) -> None:
        """Leverage, margin type, modes."""
        api = self.api
        expect(api.change_leverage(BTC, 7)["leverage"], 7)
        expect(api.change_margin_type(SOL, "ISOLATED")["code"], 200)
        refused(-4046, lambda: api.change_margin_type(SOL, "ISOLATED"))
        expect(api.get_position_mode(), {"dualSidePosition": False})
        expect(api.get_multi_asset_mode(), {"multiAssetsMargin": False})
        expect(api.leverage_brackets(symbol=BTC)[0]["symbol"], BTC)
        expect(api.commission_rate(BTC)["makerCommissionRate"], "0.000200")

    def a_market_order_opens_and_closes(self) -> None:
        """Acknowledged, then asked for."""
        api = self.api
        placed = api.new_order(BTC, "BUY", "MARKET", quantity=0.05)
        order = api.query_order(BTC, orderId=placed["orderId"])
        expect((placed["status"], order["status"], float(order["avgPrice"])), ("NEW", "FILLED", 100_005.0))
        [position] = api.get_position_risk(symbol=BTC)
        expect(float(position["positionAmt"]), 0.05)
        api.new_order(BTC, "SELL", "MARKET", quantity=0.05, reduceOnly="true")
        expect(api.get_position_risk(symbol=BTC), [])

    def a_limit_order_rests_is_modified_and_cancelled(self) -> None:
        """GTC."""
        api = self.api
        placed = api.new_order(BTC, "BUY", "LIMIT", quantity=0.01, price=90_000, timeInForce="GTC")
        number = placed["orderId"]
        api.modify_order(BTC, "BUY", quantity=0.01, price=91_000, orderId=number)
        [listed] = api.get_orders(symbol=BTC)
        expect(float(listed["price"]), 91_000.0)
        expect(api.get_open_orders(BTC, orderId=number)["orderId"], number)
        expect(api.cancel_order(BTC, orderId=number)["status"], "CANCELED")
        api.new_order(BTC, "BUY", "LIMIT", quantity=0.01, price=90_000, timeInForce="GTC")
        expect(api.cancel_open_orders(BTC)["code"], 200)
        expect(api.get_orders(), [])

    def a_batch_is_placed_and_cancelled(self) -> None:
        """Two orders in one call each."""
        order = {"symbol": BTC, "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.01"}
        placed = self.api.new_batch_order([order | {"price": "90000"}, order | {"price": "91000"}])
        numbers = [row["orderId"] for row in placed]
        cancelled = self.api.cancel_batch_order(BTC, numbers, [])
        expect([row["status"] for row in cancelled], ["CANCELED", "CANCELED"])

    def a_stop_is_told_to_use_the_conditional_endpoint(self) -> None:
        """-4120, as production answers a client this old; nothing is placed."""
        api = self.api
        order = {"quantity": 0.01, "stopPrice": 98_000}
        refused(-4120, lambda: api.new_order(BTC, "SELL", "STOP_MARKET", **order))
        refused(-4120, lambda: api.new_order(BTC, "SELL", "TAKE_PROFIT_MARKET", **order))
        expect(api.get_orders(), [])

    def balance_account_and_history(self) -> None:
        """What is left, and how it came about."""
        api = self.api
        [usdt] = [row for row in api.balance() if row["asset"] == "USDT"]
        expect(api.account()["totalWalletBalance"], usdt["balance"])
        expect([fill["side"] for fill in api.get_account_trades(BTC)], ["BUY", "SELL"])
        kinds = {row["incomeType"] for row in api.get_income_history()}
        expect({"REALIZED_PNL", "COMMISSION"} <= kinds, True)
        expect(len(api.get_all_orders(BTC)) >= 6, True)

    def refusals_carry_their_codes(self) -> None:
        """A few of each sort."""
        api = self.api
        refused(-2019, lambda: api.new_order(BTC, "BUY", "MARKET", quantity=100))
        refused(-1111, lambda: api.new_order(BTC, "BUY", "MARKET", quantity=0.0101))
        refused(-2022, lambda: api.new_order(BTC, "BUY", "MARKET", quantity=0.01, reduceOnly="true"))
        refused(-2011, lambda: api.cancel_order(BTC, origClientOrderId="never"))

    def hedged_sides_are_held_apart(self) -> None:
        """Both sides open, both closed."""
        api = self.api
        api.change_position_mode("true")
        api.new_order(BTC, "BUY", "MARKET", quantity=0.02, positionSide="LONG")
        api.new_order(BTC, "SELL", "MARKET", quantity=0.01, positionSide="SHORT")
        held = {row["positionSide"]: float(row["positionAmt"]) for row in api.get_position_risk(symbol=BTC)}
        expect(held, {"LONG": 0.02, "SHORT": -0.01})
        api.new_order(BTC, "SELL", "MARKET", quantity=0.02, positionSide="LONG")
        api.new_order(BTC, "BUY", "MARKET", quantity=0.01, positionSide="SHORT")
        api.change_position_mode("false")

    def _listen(self) -> tuple[UMFuturesWebsocketClient, "queue.Queue[Any]"]:
        told: queue.Queue[Any] = queue.Queue()
        client = UMFuturesWebsocketClient(
            stream_url=self.place.streams, on_message=lambda _, text: told.put(json.loads(text))
        )
        return client, told

    def market_streams_are_told(self) -> None:
        """Subscribed by message."""
        client, told = self._listen()
        try:
            client.mark_price(BTC.lower(), 1)
            message = told.get(timeout=SOON_SECONDS)
            while "e" not in message:
                message = told.get(timeout=SOON_SECONDS)
            expect((message["e"], float(message["p"])), ("markPriceUpdate", 100_000.0))
        finally:
            client.stop()

    def the_user_stream_tells_an_order(self) -> None:
        """Its listen key is subscribed like a stream."""
        key = self.api.new_listen_key()["listenKey"]
        self.api.renew_listen_key(key)
        client, told = self._listen()
        try:
            client.user_data(key)
            expect("e" in told.get(timeout=SOON_SECONDS), False)
            self.api.new_order(BTC, "BUY", "MARKET", quantity=0.01)
            events = [told.get(timeout=SOON_SECONDS)["e"] for _ in range(3)]
            expect(events, ["ORDER_TRADE_UPDATE", "ORDER_TRADE_UPDATE", "ACCOUNT_UPDATE"])
        finally:
            client.stop()
            self.api.close_listen_key(key)


async def main() -> int:
    """All checks."""
    checks = Checks(Place.of_environment())
    return await pass_checks(
        [
            checks.market_reads,
            checks.settings,
            checks.a_market_order_opens_and_closes,
            checks.a_limit_order_rests_is_modified_and_cancelled,
            checks.a_batch_is_placed_and_cancelled,
            checks.a_stop_is_told_to_use_the_conditional_endpoint,
            checks.balance_account_and_history,
            checks.refusals_carry_their_codes,
            checks.hedged_sides_are_held_apart,
            checks.market_streams_are_told,
            checks.the_user_stream_tells_an_order,
        ]
    )


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
