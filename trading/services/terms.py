"""The terms of an exit plan from rows and market figures: what gate, quality and position plan by."""

from decimal import Decimal

from django.conf import settings

from exchange.port import Market
from trading.domain.exit_plan import ExitPolicy, PlanTerms
from trading.domain.limits import Limits
from trading.models import Signal
from trading.services.market import TAKER_FEES, MarketFigures

SPOT_LEVERAGE = Decimal(1)


def plan_terms(
    *,
    market: Market,
    is_long: bool,
    leverage: Decimal,
    limits: Limits,
    figures: MarketFigures,
    signal: Signal | None,
    policy: str = "",
) -> PlanTerms:
    """The terms an account's plan is made of; `policy` is the desk's when none is given.

    `leverage` is the read-back leverage of the symbol and counts as 1 on spot, which knows no funding either.
    What the market figures lack stays None, and the plan names it.
    """
    is_spot = market == Market.SPOT
    return PlanTerms(
        policy=ExitPolicy(policy or settings.EXIT_POLICY),
        is_long=is_long,
        leverage=SPOT_LEVERAGE if is_spot else leverage,
        taker_fee=TAKER_FEES[market],
        limits=limits,
        funding_rate=None if is_spot else figures.funding_rate,
        atr=figures.atr14 / figures.close if figures.atr14 and figures.close else None,
        signal_stop_price=signal.stop_price if signal else None,
        signal_take_profit_price=signal.take_profit_price if signal else None,
    )
