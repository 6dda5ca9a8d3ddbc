"""Signs of life in Redis: which key says that who was alive when. The client is given."""

import time
from typing import Any, cast

from redis import Redis

BEAT = "desk:beat"
WATCHER = "desk:watcher"
MARKS = "desk:marks:at"
WORKER_PREFIX = "desk:worker:"
KEPT_SECONDS = 86_400


def worker_key(queue: str, pid: int) -> str:
    """The key of one worker process consuming one queue."""
    return f"{WORKER_PREFIX}{queue}:{pid}"


def beat(redis: Redis, key: str, *, kept_seconds: int = KEPT_SECONDS) -> None:
    """Say "alive now" under this key; forgotten after `kept_seconds`."""
    redis.set(key, repr(time.time()), ex=kept_seconds)


def age_seconds(redis: Redis, key: str) -> float | None:
    """How long ago the key was beaten; None when it never was or is forgotten."""
    return _age(cast("bytes | None", redis.get(key)))


def worker_ages_seconds(redis: Redis) -> dict[str, float]:
    """The age of the youngest sign of life of each queue's workers."""
    keys: list[bytes] = list(redis.scan_iter(f"{WORKER_PREFIX}*"))
    if not keys:
        return {}
    ages: dict[str, float] = {}
    for key, value in zip(keys, cast("list[Any]", redis.mget(keys)), strict=True):
        queue = key.decode().removeprefix(WORKER_PREFIX).rpartition(":")[0]
        age = _age(value)
        if age is not None:
            ages[queue] = min(age, ages.get(queue, age))
    return ages


def _age(value: bytes | None) -> float | None:
    return None if value is None else max(0.0, time.time() - float(value))
