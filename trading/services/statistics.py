"""The desk's figures from its rows (section 10 of the rules): one result for API, page and replay.

Decisions made in the period are told, with everything that came of them. n counts decisions, the accounts
stand beside it; a figure without a source is None and never a zero.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import Count

from exchange.port import OrderSide
from trading.domain import exit_plan, percent
from trading.domain.exits import TAKE_PROFITS
from trading.domain.percent import ZERO
from trading.domain.states import AllocationOutcome, CloseReason, PositionStatus
from trading.domain.statistics import ClosedPosition, Statistics, statistics
from trading.models import Allocation, Fill, Position, Signal
from trading.models.signals import SignalStatus
from trading.services.money_flow import AssetFlow, read_flows
from trading.services.positions import close_reason
from trading.services.prices import fresh_marks
from trading.services.returns import Returns, read_returns

DESK, ACCOUNT, SYMBOL, SIDE, SOURCE = "desk", "account", "symbol", "side", "source"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked about; empty is everything. `side` is LONG or SHORT, `symbol` as signals name it."""

    account: str = ""
    symbol: str = ""
    side: str = ""
    source: str = ""
    since: datetime | None = None
    until: datetime | None = None

    @property
    def is_of_signals(self) -> bool:
        """Whether only some signals are asked about: equity and money belong to no signal."""
        return bool(self.symbol or self.side or self.source)


@dataclass(frozen=True, slots=True)
class OpenBook:
    """Decisions that still have an open position, with what their positions made so far.

    `unrealized` is at the present marks, None when one of them cannot be had.
    """

    decisions: int = 0
    positions: int = 0
    realized: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO
    unrealized: Decimal | None = ZERO


@dataclass(frozen=True, slots=True)
class Group:
    """The figures of the desk, an account, a symbol, a side or a source.

    `outcomes` counts allocations, `denied` and `rejected` those by code. `duplicates` counts signals that
    came again too soon, None for an account: a signal belongs to none. `returns` is None without equity of
    its own.
    """

    kind: str
    name: str
    closed: Statistics
    open: OpenBook
    outcomes: Mapping[str, int]
    denied: Mapping[str, int]
    rejected: Mapping[str, int]
    duplicates: int | None
    returns: Returns | None = None


@dataclass(frozen=True, slots=True)
class StatisticsReport:
    """All figures at a time. `desk` is everything asked about; `money` is empty when signals were chosen."""

    asked: Asked
    at: datetime
    desk: Group
    accounts: Sequence[Group] = ()
    symbols: Sequence[Group] = ()
    sides: Sequence[Group] = ()
    sources: Sequence[Group] = ()
    money: Sequence[AssetFlow] = ()

    @property
    def groups(self) -> Sequence[Group]:
        """Every group, the desk first."""
        return (self.desk, *self.accounts, *self.symbols, *self.sides, *self.sources)


@dataclass(frozen=True, slots=True)
class _Held:
    """A position with its figures; `result` is None while it is open."""

    position: Position
    keys: Mapping[str, str]
    decision: int
    result: ClosedPosition | None
    unrealized: Decimal | None


@dataclass(frozen=True, slots=True)
class _Share:
    """How many allocations ended in one way."""

    keys: Mapping[str, str]
    outcome: str
    code: str
    n: int


@dataclass(slots=True)
class _Rows:
    """What one group is made of."""

    held: list[_Held] = field(default_factory=list)
    shares: list[_Share] = field(default_factory=list)
    duplicates: int = 0


def read_statistics(asked: Asked, now: datetime) -> StatisticsReport:
    """The figures of what is asked about, from rows; only open positions need a mark."""
    held, shares, duplicates = _held(asked, now), _shares(asked), _duplicates(asked)
    together, each = (None, {}) if asked.is_of_signals else _returns(asked)
    desk = _Rows(held, shares, sum(n for _, n in duplicates))

    def groups(kind: str, returns: Mapping[str, Returns] | None = None) -> list[Group]:
        rows = _rows_by(kind, held, shares, duplicates)
        return [_group(kind, name, one, (returns or {}).get(name)) for name, one in sorted(rows.items())]

    return StatisticsReport(
        asked=asked,
        at=now,
        desk=_group(DESK, asked.account, desk, together),
        accounts=groups(ACCOUNT, each),
        symbols=groups(SYMBOL),
        sides=groups(SIDE),
        sources=groups(SOURCE),
        money=() if asked.is_of_signals else read_flows(asked.account, asked.since, asked.until),
    )


