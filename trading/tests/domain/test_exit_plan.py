"""Distances, harvest, levels and recomputation (V1 to V3, V13)."""

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.domain.exit_plan import (
    ExitPolicy,
    PlanError,
    distances,
    from_json,
    harvest_quantities,
    harvest_shares,
    leverage_factor,
    recompute,
    reward_risk,
    round_trip_cost,
    to_json,
)
from trading.domain.instrument import Market
from trading.domain.limits import Limits
from trading.domain.percent import to_percent
from trading.domain.states import CloseReason
from trading.tests.domain.samples import NOW, TERMS, D, instrument, plan, terms

SIGNAL = terms(policy=ExitPolicy.SIGNAL, signal_stop_price=D("98.999"), signal_take_profit_price=D("105.006"))


def percent(fraction: D, places: str = "0.0001") -> D:
    return to_percent(fraction).quantize(D(places))


@pytest.mark.parametrize(
    ("leverage", "factor", "targets", "stop", "shares"),
    [
        ("26.55", "0.231696", ("0.8317", "1.3158", "1.8579"), "0.8073", ("0.4", "0.4", "0.2")),
        ("2", "0.476505", ("1.0765", "1.4383", "1.9191"), "0.7094", ("0.3", "0.3", "0.4")),
    ],
    ids=["V1", "V2"],
)
def test_the_adaptive_plan_follows_the_leverage(
    leverage: str, factor: str, targets: tuple[str, ...], stop: str, shares: tuple[str, ...]
) -> None:
    found = distances(terms(leverage=D(leverage)), D(100))
    assert leverage_factor(D(leverage)).quantize(D("0.000001")) == D(factor)
    assert tuple(percent(target) for target in found.targets) == tuple(D(target) for target in targets)
    assert percent(found.stop) == D(stop)
    assert found.shares == tuple(D(share) for share in shares)


@pytest.mark.parametrize(
    ("leverage", "stop", "first_target"),
    [
        (1, "0.664", "1.191"),
        (5, "0.757", "0.958"),
        (10, "0.782", "0.894"),
        (20, "0.801", "0.847"),
        (50, "0.819", "0.803"),
        (100, "0.829", "0.778"),
    ],
)
def test_v3_more_leverage_means_a_wider_stop_and_a_nearer_first_target(
    leverage: int, stop: str, first_target: str
) -> None:
    found = distances(terms(leverage=D(leverage)), D(100))
    assert (percent(found.stop, "0.001"), percent(found.targets[0], "0.001")) == (D(stop), D(first_target))


@pytest.mark.parametrize(
    ("leverage", "shares"),
    [(10, "30/30/40"), (11, "40/40/20"), (30, "40/40/20"), (31, "50/30/20"), (125, "50/30/20")],
)
def test_the_harvest_changes_above_ten_and_thirty(leverage: int, shares: str) -> None:
    assert "/".join(str(int(share * 100)) for share in harvest_shares(D(leverage))) == shares


@pytest.mark.parametrize(
    ("is_long", "rate", "factor"),
    [
        (False, "0.0005", "1.4"),
        (False, "0.01", "1.8"),
        (True, "0.0005", "1"),
        (True, "-0.001", "1.8"),
        (False, "-0.001", "1"),
    ],
)
def test_funding_received_moves_targets_out_and_funding_paid_leaves_them(
    is_long: bool, rate: str, factor: str
) -> None:
    plain = distances(terms(is_long=is_long), D(100))
    paid = distances(terms(is_long=is_long, funding_rate=D(rate)), D(100))
    assert paid.targets == tuple(target * D(factor) for target in plain.targets)
    assert paid.stop == plain.stop


def test_divergence_and_volatility_widen_the_stop_up_to_its_ceiling() -> None:
    plain = distances(TERMS, D(100)).stop
    assert distances(terms(divergence=D(1), volatility=D(1)), D(100)).stop == plain * D("1.6")
    wild = terms(divergence=D(1), volatility=D(1), limits=Limits(min_stop=False, base_stop=D("0.02")))
    assert distances(wild, D(100)).stop == D("0.020")


