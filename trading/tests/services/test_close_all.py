"""Closing everything from the command line alone: nothing else of the desk need be alive."""

from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone
from pytest_django import Settings

from accounts.models import Account
from exchange.port import OrderSide
from tests.processes import PaperExchange
from trading.domain.states import CloseReason, OrderPurpose, OrderStatus, PositionStatus
from trading.models import Halt, Order, Position
from trading.services import audits, execution, monitoring
from trading.services.closing import request_close
from trading.services.execution import claiming
from trading.tests.services.holding import (
    at_exchange,
    fresh,
    held_there,
    hold,
    orders_of,
    stranger,
)
from trading.tests.services.journey import ETH, WEATHER, now
from trading.tests.services.sending import PLACE

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("unthrottled", "faults", "redis")]


@pytest.fixture(autouse=True)
def pinned(paper_exchange: PaperExchange, settings: Settings) -> None:
    settings.GATE_OFF = WEATHER
    paper_exchange.set_mark("BTCUSDT", "100000")


def orphan_an_exit(position: Position, status: OrderStatus, paper: PaperExchange) -> None:
    """An exit whose worker died in this state, its lease over; the exchange has only the UNKNOWN one."""
    exits = request_close(position.pk, reason=CloseReason.MANUAL, now=now()).exits
    if status == OrderStatus.UNKNOWN:
        paper.add_fault(kind="close_socket", endpoint=PLACE, account=position.account.name, count=1)
        execution.submit(exits, now())
    else:
        claimed = claiming.claim(exits)
        if status == OrderStatus.SUBMITTED:
            claiming.mark_submitted(claimed, now())
    Order.objects.filter(pk__in=exits).update(lease_until=timezone.now(), due_at=None)
    assert [order.status for order in orders_of(position, OrderPurpose.EXIT)] == [status]


@pytest.mark.parametrize("status", [OrderStatus.CLAIMED, OrderStatus.SUBMITTED, OrderStatus.UNKNOWN])
def test_close_all_takes_over_an_exit_whose_worker_died(
    paper_exchange: PaperExchange, status: OrderStatus
) -> None:
    position = hold()
    orphan_an_exit(position, status, paper_exchange)
    call_command("close_all", account=position.account.name, timeout=5.0)
    filled = [order for order in orders_of(position, OrderPurpose.EXIT) if order.status == OrderStatus.FILLED]
    assert [order.filled_quantity for order in filled] == [position.quantity]
    assert fresh(position).status == PositionStatus.CLOSED
    assert held_there(position.account) == []


def test_close_all_reads_the_executions_of_an_exit_whose_worker_died(paper_exchange: PaperExchange) -> None:
    """Filled by the exchange's word, with no execution known: part of it may still be open."""
    position = hold()
    paper_exchange.add_fault(kind="partial", endpoint=PLACE, account=position.account.name, count=1)
    unread = {"kind": "http", "endpoint": "GET /fapi/v1/userTrades", "account": position.account.name}
    paper_exchange.add_fault(**unread, status=500, count=1)
    execution.submit(request_close(position.pk, reason=CloseReason.MANUAL, now=now()).exits, now())
    (order,) = orders_of(position, OrderPurpose.EXIT)
    assert (order.status, order.fills_complete) == (OrderStatus.EXPIRED, False)
    call_command("close_all", account=position.account.name, timeout=5.0)
    assert held_there(position.account) == []


class Terminal(StringIO):
    """A person at a terminal who types this."""

    def isatty(self) -> bool:
        return True


def test_a_person_at_a_terminal_is_told_what_goes_and_asked(
    paper_exchange: PaperExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    position, told = hold(), StringIO()
    monkeypatch.setattr("sys.stdin", Terminal("yes\n"))
    with pytest.raises(CommandError, match="not confirmed: nothing was done"):
        call_command("close_all", account=position.account.name, timeout=5.0, stdout=told)
    assert f"account:{position.account.name}: 1 positions on 1 accounts" in told.getvalue()
    assert (Halt.objects.count(), fresh(position).closing_for) == (0, "")
    assert len(held_there(position.account)) == 1
    monkeypatch.setattr("sys.stdin", Terminal("flatten\n"))
    call_command("close_all", account=position.account.name, timeout=5.0, stdout=told)
    assert held_there(position.account) == []


def test_close_all_names_what_the_desk_did_not_open_and_leaves_it(paper_exchange: PaperExchange) -> None:
    position, told = hold(), StringIO()
    a_foreign_position(position.account)
    call_command("close_all", account=position.account.name, timeout=5.0, stdout=told)
    assert f"{position.account.name}: flat after" in told.getvalue()
    assert f"(foreign, not touched: {ETH})" in told.getvalue()
    assert [one.symbol for one in held_there(position.account)] == [ETH]


def test_close_all_closes_what_the_desk_did_not_open_when_it_is_included(
    paper_exchange: PaperExchange,
) -> None:
    position, told = hold(), StringIO()
    foreign = a_foreign_position(position.account)
    call_command("close_all", account=position.account.name, timeout=5.0, include_foreign=True, stdout=told)
    assert "not touched" not in told.getvalue()
    assert held_there(position.account) == []
    assert fresh(foreign).status == PositionStatus.CLOSED


def a_foreign_position(account: Account) -> Position:
    """A position somebody opened past the desk, as a look at the account shows it."""
    place = Position(account=account, market="futures", symbol=ETH, is_long=True)
    at_exchange(place, stranger(place, OrderSide.BUY, Decimal("0.500")))
    monitoring.audit([account], audits.watched_symbols([account], now()), now())
    return Position.objects.get(account=account, is_foreign=True)
