import asyncio
import itertools
import multiprocessing
import os
import threading
from collections.abc import Iterator

import pytest

from exchange.loop import IoLoop, submit_paced


@pytest.fixture
def loop() -> Iterator[IoLoop]:
    made = IoLoop()
    yield made
    made.close()


async def where() -> tuple[int, int]:
    return threading.get_ident(), id(asyncio.get_running_loop())


async def fail() -> int:
    raise ValueError("no")


async def number(value: int) -> int:
    await asyncio.sleep(0.001 * (5 - value))
    return value


def test_every_thread_of_a_process_shares_one_loop(loop: IoLoop) -> None:
    seen = set()
    threads = [threading.Thread(target=lambda: seen.add(loop.run(where(), 5))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(seen) == 1
    assert seen != {(threading.get_ident(), 0)}


def test_results_and_errors_come_back_in_order(loop: IoLoop) -> None:
    results = loop.run_all([number(0), fail(), number(2)], 5)

    assert (results[0], results[2]) == (0, 2)
    assert isinstance(results[1], ValueError)


def test_a_slow_one_is_a_timeout_in_its_own_place(loop: IoLoop) -> None:
    fast, slow = loop.run_all([number(1), asyncio.sleep(30, 2)], 0.1)

    assert fast == 1
    assert isinstance(slow, TimeoutError)


async def test_ten_are_started_a_turn() -> None:
    started: list[int] = []
    turns: list[int] = []

    async def start(index: int) -> None:
        started.append(index)

    async def watch() -> None:
        while len(started) < 30:
            turns.append(len(started))
            await asyncio.sleep(0)

    watching = asyncio.ensure_future(watch())
    await submit_paced([start(index) for index in range(30)], per_turn=10)
    await watching

    assert max(after - before for before, after in itertools.pairwise(turns)) <= 10
    assert started == list(range(30))


def test_a_late_coroutine_is_given_up_and_cancelled(loop: IoLoop) -> None:
    ended = threading.Event()

    async def linger() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()

    with pytest.raises(TimeoutError):
        loop.run(linger(), 0.05)

    assert ended.wait(2)


def test_closing_ends_the_thread_and_runs_the_last_wish(loop: IoLoop) -> None:
    loop.run(where(), 5)
    wished: list[str] = []

    async def last() -> None:
        wished.append("closed")

    loop.close(last)

    assert wished == ["closed"]
    assert "exchange-io" not in {thread.name for thread in threading.enumerate()}
    assert loop.run(number(3), 5) == 3  # and it starts anew when it is needed again


def ask_in_child(loop: IoLoop, answers: "multiprocessing.SimpleQueue[int]") -> None:
    answers.put(loop.run(number(4), 5))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_gets_a_loop_of_its_own(loop: IoLoop) -> None:
    loop.run(where(), 5)
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=ask_in_child, args=(loop, answers))
    child.start()
    child.join(10)

    assert child.exitcode == 0
    assert answers.get() == 4
    assert os.getpid() != child.pid
