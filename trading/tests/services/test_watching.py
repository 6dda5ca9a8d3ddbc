"""Every mark against the next level: harvest, ratchet, trail, stop and limit, each exactly once."""

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import DatabaseError
from django.utils import timezone
from pytest_django import Settings

from accounts.models import Account, LimitOverride
from alerts.models import Alert
from exchange.port import Market
from tests.processes import PaperExchange
from trading.domain.exit_plan import ExitPlan
from trading.domain.exits import MarkSpan
from trading.domain.states import CloseReason, OrderPurpose, OrderStatus, PositionStatus, Protection
from trading.models import Order, Position
from trading.services import levels, watching
from trading.services import watcher as watcher_memory
from trading.services.bells import Bells
from trading.services.plans import plan_of
from trading.services.watcher import Watcher
from trading.services.watching import evaluate
from trading.tests.services.holding import (
    MARK,
    answer,
    codes_of,
    enter,
    fresh,
    held_there,
    hold,
    orders_of,
    pinned_mark,
    stops_there,
    tick,
    visit,
)
from trading.tests.services.journey import BTC, WEATHER, fit_accounts, now

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def exchange(paper_exchange: PaperExchange, settings: Settings) -> Iterator[PaperExchange]:
    settings.GATE_OFF = WEATHER
    with pinned_mark(paper_exchange):
        yield paper_exchange


@pytest.fixture
def watcher() -> Watcher:
    return Watcher()


def the_plan(position: Position) -> ExitPlan:
    plan = plan_of(fresh(position))
    assert plan is not None
    return plan


def level(position: Position, number: int) -> Decimal:
    return the_plan(position).levels[number - 1].price


def exits_of(position: Position) -> list[Order]:
    return orders_of(position, OrderPurpose.EXIT)


def working_stops(position: Position) -> list[Order]:
    return orders_of(position, OrderPurpose.WORKING_STOP)


def see(watcher: Watcher, exchange: PaperExchange, price: Decimal) -> None:
    """The exchange's mark goes there, and the watcher sees it."""
    exchange.set_mark("BTCUSDT", str(price))
    tick(watcher, price)


def test_between_the_levels_nothing_happens(watcher: Watcher) -> None:
    position = hold()
    assert watcher.on_marks({BTC: MARK}, now()) == Bells()
    assert watcher.watched == 1
    assert fresh(position).plan == position.plan


def test_the_first_target_sells_its_share_and_moves_the_stop_to_break_even(
    watcher: Watcher, exchange: PaperExchange
) -> None:
    position = hold()
    plan = the_plan(position)
    see(watcher, exchange, level(position, 1))
    after = visit(position)
    (order,) = exits_of(after)
    assert (order.reason, order.legs, order.reduce_only) == ("TAKE_PROFIT_1", [1], True)
    assert order.quantity == plan.levels[0].quantity
    assert (
        after.quantity == position.quantity - plan.levels[0].quantity == held_there(after.account)[0].quantity
    )
    assert after.stop_price == plan.break_even_price
    (working,) = working_stops(after)
    assert (working.trigger_price, working.quantity, working.reason) == (
        plan.break_even_price,
        after.quantity,
        "BREAK_EVEN",
    )
    triggers = {stop.trigger_price for stop in stops_there(after.account)}
    assert triggers == {plan.hard_stop_price, plan.break_even_price}
    assert (after.status, after.protection, after.reduction) == ("OPEN", Protection.VERIFIED, {})


def test_two_targets_in_one_tick_are_one_order_and_the_furthest_stop(
    watcher: Watcher, exchange: PaperExchange
) -> None:
    position = hold()
    plan = the_plan(position)
    see(watcher, exchange, level(position, 2))
    after = visit(position)
    (order,) = exits_of(after)
    assert (order.reason, order.legs) == ("TAKE_PROFIT_2", [1, 2])
    assert order.quantity == plan.levels[0].quantity + plan.levels[1].quantity
    assert after.stop_price == plan.levels[0].price
    assert [stop.trigger_price for stop in working_stops(after)] == [plan.levels[0].price]


