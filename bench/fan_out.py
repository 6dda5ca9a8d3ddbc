"""One decision's committed orders to the last acknowledgement and everything persisted, beside the floors.

Two kinds of exchange answer: `acknowledged` ends every order with nothing filled, `filled` fills it whole, so
that its executions are read, and fills, positions, plans and stop orders are written too. Rounds interleave:
bare, ccxt, desk in this process, desk through workers, and again.
"""

import asyncio
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import uvloop
from django.conf import settings
from django.db import connection
from django.db.models import Max
from redis import Redis

from accounts.models import Account
from accounts.services.gateways import close_gateways, warm_up
from bench import rows
from bench.figures import Bound, Figure, middle
from bench.floors import BareFloor, CcxtFloor, Pass, timed
from bench.stage import Scale, Stage
from bench.stub_client import StubClient
from exchange import heartbeat
from exchange.loop import IoLoop, gc_freeze
from trading import tasks
from trading.domain.states import OPEN, UNDECIDED, OrderPurpose
from trading.models import Allocation, Order
from trading.services import decisions, execution, sweeping
from trading.services.bells import Bells

LATENCY_MS = 50.0
THREADS = 8
WORKERS = 2
READY_SECONDS = 40.0
DONE_SECONDS = 120.0
LOOK_SECONDS = 0.01
SWEEP_SECONDS = 5.0
CPU_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Rounds:
    """What the rounds of one number of accounts and one kind of answer measured, in ms and CPU seconds."""

    bare: list[Pass] = field(default_factory=list)
    ccxt: list[Pass] = field(default_factory=list)
    ccxt_read: list[Pass] = field(default_factory=list)
    measured: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def middle(self, name: str) -> float:
        """The median of one measurement."""
        return middle(self.measured[name])


