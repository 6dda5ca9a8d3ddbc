"""Each protection alone: what it takes to hold an entry back, and for how long."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from trading.domain.protections import (
    ClosedTrade,
    CooldownAfterLoss,
    LowPerformingSymbol,
    MaximumDrawdown,
    Past,
    Protection,
    Scope,
    StopOutGuard,
    read_protection,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
BTC, ETH = "BTC/USDT:USDT", "ETH/USDT:USDT"


def trade(minutes_ago: float, net: str = "-10", **values: Any) -> ClosedTrade:
    told: dict[str, Any] = {"account": 1, "decision": None, "symbol": BTC, "notional": Decimal(1000)}
    return ClosedTrade(
        **told | {"closed_at": NOW - timedelta(minutes=minutes_ago), "net": Decimal(net)} | values
    )


def stop_out(minutes_ago: float, decision: int, account: int = 1) -> ClosedTrade:
    return trade(minutes_ago, decision=decision, account=account, is_stop_out=True)


def minutes_left(rule: Protection, trades: Sequence[ClosedTrade], symbol: str = BTC) -> float | None:
    """How long an entry is held back from now; None when it is not."""
    oldest_first = sorted(trades, key=lambda one: one.closed_at)
    veto = rule.veto(Past(oldest_first, Decimal(10_000)), symbol, NOW)
    return None if veto is None else (veto.until - NOW) / timedelta(minutes=1)


@pytest.mark.parametrize(
    ("trades", "left"),
    [
        ([], None),
        ([trade(5)], 10),
        ([trade(5), trade(2)], 13),
        ([trade(15)], None),
        ([trade(5, "10")], None),
        ([trade(5, "0")], None),
        ([trade(5), trade(2, "10")], 10),
    ],
)
def test_a_loss_is_followed_by_a_pause(trades: list[ClosedTrade], left: float | None) -> None:
    assert minutes_left(CooldownAfterLoss(Scope.ACCOUNT, minutes=15), trades) == left


@pytest.mark.parametrize(
    ("trades", "left"),
    [
        ([stop_out(50, 1), stop_out(30, 2)], None),
        ([stop_out(50, 1), stop_out(30, 2), stop_out(10, 3)], 50),
        ([stop_out(50, 1), stop_out(30, 1, 2), stop_out(10, 1, 3)], None),
        ([stop_out(100, 1), stop_out(70, 2), stop_out(45, 3)], 15),
        ([stop_out(119, 1), stop_out(90, 2), stop_out(60, 3)], None),
        ([stop_out(100, 1), stop_out(70, 2), stop_out(10, 3)], None),
        ([trade(3, decision=1), trade(2, decision=2), trade(1, decision=3)], None),
    ],
)
def test_too_many_stop_outs_are_followed_by_a_pause_each_decision_counted_once(
    trades: list[ClosedTrade], left: float | None
) -> None:
    assert minutes_left(StopOutGuard(Scope.DESK, stop_outs=3, minutes=60, pause_minutes=60), trades) == left


@pytest.mark.parametrize(
    ("trades", "symbol", "left"),
    [
        ([trade(60, decision=1), trade(30, decision=2)], BTC, 23 * 60),
        ([trade(60, decision=1), trade(30, decision=2)], ETH, None),
        ([trade(60, decision=1), trade(30, decision=1)], BTC, None),
        ([trade(60, decision=1), trade(30, "30", decision=2)], BTC, None),
        ([trade(25 * 60, decision=1), trade(30, decision=2)], BTC, None),
    ],
)
def test_a_symbol_that_loses_is_left_alone_until_its_trades_are_old(
    trades: list[ClosedTrade], symbol: str, left: float | None
) -> None:
    assert minutes_left(LowPerformingSymbol(Scope.DESK, trades=2, hours=24), trades, symbol) == left


@pytest.mark.parametrize(
    ("trades", "left"),
    [
        ([trade(30, "-500"), trade(10, "-700")], 50),
        ([trade(30, "-500"), trade(10, "-400")], None),
        ([trade(30, "-1200"), trade(10, "900")], 30),
        ([trade(90, "-1200")], None),
        ([trade(30, "2000"), trade(10, "-700")], None),
    ],
)
def test_a_fall_from_the_peak_of_closed_trades_is_followed_by_a_pause(
    trades: list[ClosedTrade], left: float | None
) -> None:
    rule = MaximumDrawdown(Scope.GROUP, most=Decimal("0.10"), hours=1, pause_minutes=60)
    assert minutes_left(rule, trades) == left


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("cooldown_after_loss:account", CooldownAfterLoss(Scope.ACCOUNT)),
        (" stop_out_guard:group:stop_outs=4:minutes=30 ", StopOutGuard(Scope.GROUP, 4, 30)),
        ("low_performing_symbol:desk:least=-0.5", LowPerformingSymbol(Scope.DESK, least=Decimal("-0.005"))),
        ("maximum_drawdown:group:most=8", MaximumDrawdown(Scope.GROUP, most=Decimal("0.08"))),
    ],
)
def test_a_protection_is_read_as_it_is_written(written: str, read: Protection) -> None:
    assert read_protection(written) == read


@pytest.mark.parametrize(
    "written",
    [
        "",
        "martingale:account",
        "cooldown_after_loss",
        "cooldown_after_loss:planet",
        "cooldown_after_loss:account:hours=3",
        "cooldown_after_loss:account:minutes=many",
        "cooldown_after_loss:account:minutes=0",
        "cooldown_after_loss:account:minutes=1.5",
        "maximum_drawdown:desk:most=NaN",
        "maximum_drawdown:desk:scope=account",
    ],
)
def test_what_is_no_protection_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_protection(written)
