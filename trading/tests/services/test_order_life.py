"""The life of an order among workers that die, pause and come late, and an exchange whose answers get lost.

Several workers take the same orders step by step, in any interleaving, on a real database and a clock that
jumps. After every step: the exchange has taken no client order id twice and no two attempts of one share; a
row has moved along the table of steps only, whoever wrote; what a row calls refused or not placed the
exchange does not have; nothing was sent past the deadline. In the end the sweep alone ends every order.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from exchange.errors import GatewayError, OrderRejected, OutcomeUnknown, Throttled
from exchange.port import FillReport, OrderReport, OrderRequest, PositionReport, ReportStatus
from trading.domain import fallback
from trading.domain.states import OPEN, TERMINAL, ExpireCode, OrderStatus, successors
from trading.models import Allocation, Order
from trading.services import execution, sweeping
from trading.services.execution import absence, claiming, recording
from trading.services.execution.answers import Answer
from trading.services.execution.sending import request_of
from trading.tests.services.journey import fit_accounts
from trading.tests.services.sending import a_decision, a_share, an_entry

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("unthrottled"), pytest.mark.timeout(240)]

LAG = timedelta(seconds=4)
"""How long after an order was taken the exchange's queries may not show it."""

ROUNDS_TO_CONVERGE = 40


@dataclass
class Clock:
    """The wall clock of everybody, the exchange included."""

    at: datetime

    def now(self) -> datetime:
        return self.at


@dataclass
class Venue:
    """An exchange that takes whatever comes in time, the same id twice as well, and forgets nothing."""

    clock: Clock
    taken: list[tuple[OrderRequest, datetime]] = field(default_factory=list)
    on_the_way: list[OrderRequest] = field(default_factory=list)
    ended: set[str] = field(default_factory=set)

    def arrive(self, request: OrderRequest) -> OrderReport:
        """Take the request, or refuse it as too old for its receive window."""
        age_ms = int(self.clock.at.timestamp() * 1000) - request.timestamp_ms
        if age_ms > request.recv_window_ms:
            raise Throttled("-1021", "Timestamp for this request is outside of the recvWindow.")
        self.taken.append((request, self.clock.at))
        return self.report(request)

    def report(self, request: OrderRequest) -> OrderReport:
        return OrderReport(
            client_order_id=request.client_order_id,
            exchange_order_id=f"x-{request.client_order_id}",
            symbol=request.symbol,
            side=request.side,
            status=ReportStatus.EXPIRED if request.client_order_id in self.ended else ReportStatus.NEW,
            quantity=request.quantity or Decimal(0),
            filled_quantity=Decimal(0),
            is_conditional=False,
        )

    def has(self, client_order_id: str) -> bool:
        return any(request.client_order_id == client_order_id for request, _ in self.taken)

    async def fetch_order(self, _: str, client_order_id: str, *, is_conditional: bool) -> OrderReport | None:
        for request, at in self.taken:
            if (
                request.client_order_id == client_order_id
                and self.clock.at >= at + LAG
                and not is_conditional
            ):
                return self.report(request)
        return None

    async def fetch_open_orders(self, _: str, *, is_conditional: bool) -> Sequence[OrderReport]:
        return []

    async def fetch_fills(self, _: str, **__: Any) -> Sequence[FillReport]:
        return []

    async def fetch_positions(self) -> Sequence[PositionReport]:
        return []


@dataclass
class Worker:
    """What one worker has in its hands between two of its steps."""

    began: datetime | None = None
    claimed: list[Order] = field(default_factory=list)
    submitted: list[Order] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    @property
    def is_idle(self) -> bool:
        return not (self.claimed or self.submitted or self.answers)


WORKERS = st.integers(0, 1)
FATES = st.sampled_from(
    ["taken", "answer lost", "answer lost", "request lost", "slow", "slow", "refused", "throttled"]
)
PAUSES = st.sampled_from([0.1, 0.5, 1.0, 2.0, 4.0, 6.0, 11.0, 21.0])


