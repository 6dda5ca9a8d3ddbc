"""The wire: HTTP/1.1, kept alive, as little of it as known clients need, and streams to those who ask."""

import asyncio
import base64
import hashlib
from typing import cast
from urllib.parse import unquote_to_bytes

from bench.stub.book import words_of
from bench.stub.exchange import Exchange
from bench.stub.outbox import Outbox

HEAD_END = b"\r\n\r\n"
PLACEMENT = b"POST /fapi/v1/order "
LENGTH, LENGTH_LOWER = b"ontent-Length: ", b"ontent-length: "
KEY = b"X-MBX-APIKEY: "
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
NOT_OK = b"HTTP/1.1 %d Not OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: %b\r\n\r\n"
)
WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
SHORT, MIDDLE, MIDDLE_LENGTH = 125, 126, 65_535
MARKS_EVERY_SECONDS = 1.0


class Connection(asyncio.Protocol):
    """One connection; after an upgrade a stream."""

    def __init__(self, exchange: Exchange, outbox: Outbox) -> None:
        self._exchange = exchange
        self._outbox = outbox
        self._left = b""
        self._transport: asyncio.Transport | None = None
        self._is_stream = False
        self._listens_to = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own, which is no subclass

    def connection_lost(self, _error: Exception | None) -> None:
        """Nobody is left to answer."""
        self._transport = None
        if self._tell_marks in self._exchange.mark_listeners:
            self._exchange.mark_listeners.remove(self._tell_marks)
        self._exchange.forget(self._listens_to, self._write)

    def data_received(self, data: bytes) -> None:
        """Answer every whole request; what is not whole waits for the rest."""
        if self._left:
            data = self._left + data
        if self._is_stream:
            self._left = self._hear(data)
            return
        while (end := data.find(HEAD_END)) >= 0:
            body_at = end + 4
            whole = body_at + _content_length(data, end)
            if len(data) < whole:
                break
            body, rest = data[body_at:whole], data[whole:] if len(data) > whole else b""
            if data.startswith(PLACEMENT):
                self._place(data, body)
            else:
                self._take(data[:end], body)
            data = rest
        self._left = data

    def _place(self, data: bytes, body: bytes) -> None:
        exchange = self._exchange
        (status, answered), order = exchange.place(body, _key(data) if exchange.book.held else b"")
        if order is not None and exchange.listeners and exchange.book.is_told:
            self._tell(order.event(), _key(data))
        self._outbox.send(self._write, _wire(status, answered))

    def _take(self, head: bytes, body: bytes) -> None:
        method, target, _ = head.split(b" ", 2)
        path, _, query = target.partition(b"?")
        words = words_of(body or query)
        if b"Upgrade: websocket" in head:
            self._upgrade(head, path, words)
            return
        if path == b"/fapi/v1/listenKey" and method == b"POST":
            status, answered = 200, b'{"listenKey":"%b"}' % _key(head)
        else:
            unquoted = {name: unquote_to_bytes(value) for name, value in words.items()} | {b"key": _key(head)}
            status, answered = self._exchange.answer(method, path, unquoted)
        wire = _wire(status, answered)
        if path.startswith(b"/bench/"):
            self._write(wire)
        else:
            self._outbox.send(self._write, wire)

    def _write(self, wire: bytes) -> None:
        if self._transport is not None:
            self._transport.write(wire)

    # -- streams -----------------------------------------------------------------------------------------

    def _upgrade(self, head: bytes, path: bytes, words: dict[bytes, bytes]) -> None:
        asked = head.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
        # What the protocol asks for; nothing is kept secret by it.
        accepted = base64.b64encode(hashlib.sha1(asked + WEBSOCKET, usedforsecurity=False).digest())
        self._write(SWITCHING % accepted)
        self._is_stream = True
        if b"listenKey" in words or path.startswith(b"/ws/"):
            self._listens_to = words.get(b"listenKey") or path.removeprefix(b"/ws/")
            self._exchange.listeners[self._listens_to].append(self._write)

    def _tell(self, event: bytes, key: bytes) -> None:
        for listener in self._exchange.listeners.get(key, ()):
            self._outbox.send(listener, frame(event, TEXT))

    def _hear(self, data: bytes) -> bytes:
        """Take whole frames off; answer pings, and send marks to whoever subscribes."""
        while (told := _masked_frame(data)) is not None:
            opcode, payload, end = told
            data = data[end:]
            if opcode == PING:
                self._write(frame(payload, PONG))
            elif opcode == CLOSE:
                self._write(frame(payload, CLOSE))
                if self._transport is not None:
                    self._transport.close()
            elif opcode == TEXT and b"markPrice@arr" in payload:
                self._exchange.mark_listeners.append(self._tell_marks)
                self._send_marks()
        return data

    def _tell_marks(self) -> None:
        self._write(frame(self._exchange.tables.mark_events(), TEXT))

    def _send_marks(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._tell_marks()
        asyncio.get_running_loop().call_later(MARKS_EVERY_SECONDS, self._send_marks)


def _wire(status: int, body: bytes) -> bytes:
    if status == 200:  # noqa: PLR2004 - the status is its own name
        return OK % (len(body), body)
    return NOT_OK % (status, len(body), body)


def frame(payload: bytes, opcode: int) -> bytes:
    """One unmasked frame, as a server sends it."""
    length = len(payload)
    if length <= SHORT:
        head = bytes((0x80 | opcode, length))
    elif length <= MIDDLE_LENGTH:
        head = bytes((0x80 | opcode, MIDDLE)) + length.to_bytes(2, "big")
    else:
        head = bytes((0x80 | opcode, MIDDLE + 1)) + length.to_bytes(8, "big")
    return head + payload


def _masked_frame(data: bytes) -> tuple[int, bytes, int] | None:
    """Opcode, payload and end of the first frame of a client; None until it is whole."""
    if len(data) < 6:  # noqa: PLR2004 - two bytes of head and four of mask
        return None
    length, at = data[1] & 0x7F, 2
    if length == MIDDLE:
        length, at = int.from_bytes(data[2:4], "big"), 4
    elif length > MIDDLE:
        length, at = int.from_bytes(data[2:10], "big"), 10
    end = at + 4 + length
    if len(data) < end:
        return None
    mask, payload = data[at : at + 4], data[at + 4 : end]
    return data[0] & 0x0F, bytes(byte ^ mask[place & 3] for place, byte in enumerate(payload)), end


def _content_length(data: bytes, end: int) -> int:
    at = data.find(LENGTH, 0, end)
    if at < 0:
        at = data.find(LENGTH_LOWER, 0, end)
    return 0 if at < 0 else int(data[at + 15 : data.find(b"\r", at)])


def _key(head: bytes) -> bytes:
    at = head.find(KEY)
    if at < 0:
        at = head.lower().find(KEY.lower())
    return b"" if at < 0 else head[at + len(KEY) :].partition(b"\r")[0]
