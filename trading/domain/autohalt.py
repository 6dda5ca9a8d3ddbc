"""When the desk stops itself: the automatic halts of accounts and of the desk, as pure rules."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from trading.domain.limits import Limits
from trading.domain.states import CloseReason

ZERO = Decimal(0)

STOP_OUTS = frozenset(
    {CloseReason.STOP_LOSS, CloseReason.STOP_FAILED, CloseReason.LOSS_GUARD, CloseReason.LIQUIDATED}
)
"""Ends at a loss that the plan did not choose; a stop moved to break-even or beyond is none."""


class HaltCode(StrEnum):
    """Why the desk halted a scope by itself."""

    DAILY_LOSS = "DAILY_LOSS"
    DRAWDOWN = "DRAWDOWN"
    STOP_OUTS = "STOP_OUTS"
    HALTED_ACCOUNTS = "HALTED_ACCOUNTS"
    STREAM_STALE = "STREAM_STALE"
    OUTCOMES_UNKNOWN = "OUTCOMES_UNKNOWN"
    VENUE_MAINTENANCE = "VENUE_MAINTENANCE"
    VENUE_ERRORS = "VENUE_ERRORS"
    VENUE_BANNED = "VENUE_BANNED"


@dataclass(frozen=True, slots=True)
class StopOut:
    """One position stopped out, with the decision that opened it (None where it had none)."""

    account: int
    decision: int | None
    at: datetime


@dataclass(frozen=True, slots=True)
class AccountDay:
    """One account's figures for its own halts; `day_profit` and `baseline` in quote units, None if unseen.

    `drawdown` is the fall of its unitised value from the peak, a fraction.
    """

    account: int
    day_profit: Decimal | None
    baseline: Decimal | None
    drawdown: Decimal
    stop_outs: tuple[datetime, ...]


@dataclass(frozen=True, slots=True)
class DeskMoment:
    """The desk's figures for its own halts. `marks_age_seconds` is None when no mark was ever streamed."""

    stop_outs: tuple[StopOut, ...]
    accounts: int
    halted_accounts: int
    marks_age_seconds: float | None
    accounts_long_unknown: int


def account_halt(day: AccountDay, limits: Limits, now: datetime) -> HaltCode | None:
    """The first rule that halts this account's entries."""
    if day.day_profit is not None and day.baseline and day.day_profit <= -limits.daily_loss * day.baseline:
        return HaltCode.DAILY_LOSS
    if day.drawdown >= limits.halt_drawdown:
        return HaltCode.DRAWDOWN
    since = now - timedelta(minutes=limits.account_stop_out_minutes)
    recent = sum(1 for at in day.stop_outs if at >= since)
    return HaltCode.STOP_OUTS if recent >= limits.account_stop_outs else None


def desk_halts(desk: DeskMoment, limits: Limits, now: datetime) -> list[HaltCode]:
    """Every rule that halts the desk's entries now. One decision counts once, on however many accounts."""
    since = now - timedelta(minutes=limits.desk_stop_out_minutes)
    decisions = _decisions(stop_out for stop_out in desk.stop_outs if stop_out.at >= since)
    halts = [HaltCode.STOP_OUTS] if decisions >= limits.desk_stop_outs else []
    if desk.accounts and desk.halted_accounts >= limits.halted_accounts_share * desk.accounts > ZERO:
        halts.append(HaltCode.HALTED_ACCOUNTS)
    if is_stream_stale(desk.marks_age_seconds, limits):
        halts.append(HaltCode.STREAM_STALE)
    enough = max(Decimal(limits.unknown_accounts), limits.unknown_accounts_share * desk.accounts)
    if desk.accounts_long_unknown >= enough:
        halts.append(HaltCode.OUTCOMES_UNKNOWN)
    return halts


@dataclass(frozen=True, slots=True)
class VenueMoment:
    """How a venue answered all of us in the last `venue_error_seconds`."""

    answers: int
    server_errors: int
    bans: int
    maintenance: int


def venue_halts(venue: VenueMoment, limits: Limits) -> list[HaltCode]:
    """Every rule that halts a venue's entries now.

    A share of few answers says nothing: it counts from `venue_error_answers` on.
    """
    halts = [HaltCode.VENUE_BANNED] if venue.bans else []
    if venue.maintenance:
        halts.append(HaltCode.VENUE_MAINTENANCE)
    is_enough = venue.answers >= limits.venue_error_answers
    if is_enough and venue.server_errors > limits.venue_error_share * venue.answers:
        halts.append(HaltCode.VENUE_ERRORS)
    return halts


def is_stream_stale(marks_age_seconds: float | None, limits: Limits) -> bool:
    """Whether the mark stream is too old to enter on; this halt resumes by itself."""
    return marks_age_seconds is None or marks_age_seconds > limits.stream_max_age_seconds


def drawdown(units: Iterable[Decimal]) -> Decimal:
    """The fall of the last unitised value from the highest before it, as a fraction; 0 without a peak."""
    peak, last = ZERO, ZERO
    for value in units:
        peak, last = max(peak, value), value
    return (peak - last) / peak if peak > ZERO else ZERO


def _decisions(stop_outs: Iterable[StopOut]) -> int:
    """Distinct decisions; a stop-out without one counts by its account."""
    return len({out.decision if out.decision is not None else -out.account for out in stop_outs})
