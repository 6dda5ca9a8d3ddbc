"""Quality and its parts (V14)."""

import pytest

from trading.domain.quality import (
    liquidity,
    market_parts,
    performance,
    quality,
    reward,
    spread_fit,
    trend_agreement,
    volatility_fit,
)
from trading.tests.domain.samples import D

PERFECT = {"trend": D(1), "volatility": D(1), "liquidity": D(1), "spread": D(1)}


def test_v14_a_high_score_without_history_is_worth_0_83() -> None:
    found = quality(score=D("0.95"), wins=0, decisions=0, market_parts=PERFECT, reward_risk=D(3))
    assert found.value == D("0.83")
    assert found.parts == {"score": D("0.95"), "performance": D("0.5"), "market": D(1), "reward": D(1)}
    assert found.missing == ()


def test_a_part_that_cannot_be_computed_is_named_and_counts_nothing() -> None:
    blind = market_parts(
        is_long=True,
        ema50=None,
        ema200=None,
        adx14=None,
        range_24h=D("0.03"),
        quote_volume_24h=None,
        spread=D(0),
    )
    found = quality(score=D(1), wins=0, decisions=0, market_parts=blind, reward_risk=None)
    assert found.missing == ("reward", "market.trend", "market.liquidity")
    assert found.value == D("0.40") + D("0.15") + D("0.20") * D("0.5")


def test_without_any_market_figure_the_market_part_is_missing() -> None:
    nothing = dict.fromkeys(PERFECT, None)
    found = quality(score=D(1), wins=0, decisions=0, market_parts=nothing, reward_risk=D(2))
    assert found.parts["market"] is None
    assert "market" in found.missing


@pytest.mark.parametrize(
    ("wins", "decisions", "expected"), [(0, 0, "0.5"), (0, 90, "0.05"), (90, 90, "0.95")]
)
def test_performance_is_never_certain(wins: int, decisions: int, expected: str) -> None:
    assert performance(wins, decisions) == D(expected)


@pytest.mark.parametrize(
    ("is_long", "ema50", "ema200", "adx", "expected"),
    [
        (True, "102", "100", "20", "1"),
        (True, "102", "100", "19.9", "0.5"),
        (True, "102", "100", None, "0.5"),
        (True, "99", "100", "30", "0"),
        (False, "98", "100", "25", "1"),
        (False, "102", "100", "25", "0"),
    ],
)
def test_the_trend_agrees_fully_only_when_it_is_strong(
    is_long: bool, ema50: str, ema200: str, adx: str | None, expected: str
) -> None:
    found = trend_agreement(
        is_long=is_long,
        ema50=D(ema50),
        ema200=D(ema200),
        adx14=None if adx is None else D(adx),
    )
    assert found == D(expected)


@pytest.mark.parametrize(
    ("day_range", "expected"),
    [
        ("0", "0"),
        ("0.005", "0.5"),
        ("0.01", "1"),
        ("0.06", "1"),
        ("0.105", "0.5"),
        ("0.15", "0"),
        ("0.3", "0"),
    ],
)
def test_volatility_fits_between_one_and_six_percent(day_range: str, expected: str) -> None:
    assert volatility_fit(D(day_range)) == D(expected)


@pytest.mark.parametrize(
    ("volume", "expected"), [("0", "0"), ("1000000", "0"), ("10000000", "0.5"), ("1e8", "1"), ("1e11", "1")]
)
def test_liquidity_grows_by_the_power_of_ten(volume: str, expected: str) -> None:
    assert liquidity(D(volume)) == D(expected)


@pytest.mark.parametrize(
    ("spread", "expected"), [("0", "1"), ("0.0005", "0.5"), ("0.001", "0"), ("0.01", "0")]
)
def test_a_spread_of_a_tenth_percent_is_worth_nothing(spread: str, expected: str) -> None:
    assert spread_fit(D(spread)) == D(expected)


@pytest.mark.parametrize(
    ("ratio", "expected"), [("0.5", "0"), ("1", "0"), ("2", "0.5"), ("3", "1"), ("9", "1")]
)
def test_a_reward_is_worth_something_above_one_only(ratio: str, expected: str) -> None:
    assert reward(D(ratio)) == D(expected)
