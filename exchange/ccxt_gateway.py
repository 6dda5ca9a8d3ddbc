"""The gateway of one account over ccxt: the only place from which an order leaves the desk.

Orders go out through ccxt, once: through its `create_order`, or straight to the endpoint of a venue whose
parameters are known here. Everything read comes through the venue's raw endpoints, because ccxt's parsers
turn a truncated list into an empty one, and error is not empty.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar

from exchange.binance_reports import conditional_report, key_permissions, milliseconds_of, order_report
from exchange.budget import Priority, current_priority
from exchange.clients import Flight, VenueConnection, clone, current_flight
from exchange.credentials import Credentials
from exchange.errors import GatewayError, OrderRejected, OutcomeUnknown, ReadFailed
from exchange.outcomes import NOT_FOUND, classify, classify_read, is_already_set, is_not_open
from exchange.port import (
    FillReport,
    KeyPermissions,
    OrderReport,
    OrderRequest,
    OrderType,
    ReportStatus,
)
from exchange.quirks import OrderStore
from exchange.redaction import redact

CCXT_TYPES = {
    OrderType.LIMIT_IOC: "limit",
    OrderType.MARKET: "market",
    OrderType.STOP_MARKET: "market",
    OrderType.STOP_LIMIT: "limit",
}

PAGE_LIMIT = 1000

NO_SUCH_ENDPOINT = frozenset({"HTTP_404", "-5000"})
KEY_MAY_NOT = frozenset({"-2015", "-1002"})

Shape = TypeVar("Shape")


def wall_clock() -> datetime:
    """The default clock of a gateway; a replay gives its own."""
    return datetime.now(UTC)


class CcxtGateway(ABC):
    """One account on one market; `FuturesGateway` and `SpotGateway` add what their account can tell.

    `timestamp_ms()` is the venue's time as far as known, for `OrderRequest.timestamp_ms`.
    Every refused placement is an `OrderNotPlaced` or an `OutcomeUnknown`, every failed read a `ReadFailed`.
    """

    def __init__(
        self,
        connection: VenueConnection,
        credentials: Credentials,
        *,
        quote_asset: str = "USDT",
        now: Callable[[], datetime] = wall_clock,
    ) -> None:
        """The account's client is cloned on first use; `now` only bounds the windows of history reads."""
        self.market = connection.market
        self.quote_asset = quote_asset
        self._connection = connection
        self._credentials = credentials
        self._now = now
        self._client: Any = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.market}, {self._credentials!r})"

    def timestamp_ms(self) -> int:
        """The exchange's clock as last measured; `fetch_clock_offset_ms` measures it."""
        return milliseconds_of(wall_clock()) + self._connection.clock.offset_ms

    # -- orders ------------------------------------------------------------------------------------------

    async def submit_order(self, request: OrderRequest) -> OrderReport:
        """Send one order, once; see the port. A request that never left is `OrderRejected` ``LOCAL_...``."""
        with counted_as(_priority_of(request)):
            client = await self._client_for_orders()
            raw = await self._send(client, request)
        return self._placed(raw, request)

    async def _client_for_orders(self) -> Any:
        try:
            return await self._ready()
        except Exception as exc:
            raise OrderRejected("LOCAL_NOT_READY", redact(str(exc))) from exc

    async def _send(self, client: Any, request: OrderRequest) -> Any:
        flight = Flight()
        token = current_flight.set(flight)
        try:
            return await self._place(client, request)
        except GatewayError:
            raise  # our own refusal, or the rate budget's answer; nothing has left
        except Exception as exc:
            if not flight.may_have_left:
                raise OrderRejected("LOCAL_REFUSED", redact(str(exc))) from exc
            raise classify(exc, milliseconds_of(wall_clock())) from exc
        finally:
            current_flight.reset(token)

    async def _place(self, client: Any, request: OrderRequest) -> Any:
        """Ask for one placement; the venue's own answer, None where there is none to read."""
        answer = await client.create_order(*self._arguments(request))
        return answer.get("info") if isinstance(answer, dict) else None

    def _placed(self, raw: Any, request: OrderRequest) -> OrderReport:
        """What the venue's own answer says of the order that was asked for."""
        store = self._store(is_conditional=request.is_conditional)
        if not isinstance(raw, dict) or not raw.get(store.exchange_id_field):
            raise OutcomeUnknown("NO_ORDER_ID", "the answer names no order")
        try:
            report = self._report(raw, request.symbol, is_conditional=request.is_conditional)
        except (KeyError, TypeError, ValueError, ArithmeticError) as exc:
            raise OutcomeUnknown("UNREADABLE", redact(repr(exc))) from exc
        if report.client_order_id != request.client_order_id:
            raise OutcomeUnknown("OTHER_ORDER", "the answer names another order")
        return report

    def _arguments(self, request: OrderRequest) -> tuple[Any, ...]:
        """Symbol, type, side, quantity, price and parameters for ccxt; refuses what ccxt would change."""
        self._refuse_unsendable(request)
        price = (
            request.price if CCXT_TYPES[request.type] == "limit" else None
        )  # spot would spend a quote amount
        return (
            request.symbol,
            CCXT_TYPES[request.type],
            request.side.value,
            plain(request.quantity),
            plain(price),
            self._params(request),
        )

    def _refuse_unsendable(self, request: OrderRequest) -> None:
        """Refuse what is not listed, and what the venue's precision would change."""
        if not self._connection.is_listed(request.symbol):
            raise OrderRejected("LOCAL_SYMBOL", f"{request.symbol} is not listed on {self.market}")
        _refuse_rounding(self._connection.quantity_as_sent, request.symbol, request.quantity)
        _refuse_rounding(self._connection.price_as_sent, request.symbol, request.price)
        _refuse_rounding(self._connection.price_as_sent, request.symbol, request.trigger_price)

    def _params(self, request: OrderRequest) -> dict[str, Any]:
        quirks = self._connection.quirks
        params: dict[str, Any] = {
            "clientOrderId": request.client_order_id,
            "timestamp": request.timestamp_ms,
            "recvWindow": request.recv_window_ms,
        }
        if request.type is OrderType.LIMIT_IOC:
            params["timeInForce"] = "IOC"
        if request.is_conditional:
            params |= {"triggerPrice": plain(request.trigger_price), **quirks.trigger_params}
        if request.close_position:
            params["closePosition"] = True
        if request.position_side is not None:
            params["positionSide"] = request.position_side  # hedge mode closes by side, never by a flag
        elif request.reduce_only and quirks.sends_reduce_only and not request.close_position:
            params["reduceOnly"] = True
        return params

    async def cancel_order(self, symbol: str, client_order_id: str, *, is_conditional: bool) -> bool:
        """Cancel by client id; False when there is nothing open to cancel, or it is firing now."""
        store = self._store(is_conditional=is_conditional)
        params = {"symbol": await self._venue_symbol(symbol), store.client_id_param: client_order_id}
        with counted_as(Priority.PROTECTION):
            try:
                answer = await self._change(store.cancel, params)
            except GatewayError as error:
                if is_not_open(error):
                    return False
                raise
        # ccxt takes any body of a 200 for an answer: one that was cut short says nothing of the order.
        if not isinstance(answer, dict) or not answer.get(store.exchange_id_field):
            raise OutcomeUnknown("NO_ORDER_ID", "the answer to the cancel names no order")
        return True

    async def fetch_order(
        self, symbol: str, client_order_id: str, *, is_conditional: bool
    ) -> OrderReport | None:
        """Look an order up in one store; a conditional one that left its store is told as TRIGGERED."""
        with counted_as(Priority.LOOKUP):
            report = await self._look_up(symbol, client_order_id, is_conditional=is_conditional)
            if report is None and is_conditional and self._connection.quirks.has_conditional_store:
                report = await self._find_elsewhere(symbol, client_order_id)
        return report

    async def _look_up(
        self, symbol: str, client_order_id: str, *, is_conditional: bool
    ) -> OrderReport | None:
        store = self._store(is_conditional=is_conditional)
        params = {"symbol": await self._venue_symbol(symbol), store.client_id_param: client_order_id}
        try:
            raw = await self._read(store.fetch, params, dict)
        except ReadFailed as error:
            if error.code in NOT_FOUND:
                return None
            raise
        with read_shape():
            return self._report(raw, symbol, is_conditional=is_conditional)

    async def fetch_client_order_id(self, symbol: str, exchange_order_id: str) -> str:
        """The client id of an ordinary order by the exchange's id; its own orders are marked by theirs."""
        params = {"symbol": await self._venue_symbol(symbol), "orderId": exchange_order_id}
        with counted_as(Priority.LOOKUP):
            raw = await self._read(self._store(is_conditional=False).fetch, params, dict)
        with read_shape():
            return str(raw["clientOrderId"])

    async def _find_elsewhere(self, symbol: str, client_order_id: str) -> OrderReport | None:
        """The query of the conditional store misses orders its list has; a fired one is an ordinary order."""
        for report in await self.fetch_open_orders(symbol, is_conditional=True):
            if report.client_order_id == client_order_id:
                return report
        ordinary = await self._look_up(symbol, client_order_id, is_conditional=False)
        return None if ordinary is None else _as_triggered(ordinary)

    async def fetch_open_orders(
        self, symbol: str | None = None, *, is_conditional: bool
    ) -> Sequence[OrderReport]:
        """The open orders of one store; on spot both kinds share a store and are told apart by type."""
        store = self._store(is_conditional=is_conditional)
        params = {} if symbol is None else {"symbol": await self._venue_symbol(symbol)}
        rows = await self._read(store.list_open, params, list)
        with read_shape():
            reports = [self._report(row, self._symbol_of(row), is_conditional=is_conditional) for row in rows]
        return [report for report in reports if report.is_conditional == is_conditional]

    def _report(self, raw: Mapping[str, Any], symbol: str, *, is_conditional: bool) -> OrderReport:
        quirks = self._connection.quirks
        if is_conditional and quirks.has_conditional_store:
            return conditional_report(raw, symbol)
        return order_report(raw, symbol, quirks.conditional_types)

    def _store(self, *, is_conditional: bool) -> OrderStore:
        quirks = self._connection.quirks
        return quirks.conditional if is_conditional else quirks.ordinary

    # -- history -----------------------------------------------------------------------------------------

    async def fetch_fills(
        self, symbol: str, *, exchange_order_id: str | None = None, since: datetime | None = None
    ) -> Sequence[FillReport]:
        """Executions of one order, or of a symbol since a time (seven days when neither is given)."""
        venue_symbol = await self._venue_symbol(symbol)
        with counted_as(Priority.LOOKUP if exchange_order_id else Priority.REPORT):
            if exchange_order_id is not None:
                rows = await self._fills_of_order(venue_symbol, exchange_order_id)
            else:
                rows = [row async for row in self._fills_since(venue_symbol, since)]
        with read_shape():
            fills = {fill.trade_id: fill for fill in (self._fill(row, symbol) for row in rows)}
        return sorted(fills.values(), key=lambda fill: (fill.filled_at, int(fill.trade_id)))

    @abstractmethod
    def _fill(self, raw: Mapping[str, Any], symbol: str) -> FillReport:
        """Read one execution of the market's own shape."""

    @abstractmethod
    async def _fills_of_order(self, venue_symbol: str, exchange_order_id: str) -> list[Any]:
        """Ask for the executions of one order."""

    @abstractmethod
    def _fills_since(self, venue_symbol: str, since: datetime | None) -> AsyncIterator[Any]:
        """Ask for the executions of a symbol since a time, page by page."""

    # -- the clock ----------------------------------------------------------------------------------------

    async def fetch_clock_offset_ms(self) -> int:
        """Exchange time minus ours; everything of this market signs with it from now on."""
        return await self._connection.fetch_clock_offset_ms()

    # -- the key -------------------------------------------------------------------------------------------

    async def _permissions(self) -> KeyPermissions:
        """The wallet's answer; a venue without a wallet (a testnet) tells nothing."""
        with counted_as(Priority.REPORT):
            try:
                answer = await self._read("sapiGetAccountApiRestrictions", {}, dict)
            except ReadFailed as error:
                if error.code not in NO_SUCH_ENDPOINT:
                    raise
                return KeyPermissions(None, None, None, None)
        with read_shape():
            return key_permissions(answer)

    async def _account_id(self) -> str:
        """The id of the account behind the key; empty where the venue or the key does not tell."""
        try:
            answer = await self._read("privateGetAccount", {}, dict)
        except ReadFailed as error:
            if error.code not in NO_SUCH_ENDPOINT | KEY_MAY_NOT:
                raise
            return ""
        return str(answer.get("uid") or "")

    # -- the wire ----------------------------------------------------------------------------------------

    async def _ready(self) -> Any:
        """The account's client, on the newest market table."""
        template = await self._connection.template()
        if self._client is None or self._client.session is not template.session:
            self._client = clone(template, self._credentials)
        if self._client.markets is not template.markets:
            self._client.set_markets_from_exchange(template)
        return self._client

    async def _read(self, endpoint: str, params: Mapping[str, Any], shape: type[Shape]) -> Shape:
        """One raw read; anything but an answer of the expected shape is `ReadFailed`."""
        try:
            client = await self._ready()
            answer = await getattr(client, endpoint)(dict(params))
        except Exception as exc:
            raise classify_read(exc) from exc
        if not isinstance(answer, shape):
            raise ReadFailed("UNREADABLE", f"{endpoint} answered something else")
        return answer

    async def _change(self, endpoint: str, params: Mapping[str, Any]) -> Any:
        """One raw request that changes something at the exchange and may be asked again."""
        try:
            client = await self._ready()
            return await getattr(client, endpoint)(dict(params))
        except Exception as exc:
            raise classify(exc, milliseconds_of(wall_clock())) from exc

    async def _set(self, endpoint: str, params: Mapping[str, Any]) -> None:
        """One setting; "already so" is success."""
        try:
            await self._change(endpoint, params)
        except GatewayError as error:
            if not is_already_set(error):
                raise

    async def symbol_reader(self) -> Callable[[str], str]:
        """What turns the venue's names into unified symbols, with the market table loaded."""
        try:
            await self._ready()
        except Exception as exc:
            raise classify_read(exc) from exc
        return self._connection.symbol_of

    async def _venue_symbol(self, symbol: str) -> str:
        """The venue's own name; raises `ReadFailed` ``LOCAL_SYMBOL`` for what the market table lacks."""
        try:
            client = await self._ready()
        except Exception as exc:
            raise classify_read(exc) from exc
        if not self._connection.is_listed(symbol):
            raise ReadFailed("LOCAL_SYMBOL", f"{symbol} is not listed on {self.market}")
        return str(client.markets[symbol]["id"])

    def _symbol_of(self, raw: Mapping[str, Any]) -> str:
        return self._connection.symbol_of(str(raw["symbol"]))


