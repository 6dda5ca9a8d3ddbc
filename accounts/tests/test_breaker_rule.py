from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts.domain.breaker import CLOSED, BreakerState, after_rejection, counts, has_money_come, scope

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
MARGIN = "-2019"
SYMBOL_CLOSED = "-4141"


def rejected(state: BreakerState, *codes: str, now: datetime = NOW) -> BreakerState:
    for code in codes:
        state = after_rejection(state, code, now)
    return state


def test_three_rejections_of_one_code_in_a_row_open_it_for_five_minutes() -> None:
    assert not rejected(CLOSED, MARGIN, MARGIN).is_open(NOW)
    opened = rejected(CLOSED, MARGIN, MARGIN, MARGIN)
    assert opened.open_until == NOW + 5 * MINUTE
    assert opened.is_open(NOW + 5 * MINUTE - timedelta(microseconds=1))
    assert not opened.is_open(NOW + 5 * MINUTE)


def test_another_code_between_begins_the_count_again() -> None:
    assert not rejected(CLOSED, MARGIN, MARGIN, SYMBOL_CLOSED, MARGIN, MARGIN).is_open(NOW)


@pytest.mark.parametrize("code", ["-2015", "10003", "50111"])
def test_a_credential_code_opens_it_at_once(code: str) -> None:
    assert rejected(CLOSED, code).is_open(NOW)


def test_one_more_rejection_after_the_time_opens_it_longer_each_time_up_to_an_hour() -> None:
    state, now, waits = rejected(CLOSED, MARGIN, MARGIN, MARGIN), NOW, []
    for _ in range(4):
        assert state.open_until is not None
        waits.append((state.open_until - now) / MINUTE)
        now = state.open_until
        state = rejected(state, MARGIN, now=now)
    assert waits == [5, 15, 60, 60]


def test_orders_that_were_on_their_way_when_it_opened_do_not_open_it_further() -> None:
    opened = rejected(CLOSED, MARGIN, MARGIN, MARGIN)
    assert rejected(opened, MARGIN, MARGIN, "-2015") == opened


def test_another_code_after_the_time_is_only_counted() -> None:
    opened = rejected(CLOSED, MARGIN, MARGIN, MARGIN)
    later = NOW + 5 * MINUTE
    assert not rejected(opened, "-4164", now=later).is_open(later)


@pytest.mark.parametrize("code", ["-2019", "-4141", "-4164", "-2027", "-1111", "110094", "51008"])
def test_rejections_by_the_exchange_count(code: str) -> None:
    assert counts(code)


@pytest.mark.parametrize(
    "code",
    [
        "MARGIN",
        "MIN_NOTIONAL",
        "TIMEOUT",
        "HTTP_503",
        "HTTP_429",
        "-1003",
        "-1015",
        "-1021",
        "-2013",
        "-2022",
        "",
    ],
)
def test_local_denials_speed_clock_and_lookups_never_count(code: str) -> None:
    assert not counts(code)


def test_a_symbol_code_holds_back_one_symbol_and_a_money_code_the_account() -> None:
    assert scope("BTC/USDT:USDT", SYMBOL_CLOSED) == "BTC/USDT:USDT"
    assert scope("BTC/USDT:USDT", MARGIN) == ""
    assert scope("BTC/USDT:USDT", "-2015") == ""
    assert [scope("BTC/USDT:USDT", code) for code in ("110007", "51008")] == ["", ""]


@given(st.lists(st.sampled_from(["-2019", "-4141", "-2015"]), max_size=30))
def test_it_is_never_open_longer_than_an_hour(codes: list[str]) -> None:
    state = rejected(CLOSED, *codes)
    assert not state.is_open(NOW + 60 * MINUTE)


@pytest.mark.parametrize(
    ("before", "after", "has_come"),
    [
        ("100", "200", True),
        ("100", "199", False),
        ("200", "100", False),
        (None, "500", False),
        ("100", None, False),
    ],
)
def test_money_has_come_when_what_is_available_rose_by_a_hundredth_of_the_wallet(
    before: str | None, after: str | None, has_come: bool
) -> None:
    read = [None if text is None else Decimal(text) for text in (after, before)]
    assert has_money_come(read[0], read[1], Decimal(10_000)) is has_come
