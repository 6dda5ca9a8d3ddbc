from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from threading import Thread
from typing import Any

import pytest
from django.conf import settings
from django.db import DataError, connection
from redis import Redis

from accounts.models import Account
from tests.processes import PaperExchange
from trading import tasks
from trading.domain.states import OrderPurpose, OrderStatus
from trading.models import Allocation, Decision, Order, Position, Signal, SignalSource
from trading.models.signals import SignalAction, SignalStatus
from trading.services import signals
from trading.services.bells import Bells
from trading.services.signals import SignalDraft, SignalRefused, act, continue_actions, expire, intake
from trading.tests.services.journey import BTC, a_position, fit_accounts, now

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("paper_exchange")]


def draft(**changes: Any) -> SignalDraft:
    first = SignalDraft(
        external_id="one",
        symbol="BTCUSDT",
        side="LONG",
        score="0.8",
        entry_price="100000",
        stop_price="98000",
        take_profit_price="104000",
    )
    return replace(first, **changes)


def refusal(source: str = "desk", **changes: Any) -> str:
    with pytest.raises(SignalRefused) as refused:
        intake(source, draft(**changes), now())
    assert not Signal.objects.exists()
    return refused.value.code


def test_a_signal_is_stored_as_it_came_with_the_unified_symbol() -> None:
    at = now()
    signal, is_new = intake("desk", draft(created_at=at - timedelta(seconds=3)), at)
    assert is_new
    signal.refresh_from_db()
    assert (signal.symbol, signal.side, signal.action, signal.status) == (
        "BTC/USDT:USDT",
        "LONG",
        "open",
        "OPEN",
    )
    assert [signal.entry_price, signal.stop_price, signal.take_profit_price] == [100000, 98000, 104000]
    assert signal.score == Decimal("0.8")
    assert signal.received_at - signal.created_at == timedelta(seconds=3)


@pytest.mark.parametrize(
    "written", ["BTCUSDT", "BTCUSDT:USDT", "BTC-USDT", "BTC/USDT:USDT", "BINANCE:BTCUSDT.P"]
)
def test_every_accepted_spelling_is_the_same_market(written: str) -> None:
    signal, _ = intake("desk", draft(symbol=written), now())
    assert signal.symbol == "BTC/USDT:USDT"


def test_the_same_external_id_again_is_the_same_row_whatever_it_now_says() -> None:
    first, _ = intake("desk", draft(), now())
    again, is_new = intake("desk", draft(stop_price="nonsense", symbol="NOSUCH"), now())
    assert (again.pk, is_new) == (first.pk, False)
    assert Signal.objects.count() == 1


def test_two_sources_may_use_the_same_external_id() -> None:
    first, _ = intake("desk", draft(), now())
    second, is_new = intake("another", draft(), now())
    assert is_new
    assert first.pk != second.pk


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"symbol": "NOSUCHUSDT"}, "UNKNOWN_SYMBOL"),
        ({"symbol": ""}, "UNKNOWN_SYMBOL"),
        ({"side": "UP"}, "SIDE"),
        ({"action": "double"}, "ACTION"),
        ({"stop_price": "101000"}, "STOP_WRONG_SIDE"),
        ({"side": "SHORT"}, "STOP_WRONG_SIDE"),
        ({"take_profit_price": "99000"}, "TARGET_WRONG_SIDE"),
        ({"stop_price": "NaN"}, "NOT_A_NUMBER"),
        ({"stop_price": "Infinity"}, "NOT_A_NUMBER"),
        ({"entry_price": "ten"}, "NOT_A_NUMBER"),
        ({"entry_price": float("nan")}, "NOT_A_NUMBER"),
        ({"stop_price": "-98000"}, "NEGATIVE"),
        ({"stop_price": "0"}, "NEGATIVE"),
        ({"take_profit_price": "1e15"}, "ABSURD"),
        ({"stop_price": "0.0000000000000001"}, "ABSURD"),
        ({"stop_price": "900"}, "ABSURD"),
        ({"stop_price": None}, "MISSING"),
        ({"take_profit_price": None}, "MISSING"),
        ({"score": None}, "SCORE"),
        ({"score": "1.01"}, "SCORE"),
        ({"score": "-0.1"}, "SCORE"),
        ({"score": "NaN"}, "NOT_A_NUMBER"),
        ({"external_id": ""}, "EXTERNAL_ID"),
        ({"external_id": "x" * 101}, "EXTERNAL_ID"),
        ({"external_id": "nul\0"}, "EXTERNAL_ID"),
        ({"symbol": "BTC\0USDT"}, "UNKNOWN_SYMBOL"),
        ({"stop_price": "1e400"}, "ABSURD"),
        ({"stop_price": True}, "NOT_A_NUMBER"),
    ],
)
def test_a_bad_signal_is_refused_by_code_and_nothing_is_stored(changes: dict[str, Any], code: str) -> None:
    assert refusal(**changes) == code


