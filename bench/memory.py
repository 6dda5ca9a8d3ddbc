"""What a further account costs in memory: a worker that sends its orders, a watcher that listens to it."""

import time
from collections.abc import Iterator

from django.conf import settings

from accounts.models import Account
from bench import rows
from bench.desk import Desk, memory_kb, wait_until
from bench.figures import Bound, Figure
from bench.stage import LATENCY_MS, Scale, Stage

PASSES = 2
SETTLE_SECONDS = 12.0
"""Longer than the first ping of every stream."""


def measured(stage: Stage, scale: Scale) -> Iterator[list[Figure]]:
    """The same process before and after for the worker, two processes for the watcher.

    The worker begins with more orders than its chunks have in hand at once: until then it grows by what is in
    flight, which no further account adds to.
    """
    few, many = (10, 30) if scale.is_quick else (1000, 2000)
    stage.start_valkey()
    stage.start_stub(LATENCY_MS)
    accounts = rows.fit_accounts(many)
    yield [_worker(stage, accounts, few)]
    few, many = (10, 30) if scale.is_quick else (100, 1000)
    yield [_stream_holder(stage, accounts[:many], few)]


def _worker(stage: Stage, accounts: list[Account], few: int) -> Figure:
    """One worker alone, so that every account is in it; connections of all accounts open."""
    desk = Desk(stage, len(accounts))
    desk.start(workers=1)
    for _ in range(PASSES):
        desk.committed(accounts[:few], fills=True)
    before = memory_kb(desk.pids[0])
    for _ in range(PASSES):
        desk.committed(accounts, fills=True)
    added = (memory_kb(desk.pids[0]) - before) / (len(accounts) - few)
    desk.stop()
    return Figure("memory_an_account_orders_worker", added, "KB", None, Bound(10))


def _stream_holder(stage: Stage, accounts: list[Account], few: int) -> Figure:
    rows.clear()
    less, more = (_watched(stage, accounts[:count]) for count in (few, len(accounts)))
    added = (more - less) / (len(accounts) - few)
    return Figure("memory_an_account_stream_holder", added, "KB", None, Bound(60))


def _watched(stage: Stage, accounts: list[Account]) -> float:
    """Resident KB of a watcher that listens to these accounts."""
    desk = Desk(stage, len(accounts))
    Account.objects.update(archived_at=None, heard_at=None)
    others = Account.objects.exclude(pk__in=[one.pk for one in accounts])
    others.update(archived_at=settings.CLOCK.now())
    desk.watch(len(accounts), watchers=1)
    time.sleep(SETTLE_SECONDS)
    resident = desk.watcher_kb
    desk.unwatch()
    wait_until(lambda: desk.stub.counts().listeners == 0, "the watcher did not let go")
    return resident
