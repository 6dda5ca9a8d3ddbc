"""Whose position an execution belongs to: decided in memory, over rows read once for many accounts.

A stranger's executions belong to nobody; on a symbol where we hold something they are counted beside ours.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from django.db.models import Q

from accounts.models import Account
from accounts.services.fixed_queries import AmongGiven, FixedQuery
from exchange.port import Market, OrderSide
from trading.domain.states import CloseReason, PositionStatus
from trading.models import Fill, Order, Position, PositionEvent
from trading.services import plans
from trading.services.many_rows import new_row
from trading.services.position_rows import step

ZERO = Decimal(0)
LONG = "LONG"

Key = tuple[int, str, str, bool, bool]
"""Account, market, symbol, whether it is long, whether it is a stranger's."""


_LOCKED = FixedQuery(
    lambda: (
        Position.objects.select_for_update()
        .filter(
            Q(AmongGiven("pk", "known"))
            | Q(AmongGiven("account_id", "accounts"))
            & Q(AmongGiven("symbol", "symbols"))
            & Q(status=PositionStatus.OPEN)
        )
        .order_by("account_id", "pk")
    )
)


class Owners:
    """The positions that some executions may belong to: the open ones of their accounts and symbols."""

    def __init__(
        self, accounts: Mapping[int, Account], symbols: Collection[str], positions: Iterable[Position]
    ) -> None:
        self._accounts, self._symbols = accounts, symbols
        self._known = {position.pk: position for position in positions}
        self._open = {_key(one): one for one in self._known.values() if one.status == PositionStatus.OPEN}
        self._leverages: dict[tuple[int, str], int] | None = None
        self._shown_at: dict[Key, datetime] = {}
        self.steps: list[PositionEvent] = []
        """Steps of timelines that finding an owner took; not yet saved."""
        self.changed: dict[int, Position] = {}
        """Rows that it changed, by id, the fold aside; not yet saved."""

    @classmethod
    def of(cls, fills: Sequence[Fill], accounts: Mapping[int, Account]) -> "Owners":
        """Read and lock the rows in one query; `accounts` by id, locked before."""
        symbols = {fill.symbol for fill in fills}
        known = {fill.order.position_id for fill in fills if fill.order is not None} - {None}
        positions: list[Position] = _LOCKED.ask(accounts=accounts, symbols=symbols, known=known)
        for position in positions:
            position.relate(account=accounts[position.account_id])
        return cls(accounts, symbols, positions)

    def owner_of(self, fill: Fill) -> Position | None:
        """The position of an execution, a new one in memory if it opens one; None for a stranger's."""
        order = fill.order
        if order is None:
            return self._hit_by_stranger(fill)
        known = None if order.position_id is None else self._known[order.position_id]
        if known is not None and not _opens_again(known, fill):
            if known.allocation_id is not None and known.allocation_id == order.allocation_id:
                known.relate(allocation=order.allocation)  # a plan asks for it, and it is read with its order
            return known
        held = self._position(fill, is_long=_is_buy(fill))
        if held is None:
            held = self._opened(known or self._new(fill, order), fill)
        self._leave_out(held, fill)
        return held

    def _position(self, fill: Fill, *, is_long: bool, is_foreign: bool = False) -> Position | None:
        return self._open.get((fill.account_id, fill.market, fill.symbol, is_long, is_foreign))

    def _new(self, fill: Fill, order: Order) -> Position:
        allocation = order.allocation
        position = new_row(
            Position,
            market=fill.market,
            symbol=fill.symbol,
            base=order.base,
            is_long=_is_buy(fill),
            leverage=self._leverage(fill),
            quantity=ZERO,
            initial_quantity=ZERO,
            entry_price=fill.price,
            planned_risk=allocation.planned_risk if allocation else None,
            opened_at=fill.filled_at,
            unprotected_since=fill.filled_at,
            trace_id=order.trace_id,
        )
        position.relate(account=self._accounts[fill.account_id], allocation=allocation)
        return position

    def _leverage(self, fill: Fill) -> int:
        """What the exchange last said the symbol is set to, else what the account asks for; 1 on spot."""
        if fill.market == Market.SPOT:
            return 1
        if self._leverages is None:
            self._leverages = plans.read_back_leverages(self._accounts.keys(), self._symbols)
        key = (fill.account_id, fill.symbol)
        return self._leverages.get(key, self._accounts[fill.account_id].leverage)

    def _opened(self, position: Position, fill: Fill) -> Position:
        """Take a stranger's place on the symbol: his own row ends, ours keeps the figure of his share."""
        foreign = self._position(fill, is_long=position.is_long, is_foreign=True)
        if foreign is not None:
            foreign.status, foreign.closed_at = PositionStatus.CLOSED, fill.filled_at
            foreign.close_reason = CloseReason.FOREIGN
            del self._open[_key(foreign)]
            self.changed[foreign.pk] = foreign
            position.foreign_quantity = foreign.quantity
            self._shown_at[_key(position)] = foreign.opened_at
        self._open[_key(position)] = position
        return position

    def _leave_out(self, position: Position, fill: Fill) -> None:
        """What was executed before a row showed a stranger's share was shown as a part of it, and is ours.

        Counted twice, the position would look flat beside the stranger, and no exit of it be sent.
        """
        shown_at = self._shown_at.get(_key(position))
        if shown_at is not None and fill.filled_at <= shown_at:
            position.foreign_quantity = max(ZERO, position.foreign_quantity - fill.quantity)

    def _hit_by_stranger(self, fill: Fill) -> Position | None:
        """Our position, where an execution that is not ours reduced it; what is not ours is only counted.

        A stranger's share is taken to be reduced first. On spot a stranger's coins are another holding.
        """
        if fill.market == Market.SPOT:
            return None
        is_buy = _is_buy(fill)
        # In hedge mode a sale may open a short beside our long: only the side it names was touched.
        sides = [fill.position_side == LONG] if fill.position_side else [is_buy, not is_buy]
        held = next((one for is_long in sides if (one := self._position(fill, is_long=is_long))), None)
        if held is None:
            return None
        if held.is_long == is_buy:
            self._change_foreign(held, fill.quantity, fill)
            return None
        if held.foreign_quantity >= fill.quantity:
            self._change_foreign(held, -fill.quantity, fill)
            return None
        return held

    def _change_foreign(self, position: Position, change: Decimal, fill: Fill) -> None:
        position.foreign_quantity += change
        self.steps.append(step(position, "FOREIGN_SHARE", fill.filled_at, quantity=position.foreign_quantity))
        if position.is_saved:
            self.changed[position.pk] = position


def _opens_again(known: Position, fill: Fill) -> bool:
    """Whether a late execution of its entry leaves something of a closed position open.

    Where more was sold than our rows had bought, it is what was sold.
    """
    if known.status == PositionStatus.OPEN or known.is_long != _is_buy(fill):
        return False
    executed = known.fills.order_by().values_list("side", "quantity")
    return sum((quantity if side == fill.side else -quantity for side, quantity in executed), ZERO) >= 0


def _is_buy(fill: Fill) -> bool:
    return fill.side == OrderSide.BUY


def _key(position: Position) -> Key:
    held = position
    return (held.account_id, held.market, held.symbol, held.is_long, held.is_foreign)
