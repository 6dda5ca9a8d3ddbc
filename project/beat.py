"""The scheduler: of any number of beats one leads and sends, the others stand by."""

import fcntl
import os
from typing import Any, Protocol

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, close_old_connections, connections
from django_celery_beat.schedulers import DatabaseScheduler
from redis import Redis
from redis.exceptions import RedisError

from exchange import heartbeat

LEADER_LOCK = 0x6465736B  # "desk"
STANDBY_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Leadership(Protocol):
    """The right to send, which one beat has at a time."""

    def held(self) -> bool:
        """Take or keep the leadership; whether it is ours."""
        ...

    def close(self) -> None:
        """Let go."""
        ...


class FileLeadership:
    """Leadership of one host, by a lock the kernel takes back when its holder dies."""

    def __init__(self) -> None:
        self._descriptor = os.open(settings.VAR_DIR / "beat.lock", os.O_RDWR | os.O_CREAT, 0o600)

    def held(self) -> bool:
        """Take or keep the leadership; whether it is ours."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Let go."""
        os.close(self._descriptor)


class AdvisoryLeadership:
    """Leadership across hosts, by a session lock of Postgres on a connection of its own."""

    def __init__(self) -> None:
        self._connection = connections["default"].copy("beat leadership")
        # A pool would lend the session that holds the lock to somebody else.
        self._connection.settings_dict["OPTIONS"] = {
            key: value for key, value in self._connection.settings_dict["OPTIONS"].items() if key != "pool"
        }
        self._locked = False

    def held(self) -> bool:
        """Take or keep the leadership; whether it is ours. Raises DatabaseError when the session is lost."""
        try:
            with self._connection.cursor() as cursor:
                if self._locked:
                    cursor.execute("SELECT 1")
                    return True
                cursor.execute("SELECT pg_try_advisory_lock(%s)", [LEADER_LOCK])
                self._locked = bool(cursor.fetchone()[0])
        except (DatabaseError, InterfaceError):
            self._locked = False
            self._connection.close()
            raise
        return self._locked

    def close(self) -> None:
        """Let go: the session ends, and its lock with it."""
        self._locked = False
        self._connection.close()


class LeaderScheduler(DatabaseScheduler):  # type: ignore[misc]  # the library has no types
    """The schedules of the database, sent by the leader only."""

    sync_every = 0  # write the time of a tick at once: a killed beat must not repeat it

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        postgres = connections["default"].vendor == "postgresql"
        self._leadership: Leadership = AdvisoryLeadership() if postgres else FileLeadership()
        self._leads = False
        self._redis = Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2)
        super().__init__(*args, **kwargs)

    def setup_schedule(self) -> None:
        """The database alone tells the schedules; nothing is installed behind the operator's back."""

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send what is due, if leading, and return the seconds to wait. Outlives a database that is away."""
        try:
            return self._tick(*args, **kwargs)
        except (DatabaseError, InterfaceError) as error:
            log.warning("beat waits for the database", error=type(error).__name__)
            self._leads = False
            connections.close_all()
            return STANDBY_SECONDS

    def _tick(self, *args: Any, **kwargs: Any) -> float:
        if not self._leadership.held():
            self._leads = False
            return STANDBY_SECONDS
        if not self._leads:
            self._take_over()
        self._say_alive()
        wait: float = super().tick(*args, **kwargs)
        return wait

    def _take_over(self) -> None:
        # The last leader moved the times of the schedules on: read them again before sending anything.
        close_old_connections()
        self._heap = None
        self._schedule = self.all_as_schedule()
        self._leads = True
        log.info("beat leads")

    def _say_alive(self) -> None:
        try:
            heartbeat.beat(self._redis, heartbeat.BEAT)
        except RedisError as error:
            log.warning("beat heartbeat not written", error=type(error).__name__)
