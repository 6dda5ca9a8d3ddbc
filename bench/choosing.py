"""A selection among ten thousand signals, and gate and sizing of a thousand accounts, rows included.

Against the paper exchange with some hundred more invented symbols. The market is there as on a running desk:
marks published, closed hours worked out. Tickers are read anew for every selection; candles are not.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import cycle, islice
from random import Random
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.db import connection, transaction

from accounts.models import Account
from accounts.services.entrants import hold_entrants
from accounts.services.gateways import close_gateways, market_data
from bench import rows
from bench.figures import Bound, Figure, middle
from bench.orders import SYMBOL
from bench.stage import Scale, Stage
from exchange.loop import IoLoop, gc_freeze
from exchange.marks import MarkBoard
from exchange.port import Market
from trading.domain.states import PositionStatus
from trading.models import Decision, Position, Signal, SignalSource
from trading.models.signals import SignalStatus
from trading.services import market
from trading.services.assessment import assess
from trading.services.candidates import COLUMNS, WAITING
from trading.services.scene import load_scene, market_scene
from trading.services.selection import select
from trading.services.valkey import valkey

SIGNALS, SYMBOLS, ACCOUNTS = 10_000, 300, 1_000
HELD = ("ETH/USDT:USDT", "SOL/USDT:USDT")
SELECTION, GATE = Bound(300), Bound(150)
READ_SECONDS = 30.0
WARMING = 3
CAP = Decimal("1.002")


def measured(stage: Stage, scale: Scale) -> Iterator[list[Figure]]:
    """Selection, then gate and sizing, each over the same accounts."""
    count, rounds = scale.accounts_or(ACCOUNTS), scale.rounds_or(9)
    stage.start_valkey()
    stage.start_paper_exchange(invented_symbols=SYMBOLS)
    accounts = rows.fit_accounts(count)
    try:
        signals = SIGNALS // 50 if scale.is_quick else SIGNALS
        symbols = sorted(market.instruments(Market.FUTURES))[:SYMBOLS]
        _wait_for(signals, symbols)
        gc_freeze()
        yield _of_selection(signals, symbols, count, rounds)
        _hold(accounts)
        yield _of_gate(accounts, rounds)
    finally:
        close_gateways()


# ── selection ────────────────────────────────────────────────────────────────


def _wait_for(count: int, symbols: list[str]) -> None:
    """So many open signals over the symbols, scores from hopeless to best; every other one a short."""
    marks = _publish_marks()
    source, _ = SignalSource.objects.get_or_create(name="benchmark")
    chance, now = Random(7), settings.CLOCK.now()  # noqa: S311 -- equal in every run
    Signal.objects.bulk_create(
        _signal(source, number, symbol, marks[symbol], chance, now)
        for number, symbol in enumerate(islice(cycle(symbols), count))
    )


def _signal(
    source: SignalSource, number: int, symbol: str, mark: Decimal, chance: Random, now: datetime
) -> Signal:
    way = 1 if number % 2 else -1
    return Signal(
        source=source,
        external_id=uuid4().hex,
        symbol=symbol,
        side="LONG" if number % 2 else "SHORT",
        score=Decimal(chance.randint(30_000, 99_000)) / 100_000,
        entry_price=mark,
        stop_price=mark * (1 - way * Decimal("0.01")),
        take_profit_price=mark * (1 + way * Decimal("0.03")),
        created_at=now - timedelta(seconds=number % 600),
        received_at=now,
    )


def _publish_marks() -> dict[str, Decimal]:
    """Every mark on the board, as the watcher puts them there each second."""
    read = IoLoop.current().run(market_data(Market.FUTURES).fetch_mark_prices(), READ_SECONDS)
    MarkBoard(valkey()).publish(read)
    return {one.symbol: one.mark_price for one in read}


def _of_selection(signals: int, symbols: list[str], accounts: int, rounds: int) -> list[Figure]:
    for _ in range(WARMING):  # until the closed hours of the shortlist are worked out
        _select()
    spent, statements = zip(*(_select() for _ in range(rounds)), strict=True)
    floor = middle([_timed(_read_columns) for _ in range(rounds)])
    note = f"{accounts} accounts, {max(statements)} statements; the floor reads their columns"
    return [
        Figure(
            f"select_{signals}_signals_{len(symbols)}_symbols", middle(spent), "ms", floor, SELECTION, note
        )
    ]


def _select() -> tuple[float, int]:
    """One selection from the same waiting signals: milliseconds and statements."""
    Decision.objects.all().delete()
    Signal.objects.exclude(status=SignalStatus.OPEN).update(status=SignalStatus.OPEN)
    _publish_marks()
    valkey().delete("desk:tickers")
    rows.freshen()
    with _counted() as count:
        spent = _timed(lambda: select(settings.CLOCK.now()))
    return spent, count[0]


def _read_columns() -> list[Any]:
    return list(Signal.objects.filter(**WAITING).order_by("pk").values_list(*COLUMNS))


# ── gate and sizing ──────────────────────────────────────────────────────────


def _hold(accounts: list[Account]) -> None:
    """Two positions an account in other coins, their stops 1 % away."""
    rows.clear()
    marks, now = _publish_marks(), settings.CLOCK.now()
    Position.objects.bulk_create(
        Position(
            account=account,
            market=Market.FUTURES,
            symbol=symbol,
            base=symbol.partition("/")[0],
            is_long=symbol == HELD[0],
            status=PositionStatus.OPEN,
            leverage=account.leverage,
            quantity=1000 / marks[symbol],
            initial_quantity=1000 / marks[symbol],
            entry_price=marks[symbol],
            stop_price=marks[symbol] * Decimal("0.99" if symbol == HELD[0] else "1.01"),
            opened_at=now,
        )
        for account in accounts
        for symbol in HELD
    )


def _of_gate(accounts: list[Account], rounds: int) -> list[Figure]:
    rows.freshen()
    mark = _publish_marks()[SYMBOL]
    decision = rows.a_decision(mark)
    decision.cap_price = (mark * CAP).quantize(Decimal("0.1"))
    decision.save()
    _judge(decision, accounts)
    spent, cpu, statements = zip(*(_judge(decision, accounts) for _ in range(rounds)), strict=True)
    few = _judge(decision, accounts[: max(1, len(accounts) // 10)])[2]
    note = f"{max(statements)} statements, {few} for a tenth of the accounts"
    return [
        Figure(f"gate_and_sizing_{len(accounts)}", middle(spent), "ms", None, GATE, note),
        Figure(f"gate_and_sizing_cpu_{len(accounts)}", middle(cpu), "ms"),
    ]


def _judge(decision: Decision, accounts: list[Account]) -> tuple[float, float, int]:
    """Hold the accounts, load what is known of them, ask the gate and size: wall and CPU ms, statements."""
    rows.freshen()
    _publish_marks()
    now = settings.CLOCK.now()
    seen = market_scene(SYMBOL, now)
    with _counted() as count:
        began = time.process_time()
        spent = _timed(lambda: _entries(decision, accounts, seen, now))
        cpu = (time.process_time() - began) * 1000
    return spent, cpu, count[0]


def _entries(decision: Decision, accounts: list[Account], seen: Any, now: datetime) -> None:
    with transaction.atomic():
        scene = load_scene(decision, seen, hold_entrants([one.pk for one in accounts]), now)
        for account in scene.accounts:
            way = scene.ways(account)[0]
            answer = assess(scene, account, way.market, way.executor)
            if not answer.is_entry:
                raise RuntimeError(f"{account.name}: {answer.code} {answer.detail}")


# ── measuring ────────────────────────────────────────────────────────────────


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


@contextmanager
def _counted() -> Iterator[list[int]]:
    """How many statements are sent inside."""
    count = [0]

    def one_more(execute: Callable[..., Any], *asked: Any) -> Any:
        count[0] += 1
        return execute(*asked)

    with connection.execute_wrapper(one_more):
        yield count
