"""Random ways of the mark replayed over whole plans: the exits do not hang on how ticks were grouped."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from trading.domain.exit_plan import ExitPlan, ExitPolicy, build_plan, recompute
from trading.domain.exits import MarkSpan, evaluate
from trading.domain.limits import Limits
from trading.domain.percent import sign
from trading.tests.domain.samples import NOW, SOL, D, plan, terms

UNGUARDED = Limits(min_stop=False, loss_guard=D(1_000))
POLICIES: dict[str, dict[str, Any]] = {
    "adaptive": {"limits": UNGUARDED},
    "runner": {"limits": Limits(min_stop=False, loss_guard=D(1_000), runner=True)},
    "signal": {"policy": ExitPolicy.SIGNAL, "limits": UNGUARDED},
    "fixed": {"policy": ExitPolicy.FIXED, "limits": UNGUARDED},
}
SIGNAL_PRICES: dict[bool, dict[str, Any]] = {
    True: {"signal_stop_price": D(99), "signal_take_profit_price": D(111)},
    False: {"signal_stop_price": D(101), "signal_take_profit_price": D(89)},
}

kinds = st.sampled_from(sorted(POLICIES))
steps = st.lists(st.decimals(min_value="-0.9", max_value="0.9", places=2), min_size=1, max_size=40)
cuts = st.lists(st.booleans(), min_size=40, max_size=40)
lots = st.integers(1, 9_000)


def planned(kind: str, quantity: D, *, is_long: bool) -> ExitPlan:
    made = terms(is_long=is_long, **(POLICIES[kind] | SIGNAL_PRICES[is_long]))
    return plan(made, quantity=quantity)


def walked(moves: Sequence[D]) -> list[D]:
    """The marks of a walk from the entry at 100."""
    marks = [D(100)]
    for move in moves:
        marks.append(max(D(1), marks[-1] + move))
    return marks[1:]


def grouped(marks: Sequence[D], cut: Sequence[bool]) -> Iterator[list[D]]:
    """The marks in groups that never turn, the step from the mark before counted in."""
    group: list[D] = []
    before = D(100)
    for mark, is_cut in zip(marks, cut, strict=False):
        way = [before, *group, mark]
        goes_on = way in (sorted(way), sorted(way, reverse=True))
        if group and (is_cut or not goes_on):
            yield group
            before, group = group[-1], []
        group.append(mark)
    if group:
        yield group


@dataclass
class Replay:
    """A position that follows its plan through groups of marks."""

    plan: ExitPlan
    open_quantity: D
    reasons: list[str] = field(default_factory=list)
    sold: list[D] = field(default_factory=list)

    def see(self, marks: Sequence[D]) -> "Replay":
        span = MarkSpan(min(marks), max(marks))
        action = evaluate(self.plan, span, NOW, open_quantity=self.open_quantity)
        if action is None:
            return self
        stop = self.plan.stop_price
        assert (action.plan.stop_price - stop) * sign(is_long=self.plan.is_long) >= 0
        assert 0 <= action.quantity <= self.open_quantity
        self.plan = action.plan
        self.open_quantity -= action.quantity
        assert self.open_quantity == 0 or self.open_quantity >= self.plan.min_quantity
        if action.quantity:
            self.reasons += action.reasons
            self.sold.append(action.quantity)
        return self


def replayed(made: ExitPlan, quantity: D, groups: Iterator[list[D]] | Sequence[list[D]]) -> Replay:
    replay = Replay(made, quantity)
    for group in groups:
        replay.see(group)
    return replay


@given(kind=kinds, is_long=st.booleans(), moves=steps, cut=cuts, lots=lots)
def test_a_replay_gives_the_same_exits_whatever_the_tick_grouping(
    kind: str, is_long: bool, moves: list[D], cut: list[bool], lots: int
) -> None:
    quantity, marks = D("0.001") * lots, walked(moves)
    made = planned(kind, quantity, is_long=is_long)
    one_by_one = replayed(made, quantity, [[mark] for mark in marks])
    together = replayed(made, quantity, grouped(marks, cut))
    assert together.reasons == one_by_one.reasons
    assert together.open_quantity == one_by_one.open_quantity
    assert together.plan.stop_price == one_by_one.plan.stop_price
    assert sum(together.sold) == sum(one_by_one.sold)


@given(kind=kinds, is_long=st.booleans(), moves=steps, cut=cuts, lots=lots)
def test_a_replay_never_sells_more_than_was_entered_and_leaves_nothing_that_cannot_be_sold(
    kind: str, is_long: bool, moves: list[D], cut: list[bool], lots: int
) -> None:
    quantity = D("0.001") * lots
    ended = replayed(planned(kind, quantity, is_long=is_long), quantity, grouped(walked(moves), cut))
    assert sum(ended.sold) + ended.open_quantity == quantity
    assert len(ended.reasons) == len(set(ended.reasons))  # no level is taken twice
    if ended.plan.is_harvested and not ended.plan.rides:
        assert ended.open_quantity == 0


@given(kind=kinds, is_long=st.booleans(), moves=steps, lots=lots)
def test_a_mark_seen_again_or_a_restart_in_between_changes_nothing(
    kind: str, is_long: bool, moves: list[D], lots: int
) -> None:
    quantity, marks = D("0.001") * lots, walked(moves)
    made = planned(kind, quantity, is_long=is_long)
    once = replayed(made, quantity, [[mark] for mark in marks])
    again = replayed(made, quantity, [[mark] for mark in marks for _ in range(2)])
    assert (again.reasons, again.open_quantity) == (once.reasons, once.open_quantity)
    assert again.plan == once.plan


@given(
    kind=kinds,
    is_long=st.booleans(),
    moves=steps,
    lots=lots,
    more=st.integers(1, 9_000),
    drift=st.decimals(min_value="-0.5", max_value="0.5", places=2),
)
def test_added_fills_never_loosen_the_stop_nor_take_a_level_again(
    kind: str, is_long: bool, moves: list[D], lots: int, more: int, drift: D
) -> None:
    quantity, added = D("0.001") * lots, D("0.001") * more
    before = replayed(planned(kind, quantity, is_long=is_long), quantity, [[mark] for mark in walked(moves)])
    if before.open_quantity == 0:
        return
    made = terms(is_long=is_long, **(POLICIES[kind] | SIGNAL_PRICES[is_long]))
    larger = build_plan(
        made,
        instrument=SOL,
        entry_price=D(100) + drift,
        quantity=quantity + added,
        opened_at=NOW,
        equity=D(10_000),
    )
    after = recompute(before.plan, larger)
    way = sign(is_long=is_long)
    assert (after.stop_price - before.plan.stop_price) * way >= 0
    assert after.hard_stop_price == before.plan.hard_stop_price
    reached = [level.number for level in before.plan.levels if level.reached]
    assert [level.number for level in after.levels if level.reached] == reached
    # What is left is sold whole in the end, although earlier legs were of a smaller whole.
    target = max(level.price * way for level in after.levels) * way + way * 50
    ended = Replay(after, before.open_quantity + added).see([target])
    assert ended.open_quantity == 0 or after.rides
