"""The 25 incidents of systems like this one: each is a test, here or where `PROVEN` says.

Here are those that go through the public services against the exchange's own ledger.
"""

import time
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from pytest_django import Settings
from redis import Redis

from accounts.models import Account
from exchange.port import OrderSide
from tests.processes import PaperExchange
from tests.proofs import missing_proofs
from trading.domain.states import DenyCode, OrderPurpose, OrderStatus, PositionStatus, Protection
from trading.models import Allocation, Order, Position, Signal
from trading.services import audits, execution, monitoring, sweeping
from trading.services.allocation import allocate
from trading.services.decisions import settle
from trading.services.plans import plan_of
from trading.services.selection import request
from trading.services.signals import SignalRefused
from trading.services.watcher import Watcher
from trading.tests.services.holding import (
    answer,
    fresh,
    held_there,
    hold,
    orders_of,
    pinned_mark,
    sell_elsewhere,
    stops_there,
    tick,
)
from trading.tests.services.journey import (
    BTC,
    WEATHER,
    a_position,
    a_signal,
    fit_accounts,
    now,
    read_back,
    set_columns,
)
from trading.tests.services.sending import an_entry, look_up, send

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("unthrottled")]

PLACE = "POST /fapi/v1/order"
POSITIONS = "GET /fapi/v3/positionRisk"
ALLOCATION = "trading/tests/services/test_allocation.py"
RESERVATION = "trading/tests/services/test_reservation.py"
GATE = "trading/tests/domain/test_gate.py"
WIRE = "exchange/tests/test_paper_exchange.py"
CLOSING = "trading/tests/services/test_closing.py"
PROTECTION = "trading/tests/services/test_protection.py"
ORDERS = "exchange/tests/test_orders.py"

PROVEN: dict[int, tuple[str, ...]] = {
    2: ("project/tests/test_logging.py::test_configured_twice_an_event_is_still_written_once",),
    3: (
        f"{ALLOCATION}::test_v19_five_decisions_without_margin_are_five_denials_one_alert_and_no_order",
        f"{RESERVATION}::test_decisions_made_at_once_never_claim_more_margin_than_there_is",
    ),
    5: (
        "trading/tests/api/test_positions.py::test_a_position_shows_every_percentage_with_its_unit",
        "trading/tests/api/test_positions.py::test_the_atom_short_of_the_report_had_not_reached_its_stop",
    ),
    6: (
        "exchange/tests/test_paper_exchange.py::test_a_stop_rests_in_its_own_store_is_seen_and_can_be_cancelled",
    ),
    7: (f"{PROTECTION}::test_v18_a_stop_the_mark_is_already_through_closes_at_market",),
    9: (
        f"{PROTECTION}::test_ten_seconds_without_a_stop_close_at_market",
        f"{PROTECTION}::test_an_accepted_stop_is_acked_until_a_list_shows_it",
    ),
    11: (
        "trading/tests/domain/test_gate.py::test_v9_a_stop_ten_percent_away_at_20x_lies_beyond_the_liquidation",
    ),
    14: (f"{CLOSING}::test_a_close_ends_flat_with_its_reason_and_no_stop_left",),
    17: (
        "exchange/tests/test_symbols.py::test_every_writing_of_a_perpetual_is_the_perpetual",
        "trading/tests/services/test_signals.py::test_every_accepted_spelling_is_the_same_market",
    ),
    19: (
        f"{ORDERS}::test_what_would_be_changed_on_the_way_never_leaves",
        "accounts/tests/test_breaker_rule.py::test_local_denials_speed_clock_and_lookups_never_count",
    ),
    20: (
        "trading/tests/acceptance/test_modes.py::test_a_hedge_account_lives_a_whole_journey_on_its_own_side",
    ),
    21: (
        f"{CLOSING}::test_asked_twice_there_is_one_exit_and_the_first_reason",
        f"{CLOSING}::test_reduce_only_refused_because_it_is_flat_is_no_failure",
        "trading/tests/acceptance/test_modes.py::test_two_closers_of_a_hedged_position_send_one_exit",
    ),
    24: (
        "project/tests/test_settings.py::test_a_wrong_setting_is_refused_by_name",
        "accounts/tests/test_verification.py::test_an_account_of_another_mode_is_never_spoken_for",
    ),
}


@pytest.fixture(autouse=True)
def exchange(paper_exchange: PaperExchange, settings: Settings, redis: Redis) -> Iterator[PaperExchange]:
    settings.GATE_OFF = WEATHER
    with pinned_mark(paper_exchange):
        redis.flushdb()  # no mark of before stays on the board
        yield paper_exchange


