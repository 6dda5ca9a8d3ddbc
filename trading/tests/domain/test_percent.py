"""The three ratios and the desk's own figures from the reports (V4 to V8)."""

import pytest

from trading.domain.percent import (
    available,
    distance_to_stop,
    equity,
    equity_ratio,
    from_percent,
    is_crossed,
    price_at,
    price_move,
    profit,
    roe,
    to_percent,
)
from trading.tests.domain.samples import D


@pytest.mark.parametrize(
    ("quantity", "entry", "notional", "mark", "move_pct", "profit_usdt", "roe_pct"),
    [
        ("446.03", "2.224", "1000.45", "2.24301", "-0.855", "-8.479", "-1.710"),
        ("75.87", "13.184", "1002.47", "13.2130", "-0.220", "-2.200", "-0.440"),
    ],
    ids=["V4 ATOM", "V5 LINK"],
)
def test_a_short_of_the_reports_is_told_in_its_own_units(
    quantity: str, entry: str, notional: str, mark: str, move_pct: str, profit_usdt: str, roe_pct: str
) -> None:
    mark_price = D(notional) / D(quantity)
    move = price_move(is_long=False, entry_price=D(entry), price=mark_price)
    gained = profit(is_long=False, quantity=D(quantity), entry_price=D(entry), price=mark_price)
    assert mark_price.quantize(D(mark)) == D(mark)
    assert to_percent(move).quantize(D("0.001")) == D(move_pct)
    assert gained.quantize(D("0.001")) == D(profit_usdt)
    assert to_percent(roe(move, D(2))).quantize(D("0.001")) == D(roe_pct)


def test_v4_the_stop_at_1_20_percent_was_not_crossed() -> None:
    stop = price_at(is_long=False, entry_price=D("2.224"), move=D("-0.012"))
    mark = D("1000.45") / D("446.03")
    assert stop.quantize(D("0.00001")) == D("2.25069")
    assert not is_crossed(is_long=False, mark_price=mark, stop_price=stop)


def test_v6_equity_and_available_of_the_account() -> None:
    wallet, unrealized, margin = D("10056.84"), D("-10.32"), D("1000.99")
    assert equity(wallet=wallet, unrealized=unrealized) == D("10046.52")
    assert available(wallet=wallet, unrealized=unrealized, margin_used=margin) == D("9045.53")


@pytest.mark.parametrize(
    ("quantity", "entry", "profit_usdt", "stop", "mark", "move_pct"),
    [
        ("2.17", "896.80", "-20.67", "914.74", "906.325", "-1.062"),
        ("0.013", "91508.90", "-11.79", "93339.10", "92415.8", "-0.991"),
    ],
    ids=["V7 BNB", "V8 BTC"],
)
def test_a_stop_of_the_reports_had_not_been_reached(
    quantity: str, entry: str, profit_usdt: str, stop: str, mark: str, move_pct: str
) -> None:
    mark_price = D(entry) - D(profit_usdt) / D(quantity)
    move = price_move(is_long=False, entry_price=D(entry), price=mark_price)
    assert mark_price.quantize(D(mark)) == D(mark)
    assert to_percent(move).quantize(D("0.001")) == D(move_pct)
    assert not is_crossed(is_long=False, mark_price=mark_price, stop_price=D(stop))


@pytest.mark.parametrize(
    ("is_long", "mark", "stop", "distance", "crossed"),
    [
        (True, "100", "99", "0.01", False),
        (True, "99", "99", "0", True),
        (True, "98", "99", "-0.0102", True),
        (False, "100", "101", "0.01", False),
        (False, "101", "101", "0", True),
    ],
)
def test_the_distance_to_the_stop_is_not_positive_exactly_when_it_is_crossed(
    is_long: bool, mark: str, stop: str, distance: str, crossed: bool
) -> None:
    found = distance_to_stop(is_long=is_long, mark_price=D(mark), stop_price=D(stop))
    assert found.quantize(D("0.0001")) == D(distance)
    assert is_crossed(is_long=is_long, mark_price=D(mark), stop_price=D(stop)) is crossed
    assert (found <= 0) is crossed


def test_without_equity_there_is_no_equity_ratio() -> None:
    assert equity_ratio(D(-5), D(0)) is None
    assert equity_ratio(D(-5), D(1000)) == D("-0.005")


def test_percent_is_the_inverse_at_the_edge() -> None:
    assert from_percent(to_percent(D("0.012"))) == D("0.012")
