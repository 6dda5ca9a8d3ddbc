"""Bybit's perpetuals on a unified account (v5, linear). Experimental: not yet tried on its testnet."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from math import ceil
from typing import Any

from exchange import bybit_reports
from exchange.acknowledging_gateway import DEFAULT_HISTORY, AcknowledgingGateway, Raw
from exchange.binance_reports import decimal_of
from exchange.budget import Priority
from exchange.bybit_reports import EXECUTIONS, INCOME_OF_FILLS, POSITION_INDEX, is_conditional
from exchange.ccxt_gateway import counted_as, read_shape
from exchange.errors import OrderNotPlaced, ReadFailed
from exchange.port import (
    AccountSettings,
    BalanceReport,
    FillReport,
    IncomeReport,
    KeyPermissions,
    OrderReport,
    OrderRequest,
    OrderSide,
    OrderType,
    PositionReport,
    SymbolSettings,
)

LINEAR: Mapping[str, Any] = {"category": "linear"}
ISOLATED, PORTFOLIO = "ISOLATED_MARGIN", "PORTFOLIO_MARGIN"

# The largest pages the venue gives (docs/v5: order/open-order, position, order/execution, transaction-log).
ORDERS_PAGE, POSITIONS_PAGE, EXECUTIONS_PAGE, LOG_PAGE = 50, 200, 100, 50
PAGES_LIMIT = 200

ONE_WAY = 0  # docs/v5/position/position-mode

PROBE = "BTC/{quote}:{quote}"


class BybitGateway(AcknowledgingGateway):
    """One account, as `ExchangeGateway` asks.

    Ordinary and conditional orders share one table and one id, before and after the trigger. The position
    mode is per symbol or coin, the margin mode is the whole account's.
    """

    # -- orders ------------------------------------------------------------------------------------------

    def _params(self, request: OrderRequest) -> dict[str, Any]:
        params: dict[str, Any] = {
            "clientOrderId": request.client_order_id,
            "positionIdx": POSITION_INDEX[request.position_side],
        }
        if request.type is OrderType.LIMIT_IOC:
            params["timeInForce"] = "IOC"
        if request.is_conditional:
            # A stop sells when the price falls and buys when it rises; the venue wants to be told which.
            direction = "descending" if request.side is OrderSide.SELL else "ascending"
            params |= {"triggerPrice": format(request.trigger_price or 0, "f"), "triggerDirection": direction}
            params |= self._connection.quirks.trigger_params
        if request.reduce_only or request.close_position:
            params["reduceOnly"] = True  # in hedge mode too: the venue asks for it whenever something closes
        if request.close_position:
            params |= {"qty": "0", "closeOnTrigger": True}
        return params

    async def _cancel(self, venue_symbol: str, client_order_id: str, *, is_conditional: bool) -> None:
        store = self._store(is_conditional=is_conditional)
        await self._change(
            store.cancel, {**LINEAR, "symbol": venue_symbol, store.client_id_param: client_order_id}
        )

    async def _ordinary(self, symbol: str, venue_symbol: str, client_order_id: str) -> OrderReport | None:
        raw = await self._find({"symbol": venue_symbol, "orderLinkId": client_order_id})
        with read_shape():
            return None if raw is None or is_conditional(raw) else bybit_reports.order_report(raw, symbol)

    async def _conditional(self, symbol: str, venue_symbol: str, client_order_id: str) -> OrderReport | None:
        raw = await self._find({"symbol": venue_symbol, "orderLinkId": client_order_id})
        with read_shape():
            is_stop = raw is not None and decimal_of(raw.get("triggerPrice")) > 0
            return bybit_reports.conditional_report(raw, symbol) if raw is not None and is_stop else None

    async def _find(self, params: Raw) -> Raw | None:
        """The newest order of an id: open ones first, then ended ones, so that none slips through between."""
        wanted = {**LINEAR, **params}
        name, asked_for = next((name, params[name]) for name in ("orderLinkId", "orderId") if name in params)
        for endpoint, more in (
            ("privateGetV5OrderRealtime", {"openOnly": 0}),
            ("privateGetV5OrderRealtime", {"openOnly": 1}),
            ("privateGetV5OrderHistory", {}),
        ):
            rows, _ = await self._page(endpoint, {**wanted, **more})
            if rows:
                with read_shape():
                    _refuse_another(rows[0][name], asked_for)
                return rows[0]
        return None

    async def fetch_client_order_id(self, symbol: str, exchange_order_id: str) -> str:
        """The client id of an order by the exchange's id."""
        params = {"symbol": await self._venue_symbol(symbol), "orderId": exchange_order_id}
        with counted_as(Priority.LOOKUP):
            raw = await self._find(params)
        if raw is None:
            raise ReadFailed("110001", "no such order")
        with read_shape():
            return str(raw["orderLinkId"])

    async def fetch_open_orders(
        self, symbol: str | None = None, *, is_conditional: bool
    ) -> Sequence[OrderReport]:
        """The open orders of one kind, told apart by status."""
        store = self._store(is_conditional=is_conditional)
        where = (
            {"settleCoin": self.quote_asset}
            if symbol is None
            else {"symbol": await self._venue_symbol(symbol)}
        )
        rows = await self._rows(
            store.list_open, {**store.params, **where, "openOnly": 0, "limit": ORDERS_PAGE}
        )
        read = bybit_reports.conditional_report if is_conditional else bybit_reports.order_report
        with read_shape():
            return [
                read(row, self._symbol_of(row))
                for row in rows
                if bybit_reports.is_conditional(row) is is_conditional
            ]

    # -- history -----------------------------------------------------------------------------------------

    def _fill(self, raw: Mapping[str, Any], symbol: str) -> FillReport:
        return bybit_reports.fill_report(raw, symbol, self.quote_asset)

    async def _fills_of_order(self, venue_symbol: str, exchange_order_id: str) -> list[Any]:
        params = {"symbol": venue_symbol, "orderId": exchange_order_id}
        return [row async for row in self._executions(params)]

    async def _fills_since(self, venue_symbol: str, since: datetime | None) -> AsyncIterator[Any]:
        for start, end in self._windows(since or self._now() - DEFAULT_HISTORY):
            async for row in self._executions({"symbol": venue_symbol, "startTime": start, "endTime": end}):
                yield row

    async def _executions(self, params: Raw) -> AsyncIterator[Raw]:
        wanted = {**LINEAR, **params, "limit": EXECUTIONS_PAGE}
        async for row in self._pages("privateGetV5ExecutionList", wanted):
            with read_shape():
                is_execution = row["execType"] in EXECUTIONS
            if is_execution:
                yield row

    async def fetch_income(self, since: datetime) -> Sequence[IncomeReport]:
        """Funding, transfers and the rest, from the transaction log; what executions tell is left out."""
        reports: dict[str, IncomeReport] = {}
        with counted_as(Priority.REPORT):
            for start, end in self._windows(since):
                params = {"accountType": "UNIFIED", "startTime": start, "endTime": end, "limit": LOG_PAGE}
                rows = await self._rows("privateGetV5AccountTransactionLog", params)
                with read_shape():
                    for row in rows:
                        if row["type"] not in INCOME_OF_FILLS:
                            report = bybit_reports.income_report(row, self._symbol_of(row))
                            reports[report.income_id] = report
        return sorted(reports.values(), key=lambda report: report.at)

    # -- the account -------------------------------------------------------------------------------------

    async def fetch_positions(self) -> Sequence[PositionReport]:
        """All open positions settled in the quote asset."""
        with counted_as(Priority.REPORT):
            rows = await self._open_positions()
        with read_shape():
            reports = [bybit_reports.position_report(row, self._symbol_of(row)) for row in rows]
        return [report for report in reports if report is not None]

    async def _open_positions(self) -> list[Raw]:
        params = {**LINEAR, "settleCoin": self.quote_asset, "limit": POSITIONS_PAGE}
        return await self._rows("privateGetV5PositionList", params)

    async def fetch_balance(self) -> BalanceReport:
        """The quote coin of the unified account."""
        with counted_as(Priority.REPORT):
            account = await self._one(
                "privateGetV5AccountWalletBalance", {"accountType": "UNIFIED", "coin": self.quote_asset}
            )
        with read_shape():
            return bybit_reports.balance_report(account, self.quote_asset)

    async def fetch_account_settings(self) -> AccountSettings:
        """Portfolio margin counts as multi-assets; hedge mode is read from what is open, or one symbol."""
        with counted_as(Priority.REPORT):
            mode = await self._margin_mode()
            key = await self._result("privateGetV5UserQueryApi", {})
            rows = await self._setting_rows() or await self._probe()
        with read_shape():
            return AccountSettings(
                is_hedge_mode=any(int(row["positionIdx"]) != 0 for row in rows),
                is_multi_assets=mode == PORTFOLIO,
                exchange_account_id=str(key["userID"]),
            )

    async def fetch_symbol_settings(self) -> Sequence[SymbolSettings]:
        """Leverage and margin mode of the symbols this gateway was asked to set or that have a position."""
        with counted_as(Priority.REPORT):
            mode = await self._margin_mode()
            rows = await self._setting_rows()
        with read_shape():
            # Leverage comes in hundredths there: a broken one is never taken for the whole one asked for.
            told = {self._symbol_of(row): ceil(decimal_of(row["leverage"])) for row in rows}
        return [SymbolSettings(symbol, leverage, mode == ISOLATED) for symbol, leverage in told.items()]

    async def _setting_rows(self) -> list[Raw]:
        """Position rows, which carry leverage and mode: of open positions, and one by one of the rest."""
        rows = await self._open_positions()
        with read_shape():
            told = {self._symbol_of(row) for row in rows}
        for symbol in sorted(self._set_symbols - told):
            params = {**LINEAR, "symbol": await self._venue_symbol(symbol)}
            rows += await self._rows("privateGetV5PositionList", params)
        return rows

    async def _probe(self) -> list[Raw]:
        """One symbol's rows: the mode is told by symbol only, and accounts are mostly switched as a whole."""
        params = {**LINEAR, "symbol": await self._venue_symbol(PROBE.format(quote=self.quote_asset))}
        return await self._rows("privateGetV5PositionList", params)

    async def _margin_mode(self) -> str:
        account = await self._result("privateGetV5AccountInfo", {})
        with read_shape():
            return str(account["marginMode"])

    async def _ask_leverage(self, venue_symbol: str, leverage: int) -> None:
        sides = {"buyLeverage": str(leverage), "sellLeverage": str(leverage)}
        await self._change("privatePostV5PositionSetLeverage", {**LINEAR, "symbol": venue_symbol, **sides})

    async def set_one_way_mode(self) -> None:
        """Ask for one position a symbol, for every symbol of the quote coin; what is open refuses it."""
        await self.symbol_reader()
        with counted_as(Priority.ENTRY), self._taking_already_set_for_done():
            params = {**LINEAR, "coin": self.quote_asset, "mode": ONE_WAY}
            await self._change("privatePostV5PositionSwitchMode", params)

    async def set_hedge_mode(self) -> None:
        """Not tried against this venue: refused before anything is sent."""
        raise OrderNotPlaced("NOT_TRIED", "hedge mode was not tried against this exchange")

    async def set_cross_margin(self, symbol: str) -> None:
        """Not tried against this venue: refused before anything is sent."""
        raise OrderNotPlaced("NOT_TRIED", f"cross margin of {symbol} was not tried against this exchange")

    async def set_isolated_margin(self, symbol: str) -> None:
        """Ask for isolated margin, which is the whole account's; asked only where it is not so yet."""
        await self._venue_symbol(symbol)
        with counted_as(Priority.ENTRY):
            if await self._margin_mode() != ISOLATED:
                await self._change("privatePostV5AccountSetMarginMode", {"setMarginMode": ISOLATED})

    async def fetch_permissions(self) -> KeyPermissions:
        """What the key may do, from the venue's own answer."""
        with counted_as(Priority.REPORT):
            key = await self._result("privateGetV5UserQueryApi", {})
        with read_shape():
            return bybit_reports.key_permissions(key)

    # -- the wire ----------------------------------------------------------------------------------------

    async def _result(self, endpoint: str, params: Raw) -> Raw:
        answer = await self._read(endpoint, params, dict)
        result = answer.get("result")
        if not isinstance(result, dict):
            raise ReadFailed("UNREADABLE", f"{endpoint} answered no result")
        return result

    async def _page(self, endpoint: str, params: Raw) -> tuple[list[Raw], str]:
        """One page and where the next one begins; an answer without a list is a failed read."""
        result = await self._result(endpoint, params)
        rows = result.get("list")
        if not isinstance(rows, list):
            raise ReadFailed("UNREADABLE", f"{endpoint} answered no list")
        return rows, str(result.get("nextPageCursor") or "")

    async def _pages(self, endpoint: str, params: Raw) -> AsyncIterator[Raw]:
        """Every row, until a page names no next one or is empty."""
        cursor: dict[str, str] = {}
        for _ in range(PAGES_LIMIT):
            rows, following = await self._page(endpoint, {**params, **cursor})
            for row in rows:
                yield row
            if not following or not rows:
                return
            cursor = {"cursor": following}
        raise ReadFailed("UNREADABLE", f"{endpoint} has more pages than {PAGES_LIMIT}")


def _refuse_another(told: str, asked_for: str) -> None:
    """A lookup answered with another order is no answer: taken for ours, its fills would be."""
    if told != asked_for:
        raise ReadFailed("OTHER_ORDER", "the answer is about another order")
