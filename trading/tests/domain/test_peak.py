"""The peak of drawdown: a withdrawal is no fall, a deposit hides none."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.domain.autohalt import drawdown
from trading.domain.peak import moved_peak, raised_peak

MONEY = st.decimals(min_value=1, max_value=1_000_000, places=2)


@pytest.mark.parametrize(
    ("peak", "value", "transferred", "moved"),
    [
        ("1000", "1000", "0", "1000"),
        ("1000", "800", "-200", "800"),
        ("1000", "1500", "500", "1500"),
        ("1000", "900", "0", "1000"),
        ("1000", "1800", "900", "2000"),  # a tenth under the peak before the deposit, and after it
        ("1000", "0", "-900", "0"),
        ("1000", "500", "500", "0"),
    ],
)
def test_a_transfer_moves_the_peak_with_the_money(
    peak: str, value: str, transferred: str, moved: str
) -> None:
    assert moved_peak(Decimal(peak), Decimal(value), Decimal(transferred)) == Decimal(moved)


@given(value=MONEY, fall=st.decimals(min_value=0, max_value="0.9", places=4), transfer=MONEY)
def test_no_deposit_changes_the_fall_from_the_peak(value: Decimal, fall: Decimal, transfer: Decimal) -> None:
    fallen = value * (1 - fall)
    peak = moved_peak(value, fallen + transfer, transfer)
    assert abs(drawdown((peak, fallen + transfer)) - fall) < Decimal("1e-12")


@given(st.lists(MONEY, min_size=1))
def test_without_transfers_the_peak_is_the_highest_ever_read(values: list[Decimal]) -> None:
    peak: Decimal | None = None
    for value in values:
        peak = raised_peak(peak, value)
    assert peak == max(values)
