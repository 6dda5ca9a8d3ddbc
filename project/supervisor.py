"""Runs the programs of the desk: shows what matters, revives what ends by itself, leaves nothing behind."""

import ctypes
import json
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import FrameType
from typing import IO

from honcho.printer import Message, Printer

PR_SET_PDEATHSIG = 1
"""prctl(2): the signal a process gets when its parent ends."""
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None

LOG_BYTES = 20_000_000
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
STEADY_SECONDS = 60.0
GRACE_SECONDS = 15.0
LOOK_SECONDS = 0.2
LAST_WORDS_SECONDS = 2.0
PLAIN_ERROR = re.compile(r"^Traceback|\b\w*Error\b:")
REPEAT_SECONDS = 30.0
LONGEST_LINE = 200
LEFT_TO_THE_LOG = frozenset({"event", "level", "at", "logger", "trace_id", "task", "exception", "request"})
SHOWN_LEVELS = frozenset({"warning", "error", "critical"})


class Screen:
    """What the operator sees: lines under the name of their program."""

    def __init__(self, width: int) -> None:
        self._printer = Printer(sys.stdout, width=width)
        self._lock = threading.Lock()
        self._shown_at: dict[tuple[str, str], float] = {}
        self._left_out: dict[tuple[str, str], int] = {}

    def report(self, name: str, line: str) -> None:
        """Show a line of a program's log when it is a warning or worse; the same event once in a while."""
        headline = headline_of(line)
        if headline is None:
            return
        event, text = headline
        now, key = time.monotonic(), (name, event)
        if now - self._shown_at.get(key, -REPEAT_SECONDS) < REPEAT_SECONDS:
            self._left_out[key] = self._left_out.get(key, 0) + 1
            return
        self._shown_at[key] = now
        left_out = self._left_out.pop(key, 0)
        self.show(name, f"{text} (and {left_out} like it)" if left_out else text)

    def show(self, name: str, line: str) -> None:
        """Print one line."""
        with self._lock:
            self._printer.write(Message("line", line, datetime.now().astimezone(), name, None))


def _die_with_parent() -> None:
    """Runs in the child before its program: kill -9 of the supervisor ends its children as well.

    A desk without one would trade on with nobody to revive it, and hold the ports of the next. Children are
    started by the main thread: the kernel counts the end of that thread as the parent's.
    """
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))


class Child:
    """One program in a session of its own, its output in a file that turns over."""

    def __init__(
        self, name: str, command: str, env: Mapping[str, str], log_directory: Path, screen: Screen
    ) -> None:
        self.name = name
        self._words = shlex.split(command)
        self._env = dict(env)
        self._screen = screen
        self._popen: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._started_at = 0.0
        self._pause_seconds = 0.0
        self._again_at: float | None = None
        log_directory.mkdir(parents=True, exist_ok=True)
        self._log = RotatingFileHandler(log_directory / f"{name}.log", maxBytes=LOG_BYTES, backupCount=1)

    @property
    def is_running(self) -> bool:
        """Whether the program lives."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def pid(self) -> int:
        """The process id, that of its session too; 0 before it was started."""
        return 0 if self._popen is None else self._popen.pid

    @property
    def returncode(self) -> int | None:
        """How it ended; None while it lives or before it was started."""
        return None if self._popen is None else self._popen.poll()

    def start(self) -> None:
        """Start it."""
        self._popen = subprocess.Popen(
            self._words,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 -- one system call, no lock
        )
        self._started_at = time.monotonic()
        self._again_at = None
        self._reader = threading.Thread(
            target=self._read, args=(self._popen.stdout,), name=self.name, daemon=True
        )
        self._reader.start()

    def revive(self) -> None:
        """Start it again when it ended by itself, each time after a longer pause."""
        if self.is_running:
            return
        now = time.monotonic()
        if self._again_at is None:
            self._plan_restart(now)
        elif now >= self._again_at:
            self._screen.show(self.name, "starting again")
            self.start()

    def _plan_restart(self, now: float) -> None:
        steady = now - self._started_at > STEADY_SECONDS
        self._pause_seconds = FIRST_PAUSE_SECONDS if steady else self._next_pause_seconds()
        self._again_at = now + self._pause_seconds
        self._screen.show(
            self.name, f"ended by itself ({self.returncode}); starting again in {self._pause_seconds:.0f} s"
        )

    def _next_pause_seconds(self) -> float:
        return max(FIRST_PAUSE_SECONDS, min(self._pause_seconds * 2, LONGEST_PAUSE_SECONDS))

    def signal(self, number: signal.Signals) -> None:
        """Signal the whole session; nothing when none is left."""
        if self._popen is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, number)

    def finish(self) -> None:
        """Leave nothing of it: the program may be gone and a child of its own still there."""
        self.signal(signal.SIGKILL)
        if self._popen is not None:
            self._popen.wait()
        if self._reader is not None:
            self._reader.join(LAST_WORDS_SECONDS)
        self._log.close()

    def _read(self, lines: IO[str]) -> None:
        with lines:
            for line in lines:
                text = line.rstrip("\n")
                self._log.emit(logging.makeLogRecord({"msg": text}))
                self._screen.report(self.name, text)


def headline_of(line: str) -> tuple[str, str] | None:
    """The event of a log line and what to show of it; None when it is no warning and no error."""
    try:
        event = json.loads(line)
    except ValueError:
        return (line, line) if PLAIN_ERROR.search(line) else None
    if not isinstance(event, dict) or event.get("level") not in SHOWN_LEVELS:
        return None
    name = str(event.get("event", ""))
    details = [f"{key}={value}" for key, value in event.items() if key not in LEFT_TO_THE_LOG]
    return name, " ".join([str(event["level"]).upper(), name, *details])[:LONGEST_LINE]


class Supervisor:
    """A set of children that live until the operator, or a signal, says stop."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._layers: list[list[Child]] = []
        self._stops = 0
        self._stop = threading.Event()

    @property
    def is_stopping(self) -> bool:
        """Whether the end was asked for."""
        return self._stop.is_set()

    def listen(self) -> None:
        """Let Ctrl-C, a termination and a closed terminal end the desk; asked twice, at once."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def start(self, children: Iterable[Child]) -> None:
        """Start one more layer; layers end in the reverse order."""
        layer = list(children)
        self._layers.append(layer)
        for child in layer:
            child.start()

    def run_once(self, child: Child) -> int:
        """Run one program to its end, or until the end of the desk; its return code."""
        self._layers.append([child])
        child.start()
        while child.is_running and not self.is_stopping:
            self._stop.wait(LOOK_SECONDS)
        self._end(self._layers.pop())
        return child.returncode or 0

    def watch(self) -> None:
        """Keep every child running until the end is asked for."""
        while not self._stop.wait(LOOK_SECONDS):
            for layer in self._layers:
                for child in layer:
                    child.revive()

    def end(self) -> None:
        """End every child and everything it started."""
        self._stop.set()
        while self._layers:
            self._end(self._layers.pop())

    def _end(self, children: list[Child]) -> None:
        for child in children:
            child.signal(signal.SIGTERM)
        until = time.monotonic() + GRACE_SECONDS
        while any(child.is_running for child in children) and time.monotonic() < until and self._stops < 2:  # noqa: PLR2004
            time.sleep(LOOK_SECONDS / 4)
        for child in children:
            if child.is_running:
                self._screen.show(child.name, "does not end: killed")
            child.finish()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stops += 1
        self._stop.set()
