"""Who listens to what, and how a message reaches them without waiting for the slowest."""

import asyncio
import contextlib
import secrets
import time
from collections import defaultdict
from fnmatch import fnmatch
from typing import Any
from urllib.parse import parse_qs, unquote

import orjson
from aiohttp import WSMsgType, web

from paper.engine.refusals import refuse
from paper.limits import Window
from paper.protocol.market_streams import MarketStreams, Payload, Stream, parse_stream

QUEUE_LENGTH = 4096
QUEUE_BYTES = 8 << 20
EARLY_MS = 100
MAX_STREAMS = 1024
MAX_REQUESTS_A_SECOND = 10
LIFETIME_SECONDS = 24 * 3600
MAX_FRAME_BYTES = 1 << 16
LISTEN_KEY_SECONDS = 3600
HEARTBEAT_SECONDS = 180
CATEGORIES = ("public", "market", "private", "pm")


class ListenKeys:
    """One active key per account, for an hour after it was last extended. Times are the wall clock's."""

    def __init__(self, kept: dict[str, str] | None = None) -> None:
        self.by_account: dict[str, str] = dict(kept or {})
        self.owners = {key: account for account, key in self.by_account.items()}
        self.until = {account: time.time() + LISTEN_KEY_SECONDS for account in self.by_account}

    def open(self, account: str) -> str:
        """The active key, extended, or a new one."""
        if account not in self.by_account:
            key = secrets.token_hex(32)
            self.by_account[account], self.owners[key] = key, account
        self.until[account] = time.time() + LISTEN_KEY_SECONDS
        return self.by_account[account]

    def extend(self, account: str) -> str:
        """The active key, extended; -1125 when there is none."""
        if account not in self.by_account:
            raise refuse(-1125)
        return self.open(account)

    def close(self, account: str) -> str | None:
        """End the account's key, and return it."""
        key = self.by_account.pop(account, None)
        self.until.pop(account, None)
        if key:
            self.owners.pop(key, None)
        return key

    def overdue(self) -> list[str]:
        """Accounts whose key has run out."""
        now = time.time()
        return [account for account, until in self.until.items() if until <= now]