def _returns(asked: Asked) -> tuple[Returns | None, dict[str, Returns]]:
    return read_returns(asked.account, asked.since, asked.until)


# ── rows ─────────────────────────────────────────────────────────────────────


def _wanted(asked: Asked, signal: str, account: str, at: str) -> dict[str, Any]:
    """The filter of what is asked about, along the given paths."""
    told = {
        f"{signal}symbol": asked.symbol,
        f"{signal}side": asked.side,
        f"{signal}source__name": asked.source,
        f"{at}__gte": asked.since,
        f"{at}__lte": asked.until,
    }
    if account:
        told[f"{account}name"] = asked.account
    return {name: value for name, value in told.items() if value}


def _held(asked: Asked, now: datetime) -> list[_Held]:
    """Every position a signal led to, with its figures."""
    signal = "allocation__decision__signal__"
    rows = Position.objects.filter(allocation__decision__signal__isnull=False).filter(
        **_wanted(asked, signal, "account__", "allocation__decision__decided_at")
    )
    positions = list(rows.select_related("account", f"{signal}source").order_by("opened_at", "pk"))
    reasons, unrealized = _reasons(positions), _unrealized(positions, now)
    return [_read(position, reasons[position.pk], unrealized.get(position.pk)) for position in positions]


def _read(position: Position, reasons: set[CloseReason], unrealized: Decimal | None) -> _Held:
    signal, decision = _signal_of(position), _share_of(position).decision_id
    keys = {
        ACCOUNT: position.account.name,
        SYMBOL: signal.symbol,
        SIDE: signal.side,
        SOURCE: signal.source.name,
    }
    result = _result(position, reasons) if position.status == PositionStatus.CLOSED else None
    return _Held(position, keys, decision, result, unrealized)


def _result(position: Position, reasons: set[CloseReason]) -> ClosedPosition:
    signal, share = _signal_of(position), _share_of(position)
    return ClosedPosition(
        decision=share.decision_id,
        account=position.account_id,
        symbol=signal.symbol,
        is_long=position.is_long,
        source=signal.source.name,
        profit=position.realized_profit,
        fees=position.fees,
        funding=position.funding,
        opened_at=position.opened_at,
        closed_at=position.closed_at or position.opened_at,
        reasons=tuple(sorted(reasons)),
        profit_at_last_target=_profit_at_last_target(position),
        slippage_bps=share.slippage_bps,
        signal_to_fill_ms=_milliseconds(signal.received_at, position.opened_at),
        decision_to_answer_ms=None if share.latency_ms is None else Decimal(share.latency_ms),
        unprotected_seconds=position.unprotected_seconds,
    )


def _share_of(position: Position) -> Allocation:
    assert position.allocation is not None, "the query asks for positions of a decision"  # noqa: S101
    return position.allocation


def _signal_of(position: Position) -> Signal:
    signal = _share_of(position).decision.signal
    assert signal is not None, "the query asks for decisions of a signal"  # noqa: S101
    return signal


def _milliseconds(since: datetime, until: datetime) -> Decimal:
    return Decimal(round((until - since).total_seconds() * 1000))


def _profit_at_last_target(position: Position) -> Decimal | None:
    """What all that was ever entered would have made at the plan's last target."""
    if not position.plan:
        return None
    levels = exit_plan.from_json(position.plan).levels
    if not levels:
        return None
    return percent.profit(
        is_long=position.is_long,
        quantity=position.initial_quantity,
        entry_price=position.entry_price,
        price=levels[-1].price,
    )


def _reasons(positions: Sequence[Position]) -> dict[int, set[CloseReason]]:
    """The targets each position reached and why executions reduced it."""
    found = {position.pk: _targets_reached(position) for position in positions}
    is_long = {position.pk: position.is_long for position in positions}
    fills = Fill.objects.filter(position__in=[position.pk for position in positions])
    for fill in fills.select_related("order").order_by():
        if fill.position_id is not None and (fill.side == OrderSide.SELL) == is_long[fill.position_id]:
            found[fill.position_id] |= _reasons_of(fill)
    for position in positions:
        if position.close_reason:
            found[position.pk].add(CloseReason(position.close_reason))
    return found


