"""The figures of a decision over its accounts, and the steps of each share."""

from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import Account
from exchange.port import Market
from trading.domain.states import AllocationOutcome
from trading.models import Allocation, Decision
from trading.services.fan_outs import (
    Ending,
    FanOut,
    Latency,
    Slippage,
    Step,
    read_fan_outs,
    read_steps,
    route_of,
)
from trading.tests import rows

pytestmark = pytest.mark.django_db

A = AllocationOutcome


def measured_by(milliseconds: list[int]) -> Latency:
    made = rows.decision()
    for number, latency_ms in enumerate(milliseconds):
        a_share(made, f"measured {made.pk} {number}", A.FILLED, latency_ms=latency_ms)
    return fan_out_of(made).latency


@pytest.mark.parametrize(
    ("measured", "first", "median", "p99", "last"),
    [
        ([70], 70, 70, 70, 70),
        ([90, 40], 40, 40, 90, 90),
        ([30, 10, 20], 10, 20, 30, 30),
        ([7, 7, 7, 90], 7, 7, 90, 90),
    ],
)
def test_median_and_p99_are_latencies_that_were_measured(
    measured: list[int], first: int, median: int, p99: int, last: int
) -> None:
    assert measured_by(measured) == Latency(first, median, p99, last)


def test_a_hundred_accounts_have_their_ninety_ninth_as_p99() -> None:
    made = rows.decision()
    account = rows.account()
    accounts = Account.objects.bulk_create(
        Account(name=f"one of many {number}", mode=account.mode) for number in range(100)
    )
    Allocation.objects.bulk_create(
        Allocation(decision=made, account=one, outcome=A.FILLED, latency_ms=latency_ms)
        for latency_ms, one in enumerate(accounts, 1)
    )
    assert fan_out_of(made).latency == Latency(1, 50, 99, 100)


def test_nothing_measured_has_no_latency() -> None:
    assert measured_by([]) == Latency()


def a_share(decision: Decision, name: str, outcome: A, code: str = "", **values: Any) -> Allocation:
    told: dict[str, Any] = {"latency_ms": None, "slippage_bps": None}
    return rows.allocation(decision, rows.account(name), outcome=outcome, code=code, **told | values)


def fan_out_of(decision: Decision) -> FanOut:
    return read_fan_outs([decision])[decision.pk]


def test_slippage_counts_each_account_that_filled_once_whatever_its_end() -> None:
    made = rows.decision(rows.signal())
    for number, bps in enumerate(("2", "4", "-1.5")):
        a_share(made, f"filled-{number}", A.FILLED, slippage_bps=Decimal(bps), latency_ms=10)
    a_share(made, "partial", A.PARTIAL, slippage_bps=Decimal("9.5"), latency_ms=30)
    a_share(made, "denied", A.DENIED, "MARGIN")
    a_share(made, "refused", A.REJECTED, "-2019")
    found = fan_out_of(made)
    assert found.slippage == Slippage(Decimal("3.50"), Decimal("9.50"))
    assert found.latency == Latency(10, 10, 30, 30)
    assert found.endings == [
        Ending("FILLED", "", 3),
        Ending("DENIED", "MARGIN", 1),
        Ending("PARTIAL", "", 1),
        Ending("REJECTED", "-2019", 1),
    ]
    assert found.counts == {"DENIED": 1, "FILLED": 3, "PARTIAL": 1, "REJECTED": 1}


def test_a_decision_without_shares_has_no_figures() -> None:
    assert fan_out_of(rows.decision(status="NONE")) == FanOut([], Latency(), Slippage())


def test_equal_outcomes_with_other_codes_are_told_apart() -> None:
    made = rows.decision(rows.signal())
    for number, code in enumerate(("MARGIN", "HALTED", "MARGIN")):
        a_share(made, f"denied-{number}", A.DENIED, code)
    assert fan_out_of(made).summary == "2 DENIED: MARGIN, 1 DENIED: HALTED"


def steps_of(share: Allocation) -> list[str]:
    return [step.summary for step in read_steps([share])[share.pk]]


def refusal(attempt: int, executor: str, market: str, code: str) -> dict[str, Any]:
    return {"attempt": attempt, "executor": executor, "market": market, "code": code, "numbers": {}}


def test_every_step_from_the_primary_to_the_end_is_told_in_order() -> None:
    made = rows.decision(rows.signal())
    share = a_share(made, "alpha", A.REJECTED, "-4164")
    rows.entry(share, "pxone", status="EXPIRED", code="NOT_PLACED")
    rows.entry(share, "pxtwo", attempt=2, status="REJECTED", code="-2019")
    share.refusals = [refusal(3, "secondary", "spot", "MIN_NOTIONAL")]
    share.save()
    assert steps_of(share) == [
        "primary futures EXPIRED NOT_PLACED",
        "primary futures REJECTED -2019",
        "secondary spot DENIED MIN_NOTIONAL",
    ]


def test_who_was_denied_before_the_one_that_took_it_comes_first() -> None:
    share = a_share(rows.decision(rows.signal()), "alpha", A.FILLED)
    rows.entry(share, "pxone", executor="secondary", market=Market.SPOT)
    share.refusals = [refusal(1, "primary", "futures", "MARGIN")]
    share.save()
    assert steps_of(share) == ["primary futures DENIED MARGIN", "secondary spot FILLED"]


def test_a_share_nobody_took_tells_its_own_refusal_and_the_others() -> None:
    share = a_share(rows.decision(rows.signal()), "alpha", A.DENIED, "MARGIN", detail={"needed": "120"})
    share.refusals = [refusal(1, "secondary", "spot", "NO_MARKET"), refusal(2, "", "", "NO_EXECUTOR")]
    share.save()
    own, secondary, nobody = read_steps([share])[share.pk]
    assert own == Step(1, "primary", "futures", "DENIED", "MARGIN", numbers={"needed": "120"})
    assert secondary.summary == "secondary spot DENIED NO_MARKET"
    assert nobody.summary == "SKIPPED NO_EXECUTOR"


def test_the_steps_of_any_number_of_shares_are_one_question() -> None:
    made = rows.decision(rows.signal())
    shares = [a_share(made, f"filled-{number}", A.FILLED) for number in range(5)]
    for share in shares:
        rows.entry(share, f"px{share.pk}")
    with CaptureQueriesContext(connection) as asked:
        found = read_steps(shares)
    assert [len(found[share.pk]) for share in shares] == [1] * 5
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("kept", "told"),
    [
        ([], "cascade"),
        (
            [{"step": "environment", "skipped": "ROUTE"}, {"step": "database", "accounts": 3}],
            "environment: ROUTE, database: 3 accounts",
        ),
    ],
)
def test_a_route_is_told_step_by_step(kept: list[dict[str, Any]], told: str) -> None:
    assert route_of(rows.decision(rows.signal(), route_policy="cascade", inputs={"route": kept})) == told
