"""A worker's life: nothing unrunnable registered, warm before it consumes, heard while it does, closed after.

Loaded by every worker (`CELERY_IMPORTS`), when Django and all tasks are there.
"""

import os
from threading import Thread
from time import monotonic, sleep
from typing import Any

import structlog
from celery import bootsteps, signals
from celery.worker import WorkController, state
from celery.worker.consumer import Consumer
from django.conf import settings
from redis import Redis
from redis.exceptions import RedisError

from accounts.services.gateways import close_gateways, warm_up
from exchange import heartbeat
from exchange.loop import IoLoop, gc_freeze
from project.celery import app, coroutine_tasks

HEARTBEAT_SECONDS = 5.0
WARM_UP_SECONDS = 10.0
DEAF_SECONDS = 20.0
DEAF = 70
REFUSED = 2

log = structlog.get_logger(__name__)


class WarmUp(bootsteps.StartStopStep):
    """Loads markets and opens connections before the first message: it would cost the first order seconds."""

    requires = ("celery.worker.components:Pool",)

    def start(self, _parent: WorkController) -> None:
        """Refuse what cannot run, warm up, and settle the memory. A venue that is away delays nothing."""
        refuse_coroutine_tasks()
        try:
            IoLoop.current().run(warm_up(), WARM_UP_SECONDS)
        except Exception as error:  # noqa: BLE001  # warmth is speed: whatever is away now is met again by its task
            log.warning("worker not warm", error=type(error).__name__)
        gc_freeze()


class WorkerHeartbeat(bootsteps.StartStopStep):
    """Says from the consumer's own loop that this worker is consuming: a stuck loop falls silent."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, parent: Consumer, **options: Any) -> None:
        super().__init__(parent, **options)
        self._redis = Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2)
        self._timer: Any = None
        self._watchdog = DeafWatchdog(self._redis)

    def start(self, parent: Consumer) -> None:
        """Beat now, then every few seconds."""
        self._beat(parent)
        self._watchdog.start()
        self._timer = parent.timer.call_repeatedly(HEARTBEAT_SECONDS, self._beat, (parent,))

    def stop(self, _parent: Consumer) -> None:
        """Fall silent."""
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self, parent: Consumer) -> None:
        self._watchdog.heard_at = monotonic()
        try:
            for name in consumed_queues(parent):
                heartbeat.beat(self._redis, heartbeat.worker_key(name, os.getpid()))
        except RedisError as error:
            log.warning("worker heartbeat not written", error=type(error).__name__)


def is_ending() -> bool:
    """Whether this worker was told to end: it then finishes its tasks without consuming."""
    return any(told is not None for told in (state.should_stop, state.should_terminate))


class DeafWatchdog:
    """Ends a worker that lives and no longer consumes: its supervisor starts one that does.

    After a broker's death the consumer can hang for ever beside a broker that is long back, with everything
    about the process looking well. What it was sending is looked up by whoever sweeps next.
    """

    def __init__(self, redis: Redis) -> None:
        self.heard_at = monotonic()
        self._redis = redis
        self._thread: Thread | None = None

    def start(self) -> None:
        """Watch from now on; a consumer that starts again goes on being watched."""
        if self._thread is None:
            self._thread = Thread(target=self._watch, name="deaf-watchdog", daemon=True)
            self._thread.start()

    def is_deaf(self) -> bool:
        """Whether the consumer's loop has been silent although the broker answers."""
        if monotonic() - self.heard_at < DEAF_SECONDS:
            return False
        try:
            return bool(self._redis.ping())
        except RedisError:
            self.heard_at = monotonic()  # deafness counts from the broker's return
            return False

    def _watch(self) -> None:
        while not is_ending():
            sleep(HEARTBEAT_SECONDS / 2)
            if self.is_deaf() and not is_ending():
                log.critical("worker hears nothing while the broker answers: ending it")
                os._exit(DEAF)


app.steps["worker"].add(WarmUp)
app.steps["consumer"].add(WorkerHeartbeat)


def refuse_coroutine_tasks() -> None:
    """A coroutine task is acknowledged as done without ever running: with one, the worker must not start."""
    coroutines = coroutine_tasks(app)
    if coroutines:
        log.critical(
            "worker refused: these tasks are coroutine functions and would never run", tasks=coroutines
        )
        raise SystemExit(REFUSED)


@signals.worker_ready.connect
def ring_for_the_start(sender: Consumer, **_: Any) -> None:
    """Whoever consumes the default queue sees to the accounts when a desk starts."""
    if "default" in consumed_queues(sender):
        app.send_task("accounts.tasks.boot")


@signals.worker_shutdown.connect
def close_connections(**_: Any) -> None:
    """After the last task: end the exchange's connections and their loop."""
    close_gateways()


def consumed_queues(consumer: Consumer) -> list[str]:
    """The names of the queues a worker was told to consume."""
    return [queue.name for queue in consumer.app.amqp.queues.consume_from.values()]
