import pytest
from pytest_django import Settings

from accounts.models import Account, AccountSource
from alerts.models import Alert
from exchange.port import Market
from trading.domain.states import AllocationOutcome, DecisionStatus, OrderStatus
from trading.models import Allocation, Decision, Order
from trading.services import decisions
from trading.services.allocation import advance_route, allocate
from trading.services.circuit import stop_if_same_code
from trading.services.selection import request
from trading.tests.services.journey import WEATHER, a_signal, fit_accounts, now, set_columns

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("paper_exchange")]


@pytest.fixture(autouse=True)
def calm(settings: Settings) -> None:
    settings.GATE_OFF = WEATHER


def told_by_environment(account: Account) -> Account:
    set_columns(account, source=AccountSource.ENVIRONMENT)
    return account


def a_cascade(settings: Settings, **signal: str) -> Decision:
    settings.ROUTE_POLICY = "cascade"
    return request(a_signal(**signal), now())


def covered(decision: Decision) -> set[int]:
    return set(decision.allocations.values_list("account_id", flat=True))


def end_all(decision: Decision, outcome: AllocationOutcome) -> None:
    Order.objects.filter(allocation__decision=decision).update(
        status=OrderStatus.EXPIRED, fills_complete=True
    )
    decision.allocations.update(outcome=outcome)


def test_all_covers_every_active_account_whatever_its_source() -> None:
    first, second = fit_accounts(2)
    told_by_environment(first)
    decision = request(a_signal(), now())
    allocate(decision.pk, now())
    assert covered(decision) == {first.pk, second.pk}
    assert not advance_route(decision.pk, now())


def test_a_cascade_asks_the_environment_first_and_the_database_only_when_nothing_filled(
    settings: Settings,
) -> None:
    first, second = fit_accounts(2)
    told_by_environment(first)
    decision = a_cascade(settings)
    allocate(decision.pk, now())
    assert covered(decision) == {first.pk}
    assert not advance_route(decision.pk, now())  # the first is still on its way
    end_all(decision, AllocationOutcome.EXPIRED)
    bells = advance_route(decision.pk, now())
    assert covered(decision) == {first.pk, second.pk}
    assert bells.entries == [Order.objects.get(account=second).pk]


@pytest.mark.parametrize(
    "outcome", [AllocationOutcome.FILLED, AllocationOutcome.PARTIAL, AllocationOutcome.UNKNOWN]
)
def test_a_cascade_stops_where_something_filled_or_is_unknown(
    settings: Settings, outcome: AllocationOutcome
) -> None:
    first, second = fit_accounts(2)
    told_by_environment(first)
    decision = a_cascade(settings)
    allocate(decision.pk, now())
    end_all(decision, outcome)
    assert not advance_route(decision.pk, now())
    assert not Order.objects.filter(account=second).exists()


def test_a_step_without_accounts_is_passed_over_by_name(settings: Settings) -> None:
    (account,) = fit_accounts(1)
    decision = a_cascade(settings)
    allocate(decision.pk, now())
    assert covered(decision) == {account.pk}
    decision.refresh_from_db()
    assert decision.inputs["route"] == [
        {"step": "environment", "skipped": "ROUTE"},
        {"step": "database", "accounts": 1},
    ]


def test_the_last_step_is_skipped_by_name_without_a_house_account(settings: Settings) -> None:
    fit_accounts(1)
    decision = a_cascade(settings)
    allocate(decision.pk, now())
    end_all(decision, AllocationOutcome.EXPIRED)
    assert not advance_route(decision.pk, now())
    decision.refresh_from_db()
    assert decision.inputs["route"][-1] == {"step": "house", "skipped": "HOUSE_ACCOUNT_UNSET"}
    assert Order.objects.count() == 1


def house_of(settings: Settings, *others: Account) -> Account:
    (house,) = fit_accounts(1)
    settings.HOUSE_ACCOUNT = house.name
    return house


