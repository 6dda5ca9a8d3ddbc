"""How much to buy or sell: the entry cap, the model's quantity, every cap on it (domain rules, section 4).

Quantities are base units, notionals, margins and losses quote units, ratios fractions. Leverage bounds the
margin used and never multiplies the risk.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import TypeVar

from trading.domain.instrument import Instrument, floor_quantity, round_cap
from trading.domain.limits import Limits, SizingModel
from trading.domain.percent import ONE, ZERO, clamp, equity, sign
from trading.domain.states import DenyCode
from trading.domain.values import value

Key = TypeVar("Key")


class Cap(StrEnum):
    """What held the quantity below what the model wanted."""

    MARGIN = "MARGIN"
    BRACKET = "BRACKET"
    SYMBOL_NOTIONAL = "SYMBOL_NOTIONAL"
    ACCOUNT_NOTIONAL = "ACCOUNT_NOTIONAL"
    MAX_ORDER = "MAX_ORDER"
    DESK_NOTIONAL = "DESK_NOTIONAL"


DENIED_BY: Mapping[Cap, DenyCode] = {
    Cap.MARGIN: DenyCode.MARGIN,
    Cap.BRACKET: DenyCode.LEVERAGE_BRACKET,
    Cap.SYMBOL_NOTIONAL: DenyCode.RISK_BUDGET,
    Cap.ACCOUNT_NOTIONAL: DenyCode.RISK_BUDGET,
    Cap.MAX_ORDER: DenyCode.MAX_ORDER,
    Cap.DESK_NOTIONAL: DenyCode.MAX_ORDER,
}
"""The refusal when a cap leaves less than the exchange's minimum."""


@dataclass(frozen=True, slots=True)
class Kelly:
    """Closed decisions behind a Kelly fraction; `payoff` is average win / average loss."""

    closed: int
    win_rate: Decimal
    payoff: Decimal


@value
class SizingInput:
    """Everything one account's size depends on.

    `available` already lacks what orders in flight claim; `gross_notional` and `symbol_notional` hold open
    positions and orders in flight; `desk_notional` is this account's part of the desk's room, None before
    sharing; `stop_price` is the stop that the account's exit policy will place at `cap_price`.
    """

    instrument: Instrument
    limits: Limits
    is_long: bool
    mark_price: Decimal
    cap_price: Decimal
    stop_price: Decimal
    taker_fee: Decimal
    leverage: Decimal
    wallet: Decimal
    unrealized: Decimal
    available: Decimal
    gross_notional: Decimal = ZERO
    symbol_notional: Decimal = ZERO
    desk_notional: Decimal | None = None
    kelly: Kelly | None = None


@value
class Sizing:
    """A quantity, what bound it, and what it costs; `denied` is set when it is under a minimum."""

    quantity: Decimal
    wanted_quantity: Decimal
    bound_by: Cap | None
    notional: Decimal
    loss_at_stop: Decimal
    margin_required: Decimal
    denied: DenyCode | None


def entry_cap(
    *, mark_price: Decimal, stop_distance: Decimal, is_long: bool, tick: Decimal, limits: Limits
) -> Decimal:
    """Return the worst price any account pays, the same for the whole decision.

    `stop_distance` is a price-move fraction; the entry may cost at most a quarter of it.
    """
    slippage = min(limits.entry_slippage, limits.entry_stop_share * stop_distance)
    return round_cap(mark_price * (ONE + slippage * sign(is_long=is_long)), tick, is_long=is_long)


def loss_per_unit(
    *, is_long: bool, entry_price: Decimal, stop_price: Decimal, taker_fee: Decimal, slippage: Decimal
) -> Decimal:
    """Return the loss of one base unit stopped out: the move, both fees and the slippage of the stop.

    Negative once the stop lies far enough in profit.
    """
    move = (entry_price - stop_price) * sign(is_long=is_long)
    return move + taker_fee * (entry_price + stop_price) + slippage * stop_price


