import json
import logging
import subprocess
import sys
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from project.logging import HIDDEN, configure, redact
from tests.processes import ROOT

CANARY = "c4n4ry-S3cr3t-value"

SIGNED = (
    "binanceusdm GET https://fapi.example/fapi/v1/order?symbol=BTCUSDT&timestamp=1&"
    f"signature={CANARY} {{'X-MBX-APIKEY': '{CANARY}'}}"
)


@pytest.mark.parametrize(
    "text",
    [
        SIGNED,
        f"apiKey={CANARY}",
        f'{{"api_secret": "{CANARY}"}}',
        f"Authorization: Bearer {CANARY}",
        f"redis://:{CANARY}@127.0.0.1:6390/0",
        f"postgres://desk:{CANARY}@db/desk",
        f"listenKey={CANARY}&x=1",
        f"/api/bot/webhooks/tradingview/{CANARY}",
        f"Not Found: /api/bot/webhooks/tradingview/{CANARY}?x=1",
    ],
)
def test_a_secret_is_hidden_by_its_shape(text: str) -> None:
    assert CANARY not in redact(text)


def test_what_is_no_secret_stays() -> None:
    assert "symbol=BTCUSDT&timestamp=1" in redact(SIGNED)
    assert redact({"client_order_id": "px123", "quantity": 3, "is_long": True}) == {
        "client_order_id": "px123",
        "quantity": 3,
        "is_long": True,
    }


@given(before=st.text(), after=st.text())
def test_a_known_secret_is_hidden_whatever_stands_around_it(before: str, after: str) -> None:
    assert CANARY not in redact(f"{before}{CANARY}{after}", secrets=[CANARY])


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none() | st.lists(st.text())))
def test_a_secret_is_hidden_at_any_depth(around: dict[str, Any]) -> None:
    nested = {**around, "inner": [{"signature": CANARY, "list": (CANARY, {CANARY})}]}
    assert CANARY not in str(redact(nested, secrets=[CANARY]))


def test_a_value_is_hidden_by_its_name() -> None:
    assert redact({"api_key": CANARY, "password": CANARY, "token": CANARY}) == dict.fromkeys(
        ("api_key", "password", "token"), HIDDEN
    )


PROGRAM = f"""
import logging, structlog
from project.logging import configure
configure({{"level": "INFO", "secrets": ["{CANARY}"]}})
structlog.contextvars.bind_contextvars(trace_id="t1", client_order_id="px1")
structlog.get_logger("desk").info("order sent", symbol="BTC/USDT", note="{CANARY}\\nsecond line")
logging.getLogger("elsewhere").warning("lost %s", "signature={CANARY}")
logging.getLogger("ccxt").info("never shown")
try:
    raise ValueError("{CANARY}")
except ValueError:
    logging.getLogger("elsewhere").exception("failed")
"""


def test_each_event_is_one_json_line_once_with_the_ids_of_its_journey() -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert [line["event"] for line in lines] == ["order sent", f"lost signature={HIDDEN}", "failed"]
    assert {(line["trace_id"], line["client_order_id"]) for line in lines} == {("t1", "px1")}
    assert "ValueError" in lines[2]["exception"]
    assert CANARY not in run.stdout + run.stderr


def test_configured_twice_an_event_is_still_written_once() -> None:
    configure({"level": "WARNING"})
    configure({"level": "WARNING"})
    ours = [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler.formatter, structlog.stdlib.ProcessorFormatter)
    ]
    assert len(ours) == 1
