"""Gate, sizing and the commit of a decision's shares, beside writing the same rows without judging.

Against the paper exchange: the market a gate asks about is read, not made up. Its weather is switched off.
"""

import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal

from django.conf import settings

from accounts.models import Account
from accounts.services.gateways import close_gateways
from bench import rows
from bench.figures import Figure, middle
from bench.orders import SYMBOL
from bench.stage import Scale, Stage
from exchange.loop import gc_freeze
from trading.models import Allocation, Decision
from trading.services import market
from trading.services.allocation import allocate

CAP = Decimal("1.002")


def measured(stage: Stage, scale: Scale) -> Iterator[list[Figure]]:
    """The figures, a number of accounts at a time."""
    counts = [scale.accounts] if scale.accounts else [20] if scale.is_quick else [20, 200, 1000]
    rounds = scale.rounds_or(5)
    stage.start_valkey()
    stage.start_paper_exchange()
    fit = rows.fit_accounts(max(counts))
    try:
        _one_round(fit[: min(counts)])
        gc_freeze()
        for count in counts:
            yield _figures(fit[:count], rounds)
    finally:
        close_gateways()


def _figures(accounts: list[Account], rounds: int) -> list[Figure]:
    _one_round(accounts)
    measured_rounds = [_one_round(accounts) for _ in range(rounds)]
    floor, wall, cpu = (middle(column) for column in zip(*measured_rounds, strict=True))
    count = len(accounts)
    return [
        Figure(f"floor_write_shares_and_entries_{count}", floor, "ms"),
        Figure(f"allocate_{count}", wall, "ms", floor),
        Figure(f"allocate_cpu_per_1000_{count}", cpu / count * 1000, "s"),
    ]


def _one_round(accounts: list[Account]) -> tuple[float, float, float]:
    """Writing alone and allocating, in ms, and the CPU seconds of allocating."""
    rows.clear()
    began = time.perf_counter()
    rows.committed_entries(accounts)
    floor = (time.perf_counter() - began) * 1000
    rows.clear()
    decision = _decision(accounts)
    cpu, began = time.process_time(), time.perf_counter()
    entries = allocate(decision.pk, settings.CLOCK.now()).entries
    wall = (time.perf_counter() - began) * 1000
    if len(entries) != len(accounts):
        codes = Counter(Allocation.objects.values_list("outcome", "code"))
        raise RuntimeError(f"{len(entries)} entries for {len(accounts)} accounts: {codes}")
    return floor, wall, time.process_time() - cpu


def _decision(accounts: list[Account]) -> Decision:
    """A decision at the mark of this moment; accounts beyond those measured are paused."""
    rows.pause_all_but(accounts)
    now = settings.CLOCK.now()
    mark = market.marks([SYMBOL], now)[SYMBOL].mark_price
    decision = rows.a_decision(mark)
    decision.cap_price = (mark * CAP).quantize(Decimal("0.1"))
    decision.save()
    return decision