class FanOut:
    """The programs and accounts of the measurement; the stub, the broker and two workers run beside it."""

    def __init__(self, stage: Stage, counts: list[int], rounds: int) -> None:
        self._stage = stage
        self._counts = counts
        self._rounds = rounds
        self._stub = StubClient(stage.exchange_url)
        self._pids: list[int] = []
        self._prefix = settings.CELERY_BROKER_TRANSPORT_OPTIONS["global_keyprefix"]
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._pool = ThreadPoolExecutor(THREADS)
        self._bare: BareFloor
        self._ccxt: CcxtFloor

    def run(self) -> Iterator[list[Figure]]:
        """Warm everything, measure, and leave nothing open."""
        accounts = rows.fit_accounts(max(self._counts))
        self._start_workers()
        self._runner.run(self._open([one.name for one in accounts]))
        IoLoop.current().run(warm_up(), READY_SECONDS)
        gc_freeze()
        try:
            for count in self._counts:
                yield from self._measure(accounts[:count])
        finally:
            self._runner.run(self._close())
            self._runner.close()
            self._pool.shutdown()
            close_gateways()

    def _measure(self, accounts: list[Account]) -> Iterator[list[Figure]]:
        yield _figures(len(accounts), "acknowledged", self._rounds_of(accounts, fills=False))
        yield _figures(len(accounts), "filled", self._rounds_of(accounts, fills=True))

    def _rounds_of(self, accounts: list[Account], *, fills: bool) -> Rounds:
        """The first round only warms connections, keys and code."""
        self._one_round(accounts, Rounds(), fills=fills)
        found = Rounds()
        for _ in range(self._rounds):
            self._one_round(accounts, found, fills=fills)
        return found

    def _one_round(self, accounts: list[Account], found: Rounds, *, fills: bool) -> None:
        keys = [one.name for one in accounts]
        self._stub.reset(fills=fills)
        found.bare.append(self._runner.run(timed(self._bare.send, keys)))
        found.ccxt.append(self._runner.run(timed(self._ccxt.send, keys)))
        if fills:
            found.ccxt_read.append(self._runner.run(timed(self._ccxt.send_and_read, keys)))
        self._in_process(accounts, found, fills=fills)
        self._through_workers(accounts, found, fills=fills)

    # -- the desk ----------------------------------------------------------------------------------------

    def _in_process(self, accounts: list[Account], found: Rounds, *, fills: bool) -> None:
        """The services themselves, in threads as a worker has them, without a message."""
        entries = self._begin(accounts, fills=fills)
        cpu, began = time.process_time(), time.time()
        chunks = [entries[at : at + tasks.CHUNK] for at in range(0, len(entries), tasks.CHUNK)]
        touched = {decision for told in self._pool.map(_submit, chunks) for decision in told}
        decisions.settle(sorted(touched), settings.CLOCK.now())
        found.measured["process_persisted_ms"].append((time.time() - began) * 1000)
        found.measured["process_cpu"].append((time.process_time() - cpu) / len(entries) * 1000)
        self._end("process", found, began, len(entries))

    def _through_workers(self, accounts: list[Account], found: Rounds, *, fills: bool) -> None:
        """As in production: a message a chunk, worker processes of their own."""
        entries = self._begin(accounts, fills=fills)
        cpu, began = self._worker_cpu(), time.time()
        tasks.ring(Bells(entries=entries))
        swept = _wait_until_persisted()
        found.measured["workers_persisted_ms"].append((time.time() - began) * 1000)
        found.measured["workers_sweeps"].append(swept)
        self._wait_until_idle()  # what the last tasks still do belongs to these orders
        found.measured["workers_cpu"].append((self._worker_cpu() - cpu) / len(entries) * 1000)
        self._end("workers", found, began, len(entries))

    def _begin(self, accounts: list[Account], *, fills: bool) -> list[int]:
        rows.clear()
        self._stub.reset(fills=fills)
        return rows.committed_entries(accounts)

    def _end(self, way: str, found: Rounds, began: float, wanted: int) -> None:
        counts = self._stub.counts()
        found.measured[f"{way}_missing"].append(wanted - counts.distinct)
        found.measured[f"{way}_doubled"].append(counts.placed - counts.distinct)
        acknowledged = Order.objects.aggregate(at=Max("acknowledged_at"))["at"]
        found.measured[f"{way}_first_ms"].append(counts.first_ms - began * 1000)
        found.measured[f"{way}_last_ms"].append((acknowledged.timestamp() - began) * 1000)
        _tell_refusals(way, wanted)

    # -- programs ----------------------------------------------------------------------------------------

    def _start_workers(self) -> None:
        environment = self._stage.environment(max(self._counts))
        for number in range(WORKERS):
            words = [sys.executable, "-m", "celery", "-A", "project", "worker", "-n", f"orders{number}@%h"]
            words += [
                "-Q",
                "orders",
                "-P",
                "threads",
                "-c",
                str(THREADS),
                "--without-gossip",
                "--without-mingle",
            ]
            self._pids.append(self._stage.start(words, environment))
        end = time.monotonic() + READY_SECONDS
        with Redis.from_url(settings.REDIS_URL) as redis:
            while not all(redis.exists(heartbeat.worker_key("orders", pid)) for pid in self._pids):
                if time.monotonic() > end:
                    raise TimeoutError("the workers did not come up")
                time.sleep(0.1)

    def _wait_until_idle(self) -> None:
        """Until no message waits or is being worked on; bells that nobody here hears are dropped."""
        end = time.monotonic() + DONE_SECONDS
        with Redis.from_url(settings.REDIS_URL) as redis:
            while redis.llen(f"{self._prefix}orders") or redis.hlen(f"{self._prefix}unacked"):
                if time.monotonic() > end:
                    raise TimeoutError("the workers did not come to rest")
                time.sleep(LOOK_SECONDS)
            redis.delete(*(f"{self._prefix}{name}" for name in settings.QUEUES))

    def _worker_cpu(self) -> float:
        return sum(_cpu_seconds(pid) for pid in self._pids)

    async def _open(self, keys: list[str]) -> None:
        self._bare, self._ccxt = BareFloor(self._stage.exchange_url), CcxtFloor(self._stage.exchange_url)
        await self._ccxt.load(keys)

    async def _close(self) -> None:
        await self._bare.close()
        await self._ccxt.close()


def measured(stage: Stage, scale: Scale) -> Iterator[list[Figure]]:
    """The figures, a kind and a number of accounts at a time."""
    counts = [scale.accounts] if scale.accounts else [20] if scale.is_quick else [20, 200]
    stage.start_valkey()
    stage.start_stub(LATENCY_MS)
    yield from FanOut(stage, counts, rounds=scale.rounds_or(5)).run()


