"""Many accounts behind one address: what the exchange counts of them, minute by minute.

Entries of all, lookups of lost answers, user streams, audits and exits of all, beside an exchange that counts
2.4 of weight a minute for each account, as 1,000 accounts have of a real one's 2,400. `make one-address
ACCOUNTS=1000` takes as many, and some minutes.
"""

import os
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from django.db.models import Max, Min, QuerySet
from pytest_django import Settings

from accounts.models import Account
from accounts.services.gateways import gateways, user_stream_for
from exchange import heartbeat
from exchange.budget import BOTH_COUNT_MS, Priority, priority
from exchange.loop import IoLoop
from exchange.marks import MarkBoard
from exchange.port import Market
from exchange.streams import UserStream
from tests.processes import PaperExchange, wait_until
from trading.domain.states import OPEN, CloseReason, OrderPurpose, OrderStatus, PositionStatus, Protection
from trading.models import Order, Position
from trading.services import closing, execution, monitoring, streams, sweeping
from trading.services.allocation import allocate
from trading.services.bells import Bells
from trading.services.prices import stream_age_seconds
from trading.services.selection import request
from trading.services.streams import Told
from trading.services.valkey import valkey
from trading.tests.services.holding import look_after
from trading.tests.services.journey import WEATHER, a_signal, fit_accounts, now
from trading.tests.services.test_flatten_budget import exchange_of

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.drill,
    pytest.mark.usefixtures("redis"),
    pytest.mark.timeout(1800),
]

ACCOUNTS = int(os.environ.get("ONE_ADDRESS_ACCOUNTS", "200"))
"""Of fewer, the market's own figures, which cost as much for any number, take what upkeep leaves an entry."""

ROOM = ACCOUNTS * 24 // 10
LOST = 0.05
"""Of the placements the answer is lost, the order not."""

ENTRIES, EXITS, LANES = 50, 25, 4
MOST_SECONDS = 120 + ACCOUNTS / 2
HELD_BACK = ("BUDGET", "STOPPED", "ORDER_RATE", "-1003", "-1015", "HTTP_429", "HTTP_418")


