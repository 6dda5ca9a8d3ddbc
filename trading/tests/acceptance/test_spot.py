"""Spot positions: coins locked by the stop are freed, sold and guarded again; the gap is measured."""

import time
from decimal import Decimal

from exchange.port import Market
from trading import tasks
from trading.models import Position
from trading.services import watching
from trading.tests.acceptance.desk import ETH, PublicDesk, now
from trading.tests.services.holding import stops_there

SPOT_ETH = "ETH/USDT"


def attend_what_is_due(seconds: float) -> None:
    """What watcher and exits worker do of themselves, until the position rests verified."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if due := watching.due(now()):
            tasks.attend_positions.delay(due)
        if not Position.objects.exclude(protection="VERIFIED").exists():
            return
        time.sleep(0.05)


def test_a_target_is_taken_on_spot_with_a_gap_that_is_measured_and_under_three_seconds(
    desk: PublicDesk,
) -> None:
    name = desk.add_account(executors=("spot",))
    assert desk.share(ETH)["outcome"] == "FILLED"
    attend_what_is_due(3)
    before = desk.position(name, SPOT_ETH)
    assert (before["market"], before["protection"]) == ("spot", "VERIFIED")
    desk.move(ETH, before["plan"]["targets"][0]["price"])
    attend_what_is_due(5)
    after = desk.position(name, SPOT_ETH)
    assert [leg["reason"] for leg in after["legs"]] == ["TAKE_PROFIT_1"]
    assert (after["status"], after["protection"]) == ("OPEN", "VERIFIED")
    (resting,) = stops_there(Position.objects.get().account, SPOT_ETH, Market.SPOT)
    assert resting.trigger_price == Decimal(after["stop_price"])
    assert resting.quantity <= Decimal(after["quantity"])
    gap = Decimal(after["unprotected_seconds"]) - Decimal(before["unprotected_seconds"])
    assert 0 < gap < 3
    desk.post(f"close-position/{before['id']}")
    closed = desk.position(name, SPOT_ETH)
    assert (closed["status"], closed["close_reason"]) == ("CLOSED", "MANUAL")
    assert stops_there(Position.objects.get().account, SPOT_ETH, Market.SPOT) == []