def test_a_time_that_cannot_be_is_refused() -> None:
    limit = timedelta(seconds=settings.LIMITS.signal_max_age_seconds)
    assert refusal(created_at=now() - limit - timedelta(seconds=1)) == "STALE"
    assert refusal(created_at=now() + timedelta(seconds=30)) == "FUTURE"
    assert refusal(expires_at=now() - timedelta(seconds=1)) == "EXPIRED"
    assert refusal(created_at=datetime(2026, 1, 1)) == "TIME"  # noqa: DTZ001 -- without a zone is the point


def test_an_end_beyond_the_calendar_is_refused() -> None:
    new_york = timezone(timedelta(hours=-5))
    assert refusal(expires_at=datetime(9999, 12, 31, 23, 59, 59, tzinfo=new_york)) == "TIME"
    assert refusal(expires_at=now() + timedelta(days=367)) == "TIME"
    assert refusal(created_at=datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=5)))) == "STALE"


def test_times_are_kept_in_utc() -> None:
    here = now().astimezone(timezone(timedelta(hours=9)))
    signal, _ = intake("desk", draft(created_at=here, expires_at=here + timedelta(hours=1)), now())
    assert (signal.created_at, signal.expires_at) == (here, here + timedelta(hours=1))
    assert [signal.created_at.tzinfo, signal.expires_at and signal.expires_at.tzinfo] == [UTC, UTC]


def test_without_an_entry_the_market_itself_tells_the_wrong_side(paper_exchange: PaperExchange) -> None:
    assert refusal(entry_price=None, stop_price="9000000", take_profit_price="9100000") == "STOP_WRONG_SIDE"


@pytest.mark.parametrize("name", ["", "x" * 61, "a\0b"])
def test_a_source_needs_a_name(name: str) -> None:
    assert refusal(name) == "SOURCE"


def test_a_paused_source_is_refused() -> None:
    SignalSource.objects.create(name="asleep", is_active=False)
    assert refusal("asleep") == "SOURCE_PAUSED"


def test_a_refused_signal_leaves_no_source_behind_either() -> None:
    refusal("unheard", side="UP")
    assert not SignalSource.objects.filter(name="unheard").exists()


def test_a_signal_past_its_own_expiry_is_marked() -> None:
    at = now()
    signal, _ = intake("desk", draft(expires_at=at + timedelta(minutes=5)), at)
    assert expire(at) == 0
    assert expire(at + timedelta(minutes=5)) == 1
    signal.refresh_from_db()
    assert signal.status == SignalStatus.EXPIRED


def test_a_signal_older_than_the_desk_allows_is_marked() -> None:
    at = now()
    intake("desk", draft(), at)
    assert expire(at + timedelta(seconds=settings.LIMITS.signal_max_age_seconds + 1)) == 1


