"""Builders of order rows: the identity is derived, so the same intent asked twice is one row.

Nothing here saves or sends. The caller commits the row, then rings the bell.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from django.conf import settings

from exchange.port import Market, OrderSide, OrderType
from trading.domain.client_ids import client_order_id
from trading.domain.states import OrderPurpose
from trading.models import Allocation, Order, Position
from trading.services.many_rows import new_row


def new_entry(
    allocation: Allocation,
    *,
    market: Market,
    executor: str,
    symbol: str,
    base: str,
    side: OrderSide,
    quantity: Decimal,
    price: Decimal,
    attempt: int,
    deadline_at: datetime,
    reserved_margin: Decimal,
    reserved_risk: Decimal,
    reserved_notional: Decimal,
    is_hedge_mode: bool,
    trace_id: str,
    now: datetime,
) -> Order:
    """Build one attempt to enter, for a saved share: a limit order at the cap, immediate or cancel."""
    return new_row(
        Order,
        client_order_id=client_order_id(
            settings.DESK_ID_PREFIX, allocation.uuid, OrderPurpose.ENTRY, 0, attempt
        ),
        account_id=allocation.account_id,
        allocation_id=allocation.pk,
        purpose=OrderPurpose.ENTRY,
        executor=executor,
        market=market,
        symbol=symbol,
        base=base,
        side=side,
        type=OrderType.LIMIT_IOC,
        quantity=quantity,
        price=price,
        attempt=attempt,
        position_side=_position_side(is_hedge_mode, market, is_long=side == OrderSide.BUY),
        deadline_at=deadline_at,
        reserved_margin=reserved_margin,
        reserved_risk=reserved_risk,
        reserved_notional=reserved_notional,
        created_at=now,
        trace_id=trace_id,
    )


def new_exit(
    position: Position,
    *,
    quantity: Decimal | None,
    reason: str,
    legs: Sequence[int] = (),
    close_position: bool = False,
    attempt: int | None = None,
    now: datetime,
) -> Order:
    """Build the next attempt to reduce or close at market. Never enlarges: reduce-only or one-sided.

    `attempt` counts the position's exits from 1; it is counted when not told.
    """
    order = _closing_order(position, OrderPurpose.EXIT, now, attempt)
    order.type = OrderType.MARKET
    order.reason = reason
    order.legs = list(legs)
    order.quantity = quantity
    order.close_position = close_position
    return order


def new_stop(
    position: Position,
    *,
    purpose: OrderPurpose,
    trigger_price: Decimal,
    quantity: Decimal | None,
    close_position: bool,
    price: Decimal | None = None,
    attempt: int | None = None,
    now: datetime,
) -> Order:
    """Build a resting stop: stop-market on futures, stop-loss limit on spot (which has no stop-market).

    `attempt` counts the position's orders of this purpose from 1; it is counted when not told.
    """
    order = _closing_order(position, purpose, now, attempt)
    order.type = OrderType.STOP_LIMIT if position.market == Market.SPOT else OrderType.STOP_MARKET
    order.trigger_price = trigger_price
    order.quantity = quantity
    order.price = price
    order.close_position = close_position
    # The exchange refuses reduce-only beside close-position: the latter already implies it.
    order.reduce_only = order.reduce_only and not close_position
    return order


def _closing_order(
    position: Position, purpose: OrderPurpose, now: datetime, attempt: int | None = None
) -> Order:
    attempt = attempt or Order.objects.filter(position=position, purpose=purpose).count() + 1
    position_side = _position_side(
        position.account.is_hedge_mode, Market(position.market), is_long=position.is_long
    )
    order = new_row(
        Order,
        client_order_id=client_order_id(settings.DESK_ID_PREFIX, position.uuid, purpose, 0, attempt),
        account_id=position.account_id,
        purpose=purpose,
        market=position.market,
        symbol=position.symbol,
        base=position.base,
        side=OrderSide.SELL if position.is_long else OrderSide.BUY,
        attempt=attempt,
        position_side=position_side,
        # In hedge mode the position side does the same, and the exchange refuses both together (-1106).
        reduce_only=position.market == Market.FUTURES and not position_side,
        created_at=now,
        trace_id=position.trace_id,
    )
    order.relate(position=position)
    return order


def _position_side(is_hedge_mode: bool, market: Market, *, is_long: bool) -> str:
    if not is_hedge_mode or market == Market.SPOT:
        return ""
    return "LONG" if is_long else "SHORT"
