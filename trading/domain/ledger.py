"""Fills folded into a position: what we hold is what was executed, never what was wished.

Promises:
1. The fold does not depend on the order in which fills arrive, nor on seeing one twice: they are taken once
   by trade id, in the order of the exchange's clock.
2. Quantity is the plain sum of executions; a fill that goes through zero shows as `flipped_quantity`.
3. Profit is before fees and funding, against the running average entry, as the exchange reckons it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from trading.domain.percent import ZERO, sign


@dataclass(frozen=True, slots=True)
class LedgerFill:
    """One execution. `fee` is in quote units; `base_fee` is what spot takes out of the coins bought."""

    trade_id: str
    is_buy: bool
    quantity: Decimal
    price: Decimal
    filled_at: datetime
    fee: Decimal = ZERO
    base_fee: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class Holding:
    """A position from its fills.

    `quantity` is open on the position's side and never negative; `flipped_quantity` went over to the other
    side. `entry_price` is the running average of what is open, kept after the close; `exit_price` the average
    of what was closed, None before. `fees` are quote units, base fees valued at the price of their fill.
    """

    quantity: Decimal
    flipped_quantity: Decimal
    initial_quantity: Decimal
    entry_price: Decimal
    exit_price: Decimal | None
    realized_profit: Decimal
    fees: Decimal
    opened_at: datetime | None

    @property
    def is_flat(self) -> bool:
        """Whether nothing is open on either side."""
        return self.quantity == 0 and self.flipped_quantity == 0


def fold_position(fills: Iterable[LedgerFill], *, is_long: bool) -> Holding:
    """Return the position on one side that `fills` make."""
    ordered = in_order(fills)
    running = _Running()
    for fill in ordered:
        running = running.apply(fill)
    entries = [fill for fill in ordered if fill.is_buy is is_long]
    exits = [fill for fill in ordered if fill.is_buy is not is_long]
    net = running.net * sign(is_long=is_long)
    return Holding(
        quantity=max(ZERO, net),
        flipped_quantity=max(ZERO, -net),
        initial_quantity=sum((fill.quantity - fill.base_fee for fill in entries), ZERO),
        entry_price=running.average,
        exit_price=_average_price(exits),
        realized_profit=running.realized,
        fees=_fees(ordered),
        opened_at=entries[0].filled_at if entries else None,
    )


def in_order(fills: Iterable[LedgerFill]) -> list[LedgerFill]:
    """Return each execution once, by the exchange's clock and then its trade id."""
    once = {fill.trade_id: fill for fill in fills}
    return sorted(once.values(), key=lambda fill: (fill.filled_at, _trade_order(fill.trade_id)))


def _trade_order(trade_id: str) -> tuple[int, str]:
    """Exchange ids are growing numbers: as text "10" would come before "9"."""
    return (len(trade_id), trade_id)


def _average_price(fills: list[LedgerFill]) -> Decimal | None:
    quantity = sum((fill.quantity for fill in fills), ZERO)
    notional = sum((fill.quantity * fill.price for fill in fills), ZERO)
    return notional / quantity if quantity > 0 else None


def _fees(fills: list[LedgerFill]) -> Decimal:
    return sum((fill.fee + fill.base_fee * fill.price for fill in fills), ZERO)


@dataclass(frozen=True, slots=True)
class _Running:
    """Signed quantity, its average price, and the profit realised on the way."""

    net: Decimal = ZERO
    average: Decimal = ZERO
    realized: Decimal = ZERO

    def apply(self, fill: LedgerFill) -> "_Running":
        moved = (fill.quantity if fill.is_buy else -fill.quantity) - fill.base_fee
        if self.net * moved >= 0:
            return self._extend(moved, fill.price)
        closed = min(abs(self.net), abs(moved))
        gained = (fill.price - self.average) * closed * (1 if self.net > 0 else -1)
        after = replace(self, net=self.net + moved, realized=self.realized + gained)
        return replace(after, average=fill.price) if abs(moved) > abs(self.net) else after

    def _extend(self, moved: Decimal, price: Decimal) -> "_Running":
        net = self.net + moved
        if net == 0:
            return self
        return replace(self, net=net, average=(self.net * self.average + moved * price) / net)
