"""From the primary executor to the secondary: when, under which identity, and what the ledger tells of it."""

from datetime import timedelta

import pytest
from pytest_django import Settings

from accounts.models import Account, AccountSource, Executor
from exchange.port import Market
from tests.processes import PaperExchange
from trading.domain.states import AllocationOutcome, DecisionStatus, OrderStatus
from trading.models import Allocation, Decision, Order
from trading.services import execution, sweeping
from trading.services.allocation import advance_route, allocate, offer
from trading.services.decisions import settle
from trading.services.selection import request
from trading.tests.services.journey import WEATHER, a_signal, fit_accounts, now, set_columns
from trading.tests.services.sending import PLACE, told_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("paper_exchange", "faults")]

SPOT_PLACE = "POST /api/v3/order"


@pytest.fixture(autouse=True)
def calm(settings: Settings) -> None:
    settings.GATE_OFF = WEATHER


def decided(**signal: str) -> Decision:
    decision = request(a_signal(**signal), now())
    allocate(decision.pk, now())
    return decision


def refuse(paper: PaperExchange, account: Account, code: int, place: str = PLACE) -> None:
    paper.add_fault(kind="http", endpoint=place, account=account.name, status=400, code=code)


def refused(order: Order, code: str = "-2019", status: OrderStatus = OrderStatus.REJECTED) -> Order:
    """As the exchange would have ended it, with nothing filled."""
    Order.objects.filter(pk=order.pk).update(status=status, code=code, fills_complete=True, fence=3)
    order.refresh_from_db()
    return order


def entries_of(account: Account) -> list[Order]:
    return list(Order.objects.filter(account=account, purpose="ENTRY").order_by("attempt"))


def share_of(account: Account) -> Allocation:
    return Allocation.objects.get(account=account)


def passed_over(share: Allocation) -> list[tuple[int, str, str, str]]:
    return [(one["attempt"], one["executor"], one["market"], one["code"]) for one in share.refusals]


# ── from the exchange's answer to the other market ───────────────────────────


def test_a_margin_refusal_of_the_exchange_is_bought_on_spot_and_each_step_has_its_code(
    paper_exchange: PaperExchange,
) -> None:
    (account,) = fit_accounts(1)
    refuse(paper_exchange, account, -2019)
    decision = decided()
    bells = execution.submit([entries_of(account)[0].pk], now())
    assert bells.allocations == [share_of(account).pk]
    handed_over = offer(bells.allocations, now())
    execution.submit(handed_over.entries, now())
    settle([decision.pk], now())

    first, second = entries_of(account)
    assert (first.executor, first.market, first.status, first.code) == (
        "primary", Market.FUTURES, OrderStatus.REJECTED, "-2019",
    )  # fmt: skip
    assert (second.executor, second.market, second.symbol) == ("secondary", Market.SPOT, "BTC/USDT")
    assert second.status == OrderStatus.FILLED
    share = share_of(account)
    assert (share.outcome, share.executor, share.market, share.attempts) == (
        AllocationOutcome.FILLED, "secondary", Market.SPOT, 2,
    )  # fmt: skip
    placed = told_of(paper_exchange, account)
    assert [row["client_order_id"] for row in placed if row["store"] != "conditional"] == [
        second.client_order_id
    ]


def test_the_hand_over_raises_the_fencing_token_above_every_claim_before() -> None:
    (account,) = fit_accounts(1)
    decided()
    first = refused(entries_of(account)[0])
    offer([share_of(account).pk], now())
    second = entries_of(account)[1]
    assert second.fence > first.fence > 0
    assert second.client_order_id != first.client_order_id


def test_the_other_market_is_gated_and_sized_for_itself() -> None:
    (account,) = fit_accounts(1)
    decided()
    first = refused(entries_of(account)[0])
    set_columns(account, spot_wallet=300, spot_available=300)
    offer([share_of(account).pk], now())
    second = entries_of(account)[1]
    assert second.quantity is not None
    assert first.quantity is not None
    assert second.quantity < first.quantity
    assert second.reserved_notional <= 300
    assert share_of(account).quantity == second.quantity


def test_what_the_other_market_refuses_is_told_beside_the_first_refusal_and_nothing_is_sent() -> None:
    (account,) = fit_accounts(1)
    decision = decided()
    refused(entries_of(account)[0])
    set_columns(account, spot_wallet=0, spot_available=0)
    bells = offer([share_of(account).pk], now())
    assert (bells.entries, bells.decisions) == ([], [decision.pk])
    settle([decision.pk], now())
    share = share_of(account)
    assert (share.outcome, share.code) == (AllocationOutcome.REJECTED, "-2019")
    assert len(entries_of(account)) == 1
    ((attempt, executor, market, code),) = passed_over(share)
    assert (attempt, executor, market) == (2, "secondary", Market.SPOT)
    assert code in {"MARGIN", "MIN_NOTIONAL", "MIN_QUANTITY", "RISK_BUDGET"}


