from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from exchange.port import Candle
from trading.services.indicators import hourly_returns, indicators

START = datetime(2026, 1, 1, tzinfo=UTC)


def hours(closes: list[str], start: datetime = START) -> list[Candle]:
    return [
        Candle(
            opened_at=start + timedelta(hours=index),
            closed_at=start + timedelta(hours=index + 1, milliseconds=-1),
            open=Decimal(close),
            high=Decimal(close) + 1,
            low=Decimal(close) - 1,
            close=Decimal(close),
            volume=Decimal(10),
        )
        for index, close in enumerate(closes)
    ]


def test_averages_of_a_flat_market_are_its_price() -> None:
    values = indicators(hours(["100"] * 250))
    assert (values.ema50, values.ema200, values.atr14) == (Decimal(100), Decimal(100), Decimal(2))


def test_a_short_history_has_no_long_average_and_says_so_by_none() -> None:
    values = indicators(hours(["100"] * 199))
    assert values.ema50 == Decimal(100)
    assert values.ema200 is None


def test_the_day_range_is_high_less_low_of_24_hours_by_the_last_close() -> None:
    values = indicators(hours(["500"] + ["100"] * 23 + ["104"]))
    assert values.range_24h == Decimal(6) / Decimal(104)


def test_23_hours_are_no_day() -> None:
    assert indicators(hours(["100"] * 23)).range_24h is None


def test_no_candles_give_no_figure_at_all() -> None:
    values = indicators([])
    assert {
        values.at,
        values.close,
        values.ema50,
        values.ema200,
        values.adx14,
        values.atr14,
        values.range_24h,
    } == {None}


def test_a_return_is_taken_only_between_hours_that_follow_one_another() -> None:
    before = hours(["100", "110"])
    after_gap = hours(["200", "220"], START + timedelta(hours=5))
    returns = hourly_returns(before + after_gap)
    assert set(returns) == {START + timedelta(hours=1), START + timedelta(hours=6)}
    assert returns[START + timedelta(hours=1)] == pytest.approx(0.0953101798)
