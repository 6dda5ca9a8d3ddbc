"""The spot account of the same person: coins instead of positions, nothing to set."""

import hmac
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from exchange import binance_reports
from exchange.binance_reports import milliseconds_of
from exchange.budget import Priority
from exchange.ccxt_gateway import PAGE_LIMIT, CcxtGateway, counted_as, read_shape
from exchange.clients import RECV_WINDOW_MS
from exchange.port import (
    AccountSettings,
    BalanceReport,
    FillReport,
    IncomeReport,
    KeyPermissions,
    PositionReport,
    SymbolSettings,
)

DEFAULT_HISTORY = timedelta(days=7)


class SpotGateway(CcxtGateway):
    """One account on the spot market, as `ExchangeGateway` asks; a stop locks the coins it would sell."""

    async def fetch_positions(self) -> Sequence[PositionReport]:
        """None: a spot position is the fold of our own fills."""
        return ()

    async def fetch_balance(self) -> BalanceReport:
        """The quote asset, and every asset held, free and locked."""
        with counted_as(Priority.REPORT):
            answer = await self._read("privateGetAccount", {}, dict)
        with read_shape():
            return binance_reports.spot_balance(answer, self.quote_asset)

    async def fetch_account_settings(self) -> AccountSettings:
        """No modes on spot; the account's id."""
        with counted_as(Priority.REPORT):
            account_id = await self._account_id()
        return AccountSettings(is_hedge_mode=False, is_multi_assets=False, exchange_account_id=account_id)

    async def fetch_symbol_settings(self) -> Sequence[SymbolSettings]:
        """None: spot has no leverage."""
        return ()

    async def set_one_way_mode(self) -> None:
        """Nothing to set: spot has no position mode."""

    async def set_hedge_mode(self) -> None:
        """Nothing to set: spot has no position mode."""

    async def set_leverage(self, symbol: str, leverage: int) -> None:
        """Nothing to set: spot has no leverage."""

    async def set_isolated_margin(self, symbol: str) -> None:
        """Nothing to set: spot has no margin mode."""

    async def set_cross_margin(self, symbol: str) -> None:
        """Nothing to set: spot has no margin mode."""

    async def fetch_permissions(self) -> KeyPermissions:
        """What the key may do, from the wallet's own answer."""
        return await self._permissions()

    async def fetch_income(self, since: datetime) -> Sequence[IncomeReport]:  # noqa: ARG002 - the port's signature
        """None: spot pays no funding, and deposits are seen in the balance."""
        return ()

    def signed_stream_params(self) -> dict[str, Any]:
        """The signed parameters that subscribe to the account's stream, names in alphabetical order."""
        keys = self._credentials
        params = {"apiKey": keys.api_key, "recvWindow": RECV_WINDOW_MS, "timestamp": self.timestamp_ms()}
        query = "&".join(f"{name}={value}" for name, value in params.items())
        return {**params, "signature": hmac.new(keys.secret.encode(), query.encode(), "sha256").hexdigest()}

    def _fill(self, raw: Mapping[str, Any], symbol: str) -> FillReport:
        return binance_reports.spot_fill_report(raw, symbol)

    async def _fills_of_order(self, venue_symbol: str, exchange_order_id: str) -> list[Any]:
        params = {"symbol": venue_symbol, "orderId": exchange_order_id, "limit": PAGE_LIMIT}
        return await self._read("privateGetMyTrades", params, list)

    async def _fills_since(self, venue_symbol: str, since: datetime | None) -> AsyncIterator[Any]:
        """The first page by time, the next ones by id: spot refuses windows above a day."""
        start = milliseconds_of(since or self._now() - DEFAULT_HISTORY)
        page: dict[str, Any] = {"startTime": start}
        while True:
            params = {"symbol": venue_symbol, "limit": PAGE_LIMIT, **page}
            rows = await self._read("privateGetMyTrades", params, list)
            for row in rows:
                yield row
            if len(rows) < PAGE_LIMIT:
                return
            with read_shape():
                page = {"fromId": max(int(row["id"]) for row in rows) + 1}
