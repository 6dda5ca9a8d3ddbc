"""Every refusal of a stop ends in a stop that was seen or a closed position; none is read as protection."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from pytest_django import Settings
from redis import Redis

from alerts.models import Alert
from tests.processes import PaperExchange
from trading.domain.states import CloseReason, OrderPurpose, OrderStatus, PositionStatus, Protection
from trading.models import Position
from trading.services.bells import Bells
from trading.services.plans import plan_of
from trading.services.watcher import Watcher
from trading.tests.services.holding import (
    answer,
    enter,
    fresh,
    held_there,
    hold,
    ids_of,
    orders_of,
    pinned_mark,
    stops_there,
    tick,
    visit,
)
from trading.tests.services.journey import WEATHER, now

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("unthrottled")]

STOP = "POST /fapi/v1/algoOrder"
CODES = (-2021, -4045, -4118, -4120, -2022, -4130, -1111)
"""Would trigger, too many, reduce-only twice, the wrong store, one exists already, precision."""


@pytest.fixture
def exchange(paper_exchange: PaperExchange, settings: Settings, redis: Redis) -> Iterator[PaperExchange]:
    settings.GATE_OFF = WEATHER
    with pinned_mark(paper_exchange):
        yield paper_exchange


def refuse(exchange: PaperExchange, position: Position, code: int, *, count: int) -> None:
    rule = {"kind": "http", "endpoint": STOP, "status": 400, "message": "refused", "count": count}
    exchange.add_fault(account=position.account.name, code=code, **rule)


@pytest.mark.parametrize("code", CODES)
def test_a_stop_refused_once_is_placed_again_and_seen(exchange: PaperExchange, code: int) -> None:
    position = enter()
    refuse(exchange, position, code, count=1)
    answer(Bells(exits=ids_of(position, live=True)))
    after = visit(position, after_seconds=1.5)
    first, second = orders_of(position, OrderPurpose.HARD_STOP)
    assert (first.status, first.code) == (OrderStatus.REJECTED, str(code))
    assert (second.status, second.is_seen) == (OrderStatus.ACKNOWLEDGED, True)
    assert (after.status, after.protection) == (PositionStatus.OPEN, Protection.VERIFIED)
    assert [stop.client_order_id for stop in stops_there(position.account)] == [second.client_order_id]
    assert orders_of(position, OrderPurpose.EXIT) == []
    assert not Alert.objects.filter(code="STOP_REFUSED", cleared_at=None).exists()


@pytest.mark.parametrize("code", CODES)
def test_a_stop_refused_for_ever_closes_the_position_after_ten_seconds(
    exchange: PaperExchange, code: int
) -> None:
    position = enter()
    refuse(exchange, position, code, count=0)
    answer(Bells(exits=ids_of(position, live=True)), now())  # within one second, however long it takes here
    waiting = fresh(position)
    assert (waiting.status, waiting.protection) == (PositionStatus.OPEN, Protection.UNPROTECTED)
    assert Alert.objects.get(code="STOP_REFUSED").cleared_at is None
    Position.objects.filter(pk=position.pk).update(unprotected_since=now() - timedelta(seconds=15))
    closed = visit(position)
    assert (closed.status, closed.close_reason) == (PositionStatus.CLOSED, CloseReason.UNPROTECTED)
    assert held_there(position.account) == []
    assert len(orders_of(position, OrderPurpose.EXIT)) == 1


@pytest.mark.parametrize("code", [-2021, -4045, -4118, -4120, -1111])
def test_a_working_stop_that_is_refused_leaves_the_hard_one_resting(
    exchange: PaperExchange, code: int
) -> None:
    position = hold()
    plan = plan_of(position)
    assert plan is not None
    refuse(exchange, position, code, count=0)
    exchange.set_mark("BTCUSDT", str(plan.levels[0].price))
    tick(Watcher(), plan.levels[0].price)
    after = fresh(position)
    assert (after.status, after.protection) == (PositionStatus.OPEN, Protection.VERIFIED)
    (resting,) = stops_there(position.account)
    assert resting.trigger_price == plan.hard_stop_price
    exchange.delete("/paper/faults")
    again = visit(position, after_seconds=2)
    assert again.protection == Protection.VERIFIED
    assert {stop.trigger_price for stop in stops_there(position.account)} == {
        plan.hard_stop_price,
        again.stop_price,
    }
