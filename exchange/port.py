"""The port: what the desk asks of an exchange account, in the desk's own words.

Symbols are ccxt unified (``BTC/USDT:USDT`` perpetual, ``BTC/USDT`` spot). Quantities are base units,
prices and money quote units, all `Decimal`; times are aware UTC. A missing order is None, a failed
read is `exchange.errors.ReadFailed`: the two are never confused.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Protocol


class Market(StrEnum):
    """Where an executor trades."""

    FUTURES = "futures"
    SPOT = "spot"


class OrderSide(StrEnum):
    """The direction of an order."""

    BUY = "buy"
    SELL = "sell"


class OrderType(StrEnum):
    """The order types the desk uses, and no others."""

    LIMIT_IOC = "limit_ioc"
    MARKET = "market"
    STOP_MARKET = "stop_market"
    STOP_LIMIT = "stop_limit"


class ReportStatus(StrEnum):
    """What the exchange says of an order, in both stores."""

    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"
    EXPIRED = "EXPIRED"
    REJECTED = "REJECTED"
    TRIGGERED = "TRIGGERED"  # a conditional order that fired; `triggered_order_id` names its ordinary order


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """One order as it will be sent, with the timestamp that was stored before the bytes leave.

    `quantity` is None only with `close_position`. `position_side` is ``LONG``/``SHORT`` in hedge mode.
    """

    client_order_id: str
    symbol: str
    side: OrderSide
    type: OrderType
    quantity: Decimal | None
    timestamp_ms: int
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    reduce_only: bool = False
    close_position: bool = False
    position_side: str | None = None
    recv_window_ms: int = 5000

    @property
    def is_conditional(self) -> bool:
        """Whether the order rests in the conditional store until its trigger."""
        return self.type in {OrderType.STOP_MARKET, OrderType.STOP_LIMIT}


@dataclass(frozen=True, slots=True)
class OrderReport:
    """What the exchange says of one order now; never a promise of its fills' prices."""

    client_order_id: str
    exchange_order_id: str
    symbol: str
    side: OrderSide
    status: ReportStatus
    quantity: Decimal
    filled_quantity: Decimal
    is_conditional: bool
    average_price: Decimal | None = None
    trigger_price: Decimal | None = None
    reduce_only: bool = False
    close_position: bool = False
    position_side: str | None = None
    triggered_order_id: str | None = None
    reject_reason: str = ""
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class FillReport:
    """One execution. `fee` is positive when paid; `realized_profit` excludes fees (0 on spot).

    `position_side` is ``LONG``/``SHORT`` in hedge mode: the side alone does not say what it closed.
    """

    trade_id: str
    exchange_order_id: str
    symbol: str
    side: OrderSide
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_asset: str
    filled_at: datetime
    realized_profit: Decimal = Decimal(0)
    client_order_id: str = ""
    is_maker: bool = False
    position_side: str | None = None


@dataclass(frozen=True, slots=True)
class PositionReport:
    """An open position at the exchange; quantity is positive, `is_long` carries the sign.

    `is_isolated` is None where the venue does not tell it with its positions.
    """

    symbol: str
    is_long: bool
    quantity: Decimal
    entry_price: Decimal
    mark_price: Decimal
    unrealized_profit: Decimal
    liquidation_price: Decimal | None = None
    isolated_margin: Decimal | None = None
    position_side: str | None = None
    is_isolated: bool | None = None


@dataclass(frozen=True, slots=True)
class BalanceReport:
    """One account's money in its quote asset; on spot, `free` and `locked` per asset as well."""

    asset: str
    wallet: Decimal
    unrealized_profit: Decimal
    available: Decimal
    free: dict[str, Decimal] = field(default_factory=dict)
    locked: dict[str, Decimal] = field(default_factory=dict)

    @property
    def equity(self) -> Decimal:
        """Wallet plus unrealised profit."""
        return self.wallet + self.unrealized_profit


@dataclass(frozen=True, slots=True)
class SymbolSettings:
    """What the exchange says an account's symbol is set to."""

    symbol: str
    leverage: int
    is_isolated: bool


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """Account-wide modes as read from the exchange."""

    is_hedge_mode: bool
    is_multi_assets: bool
    exchange_account_id: str = ""


@dataclass(frozen=True, slots=True)
class KeyPermissions:
    """What an API key may do; None where the venue does not tell."""

    can_withdraw: bool | None
    is_ip_restricted: bool | None
    can_trade_futures: bool | None
    can_trade_spot: bool | None
    has_portfolio_margin: bool | None = None


@dataclass(frozen=True, slots=True)
class IncomeReport:
    """One money movement at the exchange that is not a fill: funding, transfer, other."""

    income_id: str
    kind: str
    asset: str
    quantity: Decimal
    symbol: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Candle:
    """One bar; `quote_volume` is None where the venue does not say."""

    opened_at: datetime
    closed_at: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    quote_volume: Decimal | None = None


