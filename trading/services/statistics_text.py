"""Statistics as aligned plain text for a terminal; a dash where a figure has no source."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from trading.domain.percent import to_percent
from trading.domain.statistics import ENOUGH_DECISIONS
from trading.services.money_flow import AssetFlow
from trading.services.statistics import Group, StatisticsReport

MONEY = Decimal("0.01")
RATIO = Decimal("0.001")
NOTHING = "-"

Table = Sequence[Sequence[str]]

GROUP_COLUMNS = (
    "group",
    "name",
    "decisions",
    "positions",
    "accounts",
    "wins",
    "win_rate_pct",
    "average_win",
    "average_loss",
    "profit_factor",
    "expectancy",
    "realized",
    "fees",
    "funding",
    "net",
    "profit_drawdown",
)
FLOW_COLUMNS = (
    "market",
    "asset",
    "accounts",
    "start",
    "realized",
    "fees",
    "funding",
    "transfers",
    "other",
    "unrealized_change",
    "end",
    "unexplained",
)


def render(report: StatisticsReport) -> str:
    """The whole report; money in quote units, plain decimals."""
    desk = report.desk
    parts = [
        _head(report),
        _aligned([GROUP_COLUMNS, *(_group_line(group) for group in report.groups)]),
        _aligned(_desk_lines(desk)),
        "\n".join(filter(None, [_codes("denied", desk.denied), _codes("rejected", desk.rejected)])),
        _flows(report.money),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(report: StatisticsReport) -> str:
    closed, asked = report.desk.closed, report.asked
    named = [
        f"{name} {value}"
        for name, value in (
            ("account", asked.account),
            ("symbol", asked.symbol),
            ("side", asked.side),
            ("source", asked.source),
        )
        if value
    ]
    lines = [
        f"Statistics of {', '.join(named) or 'the desk'} at {_moment(report.at)}",
        f"n = {closed.decisions} closed decisions ({closed.positions} positions, {closed.accounts} accounts)",
        f"period {_moment(closed.since)} to {_moment(closed.until)}; money in quote units",
    ]
    if closed.is_small:
        lines.append(f"fewer than {ENOUGH_DECISIONS} closed decisions: too few to conclude anything")
    return "\n".join(lines)


def _group_line(group: Group) -> Sequence[str]:
    closed = group.closed
    return (
        group.kind,
        group.name or NOTHING,
        str(closed.decisions),
        str(closed.positions),
        str(closed.accounts),
        str(closed.wins),
        _percent(closed.win_rate),
        _money(closed.average_win),
        _money(closed.average_loss),
        _ratio(closed.profit_factor),
        _money(closed.expectancy),
        _money(closed.realized),
        _money(closed.fees),
        _money(closed.funding),
        _money(closed.net),
        _money(closed.profit_drawdown),
    )


def _desk_lines(desk: Group) -> Table:
    closed, returns, opened = desk.closed, desk.returns, desk.open
    return [
        ("open_decisions", str(opened.decisions)),
        ("open_positions", str(opened.positions)),
        ("open_realized", _money(opened.realized)),
        ("open_fees", _money(opened.fees)),
        ("open_funding", _money(opened.funding)),
        ("unrealized", _money(opened.unrealized)),
        *(
            (f"hit_rate_{reason.value.lower()}_pct", _percent(rate))
            for reason, rate in closed.hit_rates.items()
        ),
        ("harvest_effectiveness_pct", _percent(closed.harvest_effectiveness)),
        ("slippage_bps", _ratio(closed.slippage_bps)),
        ("signal_to_fill_ms", _ratio(closed.signal_to_fill_ms)),
        ("decision_to_answer_ms", _ratio(closed.decision_to_answer_ms)),
        ("unprotected_seconds", _ratio(closed.unprotected_seconds)),
        ("longest_unprotected_seconds", _ratio(closed.longest_unprotected_seconds)),
        ("duplicate_signals", NOTHING if desk.duplicates is None else str(desk.duplicates)),
        *((f"allocations_{outcome.lower()}", str(n)) for outcome, n in desk.outcomes.items()),
        ("equity_days", str(returns.days) if returns else NOTHING),
        ("total_return_pct", _percent(returns.total_return if returns else None)),
        ("max_drawdown_pct", _percent(returns.max_drawdown if returns else None)),
        ("sharpe", _ratio(returns.sharpe if returns else None)),
        ("sortino", _ratio(returns.sortino if returns else None)),
    ]


def _codes(name: str, counts: Mapping[str, int]) -> str:
    ranked = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    told = ", ".join(f"{n} {code or 'without a code'}" for code, n in ranked)
    return f"{name}: {told}" if told else ""


def _flows(flows: Sequence[AssetFlow]) -> str:
    if not flows:
        return ""
    return _aligned([FLOW_COLUMNS, *(_flow_line(flow) for flow in flows)])


def _flow_line(flow: AssetFlow) -> Sequence[str]:
    figures = [
        (getattr(flow.flow, name) if flow.flow else None) if name != "fees" else flow.fees
        for name in FLOW_COLUMNS[3:]
    ]
    return (flow.market, flow.asset, str(flow.accounts), *(_exact(figure) for figure in figures))


def _aligned(table: Table) -> str:
    """Names to the left, figures to the right."""
    columns = list(zip(*table, strict=True))
    widths = [max(map(len, column)) for column in columns]
    named = 2 if len(columns) > 2 else 1  # noqa: PLR2004 - a list of figures has its one name
    return "\n".join(_line(row, widths, named) for row in table)


def _line(row: Iterable[str], widths: Sequence[int], named: int) -> str:
    cells = (
        text.ljust(width) if index < named else text.rjust(width)
        for index, (text, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join(cells).rstrip()


def _moment(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else NOTHING


def _money(figure: Decimal | None) -> str:
    return NOTHING if figure is None else f"{figure.quantize(MONEY):f}"


def _ratio(figure: Decimal | None) -> str:
    return NOTHING if figure is None else f"{figure.quantize(RATIO):f}"


def _percent(fraction: Decimal | None) -> str:
    return NOTHING if fraction is None else f"{to_percent(fraction).quantize(MONEY):f}"


def _exact(figure: Decimal | None) -> str:
    """A figure of the money flow: every digit counts."""
    return NOTHING if figure is None else f"{figure.normalize():f}"
