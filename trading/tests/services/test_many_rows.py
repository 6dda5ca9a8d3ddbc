"""Many rows in one statement: each its own values, a compare-and-set all the same, on either database."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import DataError, connection
from django.db.models import Q
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from exchange.port import Market, OrderSide, OrderType
from trading.domain.states import OrderPurpose, OrderStatus
from trading.models import Order, PositionEvent
from trading.services.many_rows import change_rows, insert_rows, new_row
from trading.tests.services.journey import fit_accounts
from trading.tests.services.sending import a_decision, a_held_position, a_share, an_entry

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("unthrottled", "faults")]


def test_each_row_gets_its_own_values_and_all_the_common_ones() -> None:
    first, second, other = an_entry(), an_entry(), an_entry()
    due = timezone.now().replace(microsecond=123_000)
    with CaptureQueriesContext(connection) as asked:
        changed = change_rows(
            Order,
            ("filled_quantity", "message", "due_at", "is_seen", "legs"),
            [
                (first.pk, Decimal("0.000000000001"), "one", due, True, [1]),
                (second.pk, Decimal("12345678901234.5"), 'it\'s "two" %s', None, False, []),
            ],
            same={"status": OrderStatus.FILLED, "lease_until": None},
        )
    for order in (first, second, other):
        order.refresh_from_db()
    assert len(asked) == 1
    assert sorted(changed) == [first.pk, second.pk]
    assert (first.filled_quantity, first.message, first.due_at) == (Decimal("0.000000000001"), "one", due)
    assert (first.is_seen, first.legs, second.legs) == (True, [1], [])
    assert (second.filled_quantity, second.message) == (Decimal("12345678901234.5"), 'it\'s "two" %s')
    assert (second.due_at, first.status, second.status) == (None, OrderStatus.FILLED, OrderStatus.FILLED)
    assert (other.status, other.message) == (OrderStatus.PENDING, "")


def test_a_row_that_no_longer_is_as_described_stays_as_it_is() -> None:
    free, taken = an_entry(), an_entry()
    Order.objects.filter(pk=taken.pk).update(status=OrderStatus.CANCELLED)
    rows = [(free.pk, "moved"), (taken.pk, "moved")]
    only = Q(status=OrderStatus.PENDING) | Q(status=OrderStatus.CLAIMED, fence__gt=3)
    assert change_rows(Order, ("message",), rows, same={"status": OrderStatus.CLAIMED}, only=only) == [
        free.pk
    ]
    taken.refresh_from_db()
    assert (taken.status, taken.message) == (OrderStatus.CANCELLED, "")


def test_a_column_whose_first_value_stays_is_only_filled_where_it_is_empty() -> None:
    empty, full = an_entry(), an_entry()
    earlier, later = timezone.now() - timedelta(minutes=1), timezone.now()
    Order.objects.filter(pk=full.pk).update(acknowledged_at=earlier)
    rows = [(empty.pk, later), (full.pk, later)]
    change_rows(Order, ("acknowledged_at",), rows, first_stays=("acknowledged_at",))
    told = dict(Order.objects.filter(pk__in=[empty.pk, full.pk]).values_list("pk", "acknowledged_at"))
    assert told == {empty.pk: later, full.pk: earlier}


def test_a_column_of_nothing_but_nulls_is_written() -> None:
    orders = [an_entry(), an_entry()]
    Order.objects.update(due_at=timezone.now(), average_price=Decimal(5))
    assert len(change_rows(Order, ("due_at", "average_price"), [(one.pk, None, None) for one in orders])) == 2
    assert not Order.objects.exclude(due_at=None, average_price=None).exists()


def test_no_rows_are_no_statement() -> None:
    with CaptureQueriesContext(connection) as asked:
        assert change_rows(Order, ("message",), []) == []
    assert len(asked) == 0


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no longest text")
def test_a_text_that_is_too_long_is_refused_and_never_cut() -> None:
    with pytest.raises(DataError):
        change_rows(Order, ("code",), [(an_entry().pk, "X" * 41)])


def test_new_rows_get_the_ids_of_their_own_rows() -> None:
    share = a_share(a_decision(), fit_accounts(1)[0])
    orders = [
        Order(
            client_order_id=f"px{number}",
            account=share.account,
            purpose=OrderPurpose.EXIT,
            market=Market.FUTURES,
            symbol="BTC/USDT:USDT",
            base="BTC",
            side=OrderSide.SELL,
            type=OrderType.MARKET,
            quantity=None if number == 2 else Decimal(number),
            legs=[number] if number else [],
            created_at=timezone.now(),
        )
        for number in range(4)
    ]
    insert_rows(Order, orders, known_by="client_order_id")
    for number, order in enumerate(orders):
        row = Order.objects.get(pk=order.pk)
        assert (row.client_order_id, row.legs) == (f"px{number}", [number] if number else [])
        assert row.quantity == (None if number == 2 else Decimal(number))
        assert (row.uuid, row.created_at, row.status) == (order.uuid, order.created_at, OrderStatus.PENDING)
    orders[0].save()
    assert Order.objects.count() == 4


def test_rows_that_are_alike_are_still_rows_of_their_own() -> None:
    position = a_held_position()
    before = PositionEvent.objects.count()
    step = {"position": position, "at": timezone.now(), "code": "LOOKED", "detail": {"n": 1}}
    insert_rows(PositionEvent, [PositionEvent(**step) for _ in range(3)])
    assert PositionEvent.objects.count() == before + 3
    assert PositionEvent.objects.filter(code="LOOKED").values_list("detail", flat=True)[0] == {"n": 1}


def test_new_rows_share_nothing_that_can_change() -> None:
    one, other = new_row(Order), new_row(Order)

    one.legs.append(1)

    assert (other.legs, one.uuid != other.uuid) == ([], True)


def test_a_column_that_is_not_there_is_an_error() -> None:
    with pytest.raises(AssertionError, match="account"):
        new_row(Order, account=1)
