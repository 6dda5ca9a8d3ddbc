"""Restarts, lockstep and limits: servers of their own."""

import subprocess
import sys
import threading
import time
from pathlib import Path

from paper.feeds.candles import MINUTE_MS
from paper.tests.conftest import SECRET, StartServer, launch
from paper.tests.test_feeds import HEADER, candle_lines


def test_what_was_accepted_survives_a_kill(start_server: StartServer, tmp_path: Path) -> None:
    words = ("--state", str(tmp_path / "state"), "--symbols", "BTCUSDT")
    first = start_server(*words)
    first.pin("BTCUSDT", "100000")
    first.market("kept", "BUY", "0.1")
    first.stop_order("kept", "50000", clientAlgoId="guard")
    listen_key = first.send("POST", "/fapi/v1/listenKey", headers={"X-MBX-APIKEY": "kept"}).json
    accepted: list[str] = []
    ended = threading.Event()

    def keep_ordering() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            try:
                answer = first.market(f"busy{number % 5}", "BUY", "0.001", newClientOrderId=f"id{number}")
            except OSError:
                return
            accepted.append(f"busy{number % 5}/{answer.json['clientOrderId']}")

    ordering = threading.Thread(target=keep_ordering)
    ordering.start()
    while len(accepted) < 40:
        ended.wait(0.01)
    before = first.ledger("kept")
    first.kill()
    ended.set()
    ordering.join()

    second = start_server(*words)
    assert second.ledger("kept") == before
    kept = {f"{row['account']}/{row['client_order_id']}" for row in second.ledger() if row["kind"] == "FILL"}
    assert set(accepted) <= kept
    [position] = second.signed("kept", "GET", "/fapi/v3/positionRisk").json
    assert position["positionAmt"] == "0.100"
    [guard] = second.signed("kept", "GET", "/fapi/v1/openAlgoOrders").json
    assert guard["clientAlgoId"] == "guard"
    second.pin("BTCUSDT", "49000")
    assert second.signed("kept", "GET", "/fapi/v3/positionRisk").json == []
    again = second.send("POST", "/fapi/v1/listenKey", headers={"X-MBX-APIKEY": "kept"}).json
    assert again == listen_key


def test_lockstep_moves_only_when_told(start_server: StartServer, tmp_path: Path) -> None:
    (tmp_path / "SOLUSDT-1m.csv").write_text("\n".join([HEADER, *candle_lines()]))
    words = ("--feed", "replay", "--data", str(tmp_path), "--warmup-days", "0", "--lockstep")
    server = start_server(*words)
    start = server.admin("GET", "/paper/status")["time_ms"]
    server.market("step", "BUY", "1", symbol="SOLUSDT")
    server.stop_order("step", "99.5", symbol="SOLUSDT", clientAlgoId="guard")
    first = server.admin("POST", "/paper/advance", points=1)
    assert first == {
        "time_ms": start + MINUTE_MS // 4,
        "done": False,
        "marks": {"SOLUSDT": "99.00"},
        "minute_closed": False,
        "points": 1,
    }
    assert server.signed("step", "GET", "/fapi/v3/positionRisk").json == []
    assert server.ledger("step")[-1]["time_ms"] == start + MINUTE_MS // 4
    assert server.admin("POST", "/paper/advance", points=2)["minute_closed"] is True
    last = server.admin("POST", "/paper/advance", points=100)
    assert (last["done"], last["marks"]) == (True, {"SOLUSDT": "98.00"})


def test_a_running_feed_cannot_be_advanced_by_hand(start_server: StartServer) -> None:
    server = start_server("--symbols", "BTCUSDT")
    answer = server.send("POST", "/paper/advance", '{"points": 1}', {"X-Paper-Secret": SECRET})
    assert answer.status == 403


def test_too_much_weight_is_refused_with_a_time_to_return() -> None:
    server = launch("--weight-limit", "39", "--symbols", "BTCUSDT")
    try:
        refused = server.send("GET", "/fapi/v1/ticker/24hr")
        assert (refused.status, refused.code) == (429, -1003)
        assert 1 <= int(refused.headers["retry-after"]) <= 60
    finally:
        server.stop()


def test_a_taken_port_is_said_in_one_line(start_server: StartServer) -> None:
    port = start_server("--symbols", "BTCUSDT").url.rsplit(":", 1)[1]
    command = [sys.executable, "-m", "paper", "--port", port, "--symbols", "BTCUSDT"]
    root = Path(__file__).resolve().parents[2]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("paper exchange: ")
    assert len(ended.stderr.strip().splitlines()) == 1


def test_an_accepted_order_that_was_not_yet_filled_is_filled_after_a_kill(
    start_server: StartServer, tmp_path: Path
) -> None:
    words = ("--state", str(tmp_path / "state"), "--symbols", "BTCUSDT")
    first = start_server(*words)
    first.admin("POST", "/paper/faults", kind="late_fill", seconds=1)
    assert first.market("late", "BUY", "0.01", newClientOrderId="one").json["status"] == "NEW"
    first.kill()
    second = start_server(*words)
    asked = {"symbol": "BTCUSDT", "origClientOrderId": "one"}
    end = time.monotonic() + 5
    while (found := second.signed("late", "GET", "/fapi/v1/order", **asked).json)["status"] == "NEW":
        assert time.monotonic() < end
        time.sleep(0.05)
    assert (found["status"], found["executedQty"]) == ("FILLED", "0.010")