class Desk:
    """Workers, monitor, sweep and watcher of a desk, taking turns in one thread."""

    def __init__(self, accounts: list[Account]) -> None:
        self.told: deque[Told] = deque()
        self.bells = Bells()
        self._streams = {account.pk: user_stream_for(account, Market.FUTURES) for account in accounts}
        self._listening: list[Future[None]] = [
            IoLoop.current().submit(self._listen(pk, stream)) for pk, stream in self._streams.items()
        ]
        self._listening.append(IoLoop.current().submit(_publish_marks()))
        self._every = {self._monitor: 10.0, self._sweep: 5.0}
        self._next = dict.fromkeys(self._every, time.monotonic())

    async def _listen(self, pk: int, stream: UserStream) -> None:
        async with aclosing(stream.events()) as events:
            async for event in events:
                self.told.append(Told(pk, Market.FUTURES, event))

    @property
    def is_listening(self) -> bool:
        """Whether every account's stream is up."""
        return all(stream.is_up for stream in self._streams.values())

    def close(self) -> None:
        """Let go of the streams."""
        for future in self._listening:
            future.cancel()

    def work(self, seconds: float) -> None:
        """Answer what rings for so long, chunk by chunk; the ticks come when they are due."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._tick()
            self._hear()
            if not self._chunks():
                time.sleep(0.05)

    def work_while(self, is_unfinished: Callable[[], bool]) -> None:
        """Work until it is finished, for some minutes at most."""
        end = time.monotonic() + MOST_SECONDS
        while is_unfinished():
            assert time.monotonic() < end, unfinished()
            self.work(0.5)

    def _tick(self) -> None:
        for tick, due in self._next.items():
            if time.monotonic() >= due:
                self._next[tick] = time.monotonic() + self._every[tick]
                tick()

    def _monitor(self) -> None:
        alive = [pk for pk, stream in self._streams.items() if stream.is_up]
        streams.note_alive(alive, now())
        self.bells.add(monitoring.monitor(now()))

    def _sweep(self) -> None:
        self.bells.add(sweeping.sweep(now()))

    def _hear(self) -> None:
        heard = [self.told.popleft() for _ in range(min(50, len(self.told)))]
        self.bells.add(streams.apply(heard, now()))

    def _chunks(self) -> bool:
        """One chunk of each queue, as its workers would take; whether there was any."""
        queues: tuple[tuple[str, int, Callable[[list[int]], Bells]], ...] = (
            ("exits", EXITS, _submitted),
            ("positions", EXITS, lambda ids: look_after(ids, now())),
            *[("entries", ENTRIES, _submitted)] * LANES,
            ("cancel", EXITS, lambda ids: execution.cancel(ids, now())),
            ("resolve", EXITS, _resolved),
            ("unread", EXITS, lambda ids: execution.refresh(ids, now())),
        )
        was_busy = False
        for name, size, answer in queues:
            distinct = list(dict.fromkeys(getattr(self.bells, name)))
            setattr(self.bells, name, distinct[size:])
            if distinct:
                was_busy = True
                self.bells.add(answer(distinct[:size]))
        return was_busy


async def _publish_marks() -> None:
    board, redis = MarkBoard(valkey()), valkey()
    with priority(Priority.PROTECTION):
        async for batch in gateways().factory("binance").mark_stream(Market.FUTURES).batches():
            board.publish(batch)
            heartbeat.beat(redis, heartbeat.MARKS)


def _submitted(ids: list[int]) -> Bells:
    return execution.submit(ids, now())


def _resolved(ids: list[int]) -> Bells:
    bells = execution.resolve(ids, now()).add(execution.refresh(ids, now()))
    bells.resolve = []  # the sweep comes back to them
    return bells


@pytest.fixture
def exchange(tmp_path: Path, settings: Settings) -> Iterator[PaperExchange]:
    settings.GATE_OFF = WEATHER
    # What takes turns in one thread here is done side by side by a desk's processes.
    settings.LIMITS = replace(settings.LIMITS, deadline_seconds=120)
    with exchange_of(tmp_path, ROOM) as paper:
        yield paper


@pytest.fixture
def desk(exchange: PaperExchange) -> Iterator[Desk]:
    """Every account told by its stream, and read once since: as some minutes of audits leave them."""
    accounts = fit_accounts(ACCOUNTS, executors=(Market.FUTURES,))
    desk = Desk(accounts)
    try:
        wait_until(lambda: desk.is_listening, "every stream to be up", 180)
        wait_until(lambda: stream_age_seconds() is not None, "marks")
        desk.told.clear()
        Account.objects.update(audited_at=now(), fresh_at=now(), day_started_at=now())
        yield desk
    finally:
        desk.close()


def test_all_of_one_address_enter_and_leave_within_the_minutes_weight(
    exchange: PaperExchange, desk: Desk
) -> None:
    # The streams' keys took part of this minute, and as the next one begins both still count.
    desk.work(60 - time.time() % 60 + BOTH_COUNT_MS / 1000 + 1)
    exchange.add_fault(kind="close_socket", endpoint="POST /fapi/v1/order", probability=LOST, count=0)

    decision = request(a_signal(), now())
    desk.bells.add(allocate(decision.pk, now()))
    assert len(desk.bells.entries) == ACCOUNTS, Counter(decision.allocations.values_list("code", flat=True))
    entries = Order.objects.filter(purpose=OrderPurpose.ENTRY)
    desk.work_while(lambda: entries.filter(status__in=OPEN).exists())
    held = Position.objects.filter(status=PositionStatus.OPEN)
    desk.work_while(lambda: held.exclude(protection=Protection.VERIFIED).exists())
    report(exchange, entries)
    assert outcomes(entries) == {OrderStatus.FILLED: ACCOUNTS}

    for ids in batched(held.values_list("pk", flat=True)):
        desk.bells.add(closing.request_closes(ids, reason=CloseReason.MANUAL, now=now()))
    exits = Order.objects.filter(purpose=OrderPurpose.EXIT)
    desk.work_while(held.exists)
    report(exchange, exits)
    assert outcomes(exits) == {OrderStatus.FILLED: ACCOUNTS}
    assert not exits.filter(code__in=HELD_BACK).exists()

    minutes = exchange.get("/paper/weights")
    assert max(minute["used"] for minute in minutes if "spot" not in minute["address"]) <= ROOM
    assert sum(minute["refused"] for minute in minutes) == 0


def unfinished() -> str:
    """What still moves, for whoever reads why it took too long."""
    orders = Order.objects.filter(status__in=OPEN).exclude(status=OrderStatus.ACKNOWLEDGED)
    unread = Order.objects.filter(fills_complete=False, status=OrderStatus.FILLED)
    held = Position.objects.filter(status=PositionStatus.OPEN)
    told: list[object] = [
        *orders.values_list("purpose", "status", "code", "looks"),
        *unread.values_list("purpose", "code", "due_at", "filled_quantity", "quantity"),
        *held.values_list("protection", "closing_for", "reduction", "check_at", "quantity"),
    ]
    return str(told)


def batched(ids: Iterable[int]) -> Iterator[list[int]]:
    every = list(ids)
    return (every[start : start + EXITS] for start in range(0, len(every), EXITS))


def outcomes(orders: QuerySet[Order]) -> Counter[str]:
    return Counter(orders.order_by().values_list("status", flat=True))


def report(exchange: PaperExchange, orders: QuerySet[Order]) -> None:
    """For who runs it with more accounts: what came of the orders, how long they took, and the minutes."""
    times = orders.aggregate(first=Min("submitted_at"), last=Max("finished_at"))
    seconds = (times["last"] - times["first"]).total_seconds() if all(times.values()) else 0.0
    codes = Counter(orders.order_by().values_list("status", "code"))
    sys.stdout.write(f"{dict(codes)} in {seconds:.1f} s; {exchange.get('/paper/weights')}\n")
