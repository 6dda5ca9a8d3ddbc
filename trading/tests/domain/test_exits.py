"""What one tick asks of an open position."""

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.domain.exit_plan import ExitPlan, ExitPolicy, outlook_from_json, to_json
from trading.domain.exits import ExitAction, MarkSpan, evaluate, loss_guard_price, watch_prices
from trading.domain.limits import Limits
from trading.domain.states import CloseReason
from trading.tests.domain.samples import NOW, D, plan, terms

RUNNER = terms(limits=Limits(min_stop=False, runner=True))
SIGNAL = terms(policy=ExitPolicy.SIGNAL, signal_stop_price=D(99), signal_take_profit_price=D(120))


def at(
    made: ExitPlan, mark: str, *, quantity: str = "10", realized: str = "0", hours: int = 0
) -> ExitAction | None:
    return evaluate(
        made,
        MarkSpan.at(D(mark)),
        NOW + timedelta(hours=hours),
        open_quantity=D(quantity),
        realized=D(realized),
    )


def followed(made: ExitPlan, mark: str, **state: str) -> ExitPlan:
    action = at(made, mark, **state)  # type: ignore[arg-type]  # only the text arguments of `at`
    assert action is not None
    return action.plan


@pytest.mark.parametrize("mark", ["99.31", "100", "101.06"])
def test_between_stop_and_target_nothing_happens(mark: str) -> None:
    assert at(plan(), mark) is None


@pytest.mark.parametrize(
    ("is_long", "mark"), [(True, "99.30"), (True, "95"), (False, "100.70"), (False, "120")]
)
def test_at_or_through_the_stop_all_is_closed(is_long: bool, mark: str) -> None:
    action = at(plan(terms(is_long=is_long)), mark)
    assert action is not None
    assert (action.quantity, action.reasons, action.closes_all) == (D(10), (CloseReason.STOP_LOSS,), True)


def test_the_first_target_takes_its_share_and_moves_the_stop_to_break_even() -> None:
    action = at(plan(), "101.07")
    assert action is not None
    assert (action.quantity, action.reasons, action.closes_all) == (D(3), (CloseReason.TAKE_PROFIT_1,), False)
    assert (action.plan.stop_price, action.plan.stop_reason) == (D("100.15"), CloseReason.BREAK_EVEN)


def test_the_second_target_moves_the_stop_to_the_first_targets_price() -> None:
    action = at(followed(plan(), "101.07"), "101.43", quantity="7")
    assert action is not None
    assert (action.quantity, action.levels) == (D(3), (2,))
    assert (action.plan.stop_price, action.plan.stop_reason) == (D("101.07"), CloseReason.RATCHET)


def test_the_last_target_takes_whatever_is_open() -> None:
    after_two = followed(followed(plan(), "101.07"), "101.43", quantity="7")
    action = at(after_two, "101.91", quantity="4.2")
    assert action is not None
    assert (action.quantity, action.reasons, action.closes_all) == (
        D("4.2"),
        (CloseReason.TAKE_PROFIT_3,),
        True,
    )


def test_several_targets_in_one_tick_are_one_order_with_the_furthest_stop() -> None:
    action = at(plan(), "101.50")
    assert action is not None
    assert (action.quantity, action.levels) == (D(6), (1, 2))
    assert action.reasons == (CloseReason.TAKE_PROFIT_1, CloseReason.TAKE_PROFIT_2)
    assert action.plan.stop_price == D("101.07")


def test_a_target_is_harvested_once() -> None:
    assert at(followed(plan(), "101.07"), "101.07", quantity="7") is None


def test_stop_and_target_both_crossed_between_two_ticks_is_the_stop() -> None:
    action = evaluate(plan(), MarkSpan(low=D("99.20"), high=D(102)), NOW, open_quantity=D(10))
    assert action is not None
    assert (action.reasons, action.closes_all) == ((CloseReason.STOP_LOSS,), True)


@pytest.mark.parametrize(
    ("mark", "reason"), [("100.15", CloseReason.BREAK_EVEN), ("100.00", CloseReason.BREAK_EVEN)]
)
def test_a_moved_stop_closes_with_its_own_reason(mark: str, reason: CloseReason) -> None:
    action = at(followed(plan(), "101.07"), mark, quantity="7")
    assert action is not None
    assert (action.quantity, action.reasons) == (D(7), (reason,))


def test_a_leg_that_would_leave_dust_takes_it_along() -> None:
    action = at(plan(), "101.07", quantity="3.0005")
    assert action is not None
    assert (action.quantity, action.closes_all) == (D("3.0005"), True)


def test_an_exit_is_capped_to_what_is_open() -> None:
    action = at(plan(), "101.50", quantity="2")
    assert action is not None
    assert (action.quantity, action.closes_all) == (D(2), True)


def test_nothing_open_asks_for_nothing() -> None:
    assert at(plan(), "90", quantity="0") is None


def test_a_runner_trails_its_last_leg_from_the_third_target() -> None:
    third = at(plan(RUNNER), "101.91")
    assert third is not None
    assert (third.quantity, third.closes_all) == (D(6), False)
    assert (third.plan.stop_price, third.plan.stop_reason) == (D("101.41"), CloseReason.TRAILING)
    higher = at(third.plan, "103", quantity="4")
    assert higher is not None
    assert (higher.quantity, higher.plan.stop_price) == (D(0), D("102.42"))
    closed = at(higher.plan, "102.40", quantity="4")
    assert closed is not None
    assert (closed.quantity, closed.reasons) == (D(4), (CloseReason.TRAILING,))


