"""Stops seen, missing, refused and crossed (V18, V21)."""

from dataclasses import replace
from typing import Any

import pytest

from trading.domain.limits import Limits
from trading.domain.protection import (
    ProtectionView,
    SeenStop,
    Step,
    StopFault,
    StopState,
    after_refusal,
    closes_on_contact,
    fault,
    next_step,
    standing,
    superseded,
)
from trading.domain.states import CloseReason, OrderPurpose, Protection
from trading.tests.domain.samples import D, plan, terms

LONG = plan()
MOVED = LONG.tighten(D("100.15"), CloseReason.BREAK_EVEN)
HARD = SeenStop("hard", OrderPurpose.HARD_STOP, False, D("99.30"), None, True)
WORKING = SeenStop("working", OrderPurpose.WORKING_STOP, False, D("100.15"), D(10), True)


def view(**changes: Any) -> ProtectionView:
    return replace(
        ProtectionView(plan=LONG, open_quantity=D(10), seen=(HARD,), hard=StopState.ACKED), **changes
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"is_conditional": False}, StopFault.STORE),
        ({"is_buy": True}, StopFault.SIDE),
        ({"trigger_price": D("99.29")}, StopFault.TRIGGER),
        ({"trigger_price": D("99.31")}, StopFault.TRIGGER),
        ({"reduces": False}, StopFault.ENLARGES),
        ({"quantity": D("9.999")}, StopFault.COVER),
        ({"quantity": D(10)}, None),
    ],
)
def test_a_seen_stop_protects_or_its_fault_is_named(
    changes: dict[str, Any], expected: StopFault | None
) -> None:
    assert fault(replace(HARD, **changes), LONG, D(10)) is expected


def test_a_stop_we_moved_once_protects_until_the_newest_is_seen() -> None:
    assert fault(replace(WORKING, trigger_price=D("99.90")), MOVED, D(10)) is None
    assert fault(replace(WORKING, trigger_price=D("100.16")), MOVED, D(10)) is StopFault.TRIGGER


def test_nothing_is_superseded_before_its_successor_was_seen() -> None:
    older = replace(WORKING, trigger_price=D("99.90"))
    assert superseded(view(plan=MOVED, seen=(HARD, older))) == []
    assert superseded(view(plan=MOVED, seen=(HARD, older, WORKING))) == [older]


