"""Streams: marks of a market, and what happens on an account, each proven alive or visibly not.

aiohttp, not ccxt.pro, for both. ccxt.pro folds ALGO_UPDATE into an order (the id of the order it became and
the reason of a refusal stay in its raw part only), has no reader for ACCOUNT_CONFIG_UPDATE and
listenKeyExpired, keeps caches of orders, positions and balances per instance and needs a full instance of
250 KB per account. A `UserStream` is one task and one socket.
"""

import asyncio
import json
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import aiohttp

from exchange import binance_events
from exchange.errors import GatewayError, ReadFailed
from exchange.futures_gateway import FuturesGateway
from exchange.market_data import CcxtMarketData
from exchange.port import Market, MarkPrice
from exchange.redaction import redact
from exchange.spot_gateway import SpotGateway
from exchange.stream_events import StreamDown, StreamUp, UserEvent

STALE_AFTER_SECONDS = 5.0
POLL_SECONDS = 2.0
PING_SECONDS = 10.0
KEEP_ALIVE_SECONDS = 20 * 60.0
CONNECT_SECONDS = 10.0
FIRST_BACK_OFF_SECONDS = 0.25
LONGEST_BACK_OFF_SECONDS = 30.0
BATCHES_KEPT = 60
SILENT_AFTER_STALE = 3
RETRY_KEEP_ALIVE_SECONDS = 60.0
NO_SUCH_KEY = "-1125"
CLOSING = aiohttp.ClientWSTimeout(ws_close=1.0)

# Path and stream of all marks of a market; spot has no mark, its last prices stand in.
MARK_STREAMS = MappingProxyType(
    {Market.FUTURES: ("/market/ws", "!markPrice@arr@1s"), Market.SPOT: ("/ws", "!miniTicker@arr")}
)

Session = Callable[[], aiohttp.ClientSession]
Watched = Callable[[], Collection[str]]
MOST_STREAMS = 200
"""In one request to subscribe; the venue takes 1,024 on a connection."""


def nobody() -> Collection[str]:
    """No symbol matters more than others."""
    return ()


class StreamLost(Exception):
    """The connection ended or stayed silent; the reason is safe to show."""


class Socket:
    """One WebSocket that answers pings and tells when it was last proven alive."""

    def __init__(
        self, ws: aiohttp.ClientWebSocketResponse, ping_seconds: float, seen: Callable[[], None]
    ) -> None:
        """`seen` is called at every sign of life."""
        self._ws = ws
        self._ping_seconds = ping_seconds
        self._seen = seen

    async def send(self, message: object) -> None:
        """Send one JSON message."""
        await self._ws.send_str(json.dumps(message))

    async def receive(self) -> Any:
        """The next JSON message, or None after a silence of one ping; raises `StreamLost`."""
        asked = False
        while True:
            try:
                message = await self._ws.receive(timeout=self._ping_seconds)
            except TimeoutError:
                if asked:
                    raise StreamLost("no answer to a ping") from None
                asked = True
                await self._ws.ping()
                continue
            self._seen()
            if message.type is aiohttp.WSMsgType.TEXT:
                return _json(message.data)
            if message.type is aiohttp.WSMsgType.PONG:
                return None
            if message.type is aiohttp.WSMsgType.PING:
                await self._ws.pong(message.data)
            elif message.type is not aiohttp.WSMsgType.BINARY:
                raise StreamLost(f"closed ({self._ws.close_code})")


