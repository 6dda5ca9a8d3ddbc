"""One user stream an account, side by side on the I/O loop; what they tell is posted as work for the rows.

The set of accounts follows the rows: an account that appears is listened to within half a minute, one that
is archived is let go. Of several watchers each listens to its share, and to a leaver's within a second of
knowing. Every few seconds the accounts whose streams were just proven alive are marked fresh.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from time import monotonic
from uuid import UUID

import structlog
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import DatabaseError, close_old_connections

from accounts.models import Account
from accounts.services.gateways import user_stream_for
from exchange.errors import GatewayError
from exchange.port import Market
from exchange.streams import UserStream
from trading.services import streams
from trading.services.bells import Bells
from trading.services.streams import Told
from trading.services.watchers import Membership

Work = Callable[[datetime], Bells]
Post = Callable[[Work], None]

ACCOUNTS_EVERY_SECONDS = 30.0
SHARES_EVERY_SECONDS = 0.5
ALIVE_EVERY_SECONDS = 5.0
PROVEN_WITHIN = timedelta(seconds=15)
"""A ping goes out every ten seconds: alive is what answered the last one."""

MOST_AT_ONCE = 200
"""Events in one piece of work: a batch of marks waits for one piece at most."""

log = structlog.get_logger(__name__)


class UserStreams:
    """The streams of this watcher's share of all accounts of the desk's mode."""

    def __init__(self, post: Post, membership: Membership) -> None:
        """`membership` tells whose an account is; it is only asked."""
        self._post = post
        self._membership = membership
        self._streams: dict[int, UserStream] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._known: dict[int, Account] = {}
        self._told: deque[Told] = deque()
        self._is_posted = False

    async def run(self) -> None:
        """Listen for as long as the watcher lives."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow_accounts())
                group.create_task(self._prove_alive())
        finally:
            for task in self._tasks.values():
                task.cancel()

    async def _follow_accounts(self) -> None:
        while True:
            members = self._membership.members
            ours = {pk: one for pk, one in (await self._accounts()).items() if self._membership.is_ours(pk)}
            for pk in self._tasks.keys() - ours.keys():
                self._tasks.pop(pk).cancel()
                self._streams.pop(pk, None)
            for pk, account in ours.items():
                if pk not in self._tasks:
                    self._listen(account)
            await self._wait_while(members)

    async def _wait_while(self, members: frozenset[UUID]) -> None:
        """Until the accounts are due to be read again, or other watchers share them."""
        ends_at = monotonic() + ACCOUNTS_EVERY_SECONDS
        while monotonic() < ends_at and self._membership.members == members:  # noqa: ASYNC110 -- of a thread
            await asyncio.sleep(SHARES_EVERY_SECONDS)

    async def _accounts(self) -> dict[int, Account]:
        """Whom to listen to; while the database is away, whom we listen to already."""
        try:
            self._known = await sync_to_async(_listened_to, thread_sensitive=False)()
        except DatabaseError as error:
            log.warning("accounts_not_read", error=type(error).__name__)
        return self._known

    def _listen(self, account: Account) -> None:
        try:
            stream = user_stream_for(account, Market.FUTURES)
        except GatewayError as error:
            log.warning("user_stream_refused", account=account.name, code=error.code)
            return
        self._streams[account.pk] = stream
        self._tasks[account.pk] = asyncio.create_task(self._follow(account.pk, stream))

    async def _follow(self, account_id: int, stream: UserStream) -> None:
        async with aclosing(stream.events()) as events:
            async for event in events:
                self._tell(Told(account_id, Market.FUTURES, event))

    def _tell(self, told: Told) -> None:
        """Keep an event for the next piece of work; what comes while one is done is one piece together."""
        self._told.append(told)
        if not self._is_posted:
            self._is_posted = True
            self._post(self._apply_told)

    def _apply_told(self, now: datetime) -> Bells:
        """Apply what came, on the thread that does the work."""
        self._is_posted = False  # first: whatever is told from here on posts anew
        batch: list[Told] = []
        while self._told and len(batch) < MOST_AT_ONCE:
            batch.append(self._told.popleft())
        if self._told and not self._is_posted:
            self._is_posted = True
            self._post(self._apply_told)
        return streams.apply(batch, now)

    async def _prove_alive(self) -> None:
        while True:
            await asyncio.sleep(ALIVE_EVERY_SECONDS)
            since = datetime.now(UTC) - PROVEN_WITHIN
            alive = [
                pk
                for pk, stream in self._streams.items()
                if stream.is_up and stream.alive_at is not None and stream.alive_at >= since
            ]
            if alive:
                self._post(_alive_work(alive))


def _listened_to() -> dict[int, Account]:
    """Every account that may hold something, paused and unhealthy ones too."""
    close_old_connections()
    return Account.objects.filter(archived_at__isnull=True, mode=settings.MODE).in_bulk()


def _alive_work(account_ids: list[int]) -> Work:
    def note(now: datetime) -> Bells:
        streams.note_alive(account_ids, now)
        return Bells()

    return note
