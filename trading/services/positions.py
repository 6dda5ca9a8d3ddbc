"""Positions from fills: opened, reduced and closed by executions alone, never by a wish or an answer.

Everything here is rows; nothing touches the network. `fold` runs inside the transaction that inserted the
fills, under the account's lock, so a fill is never a row without its position having moved, and the first
fill leaves the plan and the hard stop's order behind it in the same commit.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

import structlog
from django.utils import timezone

from accounts.models import Account
from accounts.services.fixed_queries import Statement, carry_out
from alerts.services import clear_alerts
from exchange.port import Market, OrderSide
from trading.domain.exit_plan import ExitPlan
from trading.domain.instrument import Instrument, floor_quantity
from trading.domain.ledger import Holding, LedgerFill, fold_position
from trading.domain.limits import Limits
from trading.domain.sizing import excess_quantity, loss_per_unit
from trading.domain.states import CloseReason, OrderPurpose, PositionStatus, Protection
from trading.models import Fill, Order, Position, PositionEvent
from trading.services import market, plans
from trading.services.bells import Bells
from trading.services.intents import want
from trading.services.many_rows import changing, inserting
from trading.services.owners import Owners
from trading.services.plans import instrument_of
from trading.services.position_rows import step, stop_unprotected_clock
from trading.services.stops import STOPS, new_hard_stop

ZERO = Decimal(0)
AT_ONCE = timedelta(0)
TAKEN_BY_THE_EXCHANGE = {
    "autoclose-": CloseReason.LIQUIDATED,
    "adl_autoclose": CloseReason.ADL,
    "settlement_autoclose-": CloseReason.SETTLED,
}
"""Client ids the exchange gives to executions it ordered itself."""

CAUSES = (
    *("unprotected", "stop-unseen", "stop-refused", "stop-crossed", "stop-wrong"),
    *("exit-failing", "flat-unexplained"),
)
"""Alerts that end with their position."""

FOLDED = (
    *("status", "quantity", "initial_quantity", "entry_price", "exit_price", "realized_profit", "fees"),
    *("opened_at", "closed_at", "close_reason", "closing_for", "reduction", "plan", "stop_price", "check_at"),
    *("protection", "unprotected_since", "unprotected_seconds", "foreign_quantity"),
)
"""What executions, and the plan made from them, may change of a position that is a row."""

PRICE_UNIT = Decimal("1e-12")
MONEY_UNIT = Decimal("1e-8")

log = structlog.get_logger(__name__)


# ── fills become positions ───────────────────────────────────────────────────


def fold(
    fresh: Sequence[Fill],
    adopted: Sequence[Fill],
    accounts: Mapping[int, Account],
    now: datetime,
    clear_after: timedelta = AT_ONCE,
) -> Bells:
    """Give executions to their positions, recompute those from all their fills, and write all of it.

    `fresh` are not yet rows and become rows here; `adopted` are rows that only now have an order. `accounts`
    are theirs by id, locked. Call inside a transaction. However many positions, the statements are the same.
    What closes here asks to have its stops cleared `clear_after` from now, and until then rings later.
    """
    fills = [*fresh, *adopted]
    owners = Owners.of(fills, accounts)
    moved: dict[int, _Moved] = {}
    for fill in sorted(fills, key=lambda fill: fill.filled_at):
        position = owners.owner_of(fill)
        if position is None:
            continue
        moved.setdefault(id(position), _Moved(position)).fresh.append(fill)
    told = _Told([*moved.values()])
    for one in moved.values():
        _refold(one, told, now)
        if one.has_closed:
            one.position.check_at = now + clear_after
    _write(fresh, adopted, owners, [*moved.values()])
    _tell_closed([one.position for one in moved.values() if one.has_closed], now)
    return Bells(
        # Who places a first stop looks after its position too: asked beside it, both wait for the same rows.
        positions=[one.position.pk for one in moved.values() if one.stop is None],
        later=[one.position.pk for one in moved.values() if one.has_closed and clear_after],
        exits=_stops([*moved.values()]),
    )


@dataclass(slots=True)
class _Moved:
    """One position that executions moved, its row in memory, and what that leaves to be written."""

    position: Position
    fresh: list[Fill] = field(default_factory=list)
    steps: list[PositionEvent] = field(default_factory=list)
    stop: Order | None = None
    has_closed: bool = False

    def note(self, code: str, at: datetime, **detail: object) -> None:
        """Add a step of the timeline."""
        self.steps.append(step(self.position, code, at, **detail))


class _Told:
    """What the rows say of positions that were there before: their earlier executions, stops and limits."""

    def __init__(self, moved: Sequence[_Moved]) -> None:
        there = [one.position.pk for one in moved if one.position.is_saved]
        self._fills: dict[int, list[Fill]] = defaultdict(list)
        self._stops: dict[int, list[Order]] = defaultdict(list)
        if there:
            for fill in Fill.objects.filter(position__in=there).select_related("order"):
                self._fills[fill.position_id or 0].append(fill)
            for stop in Order.objects.filter(position__in=there, purpose__in=STOPS):
                self._stops[stop.position_id or 0].append(stop)
        self._accounts = {one.position.account_id: one.position.account for one in moved}
        self._limits: dict[int, Limits] | None = None
        self.planner = plans.Planner()

    def fills_of(self, one: _Moved) -> list[Fill]:
        """All executions of a position, by the exchange's clock."""
        fills = [*self._fills[one.position.pk or 0], *one.fresh]
        return sorted(fills, key=lambda fill: fill.filled_at)

    def stops_of(self, position: Position) -> list[Order]:
        """Every stop it ever had."""
        return self._stops[position.pk or 0]

    def limits_of(self, position: Position) -> Limits:
        """The limits of its account; read once for all, and only when a plan is made."""
        if self._limits is None:
            self._limits = plans.limits_of_many(list(self._accounts.values()))
        return self._limits[position.account_id]


