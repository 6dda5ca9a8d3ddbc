import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from project.run import CannotRun, is_free, refuse_taken_ports, wanted_commands, wanted_ports
from project.supervisor import Child, Screen, Supervisor, headline_of
from tests.processes import wait_until

SLEEPS = f"{sys.executable} -c 'import time; time.sleep(60)'"
DEAF = (
    f"{sys.executable} -c 'import os, signal, subprocess, sys, time; "
    'signal.signal(signal.SIGTERM, signal.SIG_IGN); print("deaf", flush=True); '
    'subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]); time.sleep(60)\''
)


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    monkeypatch.setattr("project.supervisor.GRACE_SECONDS", 0.5)
    monkeypatch.setattr("project.supervisor.FIRST_PAUSE_SECONDS", 0.1)
    running = Supervisor(Screen(8))
    yield running
    running.end()


def child(name: str, command: str, place: Path) -> Child:
    return Child(name, command, os.environ, place, Screen(8))


def session_members(leader: int) -> list[int]:
    members = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            members.append(int(entry.name))
    return members


def test_a_taken_port_is_a_message_that_names_its_setting() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not is_free(port)
        with pytest.raises(
            CannotRun, match=f"port {port} is taken: stop what listens there, or set WEB_PORT"
        ):
            refuse_taken_ports({"WEB_PORT": port})


def test_with_a_broker_and_an_exchange_given_none_is_started() -> None:
    # The settings of the tests name both.
    assert not {"valkey", "paper"} & set(wanted_commands())
    assert set(wanted_ports(wanted_commands())) == {"WEB_PORT", "FLOWER_PORT"}


def test_a_child_that_ends_by_itself_is_started_again(supervisor: Supervisor, tmp_path: Path) -> None:
    short = child("short", f"{sys.executable} -c 'print(1)'", tmp_path)
    supervisor.start([short])
    wait_until(lambda: short.returncode == 0, "the first run")
    short.revive()
    time.sleep(0.15)
    short.revive()
    wait_until(
        lambda: (tmp_path / "short.log").read_text().split() == ["1", "1"], "the second run", seconds=5
    )


def test_a_child_that_keeps_failing_is_started_ever_more_rarely(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    failing = child("failing", f"{sys.executable} -c 'raise SystemExit(3)'", tmp_path)
    failing.start()
    began = time.monotonic()
    while time.monotonic() - began < 4.5:
        failing.revive()
        time.sleep(0.02)
    failing.finish()
    said = capfd.readouterr().out
    assert "ended by itself (3); starting again in 1 s" in said
    assert "starting again in 2 s" in said
    assert said.count("ended by itself") == 3


def test_the_end_takes_deaf_children_and_their_children_along(supervisor: Supervisor, tmp_path: Path) -> None:
    deaf, plain = child("deaf", DEAF, tmp_path), child("plain", SLEEPS, tmp_path)
    supervisor.start([deaf])
    supervisor.start([plain])
    wait_until(lambda: "deaf" in (tmp_path / "deaf.log").read_text(), "the deaf child to be deaf")
    leaders = [deaf.pid, plain.pid]
    wait_until(lambda: len(session_members(leaders[0])) == 2, "the grandchild")
    supervisor.end()
    wait_until(lambda: not any(session_members(leader) for leader in leaders), "all to be gone", seconds=5)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent is gone")
def test_a_supervisor_that_is_killed_takes_its_children_along(tmp_path: Path) -> None:
    script = (
        "import os; from pathlib import Path; from project.supervisor import Child, Screen, Supervisor\n"
        f"child = Child('plain', {SLEEPS!r}, os.environ, Path({str(tmp_path)!r}), Screen(8))\n"
        "running = Supervisor(Screen(8)); running.start([child]); print(child.pid, flush=True)\n"
        "running.watch()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        leader = int(killed.stdout.readline())
        wait_until(lambda: bool(session_members(leader)), "the child")
        killed.kill()
    wait_until(lambda: not session_members(leader), "the child to be gone", seconds=5)


WARNING = (
    '{"level": "warning", "event": "stream stale", "account": "paper-0001", "trace_id": "t", "at": "now"}'
)


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ('{"level": "info", "event": "request answered"}', None),
        (WARNING, ("stream stale", "WARNING stream stale account=paper-0001")),
        ('{"level": "critical", "event": "unprotected"}', ("unprotected", "CRITICAL unprotected")),
        ("ValueError: bad", ("ValueError: bad", "ValueError: bad")),
        ("a banner", None),
    ],
)
def test_the_screen_shows_warnings_and_worse(line: str, shown: tuple[str, str] | None) -> None:
    assert headline_of(line) == shown


def test_the_screen_counts_what_repeats_itself(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = 1000.0
    monkeypatch.setattr("project.supervisor.time.monotonic", lambda: moment)
    screen = Screen(8)
    for _ in range(3):
        screen.report("worker", WARNING)
    screen.report("watcher", WARNING)
    moment += 31
    screen.report("worker", WARNING)
    shown = [line.partition("| ")[2] for line in capsys.readouterr().out.splitlines()]
    once = "WARNING stream stale account=paper-0001"
    assert shown == [once, once, f"{once} (and 2 like it)"]
