from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from threading import Thread
from typing import Any

import pytest
from django.db import connection
from pytest_django import Settings

from accounts.models import AccountGroup, Health
from accounts.services.limits import clear_override, set_override
from exchange.port import Market
from trading.domain.limits import Limits
from trading.domain.states import DecisionStatus
from trading.models import Allocation, Decision, Halt, Order, Position, Signal, SignalSource
from trading.models.signals import SignalAction, SignalStatus
from trading.services import emergency, market, selection, signals
from trading.services.market import MarketFigures
from trading.services.selection import RequestRefused, request
from trading.tests.services.journey import (
    BTC,
    ETH,
    SOL,
    a_position,
    a_signal,
    fit_accounts,
    now,
    set_columns,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("paper_exchange")]


@pytest.fixture(autouse=True)
def easy(settings: Settings) -> None:
    settings.LIMITS = replace(settings.LIMITS, min_quality=Decimal("0.30"))


def select(at: datetime) -> Decision | None:
    """The decision of one tick, when it made any."""
    return next(iter(selection.select(at)), None)


def with_limits(settings: Settings, **changes: object) -> None:
    limits: Limits = settings.LIMITS
    settings.LIMITS = replace(limits, **changes)  # type: ignore[arg-type]  # a test names its own values


def past_choice(at: datetime, status: DecisionStatus = DecisionStatus.NONE) -> None:
    Decision.objects.create(status=status, decided_at=at)


