"""Public data of Bybit's and OKX's perpetuals, as the port asks for it."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any, ClassVar

from exchange import binance_reports, bybit_reports, okx_reports
from exchange.binance_reports import Raw
from exchange.budget import Priority
from exchange.ccxt_gateway import counted_as, read_shape
from exchange.clients import VenueConnection
from exchange.errors import ReadFailed
from exchange.outcomes import classify_read
from exchange.port import Candle, InstrumentReport, MarkPrice, Ticker


class ExperimentalMarketData(ABC):
    """`MarketDataGateway` over ccxt's raw endpoints; instruments carry no margin brackets."""

    quote_asset: ClassVar[str] = "USDT"

    def __init__(self, connection: VenueConnection) -> None:
        """Nothing is asked before the first use."""
        self.market = connection.market
        self._connection = connection

    async def fetch_instruments(self) -> Sequence[InstrumentReport]:
        """The market table read anew."""
        with counted_as(Priority.REPORT):
            try:
                client = await self._connection.refresh()
            except Exception as exc:
                raise classify_read(exc) from exc
        with read_shape():
            return [
                self._instrument(market)
                for _, market in sorted(client.markets.items())
                if self._is_wanted(market)
            ]

    @abstractmethod
    def _is_wanted(self, market: Raw) -> bool:
        """Whether a ccxt market is one the desk can trade."""

    @abstractmethod
    def _instrument(self, market: Raw) -> InstrumentReport:
        """The rules of one market."""

    @abstractmethod
    async def fetch_mark_prices(self) -> Sequence[MarkPrice]:
        """All mark prices in one call."""

    @abstractmethod
    async def fetch_candles(self, symbol: str, timeframe: str, limit: int) -> Sequence[Candle]:
        """The newest candles, oldest first, the forming one last."""

    @abstractmethod
    async def fetch_tickers(self) -> Sequence[Ticker]:
        """24 h figures with best bid and ask of all symbols."""

    @abstractmethod
    async def fetch_depth_quote(self, symbol: str, within: Decimal) -> Decimal:
        """Quote units resting within a fraction of the mid on the thinner side."""

    async def _read(self, endpoint: str, params: Raw, priority: Priority = Priority.REPORT) -> Raw:
        with counted_as(priority):
            try:
                client = await self._connection.template()
                answer = await getattr(client, endpoint)(dict(params))
            except Exception as exc:
                raise classify_read(exc) from exc
        if not isinstance(answer, dict):
            raise ReadFailed("UNREADABLE", f"{endpoint} answered something else")
        return answer

    async def _market_of(self, symbol: str) -> Raw:
        try:
            template = await self._connection.template()
        except Exception as exc:
            raise classify_read(exc) from exc
        if not self._connection.is_listed(symbol):
            raise ReadFailed("LOCAL_SYMBOL", f"{symbol} is not listed on {self.market}")
        market: Raw = template.markets[symbol]
        return market

    async def _interval(self, timeframe: str) -> tuple[str, timedelta]:
        """The venue's name of a timeframe, and its length."""
        client: Any = await self._connection.template()
        if timeframe not in client.timeframes:
            raise ReadFailed(
                "LOCAL_TIMEFRAME", f"{timeframe} is no timeframe of {self._connection.venue.name}"
            )
        return str(client.timeframes[timeframe]), timedelta(seconds=int(client.parse_timeframe(timeframe)))


