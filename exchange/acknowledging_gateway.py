"""What venues have in common that answer a placement with its ids before the order was matched.

Their answers carry no status, no quantity and no fill: a placed order is reported as NEW, and everything more
is told by a lookup. Their times travel in signed headers (`exchange.stamps`), and they tell an account's
leverage by symbol only, never in bulk.
"""

from abc import abstractmethod
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from exchange.binance_reports import milliseconds_of
from exchange.budget import Priority
from exchange.ccxt_gateway import CcxtGateway, counted_as, read_shape
from exchange.codes import CodeBook
from exchange.errors import GatewayError, OrderRejected, OutcomeUnknown, ReadFailed
from exchange.port import FillReport, OrderReport, OrderRequest, ReportStatus
from exchange.stamps import Stamp, stamped

DEFAULT_HISTORY = timedelta(days=7)
HISTORY_WINDOW = timedelta(days=7)

Raw = Mapping[str, Any]


class AcknowledgingGateway(CcxtGateway):
    """One account on the perpetual market of a venue that acknowledges first and matches later.

    `fetch_symbol_settings` tells of the symbols this gateway was asked to set and of those with a position.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """As every gateway; nothing is known of any symbol yet."""
        super().__init__(*args, **kwargs)
        self._set_symbols: set[str] = set()

    @property
    def _codes(self) -> CodeBook:
        return self._connection.venue.codes

    # -- orders ------------------------------------------------------------------------------------------

    async def submit_order(self, request: OrderRequest) -> OrderReport:
        """Send one order, once, signed with its stored time: the venue refuses what arrives too late."""
        name = request.client_order_id
        if len(name) > self._connection.venue.client_id_limit or not (name.isascii() and name.isalnum()):
            raise OrderRejected(
                "LOCAL_CLIENT_ID", "the client order id is longer or odder than the venue takes"
            )
        with stamped(self._stamp(request)):
            return await super().submit_order(request)

    def _stamp(self, request: OrderRequest) -> Stamp:
        return Stamp(request.timestamp_ms, request.recv_window_ms)

    def _placed(self, raw: Any, request: OrderRequest) -> OrderReport:
        store = self._store(is_conditional=request.is_conditional)
        if not isinstance(raw, dict) or not raw.get(store.exchange_id_field):
            raise OutcomeUnknown("NO_ORDER_ID", "the answer names no order")
        if request.client_order_id not in self._client_ids(raw, is_conditional=request.is_conditional):
            raise OutcomeUnknown("OTHER_ORDER", "the answer names another order")
        return OrderReport(
            client_order_id=request.client_order_id,
            exchange_order_id=str(raw[store.exchange_id_field]),
            symbol=request.symbol,
            side=request.side,
            status=ReportStatus.NEW,
            quantity=request.quantity or Decimal(0),
            filled_quantity=Decimal(0),
            is_conditional=request.is_conditional,
            trigger_price=request.trigger_price,
            reduce_only=request.reduce_only,
            close_position=request.close_position,
            position_side=request.position_side,
        )

    def _client_ids(self, raw: Raw, *, is_conditional: bool) -> set[str]:
        """The client ids an answer names its order by."""
        return {str(raw.get(self._store(is_conditional=is_conditional).client_id_param) or "")}

    async def cancel_order(self, symbol: str, client_order_id: str, *, is_conditional: bool) -> bool:
        """Ask to cancel by client id; True says that it was taken up, and a lookup what became of it."""
        venue_symbol = await self._venue_symbol(symbol)
        with counted_as(Priority.PROTECTION):
            try:
                await self._cancel(venue_symbol, client_order_id, is_conditional=is_conditional)
            except GatewayError as error:
                if error.code in self._codes.not_open:
                    return False
                raise
        return True

    @abstractmethod
    async def _cancel(self, venue_symbol: str, client_order_id: str, *, is_conditional: bool) -> None:
        """Send one cancel."""

    async def fetch_order(
        self, symbol: str, client_order_id: str, *, is_conditional: bool
    ) -> OrderReport | None:
        """Look an order up in one store; a conditional one that fired is told as TRIGGERED."""
        venue_symbol = await self._venue_symbol(symbol)
        with counted_as(Priority.LOOKUP):
            if is_conditional:
                return await self._conditional(symbol, venue_symbol, client_order_id)
            return await self._ordinary(symbol, venue_symbol, client_order_id)

    @abstractmethod
    async def _ordinary(self, symbol: str, venue_symbol: str, client_order_id: str) -> OrderReport | None:
        """Look an ordinary order up, one a stop became included."""

    @abstractmethod
    async def _conditional(self, symbol: str, venue_symbol: str, client_order_id: str) -> OrderReport | None:
        """Look a conditional order up, wherever it is by now."""

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
        return sorted(fills.values(), key=lambda fill: fill.filled_at)

    def _windows(self, since: datetime) -> list[tuple[int, int]]:
        """Wire times of the venue's windows of seven days, from a time until now."""
        windows, start, now = [], since, self._now()
        while start <= now:
            windows.append((milliseconds_of(start), milliseconds_of(start + HISTORY_WINDOW)))
            start += HISTORY_WINDOW
        return windows

    # -- settings ----------------------------------------------------------------------------------------

    async def set_leverage(self, symbol: str, leverage: int) -> None:
        """Ask for a leverage; "not modified" is success, and from now on the symbol is read back."""
        venue_symbol = await self._venue_symbol(symbol)
        self._set_symbols.add(symbol)
        with counted_as(Priority.ENTRY), self._taking_already_set_for_done():
            await self._ask_leverage(venue_symbol, leverage)

    @contextmanager
    def _taking_already_set_for_done(self) -> Iterator[None]:
        try:
            yield
        except GatewayError as error:
            if error.code not in self._codes.already_set:
                raise

    @abstractmethod
    async def _ask_leverage(self, venue_symbol: str, leverage: int) -> None:
        """Send one leverage."""

    # -- the wire ----------------------------------------------------------------------------------------

    @abstractmethod
    def _pages(self, endpoint: str, params: Raw) -> AsyncIterator[Raw]:
        """Every row of a list, page after page; an answer without a list is a failed read."""

    async def _rows(self, endpoint: str, params: Raw) -> list[Raw]:
        return [row async for row in self._pages(endpoint, params)]

    async def _one(self, endpoint: str, params: Raw) -> Raw:
        """The only row of an answer; none is a failed read."""
        rows = await self._rows(endpoint, params)
        if not rows:
            raise ReadFailed("UNREADABLE", f"{endpoint} answered nothing")
        return rows[0]