@asynccontextmanager
async def connected(
    session: aiohttp.ClientSession, url: str, ping_seconds: float, seen: Callable[[], None]
) -> AsyncIterator[Socket]:
    """A connected socket; whatever ends it becomes `StreamLost`."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            ws = await session.ws_connect(url, autoping=False, max_msg_size=0, timeout=CLOSING)
    except (aiohttp.ClientError, OSError, TimeoutError) as exc:
        raise StreamLost(redact(f"cannot connect: {exc!r}")) from exc
    try:
        seen()
        yield Socket(ws, ping_seconds, seen)
    except (aiohttp.ClientError, OSError) as exc:
        raise StreamLost(redact(repr(exc))) from exc
    finally:
        await ws.close()


class BackOff:
    """Waits that double up to a bound and start anew after a success; `spread` keeps streams apart."""

    def __init__(self, spread: float = 0.0) -> None:
        """`spread` is a fraction in [0, 1) of each wait that is added to it."""
        self._spread = spread
        self._seconds = FIRST_BACK_OFF_SECONDS

    def succeeded(self) -> None:
        """The next wait is short again."""
        self._seconds = FIRST_BACK_OFF_SECONDS

    async def wait(self) -> None:
        """Wait, longer each time."""
        await asyncio.sleep(self._seconds * (1 + self._spread))
        self._seconds = min(self._seconds * 2, LONGEST_BACK_OFF_SECONDS)


class MarkStream:
    """All marks of a market, batch by batch; polls while the stream is silent, and says so.

    One stream tells all marks. Where it connects and stays silent, the next connection asks for the marks of
    the watched symbols one by one, and the one after that for all again.
    """

    def __init__(
        self,
        session: Session,
        streams_url: str,
        polled: CcxtMarketData,
        *,
        stale_after_seconds: float = STALE_AFTER_SECONDS,
        poll_seconds: float = POLL_SECONDS,
        ping_seconds: float = PING_SECONDS,
        watched: Watched = nobody,
    ) -> None:
        """`polled` answers while the stream does not; `watched` are the symbols that matter most."""
        path, self._stream = MARK_STREAMS[polled.market]
        self._watched = watched
        self._asks_each = False
        self._url = streams_url + path
        self._session = session
        self._polled = polled
        self._stale_after = stale_after_seconds
        self._silent_after = SILENT_AFTER_STALE * stale_after_seconds
        self._poll_seconds = poll_seconds
        self._ping_seconds = ping_seconds
        self._batches: asyncio.Queue[list[MarkPrice]] = asyncio.Queue(BATCHES_KEPT)
        self.is_stale = True
        self.alive_at: datetime | None = None

    async def batches(self) -> AsyncGenerator[Sequence[MarkPrice]]:
        """Batches as they come, for as long as somebody asks; never raises for the exchange's sake."""
        reading = asyncio.create_task(self._read_forever())
        try:
            while True:
                batch = await self._next()
                if batch:
                    yield batch
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading

    async def _next(self) -> Sequence[MarkPrice]:
        patience = self._poll_seconds if self.is_stale and self.alive_at else self._stale_after
        try:
            batch = await asyncio.wait_for(self._batches.get(), patience)
        except TimeoutError:
            self.is_stale = True
            return await self._poll()
        self.is_stale = False
        return batch

    async def _poll(self) -> list[MarkPrice]:
        try:
            return list(await self._polled.fetch_mark_prices())
        except ReadFailed:
            return []

    async def _read_forever(self) -> None:
        back_off = BackOff()
        while True:
            with suppress(StreamLost, GatewayError):
                await self._read_once(back_off)
            await back_off.wait()

    async def _read_once(self, back_off: BackOff) -> None:
        symbol_of = await self._polled.symbol_reader()
        streams = self._streams()
        async with connected(self._session(), self._url, self._ping_seconds, self._saw) as socket:
            await socket.send({"method": "SUBSCRIBE", "params": streams, "id": 1})
            spoken_at = time.monotonic()
            while time.monotonic() - spoken_at < self._silent_after:
                batch = _marks(await socket.receive(), symbol_of)
                if batch:
                    back_off.succeeded()
                    self._keep(batch)
                    spoken_at = time.monotonic()
        # Retired addresses still connect, answer pings and never say anything.
        self._asks_each = not self._asks_each

    def _streams(self) -> list[str]:
        """What to subscribe to: all marks in one stream, or each of the watched."""
        if not self._asks_each or self._polled.market != Market.FUTURES:
            return [self._stream]
        names = self._polled.venue_symbols(self._watched())
        return [f"{name.lower()}@markPrice@1s" for name in names][:MOST_STREAMS] or [self._stream]

    def _keep(self, batch: list[MarkPrice]) -> None:
        if self._batches.full():
            self._batches.get_nowait()  # a consumer this slow is better served by newer marks
        self._batches.put_nowait(batch)

    def _saw(self) -> None:
        self.alive_at = datetime.now(UTC)


class UserStream(ABC):
    """What happens on one account: connects, stays connected, and says when it is not.

    `alive_at` is when the exchange last proved the connection, by a message or by answering a ping: with it,
    silence means that nothing happened. Events before a `StreamUp` may have been missed.
    """

    def __init__(self, session: Session, streams_url: str, *, spread: float, ping_seconds: float) -> None:
        """`spread` in [0, 1) keeps many streams from reconnecting in step."""
        self._session = session
        self._streams_url = streams_url
        self._ping_seconds = ping_seconds
        self._back_off = BackOff(spread)
        self._opened_at: float | None = None
        self.alive_at: datetime | None = None
        self.is_up = False

    async def events(self) -> AsyncGenerator[UserEvent]:
        """Events for as long as somebody asks; never raises for the exchange's sake."""
        while True:
            self._opened_at = None
            try:
                async with aclosing(self._connection_events()) as events:
                    async for event in events:
                        yield event
            except (StreamLost, GatewayError) as exc:
                self._forget_losses_after_a_long_life()
                if self.is_up:
                    self.is_up = False
                    yield StreamDown(datetime.now(UTC), str(exc))
            finally:
                self.is_up = False
            await self._back_off.wait()

    @abstractmethod
    def _connection_events(self) -> AsyncGenerator[UserEvent]:
        """Tell what one connection says, until it is lost."""

    def _opened(self) -> StreamUp:
        self.is_up = True
        self._opened_at = time.monotonic()
        return StreamUp(datetime.now(UTC))

    def _forget_losses_after_a_long_life(self) -> None:
        # Opening proves nothing: asked for anew four times a second each, the listen keys of lines that are
        # cut as soon as they open would leave no weight of the address for anything else.
        if self._opened_at and time.monotonic() - self._opened_at > LONGEST_BACK_OFF_SECONDS:
            self._back_off.succeeded()

    def _saw(self) -> None:
        self.alive_at = datetime.now(UTC)


