"""One tick of all marks against every open position: levels in memory, beside asking the database.

Both ways look at the same positions and must name the same ones on a tick of 2 % before anything is timed.
"""

import random
import time
from collections.abc import Iterator, Mapping
from decimal import Decimal

from django.conf import settings

from accounts.models import Account
from bench.figures import Bound, Figure, middle
from bench.stage import Scale, Stage
from exchange.port import Market
from trading.domain.exits import WatchPrices
from trading.domain.states import PositionStatus
from trading.domain.watch import LevelBook, Watched
from trading.models import Position

MARK = Decimal(100)
CENT = Decimal("0.0001")
BATCH = 5_000
SEED = 7
PROOF_MOVE = Decimal("0.02")

Marks = Mapping[str, Decimal]


def measured(_stage: Stage, scale: Scale) -> Iterator[list[Figure]]:
    """The figures of a quiet tick."""
    symbols, accounts = (100, 25) if scale.is_quick else (400, 125)
    chance = random.Random(SEED)  # noqa: S311 -- the same levels in every run
    names = [f"C{number:03d}/USDT:USDT" for number in range(symbols)]
    count = _make_positions(names, accounts, chance)
    book = _load_book()
    _prove_same(book, dict.fromkeys(names, MARK * (1 - PROOF_MOVE)))
    in_memory = [_timed(book, _quiet(names, chance)) for _ in range(50 if scale.is_quick else 300)]
    asked = [_asked(_quiet(names, chance)) for _ in range(2 if scale.is_quick else 3)]
    about = f"{count}_positions_{symbols}_symbols"
    floor = middle(asked)
    yield [
        Figure(f"watch_asking_the_database_{about}", floor, "ms"),
        Figure(f"watch_tick_median_{about}", middle(in_memory), "ms", floor, Bound(1.0)),
        Figure(f"watch_tick_to_database_{about}", middle(in_memory), "ms", floor, Bound(0.01, of_ratio=True)),
        Figure(f"watch_tick_longest_{about}", max(in_memory), "ms", floor, Bound(5.0)),
    ]


def _make_positions(symbols: list[str], accounts: int, chance: random.Random) -> int:
    """A long and a short of every account on every symbol, stops 0.5 to 5 % away."""
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
    return Position(
        account=owner,
        market=Market.FUTURES,
        symbol=symbol,
        base=symbol.partition("/")[0],
        is_long=is_long,
        quantity=1,
        initial_quantity=1,
        entry_price=MARK,
        stop_price=(MARK * (1 - away if is_long else 1 + away)).quantize(CENT),
        opened_at=settings.CLOCK.now(),
    )


def _rows() -> Iterator[tuple[int, str, bool, Decimal]]:
    open_now = Position.objects.filter(status=PositionStatus.OPEN).order_by()
    for pk, symbol, is_long, stop in open_now.values_list("pk", "symbol", "is_long", "stop_price"):
        assert stop is not None  # noqa: S101 -- all were made with one
        yield pk, symbol, is_long, stop


def _load_book() -> LevelBook:
    return LevelBook(
        Watched(pk, symbol, is_long, WatchPrices(adverse=stop, favourable=None))
        for pk, symbol, is_long, stop in _rows()
    )


def _ask_database(marks: Marks) -> set[int]:
    """Every open position, compared here: what a watcher without a memory does each tick."""
    return {
        pk
        for pk, symbol, is_long, stop in _rows()
        if (marks[symbol] <= stop if is_long else marks[symbol] >= stop)
    }


def _prove_same(book: LevelBook, marks: Marks) -> None:
    found = {breach.position_id for breach in book.breaches(marks)}
    if not found or found != _ask_database(marks):
        raise RuntimeError("memory and database name different positions")


def _quiet(symbols: list[str], chance: random.Random) -> Marks:
    """Marks that moved by less than any stop is away, but for one symbol in a hundred."""
    marks = {symbol: MARK * (1 + Decimal(str(chance.uniform(-0.004, 0.004)))) for symbol in symbols}
    for symbol in symbols[:: len(symbols) // (len(symbols) // 100)]:
        marks[symbol] = MARK * Decimal("0.9945")
    return marks


def _timed(book: LevelBook, marks: Marks) -> float:
    began = time.perf_counter()
    book.breaches(marks)
    return (time.perf_counter() - began) * 1000


def _asked(marks: Marks) -> float:
    began = time.perf_counter()
    _ask_database(marks)
    return (time.perf_counter() - began) * 1000
