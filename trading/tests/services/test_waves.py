"""A staged decision on the paper exchange: canaries first, the rest by what the exchange said to them."""

from datetime import datetime, timedelta
from threading import Thread

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from accounts.models import Account
from alerts.models import Alert
from tests.processes import PaperExchange
from trading.domain.states import AllocationOutcome, DecisionStatus, OrderStatus
from trading.models import Allocation, Decision, Halt, Order
from trading.services import execution, signals, sweeping, waves
from trading.services.allocation import allocate, offer
from trading.services.bells import Bells
from trading.services.circuit import stop_if_same_code
from trading.services.decisions import settle
from trading.services.selection import RequestRefused, request
from trading.tests.services.journey import WEATHER, a_signal, fit_accounts, now, set_columns
from trading.tests.services.sending import LOOK_UP, PLACE, grow_older, told_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("paper_exchange", "faults")]


@pytest.fixture(autouse=True)
def calm(settings: Settings) -> None:
    settings.GATE_OFF = WEATHER


def a_desk(canaries: int, others: int) -> tuple[list[Account], list[Account]]:
    """Accounts of which the last made are canaries, so that nothing is right by the order of the rows."""
    rest, first = fit_accounts(others), fit_accounts(canaries)
    for account in first:
        set_columns(account, is_canary=True)
    return first, rest


def a_staged_decision() -> Decision:
    return request(a_signal(), now(), is_staged=True)


def the_rest(decision: Decision) -> dict[tuple[str, str], int]:
    """How many accounts of the rest ended how."""
    ends: dict[tuple[str, str], int] = {}
    for share in decision.allocations.filter(account__is_canary=False):
        ends[share.outcome, share.code] = ends.get((share.outcome, share.code), 0) + 1
    return ends


def nothing_was_placed(paper: PaperExchange, accounts: list[Account]) -> bool:
    return [told_of(paper, account) for account in accounts] == [[]] * len(accounts)


def refuse(paper: PaperExchange, accounts: list[Account], code: int = -4131) -> None:
    for account in accounts:
        paper.add_fault(kind="http", endpoint=PLACE, account=account.name, status=400, code=code)


def swept(decision: Decision, at: datetime | None = None) -> Bells:
    """What the sweep finds once its patience is over, everything rung having been lost."""
    Decision.objects.filter(pk=decision.pk).update(recorded_at=now() - timedelta(seconds=4))
    return sweeping.sweep(at or now() + timedelta(seconds=4))


# ── the way it goes well ─────────────────────────────────────────────────────


def test_the_canaries_are_rung_alone_and_the_rest_is_committed_and_held() -> None:
    canaries, rest = a_desk(2, 3)
    decision = a_staged_decision()
    bells = allocate(decision.pk, now())
    rung = Order.objects.filter(pk__in=bells.entries)
    assert {order.account_id for order in rung} == {account.pk for account in canaries}
    held = Order.objects.filter(account__in=rest)
    assert {order.status for order in held} == {OrderStatus.PENDING}
    assert all(order.reserved_margin > 0 for order in held)
    assert sorted(Allocation.objects.values_list("place", "wave")) == [(1, 1), (2, 1), (3, 2), (4, 2), (5, 2)]


def test_what_is_held_is_sent_by_nobody_however_often_it_is_rung(paper_exchange: PaperExchange) -> None:
    _, rest = a_desk(1, 2)
    decision = a_staged_decision()
    allocate(decision.pk, now())
    held = list(Order.objects.filter(account__in=rest).values_list("pk", flat=True))
    execution.submit(held, now())
    assert not set(swept(decision).entries) & set(held)
    assert nothing_was_placed(paper_exchange, rest)


def test_the_rest_goes_once_the_canaries_are_acknowledged(paper_exchange: PaperExchange) -> None:
    canaries, rest = a_desk(2, 3)
    decision = a_staged_decision()
    answered = execution.submit(allocate(decision.pk, now()).entries, now())
    assert answered.decisions == [decision.pk]
    assert nothing_was_placed(paper_exchange, rest)
    released = settle([decision.pk], now())
    places = dict(Order.objects.values_list("pk", "allocation__place"))
    assert [places[pk] for pk in released.entries] == [3, 4, 5]
    execution.submit(released.entries, now())
    settle([decision.pk], now())
    decision.refresh_from_db()
    assert (decision.status, decision.wave) == (DecisionStatus.COMPLETE, 2)
    assert set(decision.allocations.values_list("outcome", flat=True)) == {"FILLED"}
    for account in [*canaries, *rest]:
        (order,) = Order.objects.filter(account=account, purpose="ENTRY")
        placed = [row["client_order_id"] for row in told_of(paper_exchange, account)]
        assert placed.count(order.client_order_id) == 1


