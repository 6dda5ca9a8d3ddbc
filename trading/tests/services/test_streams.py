"""What user streams tell is applied as it comes: once, in whatever order, and never as the only road."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from accounts.models import Account
from accounts.services.gateways import gateway_for
from exchange.loop import IoLoop
from exchange.port import FillReport, Market, OrderReport, OrderSide, ReportStatus
from exchange.stream_events import ConditionalEvent, ConfigEvent, OrderEvent, StreamDown, StreamUp, UserEvent
from tests.processes import PaperExchange
from trading.domain.states import AllocationOutcome, CloseReason, OrderStatus, PositionStatus
from trading.models import Fill, Order, Position
from trading.services import execution, streams
from trading.services.allocation import allocate
from trading.services.bells import Bells
from trading.services.execution import claiming, recording, sending
from trading.services.selection import request
from trading.services.streams import Told
from trading.tests.services.holding import at_exchange, stranger
from trading.tests.services.journey import BTC, WALLET, WEATHER, a_signal, fit_accounts, now
from trading.tests.services.sending import a_held_position, a_resting_stop, an_entry, send, settled, share_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("unthrottled", "faults")]

SECONDS = 10.0


def apply(account: Account, *events: UserEvent, at: Any = None) -> Bells:
    return streams.apply([Told(account.pk, Market.FUTURES, event) for event in events], at or now())


def left_unrecorded(order: Order) -> tuple[OrderReport, Sequence[FillReport]]:
    """Send the order and forget the answer: the exchange has it, our row is SUBMITTED."""
    submitted = claiming.mark_submitted(claiming.claim([order.pk]), now())
    (answer,) = sending.send_all(submitted)
    assert answer.report is not None
    return answer.report, answer.fills


def told_by_stream(order: Order, report: OrderReport, fill: FillReport) -> OrderEvent:
    """The event of an execution: on the stream it carries its order's client id."""
    return OrderEvent(report, replace(fill, client_order_id=order.client_order_id), now())


def picture() -> list[Any]:
    """Every row a stream may move."""
    return [
        list(Order.objects.order_by("pk").values()),
        list(Fill.objects.order_by("pk").values()),
        list(Position.objects.order_by("pk").values_list("quantity", "status", "initial_quantity", "plan")),
    ]


def test_an_execution_told_by_the_stream_is_the_fill_of_its_order() -> None:
    order = an_entry()
    report, (fill,) = left_unrecorded(order)
    bells = apply(order.account, told_by_stream(order, report, fill))
    order.refresh_from_db()
    assert (order.status, order.filled_quantity, order.fills_complete) == (
        OrderStatus.FILLED,
        order.quantity,
        True,
    )
    assert Position.objects.get(account=order.account).quantity == order.quantity
    assert share_of(order).decision_id in bells.decisions
    share = settled(order)
    assert (share.outcome, share.latency_ms is not None) == (AllocationOutcome.FILLED, True)


def test_an_event_applied_twice_changes_nothing_the_second_time() -> None:
    order = an_entry()
    report, (fill,) = left_unrecorded(order)
    event = told_by_stream(order, report, fill)
    apply(order.account, event)
    before = picture()
    apply(order.account, event, event, at=now() + timedelta(seconds=5))
    assert picture() == before


def test_the_answer_that_comes_after_the_stream_changes_nothing() -> None:
    order = an_entry()
    (claimed,) = claiming.claim([order.pk])
    submitted = claiming.mark_submitted([claimed], now())
    (answer,) = sending.send_all(submitted)
    assert answer.report is not None
    apply(order.account, told_by_stream(order, answer.report, answer.fills[0]))
    before = picture()
    recording.record([answer], now() + timedelta(seconds=5))
    assert picture() == before


def written_orders(asked: CaptureQueriesContext) -> list[str]:
    """The statements that changed orders."""
    return [one["sql"] for one in asked.captured_queries if 'UPDATE "trading_order"' in one["sql"]]


