"""nautilus_trader as it is: a live node that trades futures; its version decides where its stops go.

LGPL-3.0 and no dependency: it is only run, in an environment of its own. Versions before the conditional
endpoint send stops to the ordinary one; the refusal -4120, told to the strategy, is then what is right.
"""

import asyncio
import sys
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

from nautilus_trader.adapters.binance import (
    BINANCE,
    BinanceAccountType,
    BinanceDataClientConfig,
    BinanceExecClientConfig,
    BinanceLiveDataClientFactory,
    BinanceLiveExecClientFactory,
)
from nautilus_trader.config import InstrumentProviderConfig, LoggingConfig, TradingNodeConfig
from nautilus_trader.live.node import TradingNode
from nautilus_trader.model.data import BarType
from nautilus_trader.model.enums import OrderSide, TriggerType
from nautilus_trader.model.identifiers import InstrumentId, TraderId
from nautilus_trader.trading.strategy import Strategy

from tests.clients.checks import Place, expect, pass_checks

BTC = InstrumentId.from_str("BTCUSDT-PERP.BINANCE")
MINUTE = BarType.from_str("BTCUSDT-PERP.BINANCE-1-MINUTE-LAST-EXTERNAL")
SOON_SECONDS = 20


class Observer(Strategy):  # type: ignore[misc]  # nautilus is no dependency, its class is unknown here
    """Does what the checks ask for, and keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.quotes: list[Any] = []
        self.prints: list[Any] = []
        self.bars: list[Any] = []
        self.rejections: list[str] = []

    def on_start(self) -> None:
        """Listen to the market."""
        self.subscribe_quote_ticks(BTC)
        self.subscribe_trade_ticks(BTC)
        self.request_bars(MINUTE, start=self.clock.utc_now() - timedelta(minutes=10))

    def on_stop(self) -> None:
        """Nothing is left to stop."""

    def on_quote_tick(self, tick: Any) -> None:
        """A best bid and ask."""
        self.quotes.append(tick)

    def on_trade_tick(self, tick: Any) -> None:
        """A public fill."""
        self.prints.append(tick)

    def on_historical_data(self, data: Any) -> None:
        """A candle that was asked for."""
        self.bars.append(data)

    def on_order_rejected(self, event: Any) -> None:
        """The exchange refused an order."""
        self.rejections.append(event.reason)

    def market(self, side: Any, quantity: str, *, reduce_only: bool = False) -> Any:
        """Submit a market order."""
        order = self.order_factory.market(BTC, side, self.exact(quantity), reduce_only=reduce_only)
        self.submit_order(order)
        return order

    def limit(self, quantity: str, price: str) -> Any:
        """Submit a buy that rests."""
        instrument = self.cache.instrument(BTC)
        priced = instrument.make_price(Decimal(price))
        order = self.order_factory.limit(BTC, OrderSide.BUY, self.exact(quantity), priced)
        self.submit_order(order)
        return order

    def stop_loss(self, quantity: str, trigger: str) -> Any:
        """Submit a stop under a long."""
        instrument = self.cache.instrument(BTC)
        order = self.order_factory.stop_market(
            BTC,
            OrderSide.SELL,
            self.exact(quantity),
            instrument.make_price(Decimal(trigger)),
            trigger_type=TriggerType.MARK_PRICE,
            reduce_only=True,
        )
        self.submit_order(order)
        return order

    def exact(self, quantity: str) -> Any:
        """A quantity of the instrument."""
        return self.cache.instrument(BTC).make_qty(Decimal(quantity))


def settings(place: Place) -> Any:
    """A node with one venue, which is the exchange under test."""
    venue = {
        "api_key": "nautilus",
        "api_secret": "nautilus",
        "account_type": BinanceAccountType.USDT_FUTURES,
        "base_url_http": place.url,
        "base_url_ws": place.streams,
        "instrument_provider": InstrumentProviderConfig(load_ids=frozenset([BTC])),
    }
    return TradingNodeConfig(
        trader_id=TraderId("CONFORMANCE-001"),
        logging=LoggingConfig(log_level="ERROR"),
        data_clients={BINANCE: BinanceDataClientConfig(**venue)},
        exec_clients={BINANCE: BinanceExecClientConfig(**venue)},
        timeout_connection=30.0,
        timeout_disconnection=5.0,
        timeout_post_stop=1.0,
    )


async def until(true: Callable[[], Any], what: str) -> Any:
    """What it gives as soon as it gives something."""
    loop = asyncio.get_running_loop()
    end = loop.time() + SOON_SECONDS
    while loop.time() < end:
        if found := true():
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"not {what}")


class Checks:
    """In order, with one node."""

    def __init__(self, node: Any, strategy: Observer) -> None:
        self.node = node
        self.strategy = strategy

    def _account(self) -> Any:
        return self.node.portfolio.account(BTC.venue)

    def _position(self) -> Any:
        return next(iter(self.node.cache.positions_open(instrument_id=BTC)), None)

    async def the_node_connects_and_reads_the_account(self) -> None:
        """Instruments, settings, balances, user stream."""
        await until(lambda: self.strategy.is_running, "running")
        account = await until(self._account, "an account")
        usdt = next(currency for currency in account.currencies() if currency.code == "USDT")
        expect(account.balance_total(usdt).as_decimal(), Decimal(10_000))

    async def market_streams_are_told(self) -> None:
        """Quotes and prints."""
        quotes = await until(lambda: self.strategy.quotes, "quoted")
        best = quotes[-1].bid_price.as_decimal(), quotes[-1].ask_price.as_decimal()
        expect(best, (Decimal(99_995), Decimal(100_005)))
        await until(lambda: self.strategy.prints, "printed")

    async def candles_are_read(self) -> None:
        """By request."""
        await until(lambda: self.strategy.bars, "answered with candles")

    async def a_market_order_fills_and_opens_a_position(self) -> None:
        """Told by the user stream."""
        order = self.strategy.market(OrderSide.BUY, "0.050")
        await until(lambda: order.is_closed, "filled")
        expect((order.status_string(), order.avg_px), ("FILLED", 100_005.0))
        position = await until(self._position, "a position")
        expect(str(position.signed_decimal_qty()), "0.050")

    async def a_limit_order_rests_is_modified_and_cancelled(self) -> None:
        """Accepted, changed, taken back."""
        order = self.strategy.limit("0.010", "90000.0")
        await until(lambda: order.is_open, "accepted")
        price = self.node.cache.instrument(BTC).make_price(Decimal(91_000))
        self.strategy.modify_order(order, price=price)
        await until(lambda: order.price == price, "modified")
        self.strategy.cancel_order(order)
        await until(lambda: order.is_closed, "cancelled")
        expect(order.status_string(), "CANCELED")

    async def a_stop_rests_or_is_refused_as_its_endpoint_demands(self) -> None:
        """Refused with -4120 where the version knows no conditional endpoint."""
        order = self.strategy.stop_loss("0.050", "98000.0")
        await until(lambda: order.is_closed or order.is_open, "answered")
        if order.is_closed:
            expect((order.status_string(), "-4120" in self.strategy.rejections[-1]), ("REJECTED", True))
            return
        self.strategy.cancel_order(order)
        await until(lambda: order.is_closed, "cancelled")

    async def a_reduce_only_order_closes_the_position(self) -> None:
        """And the account has paid two fees and the spread."""
        order = self.strategy.market(OrderSide.SELL, "0.050", reduce_only=True)
        await until(lambda: order.is_closed, "filled")
        await until(lambda: self._position() is None, "flat")
        expect((order.status_string(), order.avg_px), ("FILLED", 99_995.0))


async def main() -> int:
    """All checks."""
    node = TradingNode(config=settings(Place.of_environment()))
    strategy = Observer()
    node.trader.add_strategy(strategy)
    node.add_data_client_factory(BINANCE, BinanceLiveDataClientFactory)
    node.add_exec_client_factory(BINANCE, BinanceLiveExecClientFactory)
    node.build()
    running = asyncio.create_task(node.run_async())
    checks = Checks(node, strategy)
    try:
        return await pass_checks(
            [
                checks.the_node_connects_and_reads_the_account,
                checks.market_streams_are_told,
                checks.candles_are_read,
                checks.a_market_order_fills_and_opens_a_position,
                checks.a_limit_order_rests_is_modified_and_cancelled,
                checks.a_stop_rests_or_is_refused_as_its_endpoint_demands,
                checks.a_reduce_only_order_closes_the_position,
            ]
        )
    finally:
        await node.stop_async()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
