"""One decision over N accounts to the last acknowledgement and everything persisted, beside the floors.

Rounds interleave: bare aiohttp, tuned ccxt, tuned ccxt with executions, the desk from committed orders with
fills and without, the desk from the asking; and again. *Persisted* is fills, shares and positions committed.
Without fills every order ends with nothing filled, and no executions are read.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from accounts.models import Account
from accounts.services.gateways import close_gateways
from bench import rows
from bench.desk import Desk, Runs
from bench.figures import Bound, Figure, middle
from bench.floor_rounds import Floors, Passes, floor_figures
from bench.stage import POSTGRES, SQLITE, Scale, Stage
from exchange.loop import gc_freeze

LATENCY_MS = 50.0
TO_CCXT = {POSTGRES: 1.6, SQLITE: 1.8}
TO_BARE = Bound(3.0, of_ratio=True)


@dataclass(slots=True)
class Rounds:
    """What the rounds of one number of accounts measured."""

    passes: Passes = field(default_factory=Passes)
    filled: Runs = field(default_factory=Runs)
    unfilled: Runs = field(default_factory=Runs)
    asked: Runs = field(default_factory=Runs)


def measured(stage: Stage, scale: Scale) -> Iterator[list[Figure]]:
    """The figures of one number of accounts."""
    count = scale.accounts or (20 if scale.is_quick else 1000)
    stage.start_valkey()
    stage.start_stub(LATENCY_MS)
    accounts = rows.fit_accounts(count)
    desk, floors = Desk(stage, count), Floors(stage.exchange_url)
    desk.start()
    floors.open([one.name for one in accounts])
    gc_freeze()
    try:
        yield _figures(stage.database, count, rounds_of(desk, floors, accounts, scale.rounds_or(9)), floors)
    finally:
        floors.close()
        close_gateways()


def rounds_of(desk: Desk, floors: Floors, accounts: list[Account], rounds: int) -> Rounds:
    """The first round only warms connections, keys and code."""
    one_round(desk, floors, accounts, Rounds())
    found = Rounds()
    for _ in range(rounds):
        one_round(desk, floors, accounts, found)
    return found


def one_round(desk: Desk, floors: Floors, accounts: list[Account], found: Rounds) -> None:
    """Every way once."""
    floors.one_round([one.name for one in accounts], found.passes)
    found.filled.each.append(desk.committed(accounts, fills=True))
    found.unfilled.each.append(desk.committed(accounts, fills=False))
    found.asked.each.append(desk.asked(accounts, fills=True))


def _figures(database: str, count: int, found: Rounds, floors: Floors) -> list[Figure]:
    passes, asked = found.passes, found.asked
    to_asked = Bound(2.2, of_ratio=True) if database == POSTGRES else None
    persisted = middle(asked.of("persisted_ms"))
    about = f"{database}_{{}}_{count}".format
    return [
        *floor_figures(count, passes, floors.alone_us),
        *_committed(database, count, "committed", found.filled, passes),
        *_committed(database, count, "committed_unfilled", found.unfilled, passes),
        *_faults(database, count, "asked", asked),
        Figure(about("asked_to_first_order"), middle(asked.of("first_ms")), "ms", None, Bound(200)),
        Figure(about("asked_to_last_acknowledged"), middle(asked.of("last_ms")), "ms", passes.ccxt_ms),
        Figure(about("asked_to_persisted"), persisted, "ms", passes.ccxt_ms, to_asked),
        Figure(about("asked_worker_cpu_per_1000"), middle(asked.of("cpu_per_1000")), "s"),
    ]


def _committed(database: str, count: int, way: str, runs: Runs, passes: Passes) -> list[Figure]:
    persisted = middle(runs.of("persisted_ms"))
    cpu = middle(runs.of("cpu_per_1000"))
    ccxt_cpu = middle([one.cpu_seconds for one in passes.ccxt]) / count * 1000
    about = f"{database}_{way}_{{}}_{count}".format
    to_ccxt = Bound(TO_CCXT[database], of_ratio=True)
    return [
        *_faults(database, count, way, runs),
        Figure(about("to_first_order"), middle(runs.of("first_ms")), "ms", None, Bound(40)),
        Figure(about("to_last_acknowledged"), middle(runs.of("last_ms")), "ms", passes.ccxt_ms),
        Figure(about("to_persisted_by_ccxt"), persisted, "ms", passes.ccxt_ms, to_ccxt),
        Figure(about("to_persisted_by_bare"), persisted, "ms", passes.bare_ms, TO_BARE),
        Figure(about("worker_cpu_per_1000"), cpu, "s", ccxt_cpu, Bound(0.7)),
    ]


def _faults(database: str, count: int, way: str, runs: Runs) -> list[Figure]:
    """What must be nothing, over all rounds."""
    about = f"{database}_{way}_{{}}_{count}".format
    units = {"missing": "orders", "doubled": "orders", "unrecorded": "fills", "sweeps": "sweeps"}
    return [Figure(about(name), sum(runs.of(name)), unit, None, Bound(0)) for name, unit in units.items()]
