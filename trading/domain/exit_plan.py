"""The exit plan of one position: where it stops, where it harvests, and how the stop follows (section 6).

Entry points: `distances` (what gate and quality score need before an order), `build_plan` (from the average
fill), `recompute` (more fills); `exits.evaluate` follows the plan. Promises:
1. A stop only ever moves in the position's favour; `ExitPlan.tighten` is the one line that moves it.
2. Harvest legs are shares of the initial quantity, sum to it exactly, and none is under a minimum.
3. Levels stand on the average fill; only the signal policy keeps the signal's own prices.
Prices are quote units, distances price-move fractions, quantities base units.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple

from trading.domain.instrument import (
    Instrument,
    Market,
    floor_quantity,
    round_stop,
    round_target,
)
from trading.domain.limits import Limits
from trading.domain.percent import ONE, ZERO, clamp, price_at, price_move
from trading.domain.states import CloseReason


class PlanError(ValueError):
    """A plan that cannot be made from what was given."""


class ExitPolicy(StrEnum):
    """Where stop and targets come from."""

    ADAPTIVE = "adaptive"
    SIGNAL = "signal"
    FIXED = "fixed"


FULL_FUNDING = Decimal("0.001")
"""The funding rate received that counts fully in the targets: 0.1 % a settlement."""

FUNDING_WEIGHT = Decimal("0.8")
LEVERAGE_WEIGHT = Decimal("0.8")
DIVERGENCE_WEIGHT = Decimal("0.4")
VOLATILITY_WEIGHT = Decimal("0.2")
RUNNER_STOP_SHARE = Decimal("0.5")

_HARVEST: tuple[tuple[Decimal | None, tuple[Decimal, ...]], ...] = (
    (Decimal(10), (Decimal("0.3"), Decimal("0.3"), Decimal("0.4"))),
    (Decimal(30), (Decimal("0.4"), Decimal("0.4"), Decimal("0.2"))),
    (None, (Decimal("0.5"), Decimal("0.3"), Decimal("0.2"))),
)

SINGLE_LOT_LEVEL = 2
"""The target at which a quantity that cannot be split exits."""


@dataclass(frozen=True, slots=True)
class PlanTerms:
    """What a plan is made of before a price and a quantity are known.

    `leverage` is the read-back leverage of the symbol (1 on spot); `funding_rate` the exchange's, which longs
    pay to shorts; `divergence` and `volatility` in [0, 1]; `atr` the ATR(14, 1 h) as a fraction of the price.
    None is unknown, counts 0 and is named in the plan.
    """

    policy: ExitPolicy
    is_long: bool
    leverage: Decimal
    taker_fee: Decimal
    limits: Limits
    funding_rate: Decimal | None = None
    divergence: Decimal | None = None
    volatility: Decimal | None = None
    atr: Decimal | None = None
    signal_stop_price: Decimal | None = None
    signal_take_profit_price: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Distances:
    """Stop and targets as fractions of the entry, and the harvest share of each target."""

    stop: Decimal
    targets: tuple[Decimal, ...]
    shares: tuple[Decimal, ...]
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Level:
    """One target; a quantity of 0 closes nothing there and only moves the stop."""

    number: int
    price: Decimal
    quantity: Decimal
    reached: bool = False


@dataclass(frozen=True, slots=True)
class ExitPlan:
    """Exit levels of one long or short position, as absolute prices.

    `hard_stop_price` is the first stop, which rests at the exchange and is never moved; `stop_price` the one
    that counts. `trail_start_price` is where trailing begins, `trail_move` how far beyond it the stop
    followed, `loss_guard_amount` the loss in quote units (realised legs included) that closes at once; each
    is None while the plan has no such rule or has not come so far.
    """

    policy: ExitPolicy
    is_long: bool
    entry_price: Decimal
    initial_quantity: Decimal
    leverage: Decimal
    tick: Decimal
    min_quantity: Decimal
    hard_stop_price: Decimal
    stop_price: Decimal
    stop_reason: CloseReason
    levels: tuple[Level, ...]
    break_even_price: Decimal
    runner: bool
    trail_start_price: Decimal | None
    trail_distance: Decimal
    trail_step: Decimal
    loss_guard_amount: Decimal | None
    expires_at: datetime | None
    trail_move: Decimal | None = None
    unknown: tuple[str, ...] = ()

    def tighten(self, price: Decimal, reason: CloseReason) -> "ExitPlan":
        """Move the stop to `price` if that is in the position's favour; a stop never moves away."""
        nearer = max(self.stop_price, price) if self.is_long else min(self.stop_price, price)
        return self if nearer == self.stop_price else replace(self, stop_price=nearer, stop_reason=reason)

    @property
    def ahead(self) -> tuple[Decimal, ...]:
        """The prices of the levels not yet reached."""
        return tuple(level.price for level in self.levels if not level.reached)

    @property
    def has_moved_stop(self) -> bool:
        """Whether a working stop is wanted beside the hard one."""
        return self.stop_price != self.hard_stop_price

    @property
    def rides(self) -> bool:
        """Whether the last leg trails beyond its target instead of closing there."""
        return self.runner and self.levels[-1].quantity > 0

    @property
    def is_harvested(self) -> bool:
        """Whether no target is left that would close anything and nothing rides on."""
        return not self.rides and all(level.reached or level.quantity == 0 for level in self.levels)