@dataclass(frozen=True, slots=True)
class MarkPrice:
    """A mark price with the funding that is due next and when the exchange computed it."""

    symbol: str
    mark_price: Decimal
    at: datetime
    funding_rate: Decimal | None = None
    next_funding_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Ticker:
    """24 h figures of one symbol, with the best prices and the depth within 0.5 % in quote units.

    `quote_volume` is None where the venue does not say.
    """

    symbol: str
    last_price: Decimal
    quote_volume: Decimal | None
    bid: Decimal | None
    ask: Decimal | None
    depth_quote: Decimal | None = None


@dataclass(frozen=True, slots=True)
class MarginBracket:
    """One step of a symbol's leverage and maintenance-margin table."""

    notional_floor: Decimal
    notional_cap: Decimal
    max_leverage: int
    maint_margin_ratio: Decimal


@dataclass(frozen=True, slots=True)
class InstrumentReport:
    """One market's rules from the venue's market table; `venue_symbol` is the venue's own name for it."""

    symbol: str
    market: Market
    base: str
    quote: str
    tick: Decimal
    step: Decimal
    min_quantity: Decimal
    max_quantity: Decimal
    max_market_quantity: Decimal
    min_notional: Decimal
    is_trading: bool
    venue_symbol: str = ""
    delivery_at: datetime | None = None
    brackets: tuple[MarginBracket, ...] = ()


class ExchangeGateway(Protocol):
    """One account on one market of one venue. Only `submit_order` can open or close exposure.

    Every method raises an error of `exchange.errors`; reads raise `ReadFailed`, never return empty for it.
    """

    market: Market

    def timestamp_ms(self) -> int:
        """The exchange's time now as far as known, for a request that leaves at once."""
        ...

    async def submit_order(self, request: OrderRequest) -> OrderReport:
        """Send one order, once. Raises `OrderNotPlaced` or `OutcomeUnknown`; never retries."""
        ...

    async def cancel_order(self, symbol: str, client_order_id: str, *, is_conditional: bool) -> bool:
        """Cancel by client id; False when the exchange no longer has it open (look it up)."""
        ...

    async def fetch_order(
        self, symbol: str, client_order_id: str, *, is_conditional: bool
    ) -> OrderReport | None:
        """Look an order up in one store; None is one look without it, not proof of absence."""
        ...

    async def fetch_client_order_id(self, symbol: str, exchange_order_id: str) -> str:
        """The client id of an ordinary order known by the exchange's id: who ordered an execution."""
        ...

    async def fetch_open_orders(
        self, symbol: str | None = None, *, is_conditional: bool
    ) -> Sequence[OrderReport]:
        """List the open orders of one store, of one symbol or all."""
        ...

    async def fetch_fills(
        self, symbol: str, *, exchange_order_id: str | None = None, since: datetime | None = None
    ) -> Sequence[FillReport]:
        """Executions of one order, or of a symbol since a time, oldest first."""
        ...

    async def fetch_positions(self) -> Sequence[PositionReport]:
        """All open positions (none on spot)."""
        ...

    async def fetch_balance(self) -> BalanceReport:
        """The account's money now."""
        ...

    async def fetch_account_settings(self) -> AccountSettings:
        """Position mode, multi-assets mode and, where it can be read, the account's id."""
        ...

    async def fetch_symbol_settings(self) -> Sequence[SymbolSettings]:
        """Leverage and margin mode of every symbol, read in bulk."""
        ...

    async def set_one_way_mode(self) -> None:
        """Ask for one position a symbol; "already set" is success, open orders or positions refuse it."""
        ...

    async def set_hedge_mode(self) -> None:
        """Ask for one position a side; answered as `set_one_way_mode` is."""
        ...

    async def set_leverage(self, symbol: str, leverage: int) -> None:
        """Ask for a leverage; the read-back decides, not this answer."""
        ...

    async def set_isolated_margin(self, symbol: str) -> None:
        """Ask for isolated margin; "already set" is success."""
        ...

    async def set_cross_margin(self, symbol: str) -> None:
        """Ask for cross margin; "already set" is success."""
        ...

    async def fetch_permissions(self) -> KeyPermissions:
        """What the key may do."""
        ...

    async def fetch_income(self, since: datetime) -> Sequence[IncomeReport]:
        """Money movements since a time, fills' fees and realised profit left out."""
        ...

    async def fetch_clock_offset_ms(self) -> int:
        """Exchange time minus ours, in milliseconds, the round trip halved out."""
        ...


class MarketDataGateway(Protocol):
    """Public data of one venue and market; needs no account."""

    async def fetch_instruments(self) -> Sequence[InstrumentReport]:
        """The market table with filters and, on futures, margin brackets."""
        ...

    async def fetch_mark_prices(self) -> Sequence[MarkPrice]:
        """All mark prices in one call (on spot: last prices)."""
        ...

    async def fetch_candles(self, symbol: str, timeframe: str, limit: int) -> Sequence[Candle]:
        """The newest candles, oldest first, the forming one last."""
        ...

    async def fetch_tickers(self) -> Sequence[Ticker]:
        """24 h tickers with best bid and ask of all symbols."""
        ...

    async def fetch_depth_quote(self, symbol: str, within: Decimal) -> Decimal:
        """Quote units resting within a fraction of the mid on the thinner side."""
        ...