class Connection:
    """One WebSocket: its subscriptions and a bounded queue that a writer empties."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        *,
        combined: bool,
        address: str = "",
        transport: asyncio.WriteTransport | None = None,
    ) -> None:
        self.socket = socket
        self.address = address
        self.asked = Window(1)
        self.queued_bytes = 0
        self.transport = transport
        self.combined = combined
        self.streams: set[str] = set()
        self.account = ""
        self.spot_account = ""
        self.listen_key = ""
        self.events: frozenset[str] = frozenset()
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue(QUEUE_LENGTH)

    def send(self, message: bytes) -> None:
        """Queue a message; a reader this slow is disconnected rather than waited for."""
        self.queued_bytes += len(message)
        if self.queue.full() or self.queued_bytes > QUEUE_BYTES:
            self.drop()
            if self.transport is not None:
                self.transport.abort()
        else:
            self.queue.put_nowait(message)

    def may_ask(self, now: float) -> bool:
        """Whether one more request fits into this second."""
        return self.asked.add(1, now) <= MAX_REQUESTS_A_SECOND

    def finish(self) -> None:
        """Close the connection once everything queued is sent."""
        if self.queue.full():
            self.drop()
        else:
            self.queue.put_nowait(None)

    def drop(self) -> None:
        """Close the connection as soon as the writer gets to it."""
        while not self.queue.empty():
            self.queue.get_nowait()
        self.queued_bytes = 0
        self.queue.put_nowait(None)

    async def write(self) -> None:
        """Send what is queued until told to stop."""
        with contextlib.suppress(ConnectionError):
            while (message := await self.queue.get()) is not None:
                self.queued_bytes -= len(message)
                await self.socket.send_frame(message, WSMsgType.TEXT)
            await self.socket.close()

    async def closed(self, writer: asyncio.Task[None]) -> None:
        """Return once what was queued for a dropped connection is out, or after a second."""
        if self.queue.empty() or self.socket.closed:
            writer.cancel()
        await asyncio.wait([writer], timeout=1)
        writer.cancel()


class Hub:
    """All connections by stream and by account."""

    def __init__(self, market: MarketStreams, *, trade_lite: bool = False) -> None:
        self.market = market
        self.trade_lite = trade_lite
        self.connections: set[Connection] = set()
        self.by_stream: defaultdict[str, set[Connection]] = defaultdict(set)
        self.users: defaultdict[str, set[Connection]] = defaultdict(set)
        self.spot_users: defaultdict[str, set[Connection]] = defaultdict(set)
        self.parsed: dict[str, Stream] = {}
        self.sent: dict[str, int] = {}

    # subscriptions

    def subscribe(self, connection: Connection, names: list[str]) -> bool:
        """Add streams; false when one of them is no stream's name, or they are too many.

        A listen key is a stream too: connectors older than its own address subscribe to it by message.
        """
        if len(connection.streams) + len(names) > MAX_STREAMS:
            return False
        owners = self.market.service.listen_keys.owners
        known = {name: parse_stream(name) for name in names if name not in owners}
        if None in known.values():
            return False
        for name, stream in known.items():
            if stream is not None:
                self.parsed[name] = stream
                connection.streams.add(name)
                self.by_stream[name].add(connection)
                self.market.begin(stream)
        for listen_key in [name for name in names if name in owners]:
            self.listen(connection, owners[listen_key], listen_key, frozenset())
        return True

    def unsubscribe(self, connection: Connection, names: list[str]) -> None:
        """Remove streams."""
        for name in names:
            if name == connection.listen_key:
                self.users[connection.account].discard(connection)
            connection.streams.discard(name)
            self.by_stream[name].discard(connection)
            if not self.by_stream[name]:
                del self.by_stream[name]
                self._end(name)

    def _end(self, name: str) -> None:
        stream = self.parsed.pop(name, None)
        self.sent.pop(name, None)
        if stream is not None and stream not in self.parsed.values():
            self.market.end(stream)

    def listen(self, connection: Connection, account: str, listen_key: str, events: frozenset[str]) -> None:
        """Send the account's futures events to this connection, and no longer those of another."""
        if connection.account not in {"", account}:
            self.users[connection.account].discard(connection)
        connection.account, connection.listen_key, connection.events = account, listen_key, events
        self.users[account].add(connection)

    def listen_spot(self, connection: Connection, account: str) -> None:
        """Send the account's spot events to this connection."""
        connection.spot_account = account
        self.spot_users[account].add(connection)

    def leave(self, connection: Connection) -> None:
        """The connection is gone."""
        self.unsubscribe(connection, list(connection.streams))
        for users, account in (
            (self.users, connection.account),
            (self.spot_users, connection.spot_account),
        ):
            users[account].discard(connection)
            if not users[account]:
                del users[account]
        self.connections.discard(connection)

    # sending

    def tell_state(self, connection: Connection, names: list[str]) -> None:
        """Send the present state of streams just subscribed to."""
        for name in names:
            stream = self.parsed.get(name) if name in connection.streams else None
            for payload in self._messages(stream) if stream is not None and stream.has_state else []:
                body: Any = {"stream": name, "data": payload} if connection.combined else payload
                connection.send(orjson.dumps(body))

    def _messages(self, stream: Stream) -> list[Payload]:
        payload = self.market.payload(stream)
        if payload is None:
            return []
        return list(payload) if stream.apart and isinstance(payload, list) else [payload]

    def publish_market(self) -> None:
        """Send every stream that has a listener its present state, serialised once."""
        now_ms = self.market.now_ms
        self.market.round += 1
        for name in list(self.by_stream):
            stream = self.parsed[name]
            if stream.period_ms and 0 <= now_ms - self.sent.get(name, 0) < stream.period_ms - EARLY_MS:
                continue
            self.sent[name] = now_ms
            for payload in self._messages(stream):
                self._publish(name, payload)

    def _publish(self, name: str, payload: Payload) -> None:
        plain = orjson.dumps(payload)
        wrapped = b'{"stream":"' + name.encode() + b'","data":' + plain + b"}"
        for connection in list(self.by_stream.get(name, ())):
            connection.send(wrapped if connection.combined else plain)

    def publish_liquidation(self, symbol: str, payload: Payload) -> None:
        """Tell everybody who listens that somebody was closed."""
        self._publish(f"{symbol.lower()}@forceOrder", payload)
        self._publish("!forceOrder@arr", payload)

    def publish_user(self, account: str, message: dict[str, Any], *, spot: bool) -> None:
        """Send one account's message to whoever listens to it."""
        for connection in list((self.spot_users if spot else self.users).get(account, ())):
            if not self._wants(connection, message["e"]):
                continue
            body: Any = message
            if spot:
                body = {"subscriptionId": 0, "event": message}
            elif connection.combined:
                body = {"stream": connection.listen_key, "data": message}
            connection.send(orjson.dumps(body))

    def _wants(self, connection: Connection, event: str) -> bool:
        """All events unless some were named; TRADE_LITE only when named or switched on."""
        if connection.events:
            return any(fnmatch(event, wanted) for wanted in connection.events)
        return self.trade_lite or event != "TRADE_LITE"

    def wants_lite(self, account: str) -> bool:
        """Whether anybody asked for the account's TRADE_LITE."""
        return any(self._wants(connection, "TRADE_LITE") for connection in self.users.get(account, ()))

    def forsake(self, account: str) -> None:
        """Its listen key has ended: connections stay open and hear nothing any more."""
        self.users.pop(account, None)

    def disconnect(self, accounts: str) -> None:
        """Close every connection, or those of the accounts the pattern names."""
        for connection in list(self.connections):
            owners = (connection.account, connection.spot_account)
            if accounts == "*" or any(owner and fnmatch(owner, accounts) for owner in owners):
                connection.drop()

    def hang_up(self, account: str) -> None:
        """Its listen key was closed: connections end, unless they carry market streams as well."""
        for connection in self.users.pop(account, ()):
            if not connection.streams:
                connection.finish()

    def has_listener(self, account: str, *, spot: bool) -> bool:
        """Whether anybody listens to the account."""
        return bool((self.spot_users if spot else self.users).get(account))