def test_a_cancel_ends_what_its_source_has_undecided_on_the_symbol_and_nothing_else() -> None:
    at = now()
    mine, _ = intake("desk", draft(), at)
    elsewhere, _ = intake("desk", draft(external_id="two", symbol="ETHUSDT"), at)
    foreign, _ = intake("another", draft(), at)
    cancel, _ = intake("desk", draft(external_id="three", action="cancel"), at)
    act(cancel, at)
    statuses = {signal.pk: signal.status for signal in Signal.objects.all()}
    assert statuses == {
        mine.pk: SignalStatus.CANCELLED,
        elsewhere.pk: SignalStatus.OPEN,
        foreign.pk: SignalStatus.OPEN,
        cancel.pk: SignalStatus.DONE,
    }
    assert not Decision.objects.exists()
    assert not Order.objects.exists()


def test_a_close_needs_no_prices_and_acts_once() -> None:
    at = now()
    intake("desk", draft(), at)
    close = a_close(at)
    assert close.action == SignalAction.CLOSE
    act(close, at)
    assert not continue_actions(at)
    assert close.status == SignalStatus.DONE


def a_close(at: datetime) -> Signal:
    close, _ = intake(
        "desk", SignalDraft(external_id="end", symbol="BTCUSDT", side="LONG", action="close"), at
    )
    return close


def opened_by(source: str, account: Account) -> Position:
    at = now()
    signal, _ = intake(source, draft(external_id=account.name), at)
    decision = Decision.objects.create(signal=signal, status="COMPLETE", decided_at=at)
    share = Allocation.objects.create(decision=decision, account=account)
    position = a_position(account, BTC)
    Position.objects.filter(pk=position.pk).update(allocation=share)
    return position


def test_a_close_wants_closed_what_its_own_source_opened_and_nothing_of_others() -> None:
    first, second = fit_accounts(2)
    mine, foreign = opened_by("desk", first), opened_by("another", second)
    bells = act(a_close(now()), now())
    assert bells.positions == [mine.pk]
    mine.refresh_from_db()
    foreign.refresh_from_db()
    assert (mine.closing_for, foreign.closing_for) == ("SIGNAL", "")


def an_entry_under_way(account: Account, status: OrderStatus, external_id: str = "one") -> Order:
    signal, _ = intake("desk", draft(external_id=external_id), now())
    decision = Decision.objects.create(signal=signal, status="OPEN", decided_at=now())
    share = Allocation.objects.create(decision=decision, account=account)
    return Order.objects.create(
        client_order_id=f"entry{share.pk}",
        account=account,
        allocation=share,
        purpose=OrderPurpose.ENTRY,
        market="futures",
        symbol=BTC,
        base="BTC",
        side="buy",
        type="limit_ioc",
        status=status,
        created_at=now(),
        reserved_margin=10,
    )


@pytest.mark.parametrize("status", [OrderStatus.PENDING, OrderStatus.CLAIMED])
def test_a_cancel_takes_back_an_entry_that_was_not_sent(status: OrderStatus) -> None:
    (account,) = fit_accounts(1)
    order = an_entry_under_way(account, status)
    cancel, _ = intake("desk", draft(external_id="two", action="cancel"), now())
    bells = act(cancel, now())
    order.refresh_from_db()
    assert [order.status, order.reserved_margin] == [OrderStatus.CANCELLED, 0]
    decision = Decision.objects.get()
    assert bells.decisions == [decision.pk]
    assert decision.stopped_code == "SIGNAL_CANCELLED"
    assert decision.allocations.get().outcome == "SKIPPED"


def test_a_close_waits_for_an_entry_that_may_still_fill_and_then_closes_what_it_opened() -> None:
    (account,) = fit_accounts(1)
    order = an_entry_under_way(account, OrderStatus.SUBMITTED)
    close = a_close(now())
    act(close, now())
    order.refresh_from_db()
    assert order.status == OrderStatus.SUBMITTED
    assert close.status == SignalStatus.OPEN
    position = a_position(account, BTC)
    Position.objects.filter(pk=position.pk).update(allocation=order.allocation)
    Order.objects.update(status=OrderStatus.FILLED, fills_complete=True)
    assert continue_actions(now()).positions == [position.pk]
    close.refresh_from_db()
    assert close.status == SignalStatus.DONE


