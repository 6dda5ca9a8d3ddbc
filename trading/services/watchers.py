"""Who of the living watchers leads, and whose streams are whose; a row each, and no clock compared.

1. A watcher adds to its row's `beats`. Whoever sees another's stand still for over a second, in several looks
   of its own that all succeeded, removes the row; so a database that was away ends nobody.
2. The first row leads. What the leader writes is written in a transaction that holds its row and finds it
   first: one that was removed meanwhile, paused or slow, writes nothing.
3. Accounts are shared among those who are here by rendezvous: only what a leaver had moves.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from time import monotonic
from uuid import UUID, uuid4

import structlog
from django.db.models import F
from django.utils import timezone

from accounts.services.fixed_queries import FixedQuery
from trading.models import WatcherProcess

BEAT_SECONDS = 0.3
DEAD_AFTER_SECONDS = 1.2
LOOKS_BEFORE_DEAD = 4
GONE_AFTER_SECONDS = 3.0
"""Accounts stay with one that was removed and may be back in a moment: moving a stream costs an audit."""

log = structlog.get_logger(__name__)

_FIRST = FixedQuery(lambda: WatcherProcess.objects.select_for_update(no_key=True).values_list("pk")[:1])

Stopwatch = Callable[[], float]


@dataclass(slots=True)
class _Sight:
    """A row as it was last seen to move."""

    beats: int
    since: float
    looks: int = 1


class Membership:
    """This process among the watchers. `look` belongs to one thread; the rest may be asked from any."""

    def __init__(self, name: str, stopwatch: Stopwatch = monotonic) -> None:
        """Join at the first look."""
        self.uid = uuid4()
        self.leads = False
        self._name = name[:120]
        self._stopwatch = stopwatch
        self._pk: int | None = None
        self._sights: dict[int, _Sight] = {}
        self._here: dict[UUID, float] = {}
        self._members = frozenset({self.uid})

    def look(self, *, hears_marks: bool) -> None:
        """Say that this one lives, see who else does, and whether it leads now. Raises DatabaseError."""
        try:
            self._beat(hears_marks=hears_marks)
            rows = list(WatcherProcess.objects.values_list("pk", "uid", "beats"))
        except Exception:
            self._sights.clear()  # what stood still while nobody could look proves nothing
            raise
        living = [(pk, uid) for pk, uid, beats in rows if pk == self._pk or self._lives(pk, beats)]
        self._sights = {pk: sight for pk, sight in self._sights.items() if pk in dict(living)}
        self._note_members(uid for _, uid in living)
        self._lead(is_first=bool(living) and living[0][0] == self._pk)

    def holds(self) -> bool:
        """Whether this one leads, by the rows; inside the transaction that must not outlive it."""
        return [pk for (pk,) in _FIRST.ask()] == [self._pk]

    def leave(self) -> None:
        """Let the next one lead at once."""
        self.leads = False
        if self._pk is not None:
            WatcherProcess.objects.filter(pk=self._pk).delete()
        self._pk = None

    @property
    def members(self) -> frozenset[UUID]:
        """Who is here, this one included; a new set whenever that changes."""
        return self._members

    def is_ours(self, account_id: int) -> bool:
        """Whether this one listens to an account."""
        return owner_of(account_id, self._members) == self.uid

    def _beat(self, *, hears_marks: bool) -> None:
        now = timezone.now()
        if self._pk is not None:
            mine = WatcherProcess.objects.filter(pk=self._pk)
            if mine.update(beats=F("beats") + 1, hears_marks=hears_marks, beaten_at=now):
                return
        # Removed by another that saw this one stand still: whatever it meant to do then, it begins anew.
        self.leads = False
        row = WatcherProcess.objects.create(
            uid=self.uid, name=self._name, hears_marks=hears_marks, joined_at=now, beaten_at=now
        )
        self._pk = row.pk
        log.info("watcher_joined", watcher=self._name)

    def _lives(self, pk: int, beats: int) -> bool:
        now, sight = self._stopwatch(), self._sights.get(pk)
        if sight is None or sight.beats != beats:
            self._sights[pk] = _Sight(beats, now)
            return True
        sight.looks += 1
        if sight.looks < LOOKS_BEFORE_DEAD or now - sight.since < DEAD_AFTER_SECONDS:
            return True
        removed, _ = WatcherProcess.objects.filter(pk=pk, beats=beats).delete()
        if removed:
            log.warning("watcher_removed", watcher_row=pk, stood_still_seconds=round(now - sight.since, 1))
        return not removed

    def _note_members(self, living: Iterable[UUID]) -> None:
        now = self._stopwatch()
        self._here |= dict.fromkeys(living, now)
        self._here = {uid: at for uid, at in self._here.items() if now - at < GONE_AFTER_SECONDS}
        members = frozenset(self._here) | {self.uid}
        if members != self._members:
            self._members = members

    def _lead(self, *, is_first: bool) -> None:
        if is_first != self.leads:
            log.info("watcher_leads" if is_first else "watcher_stands_by", watcher=self._name)
        self.leads = is_first


def owner_of(account_id: int, members: frozenset[UUID]) -> UUID:
    """Who of the members listens to an account: the same answer everywhere, and only a leaver's move."""
    told = account_id.to_bytes(8, "big")
    return max(members, key=lambda uid: (blake2b(uid.bytes + told, digest_size=8).digest(), uid.bytes))