def test_the_next_ratchet_is_placed_and_seen_before_the_previous_goes(
    watcher: Watcher, exchange: PaperExchange
) -> None:
    position = hold()
    plan = the_plan(position)
    see(watcher, exchange, level(position, 1))
    see(watcher, exchange, level(position, 2))
    after = visit(position)
    first, second = working_stops(after)
    assert (first.status, second.status) == (OrderStatus.CANCELLED, OrderStatus.ACKNOWLEDGED)
    assert (first.trigger_price, second.trigger_price) == (plan.break_even_price, plan.levels[0].price)
    assert second.is_seen
    assert after.unprotected_seconds == position.unprotected_seconds
    assert {stop.trigger_price for stop in stops_there(after.account)} == {
        plan.hard_stop_price,
        plan.levels[0].price,
    }


def test_the_last_target_closes_the_rest_with_no_dust(watcher: Watcher, exchange: PaperExchange) -> None:
    position = hold()
    for number in (1, 2, 3):
        see(watcher, exchange, level(position, number))
        visit(position)
    closed = fresh(position)
    assert (closed.status, closed.close_reason) == (PositionStatus.CLOSED, CloseReason.TAKE_PROFIT_3)
    assert [order.reason for order in exits_of(closed)] == ["TAKE_PROFIT_1", "TAKE_PROFIT_2", "TAKE_PROFIT_3"]
    assert sum(order.filled_quantity for order in exits_of(closed)) == position.initial_quantity
    assert held_there(closed.account) == []
    assert stops_there(closed.account) == []


def test_a_short_harvests_downwards(watcher: Watcher, exchange: PaperExchange) -> None:
    position = hold("SHORT")
    plan = the_plan(position)
    see(watcher, exchange, level(position, 1))
    after = visit(position)
    assert [order.side for order in exits_of(after)] == ["buy"]
    assert after.stop_price == plan.break_even_price < position.entry_price
    assert after.quantity == position.quantity - plan.levels[0].quantity


def test_the_same_level_seen_again_sells_nothing_more(watcher: Watcher, exchange: PaperExchange) -> None:
    position = hold()
    see(watcher, exchange, level(position, 1))
    for _ in range(3):
        tick(watcher, level(position, 1))
    assert len(exits_of(position)) == 1


def test_a_restart_loses_nothing_and_fires_nothing_twice(watcher: Watcher, exchange: PaperExchange) -> None:
    position = hold()
    first = level(position, 1)
    exchange.set_mark("BTCUSDT", str(first))
    watcher.on_marks({BTC: first}, now())  # the process dies before it rings
    restarted = Watcher()
    tick(restarted, first)
    assert exits_of(position) == []
    assert fresh(position).reduction["reason"] == "TAKE_PROFIT_1"
    (due,) = watching.due(now())
    answer(Bells(positions=[due]))
    assert len(exits_of(position)) == 1
    tick(restarted, first)
    assert len(exits_of(position)) == 1


def test_two_watchers_seeing_one_tick_sell_once(exchange: PaperExchange) -> None:
    position = hold()
    price = level(position, 1)
    exchange.set_mark("BTCUSDT", str(price))
    one, other = Watcher(), Watcher()
    other.load()
    answer(one.on_marks({BTC: price}, now()))
    answer(other.on_marks({BTC: price}, now()))
    assert len(exits_of(position)) == 1


def test_a_position_entered_after_the_load_is_watched_from_the_next_tick(watcher: Watcher) -> None:
    watcher.load()
    assert watcher.watched == 0
    hold()
    watcher.refresh()
    assert watcher.watched == 1


def test_a_verified_stop_has_two_seconds_before_the_desk_closes(watcher: Watcher) -> None:
    position = hold()
    through = the_plan(position).stop_price - 1
    at = now()
    tick(watcher, through, at=at)
    crossed = fresh(position)
    assert (crossed.crossed_at, crossed.check_at) == (at, at + timedelta(seconds=2))
    assert (crossed.closing_for, exits_of(position)) == ("", [])
    tick(watcher, through, at=at + timedelta(seconds=1.9))
    assert exits_of(position) == []
    assert not Alert.objects.filter(code="STOP_CROSSED_OPEN").exists()
    closed = visit(position, at=at, after_seconds=2)
    (order,) = exits_of(closed)
    assert (order.reason, closed.close_reason) == ("STOP_LOSS", CloseReason.STOP_LOSS)
    assert Alert.objects.filter(code="STOP_CROSSED_OPEN", symbol=BTC).count() == 1


