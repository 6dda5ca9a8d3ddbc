"""The signals a selection looks at: which of them are candidates, and for each other one why it is none.

Ten thousand may wait: they are read as plain columns, and only those that are shown or weighed as rows.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings

from accounts.models import Account, Executor, Health
from exchange.port import Market
from trading.domain import selection
from trading.domain.limits import Limits
from trading.domain.selection import Candidate, NotCandidate
from trading.domain.states import OPEN, OrderPurpose, PositionStatus
from trading.models import Decision, Order, Position, Signal
from trading.models.signals import SignalAction, SignalSide, SignalStatus
from trading.services import halts, market

COLUMNS = ("pk", "symbol", "side", "score", "created_at", "expires_at", "source__weight")
NEWEST = 20
DUPLICATE_NOTE = "same symbol and side as a decision just made"


@dataclass(frozen=True, slots=True)
class Field:
    """Everything that waited at one tick: the candidates by rank, and the others by their reason.

    Of those whose score is too low there may be thousands: they are counted, and the newest named.
    """

    fit: Sequence[Candidate]
    refused: Mapping[int, NotCandidate]
    weak: int
    newest_weak: Sequence[int]

    @property
    def counts(self) -> dict[str, int]:
        """How many waited, were candidates, and were refused for each reason."""
        reasons = Counter[str]({NotCandidate.SCORE: self.weak}) + Counter[str](self.refused.values())
        waiting = len(self.fit) + reasons.total()
        return {"waiting": waiting, "candidates": len(self.fit)} | reasons

    def newest_refused(self, count: int) -> dict[int, NotCandidate]:
        """The reasons of the newest signals that are no candidates."""
        known = {**dict.fromkeys(self.newest_weak, NotCandidate.SCORE), **self.refused}
        return {pk: known[pk] for pk in sorted(known, reverse=True)[:count]}


def is_anything_waiting() -> bool:
    """Whether there is anything to choose from."""
    return Signal.objects.filter(**WAITING).exists()


def read_field(limits: Limits, now: datetime) -> Field:
    """Judge every waiting signal; a duplicate is marked for good, so that it is counted once.

    Raises ReadFailed when the market table was never read.
    """
    fit: list[Candidate] = []
    refused: dict[int, NotCandidate] = {}
    for pk, candidate in _waiting(limits, now):
        reason = selection.why_not(candidate, now, limits)
        if reason is None:
            fit.append(candidate)
        else:
            refused[pk] = reason
    _mark_duplicates([pk for pk, reason in refused.items() if reason is NotCandidate.DUPLICATE])
    # The first reason of the rule, asked of the database: most of what waits need not be read for it.
    weak = Signal.objects.filter(**WAITING, score__lt=limits.min_score)
    newest = list(weak.order_by("-pk").values_list("pk", flat=True)[:NEWEST])
    return Field(selection.ranked(fit), refused, weak.count() if newest else 0, newest)


WAITING = {
    "status": SignalStatus.OPEN,
    "action": SignalAction.OPEN,
    "source__is_active": True,
    "decision__isnull": True,
}


def _waiting(limits: Limits, now: datetime) -> list[tuple[int, Candidate]]:
    board = halts.standing(now)
    decided_at, reach = _decided_at(limits, now), _reach(board)
    listed = market.instruments(Market.FUTURES)
    takers = {
        (symbol, is_long): symbol not in board.symbols
        and reach.has_account(base=instrument.base, is_long=is_long)
        for symbol, instrument in listed.items()
        for is_long in (True, False)
    }
    able = Signal.objects.filter(**WAITING, score__gte=limits.min_score)
    rows = able.order_by("pk").values_list(*COLUMNS)
    return [
        (
            pk,
            Candidate(
                signal_id=pk,
                symbol=symbol,
                is_long=(is_long := side == SignalSide.LONG),
                score=score,
                created_at=created_at,
                base=listed[symbol].base if symbol in listed else "",
                weight=weight,
                expires_at=expires_at,
                last_decided_at=decided_at.get((symbol, side)),
                has_account=takers.get((symbol, is_long), False),
            ),
        )
        for pk, symbol, side, score, created_at, expires_at, weight in rows
    ]


def _decided_at(limits: Limits, now: datetime) -> dict[tuple[str, str], datetime]:
    since = now - timedelta(seconds=limits.duplicate_seconds)
    recent = Decision.objects.filter(signal__isnull=False, decided_at__gte=since).order_by("decided_at")
    rows = recent.values_list("signal__symbol", "signal__side", "decided_at")
    return {(symbol, side): at for symbol, side, at in rows}


def _mark_duplicates(signal_ids: Sequence[int]) -> None:
    if signal_ids:
        still_open = Signal.objects.filter(pk__in=signal_ids, status=SignalStatus.OPEN)
        still_open.update(status=SignalStatus.DUPLICATE, note=DUPLICATE_NOTE)


@dataclass(frozen=True, slots=True)
class _Reach:
    """Which active accounts could take a side of a coin; one halted, or that has the coin, could not."""

    futures: frozenset[int]
    spot: frozenset[int]
    taken: Mapping[str, frozenset[int]]

    def has_account(self, *, base: str, is_long: bool) -> bool:
        able = self.futures | self.spot if is_long else self.futures
        return bool(able - self.taken[base]) if base in self.taken else bool(able)


def _reach(board: halts.HaltBoard) -> _Reach:
    fit = Account.objects.filter(
        is_enabled=True, archived_at__isnull=True, mode=settings.MODE, health=Health.HEALTHY
    ).exclude(board.whole_accounts)
    executors = list(
        Executor.objects.filter(is_enabled=True, account__in=fit).values_list("account_id", "market")
    )
    held = Position.objects.filter(status=PositionStatus.OPEN).order_by().values_list("base", "account_id")
    entering = Order.objects.filter(purpose=OrderPurpose.ENTRY, status__in=sorted(OPEN)).order_by()
    taken: dict[str, set[int]] = {}
    for base, account_id in [*held, *entering.values_list("base", "account_id")]:
        taken.setdefault(base, set()).add(account_id)
    return _Reach(
        futures=frozenset(pk for pk, on in executors if on == Market.FUTURES),
        spot=frozenset(pk for pk, on in executors if on == Market.SPOT),
        taken={base: frozenset(ids) for base, ids in taken.items()},
    )
