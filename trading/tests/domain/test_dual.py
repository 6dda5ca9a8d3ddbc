"""The market of the house account."""

import pytest

from trading.domain.dual import confidence, possible_markets, signal_range
from trading.domain.instrument import Market
from trading.tests.domain.samples import D

FUTURES, SPOT = Market.FUTURES, Market.SPOT


@pytest.mark.parametrize(
    ("score", "is_long", "span", "markets", "sure"),
    [
        ("0.80", True, "0.05", (FUTURES, SPOT), "0.9"),
        ("0.75", True, "0.05", (FUTURES, SPOT), "0.8"),
        ("0.75", False, "0.05", (FUTURES,), "0.7"),
        ("0.70", False, "0.03", (FUTURES,), "0.7"),
        ("0.70", False, "0.12", (FUTURES,), "0.7"),
        ("0.90", True, "0.02", (SPOT,), "0.8"),
        ("0.65", True, "0.15", (SPOT,), "0.8"),
        ("0.95", True, "0.13", (SPOT,), "0.8"),
    ],
)
def test_futures_are_preferred_where_they_fit(
    score: str, is_long: bool, span: str, markets: tuple[Market, ...], sure: str
) -> None:
    found = possible_markets(score=D(score), is_long=is_long, span=D(span))
    assert (found, confidence(found, D(score))) == (markets, D(sure))


@pytest.mark.parametrize(
    ("score", "is_long", "span"),
    [("0.64", True, "0.05"), ("0.69", False, "0.05"), ("0.9", False, "0.13"), ("0.9", True, "0.151")],
)
def test_a_signal_may_fit_no_market(score: str, is_long: bool, span: str) -> None:
    assert possible_markets(score=D(score), is_long=is_long, span=D(span)) == ()


def test_the_range_is_that_of_the_signal() -> None:
    assert signal_range(entry_price=D(100), stop_price=D(98), take_profit_price=D(104)) == D("0.06")