@lru_cache(maxsize=256)  # a logarithm in Decimal, the same for every account of a leverage
def leverage_factor(leverage: Decimal) -> Decimal:
    """Return LSF = 1 / (1 + ln(L + 1)): 0.5906 at 1x, falling as leverage grows."""
    return ONE / (ONE + (leverage + ONE).ln())


def harvest_shares(leverage: Decimal) -> tuple[Decimal, ...]:
    """Return the shares of the initial quantity taken at each target."""
    return next(shares for upto, shares in _HARVEST if upto is None or leverage <= upto)


def round_trip_cost(taker_fee: Decimal, limits: Limits) -> Decimal:
    """Return the fees of both sides and the slippage, as a fraction of the entry."""
    return 2 * taker_fee + limits.stop_slippage


def distances(terms: PlanTerms, entry_price: Decimal) -> Distances:
    """Return the stop and targets that `terms` would place around `entry_price`.

    Raises PlanError when the signal policy has no stop or target to follow.
    """
    if terms.policy is ExitPolicy.ADAPTIVE:
        return adaptive_distances(terms)
    if terms.policy is ExitPolicy.FIXED:
        return Distances(terms.limits.fixed_stop, (terms.limits.fixed_take_profit,), (ONE,))
    if terms.signal_stop_price is None or terms.signal_take_profit_price is None:
        raise PlanError("the signal policy needs the signal's stop and target")
    stop = -price_move(is_long=terms.is_long, entry_price=entry_price, price=terms.signal_stop_price)
    target = price_move(is_long=terms.is_long, entry_price=entry_price, price=terms.signal_take_profit_price)
    return Distances(stop, (target,), (ONE,))


def adaptive_distances(terms: PlanTerms) -> Distances:
    """Return the adaptive plan's distances: nearer targets and a wider stop as leverage grows."""
    limits, factor = terms.limits, leverage_factor(terms.leverage)
    raw_stop = (
        limits.base_stop
        * (ONE + LEVERAGE_WEIGHT * (ONE - factor))
        * (
            ONE
            + DIVERGENCE_WEIGHT * (terms.divergence or ZERO)
            + VOLATILITY_WEIGHT * (terms.volatility or ZERO)
        )
    )
    stop = clamp(raw_stop, limits.stop_floor, limits.stop_ceiling)
    favour = ONE + FUNDING_WEIGHT * _funding_received(terms)
    multiples = (
        Decimal("0.6") + factor,
        Decimal("1.2") + factor / 2,
        Decimal("1.8") + factor / 4,
    )
    targets = (
        max(limits.take_profit_floor, limits.base_take_profit * multiple * favour) for multiple in multiples
    )
    widening = max(ONE, _min_stop(terms) / stop)
    return Distances(
        stop=stop * widening,
        targets=tuple(target * widening for target in targets),
        shares=harvest_shares(terms.leverage),
        unknown=_unknown(terms),
    )


