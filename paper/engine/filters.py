"""Filters of the contract, section 4.4: each refusal has its own code."""

import re
from decimal import Decimal

from paper.engine.orders import BUY, MARKET, NewOrder
from paper.engine.refusals import Refusal, refuse
from paper.symbols import Instrument

CLIENT_ID = re.compile(r"[\.A-Z\:/a-z0-9_-]{1,36}")


def check_client_id(client_id: str) -> None:
    """-4015 unless it fits the exchange's pattern; empty means one is made."""
    if client_id and not CLIENT_ID.fullmatch(client_id):
        raise refuse(-4015)


def _decimals(value: Decimal) -> int:
    exponent = value.normalize().as_tuple().exponent
    return -exponent if isinstance(exponent, int) and exponent < 0 else 0


def check_price(instrument: Instrument, price: Decimal) -> None:
    """PRICE_FILTER and precision."""
    if not price.is_finite() or price <= 0:
        raise refuse(-4013)
    if _decimals(price) > max(instrument.price_precision, _decimals(instrument.tick)):
        raise refuse(-1111)
    if price < instrument.tick:
        raise refuse(-4013)
    if price > instrument.reference_price * 1000:
        raise refuse(-4002)
    if price % instrument.tick:
        raise refuse(-4014)


def check_quantity(instrument: Instrument, quantity: Decimal, order_type: str) -> None:
    """LOT_SIZE, or MARKET_LOT_SIZE for market orders, and precision."""
    if not quantity.is_finite() or quantity <= 0:
        raise refuse(-4003)
    if _decimals(quantity) > instrument.quantity_precision:
        raise refuse(-1111)
    if quantity < instrument.min_quantity:
        raise refuse(-4004)
    if quantity > (instrument.market_max_quantity if order_type == MARKET else instrument.max_quantity):
        raise refuse(-4005)
    if quantity % instrument.step:
        raise refuse(-4023)


def check_notional(instrument: Instrument, price: Decimal, quantity: Decimal) -> None:
    """MIN_NOTIONAL; the caller spares orders that only reduce."""
    if price * quantity < instrument.min_notional:
        least = f"{instrument.min_notional.normalize():f}"
        raise Refusal(
            -4164, f"Order's notional must be no smaller than {least} (unless you choose reduce only)."
        )


def check_percent_price(instrument: Instrument, side: str, price: Decimal, mark: Decimal) -> None:
    """A buy not far above, a sell not far below the mark; the passive side is free."""
    highest = mark * instrument.multiplier_up
    lowest = mark * instrument.multiplier_down
    if side == BUY and price > highest:
        raise Refusal(-4016, f"Limit price can't be higher than {instrument.price(highest)}.")
    if side != BUY and price < lowest:
        raise Refusal(-4024, f"Limit price can't be lower than {instrument.price(lowest)}.")


def check_order(instrument: Instrument, order: NewOrder, mark: Decimal, *, reduces: bool) -> None:
    """Every filter an ordinary order meets, in the exchange's order."""
    check_quantity(instrument, order.quantity, order.type)
    if order.price is not None:
        check_price(instrument, order.price)
        check_percent_price(instrument, order.side, order.price, mark)
    if not reduces:
        check_notional(instrument, mark if order.price is None else order.price, order.quantity)


def generated_client_id(number: int) -> str:
    """A client id of our own when none was sent."""
    return f"web_{number:018d}"