def test_an_unstaged_decision_knows_no_waves() -> None:
    a_desk(1, 2)
    decision = request(a_signal(), now())
    assert not decision.is_staged
    assert len(allocate(decision.pk, now()).entries) == 3
    assert set(Allocation.objects.values_list("wave", flat=True)) == {1}
    assert not Order.objects.exclude(due_at=None).exists()


def test_an_unstaged_decision_asks_the_database_nothing_for_waves() -> None:
    a_desk(1, 2)
    decision = request(a_signal(), now())
    allocate(decision.pk, now())
    orders = list(Order.objects.select_related("allocation__decision"))
    with CaptureQueriesContext(connection) as asked:
        assert not waves.advance(decision, now())
        assert waves.to_judge(orders) == []
    assert len(asked) == 0


def test_the_desk_stages_every_decision_when_it_is_set_so(settings: Settings) -> None:
    settings.STAGED = True
    assert request(a_signal(), now()).is_staged
    assert not request(a_signal(), now(), is_staged=False).is_staged


def test_a_cascade_is_not_staged(settings: Settings) -> None:
    settings.ROUTE_POLICY = "cascade"
    with pytest.raises(RequestRefused) as refused:
        a_staged_decision()
    assert refused.value.code == "STAGED_CASCADE"
    assert not Decision.objects.exists()


# ── the ways it does not ─────────────────────────────────────────────────────


def test_refused_canaries_stop_the_rest_by_name(paper_exchange: PaperExchange) -> None:
    canaries, rest = a_desk(2, 4)
    refuse(paper_exchange, canaries[:1])
    decision = a_staged_decision()
    execution.submit(allocate(decision.pk, now()).entries, now())
    assert not settle([decision.pk], now()).entries
    decision.refresh_from_db()
    assert (decision.status, decision.stopped_code) == (DecisionStatus.COMPLETE, "CANARY_REFUSED")
    assert the_rest(decision) == {("SKIPPED", "CANARY_REFUSED"): 4}
    assert nothing_was_placed(paper_exchange, rest)
    assert not Order.objects.filter(account__in=rest).exclude(reserved_margin=0).exists()
    alert = Alert.objects.get(cause="canaries:CANARY_REFUSED")
    assert "1 of 2 canaries were refused" in alert.message
    assert "the other 4 accounts were skipped" in alert.message


def test_a_share_of_refusals_under_the_limit_lets_the_rest_go(paper_exchange: PaperExchange) -> None:
    canaries, rest = a_desk(6, 2)
    refuse(paper_exchange, canaries[:1])
    decision = a_staged_decision()
    execution.submit(allocate(decision.pk, now()).entries, now())
    released = settle([decision.pk], now()).entries
    assert {order.account_id for order in Order.objects.filter(pk__in=released)} == {one.pk for one in rest}


def test_a_refusal_another_market_cures_still_counts_against_the_first(paper_exchange: PaperExchange) -> None:
    canaries, rest = a_desk(1, 2)
    refuse(paper_exchange, canaries, -2019)
    decision = a_staged_decision()
    bells = execution.submit(allocate(decision.pk, now()).entries, now())
    settle([decision.pk], now())
    assert the_rest(decision) == {("SKIPPED", "CANARY_REFUSED"): 2}
    assert not offer(bells.allocations, now()).entries
    assert nothing_was_placed(paper_exchange, rest)


def test_without_a_canary_nobody_goes(paper_exchange: PaperExchange) -> None:
    _, rest = a_desk(0, 3)
    decision = a_staged_decision()
    bells = allocate(decision.pk, now())
    assert (bells.entries, bells.decisions) == ([], [decision.pk])
    settle([decision.pk], now())
    decision.refresh_from_db()
    assert (decision.status, decision.stopped_code) == (DecisionStatus.COMPLETE, "NO_CANARY")
    assert the_rest(decision) == {("SKIPPED", "NO_CANARY"): 3}
    assert nothing_was_placed(paper_exchange, rest)


