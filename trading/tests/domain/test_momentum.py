"""The demonstration rule."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.domain.momentum import (
    CANDLES_NEEDED,
    MIN_STOP,
    MomentumSignal,
    Silence,
    average_range,
    ema,
    momentum,
)
from trading.tests.domain.samples import D


@dataclass(frozen=True)
class Candle:
    high: D
    low: D
    close: D


def candles(closes: list[D], wick: str = "0.1") -> list[Candle]:
    return [Candle(close + D(wick), close - D(wick), close) for close in closes]


def path(step: str, count: int = 80) -> list[D]:
    return [D(100) + D(step) * number for number in range(count)]


def test_a_steady_rise_is_a_long_and_a_steady_fall_a_short() -> None:
    long, short = momentum(candles(path("0.2"))), momentum(candles(path("-0.2")))
    assert isinstance(long, MomentumSignal)
    assert isinstance(short, MomentumSignal)
    assert long.stop_price < long.entry_price < long.take_profit_price
    assert short.take_profit_price < short.entry_price < short.stop_price
    assert (long.is_long, long.score) == (True, D("0.90"))
    assert (short.is_long, short.entry_price) == (False, D("84.2"))


@pytest.mark.parametrize(
    ("closes", "wick", "silence"),
    [
        (path("0.2", CANDLES_NEEDED - 1), "0.1", Silence.TOO_FEW_CANDLES),
        (path("0"), "0", Silence.NO_MOVEMENT),
        (path("0.01"), "1", Silence.WEAK_MOVE),
        ([*path("-1", 75), *[D(30), D(31), D(32), D(34), D(60)]], "0.1", Silence.AVERAGES_DISAGREE),
    ],
)
def test_when_it_is_silent_it_says_why(closes: list[D], wick: str, silence: Silence) -> None:
    assert momentum(candles(closes, wick)) is silence


def test_the_reward_is_twice_the_risk_and_the_stop_outside_the_noise() -> None:
    found = momentum(candles(path("0.2")))
    assert isinstance(found, MomentumSignal)
    risk, reward = found.entry_price - found.stop_price, found.take_profit_price - found.entry_price
    assert reward == 2 * risk
    assert risk / found.entry_price >= MIN_STOP


def test_averages_are_the_usual_ones() -> None:
    assert ema([1.0, 2.0, 3.0], 3) == 2.25
    assert average_range([Candle(D(1), D(1), D(1)), Candle(D(4), D(2), D(3)), Candle(D(3), D(2), D(2))]) == D(
        2
    )


@given(st.lists(st.decimals(min_value=50, max_value=150, places=2), min_size=70, max_size=90))
def test_a_signal_always_has_its_prices_on_the_right_sides(closes: list[D]) -> None:
    found = momentum(candles(closes))
    if isinstance(found, MomentumSignal):
        side = 1 if found.is_long else -1
        assert (found.entry_price - found.stop_price) * side > 0
        assert (found.take_profit_price - found.entry_price) * side > 0
        assert 0 <= found.score <= 1
    else:
        assert found in Silence
