from decimal import Decimal

import pytest

from tests.chaos.lanes import jumped
from tests.trading_desk import MARKS


@pytest.mark.parametrize("coin", MARKS)
def test_a_jump_passes_the_stop_and_every_target_of_any_coin(coin: str) -> None:
    mark = Decimal(MARKS[coin])
    assert jumped(mark, Decimal("-0.03")) < mark * Decimal("0.975")
    assert jumped(mark, Decimal("0.03")) > mark * Decimal("1.025")