def _write(fresh: Sequence[Fill], adopted: Sequence[Fill], owners: Owners, moved: Sequence[_Moved]) -> None:
    for changed in owners.changed.values():  # a stranger's row ends before ours takes its place
        changed.save()
    _write_positions(moved)
    for one in moved:
        for fill in one.fresh:
            fill.position_id = one.position.pk
            if fill.order is not None:
                fill.order.position_id = one.position.pk
    carry_out(*_left_by(moved), *inserting(PositionEvent, owners.steps), *inserting(Fill, fresh))
    if adopted:
        Fill.objects.bulk_update(adopted, ["order", "client_order_id", "position"])


def _write_moved(moved: Sequence[_Moved]) -> None:
    _write_positions(moved)
    carry_out(*_left_by(moved))


def _write_positions(moved: Sequence[_Moved]) -> None:
    there = [one.position for one in moved if one.position.is_saved]
    opened = [one.position for one in moved if not one.position.is_saved]
    rows = [(position.pk, *(getattr(position, name) for name in FOLDED)) for position in there]
    changes = changing(Position, FOLDED, rows, same={"updated_at": timezone.now()})
    carry_out(*changes, *inserting(Position, opened, known_by="uuid"))


def _left_by(moved: Sequence[_Moved]) -> list[Statement]:
    """The timelines and stops of positions that are rows by now."""
    for one in moved:
        for event in one.steps:
            event.position_id = one.position.pk  # it has its id only now
        if one.stop is not None:
            one.stop.position_id = one.position.pk
    stops = [one.stop for one in moved if one.stop is not None]
    return [
        *inserting(PositionEvent, [event for one in moved for event in one.steps]),
        *inserting(Order, stops, known_by="client_order_id"),
    ]


def _stops(moved: Sequence[_Moved]) -> list[int]:
    return [one.stop.pk for one in moved if one.stop is not None]


# ── recomputing one position ─────────────────────────────────────────────────


