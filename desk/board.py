"""What the board shows, read in a fixed number of queries however many accounts there are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import Case, IntegerField, QuerySet, Value, When

from accounts.models import Account, Breaker
from accounts.services import breakers
from accounts.services.limits import SETTING, effective_limits, history
from alerts.models import Alert
from alerts.services.record import RISING
from trading.domain.percent import to_percent
from trading.domain.states import DecisionStatus, PositionStatus, Protection
from trading.models import Decision, Position
from trading.services.automatic_halts import read_standing
from trading.services.days import read_days
from trading.services.fan_outs import FanOut, read_fan_outs
from trading.services.prices import seen_marks
from trading.services.readings import (
    OpenProfit,
    PositionReading,
    read_open_profit,
    read_positions,
)
from trading.services.status import DeskStatus, read_status

POSITIONS_SHOWN = 100
DECISIONS_SHOWN = 8
CLOSES_SHOWN = 5
ALERTS_SHOWN = 5
LOOKS_SHOWN = 40
NEWEST_CHANGES = 8
FARTHEST = Decimal(10_000)
PARTS = ("score", "performance", "market", "reward")
ASKED = frozenset({"waiting", "candidates"})
MARKET_PARTS = ("trend", "volatility", "liquidity", "spread")


@dataclass(frozen=True, slots=True)
class CandidateReading:
    """A signal as a decision weighed it; each part in [0, 1], None where a figure was missing."""

    symbol: str
    side: str
    source: str
    is_chosen: bool
    verdict: str
    weight: Decimal | None
    quality: Decimal | None
    parts: Mapping[str, Decimal | None]
    market_parts: Mapping[str, Decimal | None]
    missing: Sequence[str]


@dataclass(frozen=True, slots=True)
class DecisionReading:
    """A decision with what was weighed and what became of it."""

    decision: Decision
    fan_out: FanOut
    candidates: Sequence[CandidateReading]

    @property
    def chosen(self) -> CandidateReading | None:
        """The candidate that became the decision."""
        return next((candidate for candidate in self.candidates if candidate.is_chosen), None)

    @property
    def refused(self) -> Mapping[str, int]:
        """How many signals were no candidates, by reason, the most first."""
        counts = {name: n for name, n in self.decision.considered.items() if name not in ASKED}
        return dict(sorted(counts.items(), key=lambda one: (-one[1], one[0])))


@dataclass(frozen=True, slots=True)
class Board:
    """The whole board at one moment."""

    status: DeskStatus
    positions: Sequence[PositionReading]
    decisions: Sequence[DecisionReading]
    last_none: Decision | None
    closes: Sequence[PositionReading]
    alerts: Sequence[Alert]
    open_profit: OpenProfit

    @property
    def hidden_positions(self) -> int:
        """How many open positions are not in the table."""
        return self.status.positions["open"] - len(self.positions)

    @property
    def standing_alerts(self) -> int:
        """How many alerts stand."""
        return sum(self.status.alerts.values())


def read_board(now: datetime) -> Board:
    """Read everything the board shows."""
    opened = list(_open_positions()[:POSITIONS_SHOWN])
    marks = seen_marks(_one_of_each_symbol())
    readings = read_positions(opened, marks, now)
    return Board(
        status=read_status(now),
        positions=sorted(readings, key=_urgency),
        decisions=read_decisions(_chosen()[:DECISIONS_SHOWN]),
        last_none=Decision.objects.filter(status=DecisionStatus.NONE).first(),
        closes=read_positions(_closed()[:CLOSES_SHOWN], {}, now),
        open_profit=read_open_profit(marks),
        alerts=list(_gravest_alerts()[:ALERTS_SHOWN]),
    )


def read_decisions(decisions: QuerySet[Decision]) -> list[DecisionReading]:
    """Read decisions with their fan-out."""
    rows = list(decisions)
    fan_outs = read_fan_outs(rows)
    return [DecisionReading(row, fan_outs[row.pk], _read_candidates(row)) for row in rows]


@dataclass(frozen=True, slots=True)
class Looks:
    """Some looks for a signal, newest first; `before` begins the older ones, None at the end."""

    decisions: Sequence[DecisionReading]
    before: int | None


def read_looks(before: int | None, *, only_none: bool) -> Looks:
    """Read the looks made before a row's id; only those that chose nothing when asked so."""
    rows = Decision.objects.select_related("signal__source").order_by("-pk")
    rows = rows.filter(status=DecisionStatus.NONE) if only_none else rows
    rows = rows.filter(pk__lt=before) if before else rows
    found = read_decisions(rows[: LOOKS_SHOWN + 1])
    shown = found[:LOOKS_SHOWN]
    return Looks(shown, shown[-1].decision.pk if len(found) > LOOKS_SHOWN else None)


