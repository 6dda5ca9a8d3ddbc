"""Ends what a killed test run left running: a program of its own that outlives the run by one moment.

Programs are started by threads that end before them, so that the kernel's own signal for orphans would come
too early. The run tells each group it starts and each it has ended, on a pipe that closes however it dies.
"""

import atexit
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from threading import Lock

TURN = Lock()


def guard(group: int) -> None:
    """End this process group when we die."""
    _tell(f"+{group}")


def release(group: int) -> None:
    """It has ended: its number may soon be another's."""
    _tell(f"-{group}")


def _tell(line: str) -> None:
    with TURN:
        pipe = _warden().stdin
        assert pipe is not None
        pipe.write(f"{line}\n")
        pipe.flush()


@cache
def _warden() -> "subprocess.Popen[str]":
    words = [sys.executable, "-I", __file__]
    warden = subprocess.Popen(words, stdin=subprocess.PIPE, text=True, start_new_session=True)
    atexit.register(warden.communicate)
    return warden


def left_over(lines: Iterable[str]) -> set[int]:
    """The groups that were guarded and never released."""
    groups: set[int] = set()
    for line in lines:
        (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    return groups


if __name__ == "__main__":
    for left in left_over(sys.stdin):
        with suppress(ProcessLookupError):
            os.killpg(left, signal.SIGKILL)