def _submit(entries: list[int]) -> list[int]:
    """Send a chunk as a worker does; the decisions it touched."""
    try:
        return execution.submit(entries, settings.CLOCK.now()).decisions
    finally:
        connection.close()


def _tell_refusals(way: str, wanted: int) -> None:
    """Orders that the stub would have taken and the desk did not send, by their code, beside the figures."""
    refused = Order.objects.filter(purpose=OrderPurpose.ENTRY, exchange_order_id="")
    codes = Counter(refused.values_list("status", "code"))
    if codes:
        sys.stderr.write(f"{way}, {wanted} orders, not sent: {dict(codes)}\n")


def _wait_until_persisted() -> int:
    """Wait, sweeping at the cadence of beat as a desk would; returns how many sweeps it took."""
    began = swept_at = time.monotonic()
    sweeps = 0
    while not _is_persisted():
        now = time.monotonic()
        if now - began > DONE_SECONDS:
            raise TimeoutError(f"not persisted after {DONE_SECONDS:.0f} s")
        if now - swept_at > SWEEP_SECONDS:
            tasks.ring(sweeping.sweep(settings.CLOCK.now()))
            swept_at, sweeps = now, sweeps + 1
        time.sleep(LOOK_SECONDS)
    return sweeps


def _is_persisted() -> bool:
    """Every order ended and its fills whole, every share decided."""
    if Order.objects.filter(status__in=OPEN, purpose=OrderPurpose.ENTRY).exists():
        return False
    if Order.objects.filter(fills_complete=False, purpose=OrderPurpose.ENTRY).exists():
        return False
    return not Allocation.objects.filter(outcome__in=UNDECIDED).exists()


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process, threads included, from /proc; in steps of 10 ms."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:  # noqa: PTH123 -- not a file, and read often
        told = file.read().rpartition(")")[2].split()
    return (int(told[11]) + int(told[12])) / CPU_TICKS


def _figures(count: int, kind: str, found: Rounds) -> list[Figure]:
    bare, tuned = (middle([one.last_ms for one in passes]) for passes in (found.bare, found.ccxt))
    tuned_cpu = middle([one.cpu_seconds for one in found.ccxt]) / count * 1000
    bare_cpu = middle([one.cpu_seconds for one in found.bare]) / count * 1000
    about = f"{kind}_{count}"
    figures = [
        Figure(
            f"workers_sweeps_needed_{about}", sum(found.measured["workers_sweeps"]), "sweeps", None, Bound(0)
        ),
        Figure(f"floor_bare_last_{about}", bare, "ms"),
        Figure(f"floor_bare_cpu_per_1000_{about}", bare_cpu, "s"),
        Figure(f"floor_ccxt_last_{about}", tuned, "ms", bare),
        Figure(f"floor_ccxt_cpu_per_1000_{about}", tuned_cpu, "s", bare_cpu),
    ]
    if found.ccxt_read:
        read = middle([one.last_ms for one in found.ccxt_read])
        figures.append(Figure(f"floor_ccxt_order_and_executions_{about}", read, "ms", tuned))
    for way in ("process", "workers"):
        persisted = found.middle(f"{way}_persisted_ms")
        missing, doubled = (sum(found.measured[f"{way}_{fault}"]) for fault in ("missing", "doubled"))
        figures += [
            Figure(f"{way}_orders_missing_{about}", missing, "orders", None, Bound(0)),
            Figure(f"{way}_orders_doubled_{about}", doubled, "orders", None, Bound(0)),
            Figure(f"{way}_first_order_{about}", found.middle(f"{way}_first_ms"), "ms", None, Bound(40)),
            Figure(f"{way}_last_acknowledged_{about}", found.middle(f"{way}_last_ms"), "ms", tuned),
            Figure(f"{way}_persisted_{about}", persisted, "ms", tuned, Bound(1.8, of_ratio=True)),
            Figure(f"{way}_persisted_to_bare_{about}", persisted, "ms", bare, Bound(3.0, of_ratio=True)),
            Figure(f"{way}_cpu_per_1000_{about}", found.middle(f"{way}_cpu"), "s", tuned_cpu, Bound(0.7)),
        ]
    return figures
