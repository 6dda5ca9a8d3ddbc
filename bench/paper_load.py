"""The paper exchange under load: orders from many connections, ticks over many positions, memory, streams."""

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from decimal import ROUND_CEILING, Decimal
from pathlib import Path
from secrets import token_hex
from statistics import median, quantiles
from typing import Any

import uvloop

from bench.figures import Bound, Figure, middle
from bench.lines import Line, Listener, connect, get, signed
from bench.stage import Scale, Stage, wait_for_port

LINES = 64
SYMBOLS = 400
POSITIONS = 10
LISTENERS = 50
SECRET = "bench"  # noqa: S105  # of an exchange that lives as long as a measurement
ORDER = "/fapi/v1/order"
MARKET = "symbol={}&side={}&type=MARKET&quantity={:f}"
STOP = "algoType=CONDITIONAL&symbol={}&side={}&type=STOP_MARKET&triggerPrice={:f}&closePosition=true"
PACED_A_SECOND = 1000
TICKS = os.sysconf("SC_CLK_TCK")
PAGE_KB = os.sysconf("SC_PAGE_SIZE") / 1024


def measured(_stage: Stage, scale: Scale) -> Iterator[list[Figure]]:
    """Three exchanges, one after another: for orders, for memory, for positions and streams."""
    for part in (orders, memory, positions_and_streams):
        with Stage() as stage:
            yield uvloop.run(part(stage, scale))


class Exchange:
    """A paper exchange of its own with a state file, and lines to it."""

    def __init__(self, stage: Stage, *words: str) -> None:
        given = ["--port", str(stage.exchange_port), "--weight-limit", "0", "--admin-secret", SECRET, *words]
        given += ["--state", str(stage.place / "state")]
        self.pid = stage.start([sys.executable, "-m", "paper", *given], os.environ)
        wait_for_port(stage.exchange_port)
        self.url = stage.exchange_url
        self.lines: list[Line] = []

    async def open(self) -> None:
        """Connect."""
        self.lines = await connect(self.url, LINES)

    def close(self) -> None:
        """Hang up."""
        for line in self.lines:
            line.close()

    def cpu_seconds(self) -> float:
        """What the process has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory_kb(self) -> float:
        """Resident memory of the process."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * PAGE_KB

    async def share(self, requests: list[list[tuple[str, str, str]]]) -> None:
        """Send each list in order, the lists side by side over all lines."""
        waiting = iter(requests)

        async def work(line: Line) -> None:
            for batch in waiting:
                for key, path, words in batch:
                    await line.ask(signed(key, path, words))

        await asyncio.gather(*(work(line) for line in self.lines))

    async def symbols(self) -> list[tuple[str, Decimal, Decimal, Decimal]]:
        """Name, mark, tick and a quantity that is a little over the smallest order."""
        listed = await self.lines[0].ask(get("/fapi/v1/exchangeInfo"))
        marks = {
            row["symbol"]: row["markPrice"] for row in await self.lines[0].ask(get("/fapi/v1/premiumIndex"))
        }
        return [_tradable(row, Decimal(marks[row["symbol"]])) for row in listed["symbols"]]


def _tradable(row: dict[str, Any], mark: Decimal) -> tuple[str, Decimal, Decimal, Decimal]:
    rules = {entry["filterType"]: entry for entry in row["filters"]}
    step, least = Decimal(rules["LOT_SIZE"]["stepSize"]), Decimal(rules["MIN_NOTIONAL"]["notional"])
    steps = (least * Decimal("1.2") / mark / step).to_integral_value(ROUND_CEILING)
    return row["symbol"], mark, Decimal(rules["PRICE_FILTER"]["tickSize"]), steps * step


# orders


async def orders(stage: Stage, scale: Scale) -> list[Figure]:
    """Orders a second as fast as they are taken, and how late answers are at a thousand a second."""
    exchange = Exchange(stage)
    await exchange.open()
    try:
        each = 10 if scale.is_quick else 100
        rounds = [await _as_fast_as_taken(exchange, each) for _ in range(2 if scale.is_quick else 6)][1:]
        late = await _paced(exchange, seconds=0.5 if scale.is_quick else 5)
    finally:
        exchange.close()
    bound = Bound(3000, is_least=True)
    return [
        Figure("paper_orders_64_connections", middle([wall for wall, _ in rounds]), "orders/s", bound=bound),
        Figure("paper_orders_a_core_second", middle([cpu for _, cpu in rounds]), "orders/cpu-s", bound=bound),
        Figure("paper_order_p99_at_1000_a_second", _p99(late), "ms", bound=Bound(20)),
    ]


def _market(number: int) -> str:
    words = MARKET.format("BTCUSDT", "BUY" if number % 2 else "SELL", Decimal("0.002"))
    return f"{words}&newClientOrderId={token_hex(12)}"


async def _as_fast_as_taken(exchange: Exchange, each: int) -> tuple[float, float]:
    """Orders a second of wall clock, and of the exchange's own processor time."""
    batches = [[(f"paper-{key:04d}", ORDER, _market(n)) for n in range(each)] for key in range(LINES)]
    cpu, began = exchange.cpu_seconds(), time.perf_counter()
    await exchange.share(batches)
    taken, used = time.perf_counter() - began, exchange.cpu_seconds() - cpu
    return LINES * each / taken, LINES * each / max(used, 1 / TICKS)


