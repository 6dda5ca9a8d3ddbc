"""Which signal is chosen, if any, and why not (section 2)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from trading.domain.limits import Limits
from trading.domain.quality import Quality


class NoneReason(StrEnum):
    """Why a selection chose nothing."""

    HALTED = "HALTED"
    DESK_RISK = "DESK_RISK"
    DESK_DAILY_TRADES = "DESK_DAILY_TRADES"
    NO_CANDIDATES = "NO_CANDIDATES"
    QUALITY = "QUALITY"


class NotCandidate(StrEnum):
    """Why a signal did not become a candidate."""

    SCORE = "SCORE"
    AGE = "AGE"
    EXPIRED = "EXPIRED"
    DUPLICATE = "DUPLICATE"
    NO_ACCOUNT = "NO_ACCOUNT"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A signal that opens, as selection sees it.

    `last_decided_at` is the last decision on the same symbol and side; `has_account` tells whether any active
    account could take it.
    """

    signal_id: int | UUID
    symbol: str
    is_long: bool
    score: Decimal
    created_at: datetime
    expires_at: datetime | None = None
    last_decided_at: datetime | None = None
    has_account: bool = True


@dataclass(frozen=True, slots=True)
class Desk:
    """The desk's own state: halted or not, its risk as a fraction of its equity, its decisions today."""

    is_halted: bool
    open_risk: Decimal
    trades_today: int


@dataclass(frozen=True, slots=True)
class Ranked:
    """A candidate with its quality."""

    candidate: Candidate
    quality: Quality


@dataclass(frozen=True, slots=True)
class Choice:
    """The winner, or the reason for none; exactly one of the two is set."""

    winner: Ranked | None
    reason: NoneReason | None


def may_select(
    now: datetime, *, last_chosen_at: datetime | None, last_fruitless_at: datetime | None, limits: Limits
) -> bool:
    """Whether a new selection is due: a cooldown after a choice, a shorter wait after a fruitless one."""
    waits = (
        (last_chosen_at, limits.cooldown_seconds),
        (last_fruitless_at, limits.fruitless_seconds),
    )
    return all(at is None or now - at >= timedelta(seconds=seconds) for at, seconds in waits)


def desk_refusal(desk: Desk, limits: Limits) -> NoneReason | None:
    """Return the first desk limit that forbids any choice."""
    if desk.is_halted:
        return NoneReason.HALTED
    if desk.open_risk >= limits.desk_risk_budget:
        return NoneReason.DESK_RISK
    return NoneReason.DESK_DAILY_TRADES if desk.trades_today >= limits.desk_daily_trades else None


def why_not(candidate: Candidate, now: datetime, limits: Limits) -> NotCandidate | None:
    """Return the first reason a signal is no candidate; None when it is one."""
    if candidate.score < limits.min_score:
        return NotCandidate.SCORE
    if now - candidate.created_at > timedelta(seconds=limits.signal_max_age_seconds):
        return NotCandidate.AGE
    if candidate.expires_at is not None and now >= candidate.expires_at:
        return NotCandidate.EXPIRED
    if is_duplicate(candidate.last_decided_at, now, limits):
        return NotCandidate.DUPLICATE
    return None if candidate.has_account else NotCandidate.NO_ACCOUNT


def is_duplicate(last_decided_at: datetime | None, now: datetime, limits: Limits) -> bool:
    """Whether a decision on the same symbol and side is still too recent."""
    if last_decided_at is None:
        return False
    return now - last_decided_at < timedelta(seconds=limits.duplicate_seconds)


def shortlist(signals: Iterable[Candidate], now: datetime, limits: Limits) -> list[Candidate]:
    """Return the best candidates by score, the older first among equals, at most `limits.candidates`."""
    fit = [candidate for candidate in signals if why_not(candidate, now, limits) is None]
    return sorted(fit, key=lambda candidate: (-candidate.score, candidate.created_at))[: limits.candidates]


def choose(ranked: Sequence[Ranked], limits: Limits) -> Choice:
    """Return the candidate of the highest sufficient quality; ties go to the older signal."""
    if not ranked:
        return Choice(None, NoneReason.NO_CANDIDATES)
    best = min(ranked, key=lambda one: (-one.quality.value, one.candidate.created_at))
    if best.quality.value < limits.min_quality:
        return Choice(None, NoneReason.QUALITY)
    return Choice(best, None)
