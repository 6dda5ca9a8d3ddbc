"""Every closed leg says why: each reason reached over the public interface, and told by it."""

import time
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from pytest_django import Settings

from accounts.models import Account
from exchange.port import FillReport, Market, OrderReport, OrderSide, ReportStatus
from exchange.stream_events import OrderEvent
from tests.proofs import missing_proofs
from trading import tasks
from trading.domain.states import CloseReason, OrderPurpose
from trading.models import Order, Position
from trading.services import streams
from trading.services.bells import Bells
from trading.services.streams import Told
from trading.tests.acceptance.desk import BTC, PublicDesk, now
from trading.tests.services.holding import cancel_elsewhere, orders_of, sell_elsewhere

HERE = "trading/tests/acceptance/test_reasons.py"
VECTORS = "trading/tests/acceptance/test_vectors.py"
PROVEN: dict[CloseReason, str] = {
    CloseReason.STOP_LOSS: f"{VECTORS}::test_v23_one_decision_stopped_out_everywhere_halts_nobody",
    CloseReason.TAKE_PROFIT_1: f"{VECTORS}::test_v13_a_harvest_is_of_the_initial_quantity_and_leaves_nothing",
    CloseReason.TAKE_PROFIT_2: f"{VECTORS}::test_v13_a_harvest_is_of_the_initial_quantity_and_leaves_nothing",
    CloseReason.TAKE_PROFIT_3: f"{VECTORS}::test_v13_a_harvest_is_of_the_initial_quantity_and_leaves_nothing",
    CloseReason.BREAK_EVEN: f"{HERE}::test_a_moved_stop_closes_with_the_rule_that_moved_it",
    CloseReason.RATCHET: f"{HERE}::test_a_moved_stop_closes_with_the_rule_that_moved_it",
    CloseReason.TRAILING: f"{HERE}::test_a_trailing_stop_closes_as_trailing",
    CloseReason.TIME_LIMIT: f"{HERE}::test_the_time_limit_closes_as_time_limit",
    CloseReason.LOSS_GUARD: f"{HERE}::test_the_loss_guard_closes_before_the_stop",
    CloseReason.EXCESS: f"{HERE}::test_what_risks_more_than_planned_is_reduced_as_excess",
    CloseReason.SIGNAL: f"{HERE}::test_the_sources_close_closes_as_signal",
    CloseReason.MANUAL: f"{VECTORS}::test_v16_a_failed_read_closes_nothing_stops_entries_and_no_exit",
    CloseReason.FLATTEN: f"{HERE}::test_a_flatten_closes_as_flatten",
    CloseReason.UNPROTECTED: f"{HERE}::test_ten_seconds_without_a_stop_close_as_unprotected",
    CloseReason.STOP_FAILED: f"{VECTORS}::test_v18_a_stop_the_mark_is_past_closes_at_market",
    CloseReason.LIQUIDATED: f"{HERE}::test_a_liquidation_is_booked_as_liquidated",
    CloseReason.ADL: f"{HERE}::test_what_the_exchange_took_is_booked_by_its_own_word",
    CloseReason.SETTLED: f"{HERE}::test_what_the_exchange_took_is_booked_by_its_own_word",
    CloseReason.FOREIGN: f"{HERE}::test_what_a_person_sold_at_the_exchange_is_booked_as_foreign",
}


def test_every_reason_is_reached() -> None:
    assert list(PROVEN) == list(CloseReason)
    assert missing_proofs(PROVEN.values()) == []


@pytest.fixture
def account(desk: PublicDesk) -> str:
    """The one account of the desk."""
    return desk.add_account()


def the_row() -> Position:
    return Position.objects.select_related("account").get()


def attend(position: Position) -> None:
    """What the exits worker does for a position that asks to be looked at."""
    tasks.ring(Bells(positions=[position.pk]))


def read_anew(desk: PublicDesk) -> None:
    """A monitor's tick that reads every account."""
    Account.objects.update(audited_at=None)
    desk.monitor()


