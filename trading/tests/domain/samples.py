"""The market, the times and the ways to build inputs that the domain tests share."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from trading.domain.exit_plan import ExitPlan, ExitPolicy, PlanTerms, build_plan
from trading.domain.instrument import Bracket, Instrument, Market
from trading.domain.limits import Limits

D = Decimal

NOW = datetime(2025, 6, 2, 12, 0, tzinfo=UTC)

BRACKETS = (
    Bracket(D(0), D(50_000), D("0.005"), D(50)),
    Bracket(D(50_000), D(500_000), D("0.010"), D(20)),
    Bracket(D(500_000), D(5_000_000), D("0.025"), D(10)),
)

SOL = Instrument(
    symbol="SOL/USDT:USDT",
    base="SOL",
    quote="USDT",
    market=Market.FUTURES,
    tick=D("0.01"),
    step=D("0.001"),
    min_quantity=D("0.001"),
    max_quantity=D(100_000),
    max_market_quantity=D(10_000),
    min_notional=D(5),
    brackets=BRACKETS,
)

TERMS = PlanTerms(
    policy=ExitPolicy.ADAPTIVE,
    is_long=True,
    leverage=D(2),
    taker_fee=D("0.0005"),
    limits=Limits(min_stop=False),
    funding_rate=D(0),
    divergence=D(0),
    volatility=D(0),
    atr=D(0),
)


def instrument(**changes: Any) -> Instrument:  # a test names any field it changes
    """Return the sample market with some fields changed."""
    return replace(SOL, **changes)


def terms(**changes: Any) -> PlanTerms:
    """Return the terms of an adaptive long at 2x without a minimum stop, with some fields changed."""
    return replace(TERMS, **changes)


def plan(plan_terms: PlanTerms | None = None, **changes: Any) -> ExitPlan:
    """Return the plan of ten units at 100 for the sample terms, with some arguments changed."""
    arguments: dict[str, Any] = {
        "instrument": SOL,
        "entry_price": D(100),
        "quantity": D(10),
        "opened_at": NOW,
        "equity": D(10_000),
    }
    return build_plan(plan_terms or TERMS, **(arguments | changes))
