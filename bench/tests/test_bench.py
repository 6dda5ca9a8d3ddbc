import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bench import postgres
from bench.paper_load import MARKET, STOP, _tradable
from bench.stage import ROOT, Stage, wait_for_port
from bench.stub_client import StubClient

FIELDS = ["name", "value", "unit", "floor", "ratio", "bound", "bound_met", "note"]


ORDER = (
    "symbol=BTCUSDT&side=BUY&quantity=0.010&price=95000&newClientOrderId={}&timestamp=1700000000000&signature="
    + "0" * 64
)


def ask(port: int, method: str, path: str, body: str = "", key: str = "") -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request(method, path, body, {"X-MBX-APIKEY": key})
    answer = connection.getresponse()
    told = json.loads(answer.read())
    connection.close()
    return answer.status, told


def place_order(port: int, client_id: str) -> None:
    _, order = ask(port, "POST", "/fapi/v1/order", ORDER.format(client_id))
    assert order["clientOrderId"] == client_id


@pytest.fixture
def place() -> Iterator[Path]:
    """Where another user may pass: a Postgres started by root is not root's."""
    made = Path(tempfile.mkdtemp(prefix="bench-test-"))
    made.chmod(0o711)
    yield made
    shutil.rmtree(made)


def start(place: Path, desk: Path, *words: str) -> "subprocess.Popen[str]":
    given = {**os.environ, "TMPDIR": str(place), "DATABASE_URL": f"sqlite:///{desk}", "MODE": "live"}
    run = [sys.executable, "-m", "bench", "--quick", *words]
    return subprocess.Popen(
        run, cwd=ROOT, env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def parts(*names: str) -> list[str]:
    return [word for name in names for word in ("--part", name)]


@pytest.mark.skipif(postgres.binaries() is None, reason="no Postgres on this machine")
@pytest.mark.timeout(420)
@pytest.mark.drill
def test_a_quick_run_measures_and_leaves_nothing_behind(tmp_path: Path, place: Path) -> None:
    desk = tmp_path / "desk.sqlite3"
    running = [
        start(place, desk, "--database", "postgres", *parts("fan_out", "per_account", "unclear")),
        start(place, desk, *parts("gate", "watch", "paper_exchange", "paper_load")),
    ]
    told = [run.communicate() for run in running]

    assert [run.returncode for run in running] == [0, 0], [error[-3000:] for _, error in told]
    assert not desk.exists(), "the caller's database was touched"
    figures = [json.loads(line) for output, _ in told for line in output.splitlines()]
    assert [list(figure) for figure in figures] == [FIELDS] * len(figures)
    assert {
        "floor_bare_last_20",
        "floor_ccxt_last_20",
        "postgres_committed_to_persisted_by_ccxt_20",
        "postgres_asked_to_persisted_by_ccxt_20",
        "faster_than_task_per_account_20",
        "unclear_ledger_complete_20",
        "allocate_20",
        "watch_tick_median_5000_positions_100_symbols",
        "paper_exchange_market_orders",
    } <= {figure["name"] for figure in figures}
    faults = {figure["name"]: figure["value"] for figure in figures if figure["bound"] == "<= 0"}
    swept = {name for name in faults if "sweeps" in name}  # a loaded machine may need one
    assert {name: value for name, value in faults.items() if name not in swept and value} == {}
    assert all(figure["value"] > 0 for figure in figures if figure["name"] not in faults)
    assert list(place.iterdir()) == []


def test_the_stub_counts_placements_by_client_id_and_forgets_them_between_rounds() -> None:
    with Stage() as stage:
        stage.start_stub(0)
        stub = StubClient(stage.exchange_url)
        stub.reset(fills=True)
        for client_id in ("one", "two", "two"):
            place_order(stage.exchange_port, client_id)
        counted = stub.counts()
        stub.reset(fills=False)

        assert (counted.placed, counted.distinct) == (3, 2)
        assert stub.counts().placed == 0


def test_a_stub_that_loses_answers_has_taken_every_other_one_of_those_orders() -> None:
    with Stage() as stage:
        stage.start_stub(0)
        stub = StubClient(stage.exchange_url)
        stub.reset(fills=True, unclear_percent=50)
        answers = [ask(stage.exchange_port, "POST", "/fapi/v1/order", ORDER.format(name)) for name in "abcd"]
        looked = {
            name: ask(stage.exchange_port, "GET", f"/fapi/v1/order?origClientOrderId={name}")
            for name in "abcd"
        }
        counted = stub.counts()

    assert [status for status, _ in answers] == [200, 408, 200, 408]
    assert (counted.unclear_refused, counted.unclear_taken) == (["b"], ["d"])
    assert {name: status for name, (status, _) in looked.items()} == {"a": 200, "b": 400, "c": 200, "d": 200}
    assert looked["d"][1]["executedQty"] == "0.010"


async def follow(url: str, key: str, port: int) -> dict[str, Any]:
    """Listen to an account, place its order, and return what the stream said and the answer."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{url}/private/ws?listenKey={key}") as ws,
    ):
        placed = await asyncio.to_thread(ask, port, "POST", "/fapi/v1/order", ORDER.format("mine"), key)
        return {"event": await ws.receive_json(timeout=5), "answer": placed[1]}


def test_who_listens_to_an_account_hears_of_the_execution_that_can_be_read() -> None:
    with Stage() as stage:
        stage.start_stub(0)
        StubClient(stage.exchange_url).reset(fills=True)
        status, key = ask(stage.exchange_port, "POST", "/fapi/v1/listenKey", "", "paper-0001")
        told = asyncio.run(follow(stage.exchange_url, key["listenKey"], stage.exchange_port))
        number = told["answer"]["orderId"]
        _, read = ask(stage.exchange_port, "GET", f"/fapi/v1/userTrades?symbol=BTCUSDT&orderId={number}")

    assert status == 200
    order, [execution] = told["event"]["o"], read
    assert (order["c"], order["i"], order["X"], order["l"]) == ("mine", number, "FILLED", "0.010")
    assert (order["t"], order["L"], order["n"]) == (
        execution["id"],
        execution["price"],
        execution["commission"],
    )
    assert "avgPrice" not in told["answer"]


def test_a_stage_ends_its_programs_and_removes_its_place() -> None:
    with Stage() as stage:
        stage.start_stub(0)
        wait_for_port(stage.exchange_port)
        place = stage.place

    assert not place.exists()
    with pytest.raises(OSError, match="refused"):
        StubClient(stage.exchange_url).counts()


def test_a_round_quantity_is_written_in_plain_digits() -> None:
    row = {
        "symbol": "XUSDT",
        "filters": [
            {"filterType": "LOT_SIZE", "stepSize": "1"},
            {"filterType": "MIN_NOTIONAL", "notional": "5"},
            {"filterType": "PRICE_FILTER", "tickSize": "0.1"},
        ],
    }
    symbol, _, tick, quantity = _tradable(row, Decimal("0.1"))
    assert MARKET.format(symbol, "BUY", quantity).endswith("&quantity=60")
    assert STOP.format(symbol, "SELL", Decimal("9E+1") * tick).endswith("&triggerPrice=9&closePosition=true")
    assert MARKET.format(symbol, "BUY", Decimal("6E+1")).endswith("&quantity=60")
