"""What time it is for everything that trades. Leases, signatures and timeouts stay on the wall clock."""

from datetime import UTC, datetime
from typing import Protocol, cast

from redis import Redis
from redis.exceptions import RedisError

REPLAY_KEY = "desk:clock"


class Clock(Protocol):
    """Gives the moment."""

    def now(self) -> datetime:
        """The moment, aware, in UTC."""
        ...


class SystemClock:
    """The wall clock."""

    def now(self) -> datetime:
        """The moment, aware, in UTC."""
        return datetime.now(UTC)


class ReplayClock:
    """The moment a replay has reached, shared through Redis by every process of the desk.

    Where Redis does not answer, time stands still at the last moment read.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._last = datetime.fromtimestamp(0, UTC)

    def now(self) -> datetime:
        """The moment of the replay, aware, in UTC; the epoch before the first `set`."""
        try:
            stored = cast("bytes | None", self._redis.get(REPLAY_KEY))
        except RedisError:
            return self._last
        if stored is not None:
            self._last = datetime.fromtimestamp(int(stored) / 1000, UTC)
        return self._last

    def set(self, moment: datetime) -> None:
        """Move every process of the desk to this moment, to the millisecond."""
        self._redis.set(REPLAY_KEY, round(moment.timestamp() * 1000))
        self._last = moment