def test_every_incident_has_its_test() -> None:
    here = {int(name.split("_")[2]) for name in globals() if name.startswith("test_incident_")}
    assert here | set(PROVEN) == set(range(1, 26))
    assert here & set(PROVEN) == set()
    assert missing_proofs(proof for proofs in PROVEN.values() for proof in proofs) == []


def placed(exchange: PaperExchange, account: Account) -> list[dict[str, Any]]:
    """What the exchange took of an account, oldest first."""
    rows = exchange.ledger()
    return [row for row in rows if row["account"] == account.name and row["kind"] == "PLACED"]


def told(exchange: PaperExchange, order: Order) -> list[str]:
    """The kinds of what the exchange's ledger says of an order."""
    return [row["kind"] for row in exchange.ledger() if row["client_order_id"] == order.client_order_id]


def carried_out(signal: Signal) -> list[Allocation]:
    """Have a signal executed; its shares."""
    decision = request(signal, now())
    answer(allocate(decision.pk, now()))
    settle([decision.pk], now())
    return list(decision.allocations.order_by("pk"))


def audit(account: Account) -> None:
    """One visit of the monitor to one account, and what it rings."""
    watched = audits.watched_symbols([account], now())
    answer(monitoring.audit([account], watched, now()))


def test_incident_01_the_same_coin_is_not_bought_again(exchange: PaperExchange) -> None:
    position = hold()
    before = placed(exchange, position.account)
    for _ in range(3):
        (share,) = carried_out(a_signal())
        assert (share.outcome, share.code) in {("DENIED", "POSITION_OPEN"), ("DENIED", "DUPLICATE")}
    assert placed(exchange, position.account) == before


def test_incident_04_an_accepted_order_is_no_fill(exchange: PaperExchange) -> None:
    order = an_entry()
    exchange.add_fault(kind="late_fill", endpoint=PLACE, account=order.account.name, seconds=0.5)
    send(order)
    assert (order.status, order.average_price) == (OrderStatus.ACKNOWLEDGED, None)
    assert not Position.objects.filter(account=order.account).exists()
    for _ in range(100):
        look_up(order)
        if order.status == OrderStatus.FILLED:
            break
        time.sleep(0.02)
    position = Position.objects.get(account=order.account)
    assert (position.quantity, position.entry_price) == (order.quantity, order.average_price)
    assert position.entry_price > 0


def test_incident_08_a_good_stop_is_never_cancelled_before_its_successor_is_seen(
    exchange: PaperExchange,
) -> None:
    position, watcher = hold(), Watcher()
    plan = plan_of(position)
    assert plan is not None
    for level in plan.levels[:2]:
        exchange.set_mark("BTCUSDT", str(level.price))
        tick(watcher, level.price)
        position = fresh(position)
        assert position.protection == Protection.VERIFIED
    (hard,) = orders_of(position, OrderPurpose.HARD_STOP)
    first, second = orders_of(position, OrderPurpose.WORKING_STOP)
    ends = [
        (row["client_order_id"], row["kind"])
        for row in exchange.ledger()
        if row["account"] == position.account.name and row["store"] == "conditional"
    ]
    assert ends == [
        (hard.client_order_id, "PLACED"),
        (first.client_order_id, "PLACED"),
        (second.client_order_id, "PLACED"),
        (first.client_order_id, "CANCELED"),
    ]
    assert second.trigger_price is not None
    assert first.trigger_price is not None
    assert second.trigger_price > first.trigger_price


def test_incident_10_a_short_has_its_stop_above_and_nothing_else_is_taken_in() -> None:
    with pytest.raises(SignalRefused, match="STOP_WRONG_SIDE"):
        a_signal(side="SHORT", stop_price="98000", take_profit_price="94000")
    assert not Signal.objects.exists()
    position = hold("SHORT")
    (stop,) = stops_there(position.account)
    assert stop.trigger_price is not None
    assert stop.trigger_price > position.entry_price
    assert stop.side == OrderSide.BUY


def test_incident_12_levels_are_measured_from_the_fill_and_not_from_the_signal() -> None:
    account = fit_accounts(1)[0]
    carried_out(a_signal(entry_price="99900"))
    position = Position.objects.get(account=account)
    (entry,) = Order.objects.filter(account=account, purpose=OrderPurpose.ENTRY)
    plan = plan_of(position)
    assert plan is not None
    assert plan.entry_price == position.entry_price == entry.average_price
    assert plan.entry_price > Decimal(100_000)
    assert plan.stop_price < plan.entry_price < plan.levels[0].price


