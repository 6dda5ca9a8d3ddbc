"""Marks followed by one watcher among several: the leader publishes and acts, the others look on."""

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from time import monotonic

import structlog
from django.conf import settings
from redis.exceptions import RedisError

from alerts.models import Severity
from alerts.services import clear_alert, raise_alert
from exchange import heartbeat
from exchange.marks import MarkBoard, age_seconds
from exchange.port import Market, MarkPrice
from trading.services import watching
from trading.services.bells import Bells
from trading.services.fills import warm_market_table
from trading.services.valkey import keep, valkey
from trading.services.watch_check import DIGEST_KEPT_SECONDS, DIGEST_KEY
from trading.services.watcher import Watcher
from trading.services.watchers import Membership

REFRESH_SECONDS = 0.5
RUNG_FOR_SECONDS = 3.0
STALE_CAUSE = "marks-stale"

log = structlog.get_logger(__name__)


class Lateness:
    """How much later than usual marks come, whatever the clocks say: what a pause left in a socket is old."""

    NEW_USUAL_SECONDS = 10.0

    def __init__(self) -> None:
        """Nothing is usual yet."""
        self._usual: float | None = None
        self._late_since: float | None = None

    def seconds(self, at: datetime) -> float:
        """How late a mark of that moment comes now. What stays late for long is the new usual."""
        now = monotonic()
        lag = now - at.timestamp()
        if self._usual is None or lag < self._usual:
            self._usual = lag
        late = lag - self._usual
        if late <= settings.LIMITS.stream_max_age_seconds:
            self._late_since = None
            return late
        self._late_since = self._late_since or now
        if now - self._late_since > self.NEW_USUAL_SECONDS:
            self._usual, self._late_since = lag, None
            return 0.0
        return late


