"""How a venue answers, counted for every process together: all answers, server errors, bans, maintenance.

Kept in Redis by venue and five seconds of the wall clock, written at most once a second by a process; gone
after two minutes. Without Redis nothing is counted: who reads finds no answers and concludes nothing.
"""

import asyncio
import inspect
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

BUCKET_SECONDS = 5
KEPT_SECONDS = 120
FLUSH_SECONDS = 1.0
SERVER_ERROR, BANNED = 500, 418
MAINTENANCE = frozenset({"-1016"})
"""Binance: the service is under maintenance or shutting down."""

_ADD = """
for i = 1, #ARGV - 1, 2 do redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', KEYS[1], ARGV[#ARGV])
return 1
"""


@dataclass(frozen=True, slots=True)
class Answers:
    """What a venue answered lately: how many in all, and how many of each bad kind."""

    total: int = 0
    server_errors: int = 0
    bans: int = 0
    maintenance: int = 0


class AnswerCount:
    """Counts one process's answers of one venue; belongs to the loop it is noted on."""

    def __init__(self, redis: Any, venue: str) -> None:
        """Redis is given, synchronous or asynchronous."""
        self._redis = redis
        self._venue = venue
        self._noted: Counter[tuple[int, str]] = Counter()
        self._flushing: asyncio.Task[None] | None = None

    def note(self, status: int, code: str = "") -> None:
        """Count one answer; it is written within a second."""
        bucket = int(time.time()) // BUCKET_SECONDS
        for kind in _kinds(status, code):
            self._noted[bucket, kind] += 1
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.get_running_loop().create_task(self._flush_soon())

    async def _flush_soon(self) -> None:
        await asyncio.sleep(FLUSH_SECONDS)
        noted, self._noted = self._noted, Counter()
        for bucket in {bucket for bucket, _ in noted}:
            told = [word for (of, kind), n in noted.items() if of == bucket for word in (kind, n)]
            with suppress(RedisError, OSError):  # a count that is lost halts nothing
                answer = self._redis.eval(_ADD, 1, _key(self._venue, bucket), *told, KEPT_SECONDS)
                if inspect.isawaitable(answer):
                    await answer


def read_answers(redis: Redis, venue: str, seconds: int) -> Answers:
    """What the venue answered in about the last seconds, by every process. Raises RedisError."""
    newest = int(time.time()) // BUCKET_SECONDS
    buckets = range(newest - seconds // BUCKET_SECONDS, newest + 1)
    summed: Counter[str] = Counter()
    for bucket in buckets:
        told: Mapping[bytes, bytes] = redis.hgetall(_key(venue, bucket))  # type: ignore[assignment]
        summed.update({kind.decode(): int(count) for kind, count in told.items()})
    return Answers(summed["total"], summed["server"], summed["ban"], summed["maintenance"])


def _kinds(status: int, code: str) -> list[str]:
    kinds = {"server": status >= SERVER_ERROR, "ban": status == BANNED, "maintenance": code in MAINTENANCE}
    return ["total", *(kind for kind, is_so in kinds.items() if is_so)]


def _key(venue: str, bucket: int) -> str:
    return f"desk:answers:{venue}:{bucket}"