def read_decision(decision: Decision) -> DecisionReading:
    """Read one decision."""
    return DecisionReading(decision, read_fan_outs([decision])[decision.pk], _read_candidates(decision))


def _read_candidates(decision: Decision) -> list[CandidateReading]:
    """What was weighed, the chosen one first, then by quality."""
    chosen = str(decision.signal.uuid) if decision.signal else ""
    found = [_read_candidate(kept, chosen) for kept in decision.candidates]
    return sorted(found, key=lambda one: (not one.is_chosen, -(one.quality or Decimal(-1))))


def _read_candidate(kept: Mapping[str, Any], chosen: str) -> CandidateReading:
    return CandidateReading(
        symbol=kept.get("symbol", ""),
        side=kept.get("side", ""),
        source=kept.get("source", ""),
        is_chosen=kept.get("signal") == chosen,
        verdict=kept.get("verdict") or kept.get("reason", ""),
        weight=_number(kept.get("weight")),
        quality=_number(kept.get("quality")),
        parts=_numbers(kept.get("parts", {}), PARTS),
        market_parts=_numbers(kept.get("market_parts", {}), MARKET_PARTS),
        missing=kept.get("missing", []),
    )


def _numbers(kept: Mapping[str, str | None], order: Sequence[str]) -> dict[str, Decimal | None]:
    """In the order a reader knows: Postgres gives a stored object's keys in an order of its own."""
    known = [name for name in order if name in kept]
    return {name: _number(kept[name]) for name in [*known, *sorted(kept.keys() - set(known))]}


def _number(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _urgency(reading: PositionReading) -> tuple[int, Decimal]:
    rank = list(Protection).index(Protection(reading.position.protection))
    distance = reading.distance_to_stop_pct
    return rank, FARTHEST if distance is None else distance


def _open_positions() -> QuerySet[Position]:
    """The least protected first, so that a long list never hides one of them."""
    ranks = [When(protection=state, then=Value(rank)) for rank, state in enumerate(Protection)]
    urgency = Case(*ranks, default=Value(0), output_field=IntegerField())
    opened = Position.objects.filter(status=PositionStatus.OPEN).select_related("account")
    return opened.order_by(urgency, "-pk")


def _one_of_each_symbol() -> list[Position]:
    """A position of every symbol held: enough to know which marks are needed."""
    held = Position.objects.filter(status=PositionStatus.OPEN).order_by()
    symbols = held.values_list("market", "symbol").distinct()
    return [Position(market=market, symbol=symbol) for market, symbol in symbols]


def _gravest_alerts() -> QuerySet[Alert]:
    ranks = [When(severity=severity, then=Value(rank)) for rank, severity in enumerate(reversed(RISING))]
    gravity = Case(*ranks, default=Value(0), output_field=IntegerField())
    return Alert.objects.filter(cleared_at__isnull=True).order_by(gravity, "-last_at", "-pk")


def _chosen() -> QuerySet[Decision]:
    return Decision.objects.exclude(status=DecisionStatus.NONE).select_related("signal__source")


def _closed() -> QuerySet[Position]:
    closed = Position.objects.filter(status=PositionStatus.CLOSED, closed_at__isnull=False)
    return closed.select_related("account").order_by("-closed_at", "-pk")


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit in effect as it is written, and who set it."""

    name: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class Circuit:
    """What the exchange refuses, and whether it is open, half-open or closed."""

    row: Breaker
    state: str


def read_account(account: Account, now: datetime) -> dict[str, Any]:
    """What the page of one account shows."""
    limits, problem = _limits(account)
    standing = read_standing(account, now)
    return {
        "account": account,
        "day": read_days([account], now)[account.pk],
        "standing": standing,
        "drawdown_pct": None if standing.drawdown is None else -to_percent(standing.drawdown),
        "circuits": [Circuit(row, breakers.state_of(row, now)) for row in breakers.states(account)],
        "limits": limits,
        "set_limits": [limit for limit in limits if limit.origin != SETTING],
        "no_limits": problem,
        "changes": history(account)[:NEWEST_CHANGES],
    }


def _limits(account: Account) -> tuple[list[Limit], str]:
    """Its limits by name, or why it has none to enter under."""
    try:
        found = effective_limits(account)
    except ValueError as error:
        return [], f"No entries: {error}"
    shown = sorted(found.shown().items())
    return [Limit(name, *told) for name, told in shown], ""