class OrderLife(RuleBasedStateMachine):
    """Two shares of one decision, two workers, one exchange."""

    clock = Clock(datetime.now(UTC))
    venue = Venue(clock)
    """Of the example that runs; class attributes, so that what the services import finds them."""

    @initialize(seconds=st.sampled_from([15, 90, 90]))
    def decide(self, seconds: int) -> None:
        """A desk may be told a longer deadline; it gives attempts the time to follow each other."""
        OrderLife.clock.at = datetime.now(UTC)
        OrderLife.venue = Venue(self.clock)
        accounts = fit_accounts(2)
        self.decision = a_decision(
            decided_at=self.clock.at, deadline_at=self.clock.at + timedelta(seconds=seconds)
        )
        self.shares = [a_share(self.decision, account) for account in accounts]
        for share in self.shares:
            an_entry(share.account, share=share)
        self.workers = [Worker(), Worker()]
        self.seen: dict[int, Order] = {order.pk: order for order in self.orders()}

    def orders(self) -> list[Order]:
        return list(Order.objects.filter(allocation__in=self.shares).order_by("pk"))

    def ids(self) -> list[int]:
        return [order.pk for order in self.orders()]

    # ── what a worker does, one step at a time ───────────────────────────────
    @rule(number=WORKERS)
    def claim(self, number: int) -> None:
        worker = self.workers[number]
        if worker.is_idle:
            worker.began, worker.claimed = self.clock.at, claiming.claim(self.ids())

    @rule(number=WORKERS)
    def submit(self, number: int) -> None:
        worker = self.workers[number]
        if worker.claimed:
            assert worker.began is not None
            sendable, _ = claiming.drop_unsendable(worker.claimed, worker.began)
            worker.submitted, worker.claimed = claiming.mark_submitted(sendable, worker.began), []

    @rule(number=WORKERS, fate=FATES)
    def send(self, number: int, fate: str) -> None:
        worker = self.workers[number]
        if worker.submitted:
            order = worker.submitted.pop()
            try:
                worker.answers.append(Answer(order, report=self.answer(request_of(order), fate)))
            except GatewayError as error:
                worker.answers.append(Answer(order, error=error))

    def answer(self, request: OrderRequest, fate: str) -> OrderReport:
        if fate == "refused":
            raise OrderRejected("-2019", "Margin is insufficient.")
        if fate == "throttled":
            raise Throttled("-1003", "Too many requests.")
        if fate == "taken":
            return self.venue.arrive(request)
        if fate == "answer lost":
            self.venue.arrive(request)
        if fate == "slow":
            self.venue.on_the_way.append(request)
        raise OutcomeUnknown("TIMEOUT", fate)

    @rule(number=WORKERS)
    def record(self, number: int) -> None:
        worker = self.workers[number]
        if worker.answers and not worker.submitted:
            recording.record(worker.answers, self.clock.at)
            worker.answers = []

    @rule(number=WORKERS)
    def die(self, number: int) -> None:
        self.workers[number] = Worker()

    @rule(number=WORKERS, fate=FATES)
    def take(self, number: int, fate: str) -> None:
        """As a worker that nothing befalls: all of its steps but the last."""
        self.claim(number)
        self.submit(number)
        while self.workers[number].submitted:
            self.send(number, fate)

    @rule(number=WORKERS, fate=FATES)
    def work(self, number: int, fate: str) -> None:
        """The last one too: most orders come to their answers by whoever sent them."""
        self.take(number, fate)
        self.record(number)

    # ── what happens around them ─────────────────────────────────────────────
    @rule(seconds=PAUSES)
    def pause(self, seconds: float) -> None:
        self.clock.at += timedelta(seconds=seconds)

    @rule()
    def arrive_late(self) -> None:
        if self.venue.on_the_way:
            request = self.venue.on_the_way.pop(0)
            try:
                self.venue.arrive(request)
            except Throttled:
                return

    @rule()
    def end_there(self) -> None:
        self.venue.ended |= {request.client_order_id for request, _ in self.venue.taken}

    @rule()
    def stream(self) -> None:
        for request, _ in self.venue.taken:
            order = Order.objects.get(client_order_id=request.client_order_id)
            recording.apply_report(order, self.venue.report(request), self.clock.at)

    @rule()
    def sweep(self) -> None:
        rung = [pk for pk in sweeping.sweep(self.clock.at).resolve if pk in self.ids()]
        execution.resolve(rung, self.clock.at)
        execution.refresh(rung, self.clock.at)

    @rule(seconds=st.sampled_from([0.5, 1.0, 4.0]))
    def look_thrice(self, seconds: float) -> None:
        """Long enough for three looks; whether it is long enough for absence is not said."""
        for _ in range(3):
            self.pause(seconds)
            self.sweep()

    @rule()
    def offer_again(self) -> None:
        """As `allocation.offer`, without the gate: the next attempt of a share certainly not there."""
        for share in self.shares:
            attempts = [order for order in self.orders() if order.allocation_id == share.pk]
            last = attempts[-1]
            is_absent = last.status == OrderStatus.EXPIRED and last.code == ExpireCode.NOT_PLACED
            is_curable = last.status == OrderStatus.REJECTED and fallback.may_be_offered_on(last.code)
            is_live = any(order.status in OPEN for order in attempts)
            if (is_absent or is_curable) and not is_live and self.clock.at < self.deadline:
                fresh = Allocation.objects.select_related("account", "decision").get(pk=share.pk)
                an_entry(fresh.account, share=fresh, attempt=len(attempts) + 1)

    @property
    def deadline(self) -> datetime:
        assert self.decision.deadline_at is not None
        return self.decision.deadline_at

    # ── what must hold ───────────────────────────────────────────────────────
    @invariant()
    def no_intent_is_placed_twice(self) -> None:
        owners = {order.client_order_id: order.allocation_id for order in self.orders()}
        assert (
            max(Counter(owners[one.client_order_id] for one, _ in self.venue.taken).values(), default=0) <= 1
        )

    @invariant()
    def rows_move_along_the_table_and_fences_only_rise(self) -> None:
        for order in self.orders():
            before = self.seen.get(order.pk, order)
            assert order.status in _reachable(OrderStatus(before.status)), (before.status, order.status)
            assert order.fence >= before.fence
            self.seen[order.pk] = order

    @invariant()
    def what_rows_call_not_there_is_not_there(self) -> None:
        for order in self.orders():
            if order.status in TERMINAL and not order.exchange_order_id:
                assert not self.venue.has(order.client_order_id), (order.status, order.code)

    @invariant()
    def nothing_is_sent_past_the_deadline(self) -> None:
        sent = [*self.venue.on_the_way, *(request for request, _ in self.venue.taken)]
        assert all(request.timestamp_ms <= self.deadline.timestamp() * 1000 for request in sent)

    def teardown(self) -> None:
        """Everybody is dead but one, who has nothing but the sweep: every order ends as the exchange says."""
        self.workers = [Worker()]
        for _ in range(ROUNDS_TO_CONVERGE):
            if not any(order.status in OPEN or not order.fills_complete for order in self.orders()):
                break
            self.pause(6.0)
            self.arrive_late()
            self.end_there()
            self.sweep()
            self.claim(0)
            self.submit(0)
            while self.workers[0].submitted:
                self.send(0, "taken")
            self.record(0)
            self.no_intent_is_placed_twice()
            self.rows_move_along_the_table_and_fences_only_rise()
            self.what_rows_call_not_there_is_not_there()
            self.nothing_is_sent_past_the_deadline()
        for order in self.orders():
            assert order.status in TERMINAL
            assert self.venue.has(order.client_order_id) == bool(order.exchange_order_id)


