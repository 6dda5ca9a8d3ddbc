"""What an account is told after a change; the protocol layer turns these into stream messages at once."""

from dataclasses import dataclass
from decimal import Decimal

from paper.engine.orders import ZERO, Conditional, Order, Position, SpotOrder
from paper.ledger import Row


@dataclass(slots=True)
class OrderChanged:
    """`execution` is the x of ORDER_TRADE_UPDATE; `fill` only with TRADE and CALCULATED."""

    order: Order
    execution: str
    fill: Row | None = None


@dataclass(slots=True)
class BalancesChanged:
    """`change` is the wallet change that is neither profit nor commission."""

    reason: str
    positions: list[Position]
    change: Decimal = ZERO


@dataclass(slots=True)
class ConditionalChanged:
    """A step of a conditional order."""

    order: Conditional


@dataclass(slots=True)
class LeverageChanged:
    """The leverage of one symbol was set."""

    symbol: str
    leverage: int


@dataclass(slots=True)
class MultiAssetsChanged:
    """Multi-assets margin was switched."""

    multi_assets: bool


@dataclass(slots=True)
class MarginCalled:
    """A position is close to its liquidation."""

    position: Position


@dataclass(slots=True)
class SpotOrderChanged:
    """A step of a spot order, with its fill when there is one."""

    order: SpotOrder
    execution: str
    fill: Row | None = None


@dataclass(slots=True)
class SpotBalancesChanged:
    """Free and locked quantities of these assets changed."""

    assets: list[str]


Event = (
    OrderChanged
    | BalancesChanged
    | ConditionalChanged
    | LeverageChanged
    | MultiAssetsChanged
    | MarginCalled
    | SpotOrderChanged
    | SpotBalancesChanged
)
