"""Executions become rows once, on the order they belong to, whatever road they came by."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection

from accounts.models import Account
from exchange.port import FillReport, Market, OrderSide
from trading.domain.states import OrderPurpose, OrderStatus
from trading.models import Fill, Order, Position
from trading.services.fills import record_fills
from trading.services.orders import new_stop
from trading.tests.services.journey import BTC, ETH, fit_accounts, now
from trading.tests.services.sending import an_entry, share_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("unthrottled", "paper_exchange")]


def an_order_there(quantity: str = "0.010", **changes: Any) -> Order:
    """An entry the exchange has as order 77, nothing of it filled yet."""
    told = {"status": OrderStatus.ACKNOWLEDGED, "exchange_order_id": "77"}
    return an_entry(quantity=quantity, **told | changes)


def an_execution(quantity: str = "0.010", price: str = "100000", **changes: Any) -> FillReport:
    told: dict[str, Any] = {
        "trade_id": str(uuid4().int % 10**12),
        "exchange_order_id": "77",
        "symbol": BTC,
        "side": OrderSide.BUY,
        "price": Decimal(price),
        "quantity": Decimal(quantity),
        "fee": Decimal("0.4"),
        "fee_asset": "USDT",
        "filled_at": now(),
    }
    return FillReport(**told | changes)


def record(account: Account, *reports: FillReport) -> Any:
    return record_fills(account, Market.FUTURES, reports, now())


def test_the_same_execution_from_two_roads_is_one_row_and_moves_the_position_once() -> None:
    order = an_order_there()
    by_lookup = an_execution(trade_id="1001")
    by_stream = an_execution(trade_id="1001", client_order_id=order.client_order_id)
    assert record(order.account, by_lookup)
    assert not record(order.account, by_stream)
    assert not record(order.account, by_lookup, by_stream)
    assert Fill.objects.filter(account=order.account).count() == 1
    assert Position.objects.get(account=order.account).quantity == Decimal("0.010")


def test_the_average_price_is_that_of_the_executions() -> None:
    order = an_order_there("0.030")
    record(order.account, an_execution("0.010", "100000"))
    record(order.account, an_execution("0.020", "100030"))
    order.refresh_from_db()
    assert (order.filled_quantity, order.average_price) == (Decimal("0.030"), Decimal(100020))
    assert (order.status, order.fills_complete) == (OrderStatus.FILLED, True)


def test_a_part_does_not_end_the_order() -> None:
    order = an_order_there("0.030")
    record(order.account, an_execution("0.010"))
    order.refresh_from_db()
    assert (order.status, order.filled_quantity) == (OrderStatus.ACKNOWLEDGED, Decimal("0.010"))
    assert order.finished_at is None


def test_the_same_order_number_on_another_symbol_is_another_order() -> None:
    order = an_order_there()
    record(order.account, an_execution(symbol=ETH, price="3000"))
    order.refresh_from_db()
    assert order.filled_quantity == 0
    assert Fill.objects.get(account=order.account).order is None


def test_the_same_trade_number_on_another_symbol_is_another_execution() -> None:
    order = an_order_there()
    record(order.account, an_execution(trade_id="5"), an_execution(trade_id="5", symbol=ETH, price="3000"))
    assert Fill.objects.filter(account=order.account).count() == 2


def test_the_same_order_number_on_another_account_is_another_order() -> None:
    order = an_order_there()
    (stranger,) = fit_accounts(1)
    record(stranger, an_execution())
    order.refresh_from_db()
    assert order.filled_quantity == 0


def a_stop_there(market: Market, **changes: Any) -> Order:
    entry = an_order_there()
    record(entry.account, an_execution())
    position = Position.objects.get(account=entry.account)
    position.market = market
    stop = new_stop(
        position,
        purpose=OrderPurpose.WORKING_STOP,
        trigger_price=Decimal(99000),
        quantity=Decimal("0.010"),
        close_position=False,
        price=Decimal(96000),
        now=now(),
    )
    stop.status = OrderStatus.ACKNOWLEDGED
    for name, value in changes.items():
        setattr(stop, name, value)
    stop.save()
    return stop


def test_a_futures_stop_is_known_by_the_order_it_became_not_by_its_own_number() -> None:
    stop = a_stop_there(Market.FUTURES, exchange_order_id="900", triggered_order_id="901")
    sold = {"side": OrderSide.SELL, "price": "98990"}
    record(stop.account, an_execution("0.001", exchange_order_id="900", **sold))
    stop.refresh_from_db()
    assert stop.filled_quantity == 0
    record(stop.account, an_execution("0.009", exchange_order_id="901", **sold))
    stop.refresh_from_db()
    assert stop.filled_quantity == Decimal("0.009")


def test_a_spot_stop_is_known_by_its_own_number() -> None:
    stop = a_stop_there(Market.SPOT, exchange_order_id="900")
    sold = an_execution(exchange_order_id="900", side=OrderSide.SELL, price="98990")
    record_fills(stop.account, Market.SPOT, [sold], now())
    stop.refresh_from_db()
    assert stop.filled_quantity == Decimal("0.010")


def test_a_strangers_execution_is_kept_and_belongs_to_no_order() -> None:
    order = an_order_there()
    record(order.account, an_execution(exchange_order_id="4242"))
    order.refresh_from_db()
    fill = Fill.objects.get(account=order.account)
    assert (fill.order, fill.position, order.filled_quantity) == (None, None, Decimal(0))


def test_an_execution_taken_for_a_strangers_comes_back_to_its_order_once_its_number_is_known() -> None:
    order = an_order_there(status=OrderStatus.UNKNOWN, exchange_order_id="")
    report = an_execution()
    record(order.account, report)
    assert not Position.objects.filter(account=order.account).exists()
    Order.objects.filter(pk=order.pk).update(exchange_order_id="77", status=OrderStatus.ACKNOWLEDGED)
    record(order.account, report)
    order.refresh_from_db()
    assert (order.status, order.filled_quantity) == (OrderStatus.FILLED, Decimal("0.010"))
    assert Position.objects.get(account=order.account).quantity == Decimal("0.010")
    assert Fill.objects.get(account=order.account).order == order
    assert not record(order.account, report)


@pytest.mark.parametrize("ended", [OrderStatus.EXPIRED, OrderStatus.CANCELLED])
def test_a_late_execution_corrects_an_order_that_was_thought_to_have_ended(ended: OrderStatus) -> None:
    order = an_order_there(status=ended, code="NOT_PLACED", fills_complete=True, finished_at=now())
    bells = record(order.account, an_execution())
    order.refresh_from_db()
    assert (order.status, order.filled_quantity) == (OrderStatus.FILLED, Decimal("0.010"))
    assert bells.decisions == [share_of(order).decision_id]


@pytest.mark.django_db(transaction=True)
def test_two_roads_at_the_same_moment_are_still_one_row() -> None:
    order = an_order_there()
    report = an_execution(trade_id="1001")

    def book(_: int) -> None:
        try:
            record(order.account, report)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as roads:
        list(roads.map(book, range(4)))
    assert Fill.objects.filter(account=order.account).count() == 1
    assert Position.objects.get(account=order.account).initial_quantity == Decimal("0.010")
