"""A chunk's answers are recorded together, and each keeps what is its own."""

import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import Account, Breaker
from accounts.services.entrants import Entrant, hold_entrants
from exchange.errors import OrderRejected
from exchange.port import BalanceReport, OrderReport, OrderSide, ReportStatus
from trading.domain.states import AllocationOutcome, OrderStatus
from trading.models import Order
from trading.services import allocation, balances, execution
from trading.services.audits import Picture
from trading.services.bells import Bells
from trading.services.execution import claiming, recording, sending
from trading.services.execution.answers import Answer
from trading.services.shares import settle_shares
from trading.tests.services.journey import fit_accounts, now
from trading.tests.services.sending import a_decision, a_share, an_entry, share_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("paper_exchange", "unthrottled")]

UNFILLED = Decimal(0)


def submitted(count: int) -> list[Order]:
    """Entries of one decision over so many accounts, as they are right before their answers arrive."""
    decision = a_decision()
    entries = [an_entry(one, share=a_share(decision, one)) for one in fit_accounts(count)]
    return claiming.mark_submitted(claiming.claim([entry.pk for entry in entries]), now())


def taken(order: Order, number: int, after_ms: int) -> Answer:
    """The exchange took it, nothing filled, so long after the decision was recorded."""
    assert order.allocation is not None
    report = OrderReport(
        client_order_id=order.client_order_id,
        exchange_order_id=str(number),
        symbol=order.symbol,
        side=OrderSide(order.side),
        status=ReportStatus.EXPIRED,
        quantity=order.quantity or UNFILLED,
        filled_quantity=UNFILLED,
        is_conditional=False,
    )
    at = order.allocation.decision.recorded_at + timedelta(milliseconds=after_ms)
    return Answer(order, report=report, at=at)


def test_each_share_keeps_its_own_arrival_and_each_order_its_own_number() -> None:
    first, second, third = submitted(3)

    bells = recording.record([taken(first, 11, 40), taken(second, 12, 55), taken(third, 13, 90)], now())

    rows = [Order.objects.get(pk=order.pk) for order in (first, second, third)]
    assert [row.exchange_order_id for row in rows] == ["11", "12", "13"]
    assert {row.status for row in rows} == {OrderStatus.EXPIRED}
    assert [share_of(row).latency_ms for row in rows] == [40, 55, 90]
    assert bells.decisions == [share_of(first).decision_id]


def test_an_arrival_that_was_told_before_stands() -> None:
    (order,) = submitted(1)
    earlier = timezone.now()
    type(share_of(order)).objects.filter(pk=share_of(order).pk).update(acknowledged_at=earlier, latency_ms=7)

    recording.record([taken(order, 11, 400)], now())

    assert (share_of(order).acknowledged_at, share_of(order).latency_ms) == (earlier, 7)


def test_a_refusal_between_two_taken_entries_counts_for_its_account_alone() -> None:
    first, second, third = submitted(3)
    refused = Answer(second, error=OrderRejected("-2019", "margin is insufficient"))

    recording.record([taken(first, 11, 40), refused, taken(third, 13, 60)], now())

    assert [Order.objects.get(pk=order.pk).status for order in (first, second, third)] == [
        OrderStatus.EXPIRED,
        OrderStatus.REJECTED,
        OrderStatus.EXPIRED,
    ]
    assert list(Breaker.objects.values_list("account_id", "rejections")) == [(second.account_id, 1)]
    assert share_of(second).acknowledged_at is None


def test_a_late_answer_moves_no_order_that_ended_and_rings_nobody() -> None:
    (order,) = submitted(1)
    Order.objects.filter(pk=order.pk).update(status=OrderStatus.FILLED)

    bells = recording.record([taken(order, 11, 40)], now())

    assert Order.objects.get(pk=order.pk).status == OrderStatus.FILLED
    assert share_of(order).latency_ms is None
    assert not bells


