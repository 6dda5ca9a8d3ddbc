"""What the secondary executor may be offered."""

import pytest

from trading.domain.fallback import CURABLE_REJECTIONS, may_be_offered_on
from trading.domain.states import DenyCode, ExpireCode

CURABLE = {"MARGIN", "MIN_NOTIONAL", "MAX_ORDER", "SYMBOL_CLOSED", "LEVERAGE_BRACKET"}


@pytest.mark.parametrize("code", sorted(DenyCode))
def test_of_our_refusals_only_five_can_be_cured_by_another_market(code: DenyCode) -> None:
    assert may_be_offered_on(code) is (code.value in CURABLE)


@pytest.mark.parametrize(
    "code", ["-2019", "-2027", "-4140", "-4141", "-4164", "CONNECTION_REFUSED", "HTTP_503"]
)
def test_their_twins_and_an_unavailable_venue_can_be_cured(code: str) -> None:
    assert may_be_offered_on(code)


@pytest.mark.parametrize(
    "code", ["", "-1021", "-2015", "-1007", "TIMEOUT", "HTTP_500", "HTTP_429", *ExpireCode]
)
def test_nothing_unclear_slow_or_forbidden_is_offered_elsewhere(code: str) -> None:
    assert not may_be_offered_on(code)


def test_every_twin_is_itself_curable() -> None:
    assert all(may_be_offered_on(twin) for twin in CURABLE_REJECTIONS.values())
