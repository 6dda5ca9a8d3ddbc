"""A little history at a real exchange, held against its ledger; and every way the two may part is found."""

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from accounts.models import Account, Executor
from exchange.port import Market
from tests.processes import PaperExchange
from trading.domain.states import CloseReason, OrderPurpose, OrderStatus, PositionStatus
from trading.models import EquitySnapshot, Fill, Order, Position
from trading.services import audits, equity
from trading.services.audits import watched_symbols
from trading.services.balances import write_balances
from trading.services.closing import request_close
from trading.services.money_flow import read_flows
from trading.services.reconciliation import reconcile, unexplained_orders
from trading.tests.services.holding import answer, fresh, hold
from trading.tests.services.journey import BTC, WEATHER, fit_accounts, now

pytestmark = pytest.mark.django_db

Ledger = list[dict[str, Any]]


@dataclass
class History:
    """What happened: one account's long was entered, protected, and closed by hand."""

    account: Account
    position: Position
    exchange: PaperExchange

    def ledger(self) -> Ledger:
        """The exchange's own record of this account."""
        rows: Ledger = self.exchange.ledger()
        return [row for row in rows if row["account"] == self.account.name]


@pytest.fixture
def history(paper_exchange: PaperExchange, settings: Settings) -> Iterator[History]:
    settings.GATE_OFF = WEATHER
    settings.PAPER_ADMIN_SECRET = paper_exchange.secret
    paper_exchange.set_mark("BTCUSDT", "100000")
    account = fit_accounts(1, BTC)[0]
    equity.record(now())
    position = hold(account=account)
    paper_exchange.set_mark("BTCUSDT", "100123.4")
    answer(request_close(position.pk, reason=CloseReason.MANUAL, now=now()))
    yield History(account, fresh(position), paper_exchange)
    paper_exchange.set_mark("BTCUSDT", None)


def kinds(ledger: Ledger) -> list[str]:
    return [difference.kind for difference in reconcile(ledger)]


def fill_of(ledger: Ledger) -> dict[str, Any]:
    return next(row for row in ledger if row["kind"] == "FILL")


def test_our_rows_and_the_ledger_agree_to_the_last_unit(history: History) -> None:
    ledger = history.ledger()
    assert history.position.status == PositionStatus.CLOSED
    assert {"PLACED", "FILL", "DEPOSIT"} <= {row["kind"] for row in ledger}
    assert {row["store"] for row in ledger if row["kind"] == "PLACED"} == {"ordinary", "conditional"}
    assert Fill.objects.count() == sum(row["kind"] == "FILL" for row in ledger) >= 2
    assert reconcile(ledger) == []
    assert unexplained_orders() == []


def test_one_altered_fill_at_the_exchange_is_found(history: History) -> None:
    ledger = deepcopy(history.ledger())
    fill_of(ledger)["price"] = str(Decimal(fill_of(ledger)["price"]) + Decimal("0.1"))
    assert kinds(ledger) == ["FILL_DIFFERS"]


def test_one_altered_fill_of_ours_is_found_in_the_fill_and_in_the_position(history: History) -> None:
    ledger = history.ledger()
    fill = Fill.objects.earliest("pk")
    Fill.objects.filter(pk=fill.pk).update(quantity=fill.quantity + Decimal("0.001"))
    assert kinds(ledger) == ["FILL_DIFFERS", "POSITION"]


def test_one_deleted_order_is_found(history: History) -> None:
    stop = Order.objects.get(position=history.position, purpose=OrderPurpose.HARD_STOP)
    stop.delete()
    found = reconcile(history.ledger())
    assert [str(one) for one in found] == [
        f"UNKNOWN_TO_DESK {history.account.name} {stop.client_order_id} conditional: desk -, exchange placed"
    ]


def test_a_stop_known_only_by_what_it_became_was_there(history: History) -> None:
    ledger = history.ledger()
    placed = next(row for row in ledger if row["kind"] == "PLACED" and row["store"] == "conditional")
    stop = Order.objects.get(position=history.position, purpose=OrderPurpose.HARD_STOP)
    Order.objects.filter(pk=stop.pk).update(exchange_order_id="", triggered_order_id="4711")
    assert reconcile([*ledger, placed | {"store": "ordinary", "order_id": 4711}]) == []


def test_one_cent_is_found(history: History) -> None:
    ledger = deepcopy(history.ledger())
    deposit = next(row for row in ledger if row["kind"] == "DEPOSIT" and row["market"] == "futures")
    deposit["money"] = str(Decimal(deposit["money"]) + Decimal("0.01"))
    found = reconcile(ledger)
    assert [(one.kind, one.key) for one in found] == [("WALLET", f"{history.account.name} futures USDT")]
    assert Decimal(found[0].exchange) - Decimal(found[0].desk) == Decimal("0.01")


def test_one_order_placed_twice_is_found(history: History) -> None:
    ledger = history.ledger()
    ledger.append(next(row for row in ledger if row["kind"] == "PLACED"))
    assert kinds(ledger) == ["PLACED_TWICE"]


def test_one_unknown_placement_is_found(history: History) -> None:
    ledger = history.ledger()
    known = next(row for row in ledger if row["kind"] == "PLACED")
    ledger.append(known | {"client_order_id": "nobody"})
    assert [str(one) for one in reconcile(ledger)] == [
        f"UNKNOWN_TO_DESK {history.account.name} nobody ordinary: desk -, exchange placed"
    ]


