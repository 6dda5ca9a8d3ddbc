"""One decision, a tenth of whose answers are lost: every other one of those orders is at the exchange.

How long until what was taken is known, and until every share of the ledger is decided, what never was there
included. Beside the workers that send there is one that protects what filled, one that looks up, and a sweep
every five seconds.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from statistics import quantiles

from accounts.models import Account
from bench import rows
from bench.desk import Desk, wait_until_persisted
from bench.figures import Bound, Figure, middle
from bench.stage import LATENCY_MS, Scale, Stage
from bench.stub_client import Counts
from trading import tasks
from trading.models import Fill, Order
from trading.services.bells import Bells

PERCENT = 10
TIME_TO_SEND = timedelta(seconds=15)
"""As a desk has it: what turns out not to be there is offered again while the decision lasts."""


@dataclass(frozen=True, slots=True)
class Found:
    """One round: seconds until each taken order was known, and until the ledger was complete."""

    known_seconds: list[float]
    complete_seconds: float
    unrecorded: int
    doubled: int


def measured(stage: Stage, scale: Scale) -> Iterator[list[Figure]]:
    """A round takes as long as absence takes to prove, so there are few."""
    count = scale.accounts_or(1000)
    stage.start_valkey()
    stage.start_stub(LATENCY_MS)
    accounts = rows.fit_accounts(count)
    with Desk(stage, count) as desk:
        rounds = [_one_round(desk, accounts, scale.workers) for _ in range(scale.rounds_or(3))]
    known = [seconds for one in rounds for seconds in one.known_seconds]
    complete = middle([one.complete_seconds for one in rounds])
    yield [
        Figure(f"unclear_taken_known_p99_{count}", _p99(known), "s", None, Bound(3)),
        Figure(f"unclear_ledger_complete_{count}", complete, "s", None, Bound(16)),
        Figure(f"unclear_unrecorded_{count}", sum(one.unrecorded for one in rounds), "fills", None, Bound(0)),
        Figure(f"unclear_doubled_{count}", sum(one.doubled for one in rounds), "accounts", None, Bound(0)),
    ]


def _one_round(desk: Desk, accounts: list[Account], workers: int) -> Found:
    """Workers of its own each: what they would do next is to place a thousand stops."""
    desk.start(workers=workers, queues=("orders", "exits", "lookups"))
    desk.committed(accounts, fills=False)
    rows.clear()
    rows.pause_all_but(accounts)
    rows.publish_mark()
    desk.stub.reset(fills=True, unclear_percent=PERCENT, unclear_first=len(accounts))
    entries = rows.committed_entries(accounts, TIME_TO_SEND)
    began = rows.wall_clock()
    tasks.ring(Bells(entries=entries))
    wait_until_persisted(len(accounts))
    complete = (rows.wall_clock() - began).total_seconds()
    counts = desk.stub.counts()
    found = _found(counts, complete, len(accounts))
    desk.stop()
    return found


def _found(counts: Counts, complete: float, count: int) -> Found:
    taken = Order.objects.filter(client_order_id__in=counts.unclear_taken)
    known = [
        (known_at - sent_at).total_seconds()
        for sent_at, known_at in taken.values_list("submitted_at", "acknowledged_at")
        if sent_at is not None and known_at is not None
    ]
    at_exchange = counts.distinct - len(counts.unclear_refused)
    return Found(
        known_seconds=known,
        complete_seconds=complete,
        unrecorded=at_exchange - Fill.objects.count() + len(counts.unclear_taken) - len(known),
        doubled=counts.placed - counts.distinct + max(0, at_exchange - count),
    )


def _p99(values: list[float]) -> float:
    return quantiles(values, n=100)[98] if len(values) > 1 else values[0]
