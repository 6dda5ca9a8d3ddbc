"""Restarts, lockstep and limits: servers of their own."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from paper.feeds.candles import MINUTE_MS
from paper.tests.conftest import SECRET, StartServer, launch
from paper.tests.test_feeds import HEADER, candle_lines

ROOT = Path(__file__).resolve().parents[2]


def run_paper(*words: str) -> subprocess.CompletedProcess[str]:
    """The exchange, when it is not expected to start."""
    command = [sys.executable, "-m", "paper", "--port", "0", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)


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
        (minute,) = server.admin("GET", "/paper/weights")
        assert (minute["used"], minute["refused"], minute["minute"] % 60) == (40, 1, 0)
    finally:
        server.stop()


def test_a_taken_port_is_said_in_one_line(start_server: StartServer) -> None:
    port = start_server("--symbols", "BTCUSDT").url.rsplit(":", 1)[1]
    ended = run_paper("--port", port, "--symbols", "BTCUSDT")
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


def test_what_administration_holds_it_holds_after_a_kill(start_server: StartServer, tmp_path: Path) -> None:
    words = ("--state", str(tmp_path / "state"), "--symbols", "BTCUSDT,SOLUSDT,ETHUSDT")
    first = start_server(*words)
    first.pin("BTCUSDT", "123456.7", "123400")
    first.pin("SOLUSDT", "7")
    first.pin("SOLUSDT", None)
    first.admin("POST", "/paper/symbol", symbol="ETHUSDT", status="BREAK")
    first.kill()
    second = start_server(*words)
    marks = second.admin("GET", "/paper/status")["marks"]
    assert (marks["BTCUSDT"], marks["SOLUSDT"] == "7.00") == ("123456.70", False)
    ticker = second.send("GET", "/fapi/v1/ticker/price?symbol=BTCUSDT").json
    assert ticker["price"] == "123400.00"
    assert second.market("held", "BUY", "0.1", symbol="ETHUSDT").code == -4141
    second.pin("BTCUSDT", None)
    assert second.admin("GET", "/paper/status")["marks"]["BTCUSDT"] != "123456.70"


def test_a_position_at_a_held_price_is_not_liquidated_by_a_restart(
    start_server: StartServer, tmp_path: Path
) -> None:
    words = ("--state", str(tmp_path / "state"), "--symbols", "SOLUSDT")
    first = start_server(*words)
    first.pin("SOLUSDT", "100000")
    first.market("high", "BUY", "1", symbol="SOLUSDT")
    first.kill()
    second = start_server(*words)
    [position] = second.signed("high", "GET", "/fapi/v3/positionRisk").json
    assert (position["positionAmt"], position["markPrice"]) == ("1.00", "100000.00000000")


def test_a_countdown_runs_on_over_a_kill(start_server: StartServer, tmp_path: Path) -> None:
    words = ("--state", str(tmp_path / "state"), "--symbols", "BTCUSDT")
    first = start_server(*words)
    first.pin("BTCUSDT", "100000")
    rest = {"side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.01", "price": "90000"}
    first.signed("dead-man", "POST", "/fapi/v1/order", symbol="BTCUSDT", **rest)
    wanted = {"symbol": "BTCUSDT", "countdownTime": "1500"}
    assert first.signed("dead-man", "POST", "/fapi/v1/countdownCancelAll", **wanted).status == 200
    first.kill()
    second = start_server(*words)
    end = time.monotonic() + 8
    while second.signed("dead-man", "GET", "/fapi/v1/openOrders").json:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert second.ledger("dead-man")[-1]["kind"] == "CANCELED"


def test_a_closed_listen_key_stays_closed_over_a_kill(start_server: StartServer, tmp_path: Path) -> None:
    words = ("--state", str(tmp_path / "state"), "--symbols", "BTCUSDT")
    first = start_server(*words)
    headers = {"X-MBX-APIKEY": "deaf"}
    first.send("POST", "/fapi/v1/listenKey", headers=headers)
    assert first.send("DELETE", "/fapi/v1/listenKey", headers=headers).status == 200
    first.kill()
    assert start_server(*words).send("PUT", "/fapi/v1/listenKey", headers=headers).code == -1125


def test_two_exchanges_do_not_share_a_state(start_server: StartServer, tmp_path: Path) -> None:
    words = ["--state", str(tmp_path / "state"), "--symbols", "BTCUSDT"]
    first = start_server(*words)
    first.market("mine", "BUY", "0.001")
    second = run_paper(*words)
    assert (second.returncode, second.stdout) == (2, "")
    assert second.stderr == f"paper exchange: {tmp_path / 'state'} is in use by another exchange\n"
    assert first.market("mine", "BUY", "0.001").status == 200
    first.kill()
    assert len(start_server(*words).ledger("mine")) == 6


def test_a_file_that_is_no_state_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("not a database, but long enough to be read as the head of one" * 20)
    ended = run_paper("--state", str(tmp_path / "state"))
    assert (ended.returncode, ended.stderr) == (2, "paper exchange: file is not a database\n")


def test_it_runs_without_the_desk() -> None:
    """Nothing of the desk, and no Django, is needed, not even to be importable."""
    gone = ["django", "celery", "redis", "project", "desk", "trading", "accounts", "alerts", "exchange"]
    code = f"import sys; sys.modules.update(dict.fromkeys({gone})); import paper.__main__ as m; m.parser()"
    root = Path(__file__).resolve().parents[2]
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_state_with_positions_without_prices_is_not_taken_up(
    start_server: StartServer, tmp_path: Path
) -> None:
    state = ("--state", str(tmp_path / "state"))
    first = start_server(*state, "--symbols", "BTCUSDT,SOLUSDT")
    first.market("left", "BUY", "1", symbol="SOLUSDT")
    first.kill()
    ended = run_paper(*state, "--symbols", "BTCUSDT")
    message = "paper exchange: the state holds what this feed has no prices of: SOLUSDT\n"
    assert (ended.returncode, ended.stderr) == (2, message)
    again = start_server(*state, "--symbols", "BTCUSDT,SOLUSDT")
    assert len(again.signed("left", "GET", "/fapi/v3/positionRisk").json) == 1


@pytest.mark.parametrize(
    "words",
    [
        ("--speed", "0"),
        ("--speed", "inf"),
        ("--deposit", "-1"),
        ("--deposit", "NaN"),
        ("--spot-deposit", "much"),
        ("--weight-limit", "-1"),
        ("--port", "-1"),
        ("--port", "70000"),
    ],
)
def test_a_word_of_the_command_line_that_means_nothing_is_refused(words: tuple[str, str]) -> None:
    ended = run_paper(*words)
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
