"""Watchers beside each other: one leads, the dead are removed, the paused find themselves replaced."""

from itertools import count
from uuid import UUID

import pytest
from django.db import DatabaseError
from hypothesis import given
from hypothesis import strategies as st

from trading.models import WatcherProcess
from trading.services import watchers
from trading.services.watchers import Membership, owner_of

LOOK_SECONDS = 0.3


class Stopwatch:
    """Seconds moved by hand."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def stopwatch() -> Stopwatch:
    return Stopwatch()


@pytest.fixture
def three(stopwatch: Stopwatch) -> list[Membership]:
    return [Membership(name, stopwatch) for name in ("first", "second", "third")]


def looks(stopwatch: Stopwatch, seconds: float, *living: Membership) -> None:
    """Everybody who lives looks as often as they do."""
    for _ in range(round(seconds / LOOK_SECONDS)):
        stopwatch.seconds += LOOK_SECONDS
        for one in living:
            one.look(hears_marks=True)


@pytest.mark.django_db
def test_the_first_leads_and_the_others_stand_by(stopwatch: Stopwatch, three: list[Membership]) -> None:
    looks(stopwatch, 3, *three)
    assert [one.leads for one in three] == [True, False, False]
    assert [one.holds() for one in three] == [True, False, False]
    assert all(one.members == {other.uid for other in three} for one in three)


@pytest.mark.django_db
def test_the_next_leads_within_two_seconds_of_a_death(stopwatch: Stopwatch, three: list[Membership]) -> None:
    first, second, third = three
    looks(stopwatch, 3, *three)
    looks(stopwatch, 0.9, second, third)
    assert not second.leads
    looks(stopwatch, 0.9, second, third)
    assert (second.leads, second.holds(), third.leads) == (True, True, False)
    assert not first.holds()


@pytest.mark.django_db
def test_one_that_leaves_is_followed_at_once(stopwatch: Stopwatch, three: list[Membership]) -> None:
    first, second, _ = three
    looks(stopwatch, 3, *three)
    first.leave()
    second.look(hears_marks=True)
    assert (first.leads, second.leads) == (False, True)


@pytest.mark.django_db
def test_one_that_was_paused_writes_nothing_and_begins_anew_behind_the_others(
    stopwatch: Stopwatch, three: list[Membership]
) -> None:
    first, second, third = three
    looks(stopwatch, 3, *three)
    looks(stopwatch, 45, second, third)
    assert first.leads  # it does not know yet
    assert not first.holds()
    looks(stopwatch, 3, *three)
    assert [one.leads for one in three] == [False, True, False]


@pytest.mark.django_db
def test_one_that_hears_marks_leads_before_one_that_does_not(
    stopwatch: Stopwatch, three: list[Membership]
) -> None:
    first, second, _ = three
    looks(stopwatch, 3, *three)
    first.look(hears_marks=False)
    second.look(hears_marks=True)
    assert second.leads
    first.look(hears_marks=False)
    assert (first.leads, first.holds()) == (False, False)
    first.look(hears_marks=True)
    assert first.leads


@pytest.mark.django_db
def test_a_lone_one_leads_though_it_hears_nothing(stopwatch: Stopwatch, three: list[Membership]) -> None:
    first = three[0]
    first.look(hears_marks=False)
    assert first.leads


@pytest.mark.django_db
def test_a_database_that_was_away_ends_nobody(
    stopwatch: Stopwatch, three: list[Membership], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, _ = three
    looks(stopwatch, 3, first, second)
    with monkeypatch.context() as away:
        away.setattr(watchers, "F", _raise)
        stopwatch.seconds += 30
        for one in (first, second):
            with pytest.raises(DatabaseError):
                one.look(hears_marks=True)
    stopwatch.seconds += LOOK_SECONDS
    second.look(hears_marks=True)
    second.look(hears_marks=True)
    assert not second.leads
    assert WatcherProcess.objects.count() == 2


def _raise(_: str) -> None:
    raise DatabaseError("away")


@pytest.mark.django_db
def test_accounts_of_one_that_died_are_taken_over_once_it_does_not_come_back(
    stopwatch: Stopwatch, three: list[Membership]
) -> None:
    first, second, _ = three
    looks(stopwatch, 3, first, second)
    theirs = [pk for pk in range(1, 200) if first.is_ours(pk)]
    mine = [pk for pk in range(1, 200) if second.is_ours(pk)]
    assert sorted(theirs + mine) == list(range(1, 200))
    looks(stopwatch, 1.8, second)
    assert second.leads
    assert [pk for pk in range(1, 200) if second.is_ours(pk)] == mine
    looks(stopwatch, 3.3, second)
    assert all(second.is_ours(pk) for pk in range(1, 200))


members = st.frozensets(st.uuids(), min_size=1, max_size=5)


@given(members, st.uuids())
def test_whoever_joins_takes_accounts_from_others_only_to_itself(here: frozenset[UUID], joins: UUID) -> None:
    for account_id in range(1, 40):
        before, after = owner_of(account_id, here), owner_of(account_id, here | {joins})
        assert before in here
        assert after in (before, joins)


def test_accounts_are_shared_about_evenly() -> None:
    two = frozenset(UUID(int=number) for number in range(2))
    shares = [sum(owner_of(pk, two) == uid for pk in range(1000)) for uid in two]
    assert min(shares) > 400


def test_who_owns_is_the_same_whatever_the_order() -> None:
    numbers = count(1)
    here = [UUID(int=next(numbers)) for _ in range(4)]
    assert {owner_of(7, frozenset(here)), owner_of(7, frozenset(reversed(here)))} == {
        owner_of(7, frozenset(here))
    }
