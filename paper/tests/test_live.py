"""The live feed, with another paper exchange as the market it reads."""

import time
from collections.abc import Iterator

import pytest

from paper.tests.conftest import StartServer, launch
from paper.tests.wire import Wire

SYMBOLS = "BTCUSDT,SOLUSDT"


@pytest.fixture(scope="module")
def market() -> Iterator[Wire]:
    """What stands for the real market: BTC at 100000."""
    market = launch("--weight-limit", "0", "--symbols", SYMBOLS)
    market.pin("BTCUSDT", "100000")
    yield market
    market.stop()


@pytest.fixture(scope="module")
def live(market: Wire) -> Iterator[Wire]:
    """An exchange on today's prices of that market."""
    wire = launch("--weight-limit", "0", "--feed", "live", "--live-url", market.url, "--symbols", SYMBOLS)
    yield wire
    wire.stop()


def mark(wire: Wire, symbol: str = "BTCUSDT") -> str:
    return str(wire.send("GET", f"/fapi/v1/premiumIndex?symbol={symbol}").json["markPrice"])


def wait_for_mark(wire: Wire, wanted: str) -> None:
    end = time.monotonic() + 5
    while mark(wire) != wanted:
        assert time.monotonic() < end, mark(wire)
        time.sleep(0.05)


def test_orders_fill_at_the_markets_prices_and_stops_follow_them(live: Wire, market: Wire) -> None:
    assert mark(live) == "100000.00000000"
    assert live.market("dana", "BUY", "0.01", newClientOrderId="one").json["status"] == "FILLED"
    bought = live.signed("dana", "GET", "/fapi/v1/order", symbol="BTCUSDT", origClientOrderId="one").json
    assert bought["avgPrice"] == "100005.00"
    live.stop_order("dana", "99000", clientAlgoId="guard")
    market.pin("BTCUSDT", "98000")
    wait_for_mark(live, "98000.00000000")
    assert live.signed("dana", "GET", "/fapi/v3/positionRisk").json == []


def test_the_past_is_the_markets(live: Wire, market: Wire) -> None:
    for path in (
        "/fapi/v1/klines?symbol=SOLUSDT&interval=1h&limit=30",
        "/fapi/v1/klines?symbol=SOLUSDT&interval=15m&limit=30",
    ):
        theirs, ours = (wire.send("GET", path).json for wire in (market, live))
        assert [row[:6] for row in ours[:-1]] == [row[:6] for row in theirs[:-1]]
    theirs, ours = (
        wire.send("GET", "/fapi/v1/fundingRate?symbol=SOLUSDT&limit=5").json for wire in (market, live)
    )
    assert ours == theirs


def test_a_market_that_falls_silent_leaves_prices_where_they_were(live: Wire, market: Wire) -> None:
    before = mark(live)
    market.stop()
    time.sleep(1.2)
    assert mark(live) == before == "98000.00000000"
    assert live.market("dana", "BUY", "0.01").json["status"] == "FILLED"


def test_without_a_market_it_does_not_start(start_server: StartServer) -> None:
    with pytest.raises(pytest.fail.Exception, match="did not start"):
        start_server("--feed", "live", "--live-url", "http://127.0.0.1:9", "--symbols", "BTCUSDT")
