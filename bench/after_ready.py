"""The first decision after the workers say that they are ready, and the second: nothing may still be cold."""

from collections.abc import Iterator

from accounts.models import Account
from bench import rows
from bench.desk import Desk
from bench.figures import Bound, Figure, middle
from bench.stage import LATENCY_MS, Scale, Stage


def measured(stage: Stage, scale: Scale) -> Iterator[list[Figure]]:
    """Workers of their own for each pair; the first pair warms the process that asks."""
    count = scale.accounts_or(1000)
    stage.start_valkey()
    stage.start_stub(LATENCY_MS)
    accounts = rows.fit_accounts(count)
    with Desk(stage, count) as desk:
        if scale.has_streams:
            desk.watch(count)
        if not scale.is_quick:
            _pair(desk, accounts, scale.workers)
        pairs = [_pair(desk, accounts, scale.workers) for _ in range(scale.rounds_or(3))]
    first, second = (middle(column) for column in zip(*pairs, strict=True))
    apart = middle([max(pair) / min(pair) for pair in pairs])
    yield [
        Figure(f"first_decision_after_ready_{count}", first, "ms"),
        Figure(f"second_decision_after_ready_{count}", second, "ms", first),
        Figure(f"first_and_second_decision_apart_{count}", apart, "x", None, Bound(1.5)),
    ]


def _pair(desk: Desk, accounts: list[Account], workers: int) -> list[float]:
    """Milliseconds from asking to everything persisted, twice by the same new workers."""
    desk.start(workers=workers)
    taken = [desk.asked(accounts, fills=True).persisted_ms for _ in range(2)]
    desk.stop()
    return taken
