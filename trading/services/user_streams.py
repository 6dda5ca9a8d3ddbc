"""One user stream an account, side by side on the I/O loop; what they tell is posted as work for the rows.

The set of accounts follows the rows: an account that appears, or whose keys change, is listened to within
half a minute, one that is archived is let go. Of several watchers each listens to its share, and to a
leaver's within a second of knowing. Every few seconds the accounts whose streams were just proven alive are
marked fresh.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic
from uuid import UUID

import structlog
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import DatabaseError, OperationalError, close_old_connections

from accounts.models import Account
from accounts.services.gateways import keys_version, user_stream_for
from exchange.errors import GatewayError
from exchange.port import Market
from exchange.streams import UserStream
from trading.services import streams
from trading.services.bells import Bells
from trading.services.spot_only import spot_only
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
        self._keys: dict[int, object] = {}
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
            accounts = await self._accounts()
            self._listen_to({pk: one for pk, one in accounts.items() if self._membership.is_ours(pk)})
            await self._wait_while(members)

    def _listen_to(self, ours: Mapping[int, Account]) -> None:
        """Let go of whoever is no more ours, and listen anew by keys that are new or where a stream broke."""
        for pk in list(self._tasks):
            if pk not in ours or keys_version(ours[pk]) != self._keys[pk] or self._tasks[pk].done():
                self._let_go(pk)
        for pk, account in ours.items():
            if pk not in self._tasks:
                self._listen(account)

    def _let_go(self, account_id: int) -> None:
        task = self._tasks.pop(account_id)
        self._streams.pop(account_id)
        if task.done() and not task.cancelled():
            log.error("user_stream_broke", account_id=account_id, exc_info=task.exception())
        task.cancel()

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
        self._keys[account.pk] = keys_version(account)
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
        """Apply what came, on the thread that does the work. Raises DatabaseError, with nothing forgotten."""
        self._is_posted = False  # first: whatever is told from here on posts anew
        batch: list[Told] = []
        while self._told and len(batch) < MOST_AT_ONCE:
            batch.append(self._told.popleft())
        bells = self._applied(batch, now)
        if self._told and not self._is_posted:
            self._is_posted = True
            self._post(self._apply_told)
        return bells

    def _applied(self, batch: Sequence[Told], now: datetime) -> Bells:
        try:
            return streams.apply(batch, now)
        except OperationalError:  # the database is away: told again with whatever comes next
            self._told.extendleft(reversed(batch))
            raise
        except DatabaseError:  # told again it fails again: what these accounts did is read
            streams.doubt({one.account_id for one in batch})
            raise

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
                self._post(partial(self._note_alive, alive))

    def _note_alive(self, account_ids: Sequence[int], now: datetime) -> Bells:
        """Silence means that nothing happened only where everything that was told is applied."""
        bells = self._apply_told(now) if self._told else Bells()
        if not self._told:
            streams.note_alive(account_ids, now)
        return bells


def _listened_to() -> dict[int, Account]:
    """Every account that may hold futures, paused and unhealthy ones too."""
    close_old_connections()
    accounts = Account.objects.filter(archived_at__isnull=True, mode=settings.MODE).in_bulk()
    return {pk: accounts[pk] for pk in accounts.keys() - spot_only(accounts.values())}