def test_a_close_waits_for_executions_that_no_row_tells_of_yet() -> None:
    (account,) = fit_accounts(1)
    order = an_entry_under_way(account, OrderStatus.FILLED)
    close = a_close(now())
    act(close, now())
    assert close.status == SignalStatus.OPEN
    Order.objects.filter(pk=order.pk).update(fills_complete=True)
    act(close, now())
    assert close.status == SignalStatus.DONE


def test_a_close_is_not_done_while_an_entry_fills_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    (account,) = fit_accounts(1)
    order = an_entry_under_way(account, OrderStatus.SUBMITTED)
    close = a_close(now())
    read = signals._open_positions

    def then_it_fills(of: Signal) -> list[int]:
        found = read(of)
        position = a_position(account, BTC)
        Position.objects.filter(pk=position.pk).update(allocation=order.allocation)
        Order.objects.filter(pk=order.pk).update(status=OrderStatus.FILLED, fills_complete=True)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(signals, "_open_positions", then_it_fills)
        act(close, now())
    assert close.status == SignalStatus.OPEN
    assert continue_actions(now()).positions == [Position.objects.get().pk]


def test_what_a_source_sends_after_its_close_is_left_alone() -> None:
    unknown, entering, holding = fit_accounts(3)
    an_entry_under_way(unknown, OrderStatus.UNKNOWN)
    close = a_close(now())
    act(close, now())
    undecided, _ = intake("desk", draft(external_id="undecided"), close.received_at)
    entry = an_entry_under_way(entering, OrderStatus.PENDING, "entering")
    position = opened_by("desk", holding)
    first = Decision.objects.get(signal__external_id="one")

    bells = continue_actions(now())

    assert (bells.decisions, bells.positions) == ([first.pk], [])
    for row in (close, undecided, entry, position):
        row.refresh_from_db()
    assert [close.status, undecided.status] == [SignalStatus.OPEN, SignalStatus.OPEN]
    assert [entry.status, position.closing_for] == [OrderStatus.PENDING, ""]
    assert list(Decision.objects.exclude(stopped_code="")) == [first]


def test_a_close_does_not_wait_for_entries_its_source_sends_afterwards() -> None:
    (account,) = fit_accounts(1)
    close = a_close(now())
    an_entry_under_way(account, OrderStatus.UNKNOWN)
    act(close, now())
    assert close.status == SignalStatus.DONE


def test_one_signal_that_fails_does_not_cost_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    failing, sound = fit_accounts(2)
    positions = [opened_by(source, account) for source, account in (("one", failing), ("two", sound))]
    for source in ("one", "two"):
        intake(source, SignalDraft("end", "BTCUSDT", "LONG", action="close"), now())
    cancel_undone = signals._cancel_undone

    def cancel_but_one(signal: Signal, at: datetime) -> Bells:
        if signal.source.name == "one":
            raise DataError("timestamp too large")
        return cancel_undone(signal, at)

    monkeypatch.setattr(signals, "_cancel_undone", cancel_but_one)
    assert continue_actions(now()).positions == [positions[1].pk]
    statuses = (
        Signal.objects.filter(external_id="end").order_by("source__name").values_list("status", flat=True)
    )
    assert list(statuses) == [SignalStatus.OPEN, SignalStatus.DONE]


def test_what_the_sweep_finds_is_rung_before_any_signal_is_carried_on(
    monkeypatch: pytest.MonkeyPatch, redis: Redis
) -> None:
    (account,) = fit_accounts(1)
    a_position(account, BTC)
    Position.objects.update(check_at=now())

    def fail(_: datetime) -> Bells:
        raise DataError("timestamp too large")

    monkeypatch.setattr(signals, "continue_actions", fail)
    with pytest.raises(DataError):
        tasks.sweep()
    assert redis.llen("desk:exits") == 1


@pytest.mark.django_db(transaction=True)
def test_the_same_signal_sent_four_times_at_once_is_one_row() -> None:
    ids: list[int] = []

    def send() -> None:
        try:
            ids.append(intake("desk", draft(), now())[0].pk)
        finally:
            connection.close()

    threads = [Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ids == [Signal.objects.get().pk] * 4
