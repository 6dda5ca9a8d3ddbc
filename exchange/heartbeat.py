"""Signs of life in Redis: which key says that who was alive when. The client is given."""

import time
from typing import Any, cast

from redis import Redis

BEAT = "desk:beat"
WATCHER = "watcher"
"""The name of the watcher that every desk has; a further one has a name of its own."""

MARKS = "desk:marks:at"
WATCHER_PREFIX = "desk:watching:"
WORKER_PREFIX = "desk:worker:"
KEPT_SECONDS = 86_400


def worker_key(queue: str, pid: int) -> str:
    """The key of one worker process consuming one queue."""
    return f"{WORKER_PREFIX}{queue}:{pid}"


def watcher_key(name: str = WATCHER) -> str:
    """The key of the watcher of that name."""
    return f"{WATCHER_PREFIX}{name}"


def beat(redis: Redis, key: str, *, kept_seconds: int = KEPT_SECONDS) -> None:
    """Say "alive now" under this key; forgotten after `kept_seconds`."""
    redis.set(key, repr(time.time()), ex=kept_seconds)


def age_seconds(redis: Redis, key: str) -> float | None:
    """How long ago the key was beaten; None when it never was or is forgotten."""
    return _age(cast("bytes | None", redis.get(key)))


def worker_ages_seconds(redis: Redis) -> dict[str, float]:
    """The age of the youngest sign of life of each queue's workers."""
    ages: dict[str, float] = {}
    for name, age in _ages_under(redis, WORKER_PREFIX).items():
        queue = name.rpartition(":")[0]
        ages[queue] = min(age, ages.get(queue, age))
    return ages


def watcher_ages_seconds(redis: Redis) -> dict[str, float | None]:
    """The age of each watcher's sign of life by its name: of the first, and of whoever was heard of today."""
    return {WATCHER: None, **_ages_under(redis, WATCHER_PREFIX)}


def _ages_under(redis: Redis, prefix: str) -> dict[str, float]:
    keys: list[bytes] = sorted(redis.scan_iter(f"{prefix}*"))
    if not keys:
        return {}
    ages = zip(keys, map(_age, cast("list[Any]", redis.mget(keys))), strict=True)
    return {key.decode().removeprefix(prefix): age for key, age in ages if age is not None}


def _age(value: bytes | None) -> float | None:
    return None if value is None else max(0.0, time.time() - float(value))
