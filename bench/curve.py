"""How the time to everything persisted grows with the accounts, beside the floors at the same sizes."""

from collections.abc import Iterator

from accounts.models import Account
from bench import rows
from bench.desk import Desk
from bench.figures import Bound, Figure, middle
from bench.floor_rounds import Floors, Passes
from bench.stage import LATENCY_MS, Scale, Stage
from exchange.loop import gc_freeze

STEPS = (10, 100, 1000, 2000)
GROWTH = Bound(2.6)
"""Of the time beyond the latency when the accounts double; linear would be 2."""


def measured(stage: Stage, scale: Scale) -> Iterator[list[Figure]]:
    """A figure a number of accounts, then how the last step grew."""
    steps = (4, 8) if scale.is_quick else STEPS
    stage.start_valkey()
    stage.start_stub(LATENCY_MS)
    accounts = rows.fit_accounts(max(steps))
    times: dict[int, float] = {}
    with Desk(stage, max(steps)) as desk, Floors(stage.exchange_url, accounts) as floors:
        desk.start(workers=scale.workers)
        if scale.has_streams:
            desk.watch(max(steps))
        gc_freeze()
        desk.committed(accounts, fills=True)
        for count in steps:
            passes, taken = _rounds(desk, floors, accounts[:count], scale.rounds_or(5))
            times[count] = taken
            yield [
                Figure(f"curve_floor_bare_{count}", passes.bare_ms, "ms"),
                Figure(f"curve_persisted_{count}", taken, "ms", passes.ccxt_ms),
            ]
    less, more = steps[-2:]
    grown = (times[more] - LATENCY_MS) / (times[less] - LATENCY_MS)
    yield [Figure(f"curve_growth_{less}_to_{more}", grown, "x", None, GROWTH)]


def _rounds(desk: Desk, floors: Floors, accounts: list[Account], rounds: int) -> tuple[Passes, float]:
    """The floors, and the median of the desk."""
    floors.one_round(accounts, Passes())
    passes, taken = Passes(), []
    for _ in range(rounds):
        floors.one_round(accounts, passes)
        taken.append(desk.committed(accounts, fills=True).persisted_ms)
    return passes, middle(taken)
