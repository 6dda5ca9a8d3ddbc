"""The life of one signal, as Celery rings it: ids in, one service called, what is due next rung.

select -> decide -> submit_entries -> attend_positions (protect, verify) -> ... -> submit_exits -> settle.
Every task may run twice, late or never: the rows decide what is done, the sweep finds what was not.
"""

from collections.abc import Callable, Iterator, Sequence

import structlog
from celery import shared_task
from django.conf import settings
from kombu.exceptions import OperationalError

from trading.services import (
    allocation,
    closing,
    decisions,
    demo,
    equity,
    execution,
    market_upkeep,
    monitoring,
    preparing,
    protection,
    selection,
    signals,
    sweeping,
    ticks,
    watch_check,
    watching,
)
from trading.services.bells import Bells

log = structlog.get_logger(__name__)

CHUNK = 100
LEADING_CHUNK, LEADING = 20, 40
"""A decision's first orders go in chunks that are claimed in a moment: the first leaves early."""
EXIT_CHUNK = 50
POSITION_CHUNK = 25
LOOKUP_CHUNK = 25
ROUNDS = 6
UNREAD_COUNTDOWN_SECONDS = 1.5
"""A stream tells an execution within milliseconds; whoever has not heard of one by then reads it."""


# ── ticks of beat ────────────────────────────────────────────────────────────
@shared_task
def select_signals() -> None:
    """Choose the best open signal, if any, and have it executed."""
    now = settings.CLOCK.now()
    if ticks.take("select_signals", 60, now):
        ring(Bells(decisions=[chosen.pk for chosen in selection.select(now)]))


@shared_task
def monitor_accounts() -> None:
    """Compare ours with the exchange's picture of every account, and audit the next ones by reading."""
    now = settings.CLOCK.now()
    if ticks.take("monitor_accounts", 10, now):
        ring(monitoring.monitor(now))


@shared_task
def sweep() -> None:
    """Ring again for every row that is open and has nobody."""
    now = settings.CLOCK.now()
    if ticks.take("sweep", 5, now):
        ring(sweeping.sweep(now))
        ring(signals.continue_actions(now))
        ticks.forget_old(now)


@shared_task
def keep_market_fresh() -> None:
    """Read what the rules will ask of the market before a decision waits for it."""
    now = settings.CLOCK.now()
    if ticks.take("keep_market_fresh", 20, now):
        market_upkeep.keep_fresh(now)


@shared_task
def check_watcher() -> None:
    """Compare what the watcher watches with the rows, and follow the stops it missed."""
    now = settings.CLOCK.now()
    if ticks.take("check_watcher", 10, now):
        ring(watch_check.check(now))


@shared_task
def record_equity() -> None:
    """Keep every account's money as last read, with its time."""
    now = settings.CLOCK.now()
    if ticks.take("record_equity", 60, now):
        equity.record(now)


@shared_task
def poll_demo_source() -> None:
    """Let the demonstration rule look at the newest closed candles."""
    now = settings.CLOCK.now()
    if settings.DEMO_SIGNALS and ticks.take("poll_demo_source", 20, now):
        ring_symbols([signal.symbol for signal in demo.poll(now)])


# ── the journey ──────────────────────────────────────────────────────────────
@shared_task
def decide(decision_ids: list[int]) -> None:
    """Allocate decisions that have no allocations yet; settle the others."""
    now = settings.CLOCK.now()
    equity.keep_first()
    rung = set()
    for decision_id in decision_ids:
        preparing.prepare_decision(decision_id, now)
        allocated = allocation.allocate(decision_id, settings.CLOCK.now())
        ring(allocated)
        if allocated.entries:  # its chunks settle it, and would wait for whoever holds all its shares
            rung.add(decision_id)
    ring(decisions.settle([one for one in decision_ids if one not in rung], now))


@shared_task
def offer_allocations(allocation_ids: list[int]) -> None:
    """Offer shares the first executor could not take to the next one, while the deadline lasts."""
    ring(allocation.offer(allocation_ids, settings.CLOCK.now()))


@shared_task
def submit_entries(order_ids: list[int]) -> None:
    """Send a chunk of entries."""
    ring(execution.submit(order_ids, settings.CLOCK.now(), are_entries=True))


@shared_task
def submit_exits(order_ids: list[int]) -> None:
    """Send exits and stops, then look after the positions they belong to, in this worker.

    Of a crowd all orders leave before anybody's position is looked after: that waits behind them.
    """
    bells = execution.submit(order_ids, settings.CLOCK.now())
    if len(order_ids) < execution.CROWD:
        see_through(bells)
    else:
        ring(bells)


