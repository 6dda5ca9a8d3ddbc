"""Limits: defaults by mode, percent at the edge, refusals by name."""

from dataclasses import fields
from decimal import Decimal

import pytest

from trading.domain.limits import TUNABLES, LimitError, Limits, SizingModel, overlay


def test_every_limit_has_a_kind_and_bounds() -> None:
    assert {field.name for field in fields(Limits)} == set(TUNABLES)


@pytest.mark.parametrize("mode", ["paper", "testnet", "live"])
def test_the_defaults_of_every_mode_are_valid(mode: str) -> None:
    assert Limits.for_mode(mode).validate().max_positions == 5


def test_live_is_stricter_than_paper() -> None:
    paper, live = Limits.for_mode("paper"), Limits.for_mode("live")
    assert (paper.min_score, paper.min_quality, paper.signal_max_age_seconds) == (
        Decimal("0.65"),
        Decimal("0.50"),
        86_400,
    )
    assert (live.min_score, live.min_quality, live.signal_max_age_seconds) == (
        Decimal("0.80"),
        Decimal("0.60"),
        900,
    )


def test_a_risk_budget_is_given_in_percent_and_kept_as_a_fraction() -> None:
    assert Limits.for_mode("paper", {"RISK_BUDGET": "4"}).risk_budget == Decimal("0.04")


def test_an_unknown_mode_is_refused_by_name() -> None:
    with pytest.raises(LimitError, match="demo"):
        Limits.for_mode("demo")


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        ({"MAX_POSITION": "5"}, "MAX_POSITION: no such limit"),
        ({"MAX_POSITIONS": "five"}, "MAX_POSITIONS: 'five' is not a count"),
        ({"MAX_POSITIONS": "2.5"}, "MAX_POSITIONS: '2.5' is not a count"),
        ({"RISK_BUDGET": "NaN"}, "RISK_BUDGET: 'NaN' is not a percent"),
        ({"RUNNER": "perhaps"}, "RUNNER: 'perhaps' is not a flag"),
        ({"RISK_PER_TRADE": "3"}, "risk_per_trade: 3 is outside 0.25 to 2"),
        ({"DAILY_LOSS": "2"}, "daily_loss is under 3 x risk_per_trade"),
        ({"TRAIL_FROM": "1"}, "trail_distance is not under trail_from"),
        ({"SYMBOL_NOTIONAL": "4"}, "symbol_notional is above gross_notional"),
    ],
)
def test_a_limit_that_cannot_be_used_is_refused_by_name(overrides: dict[str, str], problem: str) -> None:
    with pytest.raises(LimitError, match=problem):
        Limits.from_mapping(overrides)


def test_every_problem_is_named_at_once() -> None:
    with pytest.raises(LimitError) as refused:
        Limits.from_mapping({"RISK_PER_TRADE": "2", "DAILY_LOSS": "5", "RISK_BUDGET": "1"})
    assert len(refused.value.problems) == 3


def test_an_account_override_lies_over_the_desks_limits_and_leaves_the_rest() -> None:
    desk = Limits.for_mode("paper", {"LEVERAGE": "5"})
    account = overlay(desk, {"risk_per_trade": "0.5", "sizing_model": "fixed_margin", "runner": "on"})
    assert (account.leverage, account.risk_per_trade) == (5, Decimal("0.005"))
    assert (account.sizing_model, account.runner) == (SizingModel.FIXED_MARGIN, True)
    assert desk.risk_per_trade == Decimal("0.01")


def test_what_is_written_out_reads_back_the_same() -> None:
    limits = Limits.for_mode("live", {"RUNNER": "on", "MAX_SPREAD": "0.15"})
    assert Limits.from_mapping(limits.as_edge()) == limits
