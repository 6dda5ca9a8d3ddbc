"""An engine with known prices, and a real server process to talk to."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from paper.engine.exchange import Exchange, Point
from paper.engine.venue import Portfolio, Settings
from paper.symbols import load_markets
from paper.tests.wire import Wire

NOW_MS = 1_750_000_000_000
FUNDING_MS = 1_750_003_200_000
PRICES = {"BTCUSDT": "100000", "ETHUSDT": "3000", "SOLUSDT": "150", "XRPUSDT": "2.5"}
SECRET = "paper-test-secret"


class Bench:
    """An exchange at known prices with one funded account, and a hand on the prices."""

    def __init__(self) -> None:
        self.exchange = Exchange(load_markets().only(set(PRICES)), Settings())
        self.now_ms = NOW_MS
        self.pass_prices(PRICES, {})
        self.alice = self.exchange.venue.open_account("alice")

    def move(self, *, seconds: int = 0, last: dict[str, str] | None = None, **marks: str) -> None:
        """New marks, and last prices where they differ."""
        self.now_ms += seconds * 1000
        self.pass_prices(marks, last or {})

    def pass_prices(self, marks: dict[str, str], last: dict[str, str]) -> None:
        """One price point of each symbol."""
        points = [
            Point(
                symbol,
                Decimal(mark),
                Decimal(last.get(symbol, mark)),
                Decimal(mark),
                Decimal("0.0001"),
                (self.now_ms // 28_800_000 + 1) * 28_800_000,
            )
            for symbol, mark in marks.items()
        ]
        self.exchange.move(self.now_ms, points)

    def isolate(self, symbol: str, leverage: int, portfolio: Portfolio | None = None) -> None:
        """Isolated margin at this leverage."""
        chosen = portfolio or self.alice
        self.exchange.futures.set_margin_type(chosen, symbol, "ISOLATED")
        self.exchange.futures.set_leverage(chosen, symbol, leverage)


@pytest.fixture
def bench() -> Bench:
    return Bench()


StartServer = Callable[..., Wire]


def launch(*words: str) -> Wire:
    """A server of its own on a free port; the caller stops it."""
    command = [sys.executable, "-m", "paper", "--port", "0", "--admin-secret", SECRET, *words]
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(command, cwd=root, env=dict(os.environ), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    wire = Wire(line.partition(" on ")[2].partition(" ")[0], SECRET, process)
    if not wire.url:
        wire.stop()
        pytest.fail(f"the server did not start: {line!r}")
    return wire


@pytest.fixture
def start_server() -> Iterator[StartServer]:
    """Starts servers that end with the test."""
    started: list[Wire] = []

    def start(*words: str) -> Wire:
        started.append(launch("--weight-limit", "0", *words))
        return started[-1]

    yield start
    for wire in started:
        wire.stop()


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Wire]:
    """One running synthetic exchange for every test that brings keys of its own."""
    wire = launch("--weight-limit", "0", "--symbols", "BTCUSDT,ETHUSDT,SOLUSDT,XRPUSDT,ADAUSDT")
    yield wire
    wire.stop()


@pytest.fixture
def server(shared_server: Wire) -> Iterator[Wire]:
    """The shared exchange with BTC at 100000 and SOL at 150, and no faults left behind."""
    shared_server.pin("BTCUSDT", "100000")
    shared_server.pin("SOLUSDT", "150")
    yield shared_server
    shared_server.admin("DELETE", "/paper/faults")
