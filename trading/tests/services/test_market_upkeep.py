"""Closed hours worked out ahead of need, and figures with their true age."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from redis import Redis

from exchange.port import Candle
from tests.processes import PaperExchange
from trading.domain.market import Regime
from trading.services import candles, hours, market, market_upkeep
from trading.services.indicators import regime_figures
from trading.tests.services.journey import BTC, ETH, SOL, a_position, a_signal, fit_accounts, now

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("paper_exchange")]


def test_watched_are_what_is_held_and_what_signals_ask_for_the_best_first(redis: Redis) -> None:
    (account,) = fit_accounts(1)
    a_position(account, SOL)
    a_signal(ETH, score="0.7")
    a_signal(BTC, score="0.9")
    assert market_upkeep.watched() == [SOL, BTC, ETH]


def test_an_hour_is_worked_out_once_and_then_asks_nothing(
    redis: Redis, paper_exchange: PaperExchange
) -> None:
    a_signal(BTC)
    at = now()
    assert market_upkeep.keep_fresh(at) == 1
    assert market_upkeep.keep_fresh(at) == 0
    redis.delete(f"desk:candles:{BTC}:1h")
    paper_exchange.process.pause()
    try:
        known = hours.hours_of([BTC], at)[BTC]
    finally:
        paper_exchange.process.resume()
    assert known.values.at is not None
    assert timedelta(0) <= at - known.values.at < timedelta(hours=1)
    assert known.regime is not None
    assert len(known.returns) == 168
    assert known == hours.worked_out(candles.candles(BTC, "1h", hours.HOURS_READ, at))


def test_hours_that_could_not_be_renewed_are_no_figures(redis: Redis) -> None:
    later = now() + timedelta(hours=3)
    assert hours.hours_of([BTC], later) == {}
    assert {"close", "ema200", "regime"} <= set(market.figures([BTC], later)[BTC].missing)


def test_a_ticker_read_by_another_tells_its_own_age(redis: Redis) -> None:
    at = now()
    market.figures([BTC], at, with_depth=True)
    later = at + timedelta(seconds=3)
    seen = market.figures([BTC], later, with_depth=True)[BTC].as_inputs(later)
    assert [seen[name]["age_seconds"] for name in ("spread", "quote_volume_24h", "depth_notional")] == [
        3,
        3,
        3,
    ]


def test_volume_times_close_stands_in_for_a_quote_volume_nobody_tells(redis: Redis) -> None:
    week = candles.candles(BTC, "1h", hours.HOURS_READ, now())
    silent = [replace(one, quote_volume=None) for one in week]
    expected = sum((one.volume * one.close for one in week[-24:]), Decimal(0))
    assert hours.worked_out(silent).quote_volume_24h == expected
    assert hours.worked_out(silent[-23:]).quote_volume_24h is None


def flat(count: int, *, last_move: str = "0", reach: str = "0.02") -> list[Candle]:
    """Hours around 100 whose ranges are wide and whose closes hardly move, the last 20 by so much in all."""
    opened, step = (
        now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=count),
        timedelta(hours=1),
    )
    made = []
    for number in range(count):
        drift = Decimal(last_move) * max(0, number - (count - 21)) / 20
        close = Decimal(100) * (1 + drift) + (Decimal("0.01") if number % 2 else 0)
        at = opened + number * step
        made.append(
            Candle(
                at,
                at + step,
                close,
                close * (1 + Decimal(reach)),
                close * (1 - Decimal(reach)),
                close,
                Decimal(1),
            )
        )
    return made


def test_quiet_closes_inside_wide_ranges_are_a_squeeze() -> None:
    squeezed = regime_figures(flat(200))
    assert squeezed is not None
    assert squeezed.is_squeezed
    assert squeezed.move_20 == 0
    moved = regime_figures(flat(200, last_move="0.08", reach="0.001"))
    assert moved is not None
    assert not moved.is_squeezed
    assert moved.move_20 == pytest.approx(Decimal("0.08"), abs=Decimal("0.001"))
    assert hours.worked_out(flat(200, last_move="0.08", reach="0.001")).regime is Regime.BULL


def test_a_short_history_has_no_regime() -> None:
    assert regime_figures(flat(28)) is None
    assert hours.worked_out([]).regime is None