def test_the_house_account_is_asked_last_and_on_futures_first(settings: Settings) -> None:
    house = house_of(settings)
    decision = a_cascade(settings, score="0.9")
    bells = allocate(decision.pk, now())
    order = Order.objects.get(account=house)
    assert bells.entries == [order.pk]
    assert order.market == Market.FUTURES
    decision.refresh_from_db()
    assert [step["step"] for step in decision.inputs["route"]] == ["environment", "database", "house"]
    assert str(decision.confidence) == "0.900"


def test_the_house_account_goes_to_spot_when_futures_cannot_pay(settings: Settings) -> None:
    house = house_of(settings)
    set_columns(house, available_balance=0)
    decision = a_cascade(settings)
    allocate(decision.pk, now())
    assert [order.market for order in Order.objects.filter(account=house)] == [Market.SPOT]


def test_a_signal_that_fits_no_market_of_the_house_is_skipped(settings: Settings) -> None:
    house = house_of(settings)
    decision = a_cascade(settings, score="0.5", side="SHORT")
    allocate(decision.pk, now())
    share = Allocation.objects.get(account=house)
    assert (share.outcome, share.code) == ("SKIPPED", "NO_MARKET")
    assert not Order.objects.exists()


# ── the venue circuit ────────────────────────────────────────────────────────


def a_fan_out(count: int) -> Decision:
    fit_accounts(count)
    decision = request(a_signal(), now())
    allocate(decision.pk, now())
    assert Order.objects.count() == count
    return decision


def reject(count: int, code: str) -> None:
    chosen = Order.objects.order_by("pk").filter(status=OrderStatus.PENDING)[:count]
    Order.objects.filter(pk__in=[order.pk for order in chosen]).update(status=OrderStatus.REJECTED, code=code)


def test_five_equal_rejections_stop_the_rest_of_the_decision() -> None:
    decision = a_fan_out(8)
    reject(5, "-4131")
    bells = stop_if_same_code(decision.pk, now())
    assert bells.decisions == [decision.pk]
    decision.refresh_from_db()
    assert decision.stopped_code == "VENUE_CIRCUIT -4131"
    assert Order.objects.filter(status=OrderStatus.CANCELLED, code="VENUE_CIRCUIT").count() == 3
    denied = decision.allocations.filter(outcome="DENIED", code="VENUE_CIRCUIT")
    assert denied.count() == 3
    assert not Order.objects.exclude(reserved_margin=0).filter(status=OrderStatus.CANCELLED).exists()


def test_four_equal_rejections_or_five_different_ones_stop_nothing() -> None:
    decision = a_fan_out(8)
    reject(4, "-4131")
    assert not stop_if_same_code(decision.pk, now())
    reject(1, "-4140")
    assert not stop_if_same_code(decision.pk, now())
    assert Order.objects.filter(status=OrderStatus.PENDING).count() == 3


def test_a_stopped_decision_offers_nothing_any_more() -> None:
    decision = a_fan_out(6)
    reject(5, "-4131")
    stop_if_same_code(decision.pk, now())
    assert not allocate(decision.pk, now())
    assert not advance_route(decision.pk, now())
    assert Order.objects.count() == 6


def test_a_circuit_that_opens_again_after_a_decision_that_ran_is_told_again() -> None:
    stopped = a_fan_out(6)
    reject(5, "-4131")
    stop_if_same_code(stopped.pk, now())
    assert Alert.objects.filter(cause="venue-circuit:-4131", cleared_at=None).exists()
    decisions.settle([stopped.pk], now())
    assert Alert.objects.filter(cause="venue-circuit:-4131", cleared_at=None).exists()

    # The same accounts again, of which nobody refuses any more.
    Decision.objects.filter(pk=stopped.pk).update(stopped_code="", status=DecisionStatus.OPEN)
    Order.objects.update(status=OrderStatus.EXPIRED, fills_complete=True)
    decisions.settle([stopped.pk], now())
    assert not Alert.objects.filter(cause="venue-circuit:-4131", cleared_at=None).exists()
