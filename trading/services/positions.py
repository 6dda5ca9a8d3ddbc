"""Positions from fills: opened, reduced and closed by executions alone, never by a wish or an answer.

Everything here is rows; nothing touches the network. `fold` runs inside the transaction that inserted the
fills, under the account's lock, so a fill is never a row without its position having moved, and the first
fill leaves the plan and the hard stop's order behind it in the same commit.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

import structlog

from alerts.services import clear_alert
from exchange.errors import ReadFailed
from exchange.port import Market, OrderSide
from trading.domain.exit_plan import ExitPlan
from trading.domain.instrument import Instrument, floor_quantity
from trading.domain.ledger import Holding, LedgerFill, fold_position
from trading.domain.sizing import excess_quantity, loss_per_unit
from trading.domain.states import CloseReason, OrderPurpose, PositionStatus, Protection
from trading.models import Fill, Order, Position
from trading.services import market, plans
from trading.services.bells import Bells
from trading.services.intents import want_closed
from trading.services.plans import instrument_of
from trading.services.position_rows import lock, note, stop_unprotected_clock
from trading.services.stops import order_hard_stop

ZERO = Decimal(0)
TAKEN_BY_THE_EXCHANGE = {
    "autoclose-": CloseReason.LIQUIDATED,
    "adl_autoclose": CloseReason.ADL,
    "settlement_autoclose-": CloseReason.SETTLED,
}
"""Client ids the exchange gives to executions it ordered itself."""

CAUSES = ("unprotected", "stop-unseen", "stop-crossed", "exit-failing", "flat-unexplained", "stop-wrong")
"""Alerts that end with their position."""

PRICE_UNIT = Decimal("1e-12")
MONEY_UNIT = Decimal("1e-8")

log = structlog.get_logger(__name__)


# ── fills become positions ───────────────────────────────────────────────────


def fold(fills: Sequence[Fill], now: datetime) -> Bells:
    """Give new fills to their positions and recompute those from all their fills.

    Call inside the transaction that inserted `fills`, with the account locked.
    """
    touched: set[int] = set()
    for fill in sorted(fills, key=lambda fill: (fill.filled_at, fill.pk)):
        position = _position_of(fill)
        if position is None:
            continue
        touched.add(position.pk)
        fill.position = position
        fill.save(update_fields=["position"])
    bells = Bells()
    for position_id in sorted(touched):
        bells.add(_refold(position_id, [fill for fill in fills if fill.position_id == position_id], now))
    return bells


def _position_of(fill: Fill) -> Position | None:
    order = fill.order
    if order is None:
        return _position_hit_by_stranger(fill)
    if order.position_id is None:
        order.position = _open_position(fill) or _new_position(fill, order)
        order.save(update_fields=["position"])
    return order.position


def _open_position(fill: Fill, *, opposite: bool = False) -> Position | None:
    is_long = (fill.side == OrderSide.BUY) != opposite
    return Position.objects.filter(
        account_id=fill.account_id,
        market=fill.market,
        symbol=fill.symbol,
        is_long=is_long,
        is_foreign=False,
        status=PositionStatus.OPEN,
    ).first()


def _new_position(fill: Fill, order: Order) -> Position:
    allocation = order.allocation
    is_long = fill.side == OrderSide.BUY
    return Position.objects.create(
        account_id=fill.account_id,
        allocation=allocation,
        market=fill.market,
        symbol=fill.symbol,
        base=order.base,
        is_long=is_long,
        foreign_quantity=_take_over_foreign(fill, is_long=is_long),
        leverage=plans.read_back_leverage(fill.account, fill.symbol, Market(fill.market)),
        quantity=ZERO,
        initial_quantity=ZERO,
        entry_price=fill.price,
        planned_risk=allocation.planned_risk if allocation else None,
        opened_at=fill.filled_at,
        unprotected_since=fill.filled_at,
        trace_id=order.trace_id,
    )


def _take_over_foreign(fill: Fill, *, is_long: bool) -> Decimal:
    """The stranger's share on the symbol: its own row ends, ours keeps the figure."""
    foreign = Position.objects.filter(
        account_id=fill.account_id,
        market=fill.market,
        symbol=fill.symbol,
        is_long=is_long,
        is_foreign=True,
        status=PositionStatus.OPEN,
    ).first()
    if foreign is None:
        return ZERO
    foreign.status, foreign.closed_at = PositionStatus.CLOSED, fill.filled_at
    foreign.close_reason = CloseReason.FOREIGN
    foreign.save()
    return foreign.quantity


def _position_hit_by_stranger(fill: Fill) -> Position | None:
    """Our position, where an execution that is not ours reduced it; what is not ours is only counted.

    A stranger's share is taken to be reduced first. On spot a stranger's coins are another holding.
    """
    if fill.market == Market.SPOT:
        return None
    if (same_side := _open_position(fill)) is not None:
        _change_foreign(same_side, fill.quantity, fill.filled_at)
        return None
    ours = _open_position(fill, opposite=True)
    if ours is not None and ours.foreign_quantity >= fill.quantity:
        _change_foreign(ours, -fill.quantity, fill.filled_at)
        return None
    return ours