def _reachable(status: OrderStatus) -> set[OrderStatus]:
    reached, frontier = {status}, {status}
    while frontier:
        frontier = {after for before in frontier for after in successors(before)} - reached
        reached |= frontier
    return reached


@pytest.fixture
def venue(monkeypatch: pytest.MonkeyPatch) -> None:
    """The port answered by the venue of the running example, and its clock everybody's."""
    monkeypatch.setattr("trading.services.execution.resolving.gateway_for", lambda *_: OrderLife.venue)
    monkeypatch.setattr("django.utils.timezone.now", OrderLife.clock.now)


def test_whatever_workers_do_no_order_is_doubled_lost_or_sent_late(venue: None) -> None:
    run_state_machine_as_test(
        OrderLife,
        settings=settings(
            max_examples=40,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_machine_tells_when_an_order_is_called_absent_after_one_look(
    venue: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(absence, "LOOKS", 1)
    monkeypatch.setattr(absence, "SPAN", timedelta(0))
    life = OrderLife()
    life.decide(90)
    life.work(0, "answer lost")
    life.look_thrice(0.5)
    with pytest.raises(AssertionError, match="NOT_PLACED"):
        life.what_rows_call_not_there_is_not_there()
    life.offer_again()
    life.work(1, "taken")
    with pytest.raises(AssertionError):
        life.no_intent_is_placed_twice()


def test_with_the_absence_rule_the_same_steps_leave_an_order_unknown_until_it_is_found(venue: None) -> None:
    life = OrderLife()
    life.decide(90)
    life.work(0, "answer lost")
    life.look_thrice(0.5)
    life.offer_again()
    life.work(1, "taken")
    assert {order.status for order in life.orders()} == {OrderStatus.UNKNOWN}
    life.no_intent_is_placed_twice()
    life.look_thrice(4.0)
    assert {order.status for order in life.orders()} == {OrderStatus.ACKNOWLEDGED}
    life.what_rows_call_not_there_is_not_there()
