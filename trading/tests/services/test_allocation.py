from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from accounts.models import Account, Health, SymbolSetting
from alerts.models import Alert
from exchange.errors import ReadFailed
from exchange.port import Market
from tests.processes import PaperExchange
from trading.domain.limits import SizingModel
from trading.domain.states import AllocationOutcome, DecisionStatus, DenyCode, OrderPurpose, OrderStatus
from trading.models import Allocation, Decision, Halt, Order, Position
from trading.models.signals import SignalAction, SignalStatus
from trading.services import signals
from trading.services.allocation import allocate, offer
from trading.services.bells import Bells
from trading.services.decisions import settle
from trading.services.scene import MarketScene, market_scene
from trading.services.selection import request
from trading.services.valkey import valkey
from trading.tests.services.journey import (
    BTC,
    ETH,
    SOL,
    WALLET,
    WEATHER,
    a_position,
    a_signal,
    fit_accounts,
    mark_of,
    now,
    set_columns,
    set_wallet,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("paper_exchange")]


@pytest.fixture(autouse=True)
def calm(settings: Settings) -> None:
    settings.GATE_OFF = WEATHER


def decided(symbol: str = BTC, side: str = "LONG") -> Decision:
    return request(a_signal(symbol, side), now())


def outcomes(decision: Decision) -> list[tuple[str, str]]:
    return list(decision.allocations.order_by("account_id").values_list("outcome", "code"))


def decided_ago(decision: Decision, *, seconds: int) -> None:
    Decision.objects.filter(pk=decision.pk).update(decided_at=now() - timedelta(seconds=seconds))


def the_refusal(decision: Decision) -> tuple[str, dict[str, str]]:
    """The one allocation was denied, and nothing was written that could be sent."""
    allocation = decision.allocations.get()
    assert allocation.outcome == AllocationOutcome.DENIED
    assert not allocation.orders.exists()
    return allocation.code, allocation.detail


def test_every_account_gets_one_share_and_one_committed_entry_at_the_same_cap() -> None:
    accounts = fit_accounts(3)
    decision = decided()
    bells = allocate(decision.pk, now())
    assert outcomes(decision) == [("PENDING", "")] * 3
    orders = list(Order.objects.filter(allocation__decision=decision))
    assert sorted(bells.entries) == sorted(order.pk for order in orders)
    assert {order.account_id for order in orders} == {account.pk for account in accounts}
    assert {order.price for order in orders} == {decision.cap_price}
    assert {(order.status, order.purpose, order.side, order.executor) for order in orders} == {
        (OrderStatus.PENDING, OrderPurpose.ENTRY, "buy", "primary")
    }
    assert len({order.client_order_id for order in orders}) == 3


def test_an_entry_risks_one_percent_of_the_equity_and_reserves_it(settings: Settings) -> None:
    # With the nearest stop of a calm hour a cap on the notional would be what decides.
    settings.LIMITS = replace(settings.LIMITS, symbol_notional=Decimal(9), gross_notional=Decimal(9))
    (account,) = fit_accounts(1)
    decision = decided()
    allocate(decision.pk, now())
    order = Order.objects.get(allocation__decision=decision)
    allocation = decision.allocations.get()
    budget = (account.wallet_balance or Decimal(0)) / 100
    assert allocation.planned_risk == budget
    assert Decimal("0.9") * budget < order.reserved_risk <= budget + Decimal("0.00000001")
    assert order.reserved_margin > order.reserved_notional / 3
    assert Decimal(allocation.detail["loss_at_stop"]) == order.reserved_risk


def test_allocating_twice_makes_nothing_twice() -> None:
    fit_accounts(2)
    decision = decided()
    allocate(decision.pk, now())
    assert not allocate(decision.pk, now())
    assert decision.allocations.count() == 2
    assert Order.objects.filter(allocation__decision=decision).count() == 2


def test_what_one_decision_reserved_is_gone_for_the_next() -> None:
    (account,) = fit_accounts(1, BTC, ETH)
    set_columns(account, available_balance=Decimal(1100))
    allocate(decided(BTC).pk, now())
    first = Order.objects.get()
    second_decision = decided(ETH)
    allocate(second_decision.pk, now())
    room = Decimal(1100) - first.reserved_margin - Decimal(1000)
    second = Order.objects.filter(allocation__decision=second_decision).first()
    assert second is None or second.reserved_margin <= room


