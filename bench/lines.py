"""Connections with as little of a client as signs a request, reads an answer, or hears a stream."""

import asyncio
import hashlib
import hmac
import time
from typing import Any, cast
from urllib.parse import urlsplit

import orjson

HEAD_END = b"\r\n\r\n"
LENGTH = b"content-length: "
EVENT_TIME = b'"E":'
LONGEST_HEAD, EXTENDED, EXTENDED_FURTHER = 10, 126, 127


class Line(asyncio.Protocol):
    """One connection; one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._answer: asyncio.Future[bytes] | None = None
        self.lock = asyncio.Lock()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready to ask."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclass of it

    def data_received(self, data: bytes) -> None:
        """Answer once the whole body is there."""
        self._buffer += data
        head, found, body = self._buffer.partition(HEAD_END)
        if not found or self._answer is None:
            return
        length = int(head.lower().partition(LENGTH)[2].partition(b"\r\n")[0])
        if len(body) >= length:
            self._buffer = b""
            answer, self._answer = self._answer, None
            answer.set_result(head[:15] + b" " + body)

    def connection_lost(self, _error: Exception | None) -> None:
        """Whoever waits hears of it."""
        if self._answer is not None:
            self._answer.set_exception(ConnectionResetError("the exchange hung up"))

    async def ask(self, request: bytes) -> Any:
        """The parsed body. Raises RuntimeError unless the status is 200."""
        async with self.lock:
            answer = self._answer = asyncio.get_running_loop().create_future()
            if self._transport is None:
                raise ConnectionResetError("not connected")
            self._transport.write(request)
            text = await answer
        if not text.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(text[:300].decode())
        return orjson.loads(text[16:])

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


class Listener(asyncio.Protocol):
    """One connection to a stream; notes when each message is complete, and parses no more than its time."""

    def __init__(self, url: str, path: str) -> None:
        self._url = url
        self._transport: asyncio.Transport | None = None
        self._request = (
            f"GET {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        ).encode()
        self._buffer = bytearray()
        self._is_open = False
        self.late_ms: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the stream."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    async def open(self) -> None:
        """Connect."""
        host, port = _place(self._url)
        await asyncio.get_running_loop().create_connection(lambda: self, host, port)

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Take whole frames off the buffer; a server's are not masked."""
        self._buffer += data
        if not self._is_open:
            end = self._buffer.find(HEAD_END)
            if end < 0:
                return
            del self._buffer[: end + len(HEAD_END)]
            self._is_open = True
        while (frame := _frame(self._buffer)) is not None:
            begin, end = frame
            told = self._buffer.find(EVENT_TIME, begin, end) + len(EVENT_TIME)
            event_ms = int(self._buffer[told : self._buffer.find(b",", told)])
            self.late_ms.append(time.time() * 1000 - event_ms)
            del self._buffer[:end]


def _frame(buffer: bytearray) -> tuple[int, int] | None:
    """Where the payload of the first frame begins and ends; None until it is whole."""
    if len(buffer) < LONGEST_HEAD:
        return None
    begin, length = 2, buffer[1]
    if length == EXTENDED:
        begin, length = 4, int.from_bytes(buffer[2:4], "big")
    elif length == EXTENDED_FURTHER:
        begin, length = 10, int.from_bytes(buffer[2:10], "big")
    return (begin, begin + length) if len(buffer) >= begin + length else None


def _place(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 0


async def connect(url: str, count: int) -> list[Line]:
    """So many connections."""
    loop, (host, port) = asyncio.get_running_loop(), _place(url)
    return [(await loop.create_connection(Line, host, port))[1] for _ in range(count)]


def get(path: str, secret: str = "") -> bytes:
    """A question without a signature."""
    return f"GET {path} HTTP/1.1\r\nHost: exchange\r\nX-Paper-Secret: {secret}\r\n\r\n".encode()


def signed(key: str, path: str, words: str) -> bytes:
    """A signed POST of the account whose secret is its key."""
    body = f"{words}&timestamp={time.time_ns() // 1_000_000}&recvWindow=60000"
    body += "&signature=" + hmac.new(key.encode(), body.encode(), hashlib.sha256).hexdigest()
    return (
        f"POST {path} HTTP/1.1\r\nHost: exchange\r\nX-MBX-APIKEY: {key}\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
