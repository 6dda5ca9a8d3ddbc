"""Orders of both stores, and what was asked for."""

from dataclasses import dataclass, field
from decimal import Decimal

ZERO = Decimal(0)

BUY, SELL = "BUY", "SELL"
MARKET, LIMIT = "MARKET", "LIMIT"
NEW, PARTIALLY_FILLED, FILLED = "NEW", "PARTIALLY_FILLED", "FILLED"
CANCELED, EXPIRED, REJECTED = "CANCELED", "EXPIRED", "REJECTED"
TRIGGERING, TRIGGERED, FINISHED = "TRIGGERING", "TRIGGERED", "FINISHED"
OPEN = frozenset({NEW, PARTIALLY_FILLED})
BOTH, LONG, SHORT = "BOTH", "LONG", "SHORT"

STOPS = frozenset({"STOP", "STOP_MARKET"})
TAKE_PROFITS = frozenset({"TAKE_PROFIT", "TAKE_PROFIT_MARKET"})
TRAILING = "TRAILING_STOP_MARKET"
CONDITIONAL_TYPES = STOPS | TAKE_PROFITS | {TRAILING}


@dataclass(slots=True)
class NewOrder:
    """An ordinary futures order as asked for; `price` is None for a market order."""

    symbol: str
    side: str
    type: str
    quantity: Decimal
    price: Decimal | None = None
    time_in_force: str = "GTC"
    client_order_id: str = ""
    reduce_only: bool = False
    position_side: str = BOTH
    good_till_ms: int = 0
    self_trade_prevention: str = "EXPIRE_MAKER"
    price_match: str = "NONE"


@dataclass(slots=True)
class Order:
    """An ordinary futures order, open or ended. `cost` is the quote paid or received so far."""

    order_id: int
    account: str
    symbol: str
    client_order_id: str
    side: str
    type: str
    original_type: str
    time_in_force: str
    quantity: Decimal
    price: Decimal
    reduce_only: bool
    close_position: bool
    position_side: str
    time_ms: int
    update_ms: int
    status: str = NEW
    executed: Decimal = ZERO
    cost: Decimal = ZERO
    stop_price: Decimal = ZERO
    good_till_ms: int = 0
    self_trade_prevention: str = "EXPIRE_MAKER"
    price_match: str = "NONE"
    algo_id: int = 0
    hold_until_ms: int = 0
    modifications: int = 0

    @property
    def remaining(self) -> Decimal:
        """The quantity not executed."""
        return self.quantity - self.executed

    @property
    def average_price(self) -> Decimal:
        """Quote per base over the fills so far, zero before the first."""
        return self.cost / self.executed if self.executed else ZERO

    @property
    def signed(self) -> Decimal:
        """The remaining quantity, negative for a sell."""
        return self.remaining if self.side == BUY else -self.remaining


@dataclass(slots=True)
class NewConditional:
    """A conditional order as asked for."""

    symbol: str
    side: str
    type: str
    quantity: Decimal = ZERO
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    client_algo_id: str = ""
    working_type: str = "CONTRACT_PRICE"
    time_in_force: str = "GTC"
    close_position: bool = False
    reduce_only: bool = False
    price_protect: bool = False
    position_side: str = BOTH
    activate_price: Decimal | None = None
    callback_percent: Decimal | None = None
    good_till_ms: int = 0
    self_trade_prevention: str = "EXPIRE_MAKER"
    price_match: str = "NONE"


@dataclass(slots=True)
class Conditional:
    """An order of the conditional store; it becomes an ordinary one when its trigger is met."""

    algo_id: int
    account: str
    symbol: str
    client_algo_id: str
    side: str
    type: str
    time_in_force: str
    quantity: Decimal
    price: Decimal
    trigger_price: Decimal
    working_type: str
    close_position: bool
    reduce_only: bool
    price_protect: bool
    position_side: str
    time_ms: int
    update_ms: int
    status: str = NEW
    activate_price: Decimal = ZERO
    callback_percent: Decimal = ZERO
    extreme: Decimal = ZERO
    activated: bool = False
    trigger_ms: int = 0
    order_id: int = 0
    actual_price: Decimal = ZERO
    actual_quantity: Decimal = ZERO
    actual_type: str = ""
    reject_reason: str = ""
    good_till_ms: int = 0
    self_trade_prevention: str = "EXPIRE_MAKER"
    price_match: str = "NONE"

    @property
    def is_open(self) -> bool:
        """Waiting for its trigger."""
        return self.status in {NEW, TRIGGERING}

    @property
    def fires_upwards(self) -> bool:
        """Met when the reference price is at or above the trigger."""
        return (self.side == BUY) == (self.type in STOPS)

    @property
    def family(self) -> str:
        """Stop or target: at most one close-position order of each may stand per direction."""
        return "target" if self.type in TAKE_PROFITS else "stop"


@dataclass(slots=True)
class SpotOrder:
    """A spot order; a stop-loss-limit waits with `working` false until its stop price is met."""

    order_id: int
    account: str
    symbol: str
    client_order_id: str
    side: str
    type: str
    time_in_force: str
    quantity: Decimal
    price: Decimal
    stop_price: Decimal
    time_ms: int
    update_ms: int
    quote_quantity: Decimal = ZERO
    status: str = NEW
    working: bool = True
    working_ms: int = 0
    executed: Decimal = ZERO
    cost: Decimal = ZERO
    locked: Decimal = ZERO
    hold_until_ms: int = 0

    @property
    def remaining(self) -> Decimal:
        """The quantity not executed."""
        return self.quantity - self.executed


@dataclass(slots=True)
class SpotBalance:
    """Free and locked quantity of one asset."""

    account: str
    asset: str
    free: Decimal = ZERO
    locked: Decimal = ZERO


@dataclass(slots=True)
class Position:
    """A net position.

    `cost` is the signed quote paid for what is open, exact: the realised profit of a round trip therefore
    equals its cash flow to the last unit. `fees` and `realized` are those since it was last flat,
    `accumulated` is the profit realised there ever, before fees.
    """

    account: str
    symbol: str
    position_side: str
    quantity: Decimal = ZERO
    cost: Decimal = ZERO
    isolated_wallet: Decimal = ZERO
    fees: Decimal = ZERO
    realized: Decimal = ZERO
    accumulated: Decimal = ZERO
    update_ms: int = 0

    @property
    def entry_price(self) -> Decimal:
        """Average entry, zero when flat."""
        return self.cost / self.quantity if self.quantity else ZERO

    @property
    def break_even_price(self) -> Decimal:
        """(cost + fees - realised) / quantity: where the whole position earns nothing; zero when flat."""
        return (self.cost + self.fees - self.realized) / self.quantity if self.quantity else ZERO

    def unrealized(self, mark: Decimal) -> Decimal:
        """Profit at this mark, before fees."""
        return self.quantity * mark - self.cost


@dataclass(slots=True)
class Account:
    """One key: its futures wallet, spot balances, settings and open things."""

    key: str
    secret: str
    wallet: Decimal = ZERO
    dual: bool = False
    multi_assets: bool = False
    revoked: bool = False
    created_ms: int = 0
    update_ms: int = 0
    permissions: dict[str, bool] = field(default_factory=dict)
    leverages: dict[str, int] = field(default_factory=dict)
    margin_types: dict[str, str] = field(default_factory=dict)

    def leverage(self, symbol: str) -> int:
        """The leverage set for the symbol, 20 until set."""
        return self.leverages.get(symbol, 20)

    def is_isolated(self, symbol: str) -> bool:
        """Isolated margin; a symbol starts as cross."""
        return self.margin_types.get(symbol) == "ISOLATED"
