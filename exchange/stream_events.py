"""What an account's stream tells, as it happens. Deltas: what is not named did not change."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from exchange.port import FillReport, OrderReport


@dataclass(frozen=True, slots=True)
class StreamUp:
    """The stream is connected; whatever happened before this moment may have been missed: read it."""

    at: datetime


@dataclass(frozen=True, slots=True)
class StreamDown:
    """The stream is gone; from now on the account is only known by reads."""

    at: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class OrderEvent:
    """An ordinary order changed; `fill` when the change was an execution."""

    report: OrderReport
    fill: FillReport | None
    at: datetime


@dataclass(frozen=True, slots=True)
class ConditionalEvent:
    """A conditional order changed in its store."""

    report: OrderReport
    at: datetime


@dataclass(frozen=True, slots=True)
class BalanceEvent:
    """An asset's balance; `locked` is what spot orders hold of it. `reason` is the venue's word."""

    asset: str
    wallet: Decimal
    reason: str
    at: datetime
    locked: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class PositionEvent:
    """A position; quantity 0 means it is closed, and `is_long` then means nothing."""

    symbol: str
    is_long: bool
    quantity: Decimal
    entry_price: Decimal
    unrealized_profit: Decimal
    position_side: str | None
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ConfigEvent:
    """A setting changed: a symbol's leverage, or the multi-assets mode of the account."""

    at: datetime
    symbol: str = ""
    leverage: int | None = None
    is_multi_assets: bool | None = None


UserEvent = StreamUp | StreamDown | OrderEvent | ConditionalEvent | BalanceEvent | PositionEvent | ConfigEvent