def read_path(path: str, query: str) -> tuple[bool, list[str], str, frozenset[str]]:
    """Combined or not, the streams, the listen key and the event filter that an address names."""
    parts = [unquote(part) for part in path.split("/") if part]
    if parts and parts[0] in CATEGORIES:
        parts = parts[1:]
    kind, tail = (parts[0], parts[1:]) if parts else ("ws", [])
    given = parse_qs(query)
    names = [name for name in "/".join(given.get("streams", [])).split("/") if name]
    listen_key = given.get("listenKey", [""])[0]
    for part in [*tail, *names]:
        if "@" not in part and not part.startswith("!") and not part.isdigit():
            listen_key = part
    streams = [part for part in [*tail, *names] if "@" in part or part.startswith("!")]
    events = frozenset(event for event in given.get("events", [""])[0].split("/") if event)
    return kind == "stream", streams, listen_key, events


def is_stream_path(path: str) -> bool:
    """Whether the path is a market or user stream."""
    parts = [part for part in path.split("/") if part]
    if parts and parts[0] in CATEGORIES:
        parts = parts[1:]
    return bool(parts) and parts[0] in {"ws", "stream"}


def answer_control(hub: Hub, connection: Connection, text: str) -> tuple[dict[str, Any], list[str]]:
    """SUBSCRIBE, UNSUBSCRIBE and LIST_SUBSCRIPTIONS: the answer, and the streams to begin after it."""
    try:
        request = orjson.loads(text)
        method, names = request["method"], request.get("params") or []
        number = request.get("id")
    except (ValueError, KeyError, TypeError, AttributeError):
        return {"error": {"code": 3, "msg": "Invalid JSON"}}, []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        message = "Invalid request: params must be a list of names"
        return {"error": {"code": 2, "msg": message}, "id": number}, []
    if method == "SUBSCRIBE" and hub.subscribe(connection, names):
        return {"result": None, "id": number}, names
    if method == "UNSUBSCRIBE":
        hub.unsubscribe(connection, names)
        return {"result": None, "id": number}, []
    if method == "LIST_SUBSCRIPTIONS":
        return {"result": sorted(connection.streams), "id": number}, []
    return {"error": {"code": 2, "msg": f"Invalid request: {method}"}, "id": number}, []
