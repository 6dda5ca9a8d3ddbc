"""The desk at a glance: which parts live, how old what they show is, what is halted, what is open."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from django.conf import settings
from django.db.models import Count, F, Min, Q, QuerySet, Sum, Value
from django.db.models.functions import Coalesce
from redis import Redis
from redis.exceptions import RedisError

from accounts.models import Account, Breaker, Health
from accounts.services.limits import desk_limits
from alerts.models import Alert
from exchange import heartbeat
from trading.domain import percent
from trading.domain.limits import Limits
from trading.domain.states import OPEN, OrderStatus, PositionStatus, Protection
from trading.models import Halt, Income, Order, Position, SignalSource
from trading.models.operations import HaltScope
from trading.services.money_flow import READ_ASSET, TRANSFERS
from trading.services.valkey import valkey

SILENT_SECONDS = 60.0
MOST_HALTS = 8
WIDEST_FIRST = (HaltScope.DESK, HaltScope.VENUE, HaltScope.GROUP, HaltScope.SYMBOL, HaltScope.ACCOUNT)
NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True)
class Pulse:
    """When a part of the desk was last heard of; None when never, or when the broker does not answer."""

    name: str
    age_seconds: float | None
    limit_seconds: float

    @property
    def is_stale(self) -> bool:
        """Whether what comes from it must not be shown as present."""
        return self.age_seconds is None or self.age_seconds > self.limit_seconds


@dataclass(frozen=True, slots=True)
class AccountSummary:
    """How many accounts there are, how they are, and their money as last read."""

    total: int
    active: int
    paused: int
    unhealthy: int
    unverified: int
    equity: Decimal | None
    unrealized_profit: Decimal | None
    day_change: Decimal | None
    day_change_equity_pct: Decimal | None
    oldest_picture_at: datetime | None
    oldest_balance_at: datetime | None
    oldest_audit_at: datetime | None


@dataclass(frozen=True, slots=True)
class DeskStatus:
    """Everything the head of a page and `GET status` tell."""

    mode: str
    gate_off: Sequence[str]
    limits_set: Mapping[str, str]
    now: datetime
    broker_answers: bool
    pulses: Mapping[str, Pulse]
    halts: Sequence[Halt]
    accounts: AccountSummary
    positions: Mapping[str, int]
    longest_unprotected_seconds: float | None
    orders: Mapping[str, int]
    alerts: Mapping[str, int]
    sources: Sequence[SignalSource] = field(default_factory=list)
    circuits_open: int = 0

    @property
    def halts_shown(self) -> list[Halt]:
        """The halts a page has room for, the widest first."""
        return sorted(self.halts, key=lambda halt: WIDEST_FIRST.index(halt.scope))[:MOST_HALTS]

    @property
    def halts_more(self) -> int:
        """How many more stand."""
        return max(0, len(self.halts) - MOST_HALTS)

    @property
    def stale(self) -> list[str]:
        """Names of the parts that were not heard of in time."""
        return [pulse.name for pulse in self.pulses.values() if pulse.is_stale]

    @property
    def are_marks_stale(self) -> bool:
        """Whether prices are too old to be shown as present."""
        return self.pulses["marks"].is_stale


def read_status(now: datetime) -> DeskStatus:
    """Read the desk's state: a fixed number of queries, none per account."""
    pulses, broker_answers = _pulses()
    positions, unprotected_since = _positions()
    return DeskStatus(
        mode=settings.MODE,
        gate_off=sorted(str(code) for code in settings.GATE_OFF),
        limits_set=_limits_set(),
        now=now,
        broker_answers=broker_answers,
        pulses=pulses,
        halts=list(Halt.objects.filter(resumed_at__isnull=True)),
        accounts=_accounts(),
        positions=positions,
        longest_unprotected_seconds=(
            None if unprotected_since is None else max(0.0, (now - unprotected_since).total_seconds())
        ),
        orders=_orders(),
        alerts=_alerts(),
        sources=list(SignalSource.objects.filter(is_active=True)),
        circuits_open=Breaker.objects.filter(open_until__gt=now).count(),
    )


def _limits_set() -> dict[str, str]:
    """The desk's limits that are not the mode's own, as they would be written in a setting."""
    ordinary = Limits.for_mode(settings.MODE).as_edge()
    return {name: value for name, value in desk_limits().as_edge().items() if value != ordinary[name]}


