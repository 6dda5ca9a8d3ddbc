"""Who may ask the exchange now: one weight budget for every process behind one egress address.

The exchange counts request weight per address in fixed minutes of its own clock; so does this budget, in one
script call for whatever is asked together. Lower priorities may only use a smaller share of the minute, so
that what is more urgent always finds room. A request without weight, a futures order, is never refused for
want of room, and no order of an exit is: the exchange has the last word on those. A 429 or 418 anywhere stops
everyone of that address until its ``Retry-After`` has passed.

When Redis is gone: exits, protection and lookups go out uncounted, because a position left open costs more
than a 429; entries, upkeep and reports are refused with `VenueUnavailable`.
"""

import asyncio
import inspect
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Protocol

from redis.exceptions import RedisError

from exchange.errors import Throttled, VenueUnavailable
from exchange.venue_answers import AnswerCount


class Priority(StrEnum):
    """What a request is for, the most urgent first."""

    EXIT = "exit"
    PROTECTION = "protection"
    LOOKUP = "lookup"
    ENTRY = "entry"
    UPKEEP = "upkeep"
    REPORT = "report"


# Shares of a minute's weight. Reports are held to the 40 % that audits may use, and upkeep, which is settings
# ahead of need and the hourly look at healthy accounts, to what leaves an entry its reads.
SHARES: Mapping[Priority, float] = MappingProxyType(
    {
        Priority.EXIT: 1.0,
        Priority.PROTECTION: 0.95,
        Priority.LOOKUP: 0.85,
        Priority.ENTRY: 0.70,
        Priority.UPKEEP: 0.55,
        Priority.REPORT: 0.40,
    }
)

# A Redis that did not answer is not waited for again so soon by what must go out.
GONE_SECONDS = 1.0

LAST_TURNS_SECONDS = 0.05

MINUTE_MS = 60_000

# The exchange's clock is known to about half a trip: so long after a minute began here the one before may
# still be counted there, and what it tells so early may be that one's count.
BOTH_COUNT_MS = 500
TOLD_EARLY_MS = 2_000

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


_is_taken: ContextVar[bool] = ContextVar("is_taken", default=False)


@contextmanager
def already_taken() -> Iterator[None]:
    """The next request inside was granted by `RateBudget.take`; the ones after it ask for themselves."""
    token = _is_taken.set(True)
    try:
        yield
    finally:
        _is_taken.reset(token)


def spend_taken() -> bool:
    """Whether this request was granted ahead of time; true once."""
    is_taken = _is_taken.get()
    if is_taken:
        _is_taken.set(False)
    return is_taken


# KEYS: the minute's count, the stop, the count of the minute before. ARGV: used weight as the exchange told
# it, whether the minute before may still be going on there; then for each kind of request its weight, the
# limit of its priority (-1: none) and how many. Answers how many of each kind are granted, or
# {-1, ms to wait}. What the exchange reports counts when it is more than we know of: another program may be
# on the address.
_TAKE = """
local stopped = redis.call('PTTL', KEYS[2])
if stopped > 0 then return {-1, stopped} end
local before = tonumber(redis.call('GET', KEYS[1]) or '0')
local used = math.max(before, tonumber(ARGV[1]))
local older = 0
if ARGV[2] == '1' then older = tonumber(redis.call('GET', KEYS[3]) or '0') end
local granted = {}
for i = 3, #ARGV, 3 do
  local weight, limit, count = tonumber(ARGV[i]), tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  if weight > 0 and limit >= 0 then
    count = math.max(0, math.min(count, math.floor((limit - used - older) / weight)))
  end
  used = used + count * weight
  granted[#granted + 1] = count
end
if used ~= before then redis.call('SET', KEYS[1], used, 'EX', 120) end
return granted
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
    """The used weight the exchange told, and of which minute."""

    weight: int = 0
    minute: int = 0


@dataclass(slots=True)
class _Ask:
    """`count` requests of one kind that wait for their answer; a limit of -1 is none."""

    weight: int
    limit: int
    count: int
    granted: "asyncio.Future[int]"


def wall_ms() -> int:
    """Milliseconds of this machine's clock."""
    return time.time_ns() // 1_000_000


