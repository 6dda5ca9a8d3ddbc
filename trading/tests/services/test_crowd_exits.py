"""The exits of a crowd: all leave before anybody is looked after, and the streams tell what they did."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from accounts.models import Account
from accounts.services.gateways import gateway_for
from exchange.loop import IoLoop
from exchange.port import Market
from exchange.stream_events import OrderEvent
from tests.processes import PaperExchange
from trading import tasks
from trading.domain.states import CloseReason, OrderPurpose, OrderStatus, PositionStatus
from trading.models import Order, Position
from trading.services import clearing, emergency, execution, quick_exits, streams, watching
from trading.services.bells import Bells
from trading.services.execution import claiming, recording, sending
from trading.services.quick_exits import close_in_sets
from trading.services.streams import Told
from trading.tests.services.holding import SECONDS, held_there
from trading.tests.services.journey import WEATHER, fit_accounts, now
from trading.tests.services.sending import an_entry, send

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("unthrottled", "faults")]


@pytest.fixture
def held(settings: Settings) -> list[Position]:
    """A position of every account of a crowd, all of whose streams were just proven alive."""
    settings.GATE_OFF = WEATHER
    accounts = fit_accounts(execution.CROWD)
    send(*(an_entry(account) for account in accounts))
    Account.objects.update(heard_at=now())
    held = list(Position.objects.select_related("account").order_by("pk"))
    assert len(held) == execution.CROWD
    return held


def flatten(held: list[Position]) -> Bells:
    """Want them all closed, and send what was ordered in that commit."""
    return execution.submit(ordered(held), now())


def ordered(held: list[Position]) -> list[int]:
    """Want them all closed; the exits of that commit."""
    (bells,) = close_in_sets([position.pk for position in held], CloseReason.FLATTEN, now())
    assert len(bells.exits) == len(held)
    return bells.exits


def executions_read(paper: PaperExchange) -> int:
    return int(paper.get("/paper/status")["requests_by_endpoint"].get("GET /fapi/v1/userTrades", 0))


def exits() -> list[Order]:
    return list(Order.objects.filter(purpose=OrderPurpose.EXIT).select_related("account").order_by("pk"))


def told_by_stream(order: Order) -> Told:
    """What the account's stream tells of an exit that was filled at once."""
    gateway = gateway_for(order.account, Market.FUTURES)
    asked = gateway.fetch_order(order.symbol, order.client_order_id, is_conditional=False)
    report = IoLoop.current().run(asked, SECONDS)
    assert report is not None
    read = gateway.fetch_fills(order.symbol, exchange_order_id=report.exchange_order_id)
    (fill,) = IoLoop.current().run(read, SECONDS)
    named = replace(fill, client_order_id=order.client_order_id)
    return Told(order.account_id, Market.FUTURES, OrderEvent(report, named, now()))


def test_the_executions_of_a_crowds_exits_are_left_to_its_streams(
    paper_exchange: PaperExchange, held: list[Position]
) -> None:
    read = executions_read(paper_exchange)
    bells = flatten(held)
    assert {(order.status, order.fills_complete) for order in exits()} == {(OrderStatus.FILLED, False)}
    assert bells.unread == [order.pk for order in exits()]
    assert bells.positions == [], "nobody is looked after before the executions are known"
    assert executions_read(paper_exchange) == read

    rung = streams.apply([told_by_stream(order) for order in exits()], now())
    assert all(order.fills_complete for order in exits())
    assert {one.close_reason for one in Position.objects.all()} == {CloseReason.FLATTEN}
    assert sorted(rung.positions) == [position.pk for position in held]


def test_what_no_stream_told_of_a_crowds_exits_is_looked_up(held: list[Position]) -> None:
    bells = flatten(held)
    rung = execution.refresh(bells.unread, now())
    assert {one.status for one in Position.objects.all()} == {PositionStatus.CLOSED}
    assert sorted(rung.positions) == [position.pk for position in held]