def test_a_runner_that_cannot_be_split_has_no_leg_to_ride() -> None:
    made = plan(RUNNER, quantity=D("0.001"))
    assert not made.rides
    action = at(made, "101.43", quantity="0.001")
    assert action is not None
    assert (action.quantity, action.closes_all) == (D("0.001"), True)


def test_the_signal_policy_trails_by_one_and_a_half_percent_from_plus_four() -> None:
    assert at(plan(SIGNAL), "103.99") is None
    assert followed(plan(SIGNAL), "104").stop_price == D("102.44")


def test_the_loss_guard_counts_the_legs_already_realised() -> None:
    made = plan(equity=D(500))  # guard 7.5: a loss of 0.75 a unit on ten, just beyond the stop
    assert loss_guard_price(made, open_quantity=D(10), realized=D(0)) == D("99.25")
    action = at(made, "99.50", realized="-2.5")
    assert action is not None
    assert (action.quantity, action.reasons) == (D(10), (CloseReason.LOSS_GUARD,))
    assert at(made, "99.50", realized="-2.4") is None


def test_without_equity_or_anything_open_there_is_no_loss_guard() -> None:
    assert loss_guard_price(plan(equity=D(0)), open_quantity=D(10), realized=D(0)) is None
    assert loss_guard_price(plan(), open_quantity=D(0), realized=D(0)) is None
    assert watch_prices(plan(equity=D(0)), open_quantity=D(10)).adverse == D("99.30")


def test_the_time_limit_closes_what_is_open() -> None:
    action = at(plan(), "100", hours=48)
    assert action is not None
    assert action.reasons == (CloseReason.TIME_LIMIT,)
    assert at(plan(), "100", hours=47) is None


@pytest.mark.parametrize("is_long", [True, False])
def test_the_watcher_waits_for_the_nearest_price_on_either_side(is_long: bool) -> None:
    made = plan(terms(is_long=is_long))
    waiting = watch_prices(made, open_quantity=D(10))
    assert (waiting.adverse, waiting.favourable) == (made.stop_price, made.levels[0].price)
    guarded = watch_prices(plan(terms(is_long=is_long), equity=D(300)), open_quantity=D(10))
    assert guarded.adverse == (D("99.55") if is_long else D("100.45"))


def test_a_trailing_plan_waits_for_the_next_step_only() -> None:
    trailing = followed(plan(SIGNAL), "104.05")
    favourable = watch_prices(trailing, open_quantity=D(10)).favourable
    assert favourable == D("104.104")
    assert at(trailing, "104.10") is None
    assert at(trailing, "104.11") is not None


paths = st.lists(st.decimals(min_value=90, max_value=112, places=2), min_size=1, max_size=30)
PLANS = {
    "adaptive": terms(),
    "runner": RUNNER,
    "signal": SIGNAL,
}


@given(kind=st.sampled_from(sorted(PLANS)), path=paths, lots=st.integers(1, 9_000))
def test_on_any_path_no_stop_moves_away_and_no_exit_closes_more_than_is_open(
    kind: str, path: list[D], lots: int
) -> None:
    open_quantity = D("0.001") * lots
    current = plan(PLANS[kind], quantity=open_quantity)
    for mark in path:
        action = evaluate(current, MarkSpan.at(mark), NOW, open_quantity=open_quantity)
        if action is None:
            continue
        assert 0 <= action.quantity <= open_quantity
        assert action.plan.stop_price >= current.stop_price
        open_quantity -= action.quantity
        assert (open_quantity == 0) is action.closes_all
        assert open_quantity == 0 or open_quantity >= current.min_quantity
        current = action.plan


@given(kind=st.sampled_from(sorted(PLANS)), mark=st.decimals(min_value=90, max_value=112, places=2))
def test_the_watch_prices_are_exactly_where_a_tick_asks_for_something(kind: str, mark: D) -> None:
    made = plan(PLANS[kind])
    waiting = watch_prices(made, open_quantity=D(10))
    assert waiting.favourable is not None
    asked = evaluate(made, MarkSpan.at(mark), NOW, open_quantity=D(10)) is not None
    assert asked is (mark <= waiting.adverse or mark >= waiting.favourable)


@given(path=st.lists(st.decimals(min_value=104, max_value=112, places=2), min_size=2, max_size=20))
def test_a_rising_path_leaves_the_same_stop_however_its_ticks_are_grouped(path: list[D]) -> None:
    one_by_one = plan(SIGNAL)
    for mark in sorted(path):
        action = evaluate(one_by_one, MarkSpan.at(mark), NOW, open_quantity=D(10))
        one_by_one = action.plan if action else one_by_one
    at_once = evaluate(plan(SIGNAL), MarkSpan(min(path), max(path)), NOW, open_quantity=D(10))
    assert at_once is not None
    assert at_once.plan == one_by_one


@pytest.mark.parametrize("kind", sorted(PLANS))
@given(path=st.lists(st.decimals(min_value=95, max_value=112, places=2), max_size=6))
def test_the_outlook_of_a_row_tells_the_same_watch_prices_as_its_plan(kind: str, path: list[D]) -> None:
    made = plan(PLANS[kind])
    for mark in path:
        action = evaluate(made, MarkSpan.at(mark), NOW, open_quantity=D(10))
        made = action.plan if action else made

    told = outlook_from_json(json.loads(json.dumps(to_json(made))))

    assert watch_prices(told, open_quantity=D(10)) == watch_prices(made, open_quantity=D(10))
