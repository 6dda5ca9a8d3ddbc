"""One persistent event loop per process: tasks in threads hand their coroutines to it and wait.

The exchange's connections live on this loop; a loop per task would close them every time. A child made by
fork has no running loop thread, so the loop is keyed by process id and made anew there.
"""

import asyncio
import gc
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import uvloop

Result = TypeVar("Result")

PER_TURN = 10
CLOSE_SECONDS = 5.0
YOUNGEST = 10_000
"""So many new objects, and the youngest are looked through for garbage."""


class IoLoop:
    """The loop's thread, started on first use; safe to use from any thread of the process."""

    def __init__(self, name: str = "exchange-io") -> None:
        """Nothing is started before the first coroutine."""
        self._name = name
        self._lock = threading.Lock()
        self._pid = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, coroutine: Coroutine[Any, Any, Result], timeout_seconds: float) -> Result:
        """Run a coroutine on the loop and wait for its result.

        Raises `TimeoutError` after `timeout_seconds`; the coroutine is then cancelled, and whatever it had
        sent may have arrived: to the caller an order's outcome is unknown.
        """
        future = self.submit(coroutine)
        try:
            return future.result(timeout_seconds)
        except TimeoutError:
            future.cancel()
            raise

    def submit(self, coroutine: Coroutine[Any, Any, Result]) -> "Future[Result]":
        """Start a coroutine on the loop without waiting for it."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._running())

    @classmethod
    def current(cls) -> "IoLoop":
        """The loop of this process."""
        return _CURRENT

    def run_all(
        self,
        coroutines: Sequence[Coroutine[Any, Any, Result]],
        timeout_seconds: float,
        per_turn: int = PER_TURN,
    ) -> list[Result | BaseException]:
        """`submit_paced` on the loop, waited for: results or exceptions, in order.

        One that takes longer than `timeout_seconds` is a `TimeoutError` in its own place: the answers of
        the others are not lost with it.
        """
        if not coroutines:
            return []
        bounded = [_within(coroutine, timeout_seconds) for coroutine in coroutines]
        return self.run(submit_paced(bounded, per_turn), timeout_seconds + CLOSE_SECONDS)

    def close(self, last: Callable[[], Awaitable[None]] | None = None) -> None:
        """Run `last` on the loop (closing sessions), cancel what is left, end the thread."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None or self._pid != os.getpid():
            return
        asyncio.run_coroutine_threadsafe(_wind_down(last), loop).result(CLOSE_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(CLOSE_SECONDS)
        loop.close()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None or self._pid != os.getpid():
                self._start()
            assert self._loop is not None  # noqa: S101 - `_start` has just made it
            return self._loop

    def _start(self) -> None:
        loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name=self._name, daemon=True)
        self._loop, self._pid = loop, os.getpid()
        self._thread.start()


async def submit_paced(
    coroutines: Sequence[Coroutine[Any, Any, Result]], per_turn: int = PER_TURN
) -> list[Result | BaseException]:
    """Start `per_turn` coroutines a loop turn and gather all: results or exceptions, in order.

    Starting a thousand in one turn sends nothing until the last is signed, because writes are flushed at the
    end of a turn: the first order left after 174 ms instead of 4.5.
    """
    tasks: list[asyncio.Task[Result]] = []
    for number, coroutine in enumerate(coroutines, start=1):
        tasks.append(asyncio.ensure_future(coroutine))
        if number % per_turn == 0:
            await asyncio.sleep(0)
    return await asyncio.gather(*tasks, return_exceptions=True)


async def _within(coroutine: Coroutine[Any, Any, Result], seconds: float) -> Result:
    async with asyncio.timeout(seconds):
        return await coroutine


def gc_freeze() -> None:
    """After warm-up: what lives now lives on, and a full collection in the middle of a signal costs 0.2 s.

    Of what comes later the youngest are looked through less often than Python does: a decision over many
    accounts makes tens of thousands and drops none before its end, so that each look finds nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNGEST, *gc.get_threshold()[1:])


async def _wind_down(last: Callable[[], Awaitable[None]] | None) -> None:
    current = asyncio.current_task()
    left = [task for task in asyncio.all_tasks() if task is not current]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    if last is not None:
        await last()


_CURRENT = IoLoop()