@pytest.mark.parametrize(("atr", "stop"), [("0.0002", "0.0075"), ("0.012", "0.012")])
def test_a_stop_inside_costs_or_noise_is_widened_and_the_targets_with_it(atr: str, stop: str) -> None:
    plain = distances(TERMS, D(100))
    widened = distances(terms(limits=Limits(), atr=D(atr)), D(100))
    assert percent(widened.stop) == percent(D(stop))
    growth = D(stop) / plain.stop
    assert [percent(target) for target in widened.targets] == [
        percent(target * growth) for target in plain.targets
    ]


def test_what_was_unknown_counts_nothing_and_is_named_in_the_plan() -> None:
    blind = terms(funding_rate=None, divergence=None, volatility=None, atr=None)
    assert plan(blind).unknown == ("funding", "divergence", "volatility", "atr")
    assert replace(plan(blind), unknown=()) == plan(TERMS)


def test_v13_a_harvest_is_of_the_initial_quantity_and_leaves_nothing() -> None:
    prices = (D(101), D(102), D(103))
    legs = harvest_quantities(
        instrument(step=D("0.1"), min_quantity=D("0.1")), D(1), harvest_shares(D(20)), prices
    )
    assert legs == (D("0.4"), D("0.4"), D("0.2"))


@pytest.mark.parametrize(
    ("lots", "leverage", "legs"),
    [
        (1, 2, (0, 1, 0)),
        (2, 2, (0, 1, 1)),
        (3, 2, (0, 1, 2)),
        (4, 2, (1, 1, 2)),
        (3, 20, (1, 1, 1)),
        (2, 50, (1, 0, 1)),
        (3, 50, (2, 0, 1)),
        (11, 2, (3, 3, 5)),
    ],
)
def test_a_leg_too_small_joins_the_one_before_and_a_single_lot_exits_at_the_second_target(
    lots: int, leverage: int, legs: tuple[int, ...]
) -> None:
    market = instrument(step=D(1), min_quantity=D(1))
    assert harvest_quantities(market, D(lots), harvest_shares(D(leverage)), (D(1), D(2), D(3))) == legs


def test_on_spot_a_leg_under_the_minimum_notional_joins_the_one_before() -> None:
    prices = (D(101), D(102), D(103))
    shares = harvest_shares(D(20))
    spot = instrument(market=Market.SPOT, min_notional=D(10), brackets=())
    assert harvest_quantities(spot, D("0.3"), shares, prices) == (D("0.120"), D("0.180"), D(0))
    assert harvest_quantities(instrument(min_notional=D(10)), D("0.3"), shares, prices)[2] == D("0.060")


@given(
    lots=st.integers(1, 5_000),
    minimum=st.integers(1, 40),
    leverage=st.integers(1, 125),
    spot=st.booleans(),
)
def test_a_harvest_sums_exactly_and_leaves_no_dust(
    lots: int, minimum: int, leverage: int, spot: bool
) -> None:
    market = instrument(
        step=D("0.001"),
        min_quantity=D("0.001") * minimum,
        market=Market.SPOT if spot else Market.FUTURES,
    )
    quantity = D("0.001") * max(lots, minimum)
    legs = harvest_quantities(market, quantity, harvest_shares(D(leverage)), (D(101), D(102), D(103)))
    assert sum(legs) == quantity
    assert all(leg == 0 or leg >= market.min_quantity for leg in legs)
    assert all(leg % market.step == 0 for leg in legs)


@pytest.mark.parametrize(
    ("is_long", "stop", "targets", "break_even"),
    [
        (True, "99.30", ("101.07", "101.43", "101.91"), "100.15"),
        (False, "100.70", ("98.93", "98.57", "98.09"), "99.85"),
    ],
)
def test_stops_round_in_favour_and_targets_toward_the_entry(
    is_long: bool, stop: str, targets: tuple[str, ...], break_even: str
) -> None:
    made = plan(terms(is_long=is_long))
    assert (made.stop_price, made.hard_stop_price) == (D(stop), D(stop))
    assert tuple(level.price for level in made.levels) == tuple(D(target) for target in targets)
    assert made.break_even_price == D(break_even)
    assert made.stop_reason is CloseReason.STOP_LOSS
    assert not made.has_moved_stop