def _funding_received(terms: PlanTerms) -> Decimal:
    rate = terms.funding_rate or ZERO
    received = -rate if terms.is_long else rate
    return clamp(received / FULL_FUNDING, ZERO, ONE)


def _min_stop(terms: PlanTerms) -> Decimal:
    """The nearest stop worth placing: beyond the costs and beyond one hour's noise."""
    limits = terms.limits
    if not limits.min_stop:
        return ZERO
    costs = limits.min_stop_costs * round_trip_cost(terms.taker_fee, limits)
    return max(limits.stop_floor, costs, terms.atr or ZERO)


def _unknown(terms: PlanTerms) -> tuple[str, ...]:
    given = {
        "funding": terms.funding_rate,
        "divergence": terms.divergence,
        "volatility": terms.volatility,
        "atr": terms.atr,
    }
    return tuple(name for name, value in given.items() if value is None)


def reward_risk(found: Distances, *, cost: Decimal, funding_cost: Decimal = ZERO) -> Decimal:
    """Return RR_net: harvest-weighted targets against the stop, both after costs.

    `cost` is `round_trip_cost`, `funding_cost` what one settlement takes, both as fractions of the entry.
    Funding received (negative) counts nothing: a stop may come before it is paid.
    """
    reward = sum((share * target for share, target in zip(found.shares, found.targets, strict=True)), ZERO)
    costs = cost + max(ZERO, funding_cost)
    return (reward - costs) / (found.stop + costs) if found.stop + costs > 0 else ZERO


def harvest_quantities(
    instrument: Instrument, quantity: Decimal, shares: tuple[Decimal, ...], prices: tuple[Decimal, ...]
) -> tuple[Decimal, ...]:
    """Split the initial quantity over the targets; 0 where a leg was too small and joined another.

    Each leg is its share floored to the step and the last takes the rest. A leg under the minimum joins the
    one before it, the first one the next; what cannot be split at all exits at the second target.
    """
    wanted = {index: share * quantity for index, share in enumerate(shares)}
    while len(wanted) > 1:
        legs = _floored(instrument, quantity, wanted)
        small = [index for index, leg in legs.items() if _is_small(instrument, leg, prices[index])]
        if not small:
            return tuple(legs.get(index, ZERO) for index in range(len(shares)))
        _join(wanted, small[0])
    single = min(SINGLE_LOT_LEVEL, len(shares)) - 1
    return tuple(quantity if index == single else ZERO for index in range(len(shares)))


def _floored(instrument: Instrument, quantity: Decimal, wanted: Mapping[int, Decimal]) -> dict[int, Decimal]:
    legs = {index: floor_quantity(instrument, part) for index, part in wanted.items()}
    last = max(legs)
    legs[last] = quantity - sum((leg for index, leg in legs.items() if index != last), ZERO)
    return legs


def _is_small(instrument: Instrument, leg: Decimal, price: Decimal) -> bool:
    """Only spot asks a minimum notional of an exit; futures exits are reduce-only and free of it."""
    under_notional = instrument.market is Market.SPOT and leg * price < instrument.min_notional
    return leg <= 0 or leg < instrument.min_quantity or under_notional


def _join(wanted: dict[int, Decimal], index: int) -> None:
    others = [other for other in wanted if other != index]
    before = [other for other in others if other < index]
    wanted[max(before) if before else min(others)] += wanted.pop(index)


def build_plan(
    terms: PlanTerms,
    *,
    instrument: Instrument,
    entry_price: Decimal,
    quantity: Decimal,
    opened_at: datetime,
    equity: Decimal,
) -> ExitPlan:
    """Return the plan of a position opened at `entry_price`, the average of its fills.

    Raises PlanError as `distances` does, and for a quantity or entry that is not positive.
    """
    alike = build_alike(terms, instrument=instrument, entry_price=entry_price, quantity=quantity)
    return make_own(alike, terms.limits, opened_at=opened_at, equity=equity)


