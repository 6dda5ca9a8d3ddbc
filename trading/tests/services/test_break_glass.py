"""With the database gone: flat by the exchange's own positions, and nothing of ours in the way."""

import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import pytest
from pytest_django import Settings

from accounts.models import Account
from accounts.services.gateways import fetch_clock_offset_ms, gateways_without_database
from exchange.port import ExchangeGateway, OrderRequest, OrderSide, OrderType
from tests.processes import ROOT, PaperExchange
from trading.domain.states import CloseReason, PositionStatus
from trading.models import Order, Position
from trading.services import audits, break_glass, monitoring
from trading.tests.services.holding import answer, at_exchange, fresh, held_there, hold, stops_there
from trading.tests.services.journey import BTC, ETH, WEATHER, fit_accounts, now
from trading.tests.services.sending import PLACE, told_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("unthrottled", "faults", "redis")]


@pytest.fixture(autouse=True)
def calm(settings: Settings) -> None:
    settings.GATE_OFF = WEATHER


def ways_to(*accounts: Account) -> dict[str, ExchangeGateway]:
    """Gateways by what needs no database."""
    return {name: way for one in accounts for name, way in gateways_without_database(one.name).items()}


def test_everything_is_closed_and_the_stops_go_after(paper_exchange: PaperExchange) -> None:
    position = hold()
    (result,) = break_glass.flatten(ways_to(position.account), "", 10)
    assert (result.is_flat, result.sent) == (True, 1)
    assert held_there(position.account) == []
    assert stops_there(position.account) == []
    (placed,) = (row for row in told_of(paper_exchange, position.account) if row["type"] == "MARKET")
    assert placed["reduce_only"]


def test_nothing_of_it_becomes_a_row_and_monitoring_adopts_the_result() -> None:
    position = hold()
    orders = Order.objects.count()
    break_glass.flatten(ways_to(position.account), "", 10)
    assert Order.objects.count() == orders
    assert fresh(position).status == PositionStatus.OPEN
    answer(monitoring.audit([position.account], audits.watched_symbols([position.account], now()), now()))
    closed = fresh(position)
    assert (closed.status, closed.close_reason) == (PositionStatus.CLOSED, CloseReason.FOREIGN)


def test_one_symbol_goes_and_the_other_stays_with_its_stop() -> None:
    (account,) = fit_accounts(1, BTC, ETH)
    hold(symbol=BTC, account=account)
    hold(symbol=ETH, account=account)
    break_glass.flatten(ways_to(account), BTC, 10)
    assert [one.symbol for one in held_there(account)] == [ETH]
    assert (len(stops_there(account, BTC)), len(stops_there(account, ETH))) == (0, 1)


def test_an_account_that_cannot_be_read_holds_up_no_other(paper_exchange: PaperExchange) -> None:
    dark, light = hold(), hold(symbol=ETH)
    paper_exchange.add_fault(
        kind="http", endpoint="GET /fapi/v*/positionRisk", account=dark.account.name, status=500, count=0
    )
    results = break_glass.flatten(ways_to(dark.account, light.account), "", 0.1)
    ends = {result.account: result.is_flat for result in results}
    assert ends == {dark.account.name: False, light.account.name: True}
    assert held_there(light.account) == []
    paper_exchange.delete("/paper/faults")
    assert len(stops_there(dark.account)) == 1, "unread is not flat: its stop stays"


def test_a_close_that_is_refused_is_tried_again(paper_exchange: PaperExchange) -> None:
    position = hold()
    paper_exchange.add_fault(
        kind="http", endpoint=PLACE, account=position.account.name, status=429, code=-1003, count=2
    )
    (result,) = break_glass.flatten(ways_to(position.account), "", 10)
    assert (result.is_flat, result.sent) == (True, 1)


def test_a_close_whose_answer_was_lost_closes_nothing_twice(paper_exchange: PaperExchange) -> None:
    position = hold()
    paper_exchange.add_fault(kind="close_socket", endpoint=PLACE, account=position.account.name)
    (result,) = break_glass.flatten(ways_to(position.account), "", 10)
    assert result.is_flat
    sold = [row for row in told_of(paper_exchange, position.account, "FILL") if row["side"] == "SELL"]
    assert len(sold) == 1
    assert held_there(position.account) == []


def test_a_machine_whose_clock_is_wrong_closes_by_the_exchanges(paper_exchange: PaperExchange) -> None:
    position = hold()
    paper_exchange.add_fault(kind="clock_skew", seconds=30, count=0)
    try:
        (result,) = break_glass.flatten(ways_to(position.account), "", 10)
    finally:
        paper_exchange.delete("/paper/faults")
        fetch_clock_offset_ms("binance")
    assert (result.is_flat, result.sent) == (True, 1)
    assert held_there(position.account) == []


def test_somebody_elses_resting_order_that_may_open_is_theirs_to_keep() -> None:
    position = hold()
    theirs = OrderRequest(
        client_order_id=f"stranger{uuid4().hex[:16]}",
        symbol=BTC,
        side=OrderSide.BUY,
        type=OrderType.STOP_MARKET,
        quantity=position.quantity,
        timestamp_ms=int(now().timestamp() * 1000),
        trigger_price=(position.entry_price * 2).quantize(Decimal(1)),
    )
    at_exchange(position, theirs)
    break_glass.flatten(ways_to(position.account), "", 10)
    assert [one.client_order_id for one in stops_there(position.account)] == [theirs.client_order_id]


def test_the_command_flattens_in_a_process_that_has_no_database(
    paper_exchange: PaperExchange, settings: Settings, tmp_path: Path
) -> None:
    position = hold()
    nowhere = "postgres://desk:secret@127.0.0.1:1/desk"
    told = {"PAPER_EXCHANGE_URL": settings.PAPER_EXCHANGE_URL, "WEIGHT_LIMIT_PER_MINUTE": "0"}
    environment = os.environ | told | {"DATABASE_URL": nowhere}
    words = ["manage.py", "close_all", "--break-glass", "--account", position.account.name, "--timeout", "10"]
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 closes sent, flat" in done.stdout
    assert held_there(position.account) == []
    assert Position.objects.get(pk=position.pk).status == PositionStatus.OPEN