async def _paced(exchange: Exchange, seconds: float) -> list[float]:
    """Milliseconds from the moment an order was due to its answer, waiting for a free line included."""
    loop, late = asyncio.get_running_loop(), []
    began = loop.time() + 0.05

    async def send(number: int, due: float) -> None:
        key = f"paper-{number % LINES:04d}"
        await exchange.lines[number % LINES].ask(signed(key, ORDER, _market(number // LINES)))
        late.append((loop.time() - due) * 1000)

    tasks = []
    for number in range(int(seconds * PACED_A_SECOND)):
        due = began + number / PACED_A_SECOND
        await asyncio.sleep(max(0, due - loop.time()))
        tasks.append(asyncio.ensure_future(send(number, due)))
    await asyncio.gather(*tasks)
    return late


def _p99(values: list[float]) -> float:
    return quantiles(values, n=100)[98]


# memory


async def memory(stage: Stage, scale: Scale) -> list[Figure]:
    """What an account with one position and one stop adds."""
    exchange = Exchange(stage)
    await exchange.open()
    try:
        symbol, mark, tick, quantity = (await exchange.symbols())[0]
        trigger = (mark * Decimal("0.9") / tick).to_integral_value() * tick
        stop = STOP.format(symbol, "SELL", trigger)
        buy = MARKET.format(symbol, "BUY", quantity)

        def batches(first: int, count: int) -> list[list[tuple[str, str, str]]]:
            keys = [f"paper-{number:05d}" for number in range(first, first + count)]
            return [[(key, ORDER, buy), (key, "/fapi/v1/algoOrder", stop)] for key in keys]

        count = 100 if scale.is_quick else 2000
        await exchange.share(batches(0, LINES))
        before = exchange.memory_kb()
        await exchange.share(batches(LINES, count))
        added = (exchange.memory_kb() - before) / count
    finally:
        exchange.close()
    return [Figure("paper_memory_an_account", added, "KB", bound=Bound(20))]


# ticks and streams


async def positions_and_streams(stage: Stage, scale: Scale) -> list[Figure]:
    """A tick over everybody's positions and stops, then the array of marks to many listeners."""
    accounts = 20 if scale.is_quick else 1000
    seconds = 3 if scale.is_quick else 12
    exchange = Exchange(stage, "--invent-symbols", "360")
    await exchange.open()
    try:
        symbols = await exchange.symbols()
        await exchange.share([_holding(symbols, number) for number in range(accounts)])
        ticks = await _ticks(exchange, seconds)
        late, missed = await _listened(exchange.url, seconds)
    finally:
        exchange.close()
    name = f"paper_tick_{accounts}_accounts_{POSITIONS}_positions_{len(symbols)}_symbols"
    return [
        Figure(f"{name}_median", median(ticks), "ms", bound=Bound(20)),
        Figure(f"{name}_slowest", max(ticks), "ms", bound=Bound(20)),
        Figure(f"paper_mark_array_p99_{LISTENERS}_listeners", _p99(late), "ms", bound=Bound(100)),
        Figure("paper_mark_array_missed", missed, "messages", bound=Bound(0)),
    ]


def _holding(symbols: list[tuple[str, Decimal, Decimal, Decimal]], number: int) -> list[tuple[str, str, str]]:
    """Orders and stops that leave one account with its positions."""
    key, requests = f"paper-{number:05d}", []
    for place in range(POSITIONS):
        symbol, mark, tick, quantity = symbols[(number * 7 + place * 37) % len(symbols)]
        side, other = ("BUY", "SELL") if (number + place) % 2 else ("SELL", "BUY")
        away = Decimal("0.9") if side == "BUY" else Decimal("1.1")
        trigger = (mark * away / tick).to_integral_value() * tick
        requests.append((key, ORDER, MARKET.format(symbol, side, quantity)))
        requests.append((key, "/fapi/v1/algoOrder", STOP.format(symbol, other, trigger)))
    return requests


async def _ticks(exchange: Exchange, seconds: int) -> list[float]:
    """What moving the prices cost the engine, each second."""
    found = []
    for _ in range(seconds):
        await asyncio.sleep(1)
        status = await exchange.lines[0].ask(get("/paper/status", SECRET))
        found.append(float(status["tick"]["engine_ms"]))
    return found


async def _listened(url: str, seconds: int) -> tuple[list[float], int]:
    """How late each array of marks came to each listener, in ms, and how many did not come."""
    listeners = [Listener(url, "/market/ws/!markPrice@arr@1s") for _ in range(LISTENERS)]
    for listener in listeners:
        await listener.open()
    await asyncio.sleep(seconds + 2)
    for listener in listeners:
        listener.close()
    heard = [listener.late_ms[1:] for listener in listeners]  # the first tells where things stood
    return [value for values in heard for value in values], sum(max(0, seconds - len(v)) for v in heard)