def loss_at_stop(
    quantity: Decimal,
    *,
    is_long: bool,
    entry_price: Decimal,
    stop_price: Decimal,
    taker_fee: Decimal,
    slippage: Decimal,
) -> Decimal:
    """Return the loss at the stop with costs, never below 0: a locked profit buys no other risk."""
    per_unit = loss_per_unit(
        is_long=is_long,
        entry_price=entry_price,
        stop_price=stop_price,
        taker_fee=taker_fee,
        slippage=slippage,
    )
    return max(ZERO, quantity * per_unit)


def margin_required(notional: Decimal, leverage: Decimal, limits: Limits) -> Decimal:
    """Return the margin a notional claims, with the buffer."""
    return notional / leverage * (ONE + limits.margin_buffer)


def margin_room(request: SizingInput) -> Decimal:
    """Return what is available beyond the reserve; never below 0."""
    reserve = request.limits.margin_reserve * equity(wallet=request.wallet, unrealized=request.unrealized)
    return max(ZERO, request.available - max(ZERO, reserve))


def size(request: SizingInput) -> Sizing:
    """Return the quantity of an entry, floored to the step and never above any cap."""
    per_unit = _loss_per_unit(request)
    wanted = max(ZERO, _wanted_quantity(request, per_unit))
    caps = cap_quantities(request)
    tightest = min(caps, key=caps.__getitem__)
    quantity = floor_quantity(request.instrument, min(wanted, caps[tightest]))
    notional = quantity * request.cap_price
    return Sizing(
        quantity=quantity,
        wanted_quantity=wanted,
        bound_by=tightest if caps[tightest] < wanted else None,
        notional=notional,
        loss_at_stop=quantity * per_unit,
        margin_required=margin_required(notional, request.leverage, request.limits),
        denied=_denied(request, quantity, tightest, caps[tightest]),
    )


def cap_quantities(request: SizingInput) -> dict[Cap, Decimal]:
    """Return the largest quantity each cap allows, in base units; a cap without a figure is left out."""
    worth = equity(wallet=request.wallet, unrealized=request.unrealized)
    limits, market, price = request.limits, request.instrument, request.cap_price
    notionals = (
        (Cap.MARGIN, margin_room(request) * request.leverage / (ONE + limits.margin_buffer)),
        (Cap.BRACKET, market.notional_limit(request.leverage)),
        (Cap.SYMBOL_NOTIONAL, limits.symbol_notional * worth - request.symbol_notional),
        (Cap.ACCOUNT_NOTIONAL, limits.gross_notional * worth - request.gross_notional),
        (Cap.DESK_NOTIONAL, request.desk_notional),
    )
    caps = {cap: room / price if room > 0 else ZERO for cap, room in notionals if room is not None}
    # The exit is one market order, so an entry above the market maximum could not be closed at once.
    caps[Cap.MAX_ORDER] = min(
        limits.max_order_notional / price, market.max_quantity, market.max_market_quantity
    )
    return caps


def too_small(instrument: Instrument, quantity: Decimal, price: Decimal, limits: Limits) -> DenyCode | None:
    """Return the minimum that `quantity` at `price` misses, notional first; None when it can be sent."""
    if quantity * price < instrument.min_notional * (ONE + limits.min_notional_buffer):
        return DenyCode.MIN_NOTIONAL
    if quantity < instrument.min_quantity or quantity <= 0:
        return DenyCode.MIN_QUANTITY
    return None


def _denied(request: SizingInput, quantity: Decimal, tightest: Cap, capped: Decimal) -> DenyCode | None:
    """Blame the cap when it alone leaves too little: five refusals for want of margin must say MARGIN."""
    price = min(request.cap_price, request.mark_price)
    refusal = too_small(request.instrument, quantity, price, request.limits)
    if refusal is None:
        return None
    cap_floored = floor_quantity(request.instrument, capped)
    is_by_cap = too_small(request.instrument, cap_floored, price, request.limits)
    return DENIED_BY[tightest] if is_by_cap else refusal


