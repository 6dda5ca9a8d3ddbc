"""What the canaries' answers decide about the rest."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.domain.limits import Limits
from trading.domain.states import SkipCode
from trading.domain.waves import Canaries, Verdict, judge
from trading.tests.domain.samples import D

LIMITS = Limits()
COUNT = st.integers(0, 30)


@pytest.mark.parametrize(
    ("sent_for", "waiting", "acknowledged", "refused", "verdict"),
    [
        (3, 0, 3, 0, Verdict.RELEASE),
        (3, 1, 2, 0, Verdict.WAIT),
        (3, 3, 0, 0, Verdict.WAIT),
        (3, 2, 0, 1, Verdict.CANARY_REFUSED),
        (1, 0, 0, 1, Verdict.CANARY_REFUSED),
        (10, 0, 9, 1, Verdict.RELEASE),
        (10, 0, 8, 2, Verdict.CANARY_REFUSED),
        (10, 8, 1, 1, Verdict.WAIT),
        (3, 0, 1, 0, Verdict.RELEASE),
        (3, 0, 0, 0, Verdict.NO_CANARY),
        (0, 0, 0, 0, Verdict.NO_CANARY),
    ],
)
def test_the_rest_goes_when_the_canaries_are_acknowledged(
    sent_for: int, waiting: int, acknowledged: int, refused: int, verdict: Verdict
) -> None:
    assert judge(Canaries(sent_for, waiting, acknowledged, refused), LIMITS) == verdict


def test_the_share_that_stops_is_a_limit() -> None:
    half = replace(LIMITS, canary_reject_share=D("0.5"))
    assert judge(Canaries(10, 0, 6, 4), half) == Verdict.RELEASE
    assert judge(Canaries(10, 0, 5, 5), half) == Verdict.CANARY_REFUSED


@given(waiting=COUNT, acknowledged=COUNT, refused=COUNT, unsent=COUNT)
def test_the_rest_is_never_let_go_unheard_or_against_the_limit(
    waiting: int, acknowledged: int, refused: int, unsent: int
) -> None:
    sent_for = waiting + acknowledged + refused + unsent
    if judge(Canaries(sent_for, waiting, acknowledged, refused), LIMITS) == Verdict.RELEASE:
        assert waiting == 0
        assert acknowledged > 0
        assert refused < LIMITS.canary_reject_share * sent_for


def test_each_stop_is_a_code_of_a_skipped_share() -> None:
    assert SkipCode(Verdict.CANARY_REFUSED) == "CANARY_REFUSED"
    assert SkipCode(Verdict.NO_CANARY) == "NO_CANARY"
