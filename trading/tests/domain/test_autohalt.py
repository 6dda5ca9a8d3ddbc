"""When the desk stops itself."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from trading.domain.autohalt import (
    AccountDay,
    DeskMoment,
    HaltCode,
    StopOut,
    account_halt,
    desk_halts,
    drawdown,
)
from trading.domain.limits import Limits

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
LIMITS = Limits()


def day(
    *, profit: str | None = "0", baseline: str = "1000", fall: str = "0", stop_outs: tuple[datetime, ...] = ()
) -> AccountDay:
    """One account's day."""
    profit_value = None if profit is None else Decimal(profit)
    return AccountDay(1, profit_value, Decimal(baseline), Decimal(fall), stop_outs)


def desk(
    *, stop_outs: tuple[StopOut, ...] = (), halted: int = 0, age: float | None = 0.5, unknown: int = 0
) -> DeskMoment:
    """A desk of a thousand accounts."""
    return DeskMoment(stop_outs, 1000, halted, age, accounts_long_unknown=unknown)


@pytest.mark.parametrize(
    ("figures", "code"),
    [
        (day(profit="-49.99"), None),
        (day(profit="-50"), HaltCode.DAILY_LOSS),
        (day(profit=None), None),
        (day(fall="0.1499"), None),
        (day(fall="0.15"), HaltCode.DRAWDOWN),
    ],
)
def test_an_account_halts_at_its_loss_or_drawdown_and_not_before(
    figures: AccountDay, code: HaltCode | None
) -> None:
    assert account_halt(figures, LIMITS, NOW) == code


def test_three_stop_outs_of_an_account_within_an_hour_halt_it_and_older_ones_do_not() -> None:
    recent = tuple(NOW - timedelta(minutes=minutes) for minutes in (5, 30, 59))
    older = (*recent[:2], NOW - timedelta(minutes=61))

    assert account_halt(day(stop_outs=recent), LIMITS, NOW) == HaltCode.STOP_OUTS
    assert account_halt(day(stop_outs=older), LIMITS, NOW) is None


def test_one_decision_stopped_out_on_a_thousand_accounts_does_not_halt_the_desk() -> None:
    stop_outs = tuple(StopOut(account, decision=7, at=NOW) for account in range(1000))

    assert desk_halts(desk(stop_outs=stop_outs), LIMITS, NOW) == []


def test_three_decisions_stopped_out_within_a_quarter_hour_halt_the_desk() -> None:
    stop_outs = tuple(StopOut(1, decision, NOW - timedelta(minutes=decision)) for decision in (1, 7, 14))
    late = (*stop_outs[:2], StopOut(1, 9, NOW - timedelta(minutes=16)))

    assert desk_halts(desk(stop_outs=stop_outs), LIMITS, NOW) == [HaltCode.STOP_OUTS]
    assert desk_halts(desk(stop_outs=late), LIMITS, NOW) == []


@pytest.mark.parametrize(
    ("moment", "codes"),
    [
        (desk(halted=249), []),
        (desk(halted=250), [HaltCode.HALTED_ACCOUNTS]),
        (desk(age=5.0), []),
        (desk(age=5.1), [HaltCode.STREAM_STALE]),
        (desk(age=None), [HaltCode.STREAM_STALE]),
        (desk(unknown=9), []),
        (desk(unknown=10), [HaltCode.OUTCOMES_UNKNOWN]),
    ],
)
def test_the_desk_halts_at_each_of_its_bounds_and_not_before(
    moment: DeskMoment, codes: list[HaltCode]
) -> None:
    assert desk_halts(moment, LIMITS, NOW) == codes


def test_drawdown_is_the_fall_of_the_last_value_from_the_highest_before_it() -> None:
    assert drawdown([Decimal(100), Decimal(120), Decimal(90)]) == Decimal("0.25")
    assert drawdown([]) == Decimal(0)