class PriceWatch:
    """Marks become bells; what is due rings each second; staleness is told and published."""

    def __init__(
        self, membership: Membership, ring: Callable[[Bells], None], name: str = heartbeat.WATCHER
    ) -> None:
        """`membership` tells who leads; somebody else keeps it. `name` is the one it says it lives under.

        `ring` rings at once what a chunk of crossed levels asks for: no exit waits for the next chunk.
        """
        self.membership = membership
        self._sign_of_life = heartbeat.watcher_key(name)
        self._ring = ring
        self.watcher = Watcher(membership.holds)
        self._board = MarkBoard(valkey())
        self._lateness = Lateness()
        self._started_at = self._refreshed_at = self._sliced_at = monotonic()
        self._marked_at: float | None = None
        self._has_begun = False
        self._symbols: frozenset[str] = frozenset()
        self._rung: dict[int, float] = {}
        self._is_stale: bool | None = None

    # ── loading ──────────────────────────────────────────────────────────────

    def begin(self, now: datetime) -> None:
        """Load and act on what the marks on the board have crossed already; the rest follows in slices."""
        fresh = [mark for mark in self._board.read().values() if self._is_fresh(mark, now)]
        oldest = max((age_seconds(mark, now) for mark in fresh), default=0.0)
        self._begin(fresh, now, max(0.0, oldest))
        warm_market_table(Market.FUTURES)

    def go_on(self, now: datetime) -> None:
        """Between marks: the next slice of rows when it is due, and what moved since the last look."""
        moment = monotonic()
        if moment - self._sliced_at >= self.watcher.slice_seconds():
            self.watcher.take_slice()
            self._sliced_at = monotonic()
        elif moment - self._refreshed_at >= REFRESH_SECONDS:
            self.watcher.refresh()
            self._refreshed_at = monotonic()
        self._act(now)

    def _begin(self, marks: Sequence[MarkPrice], now: datetime, late_seconds: float) -> None:
        self.watcher.begin({mark.symbol: mark.mark_price for mark in marks}, late_seconds=late_seconds)
        self._has_begun = bool(marks)
        self._act(now)

    def _is_fresh(self, mark: MarkPrice, now: datetime) -> bool:
        return abs(age_seconds(mark, now)) <= settings.LIMITS.stream_max_age_seconds

    # ── marks ────────────────────────────────────────────────────────────────

    def on_marks(self, batch: Sequence[MarkPrice], now: datetime, *, is_streamed: bool) -> None:
        """Publish a batch and follow the plans through it; a polled one does not count as a living stream."""
        newest = max((mark.at for mark in batch), default=None)
        late_seconds = 0.0 if newest is None else self._lateness.seconds(newest)
        if newest is None or late_seconds > settings.LIMITS.stream_max_age_seconds:
            log.warning("marks_too_late", marks=len(batch))
            return
        if is_streamed:
            self._marked_at = monotonic()
        # The levels first: nothing that is published or told is waited for by an exit.
        if not self._has_begun and not self.watcher.is_loaded:
            self._begin(batch, now, late_seconds)
        else:
            prices = {mark.symbol: mark.mark_price for mark in batch}
            self.watcher.see(prices, late_seconds=late_seconds)
            self._act(now)
        if self.membership.leads:
            self._publish(batch, is_streamed=is_streamed)

    def _act(self, now: datetime) -> None:
        if not self.membership.leads:
            self.watcher.forget_old()
            return
        for bells in self.watcher.acts(now):
            self._ring(bells)

    def _publish(self, batch: Sequence[MarkPrice], *, is_streamed: bool) -> None:
        try:
            self._board.publish(batch)
            if is_streamed:
                heartbeat.beat(valkey(), heartbeat.MARKS)
        except RedisError as error:
            log.warning("marks_not_published", error=type(error).__name__)

    # ── each second ──────────────────────────────────────────────────────────

    def once_a_second(self, now: datetime) -> None:
        """Say that the watcher lives and how old its marks are; ring what asked to be looked at by now."""
        self._say_alive()
        self._symbols = self.watcher.symbols()
        if not self.membership.leads:
            self._is_stale = None
            return
        self._tell_age(now)
        self._tell_watched(now)
        self._ring(Bells(positions=self._not_rung_lately(watching.due(now))))

    @property
    def marks_age_seconds(self) -> float:
        """How long ago the stream brought marks, or the start where it never did."""
        return monotonic() - (self._marked_at or self._started_at)

    def watched_symbols(self) -> frozenset[str]:
        """The symbols whose marks matter, as of the last second; from any thread."""
        return self._symbols

    def hears_marks(self) -> bool:
        """Whether the stream brings marks: one that hears leads before one that does not."""
        return (
            self._marked_at is not None and self.marks_age_seconds <= settings.LIMITS.stream_max_age_seconds
        )

    def _say_alive(self) -> None:
        try:
            heartbeat.beat(valkey(), self._sign_of_life)
        except RedisError as error:
            log.warning("watcher_heartbeat_not_written", error=type(error).__name__)

    def _tell_age(self, now: datetime) -> None:
        """Staleness is told once, and its end too, whoever of the watchers had told it."""
        is_stale = self.marks_age_seconds > settings.LIMITS.stream_max_age_seconds
        if is_stale and not self._is_stale:
            text = "The mark stream is silent; marks are read by polling."
            raise_alert(STALE_CAUSE, Severity.CRITICAL, "STREAM_STALE", text, now=now)
        elif self._is_stale is not False and not is_stale:
            clear_alert(STALE_CAUSE, now)
        self._is_stale = is_stale

    def _tell_watched(self, now: datetime) -> None:
        """Publish what is watched, for the sweep that compares it with the rows."""
        read_at = self.watcher.read_at
        if read_at is None or not self.watcher.is_loaded:
            return
        told = {"read_at": read_at.isoformat(), "at": now.isoformat(), "sums": self.watcher.digest()}
        keep(DIGEST_KEY, json.dumps(told), DIGEST_KEPT_SECONDS)

    def _not_rung_lately(self, position_ids: Sequence[int]) -> list[int]:
        """A bell is on its way for a while: the same row rung each second would only crowd the queue."""
        lately = monotonic() - RUNG_FOR_SECONDS
        self._rung = {pk: at for pk, at in self._rung.items() if at > lately}
        fresh = [pk for pk in position_ids if pk not in self._rung]
        self._rung |= dict.fromkeys(fresh, monotonic())
        return fresh
