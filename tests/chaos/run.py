"""One run: a whole desk, decisions side by side, faults and strikes; then peace, the verdict and the figures.

Loaded when Django knows its settings.
"""

import json
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event

from django.db import OperationalError
from django.db.models import Q
from django.utils import timezone

from accounts.models import Account
from accounts.services.gateways import close_gateways
from tests.chaos import decks, oracle
from tests.chaos.board import Board, Counts
from tests.chaos.figures import of_exchange, of_rows, sent_entries
from tests.chaos.ground import Ground
from tests.chaos.lanes import Lane, Streets, Ways
from tests.chaos.nemesis import Nemesis, say
from tests.chaos.oracle import Verdict
from tests.chaos.sizes import Size
from tests.processes import ROOT
from tests.running_desk import WATCHERS, Desk
from tests.trading_desk import MARKS, WEATHER, TradingDesk
from trading.domain.states import OPEN, TERMINAL, OrderStatus
from trading.models import Decision, Halt, Order, Position
from trading.services import preparing

COPIES = {"worker_orders": 2, "worker_exits": 2}
RESUME_SECONDS = 5.0
HEAL_SECONDS = 300.0
"""Far beyond what a desk needs: how fast it heals is not judged here."""


def play(ground: Ground, size: Size, seed: int) -> int:
    """Run, print the summary, and return the exit code: 0 when the oracle found nothing."""
    began = time.monotonic()
    desk = new_desk(ground, size.accounts)
    board = Board(ground.exchange)
    try:
        desk.start()
        prepare_settings()
        say(f"{size.accounts} accounts are ready after {time.monotonic() - began:.0f} s")
        nemesis = Nemesis(desk, ground, programs(), size, seed)
        streets = Streets(sorted(MARKS))
        ways = Ways(random.Random(f"ways {seed}"))
        lanes = [Lane(number, desk, board, streets, ways, seed) for number in range(1, size.lanes + 1)]
        go_on(desk, board, size, nemesis, lanes)
        faults = board.counts()
        struck = {"faults": faults, "placements_met_by_a_fault": board.struck_placements()}
        figures = of_exchange(ground.exchange)
        verdict = heal_and_judge(desk, ground)
        summary = {
            "seed": seed,
            "database": ground.kind,
            "accounts": size.accounts,
            **of_rows(),
            **struck,
            **figures,
            "strikes": dict(sorted(nemesis.struck.items())),
            **verdict.counts,
            "missed": missed(size, nemesis, faults),
            "observer_failed": [lane.failure for lane in lanes if lane.failure],
            "seconds": round(time.monotonic() - began),
        }
        is_good = verdict.is_clean and not summary["missed"] and not summary["observer_failed"]
        if not is_good:
            sys.stderr.write(f"{verdict.told()}\n{desk.rows()}\n{desk.warnings()}\n")
            say(f"kept in {keep(ground, seed)}: logs, the exchange's ledger, on SQLite the database")
        sys.stdout.write(json.dumps(summary) + "\n")
        return 0 if is_good else 1
    finally:
        close_gateways()
        desk.stop()


def new_desk(ground: Ground, accounts: int) -> TradingDesk:
    """A desk whose programs reach broker and database over our lines; small orders, no rule in their way."""
    settings = {
        "REDIS_URL": ground.desk_redis_url,
        "DATABASE_URL": ground.desk_database_url,
        "GATE_OFF": WEATHER,
        # Asked like any other, and never refusing: a minute of chaos is a day of trading.
        "WEIGHT_LIMIT_PER_MINUTE": "1000000",
        "LIMIT_SIZING_MODEL": "fixed_notional",
        "LIMIT_FIXED_NOTIONAL": "500",
        "LIMIT_MAX_POSITIONS": "100",
        "LIMIT_DAILY_TRADES": "1000",
        "LIMIT_DESK_DAILY_TRADES": "10000",
        "LIMIT_DESK_VOLUME_SHARE": "5",
        "LIMIT_DESK_DEPTH_SHARE": "100",
        "LIMIT_BREAKER_REJECTIONS": "100",
        "LIMIT_VENUE_CIRCUIT_SHARE": "100",
        "LIMIT_ACCOUNT_STOP_OUTS": "100",
        "LIMIT_DESK_STOP_OUTS": "100",
    }
    desk = Desk(ground.place / "desk", ground.valkey, ground.exchange, **settings)
    return TradingDesk(desk, ground.exchange, accounts, copies=COPIES)


def prepare_settings() -> None:
    """Leverage and margin mode of every coin on every account, as the monitor would by and by."""
    symbols = [f"{coin}/USDT:USDT" for coin in sorted(MARKS)]
    while preparing.prepare_symbols(symbols, timezone.now()):
        pass


def programs() -> list[str]:
    """Who may be struck: every process of the desk."""
    further = [f"{name}_{copy}" for name, count in COPIES.items() for copy in range(2, count + 1)]
    return ["worker_orders", "worker_exits", "worker_monitor", "beat", *WATCHERS, "web", *further]


