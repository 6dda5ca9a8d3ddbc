# ruff: noqa: ARG001 - the framework gives every route its request
from collections.abc import Mapping
from datetime import datetime, timedelta

from django.conf import settings
from django.http import HttpRequest
from ninja import Router, Schema

from alerts.models import Alert
from trading.api.authentication import needs
from trading.api.numbers import Figure, Moment, Text
from trading.api.paging import Page, PagingQuery, page_of
from trading.services.equity_curve import read_curve
from trading.services.status import DeskStatus, read_status
from trading.services.tokens import Scope

router = Router(tags=["reports"])

DEFAULT_HOURS = 24


class AlertOut(Schema):
    """One thing people must be told, counted while its cause lasts."""

    id: int
    severity: str
    code: str
    message: str
    account: str
    symbol: str
    count: int
    first_at: datetime
    last_at: datetime
    cleared_at: datetime | None
    acknowledged_at: datetime | None
    acknowledged_by: str


class EquityOut(Schema):
    """Equity in quote units at a time, over `accounts` accounts."""

    at: datetime
    equity: Figure
    accounts: int


class PulseOut(Schema):
    """When a part of the desk was last heard of."""

    age_seconds: float | None
    limit_seconds: float
    is_stale: bool


class AccountsOut(Schema):
    """How the accounts are, and their money as last read; `day_change` is since each account's midnight.

    Equity is of the futures wallets; transfers are no change of a day.

    Each oldest moment is that of the account that waits longest: `oldest_picture_at` was told by its stream
    or read, `oldest_audit_at` was read whole and compared with the rows.
    """

    total: int
    active: int
    paused: int
    unhealthy: int
    unverified: int
    equity: Figure | None
    unrealized_profit: Figure | None
    day_change: Figure | None
    day_change_equity_pct: Figure | None
    oldest_picture_at: datetime | None
    oldest_balance_at: datetime | None
    oldest_audit_at: datetime | None


class SourceOut(Schema):
    """A source of signals, and what it says while it is silent."""

    name: str
    is_demonstration: bool
    note: str
    note_at: datetime | None


class StandingHalt(Schema):
    """What stands halted."""

    id: int
    scope: str
    target: str
    level: str
    code: str
    reason: str
    raised_at: datetime


class StatusOut(Schema):
    """The desk at a glance."""

    mode: str
    gate_off: list[str]
    limits_set: dict[str, str]
    now: datetime
    broker_answers: bool
    parts: Mapping[str, PulseOut]
    halts: list[StandingHalt]
    accounts: AccountsOut
    positions: dict[str, int]
    longest_unprotected_seconds: float | None
    orders: dict[str, int]
    alerts: dict[str, int]
    circuits_open: int
    sources: list[SourceOut]

    @classmethod
    def of(cls, status: DeskStatus) -> "StatusOut":
        """Show what was read."""
        return cls(
            mode=status.mode,
            gate_off=list(status.gate_off),
            limits_set=dict(status.limits_set),
            now=status.now,
            broker_answers=status.broker_answers,
            parts={name: PulseOut.from_orm(pulse) for name, pulse in status.pulses.items()},
            halts=[StandingHalt.from_orm(halt) for halt in status.halts],
            accounts=AccountsOut.from_orm(status.accounts),
            positions=dict(status.positions),
            longest_unprotected_seconds=status.longest_unprotected_seconds,
            orders=dict(status.orders),
            alerts=dict(status.alerts),
            circuits_open=status.circuits_open,
            sources=[SourceOut.from_orm(source) for source in status.sources],
        )


@router.get("status", auth=needs(Scope.READ), response=StatusOut)
def read_desk_status(request: HttpRequest) -> StatusOut:
    """Mode, ages of the desk's parts, halts, and counts of what is open."""
    return StatusOut.of(read_status(settings.CLOCK.now()))


@router.get("alerts", auth=needs(Scope.READ), response=Page[AlertOut])
def list_alerts(request: HttpRequest, paging: PagingQuery, *, standing: bool = True) -> Page[AlertOut]:
    """Alerts, newest first; those whose cause is gone too with `standing=false`."""
    rows = Alert.objects.filter(cleared_at__isnull=True) if standing else Alert.objects.all()
    shown, following = page_of(rows, paging)
    return Page(items=[AlertOut.from_orm(alert) for alert in shown], next=following)


@router.get("equity", auth=needs(Scope.READ), response=Page[EquityOut])
def list_equity(
    request: HttpRequest, since: Moment | None = None, until: Moment | None = None, account: Text = ""
) -> Page[EquityOut]:
    """Equity over time, oldest first: the last 24 hours unless told, of the desk or of one account."""
    end = until or settings.CLOCK.now()
    points = read_curve(since or end - timedelta(hours=DEFAULT_HOURS), end, account)
    return Page(items=[EquityOut.from_orm(point) for point in points])