def test_v15_the_same_symbol_and_side_again_is_a_duplicate_and_then_an_open_order() -> None:
    fit_accounts(1)
    first = decided()
    allocate(first.pk, now())
    decided_ago(first, seconds=29)
    second = decided()
    allocate(second.pk, now())
    assert the_refusal(second)[0] == DenyCode.DUPLICATE
    decided_ago(first, seconds=31)
    third = decided()
    allocate(third.pk, now())
    assert the_refusal(third)[0] == DenyCode.ORDER_PENDING


def test_v15_beside_a_position_the_same_again_is_denied_position_open() -> None:
    (account,) = fit_accounts(1)
    a_position(account, BTC)
    decision = decided()
    allocate(decision.pk, now())
    assert the_refusal(decision)[0] == DenyCode.POSITION_OPEN


def test_v19_five_decisions_without_margin_are_five_denials_one_alert_and_no_order() -> None:
    (account,) = fit_accounts(1, executors=(Market.FUTURES,))
    set_columns(account, available_balance=Decimal(0))
    for _ in range(5):
        decision = decided()
        allocate(decision.pk, now())
        assert the_refusal(decision)[0] == DenyCode.MARGIN
    assert not Order.objects.exists()
    assert list(Alert.objects.filter(cause="denied:MARGIN").values_list("count", flat=True)) == [5]
    assert not account.breakers.exists()


def test_v10_the_one_below_the_minimum_is_denied_and_the_other_is_sent(settings: Settings) -> None:
    settings.LIMITS = replace(
        settings.LIMITS, sizing_model=SizingModel.FIXED_MARGIN, fixed_margin=Decimal("0.02"), leverage=10
    )
    poor, rich = fit_accounts(2, ETH, executors=(Market.FUTURES,))  # whose minimum notional is 20
    for account, free in ((poor, "100"), (rich, "154")):
        set_wallet(account, free)
        set_columns(account, leverage=10)
        SymbolSetting.objects.filter(account=account).update(leverage=10)
    decision = decided(ETH)
    allocate(decision.pk, now())
    assert outcomes(decision) == [("DENIED", "MIN_NOTIONAL"), ("PENDING", "")]
    assert list(Order.objects.values_list("account_id", flat=True)) == [rich.pk]


def test_equal_refusals_of_a_decision_are_one_alert_that_goes_when_they_do() -> None:
    accounts = fit_accounts(3, BTC, executors=(Market.FUTURES,))
    for account in accounts:
        set_columns(account, available_balance=Decimal(0))
    allocate(decided().pk, now())
    alert = Alert.objects.get(cause="denied:MARGIN")
    assert (alert.count, alert.cleared_at) == (1, None)
    assert "3 of 3 accounts" in alert.message
    for account in accounts:
        set_columns(account, available_balance=WALLET)
    allocate(decided().pk, now())
    alert.refresh_from_db()
    assert alert.cleared_at is not None


def test_v20_size_and_gate_use_the_stop_of_the_plan_and_not_the_nearer_one_of_the_signal(
    settings: Settings,
) -> None:
    settings.LIMITS = replace(settings.LIMITS, min_stop=False, symbol_notional=Decimal(3))
    (account,) = fit_accounts(1, ETH, executors=(Market.FUTURES,))
    set_columns(account, leverage=2)
    SymbolSetting.objects.filter(account=account).update(leverage=2)
    mark = mark_of(ETH)
    signal = a_signal(ETH, stop_price=str(mark * Decimal("0.997")))
    allocate(request(signal, now()).pk, now())
    detail = Allocation.objects.get().detail
    cap, stop = Decimal(detail["cap_price"]), Decimal(detail["stop_price"])
    assert Decimal("0.0070") < 1 - stop / cap <= Decimal("0.007094")
    loss = Decimal(detail["loss_at_stop"])
    assert Decimal("0.99") * WALLET / 100 < loss <= WALLET / 100