def _loss_per_unit(request: SizingInput) -> Decimal:
    return loss_per_unit(
        is_long=request.is_long,
        entry_price=request.cap_price,
        stop_price=request.stop_price,
        taker_fee=request.taker_fee,
        slippage=request.limits.stop_slippage,
    )


def _wanted_quantity(request: SizingInput, per_unit: Decimal) -> Decimal:
    limits = request.limits
    if limits.sizing_model is SizingModel.RISK:
        return _risk_quantity(request, limits.risk_per_trade, per_unit)
    if limits.sizing_model is SizingModel.CAPPED_KELLY:
        return _risk_quantity(request, kelly_risk(request.kelly, limits), per_unit)
    notionals = {
        SizingModel.FIXED_NOTIONAL: limits.fixed_notional,
        SizingModel.FIXED_MARGIN: limits.fixed_margin * request.available * request.leverage,
        SizingModel.EQUITY_SHARE: limits.equity_share * risk_equity(request.wallet, request.unrealized),
    }
    return notionals[limits.sizing_model] / request.cap_price


def risk_equity(wallet: Decimal, unrealized: Decimal) -> Decimal:
    """Return the equity that risk is measured on: an open profit does not enlarge the next bet."""
    return min(wallet, wallet + unrealized)


def _risk_quantity(request: SizingInput, risk: Decimal, per_unit: Decimal) -> Decimal:
    """Return the quantity that loses `risk` of the equity at the stop; 0 for a stop on the wrong side."""
    return risk_equity(request.wallet, request.unrealized) * risk / per_unit if per_unit > 0 else ZERO


def kelly_risk(kelly: Kelly | None, limits: Limits) -> Decimal:
    """Return the risk of capped Kelly, `kelly_share` x (p - (1 - p) / b), never above risk_per_trade.

    With fewer than `kelly_min_decisions` closed decisions it is risk_per_trade: too few to know p and b.
    """
    if kelly is None or kelly.closed < limits.kelly_min_decisions or kelly.payoff <= 0:
        return limits.risk_per_trade
    edge = kelly.win_rate - (ONE - kelly.win_rate) / kelly.payoff
    return clamp(limits.kelly_share * edge, ZERO, limits.risk_per_trade)


def desk_ceiling(
    limits: Limits, *, quote_volume_24h: Decimal | None, depth_notional: Decimal | None
) -> Decimal:
    """Return the desk's largest notional in one symbol: the setting, a share of the volume and of the depth.

    `depth_notional` is the book's notional within 0.5 % on the side to be taken. A figure that could not be
    read leaves no room: unknown is not deep.
    """
    if quote_volume_24h is None or depth_notional is None:
        return ZERO
    return min(
        limits.desk_symbol_notional,
        limits.desk_volume_share * quote_volume_24h,
        limits.desk_depth_share * depth_notional,
    )


def share_pro_rata(wanted: Mapping[Key, Decimal], room: Decimal) -> dict[Key, Decimal]:
    """Share the desk's room by what each account wants, before anything is sent; never above it."""
    total = sum(wanted.values(), ZERO)
    if total <= room:
        return dict(wanted)
    return {key: max(ZERO, room) * part / total for key, part in wanted.items()}


def excess_quantity(
    *,
    instrument: Instrument,
    limits: Limits,
    quantity: Decimal,
    planned_loss_per_unit: Decimal,
    risk_amount: Decimal,
) -> Decimal:
    """Return what to close at once because the real average made the planned loss too large; 0 mostly.

    `planned_loss_per_unit` is `loss_per_unit` at the average fill, `risk_amount` the budget in quote units.
    Ceils to the step: what stays must be inside the budget again.
    """
    if planned_loss_per_unit <= 0 or quantity * planned_loss_per_unit <= limits.excess_loss * risk_amount:
        return ZERO
    return quantity - floor_quantity(instrument, risk_amount / planned_loss_per_unit)
