"""A line to the broker that fails as networks and crashes do, between one message and the next."""

import re
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock, Thread
from urllib.parse import urlsplit, urlunsplit

CHUNK = 1 << 16
MESSAGE_ID = re.compile(rb'"id": ?"([0-9a-f-]{36})"')
PUSH, POP = b"LPUSH", b"BRPOP"


@dataclass(slots=True, eq=False)
class Line:
    """One connection and the broker's end of it. A deaf line stays open and carries nothing."""

    client: socket.socket
    broker: socket.socket
    is_deaf: bool = False
    asked: bytes = b""
    is_reply_lost: bool = False

    def hang_up(self) -> None:
        """On both; whoever reads from either is told."""
        for end in (self.client, self.broker):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of both, once nobody reads from them."""
        self.client.close()
        self.broker.close()


@dataclass(slots=True)
class Trap:
    """What is done once, when a message of a task passes; the message itself goes no further."""

    task: bytes
    spring: Callable[[], None]


class BrokerProxy:
    """Carries every connection to the broker whole, until a verb says otherwise.

    Tasks are named in full. `delivered` counts how often each message id was popped by somebody.
    """

    def __init__(self, broker_url: str) -> None:
        parts = urlsplit(broker_url)
        self._broker = (parts.hostname or "127.0.0.1", parts.port or 6379)
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.url = urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition(':')[0]}:{port}"))
        self.delivered: Counter[str] = Counter()
        self.lost_replies = 0
        self._lines: dict[Line, Thread] = {}
        self._lock = Lock()
        self._on_push: Trap | None = None
        self._on_pop: Trap | None = None
        self._unanswered: bytes | None = None
        self._accepting = Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def close(self) -> None:
        """Hang up on everybody."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        with self._lock:
            lines = dict(self._lines)
        for line, carrying in lines.items():
            line.hang_up()
            carrying.join()

    def black_hole(self) -> None:
        """Every connection there is carries nothing any more and nobody is told; new ones are well."""
        with self._lock:
            for line in self._lines:
                line.is_deaf = True

    def lose_the_reply_to(self, task: str) -> None:
        """The next push of the task reaches the broker, whose answer is lost with the connection."""
        self._unanswered = task.encode()

    def on_push(self, task: str, spring: Callable[[], None]) -> None:
        """Instead of the next push of the task."""
        self._on_push = Trap(task.encode(), spring)

    def on_pop(self, task: str, spring: Callable[[], None]) -> None:
        """The next message of the task leaves the broker, and instead of its arrival."""
        self._on_pop = Trap(task.encode(), spring)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                line = Line(client, socket.create_connection(self._broker, timeout=5))
            except OSError:
                client.close()
                continue
            line.broker.settimeout(None)
            carrying = Thread(target=self._carry, args=(line,), daemon=True)
            with self._lock:
                self._lines[line] = carrying
            carrying.start()

    def _carry(self, line: Line) -> None:
        """Both ways until either ends."""
        back = Thread(target=self._pump, args=(self._carry_back, line), daemon=True)
        back.start()
        self._pump(self._carry_there, line)
        back.join()
        with self._lock:
            del self._lines[line]
        line.close()

    def _pump(self, carry: Callable[[Line], bool], line: Line) -> None:
        with suppress(OSError):
            while carry(line):
                pass
        line.hang_up()

    def _carry_there(self, line: Line) -> bool:
        data = line.client.recv(CHUNK)
        if not data or line.is_deaf:
            return bool(data)
        line.asked = data
        if self._on_push is not None and PUSH in data and self._on_push.task in data:
            trap, self._on_push = self._on_push, None
            trap.spring()
            return False
        if self._unanswered is not None and PUSH in data and self._unanswered in data:
            self._unanswered, line.is_reply_lost = None, True
        line.broker.sendall(data)
        return True

    def _carry_back(self, line: Line) -> bool:
        data = line.broker.recv(CHUNK)
        if not data or line.is_deaf:
            return bool(data)
        if line.is_reply_lost:
            self.lost_replies += 1
            return False
        if POP in line.asked:
            self.delivered.update(found.decode() for found in MESSAGE_ID.findall(data))
            if self._on_pop is not None and self._on_pop.task in data:
                trap, self._on_pop = self._on_pop, None
                trap.spring()
                return False
        line.client.sendall(data)
        return True
