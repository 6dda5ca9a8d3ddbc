# ruff: noqa: ARG001 - the framework gives every route its request
from datetime import datetime
from decimal import Decimal
from typing import Literal

from django.conf import settings
from django.http import HttpRequest
from ninja import Router, Schema

from trading.api.authentication import needs
from trading.api.numbers import Computed, Figure, Moment, Text
from trading.domain.percent import to_percent
from trading.domain.statistics import ENOUGH_DECISIONS, Statistics
from trading.services.money_flow import AssetFlow
from trading.services.returns import Returns
from trading.services.statistics import Asked, Group, OpenBook, StatisticsReport, read_statistics
from trading.services.tokens import Scope

router = Router(tags=["reports"])

FEW = f"fewer than {ENOUGH_DECISIONS} closed decisions: too few to conclude anything"


class ClosedOut(Schema):
    """Figures of closed decisions; money in quote units, `net` after fees and funding, null without a source.

    `profit_drawdown` is the deepest fall of the summed net profit. Hit rates are shares of positions; the
    latencies are medians, `slippage_bps` the mean against the decision's mark, positive when it cost.
    """

    decisions: int
    positions: int
    accounts: int
    since: datetime | None
    until: datetime | None
    wins: int
    win_rate_pct: Computed | None
    average_win: Computed | None
    average_loss: Computed | None
    profit_factor: Computed | None
    expectancy: Computed | None
    realized: Figure
    fees: Figure
    funding: Figure
    net: Figure
    profit_drawdown: Figure | None
    hit_rates_pct: dict[str, Computed]
    harvest_effectiveness_pct: Computed | None
    slippage_bps: Computed | None
    signal_to_fill_ms: Computed | None
    decision_to_answer_ms: Computed | None
    unprotected_seconds: Figure
    longest_unprotected_seconds: Figure | None
    warning: str

    @classmethod
    def of(cls, found: Statistics) -> "ClosedOut":
        """Show figures; ratios in percent."""
        copied = {name: getattr(found, name) for name in cls.model_fields if hasattr(found, name)}
        return cls(
            **copied,
            win_rate_pct=_percent(found.win_rate),
            hit_rates_pct={reason.value: to_percent(rate) for reason, rate in found.hit_rates.items()},
            harvest_effectiveness_pct=_percent(found.harvest_effectiveness),
            warning=FEW if found.is_small else "",
        )


class OpenOut(Schema):
    """Decisions that still have an open position; `unrealized` is null when a mark cannot be had."""

    decisions: int
    positions: int
    realized: Figure
    fees: Figure
    funding: Figure
    unrealized: Figure | None

    @classmethod
    def of(cls, opened: OpenBook) -> "OpenOut":
        """Show what is open."""
        return cls(**{name: getattr(opened, name) for name in cls.model_fields})


class ReturnsOut(Schema):
    """What futures equity made over `days` days; Sharpe and Sortino of daily returns, annualised by 365."""

    days: int
    since: datetime
    until: datetime
    total_return_pct: Computed
    max_drawdown_pct: Computed
    sharpe: Figure | None
    sortino: Figure | None

    @classmethod
    def of(cls, returns: Returns) -> "ReturnsOut":
        """Show returns in percent."""
        return cls(
            days=returns.days,
            since=returns.since,
            until=returns.until,
            total_return_pct=to_percent(returns.total_return),
            max_drawdown_pct=to_percent(returns.max_drawdown),
            sharpe=returns.sharpe,
            sortino=returns.sortino,
        )


class GroupOut(Schema):
    """The figures of the desk, an account, a symbol, a side or a source.

    `outcomes` counts allocations. `returns` is null without equity of its own, `duplicates` for an account.
    """

    kind: str
    name: str
    closed: ClosedOut
    open: OpenOut
    outcomes: dict[str, int]
    denied: dict[str, int]
    rejected: dict[str, int]
    duplicates: int | None
    returns: ReturnsOut | None

    @classmethod
    def of(cls, group: Group) -> "GroupOut":
        """Show a group."""
        return cls(
            kind=group.kind,
            name=group.name,
            closed=ClosedOut.of(group.closed),
            open=OpenOut.of(group.open),
            outcomes=dict(group.outcomes),
            denied=dict(group.denied),
            rejected=dict(group.rejected),
            duplicates=group.duplicates,
            returns=ReturnsOut.of(group.returns) if group.returns else None,
        )


class FlowOut(Schema):
    """The money of one asset from reading to reading.

    start + realized - fees + funding + transfers + other + unrealized_change + unexplained = end.
    All but the fees is null for an asset that no reading tells of.
    """

    market: str
    asset: str
    accounts: int
    since: datetime | None
    until: datetime | None
    start: Figure | None
    realized: Figure | None
    fees: Figure
    funding: Figure | None
    transfers: Figure | None
    other: Figure | None
    unrealized_change: Figure | None
    end: Figure | None
    unexplained: Figure | None

    @classmethod
    def of(cls, flow: AssetFlow) -> "FlowOut":
        """Show a flow."""
        figures = {name: getattr(flow.flow, name, None) for name in FLOW_FIGURES}
        return cls(
            market=flow.market,
            asset=flow.asset,
            accounts=flow.accounts,
            since=flow.since,
            until=flow.until,
            fees=flow.fees,
            **figures,
        )


FLOW_FIGURES = (
    "start",
    "realized",
    "funding",
    "transfers",
    "other",
    "unrealized_change",
    "end",
    "unexplained",
)


class StatisticsOut(Schema):
    """All figures at a time, of decisions made in the period asked for.

    `money` is empty when only some signals are asked about: money belongs to no signal.
    """

    at: datetime
    desk: GroupOut
    accounts: list[GroupOut]
    symbols: list[GroupOut]
    sides: list[GroupOut]
    sources: list[GroupOut]
    money: list[FlowOut]

    @classmethod
    def of(cls, report: StatisticsReport) -> "StatisticsOut":
        """Show a report."""
        return cls(
            at=report.at,
            desk=GroupOut.of(report.desk),
            accounts=[GroupOut.of(group) for group in report.accounts],
            symbols=[GroupOut.of(group) for group in report.symbols],
            sides=[GroupOut.of(group) for group in report.sides],
            sources=[GroupOut.of(group) for group in report.sources],
            money=[FlowOut.of(flow) for flow in report.money],
        )


@router.get("stats", auth=needs(Scope.READ), response=StatisticsOut)
def show_statistics(
    request: HttpRequest,
    since: Moment | None = None,
    until: Moment | None = None,
    account: Text = "",
    symbol: Text = "",
    side: Literal["", "LONG", "SHORT"] = "",
    source: Text = "",
) -> StatisticsOut:
    """Figures per desk, account, symbol, side and source; n counts decisions, the accounts beside it."""
    asked = Asked(account=account, symbol=symbol, side=side, source=source, since=since, until=until)
    return StatisticsOut.of(read_statistics(asked, settings.CLOCK.now()))


def _percent(fraction: Decimal | None) -> Decimal | None:
    return None if fraction is None else to_percent(fraction)