def test_a_further_taken_entry_costs_no_further_statement() -> None:
    few, many = submitted(2), submitted(6)

    with CaptureQueriesContext(connection) as of_few:
        recording.record([taken(order, number, 40) for number, order in enumerate(few)], now())
    with CaptureQueriesContext(connection) as of_many:
        recording.record([taken(order, number, 40) for number, order in enumerate(many)], now())

    assert len(of_many) == len(of_few)


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time: no deadlock")
def test_an_audit_and_a_chunk_of_answers_never_deadlock(monkeypatch: pytest.MonkeyPatch) -> None:
    low, high = sorted(fit_accounts(2), key=lambda account: account.pk)
    entries = [an_entry(low), an_entry(high)]
    answers = sending.send_all(
        claiming.mark_submitted(claiming.claim([entry.pk for entry in entries]), now())
    )
    real, is_writing = balances._write_money, threading.Event()

    def slowly(account: Account, picture: Picture) -> None:
        real(account, picture)
        is_writing.set()
        time.sleep(0.3)

    def audit() -> None:
        balance = BalanceReport("USDT", Decimal(9999), Decimal(1), Decimal(9000))
        picture = Picture(now(), now(), (), (), (), frozenset(), balance)
        try:
            balances.write_balances([high, low], {low.pk: picture, high.pk: picture})
        finally:
            connection.close()

    monkeypatch.setattr(balances, "_write_money", slowly)
    with ThreadPoolExecutor(1) as pool:
        audited = pool.submit(audit)
        assert is_writing.wait(5)
        recording.record(answers, now())
        audited.result()
    assert set(Order.objects.values_list("status", flat=True)) >= {OrderStatus.FILLED}
    assert not Order.objects.filter(status=OrderStatus.SUBMITTED).exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time: no deadlock")
def test_answers_and_an_offer_of_the_same_decision_never_deadlock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A share that is written twice in a transaction is checked against its decision at the commit."""
    entry = an_entry(fit_accounts(1)[0])
    answers = sending.send_all(claiming.mark_submitted(claiming.claim([entry.pk]), now()))
    settled, offering = threading.Event(), threading.Event()

    def settle(allocation_ids: Iterable[int], at: datetime) -> None:
        settle_shares(allocation_ids, at)
        settled.set()
        assert offering.wait(10)
        time.sleep(0.3)

    def hold(account_ids: Sequence[int]) -> list[Entrant]:
        offering.set()  # the decision is locked by now
        return hold_entrants(account_ids)

    def record() -> None:
        try:
            recording.record(answers, now())
        finally:
            connection.close()

    share = share_of(entry)
    monkeypatch.setattr(recording, "settle_shares", settle)
    monkeypatch.setattr(allocation, "hold_entrants", hold)
    with ThreadPoolExecutor(1) as pool:
        recorded = pool.submit(record)
        assert settled.wait(5)
        allocation.offer([share.pk], now())
        recorded.result()
    assert Order.objects.get(pk=entry.pk).status == OrderStatus.FILLED


@pytest.mark.django_db(transaction=True)
def test_answers_that_the_database_refused_to_write_are_written_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody else knows them: lost, a filled entry waits 20 s for its stop."""
    entry, real, refused = an_entry(fit_accounts(1)[0]), recording.record, [1, 2]

    def deadlocked(answers: Sequence[Answer], at: datetime) -> Bells:
        if refused:
            refused.pop()
            raise OperationalError("deadlock detected")
        return real(answers, at)

    monkeypatch.setattr(recording, "record", deadlocked)
    execution.submit([entry.pk], now())
    assert refused == []
    assert Order.objects.get(pk=entry.pk).status == OrderStatus.FILLED
    assert share_of(entry).outcome == AllocationOutcome.FILLED


def test_a_decision_is_rung_with_its_last_share_and_not_with_every_chunk() -> None:
    decision = a_decision()
    first, last = (an_entry(one, share=a_share(decision, one)) for one in fit_accounts(2))
    assert execution.submit([first.pk], now()).decisions == []
    assert execution.submit([last.pk], now()).decisions == [decision.pk]
    assert share_of(first).outcome == share_of(last).outcome == AllocationOutcome.FILLED
