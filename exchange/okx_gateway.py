"""OKX's perpetuals (v5, SWAP settled in the quote asset). Experimental: not yet tried in its demo trading."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from math import ceil
from typing import Any

from ccxt.base.errors import ExchangeError

from exchange import okx_reports
from exchange.acknowledging_gateway import DEFAULT_HISTORY, AcknowledgingGateway, Raw
from exchange.binance_reports import decimal_of, milliseconds_of
from exchange.budget import Priority
from exchange.ccxt_gateway import counted_as, read_shape
from exchange.errors import GatewayError, OrderNotPlaced, OrderRejected, ReadFailed
from exchange.okx_codes import OKX_CODES, refusal_of, rows_of
from exchange.okx_reports import BILLS_OF_FILLS, WITHIN_THE_ACCOUNT
from exchange.outcomes import Answer, classify
from exchange.port import (
    AccountSettings,
    BalanceReport,
    FillReport,
    IncomeReport,
    KeyPermissions,
    OrderReport,
    OrderRequest,
    OrderType,
    PositionReport,
    ReportStatus,
    SymbolSettings,
)
from exchange.stamps import Stamp

SWAP: Mapping[str, Any] = {"instType": "SWAP"}
ISOLATED = "isolated"

# How old a signature may be (50102). The deadline header is documented for ordinary orders only, so that a
# conditional order is signed as already this old less its window: the venue then refuses it when it is late.
SIGNATURE_AGE_MS = 30_000

PAGE = 100
PAGES_LIMIT = 200
SYMBOLS_AT_ONCE = 20
RECENT_FILLS = timedelta(days=3)
RECENT_BILLS = timedelta(days=7)
ALGO_TYPES = ("conditional", "oco", "trigger", "move_order_stop")

# By which field the next page of a list begins; other lists come whole.
PAGED_BY = {
    "privateGetTradeOrdersPending": "ordId",
    "privateGetTradeOrdersAlgoPending": "algoId",
    "privateGetTradeFills": "billId",
    "privateGetTradeFillsHistory": "billId",
    "privateGetAccountBills": "billId",
    "privateGetAccountBillsArchive": "billId",
}


class OkxGateway(AcknowledgingGateway):
    """One account, as `ExchangeGateway` asks, in base units.

    Isolated margin is asked for with every order, so there is no mode to set. A stop that fired becomes an
    ordinary order without our client id: it is found through the stop.
    """

    # -- orders ------------------------------------------------------------------------------------------

    def _stamp(self, request: OrderRequest) -> Stamp:
        signed_at, window = request.timestamp_ms, request.recv_window_ms
        if request.is_conditional:
            return Stamp(signed_at - (SIGNATURE_AGE_MS - window), window)
        return Stamp(signed_at, window, deadline_ms=signed_at + window)

    def _arguments(self, request: OrderRequest) -> tuple[Any, ...]:
        if request.quantity is None or not self._connection.is_listed(request.symbol):
            return super()._arguments(request)
        return super()._arguments(replace(request, quantity=self._contracts(request)))

    def _contracts(self, request: OrderRequest) -> Decimal:
        """The quantity in contracts; refused where they would not be exactly what was decided."""
        size = self._size_of(request.symbol)
        quantity = request.quantity or Decimal(0)
        try:
            contracts = quantity / size
        except (ZeroDivisionError, InvalidOperation) as exc:
            raise OrderRejected("LOCAL_PRECISION", f"{request.symbol} tells no contract size") from exc
        if contracts * size != quantity:
            raise OrderRejected(
                "LOCAL_PRECISION", f"{quantity} of {request.symbol} is no number of contracts"
            )
        return contracts

    def _params(self, request: OrderRequest) -> dict[str, Any]:
        params: dict[str, Any] = {"clientOrderId": request.client_order_id, "tdMode": ISOLATED}
        if request.type is OrderType.LIMIT_IOC:
            params["timeInForce"] = "IOC"
        if request.is_conditional:
            # The store is asked by this name; without the other one ccxt adds an id and a tag of its own.
            params["algoClOrdId"] = request.client_order_id
            params["stopLossPrice"] = format(request.trigger_price or 0, "f")
            params |= self._connection.quirks.trigger_params
        if request.position_side is not None:
            params["positionSide"] = (
                request.position_side.lower()
            )  # hedge mode closes by side, never by a flag
        elif request.reduce_only or request.close_position:
            params["reduceOnly"] = True
        if request.close_position:
            params["closeFraction"] = "1"
        return params

    def _placed(self, raw: Any, request: OrderRequest) -> OrderReport:
        """A refusal may come as a success: with an outer code of 0, and even with an order id."""
        if refusal_of(raw):
            raise _refusal(raw)
        return super()._placed(raw, request)

    def _client_ids(self, raw: Raw, *, is_conditional: bool) -> set[str]:
        own = super()._client_ids(raw, is_conditional=is_conditional)
        return own | {str(raw.get("clOrdId") or "")}

    async def _cancel(self, venue_symbol: str, client_order_id: str, *, is_conditional: bool) -> None:
        store = self._store(is_conditional=is_conditional)
        params = {"instId": venue_symbol, store.client_id_param: client_order_id}
        answer = await self._change_with_rows(store.cancel, [params] if is_conditional else params)
        for row in rows_of(answer):
            if refusal_of(row):
                raise _refusal(row)

    async def _change_with_rows(self, endpoint: str, body: Any) -> Any:
        """As `_change`, for endpoints that take a list of requests."""
        try:
            client = await self._ready()
            return await getattr(client, endpoint)(body)
        except Exception as exc:
            raise classify(exc, self.timestamp_ms()) from exc

    async def _ordinary(self, symbol: str, venue_symbol: str, client_order_id: str) -> OrderReport | None:
        raw = await self._order({"instId": venue_symbol, "clOrdId": client_order_id})
        if raw is None:
            raw = await self._order_of_a_stop(venue_symbol, client_order_id)
        with read_shape():
            return None if raw is None else okx_reports.order_report(raw, symbol, self._size_of(symbol))

    async def _order_of_a_stop(self, venue_symbol: str, client_order_id: str) -> Raw | None:
        stop = await self._algo(client_order_id)
        with read_shape():
            if stop is not None:
                _refuse_another_symbol(stop, venue_symbol)
            order_id = None if stop is None else okx_reports.became(stop)
        return None if order_id is None else await self._order({"instId": venue_symbol, "ordId": order_id})

    async def _conditional(self, symbol: str, venue_symbol: str, client_order_id: str) -> OrderReport | None:
        raw = await self._algo(client_order_id)
        if raw is None:
            return None
        with read_shape():
            _refuse_another_symbol(raw, venue_symbol)
            return okx_reports.conditional_report(raw, symbol, self._size_of(symbol))

    async def _order(self, params: Raw) -> Raw | None:
        return await self._found("privateGetTradeOrder", params)

    async def _algo(self, client_order_id: str) -> Raw | None:
        return await self._found("privateGetTradeOrderAlgo", {"algoClOrdId": client_order_id})

    async def _found(self, endpoint: str, params: Raw) -> Raw | None:
        """The one order asked for; None by the venue's own code for it, or by an empty list."""
        try:
            rows = await self._rows(endpoint, params)
        except ReadFailed as error:
            if error.code in self._codes.not_found:
                return None
            raise
        with read_shape():
            # A lookup answered with another order is no answer: taken for ours, its fills would be.
            if rows and any(str(rows[0][name]) != wanted for name, wanted in params.items()):
                raise ReadFailed("OTHER_ORDER", "the answer is about another order")
        return rows[0] if rows else None

    async def fetch_client_order_id(self, symbol: str, exchange_order_id: str) -> str:
        """The client id of an ordinary order by the exchange's id; what a stop became has the stop's."""
        params = {"instId": await self._venue_symbol(symbol), "ordId": exchange_order_id}
        with counted_as(Priority.LOOKUP):
            raw = await self._one("privateGetTradeOrder", params)
        with read_shape():
            return okx_reports.order_report(raw, symbol, self._size_of(symbol)).client_order_id

    async def fetch_open_orders(
        self, symbol: str | None = None, *, is_conditional: bool
    ) -> Sequence[OrderReport]:
        """The open orders of one store; the conditional one is listed kind by kind."""
        store = self._store(is_conditional=is_conditional)
        where = dict(SWAP) | ({} if symbol is None else {"instId": await self._venue_symbol(symbol)})
        if not is_conditional:
            rows = await self._rows(store.list_open, where)
            return self._desk_rows(rows, okx_reports.order_report)
        rows = [
            row
            for kind in ALGO_TYPES
            for row in await self._rows(store.list_open, {**where, "ordType": kind})
        ]
        found = self._desk_rows(rows, okx_reports.conditional_report)
        return [report for report in found if report.status is ReportStatus.NEW]

    # -- history -----------------------------------------------------------------------------------------

    def _fill(self, raw: Mapping[str, Any], symbol: str) -> FillReport:
        return okx_reports.fill_report(raw, symbol, self._size_of(symbol))

    async def _fills_of_order(self, venue_symbol: str, exchange_order_id: str) -> list[Any]:
        params = {**SWAP, "instId": venue_symbol, "ordId": exchange_order_id}
        recent = await self._rows("privateGetTradeFills", params)
        return recent or await self._rows("privateGetTradeFillsHistory", params)

    async def _fills_since(self, venue_symbol: str, since: datetime | None) -> AsyncIterator[Any]:
        begin = since or self._now() - DEFAULT_HISTORY
        is_recent = self._now() - begin < RECENT_FILLS
        endpoint = "privateGetTradeFills" if is_recent else "privateGetTradeFillsHistory"
        params = {**SWAP, "instId": venue_symbol, "begin": milliseconds_of(begin)}
        async for row in self._pages(endpoint, params):
            yield row

    async def fetch_income(self, since: datetime) -> Sequence[IncomeReport]:
        """Funding, transfers and the rest, from the account's bills; what executions tell is left out."""
        is_recent = self._now() - since < RECENT_BILLS
        endpoint = "privateGetAccountBills" if is_recent else "privateGetAccountBillsArchive"
        with counted_as(Priority.REPORT):
            rows = await self._rows(endpoint, {"begin": milliseconds_of(since)})
        with read_shape():
            reports = [
                okx_reports.income_report(row, self._connection.symbol_of(str(row.get("instId") or "")))
                for row in rows
                if row["type"] not in BILLS_OF_FILLS | WITHIN_THE_ACCOUNT
            ]
        return sorted({report.income_id: report for report in reports}.values(), key=lambda one: one.at)

    # -- the account -------------------------------------------------------------------------------------

    async def fetch_positions(self) -> Sequence[PositionReport]:
        """All open positions settled in the quote asset."""
        with counted_as(Priority.REPORT):
            rows = await self._rows("privateGetAccountPositions", SWAP)
        return [report for report in self._desk_rows(rows, okx_reports.position_report) if report is not None]

    async def fetch_balance(self) -> BalanceReport:
        """The quote coin of the trading account."""
        with counted_as(Priority.REPORT):
            account = await self._one("privateGetAccountBalance", {"ccy": self.quote_asset})
        with read_shape():
            return okx_reports.balance_report(account, self.quote_asset)

    async def fetch_account_settings(self) -> AccountSettings:
        """Position mode, account mode and the account's id, in one answer."""
        with counted_as(Priority.REPORT):
            config = await self._one("privateGetAccountConfig", {})
        with read_shape():
            return okx_reports.account_settings(config)

    async def fetch_permissions(self) -> KeyPermissions:
        """What the key may do, from the same answer."""
        with counted_as(Priority.REPORT):
            config = await self._one("privateGetAccountConfig", {})
        with read_shape():
            return okx_reports.key_permissions(config)

    async def fetch_symbol_settings(self) -> Sequence[SymbolSettings]:
        """Isolated leverage of the symbols this gateway was asked to set, and of those with a position."""
        with counted_as(Priority.REPORT):
            symbols = self._set_symbols | {position.symbol for position in await self.fetch_positions()}
            names = [await self._venue_symbol(symbol) for symbol in sorted(symbols)]
            rows: list[Raw] = []
            for start in range(0, len(names), SYMBOLS_AT_ONCE):
                asked = ",".join(names[start : start + SYMBOLS_AT_ONCE])
                rows += await self._rows(
                    "privateGetAccountLeverageInfo", {"instId": asked, "mgnMode": ISOLATED}
                )
        with read_shape():
            told = {self._symbol_of(row): ceil(decimal_of(row["lever"])) for row in rows}
        return [SymbolSettings(symbol, leverage, is_isolated=True) for symbol, leverage in told.items()]

    async def _ask_leverage(self, venue_symbol: str, leverage: int) -> None:
        params = {"instId": venue_symbol, "lever": str(leverage), "mgnMode": ISOLATED}
        await self._change("privatePostAccountSetLeverage", params)

    async def set_one_way_mode(self) -> None:
        """Ask for one position a symbol, for the whole account; what is open refuses it (59000)."""
        with counted_as(Priority.ENTRY), self._taking_already_set_for_done():
            await self._change("privatePostAccountSetPositionMode", {"posMode": "net_mode"})

    async def set_hedge_mode(self) -> None:
        """Not tried against this venue: refused before anything is sent."""
        raise OrderNotPlaced("NOT_TRIED", "hedge mode was not tried against this exchange")

    async def set_cross_margin(self, symbol: str) -> None:
        """Not tried against this venue: refused before anything is sent."""
        raise OrderNotPlaced("NOT_TRIED", f"cross margin of {symbol} was not tried against this exchange")

    async def set_isolated_margin(self, symbol: str) -> None:
        """Nothing to set: every order asks for it."""

    # -- the wire ----------------------------------------------------------------------------------------

    def _symbol_of(self, raw: Mapping[str, Any]) -> str:
        return self._connection.symbol_of(str(raw["instId"]))

    def _market_of(self, symbol: str) -> Raw | None:
        market: Raw | None = self._client.markets.get(symbol) if self._client is not None else None
        return market

    def _size_of(self, symbol: str) -> Decimal:
        """One contract in base units; a stranger's unlisted contract counts as one."""
        market = self._market_of(symbol)
        return Decimal(1) if market is None else okx_reports.contract_size(market["info"])

    def _desk_rows(self, rows: Sequence[Raw], read: Any) -> list[Any]:
        """Reports of the rows in markets a desk can hold, not of contracts worth a fixed sum of dollars."""
        reports = []
        with read_shape():
            for row in rows:
                symbol = self._symbol_of(row)
                market = self._market_of(symbol)
                if market is None or okx_reports.is_desk_market(market, self.quote_asset):
                    reports.append(read(row, symbol, self._size_of(symbol)))
        return reports

    async def _pages(self, endpoint: str, params: Raw) -> AsyncIterator[Raw]:
        """Every row, newest first; a page that is not full is the last one."""
        field = PAGED_BY.get(endpoint)
        following: dict[str, str] = {}
        for _ in range(PAGES_LIMIT):
            limit = {"limit": PAGE} if field else {}
            answer = await self._read(endpoint, {**params, **limit, **following}, dict)
            rows = answer.get("data")
            if not isinstance(rows, list) or str(answer.get("code")) != "0":
                raise ReadFailed("UNREADABLE", f"{endpoint} answered no list")
            for row in rows:
                yield row
            if field is None or len(rows) < PAGE:
                return
            with read_shape():
                following = {"after": str(rows[-1][field])}
        raise ReadFailed("UNREADABLE", f"{endpoint} has more pages than {PAGES_LIMIT}")


def _refuse_another_symbol(raw: Raw, venue_symbol: str) -> None:
    if raw["instId"] != venue_symbol:
        raise ReadFailed("OTHER_ORDER", "the answer is about another symbol")


def _refusal(row: Raw | None) -> GatewayError:
    """What a row's own code says, read as any other answer of the venue."""
    refused = ExchangeError("refused")
    refused.answer = Answer(200, json.dumps({"code": "1", "data": [row]}), codes=OKX_CODES)
    return classify(refused)
