"""Rounding, brackets, and the identity of an attempt."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.domain.client_ids import client_order_id
from trading.domain.instrument import floor_quantity, round_cap, round_stop, round_target
from trading.domain.states import OrderPurpose
from trading.tests.domain.samples import D, instrument

SUBJECT = UUID("6f1c0f2e-6a53-4f0e-9d4b-2b7f1f6f4a10")


@pytest.mark.parametrize(
    ("is_long", "stop", "target", "cap"),
    [(True, "99.15", "99.14", "99.15"), (False, "99.14", "99.15", "99.14")],
)
def test_stops_round_in_favour_targets_to_the_entry_and_caps_against_us(
    is_long: bool, stop: str, target: str, cap: str
) -> None:
    price, tick = D("99.1449"), D("0.01")
    assert round_stop(price, tick, is_long=is_long) == D(stop)
    assert round_target(price, tick, is_long=is_long) == D(target)
    assert round_cap(price, tick, is_long=is_long) == D(cap)


@given(st.decimals(min_value=0, max_value=10_000, places=9))
def test_a_quantity_is_never_enlarged_and_loses_less_than_a_step(quantity: D) -> None:
    floored = floor_quantity(instrument(step=D("0.003")), quantity)
    assert 0 <= quantity - floored < D("0.003")
    assert floored % D("0.003") == 0


def test_the_bracket_of_a_notional_and_the_largest_notional_at_a_leverage() -> None:
    market = instrument()
    bracket = market.bracket_at(D(60_000))
    assert bracket is not None
    assert bracket.maint_margin_ratio == D("0.010")
    assert market.notional_limit(D(30)) == D(50_000)
    assert market.notional_limit(D(20)) == D(500_000)
    assert market.notional_limit(D(200)) == 0
    assert instrument(brackets=()).notional_limit(D(1)) is None


def test_an_intent_always_has_the_same_id_and_another_attempt_another_one() -> None:
    first = client_order_id("phx", SUBJECT, OrderPurpose.ENTRY, 0, 1)
    assert first == client_order_id("phx", SUBJECT, OrderPurpose.ENTRY, 0, 1)
    others = {
        client_order_id("phx", SUBJECT, OrderPurpose.ENTRY, 0, 2),
        client_order_id("phx", SUBJECT, OrderPurpose.EXIT, 0, 1),
        client_order_id("phx", SUBJECT, OrderPurpose.ENTRY, 1, 1),
        client_order_id("phx", UUID(int=1), OrderPurpose.ENTRY, 0, 1),
    }
    assert first not in others
    assert len(others) == 4


@given(st.uuids(version=4), st.sampled_from(OrderPurpose), st.integers(0, 99), st.integers(1, 99))
def test_an_id_is_what_every_venue_accepts(
    subject: UUID, purpose: OrderPurpose, leg: int, attempt: int
) -> None:
    made = client_order_id("phx", subject, purpose, leg, attempt)
    assert len(made) == 32
    assert made.isascii()
    assert made.isalnum()
    assert made.startswith("phx")


@pytest.mark.parametrize("prefix", ["", "desk-1", "muchtoolong", "é"])
def test_a_prefix_a_venue_would_refuse_is_refused_here(prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        client_order_id(prefix, SUBJECT, OrderPurpose.ENTRY, 0, 1)
