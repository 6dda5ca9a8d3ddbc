"""Three ratios that must never be compared with one another, each its own type (domain rules, section 1).

All are Decimal fractions (0.012 is 1.2 %); `to_percent` is for the edge only.
"""

from decimal import Decimal
from typing import NewType

PriceMove = NewType("PriceMove", Decimal)
"""Move of the mark price against the average entry, positive in the position's favour."""

Roe = NewType("Roe", Decimal)
"""Profit on the margin used, where margin used is entry notional / leverage."""

EquityRatio = NewType("EquityRatio", Decimal)
"""Profit on the account's equity, or on the day's baseline for day limits."""

ONE = Decimal(1)
ZERO = Decimal(0)
_HUNDRED = Decimal(100)


def sign(*, is_long: bool) -> Decimal:
    """+1 for a long position, -1 for a short one."""
    return ONE if is_long else -ONE


def price_move(*, is_long: bool, entry_price: Decimal, price: Decimal) -> PriceMove:
    """Return how far `price` is from the average entry, in the position's favour."""
    return PriceMove((price - entry_price) / entry_price * sign(is_long=is_long))


def price_at(*, is_long: bool, entry_price: Decimal, move: Decimal) -> Decimal:
    """Return the price at which the position's price move is `move`; the inverse of `price_move`."""
    return entry_price * (ONE + move * sign(is_long=is_long))


def profit(*, is_long: bool, quantity: Decimal, entry_price: Decimal, price: Decimal) -> Decimal:
    """Return the profit in quote units of `quantity` between entry and `price`, before costs."""
    return (price - entry_price) * quantity * sign(is_long=is_long)


def roe(move: PriceMove, leverage: Decimal) -> Roe:
    """Return the profit on the margin used for a price move at `leverage`."""
    return Roe(move * leverage)


def equity_ratio(amount: Decimal, equity: Decimal) -> EquityRatio | None:
    """Return a profit as a fraction of equity; None when there is no equity to compare with."""
    return EquityRatio(amount / equity) if equity > 0 else None


def distance_to_stop(*, is_long: bool, mark_price: Decimal, stop_price: Decimal) -> PriceMove:
    """How far the mark may still move before the stop, as a fraction of the mark; <= 0 means crossed."""
    return PriceMove((mark_price - stop_price) / mark_price * sign(is_long=is_long))


def is_crossed(*, is_long: bool, mark_price: Decimal, stop_price: Decimal) -> bool:
    """Whether the mark is at or through the stop."""
    return mark_price <= stop_price if is_long else mark_price >= stop_price


def equity(*, wallet: Decimal, unrealized: Decimal) -> Decimal:
    """Wallet and open profit together, in quote units."""
    return wallet + unrealized


def available(*, wallet: Decimal, unrealized: Decimal, margin_used: Decimal) -> Decimal:
    """What is left of the equity beside the margin in use, in quote units."""
    return equity(wallet=wallet, unrealized=unrealized) - margin_used


def to_percent(fraction: Decimal) -> Decimal:
    """Return a fraction as percent, for pages, API and alerts."""
    return fraction * _HUNDRED


def from_percent(percent: Decimal) -> Decimal:
    """Return a percent figure from the edge as a fraction."""
    return percent / _HUNDRED


def clamp(value: Decimal, low: Decimal, high: Decimal) -> Decimal:
    """Return `value` held inside [low, high]."""
    return max(low, min(high, value))
