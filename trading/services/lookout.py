"""The thread that keeps this watcher's membership, so that a long piece of work does not look like death."""

from collections.abc import Callable
from threading import Event, Thread
from time import monotonic

import structlog
from django.db import DatabaseError, close_old_connections, connection

from trading.services.watchers import BEAT_SECONDS, Membership

STUCK_SECONDS = 5.0
"""A working thread that does not turn for so long stands still, and another watcher should lead."""

log = structlog.get_logger(__name__)


class LookOut(Thread):
    """Beats and looks a few times a second for as long as the working thread turns."""

    def __init__(self, membership: Membership, hears_marks: Callable[[], bool]) -> None:
        """`hears_marks` is asked for each beat, from this thread."""
        super().__init__(name="lookout", daemon=True)
        self._membership = membership
        self._hears_marks = hears_marks
        self._turned_at = monotonic()
        self._ended = Event()

    def turned(self) -> None:
        """The working thread is about its work."""
        self._turned_at = monotonic()

    def run(self) -> None:
        """Look until told to end; a database that is away is looked for again."""
        while not self._ended.is_set():
            if monotonic() - self._turned_at < STUCK_SECONDS:
                self.look()
            self._ended.wait(BEAT_SECONDS)
        self._leave()
        connection.close()

    def look(self) -> None:
        """Look once."""
        try:
            self._membership.look(hears_marks=self._hears_marks())
        except DatabaseError as error:
            log.warning("watchers_not_seen", error=type(error).__name__)
            close_old_connections()

    def end(self) -> None:
        """Leave the others, and return when that is done."""
        self._ended.set()
        self.join(STUCK_SECONDS)

    def _leave(self) -> None:
        try:
            self._membership.leave()
        except DatabaseError as error:
            log.warning("watcher_not_left", error=type(error).__name__)
