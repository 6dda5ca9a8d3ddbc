"""What is open while programs die: no exit is missed or doubled, and a flatten works with what is left."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from accounts.models import Account
from exchange import heartbeat
from tests.chaos import oracle
from tests.processes import ROOT, Process
from tests.running_desk import WATCHERS
from tests.trading_desk import MARKS, TradingDesk
from trading.domain.states import OrderPurpose, PositionStatus, Protection
from trading.models import Order, Position, Signal, WatcherProcess

pytestmark = [pytest.mark.whole_system, pytest.mark.drill, pytest.mark.timeout(300)]

ACCOUNTS = 6
PATIENCE_SECONDS = 60.0
HEALED_SECONDS = 15.0
CLEAN_SECONDS = 150.0
"""Funding of a full hour stands in our rows up to two minutes after it."""

TAKEN_OVER_SECONDS = 6.0
"""Under two seconds by the watchers' own stopwatch; here their processor is shared with a whole desk."""

EXITS = ("worker_exits", "worker_exits_2")


@pytest.fixture(scope="module")
def desk(open_desk: Callable[..., TradingDesk]) -> TradingDesk:
    return open_desk(
        ACCOUNTS,
        {"worker_exits": 2},
        LIMIT_SIZING_MODEL="fixed_notional",
        LIMIT_FIXED_NOTIONAL="300",
        LIMIT_MAX_POSITIONS="20",
        LIMIT_ACCOUNT_STOP_OUTS="20",
    )


@pytest.fixture(autouse=True)
def nothing_wrong_afterwards(desk: TradingDesk) -> Iterator[None]:
    desk.wait_ready()
    yield
    desk.exchange.delete("/paper/faults")
    desk.wait_ready()
    desk.wait_for(lambda: oracle.judge(desk.exchange, desk.names).is_clean, "a clean ledger", CLEAN_SECONDS)


# ── the watchers ─────────────────────────────────────────────────────────────


def test_the_standby_takes_over_when_the_leader_is_killed_and_harvests_once(desk: TradingDesk) -> None:
    coin = hold(desk)
    desk.wait_for(lambda: WatcherProcess.objects.count() == 2, "two watchers")
    first, second = WatcherProcess.objects.all()
    with desk.supervisor.leaving_alone(*WATCHERS):
        process_of(desk, first).kill()
        killed_at = time.monotonic()
        desk.pin({coin: target(coin, 2)})  # a single lot sells nothing at the first
        desk.wait_for(lambda: WatcherProcess.objects.first() == second, "the standby to lead")
        led_after = time.monotonic() - killed_at
        desk.wait_for(lambda: len(exits(coin)) == ACCOUNTS, "every harvest to be ordered", PATIENCE_SECONDS)
        ordered_after = time.monotonic() - killed_at
    sys.stdout.write(f"standby led after {led_after:.2f} s, last harvest after {ordered_after:.2f} s\n")
    assert led_after < TAKEN_OVER_SECONDS
    wait_safe(desk, coin, PATIENCE_SECONDS)
    assert {(one.reason, one.attempt) for one in exits(coin)} == {("TAKE_PROFIT_2", 1)}
    assert len(exits(coin)) == ACCOUNTS


def test_streams_of_a_killed_watcher_are_heard_by_the_other(desk: TradingDesk) -> None:
    desk.wait_for(lambda: WatcherProcess.objects.count() == 2, "two watchers")
    with desk.supervisor.leaving_alone(*WATCHERS):
        process_of(desk, WatcherProcess.objects.all()[0]).kill()
        killed_at = timezone.now() + timedelta(seconds=1)
        heard = Account.objects.filter(name__in=desk.names, heard_at__gt=killed_at, fresh_at__gt=killed_at)
        desk.wait_for(lambda: heard.count() == ACCOUNTS, "the other to hear everybody", PATIENCE_SECONDS)
        coin = hold(desk)
    wait_safe(desk, coin, PATIENCE_SECONDS)


# ── a crash of the price ─────────────────────────────────────────────────────


def test_a_crash_without_watchers_exits_broker_and_streams_ends_flat_or_protected(desk: TradingDesk) -> None:
    """Longs of one coin are stopped out, of another harvested, and a short is crossed, with nobody there."""
    stopped, harvested, shorted = hold(desk), hold(desk), hold(desk, "SHORT")
    stop, tick = min((one.stop_price or Decimal(0), Decimal(one.plan["tick"])) for one in held(stopped))
    with desk.supervisor.leaving_alone(*WATCHERS, *EXITS):
        for name in (*WATCHERS, *EXITS):
            desk.programs.process(name).kill()
        desk.programs.valkey.kill()
        desk.exchange.add_fault(kind="disconnect_streams", count=1)
        for number, fall in enumerate(("1.001", "0.995", "0.98"), 1):
            price = str((stop * Decimal(fall)).quantize(tick))
            marks = {
                stopped: price,
                harvested: target(harvested, min(number, 2)),
                shorted: target(shorted, 1),
            }
            desk.pin(marks)
            time.sleep(1)
    desk.programs.valkey.start()
    wait_living(desk)
    healed_at = time.monotonic()
    for coin in (stopped, harvested, shorted):
        wait_safe(desk, coin, PATIENCE_SECONDS)
    safe_after = time.monotonic() - healed_at
    sys.stdout.write(f"flat or protected {safe_after:.1f} s after healing\n")
    assert safe_after < HEALED_SECONDS
    assert not held(stopped)
    taken = (harvested, shorted)
    desk.wait_for(lambda: all(map(has_sold, taken)), "the targets to be taken", PATIENCE_SECONDS)
    for coin in taken:
        wait_safe(desk, coin, PATIENCE_SECONDS)
    assert not [one for one in exits(stopped) if one.filled_quantity], (
        "the exchange's stop and ours both sold"
    )