def test_the_secondary_is_offered_at_once_what_it_can_cure() -> None:
    (account,) = fit_accounts(1)
    set_columns(account, available_balance=Decimal(0))
    decision = decided()
    allocate(decision.pk, now())
    order = Order.objects.get(allocation__decision=decision)
    assert (order.market, order.executor, order.symbol) == (Market.SPOT, "secondary", "BTC/USDT")
    assert decision.cap_price is not None
    assert order.price is not None
    assert order.price <= decision.cap_price
    assert not order.reduce_only


def test_a_short_never_goes_to_spot() -> None:
    (account,) = fit_accounts(1)
    set_columns(account, available_balance=Decimal(0))
    decision = decided(side="SHORT")
    allocate(decision.pk, now())
    assert the_refusal(decision)[0] == DenyCode.MARGIN


def test_a_spot_account_is_skipped_by_a_short() -> None:
    fit_accounts(1, executors=(Market.SPOT,))
    decision = decided(side="SHORT")
    allocate(decision.pk, now())
    assert outcomes(decision) == [("SKIPPED", "NO_MARKET")]
    assert not Order.objects.exists()


def test_v22_a_long_only_account_may_open_a_third_long(settings: Settings) -> None:
    settings.LIMITS = replace(settings.LIMITS, risk_per_trade=Decimal("0.0025"))
    (account,) = fit_accounts(1, executors=(Market.SPOT,))
    for symbol in (BTC, ETH, SOL):
        decision = decided(symbol)
        allocate(decision.pk, now())
        assert outcomes(decision) == [("PENDING", "")], symbol
    assert Order.objects.filter(account=account).count() == 3


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"health": Health.UNHEALTHY, "health_code": "CLOCK"}, "health UNHEALTHY CLOCK"),
        ({"health": Health.CREDENTIAL_ERROR}, "health CREDENTIAL_ERROR"),
        ({"mode": "testnet"}, "mode testnet"),
        ({"is_multi_assets": True}, "multi-assets margin"),
        ({"wallet_balance": None}, "balance never read"),
    ],
)
def test_an_unfit_account_is_denied_with_every_reason(columns: dict[str, object], reason: str) -> None:
    (account,) = fit_accounts(1, executors=(Market.FUTURES,))
    set_columns(account, **columns)
    decision = decided()
    allocate(decision.pk, now())
    code, detail = the_refusal(decision)
    assert (code, detail["reasons"]) == (DenyCode.ACCOUNT_UNHEALTHY, reason)


def test_a_paused_or_archived_account_takes_no_part() -> None:
    paused, archived = fit_accounts(2)
    set_columns(paused, is_enabled=False)
    set_columns(archived, archived_at=now())
    decision = decided()
    allocate(decision.pk, now())
    assert outcomes(decision) == []
    assert not Order.objects.exists()
    decision.refresh_from_db()
    assert decision.status == "COMPLETE"


def test_v16_an_account_whose_picture_is_old_is_denied_stale_data() -> None:
    (account,) = fit_accounts(1)
    set_columns(account, fresh_at=now() - timedelta(seconds=31))
    decision = decided()
    allocate(decision.pk, now())
    assert the_refusal(decision)[0] == DenyCode.STALE_DATA


def test_a_halt_denies_before_everything_else() -> None:
    (account,) = fit_accounts(1)
    set_columns(account, health=Health.UNHEALTHY)
    Halt.objects.create(
        scope="account",
        target=account.name,
        level="HALT_ENTRIES",
        reason="test",
        raised_by="test",
        raised_at=now(),
    )
    decision = decided()
    allocate(decision.pk, now())
    assert the_refusal(decision)[0] == DenyCode.HALTED


@pytest.mark.parametrize("offset_ms", [1001, -1001])
def test_a_desk_whose_clock_is_wrong_enters_nothing(offset_ms: int) -> None:
    (account,) = fit_accounts(1)
    set_columns(account, clock_offset_ms=offset_ms)
    decision = decided()
    allocate(decision.pk, now())
    code, detail = the_refusal(decision)
    assert code == DenyCode.ACCOUNT_UNHEALTHY
    assert str(offset_ms) in str(detail)
    assert not Order.objects.exists()