def keep(ground: Ground, seed: int) -> Path:
    """Save what tells how a failure came about from the end of the run."""
    kept = ROOT / "var" / "chaos" / f"seed-{seed}-{time.strftime('%H%M%S', time.gmtime())}"
    shutil.copytree(ground.place / "desk", kept)
    (kept / "ledger.json").write_text(json.dumps(ground.exchange.ledger()), encoding="utf-8")
    for file in ground.place.glob("desk.sqlite3*"):
        shutil.copy(file, kept)
    return kept


# ── the run ──────────────────────────────────────────────────────────────────


def go_on(desk: TradingDesk, board: Board, size: Size, nemesis: Nemesis, lanes: list[Lane]) -> None:
    """Let them have it until there was enough of everything, or for as long as a run may last."""
    until = time.monotonic() + size.most_seconds
    is_enough = Event()
    # Told to end, a run makes peace and judges what there was; told again, it ends at once.
    before = signal.signal(signal.SIGTERM, lambda *_: is_enough.set())
    for thread in (nemesis, *lanes):
        thread.start()
    while time.monotonic() < until and any(lane.is_alive() for lane in lanes):
        if is_enough.wait(RESUME_SECONDS):
            break
        with suppress(OperationalError, OSError):
            resume_halts(desk)
            if not missed(size, nemesis, board.counts()):
                break
            tell_progress(board)
    signal.signal(signal.SIGTERM, before)
    for lane in lanes:
        lane.end()
    nemesis.end()
    for lane in lanes:
        lane.join()


def tell_progress(board: Board) -> None:
    """A line for whoever watches."""
    rows = of_rows()
    least = {switch: sum(times.values()) for switch, times in board.counts().items()}
    say(f"{rows['orders']} orders of {rows['decisions']} decisions, faults {least}")


def missed(size: Size, nemesis: Nemesis, faults: Counts) -> list[str]:
    """What a run of this size must have and has not."""
    orders = sent_entries()
    counts = {switch: sum(faults.get(switch, {}).values()) for switch in decks.SWITCHES}
    short = [f"switch {switch}: {count}" for switch, count in sorted(counts.items()) if count < size.hits]
    kinds = {name: nemesis.struck[name] for name in nemesis.kinds}
    rare = [f"{name}: {count}" for name, count in sorted(kinds.items()) if count < size.strikes]
    few = [f"orders: {orders}"] if orders < size.orders else []
    few += [f"strikes: {nemesis.struck.total()}"] if nemesis.struck.total() < size.blows else []
    return [*few, *short, *rare]


def resume_halts(desk: TradingDesk) -> None:
    """What an operator does with halts the desk raised by itself; drills end by their lane."""
    halts = Halt.objects.filter(resumed_at__isnull=True, is_automatic=True)
    for halt in halts:
        scope = f"{halt.scope}:{halt.target}" if halt.target else halt.scope
        desk.post("/api/bot/resume", scope=scope, reason="looked at")


# ── peace ────────────────────────────────────────────────────────────────────


def heal_and_judge(desk: TradingDesk, ground: Ground) -> Verdict:
    """No more faults: everything ends by itself, is judged as it stands, flattened, and judged again."""
    say("peace")
    ground.exchange.delete("/paper/faults")
    desk.pin(MARKS)
    for halt in Halt.objects.filter(resumed_at__isnull=True):
        scope = f"{halt.scope}:{halt.target}" if halt.target else halt.scope
        desk.post("/api/bot/resume", scope=scope, reason="peace")
    slack = decks.LATER_THAN_THE_CLIENT_WAITS

    def found() -> Verdict:
        return oracle.judge(ground.exchange, desk.names, slack_seconds=slack)

    verdict = settled(found)
    if not verdict.is_clean:
        return verdict
    say(f"in peace: {Position.objects.filter(status='OPEN').count()} positions open; flattening")
    desk.post("/api/bot/emergency-stop", scope="desk", level="FLATTEN", reason="the end of a run")
    wait(lambda: not Position.objects.filter(status="OPEN").exists() and not desk.coins_there())
    return settled(found)


def settled(found: Callable[[], Verdict]) -> Verdict:
    """The verdict once the desk is quiet and it is clean; the last one when it never is."""
    wait(is_quiet)
    wait(are_incomes_rows)
    verdicts = [found()]

    def is_clean() -> bool:
        verdicts.append(found())
        return verdicts[-1].is_clean

    wait(is_clean, seconds=HEAL_SECONDS / 2)
    return verdicts[-1]


def is_quiet() -> bool:
    """Whether no order of ours is on its way, every ended one has its fills, and no decision is open."""
    on_their_way = Order.objects.filter(status__in=OPEN - {OrderStatus.ACKNOWLEDGED})
    unread = Order.objects.filter(status__in=TERMINAL, fills_complete=False)
    return not (on_their_way.exists() or unread.exists() or Decision.objects.filter(status="OPEN").exists())


def are_incomes_rows() -> bool:
    """Whether what the exchange paid and took at the last full hour has been read of everybody."""
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    return not Account.objects.filter(Q(income_read_at=None) | Q(income_read_at__lt=hour)).exists()


def wait(true: Callable[[], bool], seconds: float = HEAL_SECONDS) -> None:
    """Until it is true, or for so long that it never will be."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with suppress(OperationalError):
            if true():
                return
        time.sleep(1.0)
