"""The first order of an exit leaves with its intent where the account's stream tells what is open."""

from collections.abc import Iterator
from decimal import Decimal

import pytest
from pytest_django import Settings

from accounts.models import Account
from tests.processes import PaperExchange
from trading.domain.exits import MarkSpan
from trading.domain.states import CloseReason, OrderPurpose, PositionStatus
from trading.models import Position
from trading.services.plans import plan_of
from trading.services.watching import evaluate
from trading.tests.services.holding import (
    answer,
    enter,
    fresh,
    held_there,
    hold,
    orders_of,
    pinned_mark,
    visit,
)
from trading.tests.services.journey import WEATHER, now

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def exchange(paper_exchange: PaperExchange, settings: Settings) -> Iterator[PaperExchange]:
    settings.GATE_OFF = WEATHER
    with pinned_mark(paper_exchange):
        yield paper_exchange


def hear(position: Position) -> Position:
    """Its account's stream was just proven alive."""
    Account.objects.filter(pk=position.account_id).update(heard_at=now())
    return fresh(position)


def target(position: Position, number: int) -> Decimal:
    plan = plan_of(fresh(position))
    assert plan is not None
    return plan.levels[number - 1].price


def stop(position: Position) -> Decimal:
    assert position.stop_price is not None
    return position.stop_price


def test_a_target_is_ordered_in_the_commit_that_wants_it(exchange: PaperExchange) -> None:
    position = hear(hold())
    exchange.set_mark("BTCUSDT", str(target(position, 1)))
    bells = evaluate({position.pk: MarkSpan.at(target(position, 1))}, now())
    (order,) = orders_of(position, OrderPurpose.EXIT)
    assert (bells.exits, bells.positions) == ([order.pk], [])
    assert (order.status, order.reason, order.legs, order.attempt) == ("PENDING", "TAKE_PROFIT_1", [1], 1)
    assert (order.reduce_only, order.quantity) == (True, Decimal(fresh(position).reduction["quantity"]))
    answer(bells)
    after = visit(position)
    assert order.quantity is not None
    assert after.quantity == position.quantity - order.quantity == held_there(after.account)[0].quantity
    assert (after.reduction, len(orders_of(position, OrderPurpose.EXIT))) == ({}, 1)


def test_a_stop_that_rests_nowhere_is_closed_at_once() -> None:
    position = hear(enter())
    bells = evaluate({position.pk: MarkSpan.at(stop(position))}, now())
    assert len(bells.exits) == 1
    answer(bells)
    closed = visit(position)
    assert (closed.status, closed.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_LOSS)
    assert len(orders_of(position, OrderPurpose.EXIT)) == 1


def test_a_stop_that_was_seen_at_the_exchange_still_comes_first() -> None:
    position = hear(hold())
    bells = evaluate({position.pk: MarkSpan.at(stop(position))}, now())
    assert (bells.exits, orders_of(position, OrderPurpose.EXIT)) == ([], [])
    assert fresh(position).crossed_at is not None


def test_without_its_stream_the_exchange_is_read_first() -> None:
    position = hold()
    bells = evaluate({position.pk: MarkSpan.at(target(position, 1))}, now())
    assert (bells.exits, bells.positions) == ([], [position.pk])
    assert orders_of(position, OrderPurpose.EXIT) == []


def test_beside_a_strangers_share_the_exchange_is_read_first() -> None:
    position = hear(hold())
    Position.objects.filter(pk=position.pk).update(foreign_quantity=1)
    bells = evaluate({position.pk: MarkSpan.at(target(position, 1))}, now())
    assert (bells.exits, bells.positions) == ([], [position.pk])


def test_while_an_exit_lives_no_second_one_is_ordered(exchange: PaperExchange) -> None:
    position = hear(hold())
    exchange.set_mark("BTCUSDT", str(target(position, 2)))
    first = evaluate({position.pk: MarkSpan.at(target(position, 1))}, now())
    second = evaluate({position.pk: MarkSpan.at(target(position, 2))}, now())
    assert (len(first.exits), second.exits, second.positions) == (1, [], [position.pk])
    answer(first)
    answer(second)
    after = visit(position)
    assert [order.reason for order in orders_of(after, OrderPurpose.EXIT)] == [
        "TAKE_PROFIT_1",
        "TAKE_PROFIT_2",
    ]
    assert after.quantity == held_there(after.account)[0].quantity


def test_a_thousand_crossed_levels_cost_no_more_statements_than_one(
    django_assert_max_num_queries: Iterator[object],
) -> None:
    position = hear(hold())
    with django_assert_max_num_queries(12):  # type: ignore[operator]
        evaluate({position.pk: MarkSpan.at(target(position, 1))}, now())
