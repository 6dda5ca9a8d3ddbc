"""Candidates, ranking, cooldown and the reason for none."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from trading.domain.breaker import venue_circuit
from trading.domain.limits import Limits
from trading.domain.quality import Quality
from trading.domain.selection import (
    Candidate,
    Desk,
    NoneReason,
    NotCandidate,
    Ranked,
    Verdict,
    choose,
    desk_refusal,
    may_select,
    most_at_once,
    why_not,
)
from trading.domain.selection import ranked as ranked_by_score
from trading.tests.domain.samples import NOW, D


def candidate(number: int = 1, **changes: Any) -> Candidate:
    fields: dict[str, Any] = {
        "signal_id": number,
        "symbol": "SOL/USDT:USDT",
        "is_long": True,
        "score": D("0.8"),
        "created_at": NOW - timedelta(seconds=60),
    }
    return Candidate(**(fields | changes))


def ranked(number: int, value: str, age_seconds: int, base: str = "") -> Ranked:
    made = candidate(number, created_at=NOW - timedelta(seconds=age_seconds), base=base or f"C{number}")
    return Ranked(made, Quality(D(value), {}, {}))


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"score": D("0.65")}, None),
        ({"score": D("0.6499")}, NotCandidate.SCORE),
        ({"created_at": ago(86_400)}, None),
        ({"created_at": ago(86_401)}, NotCandidate.AGE),
        ({"expires_at": NOW}, NotCandidate.EXPIRED),
        ({"last_decided_at": ago(29)}, NotCandidate.DUPLICATE),
        ({"last_decided_at": ago(31)}, None),
        ({"has_account": False}, NotCandidate.NO_ACCOUNT),
    ],
)
def test_a_signal_is_a_candidate_or_the_reason_is_named(
    changes: dict[str, Any], expected: NotCandidate | None
) -> None:
    assert why_not(candidate(**changes), NOW, Limits()) is expected


def test_live_asks_for_more_and_fresher_signals() -> None:
    live = Limits.for_mode("live")
    assert why_not(candidate(score=D("0.79")), NOW, live) is NotCandidate.SCORE
    assert why_not(candidate(created_at=ago(901)), NOW, live) is NotCandidate.AGE


def test_the_ten_best_by_score_are_looked_at_and_the_older_goes_first() -> None:
    signals = [candidate(number, created_at=ago(number), score=D("0.9")) for number in range(1, 12)]
    found = ranked_by_score([*signals, candidate(99, score=D("0.95"))])[: Limits().candidates]
    assert [one.signal_id for one in found] == [99, 11, 10, 9, 8, 7, 6, 5, 4, 3]


def test_a_source_of_half_weight_stands_behind_with_the_same_score_and_is_asked_no_more() -> None:
    half, whole = candidate(1, weight=D("0.5"), score=D("0.9")), candidate(2, score=D("0.7"))
    assert ranked_by_score([half, whole]) == [whole, half]
    assert why_not(half, NOW, Limits()) is None


def test_the_best_quality_wins_and_ties_go_to_the_older() -> None:
    older, newer = ranked(1, "0.7", 50), ranked(2, "0.7", 10)
    least = ranked(3, "0.6", 90)
    choice = choose([newer, older, least], Limits())
    assert (choice.winners, choice.reason) == ((older,), None)
    assert choice.verdicts == {1: Verdict.CHOSEN, 2: Verdict.NOT_THE_BEST, 3: Verdict.NOT_THE_BEST}


def test_several_at_once_are_of_different_coins_and_each_good_enough() -> None:
    found = [
        ranked(1, "0.9", 50, "SOL"),
        ranked(2, "0.8", 50, "SOL"),
        ranked(3, "0.7", 50, "ETH"),
        ranked(4, "0.6", 50, "BTC"),
        ranked(5, "0.4", 50, "XRP"),
    ]
    choice = choose(found, Limits(), at_most=2)
    assert [one.candidate.signal_id for one in choice.winners] == [1, 3]
    assert choice.verdicts == {
        1: Verdict.CHOSEN,
        2: Verdict.SAME_COIN,
        3: Verdict.CHOSEN,
        4: Verdict.NOT_THE_BEST,
        5: Verdict.QUALITY,
    }


@pytest.mark.parametrize(
    ("set_to", "open_risk", "trades_today", "expected"),
    [(1, "0", 0, 1), (4, "0", 0, 4), (4, "0", 98, 2), (4, "0.029", 0, 2), (4, "0.0499", 0, 1)],
)
def test_several_at_once_stay_inside_the_desks_day_and_risk(
    set_to: int, open_risk: str, trades_today: int, expected: int
) -> None:
    desk = Desk(is_halted=False, open_risk=D(open_risk), trades_today=trades_today)
    assert most_at_once(desk, Limits(decisions_per_tick=set_to)) == expected


def test_a_choice_of_none_names_its_reason() -> None:
    assert choose([], Limits()).reason is NoneReason.NO_CANDIDATES
    assert choose([ranked(1, "0.49", 5)], Limits()).reason is NoneReason.QUALITY
    assert choose([ranked(1, "0.50", 5)], Limits()).reason is None


@pytest.mark.parametrize(
    ("desk", "reason"),
    [
        (Desk(is_halted=False, open_risk=D("0.049"), trades_today=99), None),
        (Desk(is_halted=True, open_risk=D(0), trades_today=0), NoneReason.HALTED),
        (Desk(is_halted=False, open_risk=D("0.05"), trades_today=0), NoneReason.DESK_RISK),
        (Desk(is_halted=False, open_risk=D(0), trades_today=100), NoneReason.DESK_DAILY_TRADES),
    ],
)
def test_the_desks_own_limits_come_first(desk: Desk, reason: NoneReason | None) -> None:
    assert desk_refusal(desk, Limits()) is reason


@pytest.mark.parametrize(
    ("chosen", "fruitless", "due"),
    [
        (None, None, True),
        (ago(298.9), None, False),
        (ago(300), None, True),
        (None, ago(58.9), False),
        (None, ago(59.9), True),
        (ago(400), ago(60), True),
    ],
)
def test_a_choice_rests_five_minutes_and_a_fruitless_look_one(
    chosen: datetime | None, fruitless: datetime | None, due: bool
) -> None:
    assert may_select(NOW, last_chosen_at=chosen, last_fruitless_at=fruitless, limits=Limits()) is due


@pytest.mark.parametrize(
    ("rejections", "offered", "code"),
    [
        ({"-4131": 5}, 25, "-4131"),
        ({"-4131": 5}, 26, None),
        ({"-4131": 4}, 4, None),
        ({"-2019": 3, "-4131": 3}, 6, None),
    ],
)
def test_the_same_refusal_on_five_accounts_and_a_fifth_stops_the_decision(
    rejections: dict[str, int], offered: int, code: str | None
) -> None:
    assert venue_circuit(rejections, offered, Limits()) == code
