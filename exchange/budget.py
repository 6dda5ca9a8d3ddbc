"""Who may ask the exchange now: one weight budget for every process behind one egress address.

The exchange counts request weight per address in fixed minutes; so does this budget, on Redis' clock, in one
script call. Lower priorities may only use a smaller share of the minute, so that an exit always finds room.
A 429 or 418 anywhere stops everyone of that address until its ``Retry-After`` has passed.

When Redis is gone: exits, protection and lookups go out uncounted, because a position left open costs more
than a 429; entries and reports are refused with `VenueUnavailable`.
"""

import asyncio
import inspect
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Protocol, cast

from redis.exceptions import RedisError

from exchange.errors import Throttled, VenueUnavailable


class Priority(StrEnum):
    """What a request is for, the most urgent first."""

    EXIT = "exit"
    PROTECTION = "protection"
    LOOKUP = "lookup"
    ENTRY = "entry"
    REPORT = "report"


# Shares of a minute's weight; reports are held to the 40 % that audits may use.
SHARES: Mapping[Priority, float] = MappingProxyType(
    {
        Priority.EXIT: 1.0,
        Priority.PROTECTION: 0.95,
        Priority.LOOKUP: 0.85,
        Priority.ENTRY: 0.70,
        Priority.REPORT: 0.40,
    }
)

# A Redis that did not answer is not waited for again so soon by what must go out.
GONE_SECONDS = 1.0

LAST_TURNS_SECONDS = 0.05

MUST_GO_OUT = frozenset({Priority.EXIT, Priority.PROTECTION, Priority.LOOKUP})

current_priority: ContextVar[Priority | None] = ContextVar("current_priority", default=None)


@contextmanager
def priority(wanted: Priority) -> Iterator[None]:
    """Everything asked inside counts as this priority; without it each verb has its own."""
    token = current_priority.set(wanted)
    try:
        yield
    finally:
        current_priority.reset(token)


# KEYS: minute counter prefix, stop key. ARGV: weight, limit of this priority, reported used weight, forced.
# Answers {granted, wait in ms}. What the exchange reports counts when it is more than what we know of:
# another program may share the address.
_ACQUIRE = """
local stopped = redis.call('PTTL', KEYS[2])
if stopped > 0 then return {0, stopped} end
local now = redis.call('TIME')
local minute = math.floor(now[1] / 60)
local key = KEYS[1] .. ':' .. minute
local used = tonumber(redis.call('GET', key) or '0')
local reported = tonumber(ARGV[3])
if reported > used and tonumber(ARGV[5]) == minute then used = reported end
local weight = tonumber(ARGV[1])
if used + weight > tonumber(ARGV[2]) and ARGV[4] == '0' then
  redis.call('SET', key, used, 'EX', 120)
  return {-1, (minute + 1) * 60000 - now[1] * 1000 - math.floor(now[2] / 1000)}
end
redis.call('SET', key, used + weight, 'EX', 120)
return {1, minute}
"""

_STOP = """
local left = redis.call('PTTL', KEYS[1])
local wanted = tonumber(ARGV[1])
if wanted > left then redis.call('SET', KEYS[1], '1', 'PX', wanted) end
return 1
"""


class RedisClient(Protocol):
    """The part of a Redis client, synchronous or not, that the budget needs."""

    def eval(self, script: str, numkeys: int, *keys_and_args: Any) -> Any:
        """Run a script on the server."""
        ...


@dataclass(slots=True)
class _Reported:
    """The used weight the exchange told last, and in which minute."""

    weight: int = 0
    minute: int = 0


class RateBudget:
    """The budget of one venue behind one egress address, optionally of one account behind it."""

    def __init__(
        self,
        redis: RedisClient,
        venue: str,
        egress: str = "default",
        account: str = "",
        *,
        weight_limit_per_minute: int = 2400,
        stop_check_seconds: float = 0.25,
        patience_seconds: float = 0.5,
    ) -> None:
        """Redis is given, synchronous or asynchronous; the limit is the venue's for the address.

        An asynchronous Redis that does not answer within `patience_seconds` counts as gone.
        """
        self._redis = redis
        self._key = ":".join(part for part in ("desk:budget", venue, egress, account) if part)
        self._stop_key = f"desk:budget:{venue}:{egress}:stop"
        self._limit = weight_limit_per_minute
        self._stop_check_seconds = stop_check_seconds
        self._patience_seconds = patience_seconds
        self._checked_at = float("-inf")
        self._gone_until = float("-inf")
        self._minute = 0
        self._reported = _Reported()

    async def acquire(self, weight: int, wanted: Priority) -> None:
        """Take `weight` from this minute, or raise.

        Raises `Throttled` (code ``BUDGET`` or ``STOPPED``, with the seconds to wait) when there is no room,
        `VenueUnavailable` (``BUDGET_UNREACHABLE``) for entries and reports when Redis does not answer.
        """
        if weight == 0 and time.monotonic() - self._checked_at < self._stop_check_seconds:
            return  # an order placement costs no weight; whether the address is stopped was just asked
        must_go_out = wanted in MUST_GO_OUT
        if must_go_out and time.monotonic() < self._gone_until:
            return
        try:
            granted, value = await self._ask(weight, wanted)
        except (RedisError, OSError) as exc:
            self._gone_until = time.monotonic() + GONE_SECONDS
            if must_go_out:
                return
            raise VenueUnavailable("BUDGET_UNREACHABLE", "the rate budget does not answer") from exc
        self._judge(int(granted), int(value))

    def note_headers(self, used_weight: int) -> None:
        """Keep what the exchange says of this minute; it is shared with the next `acquire`."""
        self._reported = _Reported(used_weight, self._minute)

    async def note_retry_after(self, seconds: float) -> None:
        """Stop everyone of this address for so long; a shorter stop never replaces a longer one."""
        self._checked_at = float("-inf")
        try:
            await self._eval(_STOP, 1, self._stop_key, max(1, int(seconds * 1000)))
        except (RedisError, OSError):
            return  # the exchange itself keeps refusing; there is nobody to tell

    async def _ask(self, weight: int, wanted: Priority) -> tuple[int, int]:
        # An exit is counted but never refused for want of room.
        forced = "1" if wanted is Priority.EXIT else "0"
        answer = await self._eval(
            _ACQUIRE,
            2,
            self._key,
            self._stop_key,
            weight,
            int(self._limit * SHARES[wanted]),
            self._reported.weight,
            forced,
            self._reported.minute,
        )
        return cast("tuple[int, int]", tuple(answer))

    def _judge(self, granted: int, value: int) -> None:
        if granted == 1:
            self._minute = value
            self._checked_at = time.monotonic()
            return
        code = "STOPPED" if granted == 0 else "BUDGET"
        raise Throttled(code, "held back by the rate budget", value / 1000)

    async def _eval(self, script: str, count: int, *keys_and_args: object) -> Any:
        answer = self._redis.eval(script, count, *keys_and_args)
        if not inspect.isawaitable(answer):
            return answer
        asking = asyncio.ensure_future(answer)
        # A client that retries would hold an exit back. But an answer that lies there unread, because other
        # threads had the processor, is an answer: the loop gets a few turns to read it.
        try:
            for patience in (self._patience_seconds, LAST_TURNS_SECONDS):
                done, _ = await asyncio.wait({asking}, timeout=patience)
                if done:
                    return asking.result()
        finally:
            asking.cancel()
        raise TimeoutError
