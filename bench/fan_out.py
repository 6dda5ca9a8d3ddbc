"""One decision over N accounts to the last acknowledgement and everything persisted, beside the floors.

Rounds interleave: bare aiohttp, tuned ccxt, tuned ccxt with executions, the desk from committed orders with
fills and without, the desk from the asking; and again. *Persisted* is fills, shares and positions committed.
Without fills every order ends with nothing filled, and no executions are read.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from accounts.models import Account
from bench import rows
from bench.desk import Desk, Runs
from bench.figures import Bound, Figure, middle
from bench.floor_rounds import Floors, Passes, floor_figures
from bench.stage import LATENCY_MS, POSTGRES, SQLITE, Scale, Stage
from exchange.loop import gc_freeze

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
    count = scale.accounts_or(1000)
    stage.start_valkey()
    stage.start_stub(LATENCY_MS)
    accounts = rows.fit_accounts(count)
    with Desk(stage, count) as desk, Floors(stage.exchange_url, accounts) as floors:
        desk.start(workers=scale.workers)
        if scale.has_streams:
            desk.watch(count)
        gc_freeze()
        found = _rounds_of(stage.database, desk, floors, accounts, scale.rounds_or(9))
        yield _figures(stage.database, count, found, floors)


def _rounds_of(database: str, desk: Desk, floors: Floors, accounts: list[Account], rounds: int) -> Rounds:
    """The first round only warms connections, keys and code."""
    _one_round(database, desk, floors, accounts, Rounds())
    found = Rounds()
    for _ in range(rounds):
        _one_round(database, desk, floors, accounts, found)
    return found


def _one_round(database: str, desk: Desk, floors: Floors, accounts: list[Account], found: Rounds) -> None:
    """Every way once; on SQLite from committed orders only."""
    floors.one_round(accounts, found.passes)
    found.filled.each.append(desk.committed(accounts, fills=True))
    if database == POSTGRES:
        found.unfilled.each.append(desk.committed(accounts, fills=False))
        found.asked.each.append(desk.asked(accounts, fills=True))


def _figures(database: str, count: int, found: Rounds, floors: Floors) -> list[Figure]:
    figures = floor_figures(count, found.passes, floors.alone_us)
    figures += _committed(database, count, "committed", found.filled, found.passes)
    if database == POSTGRES:
        figures += _committed(database, count, "committed_unfilled", found.unfilled, found.passes)
        figures += _asked(database, count, found.asked, found.passes)
    return figures


def _asked(database: str, count: int, runs: Runs, passes: Passes) -> list[Figure]:
    about = f"{database}_asked_{{}}_{count}".format
    persisted, bound = middle(runs.of("persisted_ms")), Bound(2.2, of_ratio=True)
    return [
        *_faults(database, count, "asked", runs),
        Figure(about("to_first_order"), middle(runs.of("first_ms")), "ms", None, Bound(200)),
        Figure(about("to_last_acknowledged"), middle(runs.of("last_ms")), "ms", passes.ccxt_ms),
        Figure(about("to_persisted_by_ccxt"), persisted, "ms", passes.ccxt_ms, bound),
        _cpu(about("worker_cpu_per_1000"), runs),
    ]


def _committed(database: str, count: int, way: str, runs: Runs, passes: Passes) -> list[Figure]:
    persisted = middle(runs.of("persisted_ms"))
    ccxt_cpu = middle([one.cpu_seconds for one in passes.ccxt]) / count * 1000
    about = f"{database}_{way}_{{}}_{count}".format
    to_ccxt = Bound(TO_CCXT[database], of_ratio=True)
    return [
        *_faults(database, count, way, runs),
        Figure(about("to_first_order"), middle(runs.of("first_ms")), "ms", None, Bound(40)),
        Figure(about("to_last_acknowledged"), middle(runs.of("last_ms")), "ms", passes.ccxt_ms),
        Figure(about("to_persisted_by_ccxt"), persisted, "ms", passes.ccxt_ms, to_ccxt),
        Figure(about("to_persisted_by_bare"), persisted, "ms", passes.bare_ms, TO_BARE),
        _cpu(about("worker_cpu_per_1000"), runs, ccxt_cpu, Bound(0.7)),
    ]


def _cpu(name: str, runs: Runs, floor: float | None = None, bound: Bound | None = None) -> Figure:
    """Of the workers and of the watchers: what one no longer does the other may have to."""
    workers, watcher = middle(runs.of("cpu_per_1000")), middle(runs.of("watcher_cpu_per_1000"))
    note = f"workers {workers:.3f}, watchers {watcher:.3f}"
    return Figure(name, workers + watcher, "s", floor, bound, note)


def _faults(database: str, count: int, way: str, runs: Runs) -> list[Figure]:
    """What must be nothing, over all rounds."""
    about = f"{database}_{way}_{{}}_{count}".format
    units = {"missing": "orders", "doubled": "orders", "unrecorded": "fills", "sweeps": "sweeps"}
    return [Figure(about(name), sum(runs.of(name)), unit, None, Bound(0)) for name, unit in units.items()]
