from dataclasses import replace
from decimal import Decimal
from threading import Thread

import pytest
from django.db import connection
from django.db.models import Sum
from pytest_django import Settings

from accounts.services.limits import set_override
from exchange.port import Market
from trading.domain.states import AllocationOutcome, DecisionStatus, DenyCode, OrderStatus
from trading.models import Decision, Order, Position
from trading.services.allocation import allocate, offer
from trading.services.selection import request
from trading.tests.services.journey import (
    BTC,
    ETH,
    SOL,
    WEATHER,
    a_position,
    a_signal,
    fit_accounts,
    now,
    set_columns,
    set_wallet,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("paper_exchange")]


@pytest.fixture(autouse=True)
def calm(settings: Settings) -> None:
    settings.GATE_OFF = WEATHER


def refusal_of(decision: Decision) -> tuple[str, dict[str, str]]:
    share = decision.allocations.get()
    assert share.outcome == AllocationOutcome.DENIED
    assert not Order.objects.filter(allocation=share).exists()
    return share.code, share.detail


def allocated(symbol: str = BTC) -> Decision:
    decision = request(a_signal(symbol), now())
    allocate(decision.pk, now())
    return decision


@pytest.mark.django_db(transaction=True)
def test_decisions_made_at_once_never_claim_more_margin_than_there_is() -> None:
    (account,) = fit_accounts(1, BTC, ETH, SOL, executors=(Market.FUTURES,))
    set_wallet(account, "10000")
    set_columns(account, available_balance=Decimal(4000))
    decisions = [request(a_signal(symbol), now()) for symbol in (BTC, ETH, SOL)]

    def allocate_one(pk: int) -> None:
        try:
            allocate(pk, now())
        finally:
            connection.close()

    threads = [Thread(target=allocate_one, args=(decision.pk,)) for decision in decisions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [decision.allocations.count() for decision in decisions] == [1, 1, 1]
    claimed = Order.objects.aggregate(margin=Sum("reserved_margin"))["margin"]
    assert 0 < claimed <= Decimal(4000) - Decimal(1000)  # a tenth of the equity is never claimed


@pytest.mark.django_db(transaction=True)
def test_two_workers_with_one_decision_make_one_share_and_one_order() -> None:
    fit_accounts(1)
    decision = request(a_signal(), now())

    def allocate_it() -> None:
        try:
            allocate(decision.pk, now())
        finally:
            connection.close()

    threads = [Thread(target=allocate_it) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert decision.allocations.count() == 1
    assert Order.objects.count() == 1


def test_an_offer_opens_a_decision_again_that_was_called_complete_meanwhile() -> None:
    fit_accounts(1)
    decision = allocated()
    share = decision.allocations.get()
    Order.objects.update(status=OrderStatus.REJECTED, code="-2019", fills_complete=True)
    decision.allocations.update(outcome=AllocationOutcome.REJECTED, code="-2019")
    Decision.objects.update(status=DecisionStatus.COMPLETE, completed_at=now())
    assert len(offer([share.pk], now()).entries) == 1
    share.refresh_from_db()
    decision.refresh_from_db()
    assert (share.outcome, share.code, share.attempts) == (AllocationOutcome.PENDING, "", 2)
    assert (decision.status, decision.completed_at) == (DecisionStatus.OPEN, None)


def test_an_offer_the_gate_denies_keeps_the_first_refusal_and_tells_the_second() -> None:
    (account,) = fit_accounts(1)
    decision = allocated()
    share = decision.allocations.get()
    Order.objects.update(status=OrderStatus.REJECTED, code="-2019", fills_complete=True)
    set_columns(account, spot_available=Decimal(0))
    assert offer([share.pk], now()).entries == []
    share.refresh_from_db()
    assert (share.refusals[0]["executor"], share.refusals[0]["code"]) == ("secondary", DenyCode.MARGIN)
    assert Order.objects.count() == 1


def test_a_limit_of_the_account_itself_binds_it_and_nobody_else() -> None:
    bound, free = fit_accounts(2, BTC, ETH)
    set_override(bound, "daily_trades", "1", "a test")
    allocated(BTC)
    decision = allocated(ETH)
    ends = {share.account_id: (share.outcome, share.code) for share in decision.allocations.all()}
    assert ends == {bound.pk: ("DENIED", "DAILY_TRADES"), free.pk: ("PENDING", "")}


def test_an_account_may_size_by_another_model_than_the_desk() -> None:
    fixed, usual = fit_accounts(2, executors=(Market.FUTURES,))
    set_override(fixed, "sizing_model", "fixed_notional", "a test")
    set_override(fixed, "fixed_notional", "500", "a test")
    allocated()
    notionals = dict(Order.objects.values_list("account_id", "reserved_notional"))
    assert 400 < notionals[fixed.pk] <= 500
    assert notionals[usual.pk] > 5000


def test_limits_that_contradict_close_the_account_to_entries() -> None:
    (account,) = fit_accounts(1)
    account.limits.create(name="daily_loss", value="1")
    assert refusal_of(allocated()) == (DenyCode.ACCOUNT_UNHEALTHY, {"reasons": "limits contradict"})


def test_a_foreign_position_closes_its_coin_to_entries() -> None:
    (account,) = fit_accounts(1)
    position = a_position(account, BTC)
    Position.objects.filter(pk=position.pk).update(is_foreign=True, stop_price=None)
    assert refusal_of(allocated()) == (DenyCode.POSITION_OPEN, {"base": "BTC"})


def test_five_positions_are_enough() -> None:
    (account,) = fit_accounts(1)
    for symbol in (ETH, SOL, "XRP/USDT:USDT", "BNB/USDT:USDT", "ADA/USDT:USDT"):
        a_position(account, symbol, quantity="0.001")
    assert refusal_of(allocated()) == (DenyCode.MAX_POSITIONS, {"open": "5", "limit": "5"})


def test_two_positions_that_move_with_the_candidate_refuse_it(settings: Settings) -> None:
    settings.GATE_OFF = WEATHER - {DenyCode.CORRELATED}
    settings.LIMITS = replace(settings.LIMITS, correlation=Decimal(-1))
    (account,) = fit_accounts(1)
    a_position(account, ETH, quantity="0.001")
    allocated_with_one = allocated()
    assert allocated_with_one.allocations.get().outcome == AllocationOutcome.PENDING
    Order.objects.all().delete()
    a_position(account, SOL, quantity="0.001")
    code, detail = refusal_of(allocated())
    assert (code, set(detail["with_symbols"].split(", "))) == (DenyCode.CORRELATED, {ETH, SOL})


def test_a_lost_day_refuses_before_the_stop_could_take_it_over_the_limit() -> None:
    (account,) = fit_accounts(1)
    set_columns(account, wallet_balance=Decimal(9550))  # 4.5 % lost, and a stop costs nearly 1 % more
    assert refusal_of(allocated())[0] == DenyCode.DAILY_LOSS