# ── stop everything, with what is left ───────────────────────────────────────


def test_a_flatten_needs_neither_beat_nor_half_of_the_workers(desk: TradingDesk) -> None:
    coin = hold(desk)
    with desk.supervisor.leaving_alone("beat", EXITS[1], "worker_orders"):
        for name in ("beat", EXITS[1], "worker_orders"):
            desk.programs.process(name).kill()
        told = {"scope": f"symbol:{coin}/USDT:USDT", "level": "FLATTEN", "reason": "a drill"}
        assert desk.post("/api/bot/emergency-stop", **told)[0] < 300
        desk.wait_flat(coin, PATIENCE_SECONDS)
    resume(desk, coin)


def test_a_flatten_from_the_command_line_needs_no_broker(desk: TradingDesk) -> None:
    coin = hold(desk)
    desk.programs.valkey.kill()
    try:
        closed = close_all(desk, "--symbol", f"{coin}/USDT:USDT")
        assert not desk.held_there(coin)
    finally:
        desk.programs.valkey.start()
    assert closed.returncode == 0, closed.stdout + closed.stderr
    desk.wait_ready()
    desk.wait_flat(coin, PATIENCE_SECONDS)
    resume(desk, coin)


# ── steps ────────────────────────────────────────────────────────────────────


def hold(desk: TradingDesk, side: str = "LONG") -> str:
    """Enter a free coin on every account and wait until each is verified; the coin.

    The next one where a busy machine kept the gate from its figures of the market.
    """
    while True:
        desk.wait_ready()
        desk.wait_for(lambda: desk.get("/api/bot/emergency-stop")[1]["items"] == [], "entries to be allowed")
        coin = next(coin for coin in MARKS if not Signal.objects.filter(symbol=f"{coin}/USDT:USDT").exists())
        if desk.wait_complete(desk.execute(coin, side), PATIENCE_SECONDS)["counts"] == {"FILLED": ACCOUNTS}:
            desk.wait_verified(coin, ACCOUNTS, PATIENCE_SECONDS)
            return coin


def held(coin: str) -> list[Position]:
    return list(Position.objects.filter(symbol=f"{coin}/USDT:USDT", status=PositionStatus.OPEN))


def exits(coin: str) -> list[Order]:
    return list(Order.objects.filter(symbol=f"{coin}/USDT:USDT", purpose=OrderPurpose.EXIT))


def target(coin: str, number: int) -> str:
    """A price at or beyond this target of every position of a coin."""
    prices = [(one.is_long, Decimal(one.plan["levels"][number - 1]["price"])) for one in held(coin)]
    return str(max(price for _, price in prices) if prices[0][0] else min(price for _, price in prices))


def wait_living(desk: TradingDesk) -> None:
    """Wait until each program that was killed runs again and says so."""

    def live() -> bool:
        pids = {name: desk.programs.process(name).pid for name in (*WATCHERS, *EXITS)}
        watching = {
            int(name.rpartition(":")[2]) for name in WatcherProcess.objects.values_list("name", flat=True)
        }
        with desk.programs.valkey.client() as redis:
            working = all(redis.exists(heartbeat.worker_key("exits", pids[name])) for name in EXITS)
        return working and {pids[name] for name in WATCHERS} <= watching

    desk.wait_for(live, "the programs to live again", PATIENCE_SECONDS)


def has_sold(coin: str) -> bool:
    return all(position.quantity < position.initial_quantity for position in held(coin))


def wait_safe(desk: TradingDesk, coin: str, seconds: float) -> None:
    """Wait until each account is flat on both sides, or the same on both with a stop seen at the exchange."""

    def is_safe() -> bool:
        ours, theirs, stops = held(coin), desk.held_there(coin), desk.stops_there(coin)
        if any(one.is_closing or one.protection != Protection.VERIFIED for one in ours):
            return False
        same = {one.account.name: one.quantity for one in ours}
        return same == {name: abs(quantity) for name, quantity in theirs.items()} and set(same) <= set(stops)

    desk.wait_for(is_safe, f"every {coin} to be flat or protected", seconds)


def process_of(desk: TradingDesk, watcher: WatcherProcess) -> Process:
    """The program whose row it is."""
    pid = int(watcher.name.rpartition(":")[2])
    return next(one for one in map(desk.programs.process, WATCHERS) if one.pid == pid)


def close_all(desk: TradingDesk, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(ROOT / "manage.py"), "close_all", "--timeout", "40", *words]
    env = {**os.environ, **desk.programs.environment}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=90, check=False)


def resume(desk: TradingDesk, coin: str) -> None:
    assert desk.post("/api/bot/resume", scope=f"symbol:{coin}/USDT:USDT", reason="drill over")[0] == 200
