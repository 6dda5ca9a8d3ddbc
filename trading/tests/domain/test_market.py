"""Regime, volatility and correlation."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from trading.domain.market import (
    Regime,
    RegimeFigures,
    annualised_volatility,
    pearson,
    regime,
)
from trading.tests.domain.samples import NOW, D

CALM = RegimeFigures(volatility=D("0.30"), is_squeezed=False, adx14=D(15), move_20=D(0))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Regime.RANGE),
        ({"volatility": D("0.61"), "adx14": D(40), "move_20": D("0.2")}, Regime.HIGH_VOLATILITY),
        ({"volatility": D("0.19"), "is_squeezed": True}, Regime.BREAKOUT),
        ({"volatility": D("0.20"), "is_squeezed": True}, Regime.RANGE),
        ({"adx14": D(26), "move_20": D("0.051")}, Regime.BULL),
        ({"adx14": D(26), "move_20": D("-0.051")}, Regime.BEAR),
        ({"adx14": D(25), "move_20": D("0.10")}, Regime.RANGE),
        ({"adx14": D(40), "move_20": D("0.05")}, Regime.RANGE),
        ({"volatility": D("0.14")}, Regime.LOW_VOLATILITY),
        ({"volatility": D("0.14"), "adx14": D(30), "move_20": D("-0.06")}, Regime.BEAR),
    ],
)
def test_the_first_rule_that_holds_names_the_regime(changes: dict[str, Any], expected: Regime) -> None:
    assert regime(replace(CALM, **changes)) is expected


def test_volatility_is_annualised_from_hours() -> None:
    assert annualised_volatility([0.01, -0.01, 0.01, -0.01]) == D("1.080740")
    assert annualised_volatility([0.01]) is None


def test_correlation_is_over_common_hours_and_needs_enough_of_them() -> None:
    hours = [NOW + timedelta(hours=number) for number in range(120)]
    rising = {hour: float(number % 7) for number, hour in enumerate(hours)}
    falling = {hour: -2 * value for hour, value in rising.items()}
    assert pearson(rising, rising, min_hours=100) == D(1)
    assert pearson(rising, falling, min_hours=100) == D(-1)
    late = {hour: value for hour, value in falling.items() if hour >= hours[21]}
    assert pearson(rising, late, min_hours=100) is None
    assert pearson(rising, late, min_hours=99) == D(-1)


def test_what_never_moved_has_no_correlation() -> None:
    hours = [NOW + timedelta(hours=number) for number in range(5)]
    flat = dict.fromkeys(hours, 0.0)
    moving = {hour: float(number) for number, hour in enumerate(hours)}
    assert pearson(flat, moving, min_hours=5) is None