def test_the_stop_of_a_short_lies_above_and_buys() -> None:
    short = plan(terms(is_long=False))
    stop = replace(HARD, is_buy=True, trigger_price=D("100.70"))
    assert fault(stop, short, D(10)) is None
    assert fault(replace(stop, trigger_price=D("100.71")), short, D(10)) is StopFault.TRIGGER
    assert fault(HARD, short, D(10)) is StopFault.SIDE


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Protection.VERIFIED),
        ({"seen": ()}, Protection.ACKED),
        ({"seen": None}, Protection.ACKED),
        ({"seen": None, "hard": StopState.IN_FLIGHT}, Protection.UNPROTECTED),
        ({"seen": (), "hard": StopState.GONE}, Protection.UNPROTECTED),
        ({"seen": (replace(HARD, purpose=None),), "hard": StopState.NONE}, Protection.UNPROTECTED),
    ],
)
def test_only_a_stop_of_ours_that_was_seen_is_verified(changes: dict[str, Any], expected: Protection) -> None:
    assert standing(view(**changes)) is expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Step.NOTHING),
        # nothing accepted
        ({"seen": None, "hard": StopState.NONE}, Step.PLACE_HARD),
        ({"seen": None, "hard": StopState.IN_FLIGHT}, Step.LOOK),
        ({"seen": None, "hard": StopState.NONE, "unprotected_seconds": 9.9}, Step.PLACE_HARD),
        ({"seen": None, "hard": StopState.NONE, "unprotected_seconds": 10.0}, Step.CLOSE_AT_MARKET),
        ({"seen": (replace(HARD, is_buy=True),), "hard": StopState.NONE}, Step.CANCEL_LEFTOVER),
        # accepted but unseen
        ({"seen": None, "unseen_seconds": 1.0}, Step.LOOK),
        ({"seen": (), "unseen_seconds": 9.9}, Step.LOOK),
        ({"seen": (), "unseen_seconds": 10.0}, Step.ALARM),
        ({"seen": None, "unseen_seconds": 30.0}, Step.PLACE_SECOND),
        ({"seen": None, "second": StopState.ACKED, "unseen_seconds": 600.0}, Step.ALARM),
        ({"seen": (), "second": StopState.ACKED, "unseen_seconds": 31.0}, Step.CLOSE_AT_MARKET),
        ({"seen": (), "second": StopState.IN_FLIGHT, "unseen_seconds": 31.0}, Step.ALARM),
        ({"seen": (), "hard": StopState.IN_FLIGHT, "second": StopState.ACKED}, Step.LOOK),
        # seen, and too small by now
        ({"seen": (), "is_outgrown": True}, Step.MOVE_WORKING),
        ({"seen": (), "is_outgrown": True, "second": StopState.IN_FLIGHT}, Step.LOOK),
        ({"seen": (), "is_outgrown": True, "second": StopState.GONE}, Step.MOVE_WORKING),
        # moved stop: place, verify, cancel
        ({"plan": MOVED}, Step.MOVE_WORKING),
        ({"plan": MOVED, "second": StopState.IN_FLIGHT}, Step.LOOK),
        ({"plan": MOVED, "seen": (HARD, WORKING)}, Step.NOTHING),
        (
            {"plan": MOVED, "seen": (HARD, WORKING, replace(WORKING, trigger_price=D("99.90")))},
            Step.CANCEL_PREVIOUS,
        ),
        ({"seen": (HARD, replace(WORKING, quantity=D(4)))}, Step.CANCEL_LEFTOVER),
    ],
)
def test_the_next_step_of_protection(changes: dict[str, Any], expected: Step) -> None:
    assert next_step(view(**changes), Limits()) is expected


def test_an_accepted_stop_is_never_the_reason_to_close_while_the_list_fails() -> None:
    blind = view(seen=None, second=StopState.ACKED, unseen_seconds=3600.0)
    assert next_step(blind, Limits()) is not Step.CLOSE_AT_MARKET


@pytest.mark.parametrize(
    ("code", "mark", "seen", "expected"),
    [
        ("-2021", "99.20", None, Step.CLOSE_AT_MARKET),
        ("-2021", "99.30", None, Step.CLOSE_AT_MARKET),
        ("-2021", "99.40", None, Step.PLACE_HARD),
        ("-2021", None, None, Step.LOOK),
        ("-4130", "100", None, Step.LOOK),
        ("-4130", "100", (HARD,), Step.ADOPT),
        ("-4130", "100", (replace(HARD, trigger_price=D(90)),), Step.CANCEL_LEFTOVER),
        ("-4130", "100", (replace(HARD, purpose=None),), Step.LOOK),
        ("-4130", "100", (), Step.LOOK),
        ("-2022", "100", (), Step.LOOK),
        ("-4118", "100", (), Step.LOOK),
        ("-1111", "100", (), Step.PLACE_HARD),
    ],
    ids=str,
)
def test_v18_and_v21_a_refused_stop_leads_to_the_right_next_step(
    code: str, mark: str | None, seen: tuple[SeenStop, ...] | None, expected: Step
) -> None:
    step = after_refusal(
        code, plan=LONG, open_quantity=D(10), mark_price=None if mark is None else D(mark), seen=seen
    )
    assert step is expected


def test_after_an_outage_only_an_untouched_stop_with_the_mark_inside_stays_open() -> None:
    assert not closes_on_contact(is_stop_untouched=True, is_mark_inside=True)
    assert closes_on_contact(is_stop_untouched=False, is_mark_inside=True)
    assert closes_on_contact(is_stop_untouched=True, is_mark_inside=False)
