from datetime import timedelta
from decimal import Decimal
from typing import Never

import pytest
from django.db import transaction
from redis import Redis

from accounts.services import gateways
from exchange.errors import ReadFailed
from exchange.marks import MarkBoard
from exchange.port import Market, MarkPrice
from tests.processes import PaperExchange
from trading.services import candles, hours, market
from trading.tests.services.journey import BTC, ETH, fit_accounts, now

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("paper_exchange")]

HOURS = 300
HOURLY = ("close", "ema50", "ema200", "adx14", "atr14", "range_24h", "volatility", "regime")


def published(redis: Redis, price: str, *, age_seconds: float) -> None:
    mark = MarkPrice(BTC, Decimal(price), now() - timedelta(seconds=age_seconds))
    MarkBoard(redis, Market.FUTURES).publish([mark])


def test_a_mark_on_the_board_is_taken_as_it_is(redis: Redis) -> None:
    published(redis, "1.5", age_seconds=1)
    assert market.marks([BTC], now())[BTC].mark_price == Decimal("1.5")


def test_an_old_mark_is_asked_for_again_at_the_exchange_and_put_on_the_board(redis: Redis) -> None:
    published(redis, "1.5", age_seconds=3.5)
    asked = market.marks([BTC], now())[BTC]
    assert asked.mark_price > 1000
    assert MarkBoard(redis, Market.FUTURES).read([BTC])[BTC].mark_price == asked.mark_price


def test_a_symbol_nobody_lists_has_no_mark(redis: Redis) -> None:
    assert market.marks(["NOSUCH/USDT:USDT"], now()) == {}


def test_candles_are_closed_ones_in_order_and_read_once_an_hour(
    redis: Redis, paper_exchange: PaperExchange
) -> None:
    at = now()
    first = candles.candles(BTC, "1h", HOURS, at)
    assert len(first) == HOURS
    assert all(candle.closed_at <= at for candle in first)
    assert [one.opened_at for one in first] == sorted(one.opened_at for one in first)
    assert at - first[-1].closed_at < timedelta(hours=1)
    paper_exchange.process.pause()
    try:
        assert candles.candles(BTC, "1h", HOURS, at) == first
    finally:
        paper_exchange.process.resume()


def test_candles_of_an_hour_that_is_over_are_not_served_as_the_newest(redis: Redis) -> None:
    candles.candles(BTC, "1h", HOURS, now())
    later = now() + timedelta(hours=1)
    assert candles._kept(BTC, "1h", HOURS, later) is None


def test_a_longer_history_than_kept_is_read_anew(redis: Redis) -> None:
    candles.candles(BTC, "1h", 50, now())
    assert len(candles.candles(BTC, "1h", HOURS, now())) == HOURS


def test_a_symbol_without_candles_fails_and_is_left_out_among_others(redis: Redis) -> None:
    with pytest.raises(ReadFailed):
        candles.candles("NOSUCH/USDT:USDT", "1h", HOURS, now())
    assert set(candles.candles_of([BTC, "NOSUCH/USDT:USDT"], "1h", HOURS, now())) == {BTC}


def test_every_figure_has_its_source_and_a_missing_one_its_name(redis: Redis) -> None:
    at = now()
    seen = market.figures([BTC], at)[BTC]
    assert seen.missing == ("depth_notional",)
    inputs = seen.as_inputs(at)
    assert {name: one["source"] for name, one in inputs.items() if name != "missing"} == {
        **dict.fromkeys(("mark_price", "funding_rate", "next_funding_at"), "mark stream"),
        **dict.fromkeys(("bid", "ask", "spread", "quote_volume_24h"), "24 h ticker"),
        **dict.fromkeys(HOURLY, "closed 1 h candles"),
    }
    assert inputs["missing"] == ["depth_notional"]
    assert seen.spread is not None
    assert 0 < seen.spread < Decimal("0.002")
    deep = market.figures([BTC], at, with_depth=True)[BTC]
    assert deep.missing == ()
    assert deep.depth_notional is not None
    assert deep.depth_notional > 0


def test_a_market_that_does_not_answer_leaves_figures_empty_and_never_zero(redis: Redis) -> None:
    unknown = market.figures(["NOSUCH/USDT:USDT"], now())["NOSUCH/USDT:USDT"]
    assert set(unknown.missing) == {
        name for name in market.MarketFigures.__dataclass_fields__ if name not in {"symbol", "seen"}
    }


def test_a_market_moves_exactly_with_itself_and_little_is_known_of_strangers(redis: Redis) -> None:
    found = hours.correlations(BTC, {BTC, ETH, "NOSUCH/USDT:USDT"}, now())
    assert found[BTC] == 1
    assert found["NOSUCH/USDT:USDT"] is None
    together = found[ETH]
    assert together is not None
    assert -1 < together < 1


def test_instruments_know_their_filters_and_brackets() -> None:
    bitcoin = market.instruments(Market.FUTURES)[BTC]
    assert (bitcoin.base, bitcoin.quote, bitcoin.market) == ("BTC", "USDT", "futures")
    assert bitcoin.tick > 0
    assert bitcoin.step > 0
    spot = market.symbol_on(BTC, Market.SPOT)
    assert spot == "BTC/USDT"
    assert market.instruments(Market.SPOT)[spot].brackets == ()


class Silent:
    """An exchange that does not answer, and remembers how often it was asked."""

    asked = 0

    async def fetch_instruments(self) -> Never:
        self.asked += 1
        raise ReadFailed("TIMEOUT", "silent")


def test_a_table_that_cannot_be_refreshed_is_asked_once_and_never_in_a_transaction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    listing, silent, seconds = market.Listing(Market.FUTURES), Silent(), [1_000.0]
    monkeypatch.setattr(market, "monotonic", lambda: seconds[0])
    known = listing.current().instruments
    monkeypatch.setattr(market, "market_data", lambda _: silent)
    seconds[0] += 3601
    listing.current()
    with transaction.atomic():
        assert all(listing.current().instruments == known for _ in range(50))
    assert silent.asked == 1
    seconds[0] += 31
    assert listing.current().instruments == known
    assert silent.asked == 2


def test_a_process_without_keys_knows_the_brackets_that_one_with_keys_has_read(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit_accounts(1)
    with_keys = market.Listing(Market.FUTURES).current()
    keyless = gateways.gateways().factory("binance").market_data(Market.FUTURES, None)
    monkeypatch.setattr(market, "market_data", lambda _market: keyless)
    web = market.Listing(Market.FUTURES).current()
    assert web.instruments[BTC].brackets
    assert web.instruments == with_keys.instruments
    redis.delete(market.BRACKETS_KEY)
    assert not market.Listing(Market.FUTURES).current().instruments[BTC].brackets, "nothing is made up"
