"""`make run`: the whole desk on one machine, with everything it needs.

Checks the ports, starts broker and paper exchange, brings the database up to date, makes what a new desk
needs, starts the rest of the Procfile, and ends it all on Ctrl-C. Run again, it goes on with its data.
"""

import os
import socket
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from django.conf import settings
from honcho.environ import parse_procfile
from redis import Redis
from redis.exceptions import RedisError

from project.env import SettingsRefused
from project.supervisor import Child, Screen, Supervisor

REFUSED = 2
FOUNDATIONS = ("valkey", "paper")
START_SECONDS = 60.0


class CannotRun(RuntimeError):
    """The desk cannot start; the message says why and what to do."""


def main() -> int:
    """Run the desk until it is told to stop; the exit code."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    try:
        commands = wanted_commands()
        refuse_taken_ports(wanted_ports(commands))
    except (SettingsRefused, CannotRun) as refused:
        sys.stderr.write(f"{refused}\n")
        return REFUSED
    screen = Screen(width=max(len(name) for name in commands))
    supervisor = Supervisor(screen)
    supervisor.listen()
    try:
        run(supervisor, screen, commands)
    except CannotRun as failure:
        screen.show("desk", str(failure))
        return 1
    finally:
        screen.show("desk", "stopping")
        supervisor.end()
        screen.show("desk", "stopped; everything is kept, `make run` goes on with it")
    return 0


def run(supervisor: Supervisor, screen: Screen, commands: dict[str, str]) -> None:
    """Start everything in its order and watch it. Raises CannotRun."""
    children = {name: new_child(name, command, screen) for name, command in commands.items()}
    supervisor.start(children[name] for name in FOUNDATIONS if name in children)
    screen.show("desk", "starting broker and prices")
    await_answer(supervisor, "the broker", broker_answers)
    if settings.MODE == "paper":
        await_answer(supervisor, "the paper exchange", paper_exchange_answers)
    screen.show("desk", "preparing the database")
    prepare(supervisor, screen)
    if supervisor.is_stopping:
        return
    supervisor.start(child for name, child in children.items() if name not in FOUNDATIONS)
    await_answer(supervisor, "the web server", web_answers)
    if not supervisor.is_stopping:
        sys.stdout.write(welcome())
        sys.stdout.flush()
    supervisor.watch()


def wanted_commands() -> dict[str, str]:
    """The programs of the Procfile that this desk needs, by name."""
    procfile = parse_procfile((settings.BASE_DIR / "Procfile").read_text(encoding="utf-8"))
    given = {"valkey": not settings.EMBEDDED_VALKEY, "paper": not settings.EMBEDDED_PAPER_EXCHANGE}
    return {name: command for name, command in procfile.processes.items() if not given.get(name, False)}


def wanted_ports(commands: Iterable[str]) -> dict[str, int]:
    """The port settings this desk listens on."""
    owners = {"valkey": "VALKEY_PORT", "paper": "PAPER_PORT", "web": "WEB_PORT", "flower": "FLOWER_PORT"}
    return {owners[name]: getattr(settings, owners[name]) for name in commands if name in owners}


def refuse_taken_ports(ports: dict[str, int]) -> None:
    """Raises CannotRun naming every port that another program holds, and the setting that moves it."""
    taken = [
        f"  - port {port} is taken: stop what listens there, or set {name}"
        for name, port in ports.items()
        if not is_free(port)
    ]
    if taken:
        raise CannotRun("\n".join(["The desk cannot start:", *taken]))


def is_free(port: int) -> bool:
    """Whether a server can listen on this loopback port."""
    with socket.socket() as probe:
        # As servers do: a port that only waits out its last connections is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def new_child(name: str, command: str, screen: Screen) -> Child:
    """A program of the desk that finds our Python first and writes its log under VAR_DIR."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    env = {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}
    return Child(name, command, env, settings.VAR_DIR / "logs", screen)


def prepare(supervisor: Supervisor, screen: Screen) -> None:
    """Bring the database up to date and make what a new desk needs. Raises CannotRun."""
    child = new_child("bootstrap", "python manage.py bootstrap", screen)
    if supervisor.run_once(child) and not supervisor.is_stopping:
        raise CannotRun(
            f"the database could not be prepared: read {settings.VAR_DIR / 'logs' / 'bootstrap.log'}"
        )


def await_answer(supervisor: Supervisor, what: str, answers: Callable[[], bool]) -> None:
    """Wait until a server answers. Raises CannotRun when it takes too long."""
    until = time.monotonic() + START_SECONDS
    while not supervisor.is_stopping and not answers():
        if time.monotonic() > until:
            raise CannotRun(f"{what} does not answer: read the logs in {settings.VAR_DIR / 'logs'}")
        time.sleep(0.1)


def broker_answers() -> bool:
    """Whether the broker answers."""
    redis = Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2)
    with redis, suppress(RedisError):
        return bool(redis.ping())
    return False


def paper_exchange_answers() -> bool:
    """Whether the paper exchange answers."""
    return answers_http(settings.PAPER_EXCHANGE_URL, "/fapi/v1/ping")


def web_answers() -> bool:
    """Whether the web server answers."""
    return answers_http(f"http://127.0.0.1:{settings.WEB_PORT}", "/health")


def answers_http(url: str, path: str) -> bool:
    """Whether a GET is answered with 200."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200  # noqa: PLR2004  # HTTP's own number
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def welcome() -> str:
    """Where everything is, and how to stop."""
    web = f"http://127.0.0.1:{settings.WEB_PORT}"
    lines = {
        "desk": f"{web}/desk/",
        "admin": f"{web}/admin/",
        "API": f"{web}/api/bot/docs",
        "Flower": f"http://127.0.0.1:{settings.FLOWER_PORT}/",
        "paper exchange": settings.PAPER_EXCHANGE_URL if settings.MODE == "paper" else "none",
        "login and token": str(settings.VAR_DIR / "credentials.txt"),
        "logs": str(settings.VAR_DIR / "logs"),
        "stop": "Ctrl-C",
    }
    width = max(map(len, lines))
    body = "\n".join(f"  {name.ljust(width)}  {value}" for name, value in lines.items())
    return f"\nPhalanx runs, mode {settings.MODE}.\n\n{body}\n\n"


if __name__ == "__main__":
    sys.exit(main())