def test_incident_13_leverage_that_was_not_read_back_as_asked_enters_nothing(exchange: PaperExchange) -> None:
    account = fit_accounts(1)[0]
    account.symbol_settings.update(leverage=20)
    (share,) = carried_out(a_signal())
    assert (share.outcome, share.code) == ("DENIED", DenyCode.SETTINGS)
    assert placed(exchange, account) == []
    read_back(account, BTC)
    (share,) = carried_out(a_signal(score="0.81"))
    assert share.outcome == "FILLED"


def test_incident_15_a_position_that_is_gone_at_the_exchange_blocks_nothing() -> None:
    position = hold()
    sell_elsewhere(position, position.quantity)
    audit(position.account)
    gone = fresh(position)
    assert (gone.status, gone.quantity) == (PositionStatus.CLOSED, Decimal(0))
    assert gone.exit_price is not None
    set_columns(position.account, fresh_at=now())
    (share,) = carried_out(a_signal(side="SHORT"))
    assert share.outcome == "FILLED"


def test_incident_16_an_error_of_the_exchange_closes_nothing_in_our_rows(exchange: PaperExchange) -> None:
    position = hold()
    exchange.add_fault(kind="http", endpoint=POSITIONS, account=position.account.name, count=0, status=503)
    audit(position.account)
    exchange.delete("/paper/faults")
    exchange.add_fault(kind="empty_body", endpoint=POSITIONS, account=position.account.name, count=0)
    audit(position.account)
    unchanged = fresh(position)
    assert (unchanged.status, unchanged.quantity) == (PositionStatus.OPEN, position.quantity)
    assert unchanged.protection == Protection.VERIFIED
    assert orders_of(position, OrderPurpose.EXIT) == []


def test_incident_18_an_exit_is_reduce_only_and_of_a_quantity_the_exchange_takes(
    exchange: PaperExchange,
) -> None:
    position = hold()
    plan = plan_of(position)
    assert plan is not None
    target = plan.levels[0].price
    exchange.set_mark("BTCUSDT", str(target))
    tick(Watcher(), target)
    (leg,) = orders_of(position, OrderPurpose.EXIT)
    assert leg.status == OrderStatus.FILLED
    sent = next(
        row for row in placed(exchange, position.account) if row["client_order_id"] == leg.client_order_id
    )
    assert sent["reduce_only"] is True
    assert Decimal(sent["quantity"]) % Decimal("0.001") == 0
    assert "REJECTED" not in told(exchange, leg)


def test_incident_22_a_level_seen_twenty_times_is_harvested_once(exchange: PaperExchange) -> None:
    position = hold()
    plan = plan_of(position)
    assert plan is not None
    target = plan.levels[0].price
    for step in range(20):
        # A restarted watcher each time, and a price that drifts.
        tick(Watcher(), target + Decimal(step) / 100)
    (leg,) = orders_of(position, OrderPurpose.EXIT)
    (held,) = held_there(position.account)
    assert leg.quantity is not None
    assert held.quantity == position.quantity - leg.quantity


def test_incident_23_three_hours_without_a_worker_send_nothing_late(exchange: PaperExchange) -> None:
    account = fit_accounts(1)[0]
    decision = request(a_signal(), now())
    entries = allocate(decision.pk, now()).entries
    later = now() + timedelta(hours=3)
    rung = sweeping.sweep(later)
    assert rung.entries == entries
    execution.submit(rung.entries, later)
    settle([decision.pk], later)
    (share,) = decision.allocations.all()
    assert (share.outcome, share.code) == ("EXPIRED", "DEADLINE")
    assert placed(exchange, account) == []
    assert sweeping.sweep(later).entries == []


def test_incident_25_what_was_closed_counts_no_more() -> None:
    account = fit_accounts(1)[0]
    coins = ("ETH", "SOL", "XRP", "BNB", "DOGE")
    open_ones = [a_position(account, f"{coin}/USDT:USDT", quantity="0.001") for coin in coins]
    (share,) = carried_out(a_signal())
    assert (share.outcome, share.code) == ("DENIED", DenyCode.MAX_POSITIONS)
    for position in open_ones:
        Position.objects.filter(pk=position.pk).update(status=PositionStatus.CLOSED, quantity=0)
    (share,) = carried_out(a_signal(score="0.81", side="SHORT"))
    assert share.outcome == "FILLED"
