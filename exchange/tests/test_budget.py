"""The budget on a real Valkey: what is counted, who goes first, who is stopped, what happens without it."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from exchange.budget import (
    SHARES,
    Priority,
    RateBudget,
    already_taken,
    current_priority,
    priority,
    spend_taken,
)
from exchange.errors import Throttled, VenueUnavailable
from tests.processes import Valkey

LIMIT = 100


@pytest.fixture
async def shared(redis: Redis, valkey: Valkey) -> AsyncIterator[AsyncRedis]:
    client = AsyncRedis.from_url(valkey.url)
    yield client
    await client.aclose()


@pytest.fixture
async def early_in_a_minute(redis: Redis) -> None:
    """Windows are minutes of the server's clock: a test that straddles two would count twice."""
    seconds, _ = redis.time()
    if seconds % 60 > 55:
        await asyncio.sleep(61 - seconds % 60)


@pytest.fixture
async def budget(shared: AsyncRedis, early_in_a_minute: None) -> RateBudget:
    return RateBudget(shared, "binance", "here", weight_limit_per_minute=LIMIT)


async def taken(budget: RateBudget, wanted: Priority, weight: int = 1) -> int:
    """How much of a minute a priority gets."""
    total = 0
    try:
        while total < 2 * LIMIT:
            await budget.acquire(weight, wanted)
            total += weight
    except Throttled:
        return total
    return total


def scripts_run(redis: Redis) -> int:
    """How many scripts the server has run."""
    return int(redis.info("commandstats").get("cmdstat_eval", {}).get("calls", 0))


@pytest.mark.parametrize("wanted", [wanted for wanted in Priority if wanted is not Priority.EXIT])
async def test_each_priority_gets_its_share_of_a_minute_and_no_more(
    budget: RateBudget, wanted: Priority
) -> None:
    assert await taken(budget, wanted) == int(LIMIT * SHARES[wanted])


async def test_what_is_more_urgent_finds_room_after_everything_below_it(budget: RateBudget) -> None:
    got = [await taken(budget, wanted) for wanted in reversed(Priority) if wanted is not Priority.EXIT]

    assert got == [40, 15, 15, 15, 10]


async def test_an_exits_order_is_never_refused_for_want_of_room_and_its_reads_end_with_the_minute(
    budget: RateBudget,
) -> None:
    await taken(budget, Priority.PROTECTION)

    # Read on beyond the limit, the exchange would silence the address, and with it every exit's order.
    assert await taken(budget, Priority.EXIT) == LIMIT - 95
    for _ in range(LIMIT):
        await budget.acquire(1, Priority.EXIT, is_order=True)


@pytest.mark.parametrize("wanted", list(Priority))
async def test_an_order_without_weight_needs_no_room(
    shared: AsyncRedis, early_in_a_minute: None, wanted: Priority
) -> None:
    budget = RateBudget(shared, "binance", "here", weight_limit_per_minute=LIMIT, stop_check_seconds=0)
    await taken(budget, Priority.EXIT)
    await budget.acquire(LIMIT, Priority.EXIT, is_order=True)

    await budget.acquire(0, wanted, is_order=True)


async def test_a_chunk_of_orders_asks_once_and_gets_what_there_is_room_for(
    budget: RateBudget, redis: Redis
) -> None:
    asked = scripts_run(redis)

    got = [await budget.take(50, 1, wanted) for wanted in (*[Priority.ENTRY] * 3, Priority.EXIT)]
    assert got == [50, 20, 0, 50]
    assert scripts_run(redis) == asked + 4


async def test_what_is_asked_together_is_one_question_and_the_urgent_comes_first(
    budget: RateBudget, redis: Redis
) -> None:
    asked = scripts_run(redis)
    reports = [asyncio.create_task(budget.acquire(10, Priority.REPORT)) for _ in range(9)]
    protections = [asyncio.create_task(budget.acquire(10, Priority.PROTECTION)) for _ in range(9)]
    answers = await asyncio.gather(*reports, *protections, return_exceptions=True)

    assert [type(answer) for answer in answers] == [Throttled] * 9 + [type(None)] * 9
    assert scripts_run(redis) == asked + 1