class FuturesUserStream(UserStream):
    """The futures stream behind a listen key, kept alive each 10 to 20 minutes, asked anew once expired."""

    def __init__(
        self,
        gateway: FuturesGateway,
        session: Session,
        streams_url: str,
        *,
        spread: float = 0.0,
        ping_seconds: float = PING_SECONDS,
        keep_alive_seconds: float = KEEP_ALIVE_SECONDS,
    ) -> None:
        """The gateway asks for the key; the account's keys are needed for nothing else here."""
        super().__init__(session, streams_url, spread=spread, ping_seconds=ping_seconds)
        self._gateway = gateway
        # Keys opened together are kept at different times: a thousand in one minute were half its weight.
        self._keep_alive_seconds = keep_alive_seconds * (1 - spread / 2)

    async def _connection_events(self) -> AsyncGenerator[UserEvent]:
        key = await self._gateway.open_listen_key()
        symbol_of = await self._gateway.symbol_reader()
        kept_at = time.monotonic()
        url = f"{self._streams_url}/private/ws?listenKey={key}"
        async with connected(self._session(), url, self._ping_seconds, self._saw) as socket:
            yield self._opened()
            while True:
                message = await socket.receive()
                for event in _events(message, symbol_of):
                    yield event
                kept_at = await self._kept_alive(kept_at)

    async def _kept_alive(self, kept_at: float) -> float:
        """When the key was kept last; a failed try is made again in a minute, the key lives an hour."""
        if time.monotonic() - kept_at < self._keep_alive_seconds:
            return kept_at
        try:
            await self._gateway.keep_listen_key()
        except GatewayError as error:
            if error.code == NO_SUCH_KEY:
                raise StreamLost("the listen key expired") from error
            return kept_at + RETRY_KEEP_ALIVE_SECONDS
        return time.monotonic()


class SpotUserStream(UserStream):
    """The spot stream over the WebSocket API: subscribed by a signed request, there is no listen key."""

    def __init__(
        self,
        gateway: SpotGateway,
        session: Session,
        streams_url: str,
        *,
        spread: float = 0.0,
        ping_seconds: float = PING_SECONDS,
    ) -> None:
        """The gateway signs the subscription."""
        super().__init__(session, streams_url, spread=spread, ping_seconds=ping_seconds)
        self._gateway = gateway

    async def _connection_events(self) -> AsyncGenerator[UserEvent]:
        symbol_of = await self._gateway.symbol_reader()
        url = f"{self._streams_url}/ws-api/v3"
        async with connected(self._session(), url, self._ping_seconds, self._saw) as socket:
            await self._subscribe(socket)
            yield self._opened()
            while True:
                message = await socket.receive()
                for event in _events(message.get("event") if isinstance(message, dict) else None, symbol_of):
                    yield event

    async def _subscribe(self, socket: Socket) -> None:
        params = self._gateway.signed_stream_params()
        request = {"id": "1", "method": "userDataStream.subscribe.signature", "params": params}
        await socket.send(request)
        answer = await socket.receive()
        if not isinstance(answer, dict) or answer.get("status") != 200:  # noqa: PLR2004 - the status is its own name
            raise StreamLost(redact(f"subscription refused: {answer}"))


def _marks(message: object, symbol_of: Callable[[str], str]) -> list[MarkPrice]:
    try:
        return binance_events.marks(message, symbol_of)
    except (KeyError, TypeError, ValueError, ArithmeticError) as exc:
        raise StreamLost(redact(f"unreadable marks: {exc!r}")) from exc


def _events(message: object, symbol_of: Callable[[str], str]) -> Iterator[UserEvent]:
    """The events of a message; one that cannot be read ends the connection, so that the account is read."""
    if not isinstance(message, Mapping):
        return
    if message.get("e") == binance_events.KEY_EXPIRED:
        raise StreamLost("the listen key expired")
    try:
        yield from list(binance_events.user_events(message, symbol_of))
    except (KeyError, TypeError, ValueError, ArithmeticError) as exc:
        raise StreamLost(redact(f"unreadable message: {exc!r}")) from exc


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
