"""Real servers for tests: each in a session of its own, on a free port, with verbs to stop and to kill."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from redis import Redis
from redis.exceptions import RedisError

from project import valkey
from tests import warden

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 30.0
STOP_SECONDS = 10.0


class ReservedPort:
    """A free loopback port nobody else gets until `release`."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.number: int = self._socket.getsockname()[1]

    def release(self) -> int:
        """Give the port free for the server that starts now."""
        self._socket.close()
        return self.number


def wait_until(true: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Return as soon as it is true. Raises TimeoutError naming what was waited for."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} within {seconds} s")
        time.sleep(0.02)


class Process:
    """One program in its own process group, its output in a file; it ends with us, however we end."""

    def __init__(self, name: str, words: Sequence[str], directory: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self._words = list(words)
        self._env = dict(env)
        self._popen: subprocess.Popen[bytes] | None = None
        directory.mkdir(parents=True, exist_ok=True)
        self.output_path = directory / f"{name}.log"

    @property
    def pid(self) -> int:
        """The process id; that of the group too."""
        assert self._popen is not None, f"{self.name} was not started"
        return self._popen.pid

    @property
    def is_running(self) -> bool:
        """Whether the program lives."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def output(self) -> str:
        """Everything it wrote, over all its starts."""
        return self.output_path.read_text(encoding="utf-8", errors="replace")

    def start(self) -> None:
        """Start it, again or for the first time."""
        self._let_go()
        with self.output_path.open("ab") as output:
            self._popen = subprocess.Popen(
                self._words,
                cwd=ROOT,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        warden.guard(self.pid)

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Ask it to end; kill the whole group when it does not, or leaves a child behind."""
        if self._popen is None:
            return
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(seconds)
        self.kill()

    def kill(self) -> None:
        """Kill -9, the whole group."""
        if self._popen is None:
            return
        self._signal(signal.SIGKILL)
        self._popen.wait(STOP_SECONDS)
        self._let_go()

    def pause(self) -> None:
        """SIGSTOP: it hangs with its connections open."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def tell(self, number: signal.Signals) -> None:
        """One signal to the program alone, as a supervisor sends it."""
        os.kill(self.pid, number)

    def wait_ended(self, seconds: float = STOP_SECONDS) -> int:
        """Wait until it ended by itself; its exit status."""
        assert self._popen is not None, f"{self.name} was not started"
        return self._popen.wait(seconds)

    def _let_go(self) -> None:
        if self._popen is not None:
            warden.release(self.pid)

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)


class Valkey:
    """A real broker on a free port, with a password and an append-only file."""

    def __init__(self, directory: Path) -> None:
        self._port = ReservedPort()
        self._directory = directory
        self.url = f"redis://:test-password@127.0.0.1:{self._port.number}/0"
        self._process: Process | None = None

    def start(self) -> None:
        """Start it with what its file holds, and wait until it answers."""
        words = valkey.command(self._directory, self._port.release(), "test-password")
        self._process = Process("valkey", words, self._directory, os.environ)
        self._process.start()
        wait_until(self._answers, "valkey to answer")

    def stop(self) -> None:
        """End it; its file stays."""
        self._port.release()
        if self._process is not None:
            self._process.stop()

    def kill(self) -> None:
        """Kill -9; its file stays."""
        assert self._process is not None
        self._process.kill()

    def forget(self) -> None:
        """Remove its file: the next start is empty."""
        for path in (self._directory / "appendonlydir").glob("*"):
            path.unlink()

    def client(self) -> Redis:
        """A client of this server; the caller closes it."""
        return Redis.from_url(self.url, socket_timeout=5)

    def _answers(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except RedisError:
                return False


class PaperExchange:
    """A real paper exchange on a free port, with its administration; `words` are further options."""

    def __init__(self, directory: Path, *words: str) -> None:
        self._port = ReservedPort()
        self.url = f"http://127.0.0.1:{self._port.number}"
        self.secret = "paper-admin-secret"
        told = (*words, "--port", str(self._port.number), "--admin-secret", self.secret)
        state = () if "--state" in words else ("--state", str(directory / "paper-state"))
        feed = () if "--feed" in words else ("--feed", "synthetic", "--seed", "7")
        self.process = Process(
            "paper", [sys.executable, "-m", "paper", *feed, *state, *told], directory, os.environ
        )

    def start(self) -> None:
        """Start it, again or for the first time, and wait until it answers."""
        self._port.release()
        self.process.start()
        try:
            wait_until(self._answers, "the paper exchange to answer")
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.process.output[-2000:]}") from error

    def stop(self) -> None:
        """End it; its state stays."""
        self._port.release()
        self.process.stop()

    def get(self, path: str) -> Any:
        """A GET with the administration's secret; the answer's JSON."""
        return self._ask("GET", path, None)

    def post(self, path: str, **body: Any) -> Any:
        """A POST with the administration's secret; the answer's JSON."""
        return self._ask("POST", path, body)

    def delete(self, path: str) -> Any:
        """A DELETE with the administration's secret; the answer's JSON."""
        return self._ask("DELETE", path, None)

    def advance(self, points: int = 1) -> Any:
        """Move a lockstep feed by so many price points."""
        return self.post("/paper/advance", points=points)

    def set_mark(self, symbol: str, price: str | None) -> Any:
        """Jump a mark there and pin it; None releases it. The symbol as the exchange writes it."""
        return self.post("/paper/mark", symbol=symbol, price=price)

    def add_fault(self, **rule: Any) -> Any:
        """Add one fault rule."""
        return self.post("/paper/faults", **rule)

    def ledger(self) -> Any:
        """Everything that happened at the exchange, in order: the oracle."""
        return self.get("/paper/ledger?format=json")

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        connection = HTTPConnection(urlsplit(self.url).netloc, timeout=15)
        try:
            headers = {"X-Paper-Secret": self.secret, "Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            assert answer.status < 400, f"{method} {path}: {answer.status} {text}"  # HTTP
            return json.loads(text)
        finally:
            connection.close()

    def _answers(self) -> bool:
        if not self.process.is_running:
            raise TimeoutError("the paper exchange ended")
        try:
            self.get("/fapi/v1/ping")
        except OSError:
            return False
        return True