def build_alike(
    terms: PlanTerms, *, instrument: Instrument, entry_price: Decimal, quantity: Decimal
) -> ExitPlan:
    """Return what the plans of all accounts with these terms, entry and quantity have in common.

    Its loss guard and time limit are each account's own and None here. Raises PlanError as `build_plan`.
    """
    if quantity <= 0 or entry_price <= 0:
        raise PlanError(f"no plan for {quantity} at {entry_price}")
    found = distances(terms, entry_price)
    stop_price, target_prices = _prices(terms, found, entry_price, instrument.tick)
    quantities = harvest_quantities(instrument, quantity, found.shares, target_prices)
    limits = terms.limits
    return ExitPlan(
        policy=terms.policy,
        is_long=terms.is_long,
        entry_price=entry_price,
        initial_quantity=quantity,
        leverage=terms.leverage,
        tick=instrument.tick,
        min_quantity=instrument.min_quantity,
        hard_stop_price=stop_price,
        stop_price=stop_price,
        stop_reason=CloseReason.STOP_LOSS,
        levels=tuple(
            Level(number, *leg) for number, leg in enumerate(zip(target_prices, quantities, strict=True), 1)
        ),
        break_even_price=_stop_price(
            terms, entry_price, -round_trip_cost(terms.taker_fee, limits), instrument.tick
        ),
        runner=limits.runner and terms.policy is ExitPolicy.ADAPTIVE,
        trail_start_price=_trail_start(terms, found, entry_price, instrument.tick),
        trail_distance=_trail_distance(terms, found),
        trail_step=limits.trail_step,
        loss_guard_amount=None,
        expires_at=None,
        unknown=found.unknown,
    )


def make_own(alike: ExitPlan, limits: Limits, *, opened_at: datetime, equity: Decimal) -> ExitPlan:
    """Return the plan of one account: what it has in common with others, and what is its own."""
    hours = limits.time_limit_hours
    return replace(
        alike,
        loss_guard_amount=_loss_guard_amount(equity, limits),
        expires_at=opened_at + timedelta(hours=hours) if hours else None,
    )


def _prices(
    terms: PlanTerms, found: Distances, entry_price: Decimal, tick: Decimal
) -> tuple[Decimal, tuple[Decimal, ...]]:
    stop, target = terms.signal_stop_price, terms.signal_take_profit_price
    if terms.policy is ExitPolicy.SIGNAL and stop is not None and target is not None:
        # Through a fraction and back, the signal's price could come out one tick away.
        return round_stop(stop, tick, is_long=terms.is_long), (
            round_target(target, tick, is_long=terms.is_long),
        )
    targets = tuple(_target_price(terms, entry_price, target, tick) for target in found.targets)
    return _stop_price(terms, entry_price, found.stop, tick), targets


def _stop_price(terms: PlanTerms, entry_price: Decimal, distance: Decimal, tick: Decimal) -> Decimal:
    price = price_at(is_long=terms.is_long, entry_price=entry_price, move=-distance)
    return round_stop(price, tick, is_long=terms.is_long)


def _target_price(terms: PlanTerms, entry_price: Decimal, distance: Decimal, tick: Decimal) -> Decimal:
    price = price_at(is_long=terms.is_long, entry_price=entry_price, move=distance)
    return round_target(price, tick, is_long=terms.is_long)


def _trail_start(terms: PlanTerms, found: Distances, entry_price: Decimal, tick: Decimal) -> Decimal | None:
    if terms.policy is not ExitPolicy.ADAPTIVE:
        return _target_price(terms, entry_price, terms.limits.trail_from, tick)
    return _target_price(terms, entry_price, found.targets[-1], tick) if terms.limits.runner else None


def _trail_distance(terms: PlanTerms, found: Distances) -> Decimal:
    if terms.policy is not ExitPolicy.ADAPTIVE:
        return terms.limits.trail_distance
    return max(terms.limits.runner_distance, found.stop * RUNNER_STOP_SHARE)


