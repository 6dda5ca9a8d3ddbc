"""Executions become positions: the fold, the plan it leaves, and every way a position ends."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
from pytest_django import Settings

from exchange.port import FillReport, Market, OrderSide
from tests.processes import PaperExchange
from trading.domain.exit_plan import ExitPolicy
from trading.domain.states import CloseReason, OrderPurpose, PositionStatus, Protection
from trading.models import Fill, Order, Position
from trading.services import audits, monitoring
from trading.services.bells import Bells
from trading.services.closing import request_close, settle_flat
from trading.services.fills import record_fills
from trading.services.plans import plan_of
from trading.tests.services.holding import (
    MARK,
    ZERO,
    answer,
    codes_of,
    enter,
    fresh,
    held_there,
    hold,
    orders_of,
    pinned_mark,
    read_fills,
    sell_elsewhere,
    stops_there,
    visit,
)
from trading.tests.services.journey import BTC, WEATHER, now

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def exchange(paper_exchange: PaperExchange, settings: Settings) -> Iterator[PaperExchange]:
    settings.GATE_OFF = WEATHER
    with pinned_mark(paper_exchange):
        yield paper_exchange


def a_fill(order: Order, quantity: str, price: str, **changes: object) -> FillReport:
    """An execution of an order as the exchange might report it."""
    told: dict[str, object] = {
        "trade_id": str(uuid4().int % 10**12),
        "exchange_order_id": order.exchange_order_id,
        "symbol": order.symbol,
        "side": OrderSide(order.side),
        "price": Decimal(price),
        "quantity": Decimal(quantity),
        "fee": Decimal(0),
        "fee_asset": "USDT",
        "filled_at": now(),
        "client_order_id": order.client_order_id,
    }
    return FillReport(**(told | changes))  # type: ignore[arg-type]  # a test names the fields


def the_entry(position: Position) -> Order:
    return Order.objects.get(position=position, purpose=OrderPurpose.ENTRY)


def booked(position: Position, *reports: FillReport) -> Bells:
    return record_fills(position.account, Market(position.market), reports, now())


def test_the_first_fill_leaves_a_planned_position_and_its_hard_stop_in_one_commit() -> None:
    position = enter()
    stop = orders_of(position, OrderPurpose.HARD_STOP)[0]
    fills = list(position.fills.all())
    quantity = sum(fill.quantity for fill in fills)
    assert (
        quantity == position.quantity == position.initial_quantity == held_there(position.account)[0].quantity
    )
    assert position.entry_price == sum(fill.price * fill.quantity for fill in fills) / quantity
    assert position.fees == sum(fill.fee for fill in fills)
    plan = plan_of(position)
    assert plan is not None
    assert (plan.entry_price, plan.leverage, plan.policy) == (
        position.entry_price,
        Decimal(3),
        ExitPolicy.ADAPTIVE,
    )
    assert stop.trigger_price == plan.hard_stop_price == position.stop_price
    assert (stop.side, stop.close_position, stop.reduce_only, stop.quantity) == ("sell", True, False, None)
    assert (position.protection, position.unprotected_since) == (Protection.UNPROTECTED, fills[0].filled_at)
    assert stops_there(position.account) == []


def test_what_the_decision_did_not_know_is_named_in_the_plan() -> None:
    plan = plan_of(enter())
    assert plan is not None
    assert plan.unknown == ("divergence", "volatility")


def test_the_same_execution_told_twice_changes_nothing() -> None:
    position = enter()
    before = (position.quantity, Fill.objects.count(), Order.objects.count())
    assert not read_fills(position)
    position = fresh(position)
    assert (position.quantity, Fill.objects.count(), Order.objects.count()) == before


def test_a_worse_second_fill_moves_the_levels_and_never_loosens_the_stop() -> None:
    position = enter()
    stop, targets = position.stop_price, plan_of(position).levels  # type: ignore[union-attr]  # just planned
    booked(position, a_fill(the_entry(position), str(position.quantity), "98000"))
    after = fresh(position)
    assert after.quantity == position.quantity * 2
    assert after.entry_price < position.entry_price
    assert after.stop_price == stop
    plan = plan_of(after)
    assert plan is not None
    assert plan.levels[0].price < targets[0].price
    assert sum(level.quantity for level in plan.levels) == after.quantity
    assert len(orders_of(after, OrderPurpose.HARD_STOP)) == 1


def test_a_planned_loss_over_a_quarter_above_the_budget_is_reduced_at_once() -> None:
    position = enter()
    Position.objects.filter(pk=position.pk).update(planned_risk=position.planned_risk / 2)  # type: ignore[operator]
    booked(position, a_fill(the_entry(position), "0.001", "100100"))
    wanted = fresh(position)
    assert wanted.reduction["reason"] == CloseReason.EXCESS
    assert wanted.closing_for == ""
    after = visit(wanted)
    assert after.reduction == {}
    assert after.quantity == wanted.quantity - Decimal(wanted.reduction["quantity"])
    (exit_order,) = orders_of(after, OrderPurpose.EXIT)
    assert (exit_order.reason, exit_order.reduce_only, exit_order.type) == ("EXCESS", True, "market")


def test_a_loss_inside_the_tolerance_is_left_alone() -> None:
    position = enter()
    assert position.reduction == {}
    assert orders_of(position, OrderPurpose.EXIT) == []


def test_a_fired_stop_closes_with_its_reason_its_money_and_the_time_of_its_fill(
    exchange: PaperExchange,
) -> None:
    position = hold()
    exchange.set_mark("BTCUSDT", "98000")
    answer(settle_flat([position.pk], now()))
    closed = fresh(position)
    last = closed.fills.latest("filled_at")
    assert (closed.status, closed.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_LOSS)
    assert (closed.quantity, closed.closed_at) == (ZERO, last.filled_at)
    assert closed.realized_profit == sum(fill.realized_profit for fill in closed.fills.all())
    assert closed.realized_profit < 0
    assert closed.fees == sum(fill.fee for fill in closed.fills.all())
    assert closed.check_at is None
    assert held_there(position.account) == []
    assert orders_of(closed, OrderPurpose.EXIT) == []


def test_a_share_sold_by_a_stranger_is_booked_as_foreign() -> None:
    position = hold()
    sell_elsewhere(position, position.quantity)
    answer(read_fills(position))
    assert (fresh(position).status, fresh(position).close_reason) == ("CLOSED", CloseReason.FOREIGN)


@pytest.mark.parametrize(
    ("client_order_id", "reason"),
    [
        ("autoclose-1732130000000", CloseReason.LIQUIDATED),
        ("adl_autoclose", CloseReason.ADL),
        ("settlement_autoclose-1", CloseReason.SETTLED),
    ],
)
def test_what_the_exchange_closed_itself_is_named(client_order_id: str, reason: CloseReason) -> None:
    position = enter()
    taken = a_fill(
        the_entry(position),
        str(position.quantity),
        "97000",
        side=OrderSide.SELL,
        exchange_order_id="99999999",
        client_order_id=client_order_id,
    )
    booked(position, taken)
    assert fresh(position).close_reason == reason


def test_a_strangers_purchase_is_counted_beside_ours_and_never_into_it() -> None:
    position = hold()
    stranger = a_fill(
        the_entry(position), "0.500", "100000", exchange_order_id="88888888", client_order_id="someone"
    )
    booked(position, stranger)
    after = fresh(position)
    assert (after.quantity, after.foreign_quantity) == (position.quantity, Decimal("0.5"))
    assert "FOREIGN_SHARE" in codes_of(after)
    sale = a_fill(
        the_entry(position),
        "0.500",
        "100000",
        side=OrderSide.SELL,
        exchange_order_id="88888889",
        client_order_id="someone2",
    )
    booked(position, sale)
    assert (fresh(position).quantity, fresh(position).foreign_quantity) == (position.quantity, ZERO)


def test_an_entry_fill_that_comes_after_the_close_reopens_the_position_for_a_stop() -> None:
    position = enter()
    entry = the_entry(position)
    booked(position, a_fill(orders_of(position)[0], str(position.quantity), "98000"))
    assert fresh(position).status == PositionStatus.CLOSED
    booked(position, a_fill(entry, "0.010", "100000", filled_at=now() - timedelta(seconds=1)))
    again = fresh(position)
    assert (again.status, again.quantity, again.protection) == ("OPEN", Decimal("0.01"), "UNPROTECTED")
    assert again.check_at is not None
    assert "REOPENED" in codes_of(again)


def another_entry(position: Position) -> Order:
    """One more entry on the symbol, that our rows know only as sent."""
    entry = the_entry(position)
    entry.pk, entry.position, entry.allocation, entry.uuid = None, None, None, uuid4()
    entry.client_order_id, entry.exchange_order_id, entry.filled_quantity = "pxanother", "777", ZERO
    entry.save(force_insert=True)
    return entry


def test_an_entry_fill_that_comes_when_the_next_position_is_open_is_a_part_of_that_one() -> None:
    position = enter()
    late = a_fill(the_entry(position), "0.010", "100000")
    booked(position, a_fill(orders_of(position)[0], str(position.quantity), "98000"))
    booked(position, a_fill(another_entry(position), "0.020", "100000"))
    booked(position, late)
    (held,) = Position.objects.filter(status="OPEN")
    assert (held.pk != position.pk, held.quantity, held.initial_quantity) == (
        True,
        Decimal("0.03"),
        Decimal("0.03"),
    )
    assert fresh(position).status == "CLOSED"


def shown_as_a_strangers(position: Position) -> Position:
    """The row that monitoring gives to what our rows do not explain."""
    answer(monitoring.audit([position.account], audits.watched_symbols([position.account], now()), now()))
    shown = Position.objects.get(status="OPEN")
    assert shown.is_foreign
    return shown


def test_what_was_shown_as_a_strangers_is_ours_once_our_entry_turns_out_to_have_filled_it() -> None:
    position = enter()
    entry, (fill,) = the_entry(position), position.fills.all()
    told = a_fill(entry, str(fill.quantity), str(fill.price), trade_id="1", filled_at=fill.filled_at)
    Order.objects.exclude(pk=entry.pk).delete()
    position.fills.all().delete()
    Order.objects.filter(pk=entry.pk).update(
        position=None, status="EXPIRED", code="NOT_PLACED", filled_quantity=0, submitted_at=fill.filled_at
    )
    Order.objects.filter(pk=entry.pk).update(acknowledged_at=None, fills_complete=True)
    Position.objects.filter(pk=position.pk).delete()
    shown_as_a_strangers(position)
    booked(position, told)
    (ours,) = Position.objects.filter(status="OPEN")
    assert (ours.is_foreign, ours.quantity, ours.foreign_quantity) == (False, fill.quantity, ZERO)
    answer(request_close(ours.pk, reason=CloseReason.MANUAL, now=now()))
    assert held_there(position.account) == []


def test_a_rest_that_was_shown_as_a_strangers_is_ours_again_with_its_late_fill() -> None:
    position = enter()
    late = a_fill(the_entry(position), "0.010", "100000")
    booked(position, a_fill(orders_of(position)[0], str(position.quantity), "98000"))
    shown = Position.objects.create(
        account=position.account,
        market=Market.FUTURES,
        symbol=BTC,
        base="BTC",
        is_long=True,
        is_foreign=True,
        quantity=Decimal("0.012"),
        initial_quantity=Decimal("0.012"),
        entry_price=MARK,
        opened_at=now(),
    )
    booked(position, late)
    again = fresh(position)
    assert (again.status, again.quantity) == ("OPEN", Decimal("0.01"))
    assert again.foreign_quantity == Decimal("0.002")
    assert fresh(shown).status == "CLOSED"


def test_a_close_known_before_the_entrys_last_fill_folds_the_same_and_keeps_its_reason() -> None:
    position = enter()
    entry = the_entry(position)
    whole = position.quantity + Decimal("0.010")
    sold = a_fill(
        entry,
        str(whole),
        "98000",
        side=OrderSide.SELL,
        exchange_order_id="99999998",
        client_order_id="autoclose-1",
        filled_at=now() - timedelta(seconds=1),
    )
    booked(position, sold)
    booked(position, a_fill(entry, "0.010", "100000", filled_at=position.opened_at))
    closed = fresh(position)
    assert (closed.status, closed.quantity, closed.initial_quantity) == ("CLOSED", ZERO, whole)
    assert (closed.close_reason, closed.closed_at) == (CloseReason.LIQUIDATED, sold.filled_at)


def test_on_spot_the_fee_is_taken_from_the_coins_and_the_stop_covers_what_is_left() -> None:
    position = hold(executors=(Market.SPOT,))
    bought = sum(fill.quantity for fill in position.fills.all())
    fees = sum(fill.fee for fill in position.fills.all())
    assert position.leverage == 1
    assert position.quantity == bought - fees < bought
    (stop,) = orders_of(position, OrderPurpose.HARD_STOP)
    assert stop.quantity is not None
    assert stop.quantity <= position.quantity < stop.quantity + Decimal("0.00001")
    assert (stop.type, stop.reduce_only, stop.close_position) == ("stop_limit", False, False)
    assert stop.price is not None
    assert abs(stop.price / position.stop_price - Decimal("0.97")) < Decimal("0.0001")  # type: ignore[operator]
    assert position.protection == Protection.VERIFIED


def test_a_spot_remainder_that_cannot_be_sold_is_closed_and_named() -> None:
    position = hold(executors=(Market.SPOT,))
    stop = orders_of(position)[0]
    sold = position.quantity.quantize(Decimal("0.00001"), rounding="ROUND_FLOOR")
    booked(position, a_fill(stop, str(sold), "98000"))
    closed = fresh(position)
    assert (closed.status, closed.close_reason, closed.quantity) == ("CLOSED", CloseReason.STOP_LOSS, ZERO)
    last = closed.events.last()
    assert last is not None
    assert (last.code, Decimal(last.detail["dust"]), last.detail["asset"]) == (
        "CLOSED",
        position.quantity - sold,
        "BTC",
    )


def test_a_stranger_who_held_the_symbol_first_keeps_his_share_out_of_ours() -> None:
    position = enter()
    account = position.account
    Position.objects.filter(pk=position.pk).update(status="CLOSED")
    theirs = Position.objects.create(
        account=account,
        market=Market.FUTURES,
        symbol=BTC,
        base="BTC",
        is_long=True,
        is_foreign=True,
        quantity=Decimal(2),
        initial_quantity=Decimal(2),
        entry_price=MARK,
        opened_at=now(),
    )
    entry = the_entry(position)
    entry.pk, entry.position, entry.client_order_id, entry.uuid = None, None, "pxanother", uuid4()
    entry.exchange_order_id = "777"
    entry.save(force_insert=True)
    record_fills(account, Market.FUTURES, [a_fill(entry, "0.010", "100000")], now())
    ours = Position.objects.get(account=account, status="OPEN")
    assert (ours.is_foreign, ours.quantity, ours.foreign_quantity) == (False, Decimal("0.01"), Decimal(2))
    assert fresh(theirs).status == "CLOSED"
    (stop,) = orders_of(ours)
    assert (stop.close_position, stop.quantity, stop.reduce_only) == (False, Decimal("0.01"), True)