def test_an_order_the_exchange_never_took_is_found(history: History) -> None:
    ledger = [row for row in history.ledger() if row["kind"] != "PLACED" or row["store"] != "conditional"]
    assert kinds(ledger) == ["NEVER_PLACED"]


def test_other_accounts_of_the_exchange_are_not_ours_to_explain(history: History) -> None:
    ledger = history.ledger()
    strangers = [row | {"account": "somebody else"} for row in ledger]
    assert reconcile([*ledger, *strangers]) == []


def test_money_on_a_market_we_do_not_trade_is_not_ours_but_an_order_there_is_found(history: History) -> None:
    Executor.objects.filter(account=history.account, market=Market.SPOT).delete()
    EquitySnapshot.objects.filter(market=Market.SPOT).delete()
    ledger = history.ledger()
    assert reconcile(ledger) == []
    known = next(row for row in ledger if row["kind"] == "PLACED")
    assert kinds([*ledger, known | {"market": "spot", "client_order_id": "nobody"}]) == ["UNKNOWN_TO_DESK"]


def test_the_money_between_two_readings_is_explained_to_the_last_unit(history: History) -> None:
    accounts = [history.account]
    write_balances(accounts, audits.read(accounts, watched_symbols(accounts, now()), now()))
    equity.record(now())

    flows = {(flow.market, flow.asset): flow.flow for flow in read_flows()}

    futures = flows["futures", "USDT"]
    assert futures is not None
    assert futures.start == Decimal(10_000)
    assert futures.realized == sum(fill.realized_profit for fill in Fill.objects.all()) > 0
    assert futures.fees == sum(fill.fee for fill in Fill.objects.all()) > 0
    assert futures.end == futures.start + futures.realized - futures.fees
    assert futures.unexplained == 0


# ── the command ──────────────────────────────────────────────────────────────


def told(*words: str) -> str:
    output = StringIO()
    call_command("reconcile", *words, stdout=output, no_color=True)
    return output.getvalue()


def test_the_command_asks_the_paper_exchange_and_says_that_all_agrees(history: History) -> None:
    assert "our rows and the ledger agree over" in told()
    assert "our rows and the ledger agree over" in told("--url", history.exchange.url)


def test_the_command_reads_a_file_and_fails_on_a_difference(history: History, tmp_path: Path) -> None:
    ledger = deepcopy(history.ledger())
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(json.dumps(ledger))
    fill_of(ledger)["fee"] = "0"
    bad.write_text(json.dumps(ledger))

    assert "agree" in told("--ledger", str(good))
    output = StringIO()
    with pytest.raises(CommandError, match="2 differences, 0 unexplained orders") as refused:
        call_command("reconcile", "--ledger", str(bad), stdout=output, no_color=True)
    assert refused.value.returncode == 1
    assert [line.split()[0] for line in output.getvalue().splitlines()] == ["FILL_DIFFERS", "WALLET"]


def test_an_order_whose_end_is_not_known_is_no_agreement(history: History) -> None:
    Order.objects.filter(purpose=OrderPurpose.EXIT).update(status=OrderStatus.UNKNOWN)
    with pytest.raises(CommandError, match="0 differences, 1 unexplained orders"):
        told()


@pytest.mark.parametrize("text", ["", "{}", '[{"kind": "FILL"}]', "[1]"])
def test_what_is_no_ledger_is_never_an_agreement(text: str, tmp_path: Path, db: None) -> None:
    path = tmp_path / "ledger.json"
    path.write_text(text)
    with pytest.raises(CommandError, match="not compared"):
        told("--ledger", str(path))


def test_an_exchange_that_does_not_answer_is_never_an_agreement(db: None) -> None:
    with pytest.raises(CommandError, match="not compared"):
        told("--url", "http://127.0.0.1:1")
    with pytest.raises(CommandError, match="not an http address"):
        told("--url", "file:///etc/hosts")


def test_a_csv_of_the_ledger_says_the_same(history: History, tmp_path: Path) -> None:
    ledger = history.ledger()
    path = tmp_path / "ledger.csv"
    header = list(ledger[0])
    lines = [",".join(header), *(",".join(str(row[name]) for name in header) for row in ledger)]
    path.write_text("\n".join(lines))
    assert "agree" in told("--ledger", str(path))


# ── the export of orders ─────────────────────────────────────────────────────


def test_every_order_is_exported_with_its_share(history: History, tmp_path: Path) -> None:
    path = tmp_path / "orders.csv"
    call_command("export_orders", "--csv", "--output", str(path))
    output = StringIO()
    call_command("export_orders", "--csv", stdout=output)

    assert path.read_text() == output.getvalue()
    header, *lines = [line.split(",") for line in output.getvalue().splitlines()]
    assert header == ["client_order_id", "account", "status", "filled_quantity", "allocation"]
    share = Order.objects.get(purpose=OrderPurpose.ENTRY).allocation
    assert share is not None
    assert {line[0] for line in lines} == set(Order.objects.values_list("client_order_id", flat=True))
    assert {(line[1], line[4]) for line in lines} == {(history.account.name, str(share.uuid))}
    filled = {order.client_order_id: order.filled_quantity for order in Order.objects.all()}
    assert {line[0]: Decimal(line[3]) for line in lines} == filled
    assert {line[2] for line in lines} >= {"FILLED"}
