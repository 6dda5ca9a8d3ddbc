"""The exchange's clock as far as this process knows it: measured, applied to every signature, kept measured.

Each process measures for itself, because what counts is the distance from the clock of its own machine. A
request refused for its time (-1021, -5028) was certainly not carried out; it says that the distance changed.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

import structlog

from exchange.budget import wall_ms

TOO_FAR_MS = 1000
"""The exchange refuses what is from further in its future; a machine this wrong judges ages wrongly, too."""

MEASURED_EVERY_SECONDS = 60.0
FAILED_AGAIN_SECONDS = 5.0
SHORT_TRIP_MS = 250.0
TRIPS = 3

log = structlog.get_logger(__name__)

AskTime = Callable[[], Awaitable[int]]
"""Asks the exchange for its time in milliseconds."""


class VenueClock:
    """Exchange time minus ours, shared by everything that speaks to one market; belongs to one loop."""

    def __init__(self, ask: AskTime) -> None:
        """Nothing is asked before the first use; until then the clocks are taken for equal."""
        self._ask = ask
        self._measuring: asyncio.Task[None] | None = None
        self._due_at = float("-inf")
        self._measured_at = float("-inf")
        self.offset_ms = 0

    @property
    def is_measured(self) -> bool:
        """Whether the distance was ever measured here."""
        return self._measured_at > float("-inf")

    def now_ms(self) -> int:
        """The exchange's time as far as known."""
        return wall_ms() + self.offset_ms

    def keep_measured(self) -> None:
        """Measure again beside what is going on, when the last time is a minute ago; costs nothing else."""
        if time.monotonic() >= self._due_at:
            self._start()

    async def resynchronise(self, since: float) -> None:
        """Measure, once for all who ask together, unless it was done since this moment (`time.monotonic`).

        A failure leaves the clock as it was.
        """
        if self._measured_at > since:
            return
        measuring = self._start()
        with contextlib.suppress(Exception):  # who asks goes on by what is known
            await asyncio.shield(measuring)

    async def measure(self) -> int:
        """The distance in milliseconds, the round trip halved out, of the shortest of a few trips.

        Raises what asking raises; the clock then stays as it was.
        """
        best_ms, offset_ms = float("inf"), self.offset_ms
        for _ in range(TRIPS):
            sent_ms = time.time() * 1000
            told_ms = await self._ask()
            received_ms = time.time() * 1000
            if received_ms - sent_ms < best_ms:
                best_ms = received_ms - sent_ms
                offset_ms = round(told_ms - (sent_ms + received_ms) / 2)
            if best_ms < SHORT_TRIP_MS:
                break
        self._note(offset_ms)
        return offset_ms

    def _note(self, offset_ms: int) -> None:
        if abs(offset_ms - self.offset_ms) > TOO_FAR_MS:
            log.warning("exchange_clock_moved", offset_ms=offset_ms, before_ms=self.offset_ms)
        self.offset_ms = offset_ms
        self._measured_at = time.monotonic()
        self._due_at = self._measured_at + MEASURED_EVERY_SECONDS

    def _start(self) -> "asyncio.Task[None]":
        if self._measuring is None or self._measuring.done():
            self._due_at = time.monotonic() + FAILED_AGAIN_SECONDS
            self._measuring = asyncio.create_task(self._measure_quietly())
        return self._measuring

    async def _measure_quietly(self) -> None:
        try:
            await self.measure()
        except Exception as error:  # noqa: BLE001 -- whatever kept us from asking, the clock stays as it was
            log.warning("exchange_clock_not_read", error=type(error).__name__)
