"""Celery's consumer, which hurries back to a broker that was away."""

from itertools import count
from typing import Any

import structlog
from celery.worker import consumer
from celery.worker.state import maybe_shutdown

RETRY_SECONDS = 0.5
TOLD_EVERY = 20

log = structlog.get_logger(__name__)


class Consumer(consumer.Consumer):
    """Tries each half second: Celery's own pauses grow to 30 s, and exits wait in the queue meanwhile."""

    def ensure_connected(self, conn: Any) -> Any:
        """The connection once the broker answers, however long that takes; a worker told to end gives up."""
        tries = count()

        def tell(error: Exception, _interval: float) -> None:
            if next(tries) % TOLD_EVERY == 0:
                log.warning("broker_away", error=type(error).__name__)

        conn.ensure_connection(
            tell,
            interval_start=RETRY_SECONDS,
            interval_step=0,
            interval_max=RETRY_SECONDS,
            callback=maybe_shutdown,
        )
        return super().ensure_connected(conn)
