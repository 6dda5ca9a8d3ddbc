"""The desk beside one task per account on prefork 8: from committed orders to everything persisted."""

import sys
import time
from collections.abc import Iterator

from accounts.models import Account
from bench import rows
from bench.desk import Desk, wait_until, wait_until_persisted
from bench.figures import Bound, Figure, middle
from bench.stage import LATENCY_MS, Scale, Stage
from bench.task_per_account import app, place_order

CHILDREN = 8


def measured(stage: Stage, scale: Scale) -> Iterator[list[Figure]]:
    """Rounds interleave; a round of the other takes long, so there are few."""
    count = scale.accounts_or(1000)
    stage.start_valkey()
    stage.start_stub(LATENCY_MS)
    accounts = rows.fit_accounts(count)
    compared = _start(stage, count, 2 if scale.is_quick else CHILDREN)
    own, other = [], []
    with Desk(stage, count) as desk:
        desk.start(workers=scale.workers)
        if scale.has_streams:
            desk.watch(count)
        desk.committed(accounts, fills=True)
        _one_round(desk, accounts)
        for _ in range(scale.rounds_or(3)):
            own.append(desk.committed(accounts, fills=True).persisted_ms)
            other.append(_one_round(desk, accounts))
    stage.end(compared)
    least = Bound(12, is_least=True)
    yield [
        Figure(f"task_per_account_persisted_{count}", middle(other), "ms", middle(own)),
        Figure(f"faster_than_task_per_account_{count}", middle(other) / middle(own), "x", None, least),
    ]


def _start(stage: Stage, count: int, children: int) -> int:
    words = [sys.executable, "-m", "celery", "-A", "bench.task_per_account", "worker", "-P", "prefork"]
    pid = stage.start([*words, "-c", str(children)], {**stage.environment(count), "BENCH_COMPARED": "1"})
    wait_until(lambda: bool(app.control.ping(timeout=0.5)), "the compared worker did not come up")
    return pid


def _one_round(desk: Desk, accounts: list[Account]) -> float:
    """Milliseconds from the first message to everything persisted."""
    rows.clear()
    desk.stub.reset(fills=True, told=False)
    entries = rows.committed_entries(accounts)
    began = time.time()
    for order_id in entries:
        place_order.delay(order_id)
    wait_until_persisted(len(accounts), is_swept=False)
    taken = (time.time() - began) * 1000
    counts = desk.stub.counts()
    if (counts.placed, counts.distinct) != (len(accounts), len(accounts)):
        raise RuntimeError(f"{counts.placed} orders of {counts.distinct} accounts, wanted {len(accounts)}")
    return taken
