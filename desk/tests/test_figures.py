"""Figures as they look on a page."""

from decimal import Decimal

import pytest

from desk.templatetags.figures import MINUS, THIN, price


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("-0.74942", f"{MINUS}0.74942"),
        ("-0.00012000", f"{MINUS}0.00012"),
        ("-1234.50", f"{MINUS}1{THIN}234.5"),
        ("0.75", "0.75"),
        ("0", "0"),
        ("-0", "0"),
        ("106574.30", f"106{THIN}574.3"),
    ],
)
def test_a_loss_under_one_is_never_shown_as_a_profit(value: str, shown: str) -> None:
    assert price(Decimal(value)) == shown