class RateBudget:
    """The budget of one venue behind one egress address, optionally of one account behind it.

    Belongs to the one loop it is asked on. What is asked while an answer is on its way is asked together,
    in one script call, the most urgent first.
    """

    def __init__(
        self,
        redis: RedisClient,
        venue: str,
        egress: str = "default",
        account: str = "",
        *,
        weight_limit_per_minute: int = 2400,
        stop_check_seconds: float = 0.05,
        patience_seconds: float = 0.5,
        answers: AnswerCount | None = None,
    ) -> None:
        """Redis is given, synchronous or asynchronous; the limit is the venue's for the address.

        An asynchronous Redis that does not answer within `patience_seconds` counts as gone. A stop found by
        another process is honoured by requests without weight after `stop_check_seconds` at the latest.
        `answers` is told every answer that comes.
        """
        self.answers = answers
        self._redis = redis
        self._key = ":".join(part for part in ("desk:budget", venue, egress, account) if part)
        self._stop_key = f"desk:budget:{venue}:{egress}:stop"
        self._limit = weight_limit_per_minute
        self._stop_check_seconds = stop_check_seconds
        self._patience_seconds = patience_seconds
        self._checked_at = float("-inf")
        self._gone_until = float("-inf")
        self._stopped_until = float("-inf")
        self._reported = _Reported()
        self._now_ms = wall_ms
        self._waiting: list[_Ask] = []
        self._asking: asyncio.Task[None] | None = None

    def follow(self, now_ms: Callable[[], int]) -> None:
        """Count by this clock, the exchange's as far as known: its minutes are the ones that are counted."""
        self._now_ms = now_ms

    def departure_ms(self) -> int:
        """The exchange's time now, for a request that leaves; its answer's headers are told of that time."""
        return self._now_ms()

    async def acquire(self, weight: int, wanted: Priority, *, is_order: bool = False) -> None:
        """Take `weight` from this minute, or raise.

        Raises `Throttled` (code ``BUDGET`` or ``STOPPED``, with the seconds to wait) when there is no room,
        `VenueUnavailable` (``BUDGET_UNREACHABLE``) for entries and reports when Redis does not answer.
        """
        if not await self.take(1, weight, wanted, is_order=is_order):
            into_ms = self._now_ms() % MINUTE_MS
            left_ms = (BOTH_COUNT_MS if into_ms < BOTH_COUNT_MS else MINUTE_MS) - into_ms
            raise Throttled("BUDGET", "held back by the rate budget", left_ms / 1000)

    async def take(self, count: int, weight: int, wanted: Priority, *, is_order: bool = True) -> int:
        """How many of `count` requests of one weight may go now, taken from this minute in one script call.

        For a chunk of orders: each then goes out under `already_taken`. Raises as `acquire`, but for want of
        room, which is a smaller number.
        """
        if weight == 0 and time.monotonic() - self._checked_at < self._stop_check_seconds:
            return count  # an order placement costs no weight; whether the address is stopped was just asked
        must_go_out = wanted in MUST_GO_OUT
        if must_go_out and time.monotonic() < self._gone_until:
            return self._uncounted(count)
        limit = -1 if is_order and wanted is Priority.EXIT else int(self._limit * SHARES[wanted])
        try:
            return await self._ask(weight, limit, count)
        except (RedisError, OSError) as exc:
            self._gone_until = time.monotonic() + GONE_SECONDS
            if must_go_out:
                return self._uncounted(count)
            raise VenueUnavailable("BUDGET_UNREACHABLE", "the rate budget does not answer") from exc

    def note_headers(self, used_weight: int, departed_ms: int | None = None) -> None:
        """Keep what the exchange told a request that left then, now when not told; shared with the next call.

        Told as the minute began, and no less than the last minute's count, it is the last minute's: taken for
        this one's, it would hold back a whole minute of lookups.
        """
        departed_ms = self._now_ms() if departed_ms is None else departed_ms
        minute, into_ms = divmod(departed_ms, MINUTE_MS)
        known = self._reported
        if minute > known.minute:
            is_old = (
                minute == known.minute + 1 and into_ms < TOLD_EARLY_MS and used_weight >= known.weight > 0
            )
            if not is_old:
                self._reported = _Reported(used_weight, minute)
        elif minute == known.minute:
            known.weight = max(used_weight, known.weight)

    async def note_retry_after(self, seconds: float) -> None:
        """Stop everyone of this address for so long; a shorter stop never replaces a longer one."""
        self._checked_at = float("-inf")
        self._stopped_until = max(self._stopped_until, time.monotonic() + seconds)
        try:
            await self._eval(_STOP, 1, self._stop_key, max(1, int(seconds * 1000)))
        except (RedisError, OSError):
            return  # this process knows; the others are told by the exchange itself

    def _uncounted(self, count: int) -> int:
        """All of them, unless this process was itself told to be silent."""
        left = self._stopped_until - time.monotonic()
        if left > 0:
            raise Throttled("STOPPED", "held back by the rate budget", left)
        return count

    async def _ask(self, weight: int, limit: int, count: int) -> int:
        ask = _Ask(weight, limit, count, asyncio.get_running_loop().create_future())
        self._waiting.append(ask)
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask_for_all())
        return await ask.granted

    async def _ask_for_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                self._answer(batch, await self._call(batch))
            except (RedisError, OSError, Throttled) as exc:
                _fail(batch, exc)
            except BaseException as exc:
                _fail([*batch, *self._waiting], exc)
                self._waiting = []
                raise

    async def _call(self, batch: Sequence[_Ask]) -> list[int]:
        """One script call for all; those of one kind are one line of it, the most urgent kind first."""
        kinds: Counter[tuple[int, int]] = Counter()
        for ask in batch:
            kinds[ask.weight, ask.limit] += ask.count
        lines = sorted(kinds, key=_urgency)
        minute, into_ms = divmod(self._now_ms(), MINUTE_MS)
        told = self._reported.weight if self._reported.minute == minute else 0
        both_count = int(into_ms < BOTH_COUNT_MS)
        keys = f"{self._key}:{minute}", self._stop_key, f"{self._key}:{minute - 1}"
        arguments = [number for kind in lines for number in (*kind, kinds[kind])]
        answer = await self._eval(_TAKE, len(keys), *keys, told, both_count, *arguments)
        granted = [int(number) for number in answer]
        if granted[0] < 0:
            raise Throttled("STOPPED", "held back by the rate budget", granted[1] / 1000)
        self._checked_at = time.monotonic()
        left = dict(zip(lines, granted, strict=True))
        taken = []
        for ask in batch:
            kind = ask.weight, ask.limit
            share = min(ask.count, left[kind])
            left[kind] -= share
            taken.append(share)
        return taken

    def _answer(self, batch: Sequence[_Ask], taken: Sequence[int]) -> None:
        for ask, count in zip(batch, taken, strict=True):
            if not ask.granted.done():  # who asked may have been cancelled meanwhile
                ask.granted.set_result(count)

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


def _urgency(kind: tuple[int, int]) -> tuple[bool, int]:
    """A larger share of the minute is a more urgent request; no limit is the most urgent."""
    _, limit = kind
    return limit >= 0, -limit


def _fail(batch: Sequence[_Ask], error: BaseException) -> None:
    for ask in batch:
        if ask.granted.done():
            continue
        if isinstance(error, Exception):
            ask.granted.set_exception(error)
        else:
            ask.granted.cancel()
