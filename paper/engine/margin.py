"""Margin, single-asset mode: the formulas of the contract, section 4.5."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal

from paper.engine.orders import BUY, ZERO, Order, Position
from paper.engine.venue import Portfolio, Venue
from paper.symbols import Instrument


@dataclass(slots=True)
class Exposure:
    """One position with the open orders beside it, at one mark."""

    position: Position
    instrument: Instrument
    mark: Decimal
    leverage: int
    isolated: bool
    notional: Decimal
    unrealized: Decimal
    maintenance: Decimal
    initial: Decimal
    bid_notional: Decimal
    ask_notional: Decimal
    order_initial: Decimal


@dataclass(slots=True)
class Summary:
    """The account's totals in USDT."""

    wallet: Decimal
    unrealized: Decimal
    cross_wallet: Decimal
    cross_unrealized: Decimal
    position_initial: Decimal
    order_initial: Decimal
    maintenance: Decimal
    cross_maintenance: Decimal
    available: Decimal
    max_withdraw: Decimal
    exposures: list[Exposure]

    @property
    def margin_balance(self) -> Decimal:
        """Wallet and unrealised profit."""
        return self.wallet + self.unrealized


def order_margin(notional: Decimal, bid: Decimal, ask: Decimal, leverage: int) -> Decimal:
    """What resting orders claim beyond the position: the worse of all buys or all sells filled."""
    worst = max(abs(notional + bid), abs(notional - ask)) - abs(notional)
    return max(ZERO, worst) / leverage


def maintenance_margin(instrument: Instrument, notional: Decimal) -> Decimal:
    """|notional| x mmr - cum of the bracket it falls in."""
    held = abs(notional)
    bracket = instrument.bracket(held)
    return held * bracket.maintenance - bracket.cum


def resting_notional(orders: Iterable[Order], symbol: str, position_side: str) -> tuple[Decimal, Decimal]:
    """Value of the open buys and sells there that could open something."""
    bid = ask = ZERO
    for order in orders:
        if order.symbol != symbol or order.position_side != position_side or order.reduce_only:
            continue
        if order.side == BUY:
            bid += order.remaining * order.price
        else:
            ask += order.remaining * order.price
    return bid, ask


def exposure(venue: Venue, portfolio: Portfolio, position: Position) -> Exposure:
    """The position at the current mark, with its margin."""
    symbol, account = position.symbol, portfolio.account
    instrument, mark = venue.markets.futures[symbol], venue.quotes[symbol].mark
    leverage = account.leverage(symbol)
    notional = position.quantity * mark
    bid, ask = ZERO, ZERO
    if portfolio.open_orders:
        bid, ask = resting_notional(portfolio.open_orders.values(), symbol, position.position_side)
    return Exposure(
        position=position,
        instrument=instrument,
        mark=mark,
        leverage=leverage,
        isolated=account.is_isolated(symbol),
        notional=notional,
        unrealized=notional - position.cost,
        maintenance=maintenance_margin(instrument, notional),
        initial=abs(notional) / leverage,
        bid_notional=bid,
        ask_notional=ask,
        order_initial=order_margin(notional, bid, ask, leverage) if bid or ask else ZERO,
    )


def exposures(venue: Venue, portfolio: Portfolio) -> Iterator[Exposure]:
    """Every symbol and side with a position or an open order."""
    for order in portfolio.open_orders.values():
        portfolio.position(order.symbol, order.position_side)
    ordered = {(order.symbol, order.position_side) for order in portfolio.open_orders.values()}
    for place, position in portfolio.positions.items():
        if position.quantity or place in ordered:
            yield exposure(venue, portfolio, position)


def summary(venue: Venue, portfolio: Portfolio) -> Summary:
    """The totals every balance endpoint shows."""
    lines = list(exposures(venue, portfolio))
    wallet = portfolio.account.wallet
    cross = [line for line in lines if not line.isolated]
    cross_wallet = wallet - sum((line.position.isolated_wallet for line in lines), ZERO)
    cross_unrealized = sum((line.unrealized for line in cross), ZERO)
    order_initial = sum((line.order_initial for line in lines), ZERO)
    claimed = sum((line.initial for line in cross), ZERO) + order_initial
    return Summary(
        wallet=wallet,
        unrealized=sum((line.unrealized for line in lines), ZERO),
        cross_wallet=cross_wallet,
        cross_unrealized=cross_unrealized,
        position_initial=sum((line.initial for line in lines), ZERO),
        order_initial=order_initial,
        maintenance=sum((line.maintenance for line in lines), ZERO),
        cross_maintenance=sum((line.maintenance for line in cross), ZERO),
        available=max(ZERO, cross_wallet + cross_unrealized - claimed),
        max_withdraw=max(ZERO, cross_wallet + min(ZERO, cross_unrealized) - claimed),
        exposures=lines,
    )


def liquidation_price(line: Exposure, totals: Summary) -> Decimal:
    """LP = (WB - TMM_other + UPNL_other + cum - quantity x entry) / (|quantity| x mmr - quantity).

    Quantity is signed. The bracket depends on the price, so the formula is applied until it settles.
    Zero when the position cannot be liquidated at a positive price.
    """
    position = line.position
    quantity, held = position.quantity, abs(position.quantity)
    if not quantity:
        return ZERO
    cushion = position.isolated_wallet
    if not line.isolated:
        others_maintenance = totals.cross_maintenance - line.maintenance
        others_unrealized = totals.cross_unrealized - line.unrealized
        cushion = totals.cross_wallet - others_maintenance + others_unrealized
    price = line.mark
    for _ in range(3):
        bracket = line.instrument.bracket(held * price)
        below = held * bracket.maintenance - quantity
        price = max(ZERO, (cushion + bracket.cum - position.cost) / below)
    return price