def test_of_answer_and_stream_the_second_writes_an_order_no_second_time() -> None:
    first_told, first_answered = an_entry(), an_entry()
    answers = sending.send_all(
        claiming.mark_submitted(claiming.claim([first_told.pk, first_answered.pk]), now())
    )
    told = [
        told_by_stream(answer.order, answer.report, answer.fills[0]) for answer in answers if answer.report
    ]
    for answer in answers:
        answer.fills = ()
    apply(answers[0].order.account, told[0])
    with CaptureQueriesContext(connection) as of_answer:
        recording.record(answers[:1], now())
    recording.record(answers[1:], now())
    with CaptureQueriesContext(connection) as of_stream:
        apply(answers[1].order.account, told[1])
    assert (len(written_orders(of_answer)), len(written_orders(of_stream))) == (0, 1)
    for order in (first_told, first_answered):
        order.refresh_from_db()
        assert (order.status, order.fills_complete) == (OrderStatus.FILLED, True)
        assert (order.due_at, order.lease_until, order.unknown_since) == (None, None, None)
        assert order.acknowledged_at is not None


def test_a_stale_part_does_not_reopen_an_order_that_ended(paper_exchange: PaperExchange) -> None:
    order = an_entry()
    paper_exchange.add_fault(kind="partial", account=order.account.name, fraction="0.3")
    send(order)
    assert order.status == OrderStatus.EXPIRED
    report = _report(order)
    fill = Fill.objects.get(order=order)
    told = _fill_report(fill)
    before = picture()
    part = replace(report, status=ReportStatus.PARTIALLY_FILLED)
    new = replace(report, status=ReportStatus.NEW, filled_quantity=Decimal(0))
    apply(order.account, OrderEvent(part, told, now()), OrderEvent(new, None, now()))
    assert picture() == before


def _report(order: Order) -> OrderReport:
    gateway = gateway_for(order.account, Market.FUTURES)
    lookup = gateway.fetch_order(BTC, order.client_order_id, is_conditional=order.is_conditional)
    report = IoLoop.current().run(lookup, SECONDS)
    assert report is not None
    return report


def _fill_report(fill: Fill) -> FillReport:
    gateway = gateway_for(fill.account, Market.FUTURES)
    fills = IoLoop.current().run(gateway.fetch_fills(BTC, exchange_order_id=fill.exchange_order_id), SECONDS)
    return next(one for one in fills if one.trade_id == fill.trade_id)


def test_an_event_about_an_order_that_is_not_ours_changes_nothing() -> None:
    order = an_entry()
    report, _ = left_unrecorded(order)
    before = picture()
    bells = apply(order.account, OrderEvent(replace(report, client_order_id="stranger1"), None, now()))
    assert not bells
    assert picture() == before


def test_a_strangers_execution_that_reduces_our_position_is_booked_as_foreign() -> None:
    position = a_held_position()
    sold = at_exchange(position, stranger(position, OrderSide.SELL, position.quantity))
    gateway = gateway_for(position.account, Market.FUTURES)
    (fill,) = IoLoop.current().run(
        gateway.fetch_fills(BTC, exchange_order_id=sold.exchange_order_id), SECONDS
    )
    told = replace(fill, client_order_id=sold.client_order_id)
    apply(position.account, OrderEvent(sold, told, now()), OrderEvent(sold, told, now()))
    position.refresh_from_db()
    assert (position.status, position.close_reason) == (PositionStatus.CLOSED, CloseReason.FOREIGN)
    assert Fill.objects.filter(account=position.account, order=None).count() == 1


def test_a_resting_stop_is_seen_when_the_stream_tells_of_it() -> None:
    stop = a_resting_stop(a_held_position())
    Order.objects.filter(pk=stop.pk).update(is_seen=False)
    apply(stop.account, ConditionalEvent(_report(stop), now()))
    stop.refresh_from_db()
    assert (stop.is_seen, stop.status, stop.due_at) == (True, OrderStatus.ACKNOWLEDGED, None)