def test_an_account_with_one_executor_is_told_to_have_no_other() -> None:
    (account,) = fit_accounts(1, executors=(Market.FUTURES,))
    decision = decided()
    refused(entries_of(account)[0])
    assert not offer([share_of(account).pk], now()).entries
    settle([decision.pk], now())
    share = share_of(account)
    assert passed_over(share) == [(2, "", "", "NO_EXECUTOR")]
    assert (share.outcome, share.code) == (AllocationOutcome.REJECTED, "-2019")


def test_a_secondary_that_is_refused_too_is_the_end() -> None:
    (account,) = fit_accounts(1)
    set_columns(account, available_balance=0)
    decision = decided()
    (entry,) = entries_of(account)
    assert (entry.executor, entry.market) == ("secondary", Market.SPOT)
    refused(entry, "-4164")
    assert not offer([share_of(account).pk], now()).entries  # and never back to the primary
    settle([decision.pk], now())
    share = share_of(account)
    assert (share.outcome, share.code, len(entries_of(account))) == (AllocationOutcome.REJECTED, "-4164", 1)
    assert passed_over(share) == [(1, "primary", "futures", "MARGIN"), (2, "", "", "NO_EXECUTOR")]


def test_an_attempt_proven_absent_stays_with_the_secondary_that_had_it() -> None:
    (account,) = fit_accounts(1)
    set_columns(account, available_balance=0)
    decided()
    refused(entries_of(account)[0], "NOT_PLACED", OrderStatus.EXPIRED)
    offer([share_of(account).pk], now())
    second = entries_of(account)[1]
    assert (second.executor, second.market, second.attempt) == ("secondary", Market.SPOT, 2)


def test_an_executor_that_was_switched_off_is_not_handed_anything() -> None:
    (account,) = fit_accounts(1)
    decided()
    refused(entries_of(account)[0])
    Executor.objects.filter(account=account, market=Market.SPOT).update(is_enabled=False)
    assert not offer([share_of(account).pk], now()).entries
    assert len(entries_of(account)) == 1


def test_an_attempt_proven_absent_is_not_made_again_on_an_executor_that_was_switched_off() -> None:
    (account,) = fit_accounts(1)
    decision = decided()
    refused(entries_of(account)[0], "NOT_PLACED", OrderStatus.EXPIRED)
    Executor.objects.filter(account=account, market=Market.FUTURES).update(is_enabled=False)
    assert not offer([share_of(account).pk], now()).entries
    settle([decision.pk], now())
    assert (share_of(account).outcome, share_of(account).code) == (AllocationOutcome.EXPIRED, "NOT_PLACED")
    assert len(entries_of(account)) == 1


# ── what the gate refuses before anything is sent ────────────────────────────


def test_what_the_primary_was_denied_is_kept_when_the_secondary_takes_the_share() -> None:
    (account,) = fit_accounts(1)
    set_columns(account, available_balance=0)
    decided()
    share = share_of(account)
    assert (share.outcome, share.executor) == (AllocationOutcome.PENDING, "secondary")
    assert passed_over(share) == [(1, "primary", "futures", "MARGIN")]
    assert "available" in share.refusals[0]["numbers"]


def test_what_both_were_denied_is_kept_and_the_primary_names_the_outcome() -> None:
    (account,) = fit_accounts(1)
    set_columns(account, available_balance=0, spot_wallet=0, spot_available=0)
    decided()
    share = share_of(account)
    assert (share.outcome, share.code, share.executor) == (AllocationOutcome.DENIED, "MARGIN", "primary")
    ((attempt, executor, market, _),) = passed_over(share)
    assert (attempt, executor, market) == (1, "secondary", "spot")
    assert not Order.objects.exists()


# ── a hand-over is not lost between two settlings ────────────────────────────


def test_a_share_waits_for_its_next_executor_whoever_settles_meanwhile() -> None:
    first, _ = fit_accounts(2)
    decision = decided()
    refused(entries_of(first)[0])
    settle([decision.pk], now())  # rung by another chunk; the bell of the hand-over is lost
    assert share_of(first).outcome == AllocationOutcome.PENDING
    Decision.objects.filter(pk=decision.pk).update(recorded_at=now() - timedelta(seconds=4))
    assert sweeping.sweep(now()).allocations == [share_of(first).pk]
    assert offer([share_of(first).pk], now()).entries
    assert [entry.market for entry in entries_of(first)] == [Market.FUTURES, Market.SPOT]


