"""Who of a decision starts first."""

from math import gcd, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.domain.start_order import start_order, stride

ACCOUNTS = st.integers(1, 120)
TURN = st.integers(0, 10**9)


def places(count: int, first_turn: int, turns: int) -> list[list[int]]:
    """The places each member has over turns in a row, the first being 0."""
    had: list[list[int]] = [[] for _ in range(count)]
    for turn in range(first_turn, first_turn + turns):
        for place, member in enumerate(start_order(range(count), turn)):
            had[member].append(place)
    return had


@given(count=ACCOUNTS, turn=TURN)
def test_everybody_starts_once(count: int, turn: int) -> None:
    assert sorted(start_order(range(count), turn)) == list(range(count))


@given(count=ACCOUNTS, turn=TURN)
def test_in_as_many_turns_as_accounts_each_has_every_place_once(count: int, turn: int) -> None:
    assert all(sorted(had) == list(range(count)) for had in places(count, turn, count))


@given(count=ACCOUNTS, turn=TURN, turns=st.integers(1, 100))
def test_over_any_turns_in_a_row_the_mean_places_are_even(count: int, turn: int, turns: int) -> None:
    means = [sum(had) / turns for had in places(count, turn, turns)]
    assert max(means) - min(means) <= count * (1 + log2(turns)) / turns


def test_over_fifty_turns_no_account_of_a_thousand_is_mostly_late() -> None:
    means = [sum(had) / 50 for had in places(1000, 1, 50)]
    assert min(means) > 450
    assert max(means) < 550


@pytest.mark.parametrize("count", range(1, 400))
def test_the_line_never_comes_back_early(count: int) -> None:
    assert gcd(stride(count), count) == 1


def test_nobody_to_start_is_no_order() -> None:
    assert start_order([], 7) == []
