"""Taking exits and stops: claimed and SUBMITTED in one statement, with the conditions of both steps."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from threading import Barrier

import pytest
from django.db import DatabaseError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from accounts.models import Account
from trading.domain.states import CloseReason, OrderPurpose, OrderStatus, PositionStatus, SkipCode
from trading.models import Order, Position
from trading.services import execution
from trading.services.execution import claiming
from trading.services.quick_exits import close_in_sets
from trading.tests.services.holding import held_there
from trading.tests.services.journey import WEATHER, fit_accounts, now
from trading.tests.services.sending import an_entry, send

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("unthrottled", "faults")]


@pytest.fixture
def held(settings: Settings) -> list[Position]:
    """Positions of two accounts whose streams were just proven alive."""
    settings.GATE_OFF = WEATHER
    send(*(an_entry(account) for account in fit_accounts(2)))
    Account.objects.update(heard_at=now())
    return list(Position.objects.select_related("account").order_by("pk"))


def ordered(held: list[Position]) -> list[Order]:
    """Want them closed: the exits of that commit, not yet sent."""
    (bells,) = close_in_sets([position.pk for position in held], CloseReason.FLATTEN, now())
    assert len(bells.exits) == len(held)
    return list(Order.objects.filter(pk__in=bells.exits).order_by("pk"))


def ids(orders: list[Order]) -> list[int]:
    return [order.pk for order in orders]


def test_exits_are_taken_in_one_statement_where_the_database_can(held: list[Position]) -> None:
    first, second = ordered(held)
    claiming.take([first.pk], now())  # the words are worked out at the first use
    before = timezone.now()
    with CaptureQueriesContext(connection) as asked:
        (taken,), ended = claiming.take([second.pk], now())
        told = (taken.account.name, taken.position, taken.client_order_id, taken.quantity)
    second.refresh_from_db()
    if connection.vendor == "postgresql":
        assert len(asked) == 1
    assert ended == []
    assert told == (held[1].account.name, held[1], second.client_order_id, second.quantity)
    assert (second.status, second.fence) == (OrderStatus.SUBMITTED, 1) == (taken.status, taken.fence)
    assert (second.claimed_by, second.request_timestamp_ms) == (taken.claimed_by, taken.request_timestamp_ms)
    assert second.submitted_at is not None
    assert before <= second.submitted_at <= timezone.now()
    assert second.lease_until == second.due_at == second.submitted_at + claiming.LEASE
    assert abs((second.request_timestamp_ms or 0) - timezone.now().timestamp() * 1000) < 5_000


def test_what_was_taken_is_nobody_elses(held: list[Position]) -> None:
    orders = ordered(held)
    assert len(claiming.take(ids(orders), now())[0]) == 2
    assert claiming.take(ids(orders), now()) == ([], [])


def test_a_claim_that_holds_is_left_and_one_that_lapsed_is_taken_over(held: list[Position]) -> None:
    orders = ordered(held)
    first, second = claiming.claim(ids(orders))
    Order.objects.filter(pk=second.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    taken, _ = claiming.take(ids(orders), now())
    assert [(order.pk, order.fence) for order in taken] == [(second.pk, 2)]
    assert ids(claiming.mark_submitted([first, second], now())) == [first.pk], (
        "its former owner sends nothing"
    )


def test_what_has_to_wait_waits(held: list[Position]) -> None:
    first, second = ordered(held)
    Order.objects.filter(pk=first.pk).update(due_at=timezone.now() + timedelta(seconds=5))
    taken, ended = claiming.take([first.pk, second.pk], now())
    assert (ids(taken), ended) == ([second.pk], [])


def test_an_exit_whose_position_was_closed_meanwhile_ends_unsent(held: list[Position]) -> None:
    first, second = ordered(held)
    Position.objects.filter(pk=held[0].pk).update(status=PositionStatus.CLOSED)
    taken, ended = claiming.take([first.pk, second.pk], now())
    assert (ids(taken), ids(ended)) == ([second.pk], [first.pk])
    first.refresh_from_db()
    assert (first.status, first.code) == (OrderStatus.CANCELLED, SkipCode.OUTLIVED)


def test_an_exit_that_would_reach_into_a_strangers_share_ends_unsent(held: list[Position]) -> None:
    orders = ordered(held)
    beside = {"foreign_quantity": Decimal("0.001"), "quantity": Decimal("0.002")}
    Position.objects.filter(pk=held[0].pk).update(**beside)
    Position.objects.filter(pk=held[1].pk).update(foreign_quantity=Decimal("0.001"))
    taken, ended = claiming.take(ids(orders), now())
    assert (ids(taken), ids(ended)) == ([orders[1].pk], [orders[0].pk])


def test_an_entry_among_exits_takes_every_step(held: list[Position]) -> None:
    late = an_entry(held[0].account, quantity="0.002")
    Order.objects.filter(pk=late.pk).update(deadline_at=now() - timedelta(seconds=1))
    (exit_order, _) = ordered(held)
    taken, ended = claiming.take([late.pk, exit_order.pk], now())
    assert (ids(taken), ids(ended)) == ([exit_order.pk], [late.pk])


def test_where_no_clock_was_measured_exits_go_step_by_step(
    held: list[Position], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claiming, "measured_clocks", lambda _: {})
    orders = ordered(held)
    execution.submit(ids(orders), now())
    assert {order.status for order in Order.objects.filter(purpose=OrderPurpose.EXIT)} == {OrderStatus.FILLED}
    assert [held_there(position.account) for position in held] == [[], []]


def test_what_is_taken_is_sent_although_the_rest_cannot_be_claimed(
    held: list[Position], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left unsent, they would be SUBMITTED and looked up for half a minute."""
    orders = ordered(held)
    Position.objects.filter(pk=held[1].pk).update(foreign_quantity=Decimal("0.001"))

    def fail(_: object) -> list[Order]:
        raise DatabaseError

    monkeypatch.setattr(claiming, "claim", fail)
    taken, _ = claiming.take(ids(orders), now())
    assert ids(taken) == [orders[0].pk]
    with pytest.raises(DatabaseError):
        claiming.take([orders[1].pk], now())


@pytest.mark.django_db(transaction=True)
def test_of_two_workers_with_the_same_exits_each_is_taken_by_one(held: list[Position]) -> None:
    orders, barrier = ordered(held), Barrier(2)

    def take() -> list[int]:
        try:
            barrier.wait(10)
            return ids(claiming.take(ids(orders), now())[0])
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        taken = [one.result(20) for one in [pool.submit(take), pool.submit(take)]]
    assert sorted(taken[0] + taken[1]) == ids(orders)