def test_the_exchanges_own_stop_closes_alone_and_the_desk_sends_nothing(
    watcher: Watcher, exchange: PaperExchange
) -> None:
    position = hold()
    through = the_plan(position).stop_price - 100
    at = now()
    exchange.set_mark("BTCUSDT", str(through))
    tick(watcher, through, at=at)
    closed = visit(position, at=at, after_seconds=2.1)
    assert (closed.status, closed.close_reason) == (PositionStatus.CLOSED, CloseReason.STOP_LOSS)
    assert exits_of(position) == []
    assert not Alert.objects.filter(code="STOP_CROSSED_OPEN").exists()


def test_a_crossed_stop_that_is_not_at_the_exchange_closes_at_once(watcher: Watcher) -> None:
    position = enter()
    through = the_plan(position).stop_price
    watcher.on_marks({BTC: through}, now())
    assert fresh(position).closing_for == CloseReason.STOP_LOSS


def test_stop_and_target_both_crossed_between_two_looks_is_the_stop() -> None:
    position = enter()
    plan = the_plan(position)
    evaluate({position.pk: MarkSpan(plan.stop_price, plan.levels[1].price)}, now())
    after = fresh(position)
    assert (after.closing_for, after.reduction) == (CloseReason.STOP_LOSS, {})
    assert the_plan(position) == plan


def test_a_fired_working_stop_is_closed_by_the_rule_that_put_it_there(
    watcher: Watcher, exchange: PaperExchange
) -> None:
    position = hold()
    see(watcher, exchange, level(position, 1))
    visit(position)
    at = now()
    back = the_plan(position).stop_price - 10
    exchange.set_mark("BTCUSDT", str(back))
    tick(watcher, back, at=at)
    closed = visit(position, at=at, after_seconds=3.1)
    closed = visit(closed, at=at, after_seconds=5)
    assert (closed.status, closed.close_reason) == (PositionStatus.CLOSED, CloseReason.BREAK_EVEN)
    assert [order.reason for order in exits_of(closed)] == ["TAKE_PROFIT_1"]
    assert stops_there(closed.account) == []


def test_the_time_limit_needs_no_mark() -> None:
    position = hold()
    assert position.check_at is not None
    assert watching.due(position.check_at) == [position.pk]
    assert fresh(visit(position, at=position.check_at, after_seconds=-1)).status == "OPEN"
    closed = visit(position, at=position.check_at)
    assert (closed.status, closed.close_reason) == (PositionStatus.CLOSED, CloseReason.TIME_LIMIT)


def test_the_loss_guard_closes_before_a_stop_that_is_too_far(watcher: Watcher) -> None:
    position = hold()
    guarded = {**position.plan, "loss_guard_amount": "30"}
    Position.objects.filter(pk=position.pk).update(plan=guarded, updated_at=now())
    guard = position.entry_price - Decimal(30) / position.quantity
    assert guard > the_plan(position).stop_price
    tick(watcher, guard + 1)
    assert fresh(position).status == "OPEN"
    tick(watcher, guard - 1)
    assert fresh(position).close_reason == CloseReason.LOSS_GUARD


def test_the_fixed_policy_trails_and_only_ever_tightens(
    watcher: Watcher, exchange: PaperExchange, settings: Settings
) -> None:
    settings.EXIT_POLICY = "fixed"
    account = _far_target(fit_accounts(1)[0])
    position = hold(account=account)
    hard = the_plan(position).hard_stop_price
    stops: list[Decimal] = []
    for price in ("104500", "105500", "105000", "106500"):
        see(watcher, exchange, Decimal(price))
        after = visit(position)
        assert after.stop_price is not None
        stops.append(after.stop_price)
    assert stops == sorted(stops)
    assert stops[1] == stops[2] > stops[0] > hard
    assert the_plan(position).stop_reason == CloseReason.TRAILING
    triggers = {stop.trigger_price for stop in stops_there(account)}
    assert triggers == {hard, stops[-1]}
    assert (fresh(position).quantity, exits_of(position)) == (position.quantity, [])


