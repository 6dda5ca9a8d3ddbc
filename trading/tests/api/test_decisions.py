"""The fan-out ledger over HTTP."""

from decimal import Decimal
from typing import Any

import pytest
from pytest_django import Settings
from redis import Redis

from tests.processes import PaperExchange
from trading.domain.states import AllocationOutcome
from trading.models import Decision
from trading.services.tokens import Scope
from trading.tests import rows
from trading.tests.api.conftest import Asker

pytestmark = pytest.mark.django_db


def fan_out() -> Decision:
    made = rows.decision(rows.signal())
    for number, latency_ms in enumerate((40, 60, 80), start=1):
        paid = {"latency_ms": latency_ms, "slippage_bps": Decimal(number - 2), "place": number}
        share = rows.allocation(made, rows.account(f"filled-{number}"), **paid)
        rows.entry(share, f"pxid{number}")
    rows.allocation(
        made,
        rows.account("short of margin"),
        outcome=AllocationOutcome.DENIED,
        code="MARGIN",
        filled_quantity=0,
        average_price=None,
        latency_ms=None,
    )
    return made


def test_a_decision_shows_one_row_an_account_with_its_known_end(asking: Asker) -> None:
    made = fan_out()

    told = asking(Scope.READ).get(f"/api/bot/decisions/{made.uuid}").json()

    assert told["counts"] == {"DENIED": 1, "FILLED": 3}
    assert told["endings"] == [
        {"outcome": "FILLED", "code": "", "accounts": 3},
        {"outcome": "DENIED", "code": "MARGIN", "accounts": 1},
    ]
    assert told["latency_ms"] == {"first": 40, "median": 60, "p99": 80, "last": 80}
    assert told["slippage_bps"] == {"mean": "0", "worst": "1"}
    assert told["status"] == "COMPLETE"
    ledger = {share["account"]: share for share in told["allocations"]}
    assert ledger["filled-1"] | {"detail": {}} == {
        "account": "filled-1",
        "outcome": "FILLED",
        "code": "",
        "executor": "primary",
        "market": "futures",
        "client_order_id": "pxid1",
        "quantity": "2",
        "filled_quantity": "2",
        "average_price": "100",
        "latency_ms": 40,
        "slippage_bps": "-1",
        "place": 1,
        "wave": 1,
        "detail": {},
        "steps": [
            {
                "attempt": 1,
                "executor": "primary",
                "market": "futures",
                "status": "FILLED",
                "code": "",
                "client_order_id": "pxid1",
                "numbers": {},
            }
        ],
    }
    denied = ledger["short of margin"]
    assert (denied["outcome"], denied["code"], denied["client_order_id"]) == ("DENIED", "MARGIN", None)


def test_the_last_attempt_names_the_order(asking: Asker) -> None:
    made = rows.decision(rows.signal())
    share = rows.allocation(made, rows.account())
    rows.entry(share, "pxsecond", attempt=2)
    rows.entry(share, "pxfirst", attempt=1, status="EXPIRED")

    told = asking(Scope.READ).get(f"/api/bot/decisions/{made.uuid}").json()

    assert told["allocations"][0]["client_order_id"] == "pxsecond"


def test_decisions_are_listed_with_their_counts_in_a_few_queries(
    asking: Asker, django_assert_max_num_queries: pytest.FixtureRequest
) -> None:
    fan_out()
    rows.decision(status="NONE", reason="no candidate")
    client = asking(Scope.READ)
    client.get("/api/bot/decisions")

    with django_assert_max_num_queries(5):  # type: ignore[operator]
        told = client.get("/api/bot/decisions").json()["items"]

    assert [item["counts"] for item in told] == [{}, {"DENIED": 1, "FILLED": 3}]
    assert told[0]["reason"] == "no candidate"
    assert told[0]["latency_ms"] == {"first": None, "median": None, "p99": None, "last": None}
    assert told[0]["slippage_bps"] == {"mean": None, "worst": None}
    assert told[1]["slippage_bps"] == {"mean": "0", "worst": "1"}


def test_a_signal_that_was_decided_gives_its_decision_again(asking: Asker) -> None:
    made = fan_out()
    assert made.signal is not None
    client = asking(Scope.TRADE)

    response = client.post(
        "/api/bot/decisions", {"signal_id": str(made.signal.uuid)}, content_type="application/json"
    )

    assert (response.status_code, response.json()["id"]) == (200, str(made.uuid))
    assert Decision.objects.count() == 1


def test_an_unknown_signal_is_not_decided(asking: Asker) -> None:
    body = {"signal_id": "7d0c4a52-33c2-4d73-9f6f-3e8f0f7f6a01"}

    response = asking(Scope.TRADE).post("/api/bot/decisions", body, content_type="application/json")

    assert (response.status_code, response.json()["error"]["code"]) == (404, "NOT_FOUND")
    assert not Decision.objects.exists()


def test_a_decision_is_staged_when_it_is_asked_so(
    asking: Asker, redis: Redis, paper_exchange: PaperExchange, settings: Settings
) -> None:
    signals = [rows.signal(f"s-{number}") for number in range(3)]
    client = asking(Scope.TRADE)

    def ask(number: int, **told: object) -> Any:
        body = {"signal_id": str(signals[number].uuid), **told}
        return client.post("/api/bot/decisions", body, content_type="application/json")

    assert ask(0).json()["is_staged"] is False
    staged = ask(1, is_staged=True).json()
    assert (staged["is_staged"], staged["wave"], staged["turn"]) == (True, 1, 2)
    settings.ROUTE_POLICY = "cascade"
    refused = ask(2, is_staged=True)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "STAGED_CASCADE")
    assert Decision.objects.count() == 2
