"""From a breach to the order at the exchange, through the desk's own programs.

Positions are rows as fills leave them, watched by the running watcher and closed by `exits` workers. The
stub moves a mark and tells it at once; both moments are its own: telling the mark, and taking the order.
Beside it the floor: whoever hears the mark and sends an order, with nothing else to do.
"""

import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from statistics import quantiles

from accounts.models import Account
from bench import rows
from bench.desk import Desk, wait_until
from bench.figures import Bound, Figure, middle
from bench.held import at_target, make_positions
from bench.orders import PRICE, QUANTITY
from bench.reflex import reflexes
from bench.stage import Scale, Stage
from exchange.loop import gc_freeze
from trading.domain.states import PositionStatus
from trading.models import Position
from trading.services import watch_check

BURST = 100
SINGLES = 60
WATCHED_SECONDS = 40.0
MARK = Decimal(PRICE)
STEP = Decimal("0.001")
"""From one target of the staircase to the next."""


def measured(stage: Stage, scale: Scale) -> Iterator[list[Figure]]:
    """Breaches at an exchange that answers at once."""
    accounts_count = min(scale.accounts_or(BURST), BURST)
    stage.start_valkey()
    stage.start_stub(0)
    accounts = rows.fit_accounts(accounts_count)
    with Desk(stage, accounts_count) as desk:
        desk.start(workers=scale.workers, queues=("exits",))
        desk.watch(accounts_count)
        gc_freeze()
        _burst(desk, accounts)  # warms connections, keys and code
        bursts = [_burst(desk, accounts) for _ in range(scale.rounds_or(7))]
        singles = _singles(desk, accounts[: 5 if scale.is_quick else SINGLES])
    floor = middle(reflexes(stage.exchange_url, desk.stub, 10 if scale.is_quick else 30))
    last, least = [one for one, _ in bursts], f"least {min(singles):.1f}"
    yield [
        Figure("reflex_mark_to_order", floor, "ms"),
        Figure(
            f"{stage.database}_breach_to_order_single_median", middle(singles), "ms", floor, Bound(8), least
        ),
        Figure(f"{stage.database}_breach_to_order_single_p99", _p99(singles), "ms", floor, Bound(25)),
        Figure(
            f"{stage.database}_breach_to_first_of_{accounts_count}", middle([one for _, one in bursts]), "ms"
        ),
        Figure(f"{stage.database}_breach_to_last_of_{accounts_count}", middle(last), "ms", None, Bound(80)),
    ]


def _burst(desk: Desk, accounts: list[Account]) -> tuple[float, float]:
    """One mark crosses everybody's target: milliseconds to the last order and to the first."""
    hold(desk, accounts, [at_target(MARK * (1 + STEP))] * len(accounts))
    desk.stub.mark(MARK * (1 + STEP))
    _wait_placed(desk, len(accounts))
    told = desk.stub.counts()
    refuse_faults(told.placed, len(accounts))
    end(desk)
    return told.last_ms - told.marked_ms, told.first_ms - told.marked_ms


def _singles(desk: Desk, accounts: list[Account]) -> list[float]:
    """The mark climbs a staircase of targets, one position a step; milliseconds to each order."""
    targets = [MARK * (1 + STEP * (number + 1)) for number in range(len(accounts))]
    hold(desk, accounts, [at_target(one) for one in targets])
    taken = []
    for number, target in enumerate(targets, 1):
        desk.stub.mark(target)
        _wait_placed(desk, number)
        told = desk.stub.counts()
        taken.append(told.last_ms - told.marked_ms)
        time.sleep(0.15)  # what follows the fill is not the next one's
    refuse_faults(desk.stub.counts().placed, len(accounts))
    end(desk)
    return taken


def hold(desk: Desk, accounts: Sequence[Account], plans: Sequence[dict[str, object]]) -> None:
    """Everybody long at the mark, in rows and at the exchange, and watched."""
    rows.clear()
    desk.stub.reset(fills=True, held=QUANTITY)
    desk.stub.mark(MARK)
    _wait_watched(0)
    make_positions(accounts, plans)
    _wait_watched(len(accounts))


def end(desk: Desk) -> None:
    """Let what follows the fills come to its end, outside of what is measured."""
    held = Position.objects.filter(status=PositionStatus.OPEN)
    wait_until(lambda: not held.exists(), "not every position was closed")
    desk.wait_until_idle()
    _wait_watched(0)
    desk.stub.mark(MARK)


def _wait_placed(desk: Desk, count: int) -> None:
    end = time.monotonic() + WATCHED_SECONDS
    while desk.stub.counts().placed < count:
        if time.monotonic() > end:
            raise TimeoutError(f"{desk.stub.counts().placed} of {count} exits came to the exchange")
        time.sleep(0.02)


def _wait_watched(count: int) -> None:
    def watched() -> int:
        return sum(many for many, _ in watch_check.watched()[0].values())

    wait_until(lambda: watched() == count, f"the watcher does not watch {count} positions", WATCHED_SECONDS)
    time.sleep(0.3)


def refuse_faults(placed: int, wanted: int) -> None:
    """Raise unless each exit came once."""
    if placed != wanted:
        raise RuntimeError(f"{placed} orders came for {wanted} exits")


def _p99(values: Sequence[float]) -> float:
    return quantiles(values, n=100)[98] if len(values) > 1 else values[0]
