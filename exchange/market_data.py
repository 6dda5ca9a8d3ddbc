"""Public data of one market; needs no account, except for margin brackets."""

from collections.abc import Callable, Collection, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Any, TypeVar

from exchange import binance_reports
from exchange.budget import Priority
from exchange.ccxt_gateway import counted_as, read_shape
from exchange.clients import VenueConnection
from exchange.errors import ReadFailed
from exchange.futures_gateway import FuturesGateway
from exchange.outcomes import classify_read
from exchange.port import Candle, InstrumentReport, MarginBracket, Market, MarkPrice, Ticker

Shape = TypeVar("Shape")

DEPTH_LEVELS = 500

_CALLS = MappingProxyType(
    {
        Market.FUTURES: MappingProxyType(
            {
                "marks": "fapiPublicGetPremiumIndex",
                "candles": "fapiPublicGetKlines",
                "tickers": "fapiPublicGetTicker24hr",
                "books": "fapiPublicGetTickerBookTicker",
                "depth": "fapiPublicGetDepth",
            }
        ),
        Market.SPOT: MappingProxyType(
            {
                "marks": "publicGetTicker24hr",
                "candles": "publicGetKlines",
                "tickers": "publicGetTicker24hr",
                "books": "publicGetTickerBookTicker",
                "depth": "publicGetDepth",
            }
        ),
    }
)


class CcxtMarketData:
    """`MarketDataGateway` over ccxt's raw endpoints."""

    def __init__(self, connection: VenueConnection, account: FuturesGateway | None = None) -> None:
        """`account` is any account of the venue: without one, instruments carry no margin brackets."""
        self.market = connection.market
        self._connection = connection
        self._account = account
        self._calls = _CALLS[connection.market]

    async def fetch_instruments(self) -> Sequence[InstrumentReport]:
        """The market table read anew; perpetuals on futures, pairs on spot."""
        with counted_as(Priority.REPORT):
            try:
                client = await self._connection.refresh()
            except Exception as exc:
                raise classify_read(exc) from exc
            steps: Mapping[str, tuple[MarginBracket, ...]] = {}
            if self._account is not None:
                steps = await self._account.fetch_brackets()
        wanted = "swap" if self.market is Market.FUTURES else "spot"
        with read_shape():
            return [
                binance_reports.instrument_report(market, self.market, steps.get(symbol, ()))
                for symbol, market in sorted(client.markets.items())
                if market["type"] == wanted
            ]

    async def fetch_mark_prices(self) -> Sequence[MarkPrice]:
        """All marks in one call; on spot the last prices."""
        read = (
            binance_reports.mark_price if self.market is Market.FUTURES else binance_reports.spot_last_price
        )
        # Exits are watched by them: they are asked for when the stream is silent, and must not be held back.
        with counted_as(Priority.PROTECTION):
            rows = await self._read("marks", {}, list)
        with read_shape():
            return [read(row, self._symbol_of(row)) for row in rows]

    async def fetch_candles(self, symbol: str, timeframe: str, limit: int) -> Sequence[Candle]:
        """The newest candles, oldest first, the forming one last."""
        params = {"symbol": await self._venue_symbol(symbol), "interval": timeframe, "limit": limit}
        rows = await self._read("candles", params, list)
        with read_shape():
            return [binance_reports.candle(row) for row in rows]

    async def fetch_tickers(self) -> Sequence[Ticker]:
        """24 h figures of all symbols, with the best prices of a second call."""
        rows = await self._read("tickers", {}, list)
        books = await self._read("books", {}, list)
        with read_shape():
            by_symbol: dict[str, Mapping[str, Any]] = {str(book["symbol"]): book for book in books}
            return [
                binance_reports.ticker(row, by_symbol.get(str(row["symbol"]), {}), self._symbol_of(row))
                for row in rows
            ]

    async def fetch_depth_quote(self, symbol: str, within: Decimal) -> Decimal:
        """Quote units resting within a fraction of the mid, on the thinner side."""
        params = {"symbol": await self._venue_symbol(symbol), "limit": DEPTH_LEVELS}
        answer = await self._read("depth", params, dict)
        with read_shape():
            return binance_reports.depth_quote(answer, within)

    async def symbol_reader(self) -> Callable[[str], str]:
        """What turns the venue's names into unified symbols, with the market table loaded."""
        try:
            await self._connection.template()
        except Exception as exc:
            raise classify_read(exc) from exc
        return self._connection.symbol_of

    def venue_symbols(self, symbols: Collection[str]) -> list[str]:
        """The venue's own names of unified symbols, once the market table is loaded."""
        return self._connection.venue_symbols(symbols)

    async def _read(self, call: str, params: Mapping[str, Any], shape: type[Shape]) -> Shape:
        with counted_as(Priority.REPORT):
            try:
                client = await self._connection.template()
                answer = await getattr(client, self._calls[call])(dict(params))
            except Exception as exc:
                raise classify_read(exc) from exc
        if not isinstance(answer, shape):
            raise ReadFailed("UNREADABLE", f"{call} answered something else")
        return answer

    async def _venue_symbol(self, symbol: str) -> str:
        try:
            template = await self._connection.template()
        except Exception as exc:
            raise classify_read(exc) from exc
        if not self._connection.is_listed(symbol):
            raise ReadFailed("LOCAL_SYMBOL", f"{symbol} is not listed on {self.market}")
        return str(template.markets[symbol]["id"])

    def _symbol_of(self, row: Mapping[str, Any]) -> str:
        return self._connection.symbol_of(str(row["symbol"]))