def test_a_canary_the_gate_denies_is_no_canary_that_was_heard() -> None:
    (canary,), _ = a_desk(1, 2)
    set_columns(canary, is_multi_assets=True)
    decision = a_staged_decision()
    allocate(decision.pk, now())
    settle([decision.pk], now())
    assert the_rest(decision) == {("SKIPPED", "NO_CANARY"): 2}


def test_an_unclear_canary_is_waited_for_and_found(paper_exchange: PaperExchange) -> None:
    (canary,), rest = a_desk(1, 2)
    paper_exchange.add_fault(kind="close_socket", endpoint=PLACE, account=canary.name)
    decision = a_staged_decision()
    execution.submit(allocate(decision.pk, now()).entries, now())
    order = Order.objects.get(account=canary)
    assert order.status == OrderStatus.UNKNOWN, order.code
    assert not settle([decision.pk], now()).entries
    Order.objects.filter(pk=order.pk).update(due_at=None)
    found = execution.resolve([order.pk], now())
    assert decision.pk in found.decisions
    released = settle(found.decisions, now()).entries
    assert len(released) == len(rest)


def test_at_the_deadline_the_rest_ends_unsent_with_a_canary_still_unclear(
    paper_exchange: PaperExchange,
) -> None:
    (canary,), rest = a_desk(1, 2)
    paper_exchange.add_fault(kind="close_socket", endpoint=PLACE, account=canary.name)
    paper_exchange.add_fault(kind="http", endpoint=LOOK_UP, account=canary.name, status=500, count=0)
    decision = a_staged_decision()
    execution.submit(allocate(decision.pk, now()).entries, now())
    late = now() + timedelta(seconds=16)
    assert not settle(swept(decision, late).decisions, late).entries
    decision.refresh_from_db()
    assert the_rest(decision) == {("EXPIRED", "DEADLINE"): 2}
    assert decision.status == DecisionStatus.OPEN  # the canary's own end is still to be found
    assert nothing_was_placed(paper_exchange, rest)


def test_a_canary_proven_absent_is_asked_again_before_the_rest_goes(paper_exchange: PaperExchange) -> None:
    (canary,), rest = a_desk(1, 1)
    decision = a_staged_decision()
    allocate(decision.pk, now())
    Order.objects.filter(account=canary).update(
        status=OrderStatus.EXPIRED, code="NOT_PLACED", fills_complete=True
    )
    assert not settle([decision.pk], now()).entries
    again = offer([Allocation.objects.get(account=canary).pk], now())
    assert not settle([decision.pk], now()).entries
    execution.submit(again.entries, now())
    (released,) = settle([decision.pk], now()).entries
    assert Order.objects.get(pk=released).account == rest[0]


# ── whoever dies in between ──────────────────────────────────────────────────


def test_the_sweep_goes_on_where_the_answers_bell_was_lost(paper_exchange: PaperExchange) -> None:
    _, rest = a_desk(1, 2)
    decision = a_staged_decision()
    execution.submit(allocate(decision.pk, now()).entries, now())  # and its bell is lost
    bells = swept(decision)
    assert decision.pk in bells.decisions
    assert len(settle(bells.decisions, now()).entries) == len(rest)


def test_the_sweep_rings_what_was_let_go_and_not_rung(paper_exchange: PaperExchange) -> None:
    _, rest = a_desk(1, 2)
    decision = a_staged_decision()
    execution.submit(allocate(decision.pk, now()).entries, now())
    released = settle([decision.pk], now()).entries  # and their bell is lost
    found = swept(decision).entries
    assert sorted(found) == sorted(released)
    execution.submit(found, now())
    execution.submit(released, now())  # the lost bell turns up
    for account in rest:
        (order,) = Order.objects.filter(account=account, purpose="ENTRY")
        placed = [row["client_order_id"] for row in told_of(paper_exchange, account)]
        assert placed.count(order.client_order_id) == 1


def test_a_wave_is_let_go_once(paper_exchange: PaperExchange) -> None:
    a_desk(1, 3)
    decision = a_staged_decision()
    execution.submit(allocate(decision.pk, now()).entries, now())
    assert len(settle([decision.pk], now()).entries) == 3
    assert settle([decision.pk], now()).entries == []


