"""A Postgres of a run's own, where its programs are installed."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests import warden
from tests.processes import ReservedPort

OWNER = "postgres"
"""The server refuses to run as root; Debian's package brings this user."""


class NoPostgres(RuntimeError):
    """Its programs are not on this machine."""


class Postgres:
    """A server on a free loopback port, trusting everybody, its files in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port = ReservedPort()
        self._programs = find_programs()
        self.url = f"postgres://desk@127.0.0.1:{self._port.number}/postgres"

    def start(self) -> None:
        """Make the server's files and start it."""
        self._directory.mkdir(parents=True)
        if os.geteuid() == 0:
            shutil.chown(self._directory, OWNER)
        self._run("initdb", "-D", str(self._directory), "-U", "desk", "--auth=trust", "--no-sync")
        options = f"-c listen_addresses=127.0.0.1 -p {self._port.release()} -k {self._directory}"
        # A machine that loses power is not among the faults; killed programs are.
        told = f"{options} -c fsync=off -c max_connections=400"
        log = str(self._directory / "server.log")
        self._run("pg_ctl", "-D", str(self._directory), "-s", "-w", "-l", log, "-o", told, "start")
        warden.guard(self._group)

    def stop(self) -> None:
        """End it at once, were it started."""
        if not self._pid_file.exists():
            return
        group = self._group
        self._run("pg_ctl", "-D", str(self._directory), "-m", "immediate", "-s", "stop")
        warden.release(group)

    @property
    def _pid_file(self) -> Path:
        return self._directory / "postmaster.pid"

    @property
    def _group(self) -> int:
        return int(self._pid_file.read_text(encoding="ascii").splitlines()[0])

    def _run(self, program: str, *words: str) -> None:
        subprocess.run(
            [*_as_owner(), str(self._programs / program), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=120,
            cwd="/",
        )


def find_programs() -> Path:
    """Where `initdb` and `pg_ctl` are: Debian keeps them off the path. Raises NoPostgres."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which("initdb")
    for place in [*places, *([Path(found).resolve().parent] if found else [])]:
        if (place / "initdb").is_file():
            return place
    raise NoPostgres("initdb is not installed: install postgresql, or name a server by DATABASE_URL")


def _as_owner() -> Sequence[str]:
    if os.geteuid() != 0:
        return ()
    return ("setpriv", f"--reuid={OWNER}", f"--regid={OWNER}", "--init-groups")
