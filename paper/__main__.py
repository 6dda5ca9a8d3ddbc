"""`python -m paper`: parse the command line, build the service, serve until told to stop."""

import argparse
import asyncio
import contextlib
import gc
import math
import resource
import signal
import sqlite3
import ssl
import sys
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, cast

import uvloop
from aiohttp import web

from paper.engine.exchange import Exchange
from paper.engine.venue import Settings
from paper.fault_rules import BadRule, read_file
from paper.feeds.candles import INTERVALS_MS, MINUTE_MS
from paper.feeds.feed import DataMissing, Feed
from paper.feeds.replay import ReplayFeed, open_replay
from paper.feeds.synthetic import SyntheticFeed
from paper.protocol.calls import NUMBER, WHOLE
from paper.server import Listener, Server
from paper.service import Options, Service
from paper.store import Store
from paper.symbols import Instrument, Markets, load_markets

if TYPE_CHECKING:
    from paper.feeds.live import LiveFeed

LIVE = "live"
HIGHEST_PORT = 65_535
LEAST_SLEEP_SECONDS = 0.01
TICK_SECONDS = 1.0
MOST_TICKS_PER_SECOND = 20


def _moment_ms(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _amount(text: str) -> Decimal:
    """A quantity of money: an exact number, not negative."""
    if not NUMBER.fullmatch(text) or text.startswith("-"):
        raise ValueError(text)
    return Decimal(text)


def _pace(text: str) -> float:
    """How many times faster than the feed's own pace: above zero."""
    if not 0 < float(text) < math.inf:
        raise ValueError(text)
    return float(text)


def _count(text: str) -> int:
    """A whole number from zero on."""
    if not WHOLE.fullmatch(text) or int(text) < 0:
        raise ValueError(text)
    return int(text)


def _port(text: str) -> int:
    """A port: the event loop would quietly take 70000 for 4464."""
    if _count(text) > HIGHEST_PORT:
        raise ValueError(text)
    return int(text)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parse = argparse.ArgumentParser(prog="paper", description="A paper exchange that speaks Binance USDⓈ-M.")
    add = parse.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=_port, default=18080, help="0 takes a free port and prints it")
    add("--feed", choices=("synthetic", "replay", "live"), default="synthetic")
    add("--data", type=Path, help="folder of candle files for the replay feed")
    add("--live-url", default="", help="read the live feed's prices from this server instead")
    add("--symbols", default="", help="comma separated; all of the table or folder by default")
    add("--invent-symbols", type=_count, default=0, help="so many more symbols with invented prices")
    add("--timeframe", choices=tuple(INTERVALS_MS), default="1m", help="candles that drive the replay")
    add("--start", type=_moment_ms, default=0, help="ISO moment the replay starts at")
    add("--warmup-days", type=float, default=8.3, help="past left before a replay without --start")
    add("--speed", type=_pace, default=1.0)
    add("--seed", type=int, default=7)
    add("--state", type=Path, help="file that survives a restart; without it everything is forgotten")
    add("--deposit", type=_amount, default=Decimal(10_000), help="USDT of futures margin of a new account")
    add("--spot-deposit", type=_amount, default=Decimal(10_000), help="USDT of spot balance of a new account")
    add("--lockstep", action="store_true", help="the feed moves only by POST /paper/advance")
    add("--admin-secret", default="", help="asked for in X-Paper-Secret by every /paper/ call")
    add("--weight-limit", type=_count, default=2400, help="request weight a minute and address; 0 is off")
    add("--tls-cert", type=Path, help="certificate of an encrypted listener, with --tls-key")
    add("--tls-key", type=Path)
    add("--faults", type=Path, help="JSON file of fault rules active from the start")
    add("--fault-seed", type=int, default=0)
    add("--ack-has-average", action="store_true", help="placements tell avgPrice, as before June 2026")
    add("--trade-lite", action="store_true", help="send TRADE_LITE to user streams that name no events")
    return parse


async def open_live(arguments: argparse.Namespace, chosen: dict[str, Instrument]) -> Feed:
    """The live feed, its source read once. Raises DataMissing."""
    from paper.feeds.live import LiveFeed  # noqa: PLC0415  # a hundred exchanges, loaded for this feed alone

    if arguments.lockstep:
        raise DataMissing("the live feed follows the market: it has no lockstep")
    live = LiveFeed(chosen, arguments.live_url)
    await live.open()
    return live


async def build_feed(arguments: argparse.Namespace, markets: Markets) -> Feed:
    """The feed asked for. Raises DataMissing."""
    symbols = {symbol for symbol in arguments.symbols.upper().split(",") if symbol}
    if arguments.feed == "replay":
        if arguments.data is None or not arguments.data.is_dir():
            raise DataMissing("the replay feed needs --data with a folder of candles")
        return open_replay(
            arguments.data,
            markets.futures,
            arguments.timeframe,
            symbols,
            arguments.start,
            arguments.warmup_days,
        )
    chosen = markets.only(symbols).futures if symbols else markets.futures
    if arguments.feed == LIVE:
        return await open_live(arguments, chosen)
    now_ms = arguments.start or int(time.time() * 1000)
    if arguments.lockstep:
        now_ms = now_ms // MINUTE_MS * MINUTE_MS
    return SyntheticFeed(chosen, arguments.seed, now_ms)


