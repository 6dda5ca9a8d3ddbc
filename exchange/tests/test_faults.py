"""What the gateway says when the exchange misbehaves, held against what the exchange's own ledger knows."""

import itertools
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from exchange.credentials import Credentials
from exchange.errors import GatewayError, OrderNotPlaced, OutcomeUnknown, Throttled, VenueUnavailable
from exchange.factory import GatewayFactory
from exchange.futures_gateway import FuturesGateway
from exchange.loop import IoLoop
from exchange.port import Market, OrderReport, OrderRequest, OrderSide, OrderType, ReportStatus
from exchange.tests.orders import BTC
from tests.processes import PaperExchange

names = (f"paper-fault-{number}-{time.time_ns()}" for number in itertools.count())
ids = (f"phxf{number}x{time.time_ns()}" for number in itertools.count())


@pytest.fixture
async def futures(paper_exchange: PaperExchange) -> AsyncIterator[FuturesGateway]:
    factory = GatewayFactory("paper", base_url=paper_exchange.url)
    name = next(names)
    yield factory.for_account(Credentials(name, name), Market.FUTURES)
    await factory.close()
    paper_exchange.delete("/paper/faults")


def buy(gateway: FuturesGateway, **changes: Any) -> OrderRequest:
    told = {
        "client_order_id": next(ids),
        "symbol": BTC,
        "side": OrderSide.BUY,
        "type": OrderType.MARKET,
        "quantity": Decimal("0.01"),
        "timestamp_ms": gateway.timestamp_ms(),
        **changes,
    }
    return OrderRequest(**told)


def placed(paper: PaperExchange) -> list[tuple[str, str]]:
    """Account and client order id of every placement the exchange itself says it took."""
    return [(row["account"], row["client_order_id"]) for row in paper.ledger() if row["kind"] == "PLACED"]


def placements(paper: PaperExchange, client_order_id: str) -> int:
    """How often the exchange took one order."""
    return sum(taken == client_order_id for _, taken in placed(paper))


HTTP = "http"
DEFINITE = [
    (
        {
            "kind": HTTP,
            "status": 503,
            "code": -1008,
            "message": "Request throttled by system-level protection.",
        },
        Throttled,
    ),
    ({"kind": HTTP, "status": 429, "code": -1003, "message": "Too many requests."}, Throttled),
    ({"kind": HTTP, "status": 418, "code": -1003, "message": "Way too many requests."}, Throttled),
    ({"kind": HTTP, "status": 503, "body": "Service Unavailable."}, VenueUnavailable),
    ({"kind": HTTP, "status": 403, "body": "<html>firewall</html>"}, VenueUnavailable),
]
UNCLEAR: list[dict[str, Any]] = [
    {"kind": "close_socket"},
    {"kind": "truncate_body"},
    {"kind": "empty_body"},
    {
        "kind": HTTP,
        "status": 408,
        "code": -1007,
        "message": "Timeout waiting for response from backend server.",
    },
    {"kind": HTTP, "status": 503, "code": -1000},
    {"kind": HTTP, "status": 503, "body": "Unknown error, please check your request or try again later."},
    {"kind": HTTP, "status": 502, "body": "<html>Bad gateway</html>"},
    {"kind": HTTP, "status": 504, "body": "<html>Gateway timeout</html>"},
    {"kind": HTTP, "status": 400, "code": -1006, "message": "Execution status unknown."},
]