def ended(position: dict[str, Any], *reasons: str) -> bool:
    """Whether it is closed, its legs in order for these reasons, and sums to what was entered."""
    told = [leg["reason"] for leg in position["legs"]]
    sold = sum(Decimal(leg["quantity"]) for leg in position["legs"])
    assert (position["status"], position["quantity"]) == ("CLOSED", "0"), position["life"]
    assert sold == Decimal(position["initial_quantity"])
    assert list(dict.fromkeys(told)) == list(reasons), told
    return bool(position["close_reason"] == reasons[-1])


@pytest.mark.parametrize(
    ("targets", "reasons"),
    [
        (1, ("TAKE_PROFIT_1", "BREAK_EVEN")),
        (2, ("TAKE_PROFIT_1", "TAKE_PROFIT_2", "RATCHET")),
    ],
)
def test_a_moved_stop_closes_with_the_rule_that_moved_it(
    desk: PublicDesk, account: str, targets: int, reasons: tuple[str, ...]
) -> None:
    opened = desk.open_one()
    for target in opened["plan"]["targets"][:targets]:
        desk.move(BTC, target["price"])
    desk.move(BTC, Decimal(desk.position(account)["stop_price"]) - 10)
    read_anew(desk)
    assert ended(desk.position(account), *reasons)


def test_a_trailing_stop_closes_as_trailing(desk: PublicDesk, account: str, settings: Settings) -> None:
    settings.EXIT_POLICY = "signal"
    opened = desk.open_one(take_profit_price="110000")
    entry = Decimal(opened["entry_price"])
    stops = []
    for share in ("1.041", "1.05", "1.045"):  # the last is a step back: no stop moves away
        desk.move(BTC, f"{entry * Decimal(share):.1f}")
        stops.append(Decimal(desk.position(account)["stop_price"]))
    assert stops == sorted(stops)
    assert stops[0] < stops[1] == stops[2]
    desk.move(BTC, stops[-1] - 20)
    read_anew(desk)
    assert ended(desk.position(account), "TRAILING")


def test_the_time_limit_closes_as_time_limit(desk: PublicDesk, account: str) -> None:
    desk.open_one()
    row = the_row()
    row.plan["expires_at"] = (now() - timedelta(seconds=1)).isoformat()
    row.check_at = now()
    row.save()
    attend(row)
    assert ended(desk.position(account), "TIME_LIMIT")


def test_the_loss_guard_closes_before_the_stop(desk: PublicDesk, account: str, settings: Settings) -> None:
    settings.EXIT_POLICY = "signal"
    settings.LIMITS = replace(settings.LIMITS, loss_guard=Decimal("0.5"))
    opened = desk.open_one(stop_price="95000", take_profit_price="120000")
    assert Decimal(opened["stop_price"]) == Decimal(95_000)
    desk.move(BTC, "97200")
    assert ended(desk.position(account), "LOSS_GUARD")


def test_what_risks_more_than_planned_is_reduced_as_excess(
    desk: PublicDesk, account: str, settings: Settings
) -> None:
    narrow = replace(settings.LIMITS, min_stop=False, symbol_notional=Decimal(3), gross_notional=Decimal(3))
    settings.LIMITS = narrow
    late = {"kind": "late_fill", "endpoint": "POST /fapi/v1/order", "seconds": 0.3, "count": 1}
    desk.exchange.add_fault(account=account, **late)
    share = desk.share()
    assert share["outcome"] == "PENDING"
    # The operator widens stops while the entry is on its way.
    settings.LIMITS = replace(narrow, base_stop=Decimal("0.012"), stop_ceiling=Decimal("0.03"))
    the_entry = Order.objects.get(client_order_id=share["client_order_id"])
    for _ in range(40):
        tasks.refresh_orders.delay([the_entry.pk])
        if Position.objects.exists():
            break
        time.sleep(0.02)
    reduced = desk.position(account)
    assert (reduced["status"], reduced["protection"]) == ("OPEN", "VERIFIED")
    assert {leg["reason"] for leg in reduced["legs"]} == {"EXCESS"}
    assert Decimal(0) < Decimal(reduced["quantity"]) < Decimal(reduced["initial_quantity"])


