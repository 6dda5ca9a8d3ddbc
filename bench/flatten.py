"""A flatten of everybody, from the asking to the last acknowledged exit, beside a decision over everybody."""

import time
from collections.abc import Iterator
from datetime import datetime

from django.conf import settings
from django.db.models import Max

from accounts.models import Account
from bench import rows
from bench.desk import Desk, wait_until
from bench.exits import MARK, end, hold, refuse_faults
from bench.figures import Bound, Figure, middle
from bench.held import at_target
from bench.stage import LATENCY_MS, Scale, Stage
from exchange.loop import gc_freeze
from trading import tasks
from trading.domain.states import HaltLevel, OrderPurpose
from trading.models import Halt, Order
from trading.services import emergency
from trading.services.bells import Bells

QUEUES = ("orders", "exits")


def measured(stage: Stage, scale: Scale) -> Iterator[list[Figure]]:
    """A flatten of all accounts, beside the fan-out of the same size."""
    count = scale.accounts_or(1000)
    stage.start_valkey()
    stage.start_stub(LATENCY_MS)
    accounts = rows.fit_accounts(count)
    with Desk(stage, count) as desk:
        desk.start(workers=scale.workers, queues=QUEUES)
        desk.watch(count)
        gc_freeze()
        flatten = Flatten(desk, accounts)
        rounds = [(flatten.entered(), flatten.one()) for _ in range(scale.rounds_or(3) + 1)][1:]
    entered, flat = (middle(column) for column in zip(*rounds, strict=True))
    name = f"{stage.database}_flatten_{count}_to_last_acknowledged"
    yield [
        Figure(f"{stage.database}_fan_out_beside_flatten_{count}", entered, "ms"),
        Figure(name, flat, "ms", entered, Bound(1.3, of_ratio=True)),
    ]


class Flatten:
    """A flatten of everybody beside a decision over everybody, in the same minutes."""

    def __init__(self, desk: Desk, accounts: list[Account]) -> None:
        self._desk = desk
        self._accounts = accounts

    def one(self) -> float:
        """Milliseconds from the asking to the last acknowledged exit."""
        count = len(self._accounts)
        hold(self._desk, self._accounts, [at_target(MARK * 2)] * count)
        began = time.time()
        asked = ("desk", HaltLevel.FLATTEN, "measured", "bench")
        _, bells = emergency.raise_halt(*asked, _now(), ring=tasks.ring)
        tasks.ring(bells)
        wait_until(lambda: _acknowledged() == count, "not every exit was acknowledged", 60)
        last = Order.objects.filter(purpose=OrderPurpose.EXIT).aggregate(at=Max("acknowledged_at"))["at"]
        refuse_faults(self._desk.stub.counts().placed, count)
        end(self._desk)
        Halt.objects.all().delete()
        return (float(last.timestamp()) - began) * 1000

    def entered(self) -> float:
        """Milliseconds of a decision that fills nothing, from committed orders to the last acknowledged."""
        rows.clear()
        self._desk.stub.reset(fills=False)
        entries = rows.committed_entries(self._accounts)
        began = time.time()
        tasks.ring(Bells(entries=entries))
        count = len(self._accounts)
        wait_until(lambda: _acknowledged(OrderPurpose.ENTRY) == count, "not every entry was acknowledged", 60)
        last = Order.objects.filter(purpose=OrderPurpose.ENTRY).aggregate(at=Max("acknowledged_at"))["at"]
        self._desk.wait_until_idle()
        return (float(last.timestamp()) - began) * 1000


def _acknowledged(purpose: OrderPurpose = OrderPurpose.EXIT) -> int:
    return Order.objects.filter(purpose=purpose, acknowledged_at__isnull=False).count()


def _now() -> datetime:
    return settings.CLOCK.now()
