"""`make run` as its user meets it: one command starts everything, one Ctrl-C ends everything, twice."""

import os
import signal
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Process, ReservedPort, wait_until

pytestmark = [pytest.mark.whole_system, pytest.mark.timeout(240)]

GIVEN_BY_THE_TESTS = (
    "REDIS_URL",
    "PAPER_EXCHANGE_URL",
    "DATABASE_URL",
    "SECRET_KEY",
    "BROKER_VISIBILITY_SECONDS",
)


STYLES = ("/static/unfold/css/styles.css", "/static/desk/desk.css", "/static/ninja/swagger-ui.css")


ONLY_RUN_REQUIREMENTS = Path(__file__).parent / "run_requirements"
"""A folder that hides from programs what the tests' environment has beyond a user's."""


class RunningDesk:
    """`python -m project.run` in a place and on ports of its own."""

    def __init__(self, place: Path) -> None:
        self.place = place / "var"
        ports = [ReservedPort() for _ in range(4)]
        self.web, self.flower, self.paper, self.valkey = (port.release() for port in ports)
        env = {key: value for key, value in os.environ.items() if key not in GIVEN_BY_THE_TESTS}
        told = {
            "VAR_DIR": str(self.place),
            "WEB_PORT": str(self.web),
            "FLOWER_PORT": str(self.flower),
            "PAPER_PORT": str(self.paper),
            "VALKEY_PORT": str(self.valkey),
            "PAPER_ACCOUNTS": "3",
            "PYTHONPATH": str(ONLY_RUN_REQUIREMENTS),
        }
        self.process = Process("run", [sys.executable, "-m", "project.run"], place, {**env, **told})
        self.starts = 0

    def start(self) -> None:
        self.starts += 1
        self.process.start()
        wait_until(self._welcomes, "the desk to welcome", seconds=90)

    def interrupt(self) -> None:
        os.kill(self.process.pid, signal.SIGINT)
        wait_until(lambda: not self.process.is_running, "the desk to end", seconds=40)

    def members(self) -> list[str]:
        """The commands of every living process that was told this place."""
        mark = f"VAR_DIR={self.place}".encode()
        return [command for command, environment in environments() if mark in environment]

    def ask(self, port: int, path: str, **headers: str) -> tuple[int, str]:
        connection = HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def credentials(self) -> dict[str, str]:
        lines = (self.place / "credentials.txt").read_text().splitlines()
        return dict(line.split(": ", 1) for line in lines)

    def _welcomes(self) -> bool:
        if not self.process.is_running:
            raise TimeoutError(self.process.output[-3000:])
        return self.process.output.count("Phalanx runs, mode paper.") == self.starts


def environments() -> Iterator[tuple[str, bytes]]:
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            yield (
                (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(),
                (entry / "environ").read_bytes(),
            )
        except OSError:
            continue


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningDesk]:
    desk = RunningDesk(tmp_path)
    yield desk
    if desk.process.is_running:
        desk.interrupt()


def ready(desk: RunningDesk) -> Any:
    return desk.ask(desk.web, "/ready")[0] == 200


def test_one_command_starts_a_desk_that_is_ready_and_one_interrupt_ends_all_of_it(
    running: RunningDesk,
) -> None:
    running.start()
    wait_until(lambda: ready(running), "the desk to be ready", seconds=90)
    told = running.credentials()
    assert (running.place / "credentials.txt").stat().st_mode & 0o777 == 0o600
    assert told["api_token"] not in running.process.output
    assert told["password"] not in running.process.output
    assert running.ask(running.web, "/api/bot/positions")[0] == 401
    assert (
        running.ask(running.web, "/api/bot/positions", Authorization=f"Bearer {told['api_token']}")[0] == 200
    )
    assert running.ask(running.flower, "/")[0] == 401
    assert running.ask(running.web, "/admin/login/")[0] == 200
    assert {running.ask(running.web, path)[0] for path in STYLES} == {200}
    running.interrupt()
    assert running.members() == []

    running.start()
    assert running.credentials() == told
    assert (
        running.ask(running.web, "/api/bot/positions", Authorization=f"Bearer {told['api_token']}")[0] == 200
    )
    running.interrupt()
    assert running.members() == []