def test_a_lone_exits_executions_are_read_with_its_answer(
    paper_exchange: PaperExchange, held: list[Position]
) -> None:
    read = executions_read(paper_exchange)
    bells = flatten(held[:1])
    assert executions_read(paper_exchange) == read + 1
    assert (bells.unread, bells.positions) == ([], [held[0].pk])
    assert Position.objects.get(pk=held[0].pk).quantity == Decimal(0)


def test_exits_of_which_a_stream_fell_silent_are_read_with_their_answers(
    paper_exchange: PaperExchange, held: list[Position]
) -> None:
    asked, read = ordered(held), executions_read(paper_exchange)
    Account.objects.update(heard_at=None)
    assert execution.submit(asked, now()).unread == []
    assert executions_read(paper_exchange) == read + execution.CROWD
    assert [held_there(position.account) for position in held] == [[]] * execution.CROWD


def test_closing_and_clearing_a_crowd_costs_no_more_statements_than_one(held: list[Position]) -> None:
    flatten(held)
    told = [told_by_stream(order) for order in exits()]
    Order.objects.filter(purpose=OrderPurpose.HARD_STOP).delete()
    with CaptureQueriesContext(connection) as of_one:
        clear(streams.apply(told[:1], now()))
    with CaptureQueriesContext(connection) as of_many:
        clear(streams.apply(told[1:], now()))
    assert len(of_many) == len(of_one)
    assert {(one.status, one.check_at) for one in Position.objects.all()} == {(PositionStatus.CLOSED, None)}


def test_the_stops_of_a_crowd_are_cleared_in_a_turn_of_their_own(
    held: list[Position], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked after at once, those who closed first hold up the exits of the others."""
    rung: list[tuple[str, list[int]]] = []
    monkeypatch.setattr(tasks, "_ring", lambda task, ids, *_, **__: rung.append((task.__name__, list(ids))))
    flatten(held)
    at = now()
    bells = streams.apply([told_by_stream(order) for order in exits()], at)
    closed = [position.pk for position in held]
    assert sorted(bells.later) == sorted(bells.positions) == closed
    tasks.ring(bells)
    assert dict(rung)["attend_positions"] == []
    assert watching.due(at + timedelta(seconds=1)) == []
    assert sorted(watching.due(at + streams.CROWD_CLEARED_AFTER)) == closed, "they ask by themselves"


def test_a_lone_closed_position_is_looked_after_at_once(held: list[Position]) -> None:
    flatten(held)
    bells = streams.apply([told_by_stream(exits()[0])], now())
    assert (bells.positions, bells.later) == ([held[0].pk], [])
    assert held[0].pk in watching.due(now())


def test_an_answer_behind_its_stream_rings_for_nobody_once_more(held: list[Position]) -> None:
    submitted, _ = claiming.take(ordered(held), now())
    answers = sending.send_all(submitted, told=[order.pk for order in submitted])
    streams.apply([told_by_stream(order) for order in exits()], now())
    bells = recording.record(answers, now())
    assert (bells.positions, bells.unread) == ([], [])
    assert all(order.fills_complete for order in exits())


def clear(bells: Bells) -> None:
    """Look after closed positions of which nothing rests."""
    clearing.clear_stops(list(Position.objects.filter(pk__in=bells.positions)), now())


def test_the_first_exits_of_a_flatten_are_rung_before_the_last_are_written(
    held: list[Position], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quick_exits, "SET", 4)
    written: list[int] = []

    def ring(bells: Bells) -> None:
        written.append(Order.objects.filter(purpose=OrderPurpose.EXIT).count())
        assert Order.objects.filter(pk__in=bells.exits).count() == len(bells.exits), "rung once committed"

    _, left = emergency.raise_halt("desk", "FLATTEN", "because", "a test", now(), ring=ring)
    assert written == [4, 8, 10]
    assert not left