@shared_task
def attend_positions(position_ids: list[int]) -> None:
    """Go on closing what must be flat, protect the rest, and see each step through in this worker."""
    see_through(Bells(positions=position_ids))


@shared_task
def act_on_signals(signal_ids: list[int]) -> None:
    """Carry out closes and cancels that a sender asked for, and see the exits through in this worker."""
    see_through(signals.act_on(signal_ids, settings.CLOCK.now()))


@shared_task
def cancel_orders(order_ids: list[int]) -> None:
    """Cancel resting orders."""
    see_through(execution.cancel(order_ids, settings.CLOCK.now()))


@shared_task
def resolve_orders(order_ids: list[int]) -> None:
    """Look up what is unclear."""
    now = settings.CLOCK.now()
    # In this order: what a look finds is read once.
    ring(execution.refresh(order_ids, now).add(execution.resolve(order_ids, now)))


@shared_task
def refresh_orders(order_ids: list[int]) -> None:
    """Read the executions of orders that no stream has told of."""
    ring(execution.refresh(order_ids, settings.CLOCK.now()))


@shared_task
def prepare_symbols(symbols: list[str]) -> None:
    """Set leverage and margin mode of symbols that new signals may trade, ahead of their decision."""
    preparing.prepare_symbols(symbols, settings.CLOCK.now())


def see_through(bells: Bells) -> None:
    """Do here what the next bells ask for exits, stops and cancels, for a few rounds; ring what is left.

    A hop over the broker costs milliseconds that a position would stand unprotected.
    """
    for _ in range(ROUNDS):
        if not (bells.positions or bells.exits or bells.cancel):
            break
        now = settings.CLOCK.now()
        positions, exits, cancels = bells.positions, bells.exits, bells.cancel
        bells.positions, bells.exits, bells.cancel = [], [], []
        if exits:
            bells.add(execution.submit(exits, now))
        if positions:
            bells.add(watching.attend(positions, now))
            wanted = closing.continue_closing(positions, now)
            # At once: looking at stops reads every account of the chunk, and no exit waits for another's.
            if wanted.exits:
                bells.add(execution.submit(wanted.exits, now))
            wanted.exits = []
            bells.add(wanted).add(protection.protect(positions, now))
        if cancels:
            bells.add(execution.cancel(cancels, now))
    ring(bells)


# ── bells ────────────────────────────────────────────────────────────────────
def ring(bells: Bells) -> None:
    """Send the bells to their queues. A broker that is away costs seconds: the sweep rings again."""
    _ring(submit_exits, bells.exits, "exits", EXIT_CHUNK)
    _ring(act_on_signals, bells.signals, "exits", POSITION_CHUNK)
    later = set(bells.later)
    _ring(attend_positions, [pk for pk in bells.positions if pk not in later], "exits", POSITION_CHUNK)
    _ring(cancel_orders, bells.cancel, "exits", POSITION_CHUNK)
    _ring(submit_entries, bells.entries[:LEADING], "orders", LEADING_CHUNK)
    _ring(submit_entries, bells.entries[LEADING:], "orders", CHUNK)
    _ring(offer_allocations, bells.allocations, "orders", CHUNK)
    for chunk in _chunks(bells.resolve, LOOKUP_CHUNK):
        wait = execution.seconds_until_look(chunk)
        _ring(resolve_orders, chunk, "lookups", LOOKUP_CHUNK, countdown=wait)
    _ring(refresh_orders, bells.unread, "lookups", LOOKUP_CHUNK, countdown=UNREAD_COUNTDOWN_SECONDS)
    _ring(decide, bells.decisions, "orders", CHUNK)


def ring_symbols(symbols: Sequence[str]) -> None:
    """Have symbols prepared that new signals may trade; without the bell the monitor does it."""
    if not symbols:
        return
    try:
        prepare_symbols.apply_async((list(dict.fromkeys(symbols)),), queue="monitor")
    except OperationalError:
        log.warning("bell_not_rung", task="prepare_symbols", symbols=len(symbols))


def _ring(task: Callable[..., None], ids: Sequence[int], queue: str, size: int, countdown: float = 0) -> None:
    for chunk in _chunks(list(dict.fromkeys(ids)), size):
        try:
            # Told how they look, Celery does not find out itself, which is a fifth of what ringing costs.
            looks = {"argsrepr": repr((chunk,)), "kwargsrepr": "{}"}
            task.apply_async((chunk,), queue=queue, countdown=countdown or None, **looks)  # type: ignore[attr-defined]
        except OperationalError:
            log.warning("bell_not_rung", task=task.__name__, rows=len(chunk))


def _chunks(ids: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]
