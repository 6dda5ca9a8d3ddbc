"""The market of the house account."""

import pytest

from trading.domain.dual import choose_market, signal_range
from trading.domain.instrument import Market
from trading.domain.states import SkipCode
from trading.tests.domain.samples import D

RICH = {Market.FUTURES: True, Market.SPOT: True}


@pytest.mark.parametrize(
    ("score", "is_long", "span", "market", "confidence"),
    [
        ("0.80", True, "0.05", Market.FUTURES, "0.9"),
        ("0.75", True, "0.05", Market.FUTURES, "0.8"),
        ("0.75", False, "0.05", Market.FUTURES, "0.7"),
        ("0.70", False, "0.03", Market.FUTURES, "0.7"),
        ("0.70", False, "0.12", Market.FUTURES, "0.7"),
        ("0.90", True, "0.02", Market.SPOT, "0.8"),
        ("0.65", True, "0.15", Market.SPOT, "0.8"),
        ("0.95", True, "0.13", Market.SPOT, "0.8"),
    ],
)
def test_futures_are_preferred_where_they_fit(
    score: str, is_long: bool, span: str, market: Market, confidence: str
) -> None:
    found = choose_market(score=D(score), is_long=is_long, span=D(span), has_wallet=RICH)
    assert (found.market, found.confidence, found.skipped) == (market, D(confidence), None)


@pytest.mark.parametrize(
    ("score", "is_long", "span"),
    [("0.64", True, "0.05"), ("0.69", False, "0.05"), ("0.9", False, "0.13"), ("0.9", True, "0.151")],
)
def test_a_signal_that_fits_no_market_is_skipped(score: str, is_long: bool, span: str) -> None:
    found = choose_market(score=D(score), is_long=is_long, span=D(span), has_wallet=RICH)
    assert (found.market, found.confidence, found.skipped) == (None, None, SkipCode.NO_MARKET)


def test_a_short_wallet_moves_to_the_other_possible_market_with_the_same_confidence() -> None:
    only_spot = {Market.FUTURES: False, Market.SPOT: True}
    found = choose_market(score=D("0.85"), is_long=True, span=D("0.05"), has_wallet=only_spot)
    assert (found.market, found.confidence) == (Market.SPOT, D("0.9"))
    short = choose_market(score=D("0.85"), is_long=False, span=D("0.05"), has_wallet=only_spot)
    assert (short.market, short.skipped) == (None, SkipCode.NO_WALLET)


def test_the_range_is_that_of_the_signal() -> None:
    assert signal_range(entry_price=D(100), stop_price=D(98), take_profit_price=D(104)) == D("0.06")