def _reasons_of(fill: Fill) -> set[CloseReason]:
    """One execution may close several legs at once; each target it closed counts."""
    legs = fill.order.legs if fill.order else []
    return {TAKE_PROFITS[leg - 1] for leg in legs if 0 < leg <= len(TAKE_PROFITS)} | {close_reason(fill)}


def _targets_reached(position: Position) -> set[CloseReason]:
    levels = exit_plan.from_json(position.plan).levels if position.plan else ()
    return {TAKE_PROFITS[level.number - 1] for level in levels if level.reached}


def _unrealized(positions: Sequence[Position], now: datetime) -> dict[int, Decimal]:
    """Open profit by position; a position without a mark is absent."""
    opened = [position for position in positions if position.status == PositionStatus.OPEN]
    marks = fresh_marks(opened, now)
    return {
        position.pk: percent.profit(
            is_long=position.is_long,
            quantity=position.quantity,
            entry_price=position.entry_price,
            price=marks[position.symbol].mark_price,
        )
        for position in opened
        if position.symbol in marks
    }


def _shares(asked: Asked) -> list[_Share]:
    """How many allocations ended in each way, by everything a group is made by."""
    signal = "decision__signal__"
    rows = Allocation.objects.filter(decision__signal__isnull=False).filter(
        **_wanted(asked, signal, "account__", "decision__decided_at")
    )
    counted = rows.order_by().values_list(
        "account__name", f"{signal}symbol", f"{signal}side", f"{signal}source__name", "outcome", "code"
    )
    return [
        _Share({ACCOUNT: account, SYMBOL: symbol, SIDE: side, SOURCE: source}, outcome, code, n)
        for account, symbol, side, source, outcome, code, n in counted.annotate(n=Count("pk"))
    ]


def _duplicates(asked: Asked) -> list[tuple[Mapping[str, str], int]]:
    """How many signals came again too soon after a decision."""
    rows = Signal.objects.filter(status=SignalStatus.DUPLICATE, **_wanted(asked, "", "", "received_at"))
    counted = rows.order_by().values_list("symbol", "side", "source__name")
    return [
        ({SYMBOL: symbol, SIDE: side, SOURCE: source}, n)
        for symbol, side, source, n in counted.annotate(n=Count("pk"))
    ]


# ── groups ───────────────────────────────────────────────────────────────────


def _rows_by(
    kind: str,
    held: Iterable[_Held],
    shares: Iterable[_Share],
    duplicates: Iterable[tuple[Mapping[str, str], int]],
) -> dict[str, _Rows]:
    rows: dict[str, _Rows] = defaultdict(_Rows)
    for one in held:
        rows[one.keys[kind]].held.append(one)
    for share in shares:
        rows[share.keys[kind]].shares.append(share)
    if kind != ACCOUNT:
        for keys, n in duplicates:
            rows[keys[kind]].duplicates += n
    return rows


def _group(kind: str, name: str, rows: _Rows, returns: Returns | None) -> Group:
    still_open = {one.decision for one in rows.held if one.result is None}
    closed = [one.result for one in rows.held if one.result is not None and one.decision not in still_open]
    is_account = kind == ACCOUNT or bool(kind == DESK and name)
    return Group(
        kind=kind,
        name=name,
        closed=statistics(closed),
        open=_open_book([one for one in rows.held if one.decision in still_open]),
        outcomes=_counted(rows.shares, lambda share: share.outcome),
        denied=_codes(rows.shares, AllocationOutcome.DENIED),
        rejected=_codes(rows.shares, AllocationOutcome.REJECTED),
        duplicates=None if is_account else rows.duplicates,
        returns=returns,
    )


def _open_book(held: Sequence[_Held]) -> OpenBook:
    opened = [one for one in held if one.result is None]
    known = [one.unrealized for one in opened if one.unrealized is not None]
    return OpenBook(
        decisions=len({one.decision for one in held}),
        positions=len(opened),
        realized=sum((one.position.realized_profit for one in held), ZERO),
        fees=sum((one.position.fees for one in held), ZERO),
        funding=sum((one.position.funding for one in held), ZERO),
        unrealized=sum(known, ZERO) if len(known) == len(opened) else None,
    )


def _codes(shares: Iterable[_Share], outcome: AllocationOutcome) -> dict[str, int]:
    return _counted((share for share in shares if share.outcome == outcome), lambda share: share.code)


def _counted(shares: Iterable[_Share], key: Callable[[_Share], str]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for share in shares:
        counts[key(share)] += share.n
    return dict(sorted(counts.items()))
