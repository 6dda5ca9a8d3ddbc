import json
import os
import subprocess
import sys
from decimal import Decimal
from http.client import HTTPConnection
from pathlib import Path

import pytest

from bench.paper_load import MARKET, STOP, _tradable
from bench.stage import ROOT, Stage, wait_for_port
from bench.stub_client import StubClient

FIELDS = ["name", "value", "unit", "floor", "ratio", "bound", "bound_met"]


def place(port: int, client_id: str) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    order = f"symbol=BTCUSDT&side=BUY&quantity=0.010&price=95000&newClientOrderId={client_id}"
    connection.request("POST", "/fapi/v1/order", order)
    assert json.loads(connection.getresponse().read())["clientOrderId"] == client_id
    connection.close()


@pytest.mark.timeout(240)
def test_a_quick_run_measures_every_part_and_leaves_nothing_behind(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "bench", "--quick"]
    place = tmp_path / "stages"
    place.mkdir()
    desk = tmp_path / "desk.sqlite3"
    given = {**os.environ, "TMPDIR": str(place), "DATABASE_URL": f"sqlite:///{desk}", "MODE": "live"}
    run = subprocess.run(words, cwd=ROOT, env=given, capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stderr[-3000:]
    assert not desk.exists(), "the caller's database was touched"
    figures = [json.loads(line) for line in run.stdout.splitlines()]
    assert [list(figure) for figure in figures] == [FIELDS] * len(figures)
    assert {
        "floor_bare_last_filled_20",
        "floor_ccxt_last_filled_20",
        "process_persisted_filled_20",
        "workers_persisted_filled_20",
        "allocate_20",
        "watch_tick_median_5000_positions_100_symbols",
        "paper_exchange_market_orders",
    } <= {figure["name"] for figure in figures}
    faults = {figure["name"]: figure["value"] for figure in figures if figure["bound"] == "<= 0"}
    assert faults == dict.fromkeys(faults, 0)
    assert all(figure["value"] > 0 for figure in figures if figure["name"] not in faults)
    assert list(place.iterdir()) == []


def test_the_stub_counts_placements_by_client_id_and_forgets_them_between_rounds() -> None:
    with Stage() as stage:
        stage.start_stub(0)
        stub = StubClient(stage.exchange_url)
        stub.reset(fills=True)
        for client_id in ("one", "two", "two"):
            place(stage.exchange_port, client_id)
        counted = stub.counts()
        stub.reset(fills=False)

        assert (counted.placed, counted.distinct) == (3, 2)
        assert stub.counts().placed == 0


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