def _loss_guard_amount(equity: Decimal, limits: Limits) -> Decimal | None:
    return limits.loss_guard * limits.risk_per_trade * equity if equity > 0 else None


def recompute(old: ExitPlan, new: ExitPlan) -> ExitPlan:
    """Lay the plan of a larger fill over the one in force: what was reached stays reached, no stop looser.

    The hard stop and the time limit stay those of the first fill.
    """
    reached = {level.number for level in old.levels if level.reached}
    merged = replace(
        new,
        hard_stop_price=old.hard_stop_price,
        expires_at=old.expires_at,
        levels=tuple(replace(level, reached=level.number in reached) for level in new.levels),
    )
    return merged.tighten(old.stop_price, old.stop_reason)


def to_json(plan: ExitPlan) -> dict[str, object]:
    """Return the plan as JSON-safe values; Decimals as strings, so that no digit is lost."""
    row: dict[str, object] = {name: _written(getattr(plan, name)) for name in _DECIMALS}
    common = row | {
        "policy": plan.policy.value,
        "is_long": plan.is_long,
        "runner": plan.runner,
        "stop_reason": plan.stop_reason.value,
        "unknown": list(plan.unknown),
        "levels": [_level_json(level) for level in plan.levels],
    }
    return own_to_json(common, plan)


def own_to_json(alike: Mapping[str, object], plan: ExitPlan) -> dict[str, object]:
    """Return the JSON of a plan that `make_own` made, from the JSON of what it was made of."""
    return {
        **alike,
        "loss_guard_amount": _written(plan.loss_guard_amount),
        "expires_at": plan.expires_at.isoformat() if plan.expires_at else None,
    }


def from_json(row: Mapping[str, Any]) -> ExitPlan:
    """Return the plan that `to_json` wrote; raises KeyError for a row that misses a part."""
    decimals: dict[str, Any] = {name: _read(row[name]) for name in _DECIMALS}
    return ExitPlan(
        policy=ExitPolicy(row["policy"]),
        is_long=row["is_long"],
        runner=row["runner"],
        stop_reason=CloseReason(row["stop_reason"]),
        expires_at=datetime.fromisoformat(row["expires_at"]) if row["expires_at"] else None,
        unknown=tuple(row["unknown"]),
        levels=tuple(_level_from_json(level) for level in row["levels"]),
        **decimals,
    )


class Outlook(NamedTuple):
    """What of a plan says at which marks it asks for something next; named as in `ExitPlan`."""

    is_long: bool
    entry_price: Decimal
    stop_price: Decimal
    loss_guard_amount: Decimal | None
    ahead: tuple[Decimal, ...]
    trail_start_price: Decimal | None
    trail_move: Decimal | None
    trail_step: Decimal


def outlook_from_json(row: Mapping[str, Any]) -> Outlook:
    """Return the outlook of the plan that `to_json` wrote, at a third of its price; raises as `from_json`."""
    return Outlook(
        row["is_long"],
        Decimal(row["entry_price"]),
        Decimal(row["stop_price"]),
        _read(row["loss_guard_amount"]),
        tuple([Decimal(level["price"]) for level in row["levels"] if not level["reached"]]),
        _read(row["trail_start_price"]),
        _read(row["trail_move"]),
        Decimal(row["trail_step"]),
    )


_DECIMALS = (
    "entry_price",
    "initial_quantity",
    "leverage",
    "tick",
    "min_quantity",
    "hard_stop_price",
    "stop_price",
    "break_even_price",
    "trail_start_price",
    "trail_move",
    "trail_distance",
    "trail_step",
    "loss_guard_amount",
)


def _level_json(level: Level) -> dict[str, object]:
    return {
        "number": level.number,
        "price": str(level.price),
        "quantity": str(level.quantity),
        "reached": level.reached,
    }


def _level_from_json(row: Mapping[str, Any]) -> Level:
    return Level(row["number"], Decimal(row["price"]), Decimal(row["quantity"]), row["reached"])


def _written(value: Decimal | None) -> str | None:
    return None if value is None else str(value)


def _read(value: str | None) -> Decimal | None:
    return None if value is None else Decimal(value)