def _change_foreign(position: Position, change: Decimal, at: datetime) -> None:
    position.foreign_quantity += change
    position.save(update_fields=["foreign_quantity"])
    note(position, "FOREIGN_SHARE", at, quantity=position.foreign_quantity)


# ── recomputing one position ─────────────────────────────────────────────────


def _refold(position_id: int, fresh: Sequence[Fill], now: datetime) -> Bells:
    position = lock(position_id)
    before = position.initial_quantity
    _write_holding(position, fold_position(_ledger_fills(position), is_long=position.is_long))
    _settle_reduction(position, fresh)
    _tell_fills(position, fresh)
    bells = Bells(positions=[position.pk])
    position.check_at = now
    if position.quantity <= 0:
        _close(position, now)
        return bells
    if position.status == PositionStatus.CLOSED:
        _reopen(position)
    position.save()
    if position.initial_quantity > before:
        bells.add(plan_and_stop(position, now))
    return bells if position.reduction or not _is_unsellable(position) else close_dust(position, now)


def _ledger_fills(position: Position) -> list[LedgerFill]:
    instrument = instrument_of(position)
    return [_ledger_fill(fill, position, instrument) for fill in position.fills.all()]


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


def _tell_fills(position: Position, fresh: Sequence[Fill]) -> None:
    for fill in fresh:
        is_entry = (fill.side == OrderSide.BUY) == position.is_long
        code = "ENTERED" if is_entry else "REDUCED"
        reason = "" if is_entry else close_reason(fill)
        note(position, code, fill.filled_at, quantity=fill.quantity, price=fill.price, reason=reason)


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


def _close(position: Position, now: datetime) -> None:
    """Close by the last execution that reduced it; an entry's that came late says nothing of why."""
    last = _last_exit(position)
    position.status = PositionStatus.CLOSED
    position.closed_at = last.filled_at if last else now
    position.close_reason = _last_reason(position)
    _finish(position, now)
    note(
        position,
        "CLOSED",
        position.closed_at,
        reason=position.close_reason,
        realized_profit=position.realized_profit,
        fees=position.fees,
    )


def _finish(position: Position, now: datetime) -> None:
    """Stop every clock and alert of a position that is closed; its stops go once flat is proven."""
    position.quantity = ZERO
    position.reduction = {}
    stop_unprotected_clock(position, position.closed_at or now)
    position.save()
    for cause in CAUSES:
        clear_alert(f"{cause}:{position.pk}", now)
    log.info(
        "position_closed", account=position.account.name, symbol=position.symbol, reason=position.close_reason
    )


def _reopen(position: Position) -> None:
    """An execution of the entry came to light after the close: what is left of it needs a stop again."""
    position.status = PositionStatus.OPEN
    position.closed_at = None
    position.close_reason = ""
    position.protection = Protection.UNPROTECTED
    position.unprotected_since = position.check_at
    note(position, "REOPENED", position.unprotected_since or position.opened_at, quantity=position.quantity)


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
    dust = position.quantity
    position.status = PositionStatus.CLOSED
    position.closed_at = now
    position.close_reason = position.close_reason or _last_reason(position)
    _finish(position, now)
    note(position, "CLOSED", now, reason=position.close_reason, dust=dust, asset=position.base)
    return Bells(positions=[position.pk])


def _last_reason(position: Position) -> str:
    last = _last_exit(position)
    return close_reason(last) if last else position.exit_reason or CloseReason.MANUAL


def _last_exit(position: Position) -> Fill | None:
    exits = position.fills.exclude(side=_entry_side(position)).select_related("order")
    return exits.order_by("filled_at", "pk").last()


# ── plan and stop ────────────────────────────────────────────────────────────


def plan_and_stop(position: Position, now: datetime) -> Bells:
    """Make the plan of the fills so far, the hard stop's order when none is alive, and reduce an excess.

    Without a market table the position stays unplanned and unprotected, and asks to be looked at again.
    """
    try:
        plan = plans.plan_for(position)
        instrument = market.instruments(Market(position.market))[position.symbol]
    except ReadFailed:
        log.warning("position_unplanned", account=position.account.name, symbol=position.symbol)
        return Bells(positions=[position.pk])
    plans.keep_plan(position, plan)
    note(position, "PLANNED", now, stop_price=plan.stop_price, unknown=", ".join(plan.unknown))
    _want_excess_reduced(position, plan, instrument, now)
    position.save()
    return Bells(exits=[order.pk for order in [order_hard_stop(position, now)] if order])


def _want_excess_reduced(position: Position, plan: ExitPlan, instrument: Instrument, now: datetime) -> None:
    if position.planned_risk is None or position.is_closing:
        return
    limits = plans.limits_of(position.account)
    excess = excess_quantity(
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
    if excess > 0:
        want_closed(position, CloseReason.EXCESS, now, quantity=excess)


def _entry_side(position: Position) -> OrderSide:
    return OrderSide.BUY if position.is_long else OrderSide.SELL