def test_a_share_waits_no_longer_than_the_deadline() -> None:
    (account,) = fit_accounts(1)
    decision = decided()
    refused(entries_of(account)[0])
    settle([decision.pk], now() + timedelta(seconds=16))
    decision.refresh_from_db()
    assert (share_of(account).outcome, decision.status) == (
        AllocationOutcome.REJECTED, DecisionStatus.COMPLETE,
    )  # fmt: skip
    assert not offer([share_of(account).pk], now() + timedelta(seconds=16)).entries


def test_a_stopped_decision_waits_for_no_executor() -> None:
    (account,) = fit_accounts(1)
    decision = decided()
    refused(entries_of(account)[0])
    Decision.objects.filter(pk=decision.pk).update(stopped_code="VENUE_CIRCUIT -2019")
    settle([decision.pk], now())
    assert share_of(account).outcome == AllocationOutcome.REJECTED


def test_an_offer_made_twice_hands_over_once() -> None:
    (account,) = fit_accounts(1)
    decided()
    refused(entries_of(account)[0])
    offer([share_of(account).pk], now())
    assert not offer([share_of(account).pk], now()).entries
    assert len(entries_of(account)) == 2


def test_a_refused_hand_over_is_refused_once() -> None:
    (account,) = fit_accounts(1)
    decided()
    refused(entries_of(account)[0])
    set_columns(account, spot_wallet=0, spot_available=0)
    offer([share_of(account).pk], now())
    assert not offer([share_of(account).pk], now())
    assert len(passed_over(share_of(account))) == 1


# ── the cascade ──────────────────────────────────────────────────────────────


def a_cascade(settings: Settings, **signal: str) -> Decision:
    settings.ROUTE_POLICY = "cascade"
    return decided(**signal)


def test_a_cascade_asks_the_secondary_of_a_step_before_the_next_step(settings: Settings) -> None:
    first, second = fit_accounts(2)
    set_columns(first, source=AccountSource.ENVIRONMENT)
    decision = a_cascade(settings)
    refused(entries_of(first)[0])
    settle([decision.pk], now())
    assert not advance_route(decision.pk, now())
    assert not entries_of(second)
    offer([share_of(first).pk], now())
    assert [entry.market for entry in entries_of(first)] == [Market.FUTURES, Market.SPOT]
    refused(entries_of(first)[1], "-4164")
    offer([share_of(first).pk], now())
    settle([decision.pk], now())
    assert [entry.account_id for entry in entries_of(second)] == [second.pk]


def test_every_step_of_a_cascade_is_told(settings: Settings) -> None:
    first, _ = fit_accounts(2)
    set_columns(first, source=AccountSource.ENVIRONMENT)
    decision = a_cascade(settings)
    for account_id in list(Account.objects.order_by("pk").values_list("pk", flat=True)):
        for entry in Order.objects.filter(account=account_id, status=OrderStatus.PENDING):
            refused(entry, "-1111")
        settle([decision.pk], now())
    decision.refresh_from_db()
    assert decision.inputs["route"] == [
        {"step": "environment", "accounts": 1},
        {"step": "database", "accounts": 1},
        {"step": "house", "skipped": "HOUSE_ACCOUNT_UNSET"},
    ]
    assert decision.status == DecisionStatus.COMPLETE


# ── the dual executor ────────────────────────────────────────────────────────


def a_house(settings: Settings) -> Account:
    (house,) = fit_accounts(1)
    settings.HOUSE_ACCOUNT = house.name
    return house


def test_the_house_goes_on_only_to_a_market_that_fits_the_signal(settings: Settings) -> None:
    house = a_house(settings)
    a_cascade(settings, score="0.66")  # too weak for futures
    (entry,) = entries_of(house)
    assert entry.market == Market.SPOT
    refused(entry, "-4164")
    assert not offer([share_of(house).pk], now()).entries
    assert [found.market for found in entries_of(house)] == [Market.SPOT]


def test_the_house_goes_from_futures_to_spot_where_both_fit(settings: Settings) -> None:
    house = a_house(settings)
    a_cascade(settings, score="0.8")
    refused(entries_of(house)[0])
    offer([share_of(house).pk], now())
    assert [found.market for found in entries_of(house)] == [Market.FUTURES, Market.SPOT]


def test_the_house_never_uses_an_executor_that_is_switched_off(settings: Settings) -> None:
    house = a_house(settings)
    Executor.objects.filter(account=house, market=Market.SPOT).update(is_enabled=False)
    a_cascade(settings, score="0.66")
    share = share_of(house)
    assert (share.outcome, share.code) == (AllocationOutcome.SKIPPED, "NO_MARKET")
    assert not Order.objects.exists()
