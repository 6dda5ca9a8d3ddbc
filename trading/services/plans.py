"""The exit plan of a position, from its average fill, the read-back leverage and what its decision knew.

No network but the market table; nothing is guessed: what the decision lacked is named in the plan.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from accounts.models import Account, SymbolSetting
from accounts.services.fixed_queries import AmongGiven, FixedQuery
from accounts.services.limits import usable_limits_of
from exchange.errors import ReadFailed
from exchange.port import Market
from trading.domain import exit_plan
from trading.domain.exit_plan import ExitPlan, ExitPolicy, PlanError, PlanTerms
from trading.domain.instrument import Instrument
from trading.domain.limits import Limits
from trading.models import Allocation, Position
from trading.services import market, readings
from trading.services.market import MarketFigures
from trading.services.terms import plan_terms

ZERO = Decimal(0)
PLANNED_BY = ("funding_rate", "atr14", "close")
"""The figures of the decision that enter a plan."""

_LEVERAGES = FixedQuery(
    lambda: (
        SymbolSetting.objects.filter(AmongGiven("account_id", "accounts"), AmongGiven("symbol", "symbols"))
        .order_by()
        .values_list("account_id", "symbol", "leverage")
    )
)


def plan_for(position: Position, instrument: Instrument, limits: Limits) -> ExitPlan:
    """The plan of the position's fills so far, under its account's limits; an earlier one only tightens."""
    terms = terms_for(position, limits)
    try:
        plan = _plan(terms, position, instrument)
    except PlanError:  # a position without a plan would have no stop: the adaptive policy can always plan
        plan = _plan(replace(terms, policy=ExitPolicy.ADAPTIVE), position, instrument)
    return exit_plan.recompute(exit_plan.from_json(position.plan), plan) if position.plan else plan


def terms_for(position: Position, limits: Limits) -> PlanTerms:
    """The terms of a plan: the account's limits, the allocation's policy, the decision's figures."""
    allocation = _allocation_of(position)
    decision = allocation.decision if allocation else None
    return plan_terms(
        market=Market(position.market),
        is_long=position.is_long,
        leverage=Decimal(position.leverage),
        limits=limits,
        figures=figures_from(decision.inputs if decision else {}, position.symbol),
        signal=decision.signal if decision else None,
        policy=allocation.exit_policy if allocation else "",
    )


def instrument_of(position: Position) -> Instrument | None:
    """The market's filters of a position's symbol; None while the market table could not be read."""
    try:
        return market.instruments(Market(position.market)).get(position.symbol)
    except ReadFailed:
        return None


def limits_of(account: Account) -> Limits:
    """The limits an account's exits live under."""
    return limits_of_many([account])[account.pk]


def limits_of_many(accounts: Collection[Account]) -> dict[int, Limits]:
    """The limits of accounts' exits, by id; the desk's where an account's own contradict them.

    Contradicting limits refuse an entry, never an exit: a position must have its stop.
    """
    return usable_limits_of(accounts)


def figures_from(inputs: Mapping[str, Any], symbol: str) -> MarketFigures:
    """The figures a decision kept, as far as a plan asks for them."""
    known = {
        name: Decimal(inputs[name]["value"])
        for name in PLANNED_BY
        if isinstance(inputs.get(name), Mapping) and inputs[name].get("value") is not None
    }
    return MarketFigures(symbol=symbol, **known)  # type: ignore[arg-type]  # PLANNED_BY names Decimal fields


def read_back_leverages(accounts: Collection[int], symbols: Collection[str]) -> dict[tuple[int, str], int]:
    """The leverage the exchange last said the futures symbols of accounts are set to."""
    told = _LEVERAGES.ask(accounts=accounts, symbols=symbols)
    return {(account_id, symbol): leverage for account_id, symbol, leverage in told}


def _allocation_of(position: Position) -> Allocation | None:
    """The allocation with decision and signal in one query, without the candidates nobody asks for."""
    if position.allocation_id is None or not position.is_saved:
        return position.allocation
    wanted = Allocation.objects.select_related("decision__signal").defer("decision__candidates")
    return wanted.get(pk=position.allocation_id)


def _plan(terms: PlanTerms, position: Position, instrument: Instrument) -> ExitPlan:
    return exit_plan.build_plan(
        terms,
        instrument=instrument,
        entry_price=position.entry_price,
        quantity=position.initial_quantity,
        opened_at=position.opened_at,
        equity=readings.equity_of(position.account, position.market) or ZERO,
    )


def plan_of(position: Position) -> ExitPlan | None:
    """The plan in the row; None before the first one could be made."""
    return exit_plan.from_json(position.plan) if position.plan else None


def keep_plan(position: Position, plan: ExitPlan) -> None:
    """Write a plan to the (unsaved) row."""
    position.plan = exit_plan.to_json(plan)
    position.stop_price = plan.stop_price
