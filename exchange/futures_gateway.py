"""The futures account: positions, margin, settings, income."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from exchange import binance_reports
from exchange.binance_reports import INCOME_OF_FILLS, milliseconds_of
from exchange.budget import Priority
from exchange.ccxt_gateway import PAGE_LIMIT, CcxtGateway, counted_as, plain, read_shape
from exchange.errors import ReadFailed
from exchange.port import (
    AccountSettings,
    BalanceReport,
    FillReport,
    IncomeReport,
    KeyPermissions,
    MarginBracket,
    OrderRequest,
    OrderType,
    PositionReport,
    SymbolSettings,
)

HISTORY_WINDOW = timedelta(days=7)


class FuturesGateway(CcxtGateway):
    """One account on the perpetual market, one-way or hedge, as `ExchangeGateway` asks."""

    async def _place(self, client: Any, request: OrderRequest) -> Any:
        """A whole ordinary order goes straight to its endpoint: `create_order` costs a third more.

        Word for word what ccxt would send (developers.binance.com, "New Order"). What it checks besides, the
        symbol and the precision, is checked here; what lacks a figure is left for it to refuse.
        """
        is_limit = request.type is OrderType.LIMIT_IOC
        lacks_figure = request.quantity is None or (is_limit and request.price is None)
        if request.is_conditional or lacks_figure:
            return await super()._place(client, request)
        self._refuse_unsendable(request)
        return await client.fapiPrivatePostOrder(self._ordinary(client, request))

    def _ordinary(self, client: Any, request: OrderRequest) -> dict[str, Any]:
        """The parameters of an order that rests in no conditional store."""
        sent: dict[str, Any] = {
            "symbol": client.markets[request.symbol]["id"],
            "side": request.side.upper(),
            "newClientOrderId": request.client_order_id,
            "newOrderRespType": "RESULT",
            "type": "LIMIT" if request.type is OrderType.LIMIT_IOC else "MARKET",
            "quantity": plain(request.quantity),
        }
        if request.type is OrderType.LIMIT_IOC:
            sent["price"] = plain(request.price)
        params = self._params(request)
        del params["clientOrderId"]
        return sent | params

    async def fetch_positions(self) -> Sequence[PositionReport]:
        """All open positions, from the raw v3 answer."""
        with counted_as(Priority.REPORT):
            rows = await self._read("fapiPrivateV3GetPositionRisk", {}, list)
        with read_shape():
            reports = [binance_reports.position_report(row, self._symbol_of(row)) for row in rows]
        return [report for report in reports if report is not None]

    async def fetch_balance(self) -> BalanceReport:
        """Wallet, unrealised profit and what is available in the quote asset."""
        with counted_as(Priority.REPORT):
            answer = await self._read("fapiPrivateV3GetAccount", {}, dict)
        with read_shape():
            return binance_reports.futures_balance(answer, self.quote_asset)

    async def fetch_account_settings(self) -> AccountSettings:
        """Position mode, multi-assets mode and the account's id where the key may read it."""
        with counted_as(Priority.REPORT):
            # One call of weight 5 says what positionSide/dual and multiAssetsMargin say for 30 each.
            config, account_id = await asyncio.gather(
                self._read("fapiPrivateGetAccountConfig", {}, dict), self._account_id()
            )
        with read_shape():
            return binance_reports.account_settings(config, account_id)

    async def fetch_symbol_settings(self) -> Sequence[SymbolSettings]:
        """Leverage and margin mode of every symbol, in one call."""
        with counted_as(Priority.REPORT):
            rows = await self._read("fapiPrivateGetSymbolConfig", {}, list)
        with read_shape():
            return [binance_reports.symbol_settings(row, self._symbol_of(row)) for row in rows]

    async def set_one_way_mode(self) -> None:
        """Ask for one position a symbol; -4059 says it is so, -4067 and -4068 that something is open."""
        with counted_as(Priority.ENTRY):
            await self._set("fapiPrivatePostPositionSideDual", {"dualSidePosition": "false"})

    async def set_hedge_mode(self) -> None:
        """Ask for one position a side; refused as `set_one_way_mode` is."""
        with counted_as(Priority.ENTRY):
            await self._set("fapiPrivatePostPositionSideDual", {"dualSidePosition": "true"})

    async def set_leverage(self, symbol: str, leverage: int) -> None:
        """Ask for a leverage; -4028 is a refusal, not "already so"."""
        params = {"symbol": await self._venue_symbol(symbol), "leverage": leverage}
        with counted_as(Priority.ENTRY):
            await self._set("fapiPrivatePostLeverage", params)

    async def set_isolated_margin(self, symbol: str) -> None:
        """Ask for isolated margin; -4046 says it is."""
        await self._set_margin_type(symbol, "ISOLATED")

    async def set_cross_margin(self, symbol: str) -> None:
        """Ask for cross margin; -4046 says it is."""
        await self._set_margin_type(symbol, "CROSSED")

    async def _set_margin_type(self, symbol: str, margin_type: str) -> None:
        params = {"symbol": await self._venue_symbol(symbol), "marginType": margin_type}
        with counted_as(Priority.ENTRY):
            await self._set("fapiPrivatePostMarginType", params)

    async def fetch_permissions(self) -> KeyPermissions:
        """What the key may do, from the wallet's own answer."""
        return await self._permissions()

    async def fetch_income(self, since: datetime) -> Sequence[IncomeReport]:
        """Funding, transfers and the rest, oldest first; what fills tell themselves is left out."""
        with counted_as(Priority.REPORT):
            rows = [row async for row in self._income_since(since)]
        with read_shape():
            reports = [
                binance_reports.income_report(row, self._connection.symbol_of(str(row.get("symbol") or "")))
                for row in rows
                if row["incomeType"] not in INCOME_OF_FILLS
            ]
        return list({report.income_id: report for report in reports}.values())

    async def fetch_brackets(self) -> Mapping[str, tuple[MarginBracket, ...]]:
        """Leverage and maintenance-margin steps by symbol; the venue tells them to accounts only."""
        with counted_as(Priority.REPORT):
            rows = await self._read("fapiPrivateGetLeverageBracket", {}, list)
        with read_shape():
            return {self._symbol_of(row): binance_reports.brackets(row) for row in rows}

    async def open_listen_key(self) -> str:
        """A key for the account's stream; the running one where there is one."""
        with counted_as(Priority.LOOKUP):
            answer = await self._read("fapiPrivatePostListenKey", {}, dict)
        with read_shape():
            return str(answer["listenKey"])

    async def keep_listen_key(self) -> None:
        """Extend the stream's key by an hour; raises code -1125 when it is gone."""
        with counted_as(Priority.LOOKUP):
            await self._read("fapiPrivatePutListenKey", {}, dict)

    def _fill(self, raw: Mapping[str, Any], symbol: str) -> FillReport:
        return binance_reports.fill_report(raw, symbol)

    async def _fills_of_order(self, venue_symbol: str, exchange_order_id: str) -> list[Any]:
        params = {"symbol": venue_symbol, "orderId": exchange_order_id, "limit": PAGE_LIMIT}
        return await self._read("fapiPrivateGetUserTrades", params, list)

    async def _fills_since(self, venue_symbol: str, since: datetime | None) -> AsyncIterator[Any]:
        params = {"symbol": venue_symbol}
        async for row in self._windows(
            "fapiPrivateGetUserTrades", params, since or self._now() - HISTORY_WINDOW
        ):
            yield row

    async def _income_since(self, since: datetime) -> AsyncIterator[Any]:
        async for row in self._windows("fapiPrivateGetIncome", {}, since):
            yield row

    async def _windows(self, endpoint: str, params: Mapping[str, Any], since: datetime) -> AsyncIterator[Any]:
        """Rows since a time, in the venue's windows of seven days.

        A full page holds the oldest rows of its window, so the next one starts at its last row's time; rows
        of that millisecond come twice and are told apart by id.
        """
        start = since
        while start <= self._now():
            end = start + HISTORY_WINDOW
            window = {
                "startTime": milliseconds_of(start),
                "endTime": milliseconds_of(end),
                "limit": PAGE_LIMIT,
            }
            rows = await self._read(endpoint, {**params, **window}, list)
            for row in rows:
                yield row
            start = _next_start(rows, start, end)


def _next_start(rows: Sequence[Mapping[str, Any]], start: datetime, end: datetime) -> datetime:
    if len(rows) < PAGE_LIMIT:
        return end
    with read_shape():
        last = max(binance_reports.time_of(row["time"]) for row in rows)
    if last <= start:
        raise ReadFailed("UNREADABLE", "more rows in one millisecond than a page holds")
    return last