def test_a_stop_that_fired_stays_due_though_a_stale_event_still_calls_it_new() -> None:
    stop = a_resting_stop(a_held_position())
    new = _report(stop)
    fired = replace(new, status=ReportStatus.TRIGGERED, triggered_order_id="4711")
    apply(stop.account, ConditionalEvent(fired, now()), ConditionalEvent(new, now()))
    stop.refresh_from_db()
    assert stop.triggered_order_id == "4711"
    assert stop.due_at is not None


def test_a_refused_stop_tells_its_position() -> None:
    stop = a_resting_stop(a_held_position())
    refused = replace(_report(stop), status=ReportStatus.REJECTED, reject_reason="no margin")
    bells = apply(stop.account, ConditionalEvent(refused, now()))
    stop.refresh_from_db()
    assert (stop.status, stop.message) == (OrderStatus.REJECTED, "no margin")
    assert bells.positions == [stop.position_id]


@pytest.mark.parametrize("event", [StreamUp(now()), StreamDown(now(), "closed")])
def test_a_stream_that_was_away_leaves_its_account_in_doubt(event: UserEvent) -> None:
    (account,) = fit_accounts(1)
    Account.objects.filter(pk=account.pk).update(audited_at=now(), fresh_at=now())
    apply(account, event)
    account.refresh_from_db()
    assert (account.audited_at, account.fresh_at) == (None, None)
    assert account.wallet_balance == WALLET, "in doubt is not unknown: what was read stays"


def test_a_live_stream_proves_only_a_picture_that_was_read() -> None:
    read, doubted = fit_accounts(2)
    moment = now()
    Account.objects.filter(pk=read.pk).update(audited_at=moment, fresh_at=moment)
    streams.doubt([doubted.pk])
    later = moment + timedelta(seconds=20)
    streams.note_alive([read.pk, doubted.pk], later)
    read.refresh_from_db()
    doubted.refresh_from_db()
    assert (read.fresh_at, doubted.fresh_at) == (later, None)


def test_an_event_of_an_account_that_is_gone_is_passed_over() -> None:
    assert not streams.apply([Told(10**9, Market.FUTURES, StreamUp(now()))], now())


def test_an_entry_whose_stream_is_alive_is_filled_by_the_stream_and_not_by_reading(
    paper_exchange: PaperExchange,
) -> None:
    order = an_entry()
    streams.note_alive([order.account_id], now())
    read = executions_read(paper_exchange)

    bells = send(order)
    assert (order.status, order.fills_complete, bells.unread) == (OrderStatus.FILLED, False, [order.pk])
    assert share_of(order).outcome == AllocationOutcome.PENDING
    assert not Position.objects.filter(account=order.account).exists()
    assert executions_read(paper_exchange) == read

    report, fills = found_there(order)
    bells = apply(order.account, *(told_by_stream(order, report, fill) for fill in fills))
    order.refresh_from_db()
    assert order.fills_complete
    assert share_of(order).outcome == AllocationOutcome.FILLED
    assert bells.decisions == [share_of(order).decision_id]
    assert Position.objects.get(account=order.account).quantity == order.quantity


def test_an_answer_after_the_stream_takes_back_nothing() -> None:
    order = an_entry()
    (submitted,) = claiming.mark_submitted(claiming.claim([order.pk]), now())
    (answer,) = sending.send_all([submitted], told={order.pk})
    report, fills = found_there(order)
    apply(order.account, *(told_by_stream(order, report, fill) for fill in fills))
    bells = recording.record([answer], now())
    order.refresh_from_db()
    assert (order.status, order.fills_complete, bells.unread) == (OrderStatus.FILLED, True, [])
    assert order.filled_quantity == order.quantity
    assert Fill.objects.filter(order=order).count() == len(fills)


