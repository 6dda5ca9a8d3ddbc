"""The desk's figures from rows: exact per desk, account, symbol, side and source; None without a source."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from redis import Redis

from accounts.models import Account
from exchange.marks import MarkBoard
from exchange.port import Market, MarkPrice, OrderSide
from trading.domain import exit_plan
from trading.domain.exit_plan import Level
from trading.domain.states import AllocationOutcome, CloseReason, OrderPurpose, PositionStatus
from trading.models import Decision, EquitySnapshot, Fill, Income, Position, SignalSource
from trading.models.signals import SignalStatus
from trading.services.money_flow import read_flows
from trading.services.returns import read_returns
from trading.services.statistics import Asked, Group, StatisticsReport, read_statistics
from trading.services.statistics_text import render
from trading.tests import rows
from trading.tests.domain.samples import plan

pytestmark = pytest.mark.django_db

BTC, SOL = "BTC/USDT:USDT", "SOL/USDT:USDT"
NOON = rows.NOON
HOUR = timedelta(hours=1)
D = Decimal


def read(**asked: Any) -> StatisticsReport:
    return read_statistics(Asked(**asked), NOON + 9 * HOUR)


def closed(decision: Decision, account: Account, profit: str, reason: CloseReason, **values: Any) -> Position:
    """A share that was filled and closed an hour and a half later."""
    told: dict[str, Any] = {"latency_ms": 40, "slippage_bps": D(4)}
    share = rows.allocation(decision, account, **{name: values.pop(name, told[name]) for name in told})
    signal = decision.signal
    assert signal is not None
    ended: dict[str, Any] = {
        "symbol": signal.symbol,
        "is_long": signal.is_long,
        "status": PositionStatus.CLOSED,
        "quantity": 0,
        "exit_price": D(101),
        "realized_profit": D(profit),
        "fees": D(1),
        "opened_at": NOON + timedelta(seconds=2),
        "closed_at": NOON + HOUR * 3 / 2,
        "close_reason": reason,
    }
    return rows.position(account, allocation=share, **ended | values)


def a_decision(external_id: str, source: str = "one", at: datetime = NOON, **values: Any) -> Decision:
    signal = rows.signal(external_id, received_at=at, **values)
    signal.source, _ = SignalSource.objects.get_or_create(name=source)
    signal.save()
    return rows.decision(signal, decided_at=at)


def exit_fill(position: Position, reason: CloseReason, legs: list[int]) -> None:
    """An execution that closed legs of the position."""
    share = position.allocation
    assert share is not None
    order = rows.entry(
        share,
        f"px{position.pk}x{reason}",
        purpose=OrderPurpose.EXIT,
        position=position,
        reason=reason,
        legs=legs,
        side=OrderSide.SELL,
    )
    Fill.objects.create(
        account=position.account,
        order=order,
        position=position,
        market=Market.FUTURES,
        symbol=position.symbol,
        trade_id=str(order.pk),
        exchange_order_id="1",
        side=OrderSide.SELL if position.is_long else OrderSide.BUY,
        price=D(101),
        quantity=D(1),
        filled_at=NOON + HOUR,
    )


@pytest.fixture
def desk() -> dict[str, Account]:
    """Three closed decisions of two sources, one on two accounts; a denied and a rejected share."""
    accounts = {name: rows.account(name) for name in ("alpha", "beta", "gamma")}
    first = a_decision("s-1")
    second = a_decision("s-2", "two", NOON + HOUR, symbol=SOL, side="SHORT")
    third = a_decision("s-3", at=NOON + 2 * HOUR)
    closed(first, accounts["alpha"], "11", CloseReason.BREAK_EVEN, latency_ms=20)
    closed(first, accounts["beta"], "-3", CloseReason.STOP_LOSS, slippage_bps=D(2))
    closed(
        second,
        accounts["alpha"],
        "-4",
        CloseReason.STOP_LOSS,
        funding=D("0.5"),
        opened_at=NOON + HOUR + timedelta(seconds=4),
        closed_at=NOON + 2 * HOUR,
    )
    closed(third, accounts["alpha"], "1", CloseReason.MANUAL, closed_at=NOON + 4 * HOUR)
    for decision, outcome, code in (
        (first, AllocationOutcome.DENIED, "MARGIN"),
        (second, AllocationOutcome.REJECTED, "-2019"),
    ):
        rows.allocation(decision, accounts["gamma"], outcome=outcome, code=code, latency_ms=None)
    rows.signal("s-4", status=SignalStatus.DUPLICATE)
    return accounts


def by_name(groups: Any) -> dict[str, Group]:
    return {group.name: group for group in groups}


def test_n_counts_decisions_and_the_accounts_stand_beside_it(desk: dict[str, Account]) -> None:
    figures = read().desk.closed
    assert (figures.decisions, figures.positions, figures.accounts) == (3, 4, 2)
    assert (figures.since, figures.until) == (NOON + timedelta(seconds=2), NOON + 4 * HOUR)
    assert figures.is_small


def test_the_figures_of_the_desk_are_exact(desk: dict[str, Account]) -> None:
    figures = read().desk.closed
    # Net by decision: (11 - 1) + (-3 - 1) = 6; -4 - 1 + 0.5 = -4.5; 1 - 1 = 0.
    assert (figures.wins, figures.win_rate) == (1, D(1) / 3)
    assert (figures.average_win, figures.average_loss) == (D(6), D("-4.5"))
    assert figures.profit_factor == D(6) / D("4.5")
    assert figures.expectancy == D("0.5")
    assert (figures.realized, figures.fees, figures.funding, figures.net) == (D(5), D(4), D("0.5"), D("1.5"))
    assert figures.profit_drawdown == D("4.5")
    assert figures.slippage_bps == D("3.5")
    assert (figures.signal_to_fill_ms, figures.decision_to_answer_ms) == (D(2000), D(40))
    assert (figures.unprotected_seconds, figures.longest_unprotected_seconds) == (D("1.6"), D("0.4"))


def test_every_group_has_its_own_figures(desk: dict[str, Account]) -> None:
    report = read()
    nets = {
        (group.kind, group.name): (group.closed.decisions, group.closed.positions, group.closed.net)
        for group in report.groups
    }
    assert nets == {
        ("desk", ""): (3, 4, D("1.5")),
        ("account", "alpha"): (3, 3, D("5.5")),
        ("account", "beta"): (1, 1, D(-4)),
        ("account", "gamma"): (0, 0, D(0)),
        ("symbol", BTC): (2, 3, D(6)),
        ("symbol", SOL): (1, 1, D("-4.5")),
        ("side", "LONG"): (2, 3, D(6)),
        ("side", "SHORT"): (1, 1, D("-4.5")),
        ("source", "desk tests"): (0, 0, D(0)),
        ("source", "one"): (2, 3, D(6)),
        ("source", "two"): (1, 1, D("-4.5")),
    }


def test_denials_rejections_and_duplicates_are_counted_by_code(desk: dict[str, Account]) -> None:
    report = read()
    assert report.desk.outcomes == {"DENIED": 1, "FILLED": 4, "REJECTED": 1}
    assert (report.desk.denied, report.desk.rejected) == ({"MARGIN": 1}, {"-2019": 1})
    assert report.desk.duplicates == 1
    accounts, sides = by_name(report.accounts), by_name(report.sides)
    assert (accounts["gamma"].denied, accounts["gamma"].rejected) == ({"MARGIN": 1}, {"-2019": 1})
    assert (accounts["alpha"].denied, accounts["alpha"].duplicates) == ({}, None)
    assert (sides["LONG"].denied, sides["SHORT"].denied) == ({"MARGIN": 1}, {})
    assert (sides["LONG"].duplicates, sides["SHORT"].duplicates) == (1, 0)


@pytest.mark.parametrize(
    ("asked", "decisions", "net"),
    [
        ({"account": "beta"}, 1, "-4"),
        ({"symbol": SOL}, 1, "-4.5"),
        ({"side": "LONG"}, 2, "6"),
        ({"source": "two"}, 1, "-4.5"),
        ({"account": "alpha", "side": "SHORT"}, 1, "-4.5"),
        ({"since": NOON + HOUR}, 2, "-4.5"),
        ({"until": NOON + HOUR}, 2, "1.5"),
        ({"account": "nobody"}, 0, "0"),
    ],
)
def test_what_is_asked_about_is_all_that_is_told(
    desk: dict[str, Account], asked: dict[str, Any], decisions: int, net: str
) -> None:
    figures = read(**asked).desk.closed
    assert (figures.decisions, figures.net) == (decisions, D(net))


def test_without_rows_there_are_no_figures_and_no_zeros_in_their_place() -> None:
    report = read()
    figures = report.desk.closed
    assert (figures.decisions, figures.win_rate, figures.expectancy, figures.profit_factor) == (
        0,
        None,
        None,
        None,
    )
    assert (figures.slippage_bps, figures.signal_to_fill_ms, figures.profit_drawdown) == (None, None, None)
    assert (figures.hit_rates, figures.harvest_effectiveness) == ({}, None)
    assert (report.desk.returns, report.money, report.accounts) == (None, [], [])


def test_a_position_of_nobodys_signal_is_no_decision(desk: dict[str, Account]) -> None:
    rows.position(desk["beta"], is_foreign=True, status=PositionStatus.CLOSED, realized_profit=D(1000))
    assert read().desk.closed.net == D("1.5")


def test_a_decision_with_an_open_position_is_not_yet_a_result(desk: dict[str, Account], redis: Redis) -> None:
    MarkBoard(redis).publish([MarkPrice(BTC, D(103), NOON + 9 * HOUR)])
    third = Decision.objects.get(signal__external_id="s-3")
    rows.position(
        desk["beta"],
        allocation=rows.allocation(third, desk["beta"]),
        quantity=D(1),
        realized_profit=D("2.5"),
        fees=D("0.2"),
    )

    report = read()
    opened = report.desk.open

    assert report.desk.closed.decisions == 2
    assert (opened.decisions, opened.positions) == (1, 1)
    assert (opened.realized, opened.fees, opened.unrealized) == (D("3.5"), D("1.2"), D(3))
    # On alpha alone the decision is over.
    assert by_name(report.accounts)["alpha"].closed.decisions == 3


def test_the_open_profit_is_unknown_when_a_mark_is(desk: dict[str, Account], redis: Redis) -> None:
    third = Decision.objects.get(signal__external_id="s-3")
    rows.position(desk["beta"], allocation=rows.allocation(third, desk["beta"]), symbol="NONE/USDT:USDT")
    assert read().desk.open.unrealized is None


def test_hit_rates_are_of_targets_reached_and_legs_closed(desk: dict[str, Account]) -> None:
    alpha = Position.objects.get(account=desk["alpha"], realized_profit=11)
    exit_fill(alpha, CloseReason.TAKE_PROFIT_2, [1, 2])
    exit_fill(alpha, CloseReason.BREAK_EVEN, [])
    manual = Position.objects.get(realized_profit=1)
    reached = replace(plan(), levels=(Level(1, D(101), D(0), reached=True), Level(2, D(102), D(2))))
    Position.objects.filter(pk=manual.pk).update(plan=exit_plan.to_json(reached))

    rates = read().desk.closed.hit_rates

    assert rates == {
        CloseReason.STOP_LOSS: D("0.5"),
        CloseReason.TAKE_PROFIT_1: D("0.5"),
        CloseReason.TAKE_PROFIT_2: D("0.25"),
        CloseReason.TAKE_PROFIT_3: D(0),
        CloseReason.BREAK_EVEN: D("0.25"),
        CloseReason.RATCHET: D(0),
        CloseReason.TRAILING: D(0),
        CloseReason.MANUAL: D("0.25"),
    }


def test_harvest_effectiveness_is_against_all_at_the_last_target(desk: dict[str, Account]) -> None:
    planned = replace(plan(), levels=(Level(1, D(101), D(1)), Level(2, D(110), D(1))))
    Position.objects.filter(realized_profit=11).update(plan=exit_plan.to_json(planned))
    # Two units from 100 to 110 would have made 20.
    assert read().desk.closed.harvest_effectiveness == D("0.55")


# ── returns and money ────────────────────────────────────────────────────────


def snapshot(account: Account, day: int, wallet: str, *, unrealized: str = "0", hour: int = 12) -> None:
    EquitySnapshot.objects.create(
        account=account,
        at=datetime(2026, 11, day, hour, 30, tzinfo=UTC),
        wallet=D(wallet),
        unrealized_profit=D(unrealized),
    )


def income(account: Account, kind: str, quantity: str, day: int) -> None:
    Income.objects.create(
        account=account,
        kind=kind,
        income_id=f"{kind}{day}",
        asset="USDT",
        quantity=D(quantity),
        at=datetime(2026, 11, day, 12, tzinfo=UTC),
    )


def test_sharpe_sortino_and_drawdown_come_from_the_days_of_equity() -> None:
    alpha = rows.account("alpha")
    snapshot(alpha, 1, "1000", hour=1)
    snapshot(alpha, 1, "1090", unrealized="10", hour=20)
    snapshot(alpha, 2, "990")
    snapshot(alpha, 3, "1039.5")

    together, each = read_returns()

    # 10 %, -10 %, 5 %: mean 1 / 60, deviation 0.104083, downside deviation 0.057735, times the root of 365.
    assert together == each["alpha"]
    assert together is not None
    assert (together.days, together.total_return, together.max_drawdown) == (3, D("0.0395"), D("0.1"))
    assert (together.sharpe, together.sortino) == (D("3.0592"), D("5.5151"))


def test_a_deposit_and_a_new_account_are_no_profit() -> None:
    alpha, beta = rows.account("alpha"), rows.account("beta")
    snapshot(alpha, 1, "1000")
    snapshot(alpha, 2, "1600")
    income(alpha, "TRANSFER", "500", 2)
    snapshot(beta, 2, "5000")
    snapshot(alpha, 3, "1600")
    snapshot(beta, 3, "5000")

    together, each = read_returns()

    assert together is not None
    assert (each["alpha"].total_return, each["beta"].total_return, together.total_return) == (
        D("0.1"),
        D(0),
        D("0.1"),
    )
    assert together.max_drawdown == 0


@pytest.mark.parametrize("wallets", [["1000"], ["1000", "1000", "1000"]])
def test_a_ratio_without_meaning_is_none(wallets: list[str]) -> None:
    alpha = rows.account("alpha")
    for day, wallet in enumerate(wallets, start=1):
        snapshot(alpha, day, wallet)
    together, _ = read_returns()
    assert together is not None
    assert (together.sharpe, together.sortino) == (None, None)


def test_some_signals_have_no_equity_and_no_money_of_their_own(desk: dict[str, Account]) -> None:
    snapshot(desk["alpha"], 1, "1000")
    snapshot(desk["alpha"], 2, "1001")
    assert read().desk.returns is not None
    assert read().money
    report = read(symbol=BTC)
    assert (report.desk.returns, list(report.money)) == (None, [])
    assert all(group.returns is None for group in report.groups)


def test_the_money_flow_adds_up_to_the_last_unit() -> None:
    alpha = rows.account("alpha")
    snapshot(alpha, 1, "1000", unrealized="-2")
    income(alpha, "FUNDING_FEE", "-0.25", 2)
    income(alpha, "TRANSFER", "-100", 2)
    income(alpha, "INSURANCE_CLEAR", "0.01", 2)
    income(alpha, "COMMISSION", "-0.11", 2)
    income(alpha, "FUNDING_FEE", "7", 9)
    made = a_decision("s-1")
    position = closed(made, alpha, "12.34", CloseReason.MANUAL)
    exit_fill(position, CloseReason.MANUAL, [])
    Fill.objects.update(
        filled_at=datetime(2026, 11, 2, tzinfo=UTC),
        realized_profit=D("12.34"),
        fee=D("0.11"),
        fee_asset="USDT",
    )
    snapshot(alpha, 3, "911.99", unrealized="1.5")

    flows = read_flows()

    assert [(flow.market, flow.asset, flow.accounts) for flow in flows] == [("futures", "USDT", 1)]
    flow = flows[0].flow
    assert flow is not None
    assert (flow.start, flow.realized, flow.fees, flow.funding) == (D(998), D("12.34"), D("0.11"), D("-0.25"))
    assert (flow.transfers, flow.other, flow.unrealized_change) == (D(-100), D("0.01"), D("3.5"))
    assert (flow.end, flow.unexplained) == (D("913.49"), D(0))


def test_on_spot_the_quote_pays_for_coins_and_a_coin_has_no_reading_of_its_own() -> None:
    alpha = rows.account("alpha")
    for day, wallet in ((1, "1000"), (3, "801.899")):
        snapshot(alpha, day, wallet)
    EquitySnapshot.objects.update(market=Market.SPOT)
    bought, sold = (
        (OrderSide.BUY, "2", "100", "0.002", "BTC"),
        (OrderSide.SELL, "0.02", "95", "0.001", "USDT"),
    )
    for number, (side, quantity, price, fee, fee_asset) in enumerate((bought, sold)):
        Fill.objects.create(
            account=alpha,
            market=Market.SPOT,
            symbol="BTC/USDT",
            trade_id=str(number),
            exchange_order_id="1",
            side=side,
            price=D(price),
            quantity=D(quantity),
            fee=D(fee),
            fee_asset=fee_asset,
            filled_at=datetime(2026, 11, 2, tzinfo=UTC),
        )

    coin, quote = read_flows()

    assert (coin.asset, coin.fees, coin.flow) == ("BTC", D("0.002"), None)
    assert quote.flow is not None
    assert (quote.asset, quote.flow.other, quote.fees) == ("USDT", D("-198.1"), D("0.001"))
    assert (quote.flow.end, quote.flow.unexplained) == (D("801.899"), D(0))


@pytest.mark.parametrize("since", [None, datetime(2026, 11, 1, tzinfo=UTC)])
def test_a_fill_at_the_moment_of_the_very_first_reading_came_after_it(since: datetime | None) -> None:
    alpha = rows.account("alpha")
    snapshot(alpha, 1, "1000")
    snapshot(alpha, 2, "1012.34")
    exit_fill(closed(a_decision("s-1"), alpha, "12.34", CloseReason.MANUAL), CloseReason.MANUAL, [])
    Fill.objects.update(filled_at=datetime(2026, 11, 1, 12, 30, tzinfo=UTC), realized_profit=D("12.34"))
    flow = read_flows(since=since)[0].flow
    assert flow is not None
    assert (flow.realized, flow.unexplained) == (D("12.34"), D(0))


def test_a_period_flows_from_its_first_reading_and_counts_nothing_before_it() -> None:
    alpha = rows.account("alpha")
    for day, wallet in ((1, "1000"), (3, "990"), (5, "985")):
        snapshot(alpha, day, wallet)
    income(alpha, "FUNDING_FEE", "-10", 2)
    income(alpha, "FUNDING_FEE", "-5", 4)
    flow = read_flows(since=datetime(2026, 11, 2, tzinfo=UTC))[0].flow
    assert flow is not None
    assert (flow.start, flow.funding, flow.end, flow.unexplained) == (D(990), D(-5), D(985), D(0))


def test_one_cent_the_rows_do_not_explain_is_told() -> None:
    alpha = rows.account("alpha")
    snapshot(alpha, 1, "1000")
    snapshot(alpha, 2, "1000.01")
    flow = read_flows()[0].flow
    assert flow is not None
    assert flow.unexplained == D("0.01")


# ── as text ──────────────────────────────────────────────────────────────────


def test_the_text_is_aligned_and_names_units_n_and_smallness(desk: dict[str, Account]) -> None:
    snapshot(desk["alpha"], 1, "1000")
    text = render(read())
    lines = text.splitlines()
    assert lines[1] == "n = 3 closed decisions (4 positions, 2 accounts)"
    assert lines[2] == "period 2026-11-20 12:00:02 UTC to 2026-11-20 16:00:00 UTC; money in quote units"
    assert lines[3] == "fewer than 30 closed decisions: too few to conclude anything"
    head = next(line for line in lines if line.startswith("group"))
    first = lines[lines.index(head) + 1]
    assert head.split()[:7] == ["group", "name", "decisions", "positions", "accounts", "wins", "win_rate_pct"]
    assert first.split()[:7] == ["desk", "-", "3", "4", "2", "1", "33.33"]
    assert len(head) == len(first)
    assert head.index("win_rate_pct") + len("win_rate_pct") == first.index("33.33") + len("33.33")
    assert "denied: 1 MARGIN\nrejected: 1 -2019\n" in text
    assert any(line.split() == ["sharpe", "-"] for line in lines)
    assert any(line.split()[:5] == ["futures", "USDT", "1", "1000", "0"] for line in lines)


def test_the_text_of_an_empty_desk_shows_dashes() -> None:
    text = render(read())
    assert "n = 0 closed decisions (0 positions, 0 accounts)\nperiod - to -;" in text
