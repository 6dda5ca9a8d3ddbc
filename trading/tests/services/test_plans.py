"""What the plans of a decision's accounts have in common is worked out once, and each is as if made alone."""

from datetime import timedelta
from decimal import Decimal

import pytest

from accounts.services.limits import set_override
from trading.domain.exit_plan import to_json
from trading.models import Position
from trading.services import plans
from trading.tests.services.journey import BTC, fit_accounts, now, set_columns
from trading.tests.services.sending import a_decision, a_share

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("paper_exchange")]


def positions_of_one_decision() -> list[Position]:
    """Of accounts alike but for, in turn: wallet, group's limits, leverage, quantity, entry, time, share."""
    accounts, decision = fit_accounts(8), a_decision()
    set_columns(accounts[1], wallet_balance=Decimal(12_345))
    set_override(accounts[2], "base_stop", "0.9", "a test")
    made = [
        Position(
            account=account,
            allocation=a_share(decision, account),
            market="futures",
            symbol=BTC,
            base="BTC",
            is_long=True,
            leverage=10,
            quantity=Decimal("0.010"),
            initial_quantity=Decimal("0.010"),
            entry_price=Decimal(100_000),
            opened_at=now(),
        )
        for account in accounts
    ]
    made[3].leverage = 20
    made[4].initial_quantity = Decimal("0.020")
    made[5].entry_price = Decimal(101_000)
    made[6].opened_at += timedelta(hours=1)
    made[7].allocation = None
    return made


def test_plans_made_together_are_those_made_alone() -> None:
    positions = positions_of_one_decision()
    limits = plans.limits_of_many([position.account for position in positions])
    planner = plans.Planner()
    for position in positions:
        instrument = plans.instrument_of(position)
        assert instrument is not None
        alone = plans.plan_for(position, instrument, limits[position.account_id])
        together = planner.keep_plan_for(position, instrument, limits[position.account_id])
        assert together == alone
        assert position.plan == to_json(alone)
        assert position.stop_price == alone.stop_price
    written = {str(position.plan) for position in positions[:7]}
    assert len(written) == 7


def test_a_larger_fill_keeps_what_the_earlier_plan_had() -> None:
    position, *_ = positions_of_one_decision()
    instrument, limits = plans.instrument_of(position), plans.limits_of(position.account)
    assert instrument is not None
    first = plans.Planner().keep_plan_for(position, instrument, limits)
    position.entry_price, position.initial_quantity = Decimal(99_000), Decimal("0.020")
    second = plans.Planner().keep_plan_for(position, instrument, limits)
    assert (second.hard_stop_price, second.stop_price) == (first.hard_stop_price, first.stop_price)
    assert second.initial_quantity == Decimal("0.020")
    assert position.plan == to_json(second)
