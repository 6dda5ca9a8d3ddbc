"""The accounts' start order moves on from decision to decision, and rows, bells and claims keep to it."""

import pytest
from pytest_django import Settings

from accounts.models import Account
from trading.domain.states import OrderStatus
from trading.models import Allocation, Decision, Order
from trading.services.allocation import allocate, offer
from trading.services.execution import claiming
from trading.services.selection import request, select
from trading.tests.services.journey import ETH, SOL, WEATHER, a_signal, fit_accounts, now, set_columns

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("paper_exchange")]


@pytest.fixture(autouse=True)
def calm(settings: Settings) -> None:
    settings.GATE_OFF = WEATHER


def allocated(symbol: str = ETH) -> tuple[Decision, list[int]]:
    decision = request(a_signal(symbol), now())
    return decision, allocate(decision.pk, now()).entries


def starters(decision: Decision) -> list[int]:
    """The accounts by their place."""
    placed = decision.allocations.filter(place__isnull=False).order_by("place")
    return list(placed.values_list("account_id", flat=True))


def undo(decision: Decision) -> None:
    """Let the next decision find the accounts as this one did."""
    Order.objects.filter(allocation__decision=decision).update(status=OrderStatus.EXPIRED)
    Decision.objects.filter(pk=decision.pk).update(decided_at=now().replace(year=2025))


def test_each_account_has_each_place_once_in_as_many_decisions_as_accounts() -> None:
    accounts = fit_accounts(5, ETH)
    had: dict[int, list[int]] = {account.pk: [] for account in accounts}
    for _ in accounts:
        decision, _ = allocated()
        for place, account_id in enumerate(starters(decision), 1):
            had[account_id].append(place)
        undo(decision)
    assert all(sorted(places) == [1, 2, 3, 4, 5] for places in had.values())


def test_bells_and_claims_keep_the_start_order() -> None:
    fit_accounts(4, ETH)
    Decision.objects.create(status="COMPLETE", turn=2, decided_at=now())  # it begins somewhere in the middle
    decision, entries = allocated()
    order_of = dict(Order.objects.values_list("pk", "account_id"))
    assert [order_of[pk] for pk in entries] == starters(decision)
    assert sorted(order_of.values()) != starters(decision)
    assert [order.account_id for order in claiming.claim(entries)] == starters(decision)


def test_who_is_not_sent_for_has_no_place_and_shifts_nobody() -> None:
    denied, *others = fit_accounts(4, ETH)
    set_columns(denied, is_multi_assets=True)
    decision, _ = allocated()
    assert Allocation.objects.get(account=denied).place is None
    assert sorted(starters(decision)) == [account.pk for account in others]
    assert [Allocation.objects.get(account=pk).place for pk in starters(decision)] == [1, 2, 3]


def test_only_choices_count_turns() -> None:
    fit_accounts(1, ETH, SOL)
    first, _ = allocated(ETH)
    select(now())
    Decision.objects.create(status="NONE", reason="QUALITY", decided_at=now())
    second, _ = allocated(SOL)
    assert (first.turn, second.turn) == (1, 2)


def test_a_hand_over_keeps_the_start_order() -> None:
    fit_accounts(4, ETH)
    decision, _ = allocated()
    Order.objects.update(status=OrderStatus.REJECTED, code="-2019", fills_complete=True)
    bells = offer(list(decision.allocations.values_list("pk", flat=True)), now())
    order_of = dict(Order.objects.values_list("pk", "account_id"))
    assert [order_of[pk] for pk in bells.entries] == starters(decision)
    assert Account.objects.count() == 4
