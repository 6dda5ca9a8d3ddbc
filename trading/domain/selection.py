"""Which signal is chosen, if any, and why not (section 2)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from trading.domain.limits import Limits
from trading.domain.percent import ONE
from trading.domain.quality import Quality

TICK_JITTER = timedelta(milliseconds=900)


class NoneReason(StrEnum):
    """Why a selection chose nothing."""

    HALTED = "HALTED"
    DESK_RISK = "DESK_RISK"
    DESK_DAILY_TRADES = "DESK_DAILY_TRADES"
    NO_CANDIDATES = "NO_CANDIDATES"
    QUALITY = "QUALITY"


class Verdict(StrEnum):
    """What became of a candidate; the first is the only one that wins."""

    CHOSEN = "CHOSEN"
    SAME_COIN = "SAME_COIN"
    NOT_THE_BEST = "NOT_THE_BEST"
    QUALITY = "QUALITY"
    NO_MARK = "NO_MARK"
    BELOW_SHORTLIST = "BELOW_SHORTLIST"


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
    account could take it. `weight` in [0, 1] is what its source's word counts.
    """

    signal_id: int | UUID
    symbol: str
    is_long: bool
    score: Decimal
    created_at: datetime
    base: str = ""
    weight: Decimal = ONE
    expires_at: datetime | None = None
    last_decided_at: datetime | None = None
    has_account: bool = True

    @property
    def weighted_score(self) -> Decimal:
        """What the score counts for beside other sources'; the least score is asked of it unweighted."""
        return self.score * self.weight


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
    """The winners, the best first, or the reason for none; and what became of every ranked candidate."""

    winners: tuple[Ranked, ...]
    reason: NoneReason | None
    verdicts: Mapping[int | UUID, Verdict]


def may_select(
    now: datetime, *, last_chosen_at: datetime | None, last_fruitless_at: datetime | None, limits: Limits
) -> bool:
    """Whether a new selection is due: a cooldown after a choice, a shorter wait after a fruitless one.

    The waits are whole ticks, and a tick that comes a moment early is that tick: else its turn went by.
    """
    waits = (
        (last_chosen_at, limits.cooldown_seconds),
        (last_fruitless_at, limits.fruitless_seconds),
    )
    return all(at is None or now - at + TICK_JITTER >= timedelta(seconds=seconds) for at, seconds in waits)


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


def most_at_once(desk: Desk, limits: Limits) -> int:
    """How many may be chosen in one tick: as set, inside what the desk's day and risk budget still hold.

    Each is taken to risk what one trade may: what the accounts will really take is known later.
    """
    left_today = limits.desk_daily_trades - desk.trades_today
    left_risk = int((limits.desk_risk_budget - desk.open_risk) / limits.risk_per_trade)
    return max(1, min(limits.decisions_per_tick, left_today, left_risk))


def ranked(fit: Iterable[Candidate]) -> list[Candidate]:
    """Return candidates by weighted score, the older first among equals: the first are weighed."""
    return sorted(fit, key=lambda candidate: (-candidate.weighted_score, candidate.created_at))


def choose(weighed: Sequence[Ranked], limits: Limits, *, at_most: int = 1) -> Choice:
    """Return the candidates of the highest sufficient quality, one a coin; ties go to the older signal."""
    if not weighed:
        return Choice((), NoneReason.NO_CANDIDATES, {})
    winners: list[Ranked] = []
    verdicts: dict[int | UUID, Verdict] = {}
    for one in sorted(weighed, key=lambda one: (-one.quality.value, one.candidate.created_at)):
        verdict = _verdict(one, winners, limits, at_most)
        verdicts[one.candidate.signal_id] = verdict
        if verdict is Verdict.CHOSEN:
            winners.append(one)
    return Choice(tuple(winners), None if winners else NoneReason.QUALITY, verdicts)


def _verdict(one: Ranked, winners: Sequence[Ranked], limits: Limits, at_most: int) -> Verdict:
    if one.quality.value < limits.min_quality:
        return Verdict.QUALITY
    if any(one.candidate.base == winner.candidate.base for winner in winners):
        return Verdict.SAME_COIN
    return Verdict.CHOSEN if len(winners) < at_most else Verdict.NOT_THE_BEST