def test_the_sources_close_closes_as_signal(desk: PublicDesk, account: str) -> None:
    desk.open_one()
    desk.send_signal(action="close", entry_price=None, stop_price=None, take_profit_price=None)
    assert ended(desk.position(account), "SIGNAL")


def test_a_flatten_closes_as_flatten(desk: PublicDesk, account: str) -> None:
    desk.open_one()
    desk.post("emergency-stop", scope="desk", level="FLATTEN", reason="a drill")
    assert ended(desk.position(account), "FLATTEN")


def test_ten_seconds_without_a_stop_close_as_unprotected(desk: PublicDesk, account: str) -> None:
    refused = {
        "kind": "http",
        "endpoint": "POST /fapi/v1/algoOrder",
        "status": 400,
        "code": -4045,
        "count": 0,
    }
    desk.exchange.add_fault(account=account, message="Reach max stop order limit.", **refused)
    opened = desk.open_one()
    assert opened["protection"] == "UNPROTECTED"
    row = the_row()
    Position.objects.filter(pk=row.pk).update(unprotected_since=now() - timedelta(seconds=20))
    attend(row)
    closed = desk.position(account)
    assert ended(closed, "UNPROTECTED")
    assert Decimal(closed["unprotected_seconds"]) >= 11


def test_a_liquidation_is_booked_as_liquidated(desk: PublicDesk) -> None:
    name = desk.add_account(leverage=50)
    opened = desk.open_one()
    row = the_row()
    (stop,) = orders_of(row, OrderPurpose.HARD_STOP)
    cancel_elsewhere(row, stop)
    desk.exchange.set_mark("BTCUSDT", f"{Decimal(opened['entry_price']) * Decimal('0.97'):.1f}")
    read_anew(desk)
    assert ended(desk.position(name), "LIQUIDATED")
    assert desk.alerts("LIQUIDATED")


@pytest.mark.parametrize(
    ("client_order_id", "reason"), [("adl_autoclose", "ADL"), ("settlement_autoclose-1", "SETTLED")]
)
def test_what_the_exchange_took_is_booked_by_its_own_word(
    desk: PublicDesk, account: str, client_order_id: str, reason: str
) -> None:
    desk.open_one()
    row = the_row()
    event = _taken(row, client_order_id)
    tasks.ring(streams.apply([Told(row.account_id, Market.FUTURES, event)], now()))
    assert ended(desk.position(account), reason)


def _taken(position: Position, client_order_id: str) -> OrderEvent:
    """What the account's stream says when the exchange itself closes a long."""
    report = OrderReport(
        client_order_id=client_order_id,
        exchange_order_id="987654321",
        symbol=position.symbol,
        side=OrderSide.SELL,
        status=ReportStatus.FILLED,
        quantity=position.quantity,
        filled_quantity=position.quantity,
        is_conditional=False,
    )
    fill = FillReport(
        trade_id="987654321",
        exchange_order_id=report.exchange_order_id,
        symbol=position.symbol,
        side=OrderSide.SELL,
        price=position.entry_price,
        quantity=position.quantity,
        fee=Decimal(0),
        fee_asset="USDT",
        filled_at=now(),
        client_order_id=client_order_id,
    )
    return OrderEvent(report, fill, now())


def test_what_a_person_sold_at_the_exchange_is_booked_as_foreign(desk: PublicDesk, account: str) -> None:
    desk.open_one()
    row = the_row()
    half = (row.quantity / 2).quantize(Decimal("0.001"))
    sell_elsewhere(row, half)
    read_anew(desk)
    reduced = desk.position(account)
    assert (reduced["status"], Decimal(reduced["quantity"])) == ("OPEN", row.quantity - half)
    assert [leg["reason"] for leg in reduced["legs"]] == ["FOREIGN"]
    sell_elsewhere(row, row.quantity - half)
    read_anew(desk)
    assert ended(desk.position(account), "FOREIGN")
    assert desk.alerts("FOREIGN")
