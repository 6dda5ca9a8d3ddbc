"""The desk that is measured: workers as the Procfile starts them, and when all of a decision is in rows."""

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from django.conf import settings
from django.db.models import Max
from redis import Redis

from accounts.models import Account
from accounts.services.gateways import close_gateways
from bench import rows
from bench.stage import ROOT, Stage
from bench.stub_client import StubClient
from exchange import heartbeat
from trading import tasks
from trading.domain.states import OPEN, UNDECIDED, OrderPurpose
from trading.models import Allocation, Decision, Fill, Order, WatcherProcess
from trading.services import selection, sweeping
from trading.services.bells import Bells

THREADS = 8
WATCHERS = 2
"""As many as the Procfile starts."""
READY_SECONDS = 60.0
DONE_SECONDS = 120.0
LOOK_SECONDS = 0.01
SWEEP_SECONDS = 5.0
CPU_TICKS = os.sysconf("SC_CLK_TCK")
PAGE_KB = os.sysconf("SC_PAGE_SIZE") / 1024
UNACKED = ("unacked", "unacked_index")
FIGURES_KEPT = ("desk:tickers", "desk:depth:*")
"""Market figures that live for seconds: between the decisions of a desk they are gone."""


@dataclass(slots=True)
class Run:
    """One decision: milliseconds from its beginning, CPU seconds for 1,000 orders.

    `missing` and `doubled` are counted at the exchange, `unrecorded` are its executions without a row.
    """

    first_ms: float
    last_ms: float
    persisted_ms: float
    cpu_per_1000: float
    watcher_cpu_per_1000: float
    missing: int
    doubled: int
    unrecorded: int
    sweeps: int


@dataclass(slots=True)
class Runs:
    """The runs of several rounds."""

    each: list[Run] = field(default_factory=list)

    def of(self, name: str) -> list[float]:
        """One measurement of all rounds."""
        return [float(getattr(run, name)) for run in self.each]


