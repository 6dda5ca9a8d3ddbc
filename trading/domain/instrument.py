"""One market of the exchange, its filters, and the only roundings the desk knows."""

from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from enum import StrEnum


class Market(StrEnum):
    """The kind of market an executor works on."""

    FUTURES = "futures"
    SPOT = "spot"


@dataclass(frozen=True, slots=True)
class Bracket:
    """One step of the exchange's leverage table, by notional in quote units."""

    notional_floor: Decimal
    notional_cap: Decimal
    maint_margin_ratio: Decimal
    max_leverage: Decimal


@dataclass(frozen=True, slots=True)
class Instrument:
    """A market by its unified symbol; quantities in base units, notionals in quote units.

    `brackets` is empty on spot; `delivery_at` is None for what never delivers.
    """

    symbol: str
    base: str
    quote: str
    market: Market
    tick: Decimal
    step: Decimal
    min_quantity: Decimal
    max_quantity: Decimal
    max_market_quantity: Decimal
    min_notional: Decimal
    brackets: tuple[Bracket, ...] = ()
    trading: bool = True
    reduce_only: bool = False
    delivery_at: datetime | None = None

    def bracket_at(self, notional: Decimal) -> Bracket | None:
        """Return the bracket that holds `notional`; the last one beyond the table, None without a table."""
        for bracket in self.brackets:
            if bracket.notional_cap >= notional:
                return bracket
        return self.brackets[-1] if self.brackets else None

    def notional_limit(self, leverage: Decimal) -> Decimal | None:
        """Return the largest notional the exchange allows at `leverage`; None when it names no limit."""
        if not self.brackets:
            return None
        allowing = [bracket.notional_cap for bracket in self.brackets if bracket.max_leverage >= leverage]
        return max(allowing, default=Decimal(0))


def floor_to(value: Decimal, unit: Decimal) -> Decimal:
    """Return the largest multiple of `unit` that is not above `value`."""
    return (value / unit).to_integral_value(ROUND_FLOOR) * unit


def ceil_to(value: Decimal, unit: Decimal) -> Decimal:
    """Return the smallest multiple of `unit` that is not below `value`."""
    return (value / unit).to_integral_value(ROUND_CEILING) * unit


def floor_quantity(instrument: Instrument, quantity: Decimal) -> Decimal:
    """Floor to the step; never enlarges, because a larger quantity was not decided."""
    return floor_to(quantity, instrument.step)


def round_stop(price: Decimal, tick: Decimal, *, is_long: bool) -> Decimal:
    """Round a stop in the position's favour: nearer to the market, so the planned loss never grows."""
    return ceil_to(price, tick) if is_long else floor_to(price, tick)


def round_target(price: Decimal, tick: Decimal, *, is_long: bool) -> Decimal:
    """Round a target toward the entry, so that it is reached no later than planned."""
    return floor_to(price, tick) if is_long else ceil_to(price, tick)


def round_cap(price: Decimal, tick: Decimal, *, is_long: bool) -> Decimal:
    """Round an entry cap against ourselves: the worse price, so that sizing assumes no luck."""
    return ceil_to(price, tick) if is_long else floor_to(price, tick)