async def test_who_stops_waiting_takes_nobody_along(budget: RateBudget) -> None:
    waiting = [asyncio.create_task(budget.acquire(1, Priority.ENTRY)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    answers = await asyncio.gather(*waiting, return_exceptions=True)

    assert [type(answer) for answer in answers] == [type(None), asyncio.CancelledError, type(None)]


async def test_a_refusal_tells_how_long_the_minute_still_is(budget: RateBudget) -> None:
    await taken(budget, Priority.REPORT)
    with pytest.raises(Throttled) as refused:
        await budget.acquire(1, Priority.REPORT)

    assert refused.value.code == "BUDGET"
    assert 0 < refused.value.retry_after_seconds <= 60


async def test_processes_of_one_address_share_it_and_another_address_does_not(
    budget: RateBudget, redis: Redis, shared: AsyncRedis
) -> None:
    twin = RateBudget(redis, "binance", "here", weight_limit_per_minute=LIMIT)
    elsewhere = RateBudget(shared, "binance", "there", weight_limit_per_minute=LIMIT)

    assert await taken(budget, Priority.REPORT) + await taken(twin, Priority.REPORT) == 40
    assert await taken(elsewhere, Priority.REPORT) == 40


async def test_what_the_exchange_counts_counts_for_us(budget: RateBudget) -> None:
    await budget.acquire(1, Priority.REPORT)
    budget.note_headers(38)

    assert await taken(budget, Priority.REPORT) == 2


@pytest.mark.parametrize("departed_ms", [59_990, 60_010])
async def test_what_was_told_of_the_last_minute_does_not_count_in_this_one(
    shared: AsyncRedis, departed_ms: int
) -> None:
    clock = [59_980]
    budget = RateBudget(shared, "binance", "there", weight_limit_per_minute=LIMIT)
    budget.follow(lambda: clock[0])
    budget.note_headers(98, budget.departure_ms())
    clock[0] = 60_600
    budget.note_headers(99, departed_ms)

    assert await taken(budget, Priority.REPORT) == 40


async def test_what_is_told_of_a_new_minute_counts_from_its_beginning(shared: AsyncRedis) -> None:
    clock = [59_980]
    budget = RateBudget(shared, "binance", "there", weight_limit_per_minute=LIMIT)
    budget.follow(lambda: clock[0])
    budget.note_headers(98, budget.departure_ms())
    clock[0] = 60_600
    budget.note_headers(30, 60_010)

    assert await taken(budget, Priority.REPORT) == 10


async def test_as_a_minute_begins_the_one_before_counts_too(shared: AsyncRedis) -> None:
    clock = [59_999]
    budget = RateBudget(shared, "binance", "there", weight_limit_per_minute=LIMIT)
    budget.follow(lambda: clock[0])
    await taken(budget, Priority.PROTECTION)
    clock[0] = 60_100
    with pytest.raises(Throttled) as refused:
        await budget.acquire(6, Priority.EXIT)
    assert refused.value.retry_after_seconds == 0.4
    await budget.acquire(5, Priority.EXIT)
    await budget.acquire(50, Priority.EXIT, is_order=True)
    clock[0] = 60_500
    assert await taken(budget, Priority.PROTECTION) == 95 - 55


async def test_minutes_are_those_of_the_exchanges_clock(shared: AsyncRedis, redis: Redis) -> None:
    clock = [59_999]
    budget, twin = (
        RateBudget(one, "binance", "there", weight_limit_per_minute=LIMIT) for one in (shared, redis)
    )
    for one in (budget, twin):
        one.follow(lambda: clock[0])
    assert await taken(budget, Priority.REPORT) == 40
    with pytest.raises(Throttled) as refused:
        await twin.acquire(1, Priority.REPORT)
    assert refused.value.retry_after_seconds == 0.001
    clock[0] = 60_500
    assert await taken(twin, Priority.REPORT) == 40


async def test_one_throttled_process_stops_every_process_of_the_address(
    budget: RateBudget, redis: Redis, shared: AsyncRedis
) -> None:
    twin = RateBudget(redis, "binance", "here", weight_limit_per_minute=LIMIT)
    await budget.note_retry_after(30)

    for wanted in Priority:
        with pytest.raises(Throttled) as stopped:
            await twin.acquire(1, wanted)
        assert stopped.value.code == "STOPPED"
        assert 29 < stopped.value.retry_after_seconds <= 30
    await RateBudget(shared, "binance", "there", weight_limit_per_minute=LIMIT).acquire(1, Priority.REPORT)


async def test_a_shorter_stop_never_replaces_a_longer_one(budget: RateBudget) -> None:
    await budget.note_retry_after(30)
    await budget.note_retry_after(1)

    with pytest.raises(Throttled) as stopped:
        await budget.acquire(1, Priority.EXIT)
    assert stopped.value.retry_after_seconds > 29


async def test_an_order_without_weight_asks_only_whether_the_address_is_stopped(
    budget: RateBudget, redis: Redis
) -> None:
    await budget.acquire(0, Priority.ENTRY)
    commands = redis.info("stats")["total_commands_processed"]
    for _ in range(50):
        await budget.acquire(0, Priority.ENTRY)

    assert redis.info("stats")["total_commands_processed"] - commands < 3


async def test_a_stop_reaches_the_orders_of_other_processes_within_a_twentieth_of_a_second(
    budget: RateBudget, redis: Redis
) -> None:
    twin = RateBudget(redis, "binance", "here", weight_limit_per_minute=LIMIT)
    await budget.acquire(0, Priority.EXIT, is_order=True)
    await twin.note_retry_after(30)
    await asyncio.sleep(0.05)

    with pytest.raises(Throttled):
        await budget.acquire(0, Priority.EXIT, is_order=True)


async def test_what_was_taken_ahead_is_not_asked_for_again_and_only_once() -> None:
    with already_taken():
        together = await asyncio.gather(*(spent() for _ in range(3)))
        assert together == [True] * 3
        assert [spend_taken(), spend_taken()] == [True, False]
    assert not spend_taken()


async def spent() -> bool:
    return spend_taken()


async def test_without_redis_what_protects_goes_out_and_what_risks_does_not() -> None:
    gone = AsyncRedis.from_url("redis://127.0.0.1:1/0")
    budget = RateBudget(gone, "binance")

    for wanted in (Priority.EXIT, Priority.PROTECTION, Priority.LOOKUP):
        await budget.acquire(5, wanted)
    for wanted in (Priority.ENTRY, Priority.UPKEEP, Priority.REPORT):
        with pytest.raises(VenueUnavailable) as refused:
            await budget.acquire(5, wanted)
        assert refused.value.code == "BUDGET_UNREACHABLE"
    await budget.note_retry_after(1)
    await gone.aclose()


async def test_a_process_that_was_told_to_be_silent_is_silent_without_redis_too() -> None:
    gone = AsyncRedis.from_url("redis://127.0.0.1:1/0")
    budget = RateBudget(gone, "binance")
    await budget.note_retry_after(0.2)

    for weight in (0, 5):
        with pytest.raises(Throttled) as stopped:
            await budget.acquire(weight, Priority.EXIT, is_order=True)
        assert stopped.value.code == "STOPPED"
    await asyncio.sleep(0.2)
    await budget.acquire(5, Priority.EXIT, is_order=True)
    await gone.aclose()


async def test_a_redis_that_hangs_holds_no_exit_back() -> None:
    class Hanging:
        def eval(self, script: str, numkeys: int, *keys_and_args: object) -> object:
            return asyncio.sleep(3600)

    budget = RateBudget(Hanging(), "binance", patience_seconds=0.05)

    async with asyncio.timeout(1):
        for _ in range(100):
            await budget.acquire(5, Priority.EXIT)
        with pytest.raises(VenueUnavailable):
            await budget.acquire(5, Priority.ENTRY)


async def test_a_loop_that_had_no_processor_is_no_redis_that_is_gone(shared: AsyncRedis) -> None:
    budget = RateBudget(shared, "binance", weight_limit_per_minute=LIMIT, patience_seconds=0.1)
    await budget.acquire(1, Priority.ENTRY)
    asked = [asyncio.create_task(budget.acquire(1, Priority.ENTRY)) for _ in range(20)]
    for _ in range(3):
        await asyncio.sleep(0)
    time.sleep(0.3)  # noqa: ASYNC251 -- all other threads of the process have the processor meanwhile
    await asyncio.gather(*asked)


async def test_a_named_priority_holds_inside_and_ends_outside() -> None:
    with priority(Priority.EXIT):
        assert await asyncio.create_task(named()) is Priority.EXIT
    assert current_priority.get() is None


async def named() -> Priority | None:
    return current_priority.get()
