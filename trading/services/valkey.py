"""The process's connection to Valkey: marks, budgets, pictures, signs of life. Never the truth."""

from collections.abc import Sequence
from functools import lru_cache

import structlog
from django.conf import settings
from redis import Redis
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)


@lru_cache(maxsize=1)
def valkey() -> Redis:
    """Return the client of this process, with deadlines so that a dead connection never hangs a worker."""
    return Redis.from_url(
        settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2, health_check_interval=10
    )


def keep(key: str, value: str, seconds: int) -> None:
    """Keep a copy of something for a while; without Valkey nothing is kept, and it is read again."""
    try:
        valkey().set(key, value, ex=seconds)
    except RedisError as error:
        log.warning("not_kept", key=key, error=type(error).__name__)


def recall(key: str) -> bytes | None:
    """What was kept under a key; None when nothing is, or when Valkey does not answer."""
    try:
        kept = valkey().get(key)
    except RedisError:
        return None
    return kept if isinstance(kept, bytes) else None


def recall_many(keys: Sequence[str]) -> list[bytes | None]:
    """What was kept under each key, in their order, by one call."""
    if not keys:
        return []
    try:
        kept = valkey().mget(keys)
    except RedisError:
        return [None] * len(keys)
    return [one if isinstance(one, bytes) else None for one in kept]
