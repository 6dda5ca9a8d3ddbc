"""How far back, and in what portions, an account may look."""

from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest

from paper.engine.orders import LIMIT, MARKET, NewOrder
from paper.engine.refusals import Refusal
from paper.faults import Faults
from paper.feeds.candles import DAY_MS
from paper.protocol import futures
from paper.protocol.calls import Call
from paper.service import Service
from paper.tests.conftest import Bench

WEEK_MS = 7 * DAY_MS
ORDER = "/fapi/v1/order"
TRADES = "/fapi/v1/userTrades"


def asked(bench: Bench, path: str, **params: object) -> Any:
    """What a GET answers, at the present moment of the feed."""
    service = cast("Service", SimpleNamespace(exchange=bench.exchange, faults=Faults(0)))
    words = {name: str(value) for name, value in params.items()}
    call = Call(service, "GET", path, words, "alice", bench.alice)
    return futures.ROUTES["GET", path].answer(call)


def code(bench: Bench, path: str, **params: object) -> int:
    with pytest.raises(Refusal) as refused:
        asked(bench, path, **params)
    return refused.value.code


def trade_daily(bench: Bench, days: int) -> int:
    """One buy a day; the time of the first."""
    first_ms = bench.now_ms
    for _ in range(days):
        bench.exchange.futures.place(bench.alice, NewOrder("SOLUSDT", "BUY", MARKET, Decimal("0.1")))
        bench.move(seconds=86_400, SOLUSDT="150")
    return first_ms


def times(rows: list[dict[str, Any]], first_ms: int) -> list[int]:
    """The days since the first."""
    return [(int(row["time"]) - first_ms) // DAY_MS for row in rows]


def test_executions_are_those_of_seven_days_the_oldest_first(bench: Bench) -> None:
    first_ms = trade_daily(bench, 20)
    ask = {"symbol": "SOLUSDT"}
    assert times(asked(bench, TRADES, **ask), first_ms) == [13, 14, 15, 16, 17, 18, 19]
    assert times(asked(bench, TRADES, **ask, limit=2), first_ms) == [13, 14]
    assert times(asked(bench, TRADES, **ask, startTime=first_ms + DAY_MS), first_ms) == [*range(1, 9)]
    assert times(asked(bench, TRADES, **ask, endTime=first_ms + 2 * DAY_MS), first_ms) == [0, 1, 2]
    both = {"startTime": first_ms, "endTime": first_ms + WEEK_MS}
    assert times(asked(bench, TRADES, **ask, **both, limit=3), first_ms) == [0, 1, 2]


def test_executions_from_a_number_on_are_not_bound_to_a_week(bench: Bench) -> None:
    first_ms = trade_daily(bench, 20)
    [third] = asked(bench, TRADES, symbol="SOLUSDT", startTime=first_ms + 2 * DAY_MS, limit=1)
    rows = asked(bench, TRADES, symbol="SOLUSDT", fromId=third["id"], limit=12)
    assert times(rows, first_ms) == [*range(2, 14)]


@pytest.mark.parametrize("moment", ["startTime", "endTime"])
def test_a_number_and_a_moment_exclude_each_other(bench: Bench, moment: str) -> None:
    assert code(bench, TRADES, symbol="SOLUSDT", fromId=0, **{moment: bench.now_ms}) == -1128


@pytest.mark.parametrize("path", [TRADES, "/fapi/v1/allOrders", "/fapi/v1/allAlgoOrders"])
@pytest.mark.parametrize(
    ("start", "end", "refusal"),
    [
        (-WEEK_MS - 1, 0, -4165),
        (-DAY_MS, -2 * DAY_MS, -1023),
        (-91 * DAY_MS, -90 * DAY_MS, -4166),
    ],
)
def test_a_window_is_at_most_a_week_of_the_last_ninety_days(
    bench: Bench, path: str, start: int, end: int, refusal: int
) -> None:
    window = {"startTime": bench.now_ms + start, "endTime": bench.now_ms + end}
    assert code(bench, path, symbol="SOLUSDT", **window) == refusal
    assert asked(bench, path, symbol="SOLUSDT", startTime=bench.now_ms - WEEK_MS, endTime=bench.now_ms) == []


def test_ended_orders_are_forgotten_the_unfilled_ones_sooner(bench: Bench) -> None:
    market = bench.exchange.futures
    filled = market.place(bench.alice, NewOrder("SOLUSDT", "BUY", MARKET, Decimal("0.1")))
    resting = market.place(bench.alice, NewOrder("SOLUSDT", "BUY", LIMIT, Decimal("0.1"), Decimal(100)))
    ended = market.place(bench.alice, NewOrder("SOLUSDT", "BUY", LIMIT, Decimal("0.1"), Decimal(101)))
    market.cancel(bench.alice, ended)

    assert asked(bench, ORDER, symbol="SOLUSDT", orderId=ended.order_id)["status"] == "CANCELED"
    bench.move(seconds=3 * 86_400 + 1, SOLUSDT="150")
    assert code(bench, ORDER, symbol="SOLUSDT", orderId=ended.order_id) == -2013
    assert asked(bench, ORDER, symbol="SOLUSDT", orderId=filled.order_id)["status"] == "FILLED"
    listed = asked(bench, "/fapi/v1/allOrders", symbol="SOLUSDT")
    assert {row["orderId"] for row in listed} == {filled.order_id, resting.order_id}
    bench.move(seconds=90 * 86_400, SOLUSDT="150")
    assert code(bench, ORDER, symbol="SOLUSDT", orderId=filled.order_id) == -2013
    assert asked(bench, ORDER, symbol="SOLUSDT", orderId=resting.order_id)["status"] == "NEW"
