"""The exchange's clock: measured, applied, measured again when a request was refused for its time."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from exchange.budget import wall_ms
from exchange.credentials import Credentials
from exchange.errors import ReadFailed, Throttled
from exchange.factory import GatewayFactory
from exchange.futures_gateway import FuturesGateway
from exchange.port import Market
from exchange.tests.conftest import Asked, RecordedVenue
from exchange.tests.orders import BTC, entry

TIME, POSITIONS, PLACE = "GET /fapi/v1/time", "GET /fapi/v3/positionRisk", "POST /fapi/v1/order"
LEVERAGE = "POST /fapi/v1/leverage"


@pytest.fixture
def futures(factory: GatewayFactory, keys: Credentials) -> FuturesGateway:
    return factory.for_account(keys, Market.FUTURES)


class Skewed:
    """A venue whose clock is `ahead_ms` of ours, and which refuses what is out of its window."""

    def __init__(self, venue: RecordedVenue) -> None:
        self.ahead_ms = 0
        self.told = asyncio.Event()
        venue.answer(TIME, self.tell)
        for call, body in ((POSITIONS, []), (LEVERAGE, {}), (PLACE, {"code": -2019, "msg": "No margin."})):
            venue.answer(call, self.checked(body))

    def now_ms(self) -> int:
        return wall_ms() + self.ahead_ms

    def tell(self, _: Asked) -> dict[str, int]:
        self.told.set()
        return {"serverTime": self.now_ms()}

    def checked(self, body: Any) -> Callable[[Asked], Any]:
        def answer(asked: Asked) -> Any:
            late_ms = self.now_ms() - int(asked.params["timestamp"])
            return body if -1000 < late_ms <= 5000 else {"code": -1021, "msg": "Timestamp outside."}

        return answer


@pytest.fixture
def skewed(venue: RecordedVenue) -> Skewed:
    return Skewed(venue)


async def test_the_clock_is_measured_before_the_first_signature(
    venue: RecordedVenue, skewed: Skewed, futures: FuturesGateway
) -> None:
    skewed.ahead_ms = -60_000

    assert await futures.fetch_positions() == []
    assert len(venue.asked_for(POSITIONS)) == 1
    assert abs(futures.timestamp_ms() - skewed.now_ms()) < 500


@pytest.mark.parametrize("ahead_ms", [-4_000, 30_000])
async def test_a_read_refused_for_its_time_is_asked_again_once_by_the_clock_measured_anew(
    venue: RecordedVenue, skewed: Skewed, futures: FuturesGateway, ahead_ms: int
) -> None:
    await futures.fetch_positions()
    older(futures)
    skewed.ahead_ms = ahead_ms

    assert await futures.fetch_positions() == []
    assert len(venue.asked_for(POSITIONS)) == 1 + 2
    assert await futures.fetch_positions() == []
    assert len(venue.asked_for(POSITIONS)) == 1 + 2 + 1


async def test_a_setting_refused_for_its_time_is_asked_again(
    venue: RecordedVenue, skewed: Skewed, futures: FuturesGateway
) -> None:
    await futures.fetch_positions()
    older(futures)
    skewed.ahead_ms = 30_000

    await futures.set_leverage(BTC, 3)
    assert len(venue.asked_for(LEVERAGE)) == 2


async def test_an_order_refused_for_its_time_is_refused_and_the_next_signature_is_right(
    venue: RecordedVenue, skewed: Skewed, futures: FuturesGateway
) -> None:
    await futures.fetch_positions()
    older(futures)
    skewed.ahead_ms = 30_000

    with pytest.raises(Throttled) as refused:
        await futures.submit_order(entry(timestamp_ms=futures.timestamp_ms()))
    assert refused.value.code == "-1021"
    assert len(venue.asked_for(PLACE)) == 1
    assert abs(futures.timestamp_ms() - skewed.now_ms()) < 500


async def test_who_is_refused_together_measures_once(
    venue: RecordedVenue, skewed: Skewed, futures: FuturesGateway
) -> None:
    await futures.fetch_positions()
    older(futures)
    measured = len(venue.asked_for(TIME))
    skewed.ahead_ms = 30_000

    await asyncio.gather(*(futures.fetch_positions() for _ in range(20)))
    assert len(venue.asked_for(TIME)) == measured + 1


async def test_a_read_that_stays_refused_is_a_failed_read_after_two_tries(
    venue: RecordedVenue, futures: FuturesGateway
) -> None:
    venue.refuse(POSITIONS, -1021, "Timestamp for this request is outside of the recvWindow.")

    with pytest.raises(ReadFailed) as failed:
        await futures.fetch_positions()
    assert failed.value.code == "-1021"
    assert len(venue.asked_for(POSITIONS)) == 2


async def test_a_clock_that_is_not_told_stays_as_it_was(
    venue: RecordedVenue, skewed: Skewed, futures: FuturesGateway
) -> None:
    skewed.ahead_ms = 30_000
    await futures.fetch_positions()
    venue.answer(TIME, "<html>", 502)
    older(futures)
    with pytest.raises(ReadFailed):
        await futures.fetch_clock_offset_ms()

    assert await futures.fetch_positions() == []
    assert abs(futures.timestamp_ms() - skewed.now_ms()) < 500


async def test_the_clock_is_measured_again_after_a_minute_beside_what_is_asked(
    venue: RecordedVenue, skewed: Skewed, futures: FuturesGateway
) -> None:
    await futures.fetch_positions()
    measured = len(venue.asked_for(TIME))
    await futures.fetch_positions()
    assert len(venue.asked_for(TIME)) == measured

    skewed.told.clear()
    older(futures)
    await futures.fetch_positions()
    async with asyncio.timeout(5):
        await skewed.told.wait()


async def test_of_slow_trips_the_shortest_is_believed(venue: RecordedVenue, futures: FuturesGateway) -> None:
    waits = [0.6, 0.3, 0.6]

    async def slow(_: Asked) -> dict[str, int]:
        told = {"serverTime": wall_ms()}
        await asyncio.sleep(waits.pop(0) if waits else 0)
        return told

    await futures.symbol_reader()
    venue.answer(TIME, slow)
    assert -200 < await futures.fetch_clock_offset_ms() < -100


def older(futures: FuturesGateway) -> None:
    """A minute later, as far as the clock is concerned."""
    clock = futures._connection.clock
    clock._measured_at -= 61
    clock._due_at -= 61