@pytest.mark.django_db(transaction=True)
def test_of_two_workers_that_settle_at_once_one_lets_the_wave_go(paper_exchange: PaperExchange) -> None:
    _, rest = a_desk(1, 3)
    decision = a_staged_decision()
    execution.submit(allocate(decision.pk, now()).entries, now())
    released: list[int] = []

    def settle_it() -> None:
        try:
            released.extend(settle([decision.pk], now()).entries)
        finally:
            connection.close()

    threads = [Thread(target=settle_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = Order.objects.filter(account__in=rest, purpose="ENTRY")
    assert sorted(released) == sorted(held.values_list("pk", flat=True))


def test_a_canary_whose_sender_died_is_looked_up_before_the_rest_goes(paper_exchange: PaperExchange) -> None:
    (canary,), rest = a_desk(1, 1)
    decision = a_staged_decision()
    allocate(decision.pk, now())
    order = Order.objects.get(account=canary)
    Order.objects.filter(pk=order.pk).update(
        status=OrderStatus.SUBMITTED, submitted_at=now(), lease_until=now() + timedelta(seconds=20)
    )
    assert not settle([decision.pk], now()).entries
    grow_older(order, timedelta(seconds=21))
    assert order.pk in swept(decision).resolve
    execution.resolve([order.pk], now())
    assert not settle([decision.pk], now()).entries
    assert nothing_was_placed(paper_exchange, rest)


# ── what stops any decision stops a wave too ─────────────────────────────────


def test_a_signal_cancelled_between_the_waves_leaves_the_rest_unsent(paper_exchange: PaperExchange) -> None:
    _, rest = a_desk(1, 2)
    decision = a_staged_decision()
    execution.submit(allocate(decision.pk, now()).entries, now())
    assert decision.signal is not None
    closing = a_signal(action="cancel")
    signals.act(closing, now())
    assert settle([decision.pk], now()).entries == []
    assert set(the_rest(decision)) == {("SKIPPED", "SIGNAL_CANCELLED")}
    assert nothing_was_placed(paper_exchange, rest)


def test_a_halt_between_the_waves_leaves_the_rest_unsent(paper_exchange: PaperExchange) -> None:
    _, rest = a_desk(1, 2)
    decision = a_staged_decision()
    execution.submit(allocate(decision.pk, now()).entries, now())
    Halt.objects.create(scope="desk", level="HALT_ENTRIES", reason="test", raised_by="test", raised_at=now())
    execution.submit(settle([decision.pk], now()).entries, now())
    settle([decision.pk], now())
    assert the_rest(decision) == {("SKIPPED", "HALTED"): 2}
    assert nothing_was_placed(paper_exchange, rest)


def test_the_venue_circuit_stops_what_is_held(paper_exchange: PaperExchange) -> None:
    canaries, rest = a_desk(5, 3)
    refuse(paper_exchange, canaries)
    decision = a_staged_decision()
    allocate(decision.pk, now())
    Order.objects.filter(account__in=canaries).update(
        status=OrderStatus.REJECTED, code="-4131", fills_complete=True
    )
    stop_if_same_code(decision.pk, now())
    settle([decision.pk], now())
    assert the_rest(decision) == {("DENIED", "VENUE_CIRCUIT"): 3}
    assert nothing_was_placed(paper_exchange, rest)
    assert AllocationOutcome.PENDING not in decision.allocations.values_list("outcome", flat=True)


def test_acknowledged_canaries_end_the_alert_of_refused_ones(paper_exchange: PaperExchange) -> None:
    canaries, _ = a_desk(1, 1)
    refuse(paper_exchange, canaries)
    first = a_staged_decision()
    execution.submit(allocate(first.pk, now()).entries, now())
    settle([first.pk], now())
    assert Alert.objects.filter(cause="canaries:CANARY_REFUSED", cleared_at=None).exists()
    Decision.objects.update(decided_at=now() - timedelta(seconds=60))
    second = a_staged_decision()
    execution.submit(allocate(second.pk, now()).entries, now())
    assert settle([second.pk], now()).entries
    assert not Alert.objects.filter(cause="canaries:CANARY_REFUSED", cleared_at=None).exists()
