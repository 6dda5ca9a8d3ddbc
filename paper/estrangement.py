"""An account that is not as its owner left it: modes, leverage, positions and orders of somebody else."""

from decimal import ROUND_FLOOR, Decimal

from paper.engine.book import rounded
from paper.engine.exchange import Exchange
from paper.engine.orders import BOTH, BUY, LIMIT, LONG, MARKET, SELL, SHORT, NewOrder
from paper.engine.venue import Portfolio
from paper.fault_rules import Rule

FAR_BELOW = Decimal("0.8")


def estrange(exchange: Exchange, portfolio: Portfolio, rule: Rule) -> None:
    """Change what the rule names. Raises Refusal where the exchange would refuse it to the owner too."""
    futures, account = exchange.futures, portfolio.account
    if rule.margin_type and account.is_isolated(rule.symbol) != (rule.margin_type == "ISOLATED"):
        futures.set_margin_type(portfolio, rule.symbol, rule.margin_type)
    if rule.leverage:
        futures.set_leverage(portfolio, rule.symbol, rule.leverage)
    if rule.dual is not None and rule.dual != account.dual:
        futures.set_dual(portfolio, rule.dual)
    held, wanted = Decimal(rule.foreign_position), Decimal(rule.foreign_order)
    if held:
        side = BUY if held > 0 else SELL
        where = _position_side(portfolio, is_long=held > 0)
        order = NewOrder(rule.symbol, side, MARKET, abs(held), client_order_id="foreign-position")
        order.position_side = where
        futures.place(portfolio, order)
    if wanted:
        instrument = exchange.venue.instrument(rule.symbol)
        price = rounded(exchange.venue.quotes[rule.symbol].mark * FAR_BELOW, instrument.tick, ROUND_FLOOR)
        order = NewOrder(rule.symbol, BUY, LIMIT, wanted, price, client_order_id="foreign-order")
        order.position_side = _position_side(portfolio, is_long=True)
        futures.place(portfolio, order)


def _position_side(portfolio: Portfolio, *, is_long: bool) -> str:
    if not portfolio.account.dual:
        return BOTH
    return LONG if is_long else SHORT