class BybitMarketData(ExperimentalMarketData):
    """Linear perpetuals (docs/v5/market: instrument, tickers, kline, orderbook)."""

    def _is_wanted(self, market: Raw) -> bool:
        return market["swap"] is True and market["linear"] is True and market["settle"] == self.quote_asset

    def _instrument(self, market: Raw) -> InstrumentReport:
        return bybit_reports.instrument_report(market)

    async def fetch_mark_prices(self) -> Sequence[MarkPrice]:
        """All marks in one call, at the time of the answer."""
        answer = await self._read("publicGetV5MarketTickers", {"category": "linear"}, Priority.PROTECTION)
        with read_shape():
            at = binance_reports.time_of(answer["time"])
            return [
                bybit_reports.mark_price(row, symbol, at)
                for row in answer["result"]["list"]
                if self._connection.is_listed(symbol := self._connection.symbol_of(str(row["symbol"])))
            ]

    async def fetch_candles(self, symbol: str, timeframe: str, limit: int) -> Sequence[Candle]:
        """The newest candles; the venue lists them newest first."""
        market, (interval, length) = await self._market_of(symbol), await self._interval(timeframe)
        params = {"category": "linear", "symbol": market["id"], "interval": interval, "limit": limit}
        answer = await self._read("publicGetV5MarketKline", params)
        with read_shape():
            return [bybit_reports.candle(row, length) for row in reversed(answer["result"]["list"])]

    async def fetch_tickers(self) -> Sequence[Ticker]:
        """24 h figures with the best prices, in one call."""
        answer = await self._read("publicGetV5MarketTickers", {"category": "linear"})
        with read_shape():
            return [
                bybit_reports.ticker(row, self._connection.symbol_of(str(row["symbol"])))
                for row in answer["result"]["list"]
            ]

    async def fetch_depth_quote(self, symbol: str, within: Decimal) -> Decimal:
        """Quote units within a fraction of the mid, on the thinner side."""
        market = await self._market_of(symbol)
        params = {"category": "linear", "symbol": market["id"], "limit": 500}
        answer = await self._read("publicGetV5MarketOrderbook", params)
        with read_shape():
            book = {"bids": answer["result"]["b"], "asks": answer["result"]["a"]}
            return binance_reports.depth_quote(book, within)


class OkxMarketData(ExperimentalMarketData):
    """Perpetuals in base units (docs-v5: public-data-rest-api-*, order-book-trading-market-data-*)."""

    def _is_wanted(self, market: Raw) -> bool:
        return okx_reports.is_desk_market(market, self.quote_asset)

    def _instrument(self, market: Raw) -> InstrumentReport:
        return okx_reports.instrument_report(market)

    async def fetch_mark_prices(self) -> Sequence[MarkPrice]:
        """All marks in one call."""
        rows = await self._rows("publicGetPublicMarkPrice", {"instType": "SWAP"}, Priority.PROTECTION)
        with read_shape():
            return [okx_reports.mark_price(row, symbol) for symbol, row in self._wanted(rows)]

    async def fetch_candles(self, symbol: str, timeframe: str, limit: int) -> Sequence[Candle]:
        """The newest candles; the venue lists them newest first."""
        market, (bar, length) = await self._market_of(symbol), await self._interval(timeframe)
        rows = await self._rows(
            "publicGetMarketCandles", {"instId": market["id"], "bar": bar, "limit": limit}
        )
        with read_shape():
            return [okx_reports.candle(row, length) for row in reversed(rows)]

    async def fetch_tickers(self) -> Sequence[Ticker]:
        """24 h figures with the best prices, in one call."""
        rows = await self._rows("publicGetMarketTickers", {"instType": "SWAP"})
        with read_shape():
            return [okx_reports.ticker(row, symbol) for symbol, row in self._wanted(rows)]

    async def fetch_depth_quote(self, symbol: str, within: Decimal) -> Decimal:
        """Quote units within a fraction of the mid, on the thinner side; the book counts contracts."""
        market = await self._market_of(symbol)
        rows = await self._rows("publicGetMarketBooks", {"instId": market["id"], "sz": 400})
        with read_shape():
            book = okx_reports.book_in_base(rows[0], okx_reports.contract_size(market["info"]))
            return binance_reports.depth_quote(book, within)

    async def _rows(self, endpoint: str, params: Raw, priority: Priority = Priority.REPORT) -> list[Any]:
        rows = (await self._read(endpoint, params, priority)).get("data")
        if not isinstance(rows, list):
            raise ReadFailed("UNREADABLE", f"{endpoint} answered no list")
        return rows

    def _wanted(self, rows: Sequence[Raw]) -> list[tuple[str, Raw]]:
        """Rows of markets the desk can trade, with their symbols."""
        named = [(self._connection.symbol_of(str(row["instId"])), row) for row in rows]
        return [(symbol, row) for symbol, row in named if self._connection.is_listed(symbol)]
