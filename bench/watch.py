"""One tick of all marks against every open position, and what a watcher needs until it has all levels.

Memory and database look at the same positions and must name the same ones on a tick of 2 % before anything is
timed. The loading is the watcher's own, from rows with plans, while some stops are already behind the mark.
"""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal

from django.conf import settings

from accounts.models import Account
from bench.figures import Bound, Figure, middle
from bench.held import BATCH, at_target
from bench.stage import Scale, Stage
from exchange.loop import gc_freeze
from exchange.port import Market
from trading.domain.states import PositionStatus, Protection
from trading.models import Position
from trading.services.watcher import Watcher

MARK = Decimal(100)
CENT = Decimal("0.0001")
SEED = 7
PROOF_MOVE = Decimal("0.02")
BEHIND = 100
"""Stops that the mark passed while no watcher lived."""

Marks = Mapping[str, Decimal]


def measured(_stage: Stage, scale: Scale) -> Iterator[list[Figure]]:
    """The figures of a load with stops behind the mark, and of quiet ticks."""
    symbols, accounts = (100, 25) if scale.is_quick else (400, 125)
    chance = random.Random(SEED)  # noqa: S311 -- the same levels in every run
    names = [f"C{number:03d}/USDT:USDT" for number in range(symbols)]
    count = _make_positions(names, accounts, chance)
    about = f"{count}_positions_{symbols}_symbols"
    watcher, loading = _loaded(names, about)
    yield loading
    gc_freeze()
    _prove_same(watcher, dict.fromkeys(names, MARK * (1 - PROOF_MOVE)))
    in_memory = [_timed(watcher, _quiet(names, chance)) for _ in range(50 if scale.is_quick else 1000)]
    asked = [_asked(_quiet(names, chance)) for _ in range(2 if scale.is_quick else 5)]
    wall, cpu = zip(*in_memory, strict=True)
    asked_wall, asked_cpu = zip(*asked, strict=True)
    cheaper = middle(asked_cpu) / max(sum(cpu) / len(cpu), 1e-6)
    yield [
        Figure(f"watch_asking_the_database_{about}", middle(asked_wall), "ms"),
        Figure(f"watch_tick_median_{about}", middle(wall), "ms", middle(asked_wall), Bound(1.0)),
        Figure(
            f"watch_tick_longest_{about}",
            max(wall),
            "ms",
            middle(asked_wall),
            Bound(5.0),
            _processor(max(cpu)),
        ),
        Figure(f"watch_tick_cheaper_in_cpu_{about}", cheaper, "x", None, Bound(100, is_least=True)),
    ]


def _make_positions(symbols: list[str], accounts: int, chance: random.Random) -> int:
    """A long and a short of every account on every symbol, stops 0.5 to 5 % away, targets as far."""
    owners = Account.objects.bulk_create([Account(name=f"holder-{number}") for number in range(accounts)])
    held = [
        _position(owner, symbol, chance, is_long=is_long)
        for owner in owners
        for symbol in symbols
        for is_long in (True, False)
    ]
    Position.objects.bulk_create(held, batch_size=BATCH)
    return len(held)


def _position(owner: Account, symbol: str, chance: random.Random, *, is_long: bool) -> Position:
    away = Decimal(str(chance.uniform(0.005, 0.05)))
    stop = (MARK * (1 - away if is_long else 1 + away)).quantize(CENT)
    target = (MARK * (1 + away if is_long else 1 - away)).quantize(CENT)
    return Position(
        account=owner,
        market=Market.FUTURES,
        symbol=symbol,
        base=symbol.partition("/")[0],
        is_long=is_long,
        quantity=1,
        initial_quantity=1,
        entry_price=MARK,
        plan=at_target(target, entry=MARK, stop=stop, is_long=is_long),
        stop_price=stop,
        protection=Protection.VERIFIED,
        opened_at=settings.CLOCK.now(),
    )


def _loaded(symbols: list[str], about: str) -> tuple[Watcher, list[Figure]]:
    """A watcher with all levels; how long until stops behind the mark were wanted closed, and until all."""
    passed = list(Position.objects.filter(is_long=True).order_by("stop_price")[:BEHIND])
    for one in passed:
        one.stop_price = MARK + 1
        one.plan = at_target(MARK * 2, entry=MARK * 2 - 2, stop=one.stop_price)
    Position.objects.bulk_update(passed, ["stop_price", "plan"])
    watcher, began, cpu = Watcher(), time.perf_counter(), time.process_time()
    watcher.begin(dict.fromkeys(symbols, MARK))
    bells = watcher.act(settings.CLOCK.now())
    first = time.perf_counter() - began
    while not watcher.is_loaded:
        watcher.take_slice()
    whole, cpu = time.perf_counter() - began, time.process_time() - cpu
    if {one.pk for one in passed} != set(bells.positions):
        raise RuntimeError(f"{len(bells.positions)} of {len(passed)} passed stops were seen")
    return watcher, [
        Figure(f"watch_reload_to_exits_of_{BEHIND}_passed_{about}", first * 1000, "ms"),
        Figure(f"watch_reload_{about}", whole * 1000, "ms", None, Bound(5000), _processor(cpu * 1000)),
    ]


def _prove_same(watcher: Watcher, marks: Marks) -> None:
    watcher.see(marks)
    found, asked = set(watcher.crossed), _ask_database(marks)
    watcher.forget_all()
    if not found or not asked <= found:
        raise RuntimeError("memory and database name different positions")


def _rows() -> Iterator[tuple[int, str, bool, Decimal]]:
    open_now = Position.objects.filter(status=PositionStatus.OPEN, closing_for="").order_by()
    for pk, symbol, is_long, stop in open_now.values_list("pk", "symbol", "is_long", "stop_price"):
        assert stop is not None  # noqa: S101 -- all were made with one
        yield pk, symbol, is_long, stop


def _ask_database(marks: Marks) -> set[int]:
    """Every open position, compared here: what a watcher without a memory does each tick."""
    return {
        pk
        for pk, symbol, is_long, stop in _rows()
        if (marks[symbol] <= stop if is_long else marks[symbol] >= stop)
    }


def _quiet(symbols: list[str], chance: random.Random) -> Marks:
    """Marks that moved by less than any stop is away, but for one symbol in a hundred."""
    marks = {symbol: MARK * (1 + Decimal(str(chance.uniform(-0.004, 0.004)))) for symbol in symbols}
    for symbol in symbols[:: len(symbols) // (len(symbols) // 100)]:
        marks[symbol] = MARK * Decimal("0.9945")
    return marks


def _processor(milliseconds: float) -> str:
    """What it cost besides waiting for a processor."""
    return f"{milliseconds:.2f} ms of processor time"


def _timed(watcher: Watcher, marks: Marks) -> tuple[float, float]:
    """Wall and processor milliseconds until the breaches of a tick are known."""
    taken = _clocked(lambda: watcher.see(marks))
    watcher.forget_all()
    return taken


def _asked(marks: Marks) -> tuple[float, float]:
    return _clocked(lambda: _ask_database(marks))


def _clocked(work: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return (time.perf_counter() - wall) * 1000, (time.process_time() - cpu) * 1000
