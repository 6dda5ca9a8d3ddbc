"""What one execution does to position, wallet and ledger."""

from decimal import Decimal

from paper import ledger
from paper.engine.events import OrderChanged
from paper.engine.orders import BUY, FILLED, PARTIALLY_FILLED, ZERO, Order, Position
from paper.engine.rows import of_order
from paper.engine.venue import Portfolio, Venue, money
from paper.ledger import Row


def apply_to_position(position: Position, signed: Decimal, price: Decimal) -> tuple[Decimal, Decimal]:
    """Move the position by a signed quantity; the realised profit and the quantity newly opened.

    A reduction takes its share of the cost basis, rounded once, so the last unit closes what is left of it.
    """
    held = position.quantity
    if not held or (held > 0) == (signed > 0):
        position.quantity += signed
        position.cost += signed * price
        return ZERO, abs(signed)
    closed = min(abs(signed), abs(held))
    share = position.cost if closed == abs(held) else money(position.cost * closed / abs(held))
    proceeds = closed * price if held > 0 else -closed * price
    realized = money(proceeds - share)
    position.quantity += closed if held < 0 else -closed
    position.cost -= share
    opened = abs(signed) - closed
    if opened:
        excess = opened if signed > 0 else -opened
        position.quantity += excess
        position.cost += excess * price
    return realized, opened


def _move_isolated(position: Position, held: Decimal, opened: Decimal, price: Decimal, leverage: int) -> None:
    """Isolated margin follows the position: released in proportion, added at the fill price."""
    left = abs(position.quantity) - opened
    if not left:
        position.isolated_wallet = ZERO
    elif left < abs(held):
        position.isolated_wallet = money(position.isolated_wallet * left / abs(held))
    if opened:
        position.isolated_wallet += money(opened * price / leverage)


def _remember(
    position: Position, held: Decimal, opening_fee: Decimal, realized: Decimal, fee: Decimal
) -> None:
    """Fees and profit of what is open now; a position that was turned around begins anew."""
    position.accumulated += realized
    if not position.quantity:
        position.fees = position.realized = ZERO
    elif held and (held > 0) != (position.quantity > 0):
        position.fees, position.realized = money(opening_fee), ZERO
    else:
        position.fees += fee
        position.realized += realized


def fill(
    venue: Venue,
    portfolio: Portfolio,
    order: Order,
    price: Decimal,
    quantity: Decimal,
    *,
    maker: bool,
    fee: Decimal | None = None,
    execution: str = "TRADE",
) -> Row:
    """Execute `quantity` of the order at `price`: position, wallet, ledger row and the account's event."""
    account = portfolio.account
    position = portfolio.position(order.symbol, order.position_side)
    held = position.quantity
    signed = quantity if order.side == BUY else -quantity
    realized, opened = apply_to_position(position, signed, price)
    if account.is_isolated(order.symbol):
        _move_isolated(position, held, opened, price, account.leverage(order.symbol))
    if fee is None:
        settings = venue.settings
        fee = money(quantity * price * (settings.maker_fee if maker else settings.taker_fee))
    account.wallet += realized - fee
    _remember(position, held, opened / quantity * fee, realized, fee)
    position.update_ms = account.update_ms = order.update_ms = venue.now_ms
    order.executed += quantity
    order.cost += quantity * price
    order.status = PARTIALLY_FILLED if order.remaining > 0 else FILLED
    venue.hold(position)
    for entity in (account, position, order):
        venue.touch(entity)
    executed = {
        "quantity": quantity,
        "price": price,
        "fill_id": venue.next_id(),
        "maker": maker,
        "fee": fee,
        "fee_asset": "USDT",
        "realized": realized,
        "asset": "USDT",
        "money": realized - fee,
        "reason": "" if execution == "TRADE" else execution,
    }
    row = venue.record(ledger.FILL, account.key, **(of_order(order) | executed))
    venue.publish(portfolio, OrderChanged(order, execution, row))
    return row