@pytest.mark.parametrize(("fault", "error"), DEFINITE)
async def test_a_definite_refusal_left_nothing_at_the_exchange(
    paper_exchange: PaperExchange, futures: FuturesGateway, fault: dict[str, Any], error: type[GatewayError]
) -> None:
    request = buy(futures)
    paper_exchange.add_fault(endpoint="POST /fapi/v1/order", **fault)

    with pytest.raises(OrderNotPlaced) as refused:
        await futures.submit_order(request)

    assert type(refused.value) is error
    assert placements(paper_exchange, request.client_order_id) == 0
    assert await futures.fetch_order(BTC, request.client_order_id, is_conditional=False) is None


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("fault", UNCLEAR)
async def test_an_unclear_answer_is_unknown_whether_the_order_happened_or_not(
    paper_exchange: PaperExchange, futures: FuturesGateway, fault: dict[str, Any], *, applied: bool
) -> None:
    request = buy(futures)
    paper_exchange.add_fault(endpoint="POST /fapi/v1/order", apply=applied, **fault)

    with pytest.raises(OutcomeUnknown):
        await futures.submit_order(request)
    found = await futures.fetch_order(BTC, request.client_order_id, is_conditional=False)

    assert (found is not None) is applied
    assert placements(paper_exchange, request.client_order_id) == int(applied)


async def test_a_stop_whose_answer_is_lost_is_found_in_its_store(
    paper_exchange: PaperExchange, futures: FuturesGateway
) -> None:
    bought = await futures.submit_order(buy(futures))
    (position,) = await futures.fetch_positions()
    stop = buy(
        futures,
        side=OrderSide.SELL,
        type=OrderType.STOP_MARKET,
        quantity=None,
        close_position=True,
        trigger_price=(position.mark_price * Decimal("0.9")).quantize(Decimal(1)),
    )
    paper_exchange.add_fault(endpoint="POST /fapi/v1/algoOrder", kind="truncate_body")

    with pytest.raises(OutcomeUnknown):
        await futures.submit_order(stop)
    found = await futures.fetch_order(BTC, stop.client_order_id, is_conditional=True)

    assert bought.status is ReportStatus.FILLED
    assert found is not None
    assert found.status is ReportStatus.NEW


async def test_an_order_is_absent_for_a_while_and_then_there(
    paper_exchange: PaperExchange, futures: FuturesGateway
) -> None:
    """One look without it proves nothing: that is why absence takes three."""
    paper_exchange.add_fault(kind="lookup_not_found", seconds=2, count=0)
    request = buy(futures)
    await futures.submit_order(request)

    missed = await futures.fetch_order(BTC, request.client_order_id, is_conditional=False)
    threading.Event().wait(2.1)
    found = await futures.fetch_order(BTC, request.client_order_id, is_conditional=False)

    assert missed is None
    assert found is not None


async def test_a_market_order_may_fill_in_part_and_expire(
    paper_exchange: PaperExchange, futures: FuturesGateway
) -> None:
    paper_exchange.add_fault(kind="partial", fraction="0.5")

    report = await futures.submit_order(buy(futures, quantity=Decimal("0.02")))

    assert (report.status, report.filled_quantity) == (ReportStatus.EXPIRED, Decimal("0.010"))


@pytest.fixture
def loop() -> Iterator[IoLoop]:
    made = IoLoop()
    yield made
    made.close()


def test_two_hundred_accounts_from_eight_threads_each_have_their_own_order_once(
    paper_exchange: PaperExchange, loop: IoLoop
) -> None:
    """The oracle is the exchange: which key placed which client order id, and how often."""
    factory = GatewayFactory("paper", base_url=paper_exchange.url)
    accounts = [Credentials(name, name) for name in itertools.islice(names, 200)]
    wanted = {account.api_key: next(ids) for account in accounts}

    def send(chunk: list[Credentials]) -> list[OrderReport | BaseException]:
        gateways = [
            (factory.for_account(account, Market.FUTURES), wanted[account.api_key]) for account in chunk
        ]
        return loop.run_all(
            [gateway.submit_order(buy(gateway, client_order_id=wanted)) for gateway, wanted in gateways], 30
        )

    with ThreadPoolExecutor(8) as threads:
        reports = [*itertools.chain(*threads.map(send, [accounts[at : at + 25] for at in range(0, 200, 25)]))]
    loop.close(factory.close)

    assert {type(report) for report in reports} == {OrderReport}
    taken = [row for row in placed(paper_exchange) if row[0] in wanted]
    assert sorted(taken) == sorted(wanted.items())