def _refold(one: _Moved, told: _Told, now: datetime) -> None:
    position = one.position
    before = position.initial_quantity
    fills = told.fills_of(one)
    instrument = instrument_of(position)
    ledger = [_ledger_fill(fill, position, instrument) for fill in fills]
    _write_holding(position, fold_position(ledger, is_long=position.is_long))
    _settle_reduction(position, one.fresh)
    _tell_fills(one)
    position.check_at = now
    if position.quantity <= 0:
        _close(one, fills, now)
        return
    if position.status == PositionStatus.CLOSED:
        _reopen(one, now)
    if position.initial_quantity > before:
        _plan_and_stop(one, told, now)
    if not position.reduction and _is_unsellable(position):
        _close_dust(one, fills, now)


def _ledger_fill(fill: Fill, position: Position, instrument: Instrument | None) -> LedgerFill:
    """A fee in a third asset has no price here: it counts 0 and its own row keeps it."""
    is_base = fill.fee_asset == position.base
    is_quote = not is_base and (instrument is None or fill.fee_asset == instrument.quote)
    return LedgerFill(
        trade_id=fill.trade_id,
        is_buy=fill.side == OrderSide.BUY,
        quantity=fill.quantity,
        price=fill.price,
        filled_at=fill.filled_at,
        fee=fill.fee if is_quote else ZERO,
        base_fee=fill.fee if is_base and position.market == Market.SPOT else ZERO,
    )


def _write_holding(position: Position, holding: Holding) -> None:
    position.quantity = holding.quantity
    position.initial_quantity = holding.initial_quantity
    position.entry_price = holding.entry_price.quantize(PRICE_UNIT)
    position.exit_price = None if holding.exit_price is None else holding.exit_price.quantize(PRICE_UNIT)
    position.realized_profit = holding.realized_profit.quantize(MONEY_UNIT)
    position.fees = holding.fees.quantize(MONEY_UNIT)
    position.opened_at = holding.opened_at or position.opened_at


def _tell_fills(one: _Moved) -> None:
    for fill in one.fresh:
        is_entry = fill.side == _entry_side(one.position)
        code = "ENTERED" if is_entry else "REDUCED"
        reason = "" if is_entry else close_reason(fill)
        one.note(code, fill.filled_at, quantity=fill.quantity, price=fill.price, reason=reason)


def close_reason(fill: Fill) -> CloseReason:
    """Why an execution reduced a position: by its order, or by the client id the exchange gave it."""
    if fill.order is not None:
        return CloseReason(fill.order.reason or CloseReason.STOP_LOSS)
    for prefix, reason in TAKEN_BY_THE_EXCHANGE.items():
        if fill.client_order_id.startswith(prefix):
            return reason
    return CloseReason.FOREIGN


def _settle_reduction(position: Position, fresh: Sequence[Fill]) -> None:
    """Take what exits sold off the wanted reduction; at nothing left it is carried out."""
    if not position.reduction:
        return
    exits = [fill for fill in fresh if fill.order and fill.order.purpose == OrderPurpose.EXIT]
    left = Decimal(position.reduction["quantity"]) - sum((fill.quantity for fill in exits), ZERO)
    position.reduction = {**position.reduction, "quantity": str(left)} if left > 0 else {}


def _close(one: _Moved, fills: Sequence[Fill], now: datetime) -> None:
    """Close by the last execution that reduced it; an entry's that came late says nothing of why."""
    position, last = one.position, _last_exit(one.position, fills)
    closed_at = last.filled_at if last else now
    _end(position, _reason(position, last), closed_at)
    one.has_closed = True
    profit, fees = position.realized_profit, position.fees
    one.note("CLOSED", closed_at, reason=position.close_reason, realized_profit=profit, fees=fees)


def _end(position: Position, reason: str, closed_at: datetime) -> None:
    """Close the row in memory and stop its clock; its stops go once flat is proven."""
    position.status = PositionStatus.CLOSED
    position.closed_at = closed_at
    position.close_reason = reason
    position.quantity = ZERO
    position.reduction = {}
    stop_unprotected_clock(position, closed_at)


def _tell_closed(closed: Sequence[Position], now: datetime) -> None:
    if not closed:
        return
    clear_alerts([f"{cause}:{position.pk}" for position in closed for cause in CAUSES], now)
    for position in closed:
        name, reason = position.account.name, position.close_reason
        log.info("position_closed", account=name, symbol=position.symbol, reason=reason)


