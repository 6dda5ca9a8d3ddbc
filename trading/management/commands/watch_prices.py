"""The watcher's process: streams on the I/O loop's thread, rows and bells on this one.

`LISTENERS` run side by side as coroutines and post work; it is done here, one piece at a time, an earlier
listener's before a later one's: marks never wait behind what accounts tell. What is posted takes the desk's
moment and may return bells, so a further stream needs a listener and nothing else. Any number of these may
run: the first leads, all share the accounts' streams, and a thread of its own keeps each among the others.
"""

import os
import signal
import socket
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from datetime import datetime
from functools import partial
from itertools import count
from queue import Empty, PriorityQueue
from time import monotonic
from typing import Any

import structlog
from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError, close_old_connections

from accounts.services.gateways import close_gateways, gateways
from exchange import heartbeat
from exchange.budget import Priority, priority
from exchange.loop import IoLoop
from exchange.port import Market, MarkPrice
from trading.services.bells import Bells
from trading.services.lookout import LookOut
from trading.services.price_watch import PriceWatch
from trading.services.user_streams import UserStreams
from trading.services.watchers import Membership
from trading.tasks import ring

TURN_SECONDS = 0.25
ROUND_SECONDS = 1.0

Work = Callable[[datetime], Bells | None]
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

    def next(self, seconds: float = TURN_SECONDS) -> Work | None:
        """The next piece; None when none came within these seconds."""
        try:
            return self._waiting.get(block=seconds > 0, timeout=seconds or None)[2]
        except Empty:
            return None


async def listen_to_marks(watch: PriceWatch, post: Post) -> None:
    """Post every batch of marks of the futures market; what it reads comes before entries and reports."""
    stream = gateways().factory("binance").mark_stream(Market.FUTURES, watch.watched_symbols)
    with priority(Priority.PROTECTION):
        async for batch in stream.batches():
            post(_marks_work(watch, batch, is_streamed=not stream.is_stale))


def _marks_work(watch: PriceWatch, batch: Sequence[MarkPrice], *, is_streamed: bool) -> Work:
    return lambda now: watch.on_marks(batch, now, is_streamed=is_streamed)


async def listen_to_accounts(watch: PriceWatch, post: Post) -> None:
    """Post what happens on this watcher's share of the accounts."""
    await UserStreams(post, watch.membership).run()


LISTENERS: tuple[Listener, ...] = (listen_to_marks, listen_to_accounts)


class Command(BaseCommand):
    """Watch until told to stop."""

    help = "Watches marks and accounts' streams; one is needed, of two one stands by and shares the streams."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--name", default=heartbeat.WATCHER, help="what it says it lives under: one name a watcher"
        )

    def handle(self, *_args: Any, name: str, **_options: Any) -> None:
        self._stopping = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        membership, inbox = Membership(f"{socket.gethostname()}:{os.getpid()}"), Inbox()
        watch = PriceWatch(membership, ring, name)
        lookout = LookOut(watch.membership, watch.hears_marks)
        lookout.look()
        listening = [
            IoLoop.current().submit(listener(watch, partial(inbox.post, rank)))
            for rank, listener in enumerate(LISTENERS)
        ]
        lookout.start()
        try:
            self._watch(watch, inbox, lookout, listening)
        finally:
            lookout.end()
            for future in listening:
                future.cancel()
            close_gateways()

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _watch(
        self, watch: PriceWatch, inbox: Inbox, lookout: LookOut, listening: Sequence[Future[None]]
    ) -> None:
        round_at = 0.0
        _do(watch.begin)
        while not self._stopping:
            _refuse_dead(listening)
            lookout.turned()
            if (piece := inbox.next(TURN_SECONDS if watch.watcher.is_loaded else 0)) is not None:
                _do(piece)
            _do(watch.go_on)
            if monotonic() >= round_at:
                round_at = monotonic() + ROUND_SECONDS
                _do(watch.once_a_second)


def _do(piece: Work) -> None:
    """Do one piece and ring its bells; a database that is away costs this piece, never the watch."""
    try:
        bells = piece(settings.CLOCK.now())
        if bells:
            ring(bells)
    except DatabaseError as error:
        log.warning("watch_interrupted", error=type(error).__name__)
        close_old_connections()


def _refuse_dead(listening: Sequence[Future[None]]) -> None:
    """A listener that ended is a fault: the process ends with it and its supervisor starts it anew."""
    for future in listening:
        if future.done():
            future.result()
            raise RuntimeError("a listener of the watcher ended")
