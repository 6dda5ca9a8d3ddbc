"""What waits out the latency: one queue, one timer: a timer an answer costs more than the answer."""

import asyncio
from collections import deque
from collections.abc import Callable

TICK_SECONDS = 0.001
Write = Callable[[bytes], None]


class Outbox:
    """Bytes leave in the order they came, each a latency later."""

    def __init__(self, loop: asyncio.AbstractEventLoop, latency_seconds: float) -> None:
        self._loop = loop
        self._latency_seconds = latency_seconds
        self._waiting: deque[tuple[float, Write, bytes]] = deque()

    def send(self, write: Write, wire: bytes) -> None:
        """Write after the latency."""
        due = self._loop.time() + self._latency_seconds
        self._waiting.append((due, write, wire))
        if len(self._waiting) == 1:
            self._loop.call_later(self._latency_seconds, self._flush)

    def _flush(self) -> None:
        now = self._loop.time()
        waiting, until = self._waiting, now + TICK_SECONDS / 2
        while waiting and waiting[0][0] <= until:
            _, write, wire = waiting.popleft()
            write(wire)
        if waiting:
            # The loop counts in whole ticks: less than one would be none, and it would ask again and again.
            self._loop.call_later(max(TICK_SECONDS, waiting[0][0] - now), self._flush)
