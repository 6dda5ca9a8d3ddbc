"""Staged decisions: the canaries go first, and what the exchange says to them decides about the rest.

Off unless asked for. Promises:
1. The rest starts only once every canary has an answer and at least one was acknowledged.
2. It never starts when the exchange refused as large a share of the canaries as the limit names.
3. Nobody waits longer than the decision's deadline; that is for the caller to see.
"""

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from trading.domain.limits import Limits


class Wave(IntEnum):
    """Who starts together."""

    CANARIES = 1
    REST = 2


class Verdict(StrEnum):
    """What becomes of the rest; the last two are the codes by which it is skipped."""

    WAIT = "WAIT"
    RELEASE = "RELEASE"
    CANARY_REFUSED = "CANARY_REFUSED"
    NO_CANARY = "NO_CANARY"


@dataclass(frozen=True, slots=True)
class Canaries:
    """How many canary accounts were sent for, and how many of them stand how.

    Acknowledged: the exchange took an order. Refused: it refused one, whatever was tried next. The others
    ended unsent, by a halt for one.
    """

    sent_for: int = 0
    waiting: int = 0
    acknowledged: int = 0
    refused: int = 0


def judge(canaries: Canaries, limits: Limits) -> Verdict:
    """Return what becomes of the rest. Enough refusals are told at once, with answers still on their way."""
    if canaries.refused and canaries.refused >= limits.canary_reject_share * canaries.sent_for:
        return Verdict.CANARY_REFUSED
    if canaries.waiting:
        return Verdict.WAIT
    return Verdict.RELEASE if canaries.acknowledged else Verdict.NO_CANARY