def test_an_entry_whose_stream_fell_silent_is_read_after_all(paper_exchange: PaperExchange) -> None:
    order = an_entry()
    streams.note_alive([order.account_id], now() - timedelta(seconds=30))
    read = executions_read(paper_exchange)
    send(order)
    assert order.fills_complete
    assert executions_read(paper_exchange) == read + 1


def test_what_a_living_stream_did_not_tell_is_looked_up() -> None:
    order = an_entry()
    streams.note_alive([order.account_id], now())
    bells = send(order)
    execution.refresh(bells.unread, now())
    order.refresh_from_db()
    assert order.fills_complete
    assert Position.objects.get(account=order.account).quantity == order.quantity


def test_a_batch_over_many_accounts_costs_no_more_statements_than_one() -> None:
    orders = [an_entry(account) for account in fit_accounts(5)]
    told = []
    for order in orders:
        report, fills = left_unrecorded(order)
        told += [
            Told(order.account_id, Market.FUTURES, told_by_stream(order, report, fill)) for fill in fills
        ]
    with CaptureQueriesContext(connection) as of_one:
        streams.apply(told[:1], now())
    with CaptureQueriesContext(connection) as of_many:
        streams.apply(told[1:], now())
    assert len(of_many) == len(of_one)
    held = Position.objects.filter(account__in=[order.account_id for order in orders])
    assert [position.quantity for position in held] == [order.quantity for order in orders]


def test_a_second_part_of_many_entries_costs_no_more_statements_than_of_one() -> None:
    orders = [an_entry(account) for account in fit_accounts(4)]
    first, second = [], []
    for order in orders:
        report, (fill, *_) = left_unrecorded(order)
        half = replace(fill, quantity=fill.quantity / 2)
        rest = replace(half, trade_id=f"{fill.trade_id}0")
        first.append(Told(order.account_id, Market.FUTURES, told_by_stream(order, report, half)))
        second.append(Told(order.account_id, Market.FUTURES, told_by_stream(order, report, rest)))
    streams.apply(first, now())
    with CaptureQueriesContext(connection) as of_one:
        streams.apply(second[:1], now())
    with CaptureQueriesContext(connection) as of_many:
        streams.apply(second[1:], now())
    assert len(of_many) == len(of_one)
    held = Position.objects.filter(account__in=[order.account_id for order in orders])
    assert [position.quantity for position in held] == [order.quantity for order in orders]


def executions_read(paper: PaperExchange) -> int:
    """How often somebody asked for executions."""
    return int(paper.get("/paper/status")["requests_by_endpoint"].get("GET /fapi/v1/userTrades", 0))


def found_there(order: Order) -> tuple[OrderReport, Sequence[FillReport]]:
    """What the exchange knows of an order of ours."""
    gateway = gateway_for(order.account, Market.FUTURES)
    wanted = gateway.fetch_order(order.symbol, order.client_order_id, is_conditional=False)
    report = IoLoop.current().run(wanted, SECONDS)
    assert report is not None
    fills = gateway.fetch_fills(order.symbol, exchange_order_id=report.exchange_order_id)
    return report, IoLoop.current().run(fills, SECONDS)


def test_a_leverage_changed_at_the_exchange_denies_the_next_entry_at_once(settings: Settings) -> None:
    settings.GATE_OFF = WEATHER
    (account,) = fit_accounts(1, executors=(Market.FUTURES,))
    apply(account, ConfigEvent(now(), symbol=BTC, leverage=50))

    decision = request(a_signal(), now())
    allocate(decision.pk, now())
    share = decision.allocations.get()
    assert (share.code, share.orders.exists()) == ("SETTINGS", False)


def test_a_margin_mode_of_many_assets_denies_the_next_entry_at_once() -> None:
    (account,) = fit_accounts(1)
    apply(account, ConfigEvent(now(), is_multi_assets=True))

    decision = request(a_signal(), now())
    allocate(decision.pk, now())
    assert decision.allocations.get().code == "ACCOUNT_UNHEALTHY"