@pytest.mark.parametrize("leverage", [None, 20])
def test_settings_that_were_not_read_back_as_asked_are_denied(leverage: int | None) -> None:
    (account,) = fit_accounts(1, executors=(Market.FUTURES,))
    rows = SymbolSetting.objects.filter(account=account)
    if leverage is None:
        rows.delete()
    else:
        rows.update(leverage=leverage)
    decision = decided()
    allocate(decision.pk, now())
    assert the_refusal(decision)[0] == DenyCode.SETTINGS


def test_the_desk_shares_a_scarce_coin_pro_rata_and_stays_under_its_ceiling(settings: Settings) -> None:
    ceiling = Decimal(3000)
    settings.LIMITS = replace(settings.LIMITS, desk_symbol_notional=ceiling)
    small, large = fit_accounts(2, SOL)
    set_wallet(small, "5000")
    decision = decided(SOL)
    allocate(decision.pk, now())
    notionals = dict(Order.objects.values_list("account_id", "reserved_notional"))
    assert Decimal("0.95") * ceiling < sum(notionals.values()) <= ceiling
    assert notionals[large.pk] / notionals[small.pk] == pytest.approx(Decimal(2), rel=Decimal("0.02"))


def test_an_unread_book_refuses_and_never_enlarges(faults: PaperExchange) -> None:
    fit_accounts(1, SOL)
    decision = decided(SOL)
    faults.add_fault(kind="http", endpoint="GET /fapi/v1/depth", status=500, count=0)
    valkey().delete(f"desk:depth:{SOL}")
    allocate(decision.pk, now())
    assert the_refusal(decision) == (DenyCode.STALE_DATA, {"missing": "depth_notional"})


@pytest.mark.parametrize(("lost", "outcome"), [("370", "PENDING"), ("420", "DENIED")])
def test_a_loss_on_spot_counts_in_the_day_of_an_account_without_futures_money(
    lost: str, outcome: str
) -> None:
    (account,) = fit_accounts(1)
    set_wallet(account, "0")
    spot = WALLET - Decimal(lost)
    set_columns(account, spot_wallet=spot, spot_available=spot)
    coin = a_position(account, ETH)
    Position.objects.filter(pk=coin.pk).update(
        market=Market.SPOT, status="CLOSED", closed_at=now(), quantity=0, realized_profit=-Decimal(lost)
    )
    decision = decided()
    allocate(decision.pk, now())
    assert [found for found, _ in outcomes(decision)] == [outcome]
    assert Order.objects.exists() == (outcome == "PENDING")


def test_a_decision_past_its_deadline_reaches_nobody() -> None:
    fit_accounts(1)
    decision = decided()
    Decision.objects.filter(pk=decision.pk).update(deadline_at=now() - timedelta(seconds=1))
    allocate(decision.pk, now())
    assert outcomes(decision) == [("EXPIRED", "DEADLINE")]
    assert not Order.objects.exists()


def test_a_decision_nobody_could_allocate_closes_at_its_deadline_with_the_exchange_still_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    accounts = fit_accounts(2)
    decision = decided()
    monkeypatch.setattr("trading.services.allocation.market_scene", away)
    with pytest.raises(ReadFailed):
        allocate(decision.pk, now())
    assert (decision.deadline_at is not None, outcomes(decision)) == (True, [])
    later = now() + timedelta(seconds=16)
    bells = allocate(decision.pk, later)
    assert allocate(decision.pk, later) == Bells()
    settle(bells.decisions, later)
    decision.refresh_from_db()
    assert outcomes(decision) == [("EXPIRED", "DEADLINE")] * len(accounts)
    assert decision.status == DecisionStatus.COMPLETE
    assert not Order.objects.exists()


def away(*_: object) -> None:
    raise ReadFailed("CONNECTION_LOST", "the market table was never read")


# ── offers after the first ───────────────────────────────────────────────────


def rejected(allocation: Allocation, code: str) -> Order:
    order = allocation.orders.get()
    Order.objects.filter(pk=order.pk).update(status=OrderStatus.REJECTED, code=code, fills_complete=True)
    return order