async def build_service(arguments: argparse.Namespace) -> Service:
    """Everything, ready to serve; state is taken up where it was left."""
    markets = load_markets(arguments.invent_symbols)
    feed = await build_feed(arguments, markets)
    store = Store(arguments.state) if arguments.state else None
    if store is not None and isinstance(feed, SyntheticFeed | ReplayFeed):
        feed.seek(int(store.meta().get("now_ms", 0)))
    settings = Settings(arguments.deposit, arguments.spot_deposit)
    options = Options(
        arguments.admin_secret,
        arguments.lockstep,
        arguments.weight_limit,
        arguments.fault_seed,
        arguments.ack_has_average,
        arguments.trade_lite,
    )
    service = Service(Exchange(markets.only(set(feed.symbols)), settings), feed, options, store)
    if arguments.faults:
        service.add_faults(read_file(arguments.faults))
    return service


def allow_many_connections() -> None:
    """As many open connections as the system lets this process have."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def follow_clock(service: Service, feed: SyntheticFeed, speed: float) -> None:
    """Move the synthetic feed with the wall clock, each second, oftener when it is sped up."""
    began, origin = time.time(), feed.now_ms
    period = TICK_SECONDS / min(max(speed, 1.0), MOST_TICKS_PER_SECOND)
    while True:
        await asyncio.sleep(period - time.time() % period)
        feed.seek(int(origin + (time.time() - began) * 1000 * speed))
        service.move()


async def play(service: Service, feed: ReplayFeed, speed: float) -> None:
    """Pass recorded price points at `speed` times their own pace, then stay at the last."""
    pace = feed.interval_ms / 4000 / speed
    sleep = max(pace, LEAST_SLEEP_SECONDS)
    owed = 0.0
    while not feed.done:
        await asyncio.sleep(sleep)
        owed += sleep / pace
        service.advance(int(owed))
        owed -= int(owed)


async def follow_market(service: Service, feed: "LiveFeed") -> None:
    """Pass the real market's prices on, each second; its candles once a minute."""
    async with asyncio.TaskGroup() as beside:
        while True:
            await asyncio.sleep(TICK_SECONDS - time.time() % TICK_SECONDS)
            before = feed.now_ms
            await feed.refresh()
            service.move()
            if feed.now_ms // MINUTE_MS != before // MINUTE_MS:
                beside.create_task(feed.catch_up())


async def run_feed(service: Service, speed: float) -> None:
    """Move prices until stopped; in lockstep nobody but administration does."""
    feed = service.feed
    if service.options.lockstep:
        return
    if isinstance(feed, SyntheticFeed):
        await follow_clock(service, feed, speed)
    elif isinstance(feed, ReplayFeed):
        await play(service, feed, speed)
    elif feed.kind == LIVE:
        await follow_market(service, cast("LiveFeed", feed))


def encryption(arguments: argparse.Namespace) -> ssl.SSLContext | None:
    """The encrypted listener asked for, None for a plain one."""
    if arguments.tls_cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(arguments.tls_cert, arguments.tls_key)
    return context


async def serve(arguments: argparse.Namespace) -> None:
    """Listen until a signal asks to stop."""
    service = await build_service(arguments)
    allow_many_connections()
    runner = web.ServerRunner(Listener(Server(service)), handle_signals=False)
    await runner.setup()
    tls = encryption(arguments)
    site = web.TCPSite(
        runner, arguments.host, arguments.port, ssl_context=tls, backlog=1024, shutdown_timeout=1.0
    )
    await site.start()
    port = runner.addresses[0][1]
    sys.stdout.write(
        f"paper exchange on {'https' if tls else 'http'}://{arguments.host}:{port} ({service.feed.kind})\n"
    )
    sys.stdout.flush()
    gc.collect()
    gc.freeze()
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    if isinstance(service.feed, SyntheticFeed) and not (arguments.start or arguments.lockstep):
        service.feed.seek(int(time.time() * 1000))  # its clock is the wall's, whatever starting took
    feeding = asyncio.create_task(run_feed(service, arguments.speed))
    feeding.add_done_callback(
        lambda task: None if task.cancelled() or not task.exception() else stopped.set()
    )
    await stopped.wait()
    feeding.cancel()
    for connection in list(service.hub.connections):
        connection.drop()
    await runner.cleanup()
    service.close()
    if service.feed.kind == LIVE:
        await cast("LiveFeed", service.feed).close()
    with contextlib.suppress(asyncio.CancelledError):
        await feeding


def main() -> int:
    """Run it; 2 when it cannot start, said in one line."""
    arguments = parser().parse_args()
    try:
        uvloop.run(serve(arguments))
    except (BadRule, DataMissing, OSError, sqlite3.Error) as error:
        sys.stderr.write(f"paper exchange: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