@contextmanager
def counted_as(default: Priority) -> Iterator[None]:
    """The priority of a verb, unless the caller has named one."""
    if current_priority.get() is not None:
        yield
        return
    token = current_priority.set(default)
    try:
        yield
    finally:
        current_priority.reset(token)


@contextmanager
def read_shape() -> Iterator[None]:
    """An answer whose rows lack what they must have is a failed read, not half a report."""
    try:
        yield
    except (KeyError, TypeError, ValueError, ArithmeticError, IndexError, AttributeError) as exc:
        raise ReadFailed("UNREADABLE", redact(repr(exc))) from exc


def _priority_of(request: OrderRequest) -> Priority:
    if request.is_conditional:
        return Priority.PROTECTION
    return Priority.ENTRY if request.type is OrderType.LIMIT_IOC else Priority.EXIT


def _refuse_rounding(to_precision: Callable[[str, str], str], symbol: str, number: Decimal | None) -> None:
    """What was decided is what is sent: a number the venue's precision would change never leaves."""
    if number is None:
        return
    try:
        sent = Decimal(to_precision(symbol, format(number, "f")))
    except Exception as exc:
        raise OrderRejected("LOCAL_PRECISION", redact(str(exc))) from exc
    if sent != number:
        raise OrderRejected("LOCAL_PRECISION", f"{number} of {symbol} would be sent as {sent}")


def plain(number: Decimal | None) -> str | None:
    """A Decimal as the wire writes it, never in exponents; ccxt takes text and keeps it exact."""
    return None if number is None else format(number.normalize(), "f")


def _as_triggered(ordinary: OrderReport) -> OrderReport:
    """A conditional order known only by the ordinary order it became, which carries the same client id."""
    return OrderReport(
        client_order_id=ordinary.client_order_id,
        exchange_order_id=ordinary.exchange_order_id,
        symbol=ordinary.symbol,
        side=ordinary.side,
        status=ReportStatus.TRIGGERED,
        quantity=ordinary.quantity,
        filled_quantity=ordinary.filled_quantity,
        is_conditional=True,
        average_price=ordinary.average_price,
        reduce_only=ordinary.reduce_only,
        close_position=ordinary.close_position,
        position_side=ordinary.position_side,
        triggered_order_id=ordinary.exchange_order_id,
        updated_at=ordinary.updated_at,
    )
