"""The exit plan of a position, from its average fill, the read-back leverage and what its decision knew.

No network but the market table; nothing is guessed: what the decision lacked is named in the plan.
"""

from collections.abc import Collection, Hashable, Mapping
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
    return Planner().plan_for(position, instrument, limits)


class Planner:
    """Plans of positions that executions moved together.

    What a decision's accounts have in common is worked out once for all of the same limits, leverage, entry
    and quantity: all but the loss guard, the time limit and what an earlier plan keeps.
    """

    def __init__(self) -> None:
        self._terms: dict[Hashable, PlanTerms] = {}
        self._alike: dict[Hashable, ExitPlan] = {}
        self._written: dict[Hashable, dict[str, object]] = {}

    def plan_for(self, position: Position, instrument: Instrument, limits: Limits) -> ExitPlan:
        """The plan of the position's fills so far; an earlier one only tightens."""
        plan = self._own(self._alike_of(position, instrument, limits), position, limits)
        return exit_plan.recompute(exit_plan.from_json(position.plan), plan) if position.plan else plan

    def keep_plan_for(self, position: Position, instrument: Instrument, limits: Limits) -> ExitPlan:
        """As `plan_for`, and written to the (unsaved) row."""
        if position.plan:
            plan = self.plan_for(position, instrument, limits)
            keep_plan(position, plan)
            return plan
        alike = self._alike_of(position, instrument, limits)
        key = id(alike)  # kept here for as long as this is
        if key not in self._written:
            self._written[key] = exit_plan.to_json(alike)
        plan = self._own(alike, position, limits)
        position.plan, position.stop_price = exit_plan.own_to_json(self._written[key], plan), plan.stop_price
        return plan

    def _alike_of(self, position: Position, instrument: Instrument, limits: Limits) -> ExitPlan:
        by_terms = _terms_key(position, limits)
        key = (by_terms, position.entry_price, position.initial_quantity)
        if key not in self._alike:
            if by_terms not in self._terms:
                self._terms[by_terms] = terms_for(position, limits)
            self._alike[key] = _alike(self._terms[by_terms], position, instrument)
        return self._alike[key]

    def _own(self, alike: ExitPlan, position: Position, limits: Limits) -> ExitPlan:
        equity = readings.equity_of(position.account, position.market) or ZERO
        return exit_plan.make_own(alike, limits, opened_at=position.opened_at, equity=equity)


def _terms_key(position: Position, limits: Limits) -> Hashable:
    """Positions with the same have the same terms. Limits go by identity: their terms keep them alive."""
    share = position.allocation if _is_share_given(position) else None
    decided = (share.decision_id, share.exit_policy) if share is not None else position.allocation_id
    return (decided, position.market, position.symbol, position.is_long, position.leverage, id(limits))


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
    if position.allocation_id is None or _is_share_given(position):
        return position.allocation
    wanted = Allocation.objects.select_related("decision__signal").defer("decision__candidates")
    return wanted.get(pk=position.allocation_id)


def _is_share_given(position: Position) -> bool:
    return bool(Position.allocation.is_cached(position))


def _alike(terms: PlanTerms, position: Position, instrument: Instrument) -> ExitPlan:
    made_of = {"entry_price": position.entry_price, "quantity": position.initial_quantity}
    try:
        return exit_plan.build_alike(terms, instrument=instrument, **made_of)
    except PlanError:  # a position without a plan would have no stop: the adaptive policy can always plan
        terms = replace(terms, policy=ExitPolicy.ADAPTIVE)
        return exit_plan.build_alike(terms, instrument=instrument, **made_of)


def plan_of(position: Position) -> ExitPlan | None:
    """The plan in the row; None before the first one could be made."""
    return exit_plan.from_json(position.plan) if position.plan else None


def keep_plan(position: Position, plan: ExitPlan) -> None:
    """Write a plan to the (unsaved) row."""
    position.plan = exit_plan.to_json(plan)
    position.stop_price = plan.stop_price