def _pulses() -> tuple[dict[str, Pulse], bool]:
    try:
        return _named(_ages(valkey())), True
    except RedisError:
        silent = ("marks", heartbeat.WATCHER, "beat", *(f"worker {queue}" for queue in settings.QUEUES))
        return _named(dict.fromkeys(silent)), False


def _ages(redis: Redis) -> dict[str, float | None]:
    workers = heartbeat.worker_ages_seconds(redis)
    return {
        "marks": heartbeat.age_seconds(redis, heartbeat.MARKS),
        **heartbeat.watcher_ages_seconds(redis),
        "beat": heartbeat.age_seconds(redis, heartbeat.BEAT),
        **{f"worker {queue}": workers.get(queue) for queue in settings.QUEUES},
    }


def _named(ages: Mapping[str, float | None]) -> dict[str, Pulse]:
    limits = {"marks": float(settings.LIMITS.stream_max_age_seconds)}
    return {name: Pulse(name, age, limits.get(name, SILENT_SECONDS)) for name, age in ages.items()}


def _accounts() -> AccountSummary:
    zero = Value(NOTHING)
    equity = F("wallet_balance") + Coalesce(F("unrealized_profit"), zero)
    compared = Q(day_baseline_equity__isnull=False, wallet_balance__isnull=False)
    healthy = Q(health=Health.HEALTHY)
    ours = Account.objects.filter(archived_at__isnull=True, mode=settings.MODE)
    found = ours.aggregate(
        total=Count("pk"),
        active=Count("pk", filter=healthy & Q(is_enabled=True)),
        paused=Count("pk", filter=Q(is_enabled=False)),
        unhealthy=Count("pk", filter=Q(health__in=[Health.UNHEALTHY, Health.CREDENTIAL_ERROR])),
        unverified=Count("pk", filter=Q(health=Health.UNVERIFIED)),
        oldest_picture_at=Min("fresh_at"),
        oldest_balance_at=Min("balances_at"),
        # One that never was audited waits since it was added; one whose key is dead is not asked.
        oldest_audit_at=Min(Coalesce("audited_at", "created_at"), filter=~Q(health=Health.CREDENTIAL_ERROR)),
        equity=Sum(equity),
        compared_equity=Sum(equity, filter=compared),
        baseline=Sum("day_baseline_equity", filter=compared),
        unrealized=Sum("unrealized_profit"),
    )
    moved = _transferred_today(ours.filter(compared))
    change, change_pct = _day_change(found.pop("compared_equity"), found.pop("baseline"), moved)
    unrealized = found.pop("unrealized")
    return AccountSummary(
        **found, unrealized_profit=unrealized, day_change=change, day_change_equity_pct=change_pct
    )


def _transferred_today(accounts: QuerySet[Account]) -> Decimal:
    """What was paid in and out since each account's day began: no profit, and no loss."""
    moves = Income.objects.filter(
        account__in=accounts, kind__in=TRANSFERS, asset=READ_ASSET, at__gt=F("account__day_started_at")
    )
    return moves.aggregate(n=Sum("quantity"))["n"] or NOTHING


def _day_change(
    equity: Decimal | None, baseline: Decimal | None, transferred: Decimal
) -> tuple[Decimal | None, Decimal | None]:
    if equity is None or baseline is None:
        return None, None
    made = equity - baseline - transferred
    ratio = percent.equity_ratio(made, baseline)
    return made, None if ratio is None else percent.to_percent(ratio)


def _positions() -> tuple[dict[str, int], datetime | None]:
    """Counts of what is open, and since when the longest of ours has had no verified stop."""
    counted = {state.value: Count("pk", filter=Q(protection=state, is_foreign=False)) for state in Protection}
    opened = Position.objects.filter(status=PositionStatus.OPEN).order_by()
    found = opened.aggregate(
        open=Count("pk"),
        foreign=Count("pk", filter=Q(is_foreign=True)),
        first=Min("unprotected_since", filter=Q(is_foreign=False)),
        **counted,
    )
    since: datetime | None = found.pop("first")
    return found, since


def _orders() -> dict[str, int]:
    working = Order.objects.filter(status__in=sorted(OPEN)).order_by()
    return working.aggregate(open=Count("pk"), unknown=Count("pk", filter=Q(status=OrderStatus.UNKNOWN)))


def _alerts() -> dict[str, int]:
    """Standing alerts by severity."""
    standing = Alert.objects.filter(cleared_at__isnull=True).order_by()
    return dict(standing.values_list("severity").annotate(n=Count("pk")))
