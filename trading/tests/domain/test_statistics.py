"""Figures from rows."""

from datetime import date, timedelta
from typing import Any

import pytest

from trading.domain.states import CloseReason
from trading.domain.statistics import (
    HITS,
    ClosedPosition,
    MoneyFlow,
    daily_returns,
    max_drawdown,
    profit_drawdown,
    profit_factor,
    statistics,
    unit_values,
)
from trading.tests.domain.samples import NOW, D


def closed(decision: int, account: str, profit: str, **changes: Any) -> ClosedPosition:
    fields: dict[str, Any] = {
        "decision": decision,
        "account": account,
        "symbol": "SOL/USDT:USDT",
        "is_long": True,
        "source": "demo",
        "profit": D(profit),
        "fees": D(1),
        "funding": D(0),
        "opened_at": NOW,
        "closed_at": NOW + timedelta(hours=decision),
    }
    return ClosedPosition(**(fields | changes))


ROWS = [
    closed(1, "a", "11", reasons=(CloseReason.TAKE_PROFIT_1, CloseReason.BREAK_EVEN), slippage_bps=D(4)),
    closed(1, "b", "-3", reasons=(CloseReason.STOP_LOSS,), slippage_bps=D(2)),
    closed(
        2,
        "a",
        "-4",
        reasons=(CloseReason.STOP_LOSS,),
        funding=D("0.5"),
        signal_to_fill_ms=D(90),
        decision_to_answer_ms=D(40),
    ),
    closed(
        3, "a", "0", reasons=(CloseReason.TIME_LIMIT,), signal_to_fill_ms=D(110), unprotected_seconds=D("0.4")
    ),
]


def test_a_decision_on_two_accounts_is_one_result() -> None:
    found = statistics(ROWS)
    assert (found.decisions, found.positions, found.accounts) == (3, 4, 2)
    assert (found.wins, found.win_rate) == (1, D(1) / 3)
    assert (found.average_win, found.average_loss) == (D(6), D("-2.75"))
    assert found.profit_factor == D(6) / D("5.5")
    assert found.expectancy == D("0.5") / 3


def test_money_is_told_with_its_parts() -> None:
    found = statistics(ROWS)
    assert (found.realized, found.fees, found.funding, found.net) == (D(4), D(4), D("0.5"), D("0.5"))
    assert (found.unprotected_seconds, found.longest_unprotected_seconds) == (D("0.4"), D("0.4"))


def test_n_and_the_period_are_always_told_and_few_decisions_are_named_few() -> None:
    found = statistics(ROWS)
    assert (found.since, found.until, found.is_small) == (NOW, NOW + timedelta(hours=3), True)
    many = statistics([closed(number, "a", "1") for number in range(30)])
    assert not many.is_small


def test_hit_rates_count_positions_and_each_reason_once() -> None:
    assert statistics(ROWS).hit_rates == dict.fromkeys(HITS, D(0)) | {
        CloseReason.STOP_LOSS: D("0.5"),
        CloseReason.TAKE_PROFIT_1: D("0.25"),
        CloseReason.BREAK_EVEN: D("0.25"),
        CloseReason.TIME_LIMIT: D("0.25"),
    }


def test_the_profit_drawdown_goes_by_decisions_in_the_order_they_ended() -> None:
    # Net by decision: 6, -4.5, -1, as they ended: from the peak of 6 to 0.5.
    assert statistics(ROWS).profit_drawdown == D("5.5")
    assert profit_drawdown(reversed(ROWS)) == D("5.5")
    late_winner = [closed(9, "a", "7"), closed(2, "a", "-4")]
    assert profit_drawdown(late_winner) == D(5)
    assert profit_drawdown([]) is None


def test_daily_returns_are_of_the_last_value_of_each_day() -> None:
    days = [date(2026, 11, day) for day in (1, 1, 2, 4)]
    values = [D(1), D("1.1"), D("0.99"), D("0.99")]
    assert daily_returns(list(zip(days, values, strict=True))) == [D("0.1"), D("-0.1"), D(0)]
    assert daily_returns([]) == []


def test_figures_without_a_source_are_none_and_not_zero() -> None:
    nothing = statistics([])
    assert (nothing.decisions, nothing.since, nothing.win_rate, nothing.expectancy) == (0, None, None, None)
    assert (nothing.profit_factor, nothing.slippage_bps, nothing.signal_to_fill_ms) == (None, None, None)
    assert (nothing.profit_drawdown, nothing.longest_unprotected_seconds) == (None, None)
    assert nothing.hit_rates == {}
    assert nothing.harvest_effectiveness is None
    assert profit_factor([D(5)]) is None


def test_slippage_is_averaged_and_latency_is_the_median() -> None:
    found = statistics(ROWS)
    assert (found.slippage_bps, found.signal_to_fill_ms, found.decision_to_answer_ms) == (D(3), D(100), D(40))


def test_harvest_effectiveness_compares_with_all_at_the_last_target() -> None:
    rows = [
        closed(1, "a", "12", profit_at_last_target=D(20)),
        closed(2, "a", "-5", profit_at_last_target=D(15)),
        closed(3, "a", "100"),
    ]
    assert statistics(rows).harvest_effectiveness == D("0.2")


def test_a_deposit_is_no_profit_and_a_withdrawal_no_drawdown() -> None:
    values = unit_values([(D(1000), D(0)), (D(2100), D(1000)), (D(1050), D(-1050)), (D(945), D(0))])
    assert values == [D(1), D("1.1"), D("1.1"), D("0.99")]
    assert max_drawdown(values) == D("0.1")
    assert unit_values([]) == []


@pytest.mark.parametrize(
    ("values", "drawdown"),
    [([], "0"), (["1", "2", "3"], "0"), (["2", "1", "4", "3"], "0.5"), (["1", "4", "3", "2", "5"], "0.5")],
)
def test_the_drawdown_is_from_the_highest_point_before(values: list[str], drawdown: str) -> None:
    assert max_drawdown(map(D, values)) == D(drawdown)


def test_money_flow_adds_up_to_the_last_unit() -> None:
    flow = MoneyFlow(
        start=D(1000),
        realized=D("12.34"),
        fees=D("1.11"),
        funding=D("-0.05"),
        transfers=D(-100),
        other=D("0.01"),
        unrealized_change=D("3.3"),
        end=D("914.49"),
    )
    assert flow.unexplained == 0
    assert MoneyFlow(D(1), D(0), D(0), D(0), D(0), D(0), D(0), D("1.01")).unexplained == D("0.01")
