"""A venue that maintains, fails or bans us is not entered: halts raised from how it answers everybody.

Maintenance and errors end by an explicit resume, like every halt. A ban ends by itself: once every account
with positions there was read again, which nobody can before it is over.
"""

from collections.abc import Sequence
from datetime import datetime

from django.db.models import Q
from redis.exceptions import RedisError

from accounts.models import Account
from accounts.services.limits import desk_limits
from exchange.venue_answers import read_answers
from trading.domain.autohalt import HaltCode, VenueMoment, venue_halts
from trading.domain.states import PositionStatus
from trading.models import Halt
from trading.models.operations import HaltScope
from trading.services import automatic_halts, emergency
from trading.services.valkey import valkey


def check(accounts: Sequence[Account], now: datetime) -> list[Halt]:
    """Raise what each venue's answers ask for now, and lift the bans that are over; returns the new halts."""
    raised = []
    for venue in sorted({account.exchange for account in accounts}):
        for code in _codes(venue):
            told = emergency.raise_once(f"venue:{venue}", code, automatic_halts.REASONS[code], now)
            if told is not None:
                raised.append(told[0])
    _lift_bans(now)
    return raised


def _codes(venue: str) -> list[HaltCode]:
    limits = desk_limits()
    try:
        seen = read_answers(valkey(), venue, limits.venue_error_seconds)
    except RedisError:
        return []  # without Valkey nothing is entered anyway
    moment = VenueMoment(seen.total, seen.server_errors, seen.bans, seen.maintenance)
    return venue_halts(moment, limits)


def _lift_bans(now: datetime) -> None:
    standing = Halt.objects.filter(
        scope=HaltScope.VENUE, code=HaltCode.VENUE_BANNED, is_automatic=True, resumed_at__isnull=True
    )
    for halt in standing:
        if HaltCode.VENUE_BANNED not in _codes(halt.target) and not _unread_since(halt):
            same = standing.filter(pk=halt.pk)
            emergency.lift(same, "Every account with positions was read again.", "desk", now)


def _unread_since(halt: Halt) -> bool:
    """Whether an account with open positions was not read whole since the ban."""
    is_unread = Q(audited_at__isnull=True) | Q(audited_at__lte=halt.raised_at)
    held = Account.objects.filter(
        is_unread, exchange=halt.target, archived_at=None, positions__status=PositionStatus.OPEN
    )
    return held.exists()