class Desk:
    """Workers beside this process, which asks as the web process would and sweeps as beat would."""

    def __init__(self, stage: Stage, most_accounts: int) -> None:
        self._stage = stage
        self._most_accounts = most_accounts
        self.stub = StubClient(stage.exchange_url)
        self.pids: list[int] = []
        self._watchers: list[int] = []
        self._prefix = settings.CELERY_BROKER_TRANSPORT_OPTIONS["global_keyprefix"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        """End the workers and the watchers, and let go of what this process asked of the market."""
        self.stop()
        self.unwatch()
        close_gateways()

    def start(self, *, workers: int, queues: Sequence[str] = ("orders",)) -> None:
        """Start so many workers for each queue; returns when all say that they consume."""
        environment = self._stage.environment(self._most_accounts)
        self.drop_bells()
        expected = []
        for number in range(workers):
            for queue in queues:
                words = [
                    sys.executable,
                    "-m",
                    "celery",
                    "-A",
                    "project",
                    "worker",
                    "-n",
                    f"{queue}{number}@%h",
                ]
                words += ["-Q", queue, "-P", "threads", "-c", str(THREADS)]
                pid = self._stage.start([*words, "--without-gossip", "--without-mingle"], environment)
                expected.append((pid, heartbeat.worker_key(queue, pid)))
        self.pids = [pid for pid, _ in expected]
        with Redis.from_url(settings.REDIS_URL) as redis:
            wait_until(lambda: all(redis.exists(key) for _, key in expected), "the workers did not come up")

    def watch(self, count: int, *, watchers: int = WATCHERS) -> None:
        """Start watchers; returns when they hear the streams of so many accounts, and their rows say so."""
        self.start_watchers(watchers)
        wait_until(lambda: WatcherProcess.objects.count() == watchers, "not every watcher came up")
        wait_until(
            lambda: self.stub.counts().listeners == count, "not every account is listened to", READY_SECONDS
        )
        self.wait_heard(count)

    def start_watchers(self, count: int = WATCHERS) -> None:
        """Start so many watchers."""
        words = [sys.executable, str(ROOT / "manage.py"), "watch_prices", "--name"]
        environment = self._stage.environment(self._most_accounts)
        self._watchers = [
            self._stage.start([*words, f"watcher_{number}"], environment) for number in range(1, count + 1)
        ]

    def wait_heard(self, count: int) -> None:
        """Return when the rows of so many accounts say that their streams were proven alive."""
        wait_until(
            lambda: Account.objects.filter(heard_at__isnull=False).count() == count,
            "not every account is heard",
        )

    def unwatch(self) -> None:
        """End the watchers."""
        for pid in self._watchers:
            self._stage.end(pid)
        self._watchers = []

    @property
    def watcher_kb(self) -> float:
        """Resident memory of the watchers."""
        return sum(memory_kb(pid) for pid in self._watchers)

    def stop(self) -> None:
        """End the workers."""
        for pid in self.pids:
            self._stage.end(pid)
        self.pids = []

    def committed(self, accounts: list[Account], *, fills: bool) -> Run:
        """From committed entries: a message a chunk."""
        rows.clear()
        self.stub.reset(fills=fills)
        entries = rows.committed_entries(accounts)
        return self.measure(len(accounts), lambda: tasks.ring(Bells(entries=entries)), fills=fills)

    def asked(self, accounts: list[Account], *, fills: bool) -> Run:
        """From asking for a decision, as the API does for a signal: market, gate, sizing, commit and all."""
        rows.clear()
        self.stub.reset(fills=fills)
        rows.pause_all_but(accounts)
        self._forget_figures()
        if not self._watchers:
            rows.publish_mark()
        signal = rows.a_signal()

        def ask() -> None:
            decision = selection.request(signal, settings.CLOCK.now())
            tasks.ring(Bells(decisions=[decision.pk]))

        return self.measure(len(accounts), ask, fills=fills)

    def measure(self, count: int, begin: Callable[[], None], *, fills: bool) -> Run:
        """Begin, wait until everything is persisted, then until the workers rest; what it took."""
        cpu, watcher_cpu, began = self._worker_cpu(), self._watcher_cpu(), time.time()
        begin()
        sweeps = wait_until_persisted(count)
        persisted = time.time()
        self.wait_until_idle()  # what the last tasks still do belongs to these orders
        cpu, watcher_cpu = self._worker_cpu() - cpu, self._watcher_cpu() - watcher_cpu
        counts = self.stub.counts()
        acknowledged = Order.objects.aggregate(at=Max("acknowledged_at"))["at"]
        tell_refusals(count)
        return Run(
            first_ms=counts.first_ms - began * 1000,
            last_ms=(acknowledged.timestamp() - began) * 1000 if acknowledged else float("nan"),
            persisted_ms=(persisted - began) * 1000,
            cpu_per_1000=cpu / count * 1000,
            watcher_cpu_per_1000=watcher_cpu / count * 1000,
            missing=count - counts.distinct,
            doubled=counts.placed - counts.distinct,
            unrecorded=counts.distinct - Fill.objects.count() if fills else 0,
            sweeps=sweeps,
        )

    def wait_until_idle(self) -> None:
        """Until no entry waits and nothing is being worked on; bells that nobody here hears are dropped."""
        with Redis.from_url(settings.REDIS_URL) as redis:
            wait_until(
                lambda: not redis.llen(f"{self._prefix}orders") and not redis.hlen(f"{self._prefix}unacked"),
                "the workers did not come to rest",
                DONE_SECONDS,
            )
        self.drop_bells()

    def drop_bells(self) -> None:
        """Forget what waits for nobody, and what workers that are gone have left unacknowledged."""
        with Redis.from_url(settings.REDIS_URL) as redis:
            redis.delete(*(f"{self._prefix}{name}" for name in (*settings.QUEUES, *UNACKED)))

    def _worker_cpu(self) -> float:
        return sum(cpu_seconds(pid) for pid in self.pids)

    def _watcher_cpu(self) -> float:
        return sum(cpu_seconds(pid) for pid in self._watchers)

    def _forget_figures(self) -> None:
        with Redis.from_url(settings.REDIS_URL) as redis:
            for pattern in FIGURES_KEPT:
                for key in redis.scan_iter(pattern):
                    redis.delete(key)


def wait_until(is_so: Callable[[], bool], otherwise: str, seconds: float = READY_SECONDS) -> None:
    """Look until it is so. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            raise TimeoutError(otherwise)
        time.sleep(LOOK_SECONDS)


def wait_until_persisted(count: int, *, is_swept: bool = True) -> int:
    """Wait, sweeping at the cadence of beat as a desk would; returns how many sweeps it took."""
    began = swept_at = time.monotonic()
    sweeps = 0
    while not is_persisted(count):
        now = time.monotonic()
        if now - began > DONE_SECONDS:
            raise TimeoutError(f"not persisted after {DONE_SECONDS:.0f} s: {_states()}")
        if is_swept and now - swept_at > SWEEP_SECONDS:
            tasks.ring(sweeping.sweep(settings.CLOCK.now()))
            swept_at, sweeps = now, sweeps + 1
        time.sleep(LOOK_SECONDS)
    return sweeps


def is_persisted(count: int) -> bool:
    """Every account has its share, every order ended and its fills are whole, every share is decided."""
    if Order.objects.filter(status__in=OPEN, purpose=OrderPurpose.ENTRY).exists():
        return False
    if Order.objects.filter(fills_complete=False, purpose=OrderPurpose.ENTRY).exists():
        return False
    if Allocation.objects.filter(outcome__in=UNDECIDED).exists():
        return False
    return Allocation.objects.count() == count


def tell_refusals(count: int) -> None:
    """Orders that the stub would have taken and the desk did not send, by their code, beside the figures."""
    sent = Order.objects.filter(purpose=OrderPurpose.ENTRY).exclude(exchange_order_id="").count()
    if sent != count:
        sys.stderr.write(f"{count} shares, {sent} orders at the exchange: {_states()}\n")


def _states() -> dict[str, object]:
    orders = Order.objects.filter(purpose=OrderPurpose.ENTRY)
    return {
        "orders": dict(Counter(orders.values_list("status", "code"))),
        "shares": dict(Counter(Allocation.objects.values_list("outcome", "code"))),
        "decisions": list(Decision.objects.values_list("status", "stopped_code")),
    }


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, threads included, from /proc; in steps of 10 ms."""
    told = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(told[11]) + int(told[12])) / CPU_TICKS


def memory_kb(pid: int) -> float:
    """Resident memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * PAGE_KB