def _reopen(one: _Moved, now: datetime) -> None:
    """An execution of the entry came to light after the close: what is left of it needs a stop again."""
    position = one.position
    position.status = PositionStatus.OPEN
    position.closed_at = None
    position.close_reason = ""
    position.protection = Protection.UNPROTECTED
    position.unprotected_since = now
    one.note("REOPENED", now, quantity=position.quantity)


# ── spot remainders ──────────────────────────────────────────────────────────


def is_dust(quantity: Decimal, instrument: Instrument, price: Decimal) -> bool:
    """Whether a spot quantity is too small for the exchange to take an order for it."""
    sellable = floor_quantity(instrument, quantity)
    return sellable < instrument.min_quantity or sellable <= 0 or sellable * price < instrument.min_notional


def _is_unsellable(position: Position) -> bool:
    if position.market != Market.SPOT:
        return False
    instrument = instrument_of(position)
    return instrument is not None and is_dust(position.quantity, instrument, position.entry_price)


def close_dust(position: Position, now: datetime) -> Bells:
    """Close a spot position whose remainder cannot be sold; the event names what stays in the wallet."""
    one = _Moved(position)
    _close_dust(one, list(position.fills.select_related("order")), now)
    _write_moved([one])
    _tell_closed([position], now)
    return Bells(positions=[position.pk])


def _close_dust(one: _Moved, fills: Sequence[Fill], now: datetime) -> None:
    position, dust = one.position, one.position.quantity
    _end(position, position.close_reason or _reason(position, _last_exit(position, fills)), now)
    one.has_closed, one.stop = True, None
    one.note("CLOSED", now, reason=position.close_reason, dust=dust, asset=position.base)


def _reason(position: Position, last: Fill | None) -> str:
    return close_reason(last) if last else position.exit_reason or CloseReason.MANUAL


def _last_exit(position: Position, fills: Sequence[Fill]) -> Fill | None:
    """The last execution that reduced it, of `fills` by the exchange's clock."""
    entry_side = _entry_side(position)
    return next((fill for fill in reversed(fills) if fill.side != entry_side), None)


# ── plan and stop ────────────────────────────────────────────────────────────


def plan_and_stop(position: Position, now: datetime) -> Bells:
    """Make a locked position's plan, its hard stop's order, and want an excess reduced."""
    one = _Moved(position)
    _plan_and_stop(one, _Told([one]), now)
    _write_moved([one])
    return Bells(exits=_stops([one]))


def _plan_and_stop(one: _Moved, told: _Told, now: datetime) -> None:
    """Without the market's filters a position stays unplanned and unprotected, and is looked at again."""
    position = one.position
    instrument, limits = instrument_of(position), told.limits_of(position)
    if instrument is None:
        log.warning("position_unplanned", account=position.account.name, symbol=position.symbol)
        return
    plan = told.planner.keep_plan_for(position, instrument, limits)
    one.note("PLANNED", now, stop_price=plan.stop_price, unknown=", ".join(plan.unknown))
    excess = _excess(position, plan, instrument, limits)
    if excess > 0 and (wanted := want(position, CloseReason.EXCESS, now, quantity=excess)) is not None:
        one.steps.append(wanted)
    one.stop = new_hard_stop(position, plan, told.stops_of(position), limits, now)


def _excess(position: Position, plan: ExitPlan, instrument: Instrument, limits: Limits) -> Decimal:
    """What is open beyond the planned loss; 0 while an exit is wanted anyway."""
    if position.planned_risk is None or position.is_closing:
        return ZERO
    return excess_quantity(
        instrument=instrument,
        limits=limits,
        quantity=position.quantity,
        planned_loss_per_unit=loss_per_unit(
            is_long=position.is_long,
            entry_price=position.entry_price,
            stop_price=plan.stop_price,
            taker_fee=market.TAKER_FEES[Market(position.market)],
            slippage=limits.stop_slippage,
        ),
        risk_amount=position.planned_risk,
    )


def _entry_side(position: Position) -> OrderSide:
    return OrderSide.BUY if position.is_long else OrderSide.SELL
