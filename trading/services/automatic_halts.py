"""The desk stops itself: automatic halts of accounts and of the desk, raised from rows, resumed by a person.

Only the halt for a stale mark stream ends by itself, for its cause can be seen to be gone.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.db.models import F
from django.utils import timezone

from accounts.models import Account
from accounts.services.limits import desk_limits
from exchange.port import Market
from trading.domain.autohalt import (
    STOP_OUTS,
    AccountDay,
    DeskMoment,
    HaltCode,
    StopOut,
    account_halt,
    desk_halts,
    drawdown,
    is_stream_stale,
)
from trading.domain.limits import Limits
from trading.domain.states import OrderStatus, PositionStatus
from trading.models import Halt, Order, Position
from trading.models.operations import HaltScope
from trading.services import emergency
from trading.services.exposure import Exposure


def check(
    accounts: Sequence[Account],
    limits: Mapping[int, Limits],
    at_stake: Mapping[int, Exposure],
    marks_age_seconds: float | None,
    now: datetime,
) -> list[Halt]:
    """Raise what the rules of the accounts and of the desk ask for now; returns the new halts."""
    stop_outs = _stop_outs(limits.values(), now)
    raised = _check_accounts(accounts, limits, at_stake, stop_outs, now)
    raised += _check_desk(accounts, stop_outs, marks_age_seconds, now)
    _resume_stream(marks_age_seconds, now)
    return raised


def _check_accounts(
    accounts: Sequence[Account],
    limits: Mapping[int, Limits],
    at_stake: Mapping[int, Exposure],
    stop_outs: Sequence[StopOut],
    now: datetime,
) -> list[Halt]:
    by_account: dict[int, list[datetime]] = defaultdict(list)
    for out in stop_outs:
        by_account[out.account].append(out.at)
    resumed = _resumed(accounts) if stop_outs else {}
    raised = []
    for account in accounts:
        # Stop-outs an operator has already looked at do not count: a resume starts the count again.
        seen_until = resumed.get(account.name)
        unseen = (at for at in by_account.get(account.pk, ()) if seen_until is None or at > seen_until)
        day = AccountDay(
            account=account.pk,
            day_profit=at_stake[account.pk].day_profit,
            baseline=at_stake[account.pk].day_baseline,
            drawdown=_drawdown(account, at_stake[account.pk]),
            stop_outs=tuple(unseen),
        )
        code = account_halt(day, limits[account.pk], now)
        if code and (halt := _raise(f"account:{account.name}", code, now)):
            raised.append(halt)
    return raised


def _check_desk(
    accounts: Sequence[Account], stop_outs: Sequence[StopOut], marks_age_seconds: float | None, now: datetime
) -> list[Halt]:
    halted = Halt.objects.filter(
        scope=HaltScope.ACCOUNT, resumed_at__isnull=True, target__in=[account.name for account in accounts]
    )
    resumed = (
        Halt.objects.filter(scope=HaltScope.DESK, code=HaltCode.STOP_OUTS).order_by("-resumed_at").first()
    )
    since = resumed.resumed_at if resumed and resumed.resumed_at else None
    desk = DeskMoment(
        stop_outs=tuple(out for out in stop_outs if since is None or out.at > since),
        accounts=len(accounts),
        halted_accounts=halted.values("target").distinct().count(),
        marks_age_seconds=marks_age_seconds,
        accounts_long_unknown=_accounts_long_unknown(),
    )
    return [
        halt
        for code in desk_halts(desk, desk_limits(), now)
        if (halt := _raise("desk", code, now)) is not None
    ]


def _raise(scope: str, code: HaltCode, now: datetime) -> Halt | None:
    raised = emergency.raise_once(scope, code, REASONS[code], now)
    return raised[0] if raised else None


def _resume_stream(marks_age_seconds: float | None, now: datetime) -> None:
    if is_stream_stale(marks_age_seconds, settings.LIMITS):
        return
    standing = Halt.objects.filter(
        scope=HaltScope.DESK, code=HaltCode.STREAM_STALE, is_automatic=True, resumed_at__isnull=True
    )
    emergency.lift(standing, "Marks are fresh again.", "desk", now)


def _stop_outs(limits: Iterable[Limits], now: datetime) -> list[StopOut]:
    """The stop-outs that any rule still counts."""
    minutes = [desk_limits().desk_stop_out_minutes, *(one.account_stop_out_minutes for one in limits)]
    since = now - timedelta(minutes=max(minutes))
    closed = Position.objects.filter(
        status=PositionStatus.CLOSED, closed_at__gte=since, close_reason__in=sorted(STOP_OUTS)
    ).filter(realized_profit__lt=F("fees"))
    rows = closed.values_list("account_id", "allocation__decision_id", "closed_at")
    return [StopOut(account, decision, at) for account, decision, at in rows if at is not None]


def _resumed(accounts: Sequence[Account]) -> dict[str, datetime]:
    """When each account's halt for stop-outs was last resumed, by its name."""
    resumed = Halt.objects.filter(
        scope=HaltScope.ACCOUNT,
        target__in=[account.name for account in accounts],
        code=HaltCode.STOP_OUTS,
        resumed_at__isnull=False,
    )
    return {
        target: at for target, at in resumed.order_by("resumed_at").values_list("target", "resumed_at") if at
    }


def _drawdown(account: Account, exposure: Exposure) -> Decimal:
    """The fall from the highest equity ever read; 0 where none was."""
    wallet = exposure.wallets.get(Market.FUTURES)
    if wallet is None or not account.peak_equity:
        return Decimal(0)
    return drawdown((account.peak_equity, wallet.equity))


def _accounts_long_unknown() -> int:
    since = timezone.now() - timedelta(seconds=desk_limits().unknown_alarm_seconds)
    unknown = Order.objects.filter(status=OrderStatus.UNKNOWN, unknown_since__lt=since)
    return unknown.values("account_id").distinct().count()


REASONS: dict[HaltCode, str] = {
    HaltCode.DAILY_LOSS: "The day's loss has reached the limit.",
    HaltCode.DRAWDOWN: "Equity has fallen by the drawdown limit from its peak.",
    HaltCode.STOP_OUTS: "Too many stop-outs in too short a time.",
    HaltCode.HALTED_ACCOUNTS: "A quarter of the accounts is halted.",
    HaltCode.STREAM_STALE: "Mark prices are too old to enter on.",
    HaltCode.OUTCOMES_UNKNOWN: "Orders on several accounts have had no known outcome for over 60 s.",
}
