"""Who strikes: kills, pauses, forgets, cuts and silences, in an order told by the seed alone.

Moments are aimed at orders on their way where there are any; which they are is up to the machine.
"""

import random
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from threading import Event, Thread

from django.db import connection

from tests.chaos.decks import Deck
from tests.chaos.figures import sent_entries
from tests.chaos.ground import Ground
from tests.chaos.proxy import Proxy
from tests.chaos.sizes import Size
from tests.trading_desk import TradingDesk
from trading.domain.states import OrderStatus
from trading.models import Order

PAUSE_SECONDS = 45.0
"""Longer than a claim's lease, a receive window and the absence rule together."""

LONGEST_LOCK_SECONDS = 25.0
"""Longer than a program waits for the database."""

FIRST = "pause 45 s worker_orders"
"""Every run has a sender that wakes too late."""

AIM_SECONDS = 6.0
CROWDED_SHARE = 0.5
"""Of the strikes fall on whatever the one before left; the others wait for a desk that trades again."""

TRADES_AGAIN_SECONDS = 60.0

Strike = tuple[str, Callable[[], None]]


class Nemesis(Thread):
    """Strikes until it is told to end; afterwards everything lives and every line carries."""

    def __init__(
        self, desk: TradingDesk, ground: Ground, programs: Sequence[str], size: Size, seed: int
    ) -> None:
        super().__init__(daemon=True, name="nemesis")
        self.struck: Counter[str] = Counter()
        self._desk = desk
        self._ground = ground
        self._programs = list(programs)
        self._dice = random.Random(f"nemesis {seed}")
        self._rest = size.rest
        self._pausable = size.paused
        self._entries_between = size.orders // size.blows
        self._entries_seen = 0
        self._ended = Event()
        self._paused: dict[str, float] = {}
        self._strikes = self._all_strikes()
        self._deck = Deck(self._strikes, self._dice)

    @property
    def kinds(self) -> set[str]:
        """The kinds of strikes there are."""
        return {name for name, _ in self._strikes}

    def run(self) -> None:
        """Strike, rest, strike again."""
        first: Strike | None = next(one for one in self._strikes if one[0] == FIRST)
        while not self._ended.wait(self._dice.uniform(*self._rest)):
            self._resume_due()
            if self._dice.random() >= CROWDED_SHARE:
                self._let_it_trade()
            name, strike = first or self._deck.deal()
            first = None
            say(f"nemesis: {name}")
            strike()
            self.struck[name] += 1
        connection.close()

    def end(self) -> None:
        """Strike no more, and take back what was done."""
        self._ended.set()
        self.join()
        while self._paused:  # a sender woken too early could still be in time
            self._wait(1.0)
        for line in (self._ground.broker, self._ground.database):
            if line is not None:
                line.heal()

    # ── strikes ──────────────────────────────────────────────────────────────
    def _all_strikes(self) -> list[Strike]:
        kills: list[Strike] = [(f"kill -9 {_kind(name)}", self._killer(name)) for name in self._programs]
        pauses: list[Strike] = [(f"pause 45 s {_kind(name)}", self._pauser(name)) for name in self._pausable]
        broker: list[Strike] = [
            ("kill -9 valkey", self._kill_valkey),
            ("kill -9 valkey, its file lost", self._lose_valkey),
        ]
        return [*kills, *pauses, *broker, *self._of_line("broker", self._ground.broker), *self._of_database()]

    def _of_database(self) -> list[Strike]:
        if self._ground.database is None:
            return [("database locked", self._lock_sqlite)]
        return self._of_line("database", self._ground.database)

    def _of_line(self, name: str, line: Proxy) -> list[Strike]:
        return [
            (f"{name} cut", lambda: self._cut(line)),
            (f"{name} silent", lambda: self._silence(line, then_cut=False)),
            (f"{name} silent, then cut", lambda: self._silence(line, then_cut=True)),
        ]

    def _killer(self, name: str) -> Callable[[], None]:
        def kill() -> None:
            if "worker" in name:
                self._aim()
            with self._desk.supervisor.leaving_alone(name):
                self._paused.pop(name, None)
                self._desk.programs.process(name).kill()
                self._wait(self._dice.uniform(0.2, 3.0))

        return kill

    def _pauser(self, name: str) -> Callable[[], None]:
        def pause() -> None:
            if "worker" in name:
                self._aim()
            self._desk.programs.process(name).pause()
            self._paused[name] = time.monotonic() + PAUSE_SECONDS

        return pause

    def _kill_valkey(self) -> None:
        self._ground.valkey.kill()
        self._wait(self._dice.uniform(0.2, 6.0))
        self._ground.valkey.start()

    def _lose_valkey(self) -> None:
        self._aim()
        self._ground.valkey.kill()
        self._ground.valkey.forget()
        self._wait(self._dice.uniform(0.2, 3.0))
        self._ground.valkey.start()

    def _cut(self, line: Proxy) -> None:
        self._aim()
        line.cut()
        self._wait(self._dice.uniform(0.1, 4.0))
        line.heal()

    def _silence(self, line: Proxy, *, then_cut: bool) -> None:
        self._aim()
        line.fall_silent()
        self._wait(self._dice.uniform(2.0, 12.0))
        if then_cut:
            line.cut()
            self._wait(0.5)
        line.heal()

    def _lock_sqlite(self) -> None:
        self._aim()
        path = connection.settings_dict["NAME"]
        with closing(sqlite3.connect(path, isolation_level=None, timeout=60)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            self._wait(self._dice.uniform(2.0, LONGEST_LOCK_SECONDS))
            holder.execute("ROLLBACK")

    # ── steps ────────────────────────────────────────────────────────────────
    def _aim(self) -> None:
        """Wait for orders on their way, a little while; then for a moment within it."""
        until = time.monotonic() + AIM_SECONDS
        on_their_way = Order.objects.filter(status=OrderStatus.SUBMITTED)
        while not self._ended.is_set() and time.monotonic() < until and not on_their_way.exists():
            time.sleep(0.003)
        if self._dice.random() < 0.5:
            self._wait(self._dice.uniform(0.0, 0.4))

    def _let_it_trade(self) -> None:
        """Until entries have left since the last time: a desk that never gets up has nothing to lose.

        However slow the machine is, so much trade falls between strikes.
        """
        until = time.monotonic() + TRADES_AGAIN_SECONDS
        enough = self._entries_seen + self._entries_between
        while not self._ended.is_set() and time.monotonic() < until and sent_entries() < enough:
            self._wait(0.5)
        self._entries_seen = sent_entries()

    def _wait(self, seconds: float) -> None:
        """As long as that, also when the end is asked for: a strike is finished."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.5))
            self._resume_due()

    def _resume_due(self) -> None:
        for name, until in list(self._paused.items()):
            if time.monotonic() >= until:
                self._resume(name)

    def _resume(self, name: str) -> None:
        if self._paused.pop(name, None) is not None:
            self._desk.programs.process(name).resume()


def _kind(name: str) -> str:
    """The program a process is a copy of."""
    return name.rstrip("0123456789").rstrip("_")


def say(text: str) -> None:
    """Tell whoever watches."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S', time.gmtime())} {text}\n")
    sys.stderr.flush()
