"""The desk stops itself: automatic halts of accounts and of the desk, raised from rows, resumed by a person.

Only the halt for a stale mark stream ends by itself, for its cause can be seen to be gone.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.db.models import F
from django.utils import timezone

from accounts.models import Account
from accounts.services.limits import desk_limits, usable_limits_of
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
from trading.services import emergency, equity, prices
from trading.services.exposure import Exposure, day_start, exposures


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


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an account stands against its own halts; None where a figure is not known."""

    day_profit: Decimal | None
    day_baseline: Decimal | None
    drawdown: Decimal | None


def read_standing(account: Account, now: datetime) -> Standing:
    """What the next look would judge this account by, at the marks of now."""
    held = list(Position.objects.filter(account=account, status=PositionStatus.OPEN))
    marks = {symbol: mark.mark_price for symbol, mark in prices.fresh_marks(held, now).items()}
    found = exposures([account], usable_limits_of([account]), marks, now)[account.pk]
    made = equity.made_on_spot([account.pk]).get(account.pk, Decimal(0))
    fall = _drawdown(account, found, made) if account.peak_equity else None
    return Standing(found.day_profit, found.day_baseline, fall)


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
    resumed, on_spot = _resumed(accounts), equity.made_on_spot([one.pk for one in accounts])
    raised = []
    for account in accounts:
        # Stop-outs an operator has already looked at do not count: a resume starts the count again.
        seen_until = resumed.get((account.name, HaltCode.STOP_OUTS))
        unseen = (at for at in by_account.get(account.pk, ()) if seen_until is None or at > seen_until)
        day = AccountDay(
            account=account.pk,
            day_profit=at_stake[account.pk].day_profit,
            baseline=at_stake[account.pk].day_baseline,
            drawdown=_drawdown(account, at_stake[account.pk], on_spot.get(account.pk, Decimal(0))),
            stop_outs=tuple(unseen),
        )
        code = account_halt(day, limits[account.pk], now)
        if code == HaltCode.DAILY_LOSS and _was_seen_today(account, resumed, now):
            continue  # the gate goes on refusing what the day cannot bear; nobody is asked twice a day
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


def _resumed(accounts: Sequence[Account]) -> dict[tuple[str, str], datetime]:
    """When each account's automatic halts were last resumed, by its name and the halt's code."""
    resumed = Halt.objects.filter(
        scope=HaltScope.ACCOUNT,
        target__in=[account.name for account in accounts],
        code__in=[HaltCode.STOP_OUTS, HaltCode.DAILY_LOSS],
        resumed_at__isnull=False,
    )
    rows = resumed.order_by("resumed_at").values_list("target", "code", "resumed_at")
    return {(target, code): at for target, code, at in rows if at}


def _was_seen_today(account: Account, resumed: Mapping[tuple[str, str], datetime], now: datetime) -> bool:
    at = resumed.get((account.name, HaltCode.DAILY_LOSS))
    return at is not None and at >= day_start(account, now)


def _drawdown(account: Account, exposure: Exposure, made_on_spot: Decimal) -> Decimal:
    """The fall from the highest value ever read, deposits and withdrawals taken out; 0 where none was."""
    if not account.peak_equity:
        return Decimal(0)
    value = _value(exposure, made_on_spot)
    return Decimal(0) if value is None else drawdown((account.peak_equity, value))


def _value(exposure: Exposure, made_on_spot: Decimal) -> Decimal | None:
    """As `equity.value_of`, the reading carried forward by what happened since."""
    futures, spot = (exposure.wallets.get(market) for market in (Market.FUTURES, Market.SPOT))
    if futures is not None and futures.wallet > 0:
        held = (one.unrealized_profit for one in exposure.held if one.market == Market.SPOT)
        return futures.equity + made_on_spot + sum(held, Decimal(0))
    return spot.equity if spot is not None else None


def _accounts_long_unknown() -> int:
    since = timezone.now() - timedelta(seconds=desk_limits().unknown_alarm_seconds)
    unknown = Order.objects.filter(status=OrderStatus.UNKNOWN, unknown_since__lt=since)
    return unknown.values("account_id").distinct().count()


REASONS: dict[HaltCode, str] = {
    HaltCode.DAILY_LOSS: "The day's loss has reached the limit.",
    HaltCode.DRAWDOWN: "Its value has fallen by the drawdown limit from its peak, transfers taken out.",
    HaltCode.STOP_OUTS: "Too many stop-outs in too short a time.",
    HaltCode.HALTED_ACCOUNTS: "A quarter of the accounts is halted.",
    HaltCode.STREAM_STALE: "Mark prices are too old to enter on.",
    HaltCode.VENUE_MAINTENANCE: "The venue says that it is under maintenance.",
    HaltCode.VENUE_ERRORS: "Too many of the venue's answers are errors of its own.",
    HaltCode.VENUE_BANNED: "The venue has banned this address.",
    HaltCode.OUTCOMES_UNKNOWN: "Orders on several accounts have had no known outcome for over 60 s.",
}
