from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from exchange.credentials import Credentials
from exchange.errors import ReadFailed
from exchange.factory import GatewayFactory
from exchange.port import Candle, Market, MarkPrice, Ticker
from exchange.tests.conftest import RecordedVenue
from exchange.tests.recorded import FUTURES_INFO, futures_symbol

BTC = "BTC/USDT:USDT"


def at(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=milliseconds)


async def test_instruments_carry_the_venues_own_filters(factory: GatewayFactory) -> None:
    instruments = {
        item.symbol: item for item in await factory.market_data(Market.FUTURES).fetch_instruments()
    }

    btc = instruments[BTC]
    assert (btc.tick, btc.step, btc.min_notional) == (Decimal("0.10"), Decimal("0.001"), Decimal(50))
    assert (btc.max_quantity, btc.max_market_quantity) == (Decimal(1000), Decimal(120))
    assert (btc.venue_symbol, btc.is_trading, btc.delivery_at, btc.brackets) == ("BTCUSDT", True, None, ())
    assert sorted(instruments) == sorted([BTC, "ETH/USDT:USDT", "LINK/USDT:USDT", "SOL/USDT:USDT"])


async def test_a_market_that_settles_or_only_shrinks_is_closed_to_entries(factory: GatewayFactory) -> None:
    instruments = {
        item.symbol: item for item in await factory.market_data(Market.FUTURES).fetch_instruments()
    }

    assert instruments["LINK/USDT:USDT"].is_trading is False
    assert instruments["LINK/USDT:USDT"].delivery_at == at(1789600000000)
    assert instruments["SOL/USDT:USDT"].is_trading is False


async def test_a_spot_market_without_a_market_maximum_has_the_general_one(factory: GatewayFactory) -> None:
    btc, _ = await factory.market_data(Market.SPOT).fetch_instruments()

    assert (btc.symbol, btc.min_notional, btc.max_market_quantity) == ("BTC/USDT", Decimal(5), Decimal(9000))


async def test_an_accounts_keys_add_the_brackets(
    venue: RecordedVenue, factory: GatewayFactory, keys: Credentials
) -> None:
    step = {
        "bracket": 1,
        "initialLeverage": 125,
        "notionalCap": 50000,
        "notionalFloor": 0,
        "maintMarginRatio": 0.004,
    }
    venue.answer("GET /fapi/v1/leverageBracket", [{"symbol": "BTCUSDT", "brackets": [step]}])

    instruments = await factory.market_data(Market.FUTURES, keys).fetch_instruments()

    assert [bracket.max_leverage for bracket in instruments[0].brackets] == [125]


async def test_a_market_listed_later_is_known_to_clones_made_before(
    venue: RecordedVenue, factory: GatewayFactory, keys: Credentials
) -> None:
    gateway = factory.for_account(keys, Market.FUTURES)
    with pytest.raises(ReadFailed) as unknown:
        await gateway.fetch_order("DOGE/USDT:USDT", "phx1", is_conditional=False)
    assert unknown.value.code == "LOCAL_SYMBOL"

    symbols: Any = FUTURES_INFO["symbols"]
    venue.answer("GET /fapi/v1/exchangeInfo", {**FUTURES_INFO, "symbols": [*symbols, futures_symbol("DOGE")]})
    await factory.market_data(Market.FUTURES).fetch_instruments()
    venue.refuse("GET /fapi/v1/order", -2013)

    assert await gateway.fetch_order("DOGE/USDT:USDT", "phx1", is_conditional=False) is None


async def test_the_market_table_is_read_once_whoever_asks(
    venue: RecordedVenue, factory: GatewayFactory
) -> None:
    await factory.warm_up()
    venue.answer("GET /fapi/v3/positionRisk", [])
    for number in range(5):
        await factory.for_account(Credentials(f"k{number}", "s"), Market.FUTURES).fetch_positions()

    assert len(venue.asked_for("GET /fapi/v1/exchangeInfo")) == 1
    assert len(venue.asked_for("GET /api/v3/exchangeInfo")) == 1
    assert {asked.path for asked in venue.asked if asked.key is None} == {
        "/fapi/v1/exchangeInfo",
        "/api/v3/exchangeInfo",
        "/fapi/v1/time",
        "/api/v3/time",
    }


async def test_marks_come_with_their_funding_and_their_own_time(
    venue: RecordedVenue, factory: GatewayFactory
) -> None:
    row = {
        "symbol": "BTCUSDT",
        "markPrice": "92415.80000000",
        "indexPrice": "92410.1",
        "lastFundingRate": "-0.00010000",
        "interestRate": "0.0001",
        "nextFundingTime": 1789027200000,
        "time": 1789000000000,
    }
    venue.answer("GET /fapi/v1/premiumIndex", [row])

    assert await factory.market_data(Market.FUTURES).fetch_mark_prices() == [
        MarkPrice(BTC, Decimal("92415.8"), at(1789000000000), Decimal("-0.0001"), at(1789027200000))
    ]


async def test_the_last_candle_is_the_forming_one_and_closing_is_the_next_opening(
    venue: RecordedVenue, factory: GatewayFactory
) -> None:
    minute = [60_000, "1", "3", "0.5", "2", "10", 119_999, "20", 5, "4", "8", "0"]
    venue.answer("GET /fapi/v1/klines", [minute, [120_000, *minute[1:6], 179_999, *minute[7:]]])

    closed, forming = await factory.market_data(Market.FUTURES).fetch_candles(BTC, "1m", 2)

    assert closed == Candle(
        at(60_000), at(120_000), Decimal(1), Decimal(3), Decimal("0.5"), Decimal(2), Decimal(10), Decimal(20)
    )
    assert forming.closed_at == at(180_000)
    (asked,) = venue.asked_for("GET /fapi/v1/klines")
    assert asked.params == {"symbol": "BTCUSDT", "interval": "1m", "limit": "2"}


async def test_tickers_take_their_best_prices_from_the_book(
    venue: RecordedVenue, factory: GatewayFactory
) -> None:
    venue.answer(
        "GET /fapi/v1/ticker/24hr", [{"symbol": "BTCUSDT", "lastPrice": "92400", "quoteVolume": "1e9"}]
    )
    book = {"symbol": "BTCUSDT", "bidPrice": "92399.9", "bidQty": "1", "askPrice": "92400.1", "askQty": "1"}
    venue.answer("GET /fapi/v1/ticker/bookTicker", [book])

    assert await factory.market_data(Market.FUTURES).fetch_tickers() == [
        Ticker(BTC, Decimal(92400), Decimal("1e9"), Decimal("92399.9"), Decimal("92400.1"))
    ]


async def test_depth_is_the_thinner_side_within_the_fraction(
    venue: RecordedVenue, factory: GatewayFactory
) -> None:
    bids = [["99.9", "2"], ["99.4", "100"]]
    asks = [["100.1", "3"], ["100.5", "1"], ["100.6", "100"]]
    venue.answer("GET /fapi/v1/depth", {"lastUpdateId": 1, "bids": bids, "asks": asks})

    assert await factory.market_data(Market.FUTURES).fetch_depth_quote(BTC, Decimal("0.005")) == Decimal(
        "199.8"
    )


@pytest.mark.parametrize("body", ["", "[", "{}", [{"symbol": "BTCUSDT"}]])
async def test_unreadable_market_data_is_a_failed_read(
    venue: RecordedVenue, factory: GatewayFactory, body: object
) -> None:
    venue.answer("GET /fapi/v1/premiumIndex", body)

    with pytest.raises(ReadFailed):
        await factory.market_data(Market.FUTURES).fetch_mark_prices()