def test_the_signal_policy_keeps_the_signals_prices_and_trails_from_four_percent() -> None:
    made = plan(SIGNAL)
    assert (made.stop_price, [level.price for level in made.levels]) == (D("99.00"), [D("105.00")])
    assert (made.trail_start_price, made.trail_distance) == (D(104), D("0.015"))
    assert made.levels[0].quantity == D(10)


def test_the_fixed_policy_follows_the_settings() -> None:
    made = plan(terms(policy=ExitPolicy.FIXED, is_long=False))
    assert (made.stop_price, made.levels[0].price, made.trail_start_price) == (D(101), D(98), D(96))


def test_a_signal_policy_without_the_signals_stop_is_refused() -> None:
    with pytest.raises(PlanError, match="signal"):
        plan(terms(policy=ExitPolicy.SIGNAL, signal_take_profit_price=D(105)))


@pytest.mark.parametrize("changes", [{"quantity": D(0)}, {"entry_price": D(0)}])
def test_a_fill_of_nothing_has_no_plan(changes: dict[str, Any]) -> None:
    with pytest.raises(PlanError, match="no plan"):
        plan(**changes)


def test_the_loss_guard_is_one_and_a_half_times_the_risk_and_the_time_limit_two_days() -> None:
    assert plan().loss_guard_amount == D(150)
    assert plan(equity=D(0)).loss_guard_amount is None
    assert plan().expires_at == NOW + timedelta(hours=48)
    assert plan(terms(limits=Limits(time_limit_hours=0))).expires_at is None


def test_only_a_runner_of_the_adaptive_policy_trails_from_its_last_target() -> None:
    made = plan(terms(limits=Limits(min_stop=False, runner=True)))
    assert (made.rides, made.trail_start_price, made.trail_distance) == (True, D("101.91"), D("0.005"))
    assert plan().trail_start_price is None


def test_reward_and_risk_are_net_of_costs() -> None:
    found = distances(TERMS, D(100))
    cost = round_trip_cost(D("0.0005"), Limits())
    assert cost == D("0.0015")
    gross = D("0.3") * found.targets[0] + D("0.3") * found.targets[1] + D("0.4") * found.targets[2]
    assert reward_risk(found, cost=cost) == (gross - cost) / (found.stop + cost)
    assert reward_risk(found, cost=cost, funding_cost=D("0.001")) < reward_risk(found, cost=cost)
    assert reward_risk(found, cost=cost, funding_cost=D("-0.05")) == reward_risk(found, cost=cost)


def test_more_fills_keep_what_was_reached_and_never_loosen_the_stop() -> None:
    first = plan().tighten(D("100.15"), CloseReason.BREAK_EVEN)
    first = replace(first, levels=(replace(first.levels[0], reached=True), *first.levels[1:]))
    merged = recompute(
        first, plan(entry_price=D("99.50"), quantity=D(20), opened_at=NOW + timedelta(hours=1))
    )
    assert (merged.stop_price, merged.stop_reason) == (D("100.15"), CloseReason.BREAK_EVEN)
    assert merged.hard_stop_price == first.hard_stop_price
    assert merged.expires_at == first.expires_at
    assert [level.reached for level in merged.levels] == [True, False, False]
    assert merged.initial_quantity == D(20)


prices = st.decimals(min_value=50, max_value=150, places=2)


@given(is_long=st.booleans(), moves=st.lists(prices, max_size=20), refill=prices)
def test_a_stop_never_moves_away(is_long: bool, moves: list[D], refill: D) -> None:
    current = plan(terms(is_long=is_long))
    for price in moves:
        moved = current.tighten(price, CloseReason.TRAILING)
        assert moved.stop_price >= current.stop_price if is_long else moved.stop_price <= current.stop_price
        current = moved
    merged = recompute(current, plan(terms(is_long=is_long), entry_price=refill))
    assert merged.stop_price >= current.stop_price if is_long else merged.stop_price <= current.stop_price


@pytest.mark.parametrize(
    "made", [plan(), plan(SIGNAL), plan(equity=D(0))], ids=["adaptive", "signal", "no guard"]
)
def test_a_plan_survives_its_row(made: object) -> None:
    assert from_json(json.loads(json.dumps(to_json(made)))) == made  # type: ignore[arg-type]  # parametrized