def during_the_market_read(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Have something happen between the look at the market and what is written after it."""
    read = market.figures

    def figures(*asked: Any, **more: Any) -> dict[str, MarketFigures]:
        found = read(*asked, **more)
        happens()
        return found

    monkeypatch.setattr(market, "figures", figures)


def cancel(signal: Signal) -> None:
    wish = signals.SignalDraft(
        external_id="cancel", symbol=signal.symbol, side=signal.side, action=SignalAction.CANCEL
    )
    cancelling, _ = signals.intake(signal.source, wish, now())
    signals.act(cancelling, now())
    assert cancelling.status == SignalStatus.DONE


def reason_of(decision: Decision | None) -> str:
    assert decision is not None
    assert decision.status == DecisionStatus.NONE
    assert decision.signal is None
    assert not decision.allocations.exists()
    assert not Order.objects.filter(allocation__decision=decision).exists()
    return decision.reason


def test_the_better_signal_wins_and_every_candidate_is_kept_with_its_parts() -> None:
    fit_accounts(1)
    best = a_signal(BTC, score="0.9")
    other = a_signal(BTC, score="0.7")
    decision = select(now())
    assert decision is not None
    assert decision.signal == best
    kept = {one["signal"]: one for one in decision.candidates}
    assert set(kept) == {str(best.uuid), str(other.uuid)}
    parts = kept[str(best.uuid)]["parts"]
    assert set(parts) == {"score", "performance", "market", "reward"}
    assert (parts["score"], parts["performance"]) == ("0.90000", "0.50000")
    best.refresh_from_db()
    other.refresh_from_db()
    assert (best.status, other.status) == (SignalStatus.DECIDED, SignalStatus.OPEN)


def test_every_candidate_tells_why_it_won_or_lost_and_the_counts_tell_of_all(settings: Settings) -> None:
    fit_accounts(1, BTC, ETH, SOL)
    with_limits(settings, candidates=3)
    best, twin, second = a_signal(BTC, score="0.95"), a_signal(BTC, score="0.9"), a_signal(ETH, score="0.85")
    below, weak = a_signal(SOL, score="0.8"), a_signal(SOL, score="0.2")
    decision = select(now())
    assert decision is not None
    won_by_bitcoin = [("CHOSEN", best), ("SAME_COIN", twin), ("NOT_THE_BEST", second)]
    won_by_ether = [("NOT_THE_BEST", best), ("NOT_THE_BEST", twin), ("CHOSEN", second)]
    weighed = won_by_bitcoin if decision.signal == best else won_by_ether  # as the market just is
    expected = [*weighed, ("BELOW_SHORTLIST", below), ("SCORE", weak)]
    assert {one["signal"]: one["verdict"] for one in decision.candidates} == {
        str(signal.uuid): verdict for verdict, signal in expected
    }
    assert decision.considered == {"waiting": 5, "candidates": 4, "SCORE": 1}


def test_a_source_whose_word_counts_half_loses_to_another_with_the_same_score() -> None:
    fit_accounts(1)
    doubted, trusted = a_signal(BTC, score="0.9"), a_signal(BTC, score="0.8")
    trusted.source = SignalSource.objects.create(name="trusted")
    trusted.save()
    doubted.source.weight = Decimal("0.5")
    doubted.source.save()
    decision = select(now())
    assert decision is not None
    assert decision.signal == trusted
    kept = {one["signal"]: one for one in decision.candidates}
    assert kept[str(doubted.uuid)]["parts"]["score"] == "0.45000"
    assert (kept[str(doubted.uuid)]["weight"], kept[str(trusted.uuid)]["weight"]) == ("0.500", "1.000")


@pytest.mark.parametrize("scope", ["account", "group", "venue", "symbol"])
def test_a_signal_nobody_may_follow_for_a_halt_waits_and_does_not_use_up_the_choice(scope: str) -> None:
    (account,) = fit_accounts(1, BTC, ETH)
    set_columns(account, group=AccountGroup.objects.create(name=f"calm {account.name}"[:40]))
    targets = {"account": account.name, "group": str(account.group), "venue": "binance", "symbol": "BTCUSDT"}
    emergency.raise_halt(f"{scope}:{targets[scope]}", "HALT_ENTRIES", "drill", "a test", now())
    signal = a_signal(BTC)
    decision = select(now() - timedelta(seconds=60))
    assert decision is not None
    assert (reason_of(decision), decision.considered["NO_ACCOUNT"]) == ("NO_CANDIDATES", 1)
    emergency.resume(f"{scope}:{targets[scope]}", "drill over", "a test", now())
    chosen = select(now())
    assert chosen is not None
    assert chosen.signal == signal


def test_several_decisions_of_one_tick_are_of_different_coins(settings: Settings) -> None:
    fit_accounts(1, BTC, ETH)
    with_limits(settings, decisions_per_tick=2)
    best = a_signal(BTC, score="0.95")
    a_signal(BTC, score="0.94")
    second = a_signal(ETH, score="0.9")
    at = now()
    decisions = selection.select(at)
    assert {one.signal for one in decisions} == {best, second}
    assert {one.decided_at for one in decisions} == {at}
    assert sorted(one.turn for one in decisions) == [1, 2]
    assert selection.select(at + timedelta(seconds=299)) == []


def test_v14_quality_is_the_weighted_sum_of_the_parts_that_are_kept() -> None:
    fit_accounts(1)
    a_signal(score="0.95")
    decision = select(now())
    assert decision is not None
    parts = {name: Decimal(part) for name, part in decision.candidates[0]["parts"].items()}
    assert (parts["score"], parts["performance"]) == (Decimal("0.95"), Decimal("0.5"))
    weighted = (
        Decimal("0.38")
        + Decimal("0.15")
        + Decimal("0.20") * parts["market"]
        + Decimal("0.10") * parts["reward"]
    )
    assert decision.quality == pytest.approx(weighted, abs=Decimal("0.00002"))
    assert decision.quality is not None
    assert decision.quality <= Decimal("0.83")
    market_parts = [Decimal(part) for part in decision.candidates[0]["market_parts"].values()]
    assert parts["market"] == pytest.approx(sum(market_parts) / 4, abs=Decimal("0.00002"))


def test_the_decision_keeps_what_it_saw_with_source_and_age() -> None:
    fit_accounts(1)
    a_signal()
    decision = select(now())
    assert decision is not None
    mark = decision.inputs["mark_price"]
    assert Decimal(mark["value"]) == decision.mark_price
    assert mark["source"] == "mark stream"
    assert mark["age_seconds"] <= 3
    assert {"ema200", "atr14", "spread", "quote_volume_24h", "funding_rate"} <= set(decision.inputs)
    assert decision.inputs["missing"] == ["depth_notional"]


@pytest.mark.parametrize("side", ["LONG", "SHORT"])
def test_the_cap_is_never_more_than_a_fifth_of_a_percent_from_the_mark(side: str) -> None:
    fit_accounts(1)
    a_signal(side=side)
    decision = select(now())
    assert decision is not None
    assert decision.mark_price is not None
    assert decision.cap_price is not None
    tick = market.instruments(Market.FUTURES)[BTC].tick
    paid_more = (
        decision.cap_price - decision.mark_price
        if side == "LONG"
        else decision.mark_price - decision.cap_price
    )
    assert 0 < paid_more <= decision.mark_price * Decimal("0.002") + tick
    assert decision.cap_price % tick == 0


def test_nothing_unsent_is_sent_later_than_fifteen_seconds_after_the_mark() -> None:
    fit_accounts(1)
    a_signal()
    decision = select(now())
    assert decision is not None
    assert decision.deadline_at is not None
    assert timedelta(seconds=11) < decision.deadline_at - decision.decided_at <= timedelta(seconds=15)


def test_a_choice_cools_down_for_five_minutes_and_a_fruitless_one_for_one() -> None:
    fit_accounts(1)
    at = now()
    a_signal()
    a_signal(ETH)
    assert select(at) is not None
    assert select(at + timedelta(seconds=299)) is None
    Decision.objects.update(decided_at=at - timedelta(seconds=300))
    assert select(at) is not None


def test_a_fruitless_selection_is_made_again_after_a_minute(settings: Settings) -> None:
    fit_accounts(1)
    with_limits(settings, min_quality=Decimal("0.99"))
    a_signal()
    at = now()
    assert reason_of(select(at)) == "QUALITY"
    assert select(at + timedelta(seconds=59)) is None
    past = Decision.objects.get()
    Decision.objects.filter(pk=past.pk).update(decided_at=at - timedelta(seconds=60))
    assert reason_of(select(at)) == "QUALITY"
    assert Signal.objects.get().status == SignalStatus.OPEN


def test_a_cancel_during_the_market_read_leaves_no_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    fit_accounts(1)
    signal = a_signal()
    during_the_market_read(monkeypatch, lambda: cancel(signal))
    assert select(now()) is None
    signal.refresh_from_db()
    assert signal.status == SignalStatus.CANCELLED
    assert not Decision.objects.exists()


def test_without_open_signals_nothing_is_written() -> None:
    fit_accounts(1)
    assert select(now()) is None
    assert not Decision.objects.exists()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"score": "0.64"}, "SCORE"), ({}, "NO_ACCOUNT")],
)
def test_what_is_no_candidate_is_named(changes: dict[str, str], reason: str) -> None:
    for account in fit_accounts(1):
        if reason == "NO_ACCOUNT":
            set_columns(account, health=Health.UNHEALTHY)
    a_signal(**changes)
    decision = select(now())
    assert reason_of(decision) == "NO_CANDIDATES"
    assert decision is not None
    assert [one["verdict"] for one in decision.candidates] == [reason]


def test_a_short_needs_an_account_with_futures() -> None:
    fit_accounts(1, executors=(Market.SPOT,))
    a_signal(side="SHORT")
    assert reason_of(select(now())) == "NO_CANDIDATES"


def test_a_coin_every_account_already_holds_is_no_candidate() -> None:
    for account in fit_accounts(2):
        a_position(account, BTC)
    a_signal(BTC)
    assert reason_of(select(now())) == "NO_CANDIDATES"


def test_the_same_again_within_half_a_minute_is_recorded_as_a_duplicate_once(settings: Settings) -> None:
    fit_accounts(1)
    with_limits(settings, cooldown_seconds=0, fruitless_seconds=0)
    a_signal(BTC)
    assert select(now()) is not None
    second = a_signal(BTC)
    other_side = a_signal(BTC, "SHORT", score="0.5")
    assert reason_of(select(now())) == "NO_CANDIDATES"
    second.refresh_from_db()
    other_side.refresh_from_db()
    assert (second.status, other_side.status) == (SignalStatus.DUPLICATE, SignalStatus.OPEN)


def test_a_limit_of_the_desk_counts_from_the_next_look_on(settings: Settings) -> None:
    fit_accounts(1)
    with_limits(settings, fruitless_seconds=0)
    a_signal(score="0.7")
    set_override(None, "min_score", "0.9", "a test")
    assert reason_of(select(now())) == "NO_CANDIDATES"
    clear_override(None, "min_score", "a test")
    assert select(now()) is not None


def test_a_halted_desk_chooses_nothing() -> None:
    fit_accounts(1)
    Halt.objects.create(scope="desk", level="HALT_ENTRIES", reason="test", raised_by="test", raised_at=now())
    a_signal()
    assert reason_of(select(now())) == "HALTED"


def test_a_desk_at_its_risk_budget_chooses_nothing() -> None:
    (account,) = fit_accounts(1, executors=(Market.FUTURES,))
    a_position(account, SOL, quantity="1000000")
    a_signal()
    assert reason_of(select(now())) == "DESK_RISK"


def test_a_desk_that_has_decided_enough_today_chooses_nothing(settings: Settings) -> None:
    (account,) = fit_accounts(1)
    with_limits(settings, desk_daily_trades=1)
    earlier = Decision.objects.create(status=DecisionStatus.COMPLETE, decided_at=now())
    share = Allocation.objects.create(decision=earlier, account=account)
    Order.objects.create(
        client_order_id="earlier",
        account=account,
        allocation=share,
        purpose="ENTRY",
        market=Market.FUTURES,
        symbol=SOL,
        base="SOL",
        side="buy",
        type="limit_ioc",
        status="FILLED",
        created_at=now(),
    )
    a_signal()
    assert reason_of(select(now())) == "DESK_DAILY_TRADES"


def test_past_wins_and_losses_are_counted_in_decisions_over_all_their_accounts() -> None:
    first, second = fit_accounts(2)
    past = Decision.objects.create(
        signal=a_signal(BTC), status=DecisionStatus.COMPLETE, decided_at=now() - timedelta(days=1)
    )
    for account, profit in ((first, "10"), (second, "-4")):
        share = Allocation.objects.create(decision=past, account=account)
        position = a_position(account, BTC)
        Position.objects.filter(pk=position.pk).update(
            allocation=share,
            status="CLOSED",
            closed_at=now(),
            realized_profit=Decimal(profit),
            fees=Decimal(1),
        )
    a_signal(BTC)
    decision = select(now())
    assert decision is not None
    assert decision.candidates[-1]["parts"]["performance"] == f"{Decimal(6) / Decimal(11):.5f}"


# ── on request ───────────────────────────────────────────────────────────────


def test_a_request_skips_ranking_and_cooldown_and_asking_again_gives_the_same_decision() -> None:
    fit_accounts(1)
    past_choice(now())
    weak = a_signal(score="0.01")
    first = request(weak, now())
    assert first.is_requested
    assert first.inputs["depth_notional"]["source"] == "order book"
    assert first.signal == weak
    assert request(weak, now()).pk == first.pk
    assert Decision.objects.filter(signal=weak).count() == 1


def test_a_decided_signal_is_never_selected_again() -> None:
    fit_accounts(1)
    request(a_signal(), now())
    assert select(now()) is None


def test_a_close_is_not_executed_and_a_cancelled_signal_neither() -> None:
    close = a_signal(action="close")
    with pytest.raises(RequestRefused, match="ACTION"):
        request(close, now())
    cancelled = a_signal()
    Signal.objects.filter(pk=cancelled.pk).update(status=SignalStatus.CANCELLED)
    cancelled.refresh_from_db()
    with pytest.raises(RequestRefused, match="CANCELLED"):
        request(cancelled, now())
    assert not Decision.objects.exists()


def test_a_cancel_during_the_market_read_of_a_request_refuses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    fit_accounts(1)
    signal = a_signal()
    during_the_market_read(monkeypatch, lambda: cancel(signal))
    with pytest.raises(RequestRefused, match="CANCELLED"):
        request(signal, now())
    signal.refresh_from_db()
    assert signal.status == SignalStatus.CANCELLED
    assert not Decision.objects.exists()


def test_an_operator_may_still_request_what_ranking_would_not_take() -> None:
    for status in (SignalStatus.EXPIRED, SignalStatus.DUPLICATE):
        signal = a_signal()
        Signal.objects.filter(pk=signal.pk).update(status=status)
        decision = request(Signal.objects.select_related("source").get(pk=signal.pk), now())
        signal.refresh_from_db()
        assert (decision.signal, signal.status) == (signal, SignalStatus.DECIDED)


@pytest.mark.django_db(transaction=True)
def test_two_requests_at_the_same_moment_lead_to_one_decision() -> None:
    signal = a_signal()
    found: list[int] = []

    def ask() -> None:
        try:
            found.append(request(Signal.objects.select_related("source").get(pk=signal.pk), now()).pk)
        finally:
            connection.close()

    threads = [Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert set(found) == {Decision.objects.get().pk}
