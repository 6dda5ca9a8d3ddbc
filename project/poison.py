"""Poison: a message that ends every worker taking it is left alone after a few times, and people are told.

The broker delivers again what nobody acknowledged, and the sweep rings again for the same rows: without a
count one such message ends workers for ever. Its rows stay open and are tried again after a while, exits
much sooner. Counted are the processes that began it and did not end it: one that lives may have the same rows
in hand many times, rung by many. Valkey keeps the count: forgotten, poison costs a few workers more.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Any
from uuid import uuid4

import structlog
from celery.contrib.django.task import DjangoTask
from celery.exceptions import Ignore
from django.conf import settings
from django.db import DatabaseError, InterfaceError
from redis import Redis
from redis.exceptions import RedisError

from alerts.models import Severity
from alerts.services import clear_alert, raise_alert

MOST_STARTS = 5
PREFIX = "desk:begun-by:"
EXIT_SECONDS = 60
"""An exit that is poison is left alone no longer: a position waits for it."""

BEGIN = """
local begun = redis.call('SCARD', KEYS[1])
if redis.call('SISMEMBER', KEYS[1], ARGV[3]) == 0 then
  if begun >= tonumber(ARGV[1]) then return -1 end
  redis.call('SADD', KEYS[1], ARGV[3])
end
redis.call('EXPIRE', KEYS[1], ARGV[2])
return begun
"""
END = """
local begun = redis.call('SCARD', KEYS[1])
redis.call('DEL', KEYS[1])
return begun
"""

log = structlog.get_logger(__name__)


class GuardedTask(DjangoTask[Any, Any]):
    """A task that is refused once too many processes have begun it and not ended it.

    Ticks, which name no rows, are not counted: a tick that was not begun in time is dropped anyway.
    """

    def before_start(self, _task_id: str, args: Sequence[Any], _kwargs: dict[str, Any]) -> None:
        """Count this process in. Raises Ignore for poison: acknowledged, and its body does not run."""
        if args and _begin(_key(self.name, args), self._seconds()) < 0:
            _tell(self.name, args)
            raise Ignore

    def after_return(self, _status: str, _retval: Any, _task_id: str, args: Sequence[Any], *_: Any) -> None:
        """Forget the count: whatever ended, with an error or without, ends no worker."""
        if args and _end(_key(self.name, args)) > 1:
            clear_alert(_cause(self.name, args), settings.CLOCK.now())

    def _seconds(self) -> int:
        """How long a count lives: longer than the broker takes to deliver again."""
        told = self.request.delivery_info or {}
        return EXIT_SECONDS if told.get("routing_key") == "exits" else 2 * settings.BROKER_VISIBILITY_SECONDS


def _begin(key: str, seconds: int, process: str = "") -> int:
    """How many processes began before and have not ended; -1 when they were too many.

    `process` names the one that begins, by default this one.
    """
    try:
        return int(_valkey().eval(BEGIN, 1, key, MOST_STARTS, seconds, process or _this_process(os.getpid())))
    except RedisError:
        return 0


def _end(key: str) -> int:
    try:
        return int(_valkey().eval(END, 1, key))
    except RedisError:
        return 0


@lru_cache(maxsize=1)
def _this_process(_pid: int) -> str:
    """A name nobody else has: in a container every worker started again has the number of the one before."""
    return uuid4().hex


def _tell(name: str, args: Sequence[Any]) -> None:
    log.critical("task_is_poison", name=name, rows=args)
    try:
        raise_alert(
            _cause(name, args),
            Severity.CRITICAL,
            "POISON",
            f"{name} of rows {json.dumps(args)[:120]} ended its worker {MOST_STARTS} times. It is left alone"
            " for a while; its rows stay open.",
            now=settings.CLOCK.now(),
        )
    except (DatabaseError, InterfaceError) as error:
        log.warning("alert_not_raised", code="POISON", error=type(error).__name__)


def _cause(name: str, args: Sequence[Any]) -> str:
    return f"poison:{_digest(name, args)}"


def _key(name: str, args: Sequence[Any]) -> str:
    return PREFIX + _digest(name, args)


def _digest(name: str, args: Sequence[Any]) -> str:
    told = json.dumps([name, list(args)], sort_keys=True, default=str)
    return hashlib.blake2b(told.encode(), digest_size=12).hexdigest()


@lru_cache(maxsize=1)
def _valkey() -> Redis:
    return Redis.from_url(
        settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2, health_check_interval=10
    )
