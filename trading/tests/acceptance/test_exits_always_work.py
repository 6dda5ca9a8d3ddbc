"""Nothing that refuses entries holds an exit, and one that fails is tried again, told, and never given up."""

from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from pytest_django import Settings

from accounts.models import Account, Breaker, Health
from tests.processes import wait_until
from trading import tasks
from trading.models import Order, Position
from trading.services.bells import Bells
from trading.tests.acceptance.desk import BTC, ETH, SOL, PublicDesk

ORDERS = "POST /fapi/v1/order"


@pytest.fixture
def account(desk: PublicDesk) -> str:
    """The one account of the desk."""
    return desk.add_account()


def refuse(desk: PublicDesk, account: str, code: int, *, count: int) -> None:
    """Have the exchange refuse the account's next orders, its stops left alone."""
    rule = {"kind": "http", "endpoint": ORDERS, "status": 400, "code": code, "count": count}
    desk.exchange.add_fault(account=account, **rule)


def exits() -> list[Order]:
    return list(Order.objects.filter(purpose="EXIT").order_by("pk"))


def go_on_until(desk: PublicDesk, account: str, symbol: str = BTC, *, attempts: int = 0) -> dict[str, Any]:
    """Have the exits worker come back as often as it is rung, until it is closed or was tried so often."""

    def is_there() -> bool:
        tasks.ring(Bells(positions=[Position.objects.get().pk]))
        is_closed = desk.position(account, symbol)["status"] == "CLOSED"
        return len(exits()) >= attempts if attempts else is_closed

    wait_until(is_there, "the exits worker to get there")
    found: dict[str, Any] = desk.position(account, symbol)
    return found


@pytest.mark.parametrize("mode", ["one-way", "hedge"])
def test_a_remainder_under_the_least_notional_is_closed_as_well(desk: PublicDesk, mode: str) -> None:
    name = desk.add_account(position_mode=mode)
    desk.exchange.set_mark("SOLUSDT", "150")
    opened = desk.open_one(SOL)
    desk.exchange.add_fault(kind="partial", endpoint=ORDERS, account=name, fraction="0.9998", count=1)
    desk.post(f"close-position/{opened['id']}")
    closed = go_on_until(desk, name, SOL)
    first, second = (Decimal(leg["quantity"]) for leg in closed["legs"])
    assert second * 150 < 5, "the exchange takes no entry under 5"
    assert first + second == Decimal(opened["quantity"])
    assert closed["close_reason"] == "MANUAL"


def test_what_no_order_may_sell_is_left_to_the_stop_that_closes_the_position(
    desk: PublicDesk, account: str
) -> None:
    opened = desk.open_one()
    refuse(desk, account, -4004, count=0)  # less than the least quantity of an order
    desk.post(f"close-position/{opened['id']}")
    held = go_on_until(desk, account, attempts=4)
    assert (held["status"], held["protection"], held["quantity"]) == ("OPEN", "VERIFIED", opened["quantity"])
    assert [alert["severity"] for alert in desk.alerts("EXIT_FAILING")] == ["CRITICAL"]
    desk.exchange.set_mark("BTCUSDT", str(Decimal(opened["stop_price"]) - 10))
    closed = go_on_until(desk, account)
    assert {leg["reason"] for leg in closed["legs"]} == {"STOP_LOSS"}
    assert all(order.filled_quantity == 0 for order in exits())


def test_no_halt_ill_health_limit_or_want_of_margin_holds_an_exit(
    desk: PublicDesk, account: str, settings: Settings
) -> None:
    opened = desk.open_one()
    settings.LIMITS = replace(settings.LIMITS, max_positions=1, daily_trades=1)
    Account.objects.update(
        is_enabled=False, health=Health.UNHEALTHY, health_code="CLOCK", fresh_at=None, available_balance=0
    )
    desk.post("emergency-stop", scope="desk", level="HALT_ENTRIES", reason="everything at once")
    desk.exchange.post("/paper/account", key=account, deposit="-9500")
    assert not any(share["client_order_id"] for share in desk.decide(ETH)["allocations"])
    desk.post(f"close-position/{opened['id']}")
    closed = desk.position(account)
    assert (closed["status"], closed["close_reason"]) == ("CLOSED", "MANUAL")
    assert len(exits()) == 1


def test_an_exit_refused_for_want_of_margin_is_tried_again_and_opens_no_circuit(
    desk: PublicDesk, account: str
) -> None:
    opened = desk.open_one()
    refuse(desk, account, -2019, count=3)
    desk.post(f"close-position/{opened['id']}")
    closed = go_on_until(desk, account)
    assert closed["close_reason"] == "MANUAL"
    assert [(order.status, order.code) for order in exits()] == [("REJECTED", "-2019")] * 3 + [("FILLED", "")]
    assert not Breaker.objects.exists()
    assert desk.alerts("EXIT_FAILING") == []


def test_an_exit_that_fails_is_tried_again_ever_later_and_an_alarm_until_it_fills(
    desk: PublicDesk, account: str
) -> None:
    opened = desk.open_one()
    refuse(desk, account, -4131, count=0)
    desk.post(f"close-position/{opened['id']}")
    go_on_until(desk, account, attempts=5)
    assert [alert["severity"] for alert in desk.alerts("EXIT_FAILING")] == ["CRITICAL"]
    waits = [after.created_at - before.created_at for before, after in pairwise(exits()[:5])]
    for wait, least in zip(waits, (0.2, 0.4, 0.8, 1.0), strict=True):
        assert wait.total_seconds() >= least
    desk.exchange.delete("/paper/faults")
    assert go_on_until(desk, account)["close_reason"] == "MANUAL"
    assert desk.alerts("EXIT_FAILING") == []