def test_a_curable_rejection_goes_to_the_secondary_under_a_new_identity() -> None:
    fit_accounts(1)
    decision = decided()
    allocate(decision.pk, now())
    allocation = decision.allocations.get()
    first = rejected(allocation, "-2019")
    bells = offer([allocation.pk], now())
    second = allocation.orders.exclude(pk=first.pk).get()
    assert bells.entries == [second.pk]
    assert (second.market, second.executor, second.attempt) == (Market.SPOT, "secondary", 2)
    assert second.client_order_id != first.client_order_id
    assert offer([allocation.pk], now()).entries == []


@pytest.mark.parametrize("code", ["-4028", "-1111"])
def test_a_rejection_no_market_can_cure_is_not_offered_on(code: str) -> None:
    fit_accounts(1)
    decision = decided()
    allocate(decision.pk, now())
    allocation = decision.allocations.get()
    rejected(allocation, code)
    assert offer([allocation.pk], now()).entries == []
    assert allocation.orders.count() == 1


@pytest.mark.parametrize("status", [OrderStatus.UNKNOWN, OrderStatus.SUBMITTED, OrderStatus.ACKNOWLEDGED])
def test_what_may_be_at_the_exchange_is_never_offered_again(status: OrderStatus) -> None:
    fit_accounts(1)
    decision = decided()
    allocate(decision.pk, now())
    Order.objects.update(status=status, code="-2019")
    assert offer([decision.allocations.get().pk], now()).entries == []
    assert Order.objects.count() == 1


def test_an_attempt_proven_absent_is_made_again_on_the_same_executor() -> None:
    fit_accounts(1)
    decision = decided()
    allocate(decision.pk, now())
    allocation = decision.allocations.get()
    Order.objects.update(status=OrderStatus.EXPIRED, code="NOT_PLACED", fills_complete=True)
    offer([allocation.pk], now())
    first, second = allocation.orders.order_by("attempt")
    assert (second.market, second.executor, second.attempt) == (first.market, "primary", 2)
    assert second.client_order_id != first.client_order_id


def test_nothing_is_offered_after_the_deadline() -> None:
    fit_accounts(1)
    decision = decided()
    allocate(decision.pk, now())
    allocation = decision.allocations.get()
    rejected(allocation, "-2019")
    assert offer([allocation.pk], now() + timedelta(seconds=20)).entries == []
    assert allocation.orders.count() == 1


def a_share_to_offer_on() -> Allocation:
    fit_accounts(1)
    decision = decided()
    allocate(decision.pk, now())
    share = decision.allocations.get()
    rejected(share, "-2019")
    return share


def during_the_market_read(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Have something happen between the look at the market and the lock on the decision."""

    def then(*asked: Any) -> MarketScene:
        seen = market_scene(*asked)
        happens()
        return seen

    monkeypatch.setattr("trading.services.allocation.market_scene", then)


@pytest.mark.parametrize("status", [DecisionStatus.OPEN, DecisionStatus.COMPLETE])
def test_a_close_during_an_offer_leaves_no_entry(
    monkeypatch: pytest.MonkeyPatch, status: DecisionStatus
) -> None:
    share = a_share_to_offer_on()
    Decision.objects.update(status=status)  # settling may call it complete before the offer is made

    def close() -> None:
        closing = a_signal(action=SignalAction.CLOSE)
        signals.act(closing, now())
        assert closing.status == SignalStatus.DONE

    during_the_market_read(monkeypatch, close)
    assert not offer([share.pk], now())
    share.decision.refresh_from_db()
    assert (share.orders.count(), share.decision.status) == (1, status)


def test_a_circuit_that_opens_during_an_offer_leaves_no_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    share = a_share_to_offer_on()
    during_the_market_read(monkeypatch, lambda: Decision.objects.update(stopped_code="VENUE_CIRCUIT -2019"))
    assert not offer([share.pk], now())
    assert share.orders.count() == 1


def test_the_number_of_queries_does_not_grow_with_the_accounts() -> None:
    counts = []
    for size in (1, 5):
        Account.objects.update(is_enabled=False)
        fit_accounts(size)
        decision = decided(SOL if size == 1 else ETH)
        with CaptureQueriesContext(connection) as captured:
            allocate(decision.pk, now())
        counts.append(len(captured))
    assert counts[1] <= counts[0]