def _far_target(account: Account) -> Account:
    LimitOverride.objects.create(account=account, name="fixed_take_profit", value="10")
    return account


def test_a_tick_whose_row_could_not_be_written_is_not_lost(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    position = hold()
    price = level(position, 1)

    def locked(*_: object) -> Bells:
        raise DatabaseError("database is locked")

    with monkeypatch.context() as away:
        away.setattr(watching, "evaluate", locked)
        assert watcher.on_marks({BTC: price}, now()) == Bells()
    assert fresh(position).reduction == {}
    assert watcher.on_marks({BTC: MARK}, now()).positions == [position.pk]
    assert fresh(position).reduction["reason"] == "TAKE_PROFIT_1"


def test_a_spot_position_is_watched_by_the_mark_of_its_perpetual(
    watcher: Watcher, exchange: PaperExchange
) -> None:
    position = hold(executors=(Market.SPOT,))
    plan = the_plan(position)
    see(watcher, exchange, level(position, 1))
    after = visit(position, after_seconds=1.1)
    assert "VERIFIED" in codes_of(after)
    (order,) = exits_of(after)
    assert (order.market, order.side, order.reason, order.status) == (
        "spot",
        "sell",
        "TAKE_PROFIT_1",
        "FILLED",
    )
    (resting,) = stops_there(after.account, after.symbol, Market.SPOT)
    assert resting.trigger_price == plan.break_even_price
    assert after.protection == Protection.VERIFIED
    assert after.quantity < position.quantity


def test_a_load_that_failed_is_made_again_at_the_next_mark(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold()
    Position.objects.update(updated_at=timezone.now() - timedelta(minutes=5))
    real, loads = levels.all_levels, []

    def away_at_first() -> Any:
        loads.append(1)
        if len(loads) == 1:
            raise DatabaseError("away")
        return real()

    monkeypatch.setattr(levels, "all_levels", away_at_first)
    with pytest.raises(DatabaseError):
        watcher.on_marks({BTC: MARK}, now())
    watcher.on_marks({BTC: MARK}, now())
    assert watcher.watched == 1


def test_all_exits_of_a_crowd_are_rung_before_anything_is_read_for_the_next_mark(
    watcher: Watcher, exchange: PaperExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_of_three = enter(account=fit_accounts(3)[0])
    watcher.load()
    watcher.see({BTC: level(one_of_three, 1)})
    monkeypatch.setattr(watcher_memory, "CHUNK", 1)
    real, happened = levels.levels_of, list[str]()

    def noted(position_ids: Any) -> Any:
        happened.append("read")
        return real(position_ids)

    monkeypatch.setattr(levels, "levels_of", noted)
    for bells in watcher.acts(now()):
        happened += ["rung"] * len(bells.positions + bells.exits)

    assert happened == ["rung", "rung", "rung", "read"]
    assert not watcher.crossed


def test_what_was_followed_and_could_not_be_read_is_followed_once_more_and_wants_nothing_twice(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    position = hold()
    watcher.load()
    watcher.see({BTC: level(position, 1)})

    def away(_: Any) -> Any:
        raise DatabaseError("away")

    with monkeypatch.context() as patch:
        patch.setattr(levels, "levels_of", away)
        watcher.act(now())
    assert watcher.crossed == {position.pk}
    assert watcher.act(now()) == Bells()
    assert codes_of(position).count("EXIT_WANTED") == 1
    assert not watcher.crossed


def test_what_moved_while_the_rows_could_not_be_read_is_read_when_they_can(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = timezone.now()

    def refresh(after_seconds: float) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(timezone, "now", lambda: began + timedelta(seconds=after_seconds))
            watcher.refresh()

    def away(_: datetime) -> Any:
        raise DatabaseError("away")

    refresh(0)
    hold()
    Position.objects.update(updated_at=began + timedelta(seconds=1))
    with monkeypatch.context() as patch:
        patch.setattr(levels, "versions_since", away)
        with pytest.raises(DatabaseError):
            refresh(20)
    refresh(25)
    assert watcher.watched == 1


def test_what_cannot_be_held_is_not_written_and_waits_for_who_may(exchange: PaperExchange) -> None:
    position = hold()
    price = level(position, 1)
    may = [False]
    watcher = Watcher(lambda: may[0])
    assert watcher.on_marks({BTC: price}, now()) == Bells()
    assert fresh(position).reduction == {}
    assert not position.events.filter(code="EXIT_WANTED").exists()
    may[0] = True
    assert watcher.on_marks({BTC: MARK}, now()).positions == [position.pk]
    assert fresh(position).reduction["reason"] == "TAKE_PROFIT_1"


def test_what_the_leader_did_is_forgotten_by_who_stands_by(exchange: PaperExchange) -> None:
    position = hold()
    price = level(position, 1)
    leader, standby = Watcher(), Watcher()
    for one in (leader, standby):
        one.load()
    standby.see({BTC: price})
    leader.on_marks({BTC: price}, now())
    standby.refresh()
    assert standby.act(now()) == Bells()
    assert position.events.filter(code="EXIT_WANTED").count() == 1


def test_who_takes_over_acts_on_what_it_saw_while_nobody_led(exchange: PaperExchange) -> None:
    position = hold()
    standby = Watcher()
    standby.load()
    standby.see({BTC: level(position, 1)})
    standby.see({BTC: MARK})  # the mark was there for a moment only
    standby.forget_old()
    assert standby.act(now()).positions == [position.pk]
    assert fresh(position).reduction["reason"] == "TAKE_PROFIT_1"


def test_a_standby_forgets_what_is_long_the_leaders(
    exchange: PaperExchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    position = hold()
    standby = Watcher()
    standby.load()
    standby.see({BTC: level(position, 1)})
    monkeypatch.setattr(watcher_memory, "monotonic", lambda: time.monotonic() + 6)
    standby.forget_old()
    assert standby.act(now()) == Bells()
    assert fresh(position).reduction == {}


def test_a_load_in_slices_begins_with_the_stops_that_are_behind_the_mark(exchange: PaperExchange) -> None:
    position = enter()
    watcher = Watcher()
    watcher.begin({BTC: the_plan(position).stop_price - 1})
    assert (watcher.is_loaded, watcher.watched) == (False, 1)
    assert watcher.act(now()).positions == [position.pk]
    assert fresh(position).closing_for == CloseReason.STOP_LOSS


def test_slices_find_what_a_refresh_missed_in_either_direction(exchange: PaperExchange) -> None:
    position = hold()
    watcher = Watcher()
    watcher.begin({})
    assert watcher.watched == 0
    watcher.take_slice()
    assert (watcher.is_loaded, watcher.watched) == (True, 1)
    Position.objects.filter(pk=position.pk).update(status=PositionStatus.CLOSED)  # and `updated_at` stayed
    watcher.refresh()
    assert watcher.watched == 1
    watcher.take_slice()
    assert watcher.watched == 0


def test_a_price_of_before_a_stop_was_moved_that_comes_late_does_not_close(exchange: PaperExchange) -> None:
    """Somebody stood still for two seconds, and hears now what the market was before it took a target."""
    position = hold()
    watcher = Watcher()
    watcher.load()
    tick(watcher, level(position, 2))
    assert the_plan(fresh(position)).stop_reason == CloseReason.RATCHET
    watcher.refresh()
    watcher.see({BTC: MARK}, late_seconds=2)
    assert watcher.act(now()) == Bells()
    assert fresh(position).closing_for == ""
    watcher.see({BTC: MARK})
    assert watcher.act(now()) != Bells(), "heard in time it is the market's"


def test_a_mark_of_before_a_row_was_written_does_not_cross_its_levels(exchange: PaperExchange) -> None:
    position = enter()
    through = the_plan(position).stop_price - 1
    watcher = Watcher()
    watcher.begin({BTC: through})
    Position.objects.filter(pk=position.pk).update(updated_at=timezone.now() + timedelta(seconds=1))
    watcher._book.remove(position.pk)
    watcher._crossed.clear()
    watcher.refresh()
    assert (watcher.watched, watcher.act(now())) == (1, Bells())
    assert fresh(position).closing_for == ""
