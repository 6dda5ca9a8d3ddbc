"""The watcher's process: streams on the I/O loop's thread, rows and bells on this one.

`LISTENERS` run side by side as coroutines and post work; it is done here, one piece at a time, an earlier
listener's before a later one's: marks never wait behind what accounts tell. What is posted takes the desk's
moment and returns bells, so a further stream needs a listener and nothing else.
"""

import signal
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from datetime import datetime
from decimal import Decimal
from functools import partial
from itertools import count
from queue import Empty, PriorityQueue
from time import monotonic
from typing import Any

import structlog
from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import DatabaseError, close_old_connections
from redis.exceptions import RedisError

from accounts.services.gateways import close_gateways, gateways
from alerts.models import Severity
from alerts.services import clear_alert, raise_alert
from exchange import heartbeat
from exchange.budget import Priority, priority
from exchange.loop import IoLoop
from exchange.marks import MarkBoard
from exchange.port import Market, MarkPrice
from trading.services import watching
from trading.services.bells import Bells
from trading.services.user_streams import UserStreams
from trading.services.valkey import valkey
from trading.services.watching import Watcher
from trading.tasks import ring

TURN_SECONDS = 0.25
ROUND_SECONDS = 1.0
RUNG_FOR_SECONDS = 3.0
STALE_CAUSE = "marks-stale"

Work = Callable[[datetime], Bells]
Post = Callable[[Work], None]
Listener = Callable[["PriceWatch", Post], Coroutine[Any, Any, None]]

log = structlog.get_logger(__name__)


class Inbox:
    """Work waiting for this thread, by the rank of who posted it, then in the order it came."""

    def __init__(self) -> None:
        self._waiting: PriorityQueue[tuple[int, int, Work]] = PriorityQueue()
        self._numbers = count()

    def post(self, rank: int, work: Work) -> None:
        """Leave a piece of work, from any thread."""
        self._waiting.put((rank, next(self._numbers), work))

    def next(self) -> Work | None:
        """The next piece; None when none came within a turn."""
        try:
            return self._waiting.get(timeout=TURN_SECONDS)[2]
        except Empty:
            return None


class PriceWatch:
    """Marks become bells; what is due rings each second; staleness is told and published."""

    def __init__(self) -> None:
        self.watcher = Watcher()
        self._board = MarkBoard(valkey())
        self._marked_at = monotonic()
        self._rung: dict[int, float] = {}
        self._is_stale = False

    def on_marks(self, batch: Sequence[MarkPrice], now: datetime, *, is_streamed: bool) -> Bells:
        """Publish a batch and follow the plans through it; a polled one does not count as a living stream."""
        if is_streamed:
            self._marked_at = monotonic()
        self._publish(batch, is_streamed=is_streamed)
        marks: dict[str, Decimal] = {mark.symbol: mark.mark_price for mark in batch}
        return self.watcher.on_marks(marks, now)

    def once_a_second(self, now: datetime) -> Bells:
        """Say that the watcher lives and how old its marks are; ring what asked to be looked at by now."""
        self._say_alive()
        self._tell_age(now)
        return Bells(positions=self._not_rung_lately(watching.due(now)))

    @property
    def marks_age_seconds(self) -> float:
        """How long ago the stream brought marks, or the start where it never did."""
        return monotonic() - self._marked_at

    def _publish(self, batch: Sequence[MarkPrice], *, is_streamed: bool) -> None:
        try:
            self._board.publish(batch)
            if is_streamed:
                heartbeat.beat(valkey(), heartbeat.MARKS)
        except RedisError as error:
            log.warning("marks_not_published", error=type(error).__name__)

    def _say_alive(self) -> None:
        try:
            heartbeat.beat(valkey(), heartbeat.WATCHER)
        except RedisError as error:
            log.warning("watcher_heartbeat_not_written", error=type(error).__name__)

    def _tell_age(self, now: datetime) -> None:
        is_stale = self.marks_age_seconds > settings.LIMITS.stream_max_age_seconds
        if is_stale and not self._is_stale:
            text = "The mark stream is silent; marks are read by polling."
            raise_alert(STALE_CAUSE, Severity.CRITICAL, "STREAM_STALE", text, now=now)
        elif self._is_stale and not is_stale:
            clear_alert(STALE_CAUSE, now)
        self._is_stale = is_stale

    def _not_rung_lately(self, position_ids: Sequence[int]) -> list[int]:
        """A bell is on its way for a while: the same row rung each second would only crowd the queue."""
        lately = monotonic() - RUNG_FOR_SECONDS
        self._rung = {pk: at for pk, at in self._rung.items() if at > lately}
        fresh = [pk for pk in position_ids if pk not in self._rung]
        self._rung |= dict.fromkeys(fresh, monotonic())
        return fresh


async def listen_to_marks(watch: PriceWatch, post: Post) -> None:
    """Post every batch of marks of the futures market; what it reads comes before entries and reports."""
    stream = gateways().factory("binance").mark_stream(Market.FUTURES)
    with priority(Priority.PROTECTION):
        async for batch in stream.batches():
            post(_marks_work(watch, batch, is_streamed=not stream.is_stale))


def _marks_work(watch: PriceWatch, batch: Sequence[MarkPrice], *, is_streamed: bool) -> Work:
    return lambda now: watch.on_marks(batch, now, is_streamed=is_streamed)


async def listen_to_accounts(_: PriceWatch, post: Post) -> None:
    """Post what happens on every account."""
    await UserStreams(post).run()


LISTENERS: tuple[Listener, ...] = (listen_to_marks, listen_to_accounts)


class Command(BaseCommand):
    """Watch until told to stop."""

    help = "Watches marks against the levels of every open position and publishes them; one is needed."

    def handle(self, *_args: Any, **_options: Any) -> None:
        self._stopping = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        watch, inbox = PriceWatch(), Inbox()
        listening = [
            IoLoop.current().submit(listener(watch, partial(inbox.post, rank)))
            for rank, listener in enumerate(LISTENERS)
        ]
        try:
            self._watch(watch, inbox, listening)
        finally:
            for future in listening:
                future.cancel()
            close_gateways()

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _watch(self, watch: PriceWatch, inbox: Inbox, listening: Sequence[Future[None]]) -> None:
        round_at = 0.0
        while not self._stopping:
            _refuse_dead(listening)
            if (piece := inbox.next()) is not None:
                _do(piece)
            if monotonic() >= round_at:
                round_at = monotonic() + ROUND_SECONDS
                _do(watch.once_a_second)


def _do(piece: Work) -> None:
    """Do one piece and ring its bells; a database that is away costs this piece, never the watch."""
    try:
        ring(piece(settings.CLOCK.now()))
    except DatabaseError as error:
        log.warning("watch_interrupted", error=type(error).__name__)
        close_old_connections()


def _refuse_dead(listening: Sequence[Future[None]]) -> None:
    """A listener that ended is a fault: the process ends with it and its supervisor starts it anew."""
    for future in listening:
        if future.done():
            future.result()
            raise RuntimeError("a listener of the watcher ended")
