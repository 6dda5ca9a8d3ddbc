"""A whole desk for tests: the programs of the Procfile on the test database, each of them killable."""

import os
import shlex
import sys
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from urllib.parse import quote

from django.db import connection
from django.utils import timezone
from honcho.environ import parse_procfile
from redis import Redis
from redis.exceptions import RedisError

from exchange import heartbeat
from project.schedule import install
from tests.processes import ROOT, PaperExchange, Process, ReservedPort, Valkey, wait_until

LIVE_SECONDS = 120.0
"""All programs load at once, on a machine that may have other things to do."""

WORKERS = ("worker_orders", "worker_exits", "worker_monitor")
WATCHERS = ("watcher", "watcher_2")
QUEUES = {
    "worker_orders": ("orders",),
    "worker_exits": ("exits",),
    "worker_monitor": ("lookups", "monitor", "default"),
}


def database_url_of_test() -> str:
    """The address under which another process reaches the database of this test."""
    told = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{told['NAME']}"
    login = f"{quote(told['USER'], safe='')}:{quote(told['PASSWORD'], safe='')}"
    return f"postgres://{login}@{quote(told['HOST'], safe='')}:{told['PORT']}/{told['NAME']}"


class Desk:
    """Real workers, beat, watchers and web on the broker, paper exchange and database of the test.

    Programs go by their names in the Procfile; `process(name)` has kill, pause, resume, stop and start.
    """

    def __init__(self, directory: Path, valkey: Valkey, paper: PaperExchange, **settings: str) -> None:
        self.valkey = valkey
        self.paper = paper
        self._web_port = ReservedPort()
        self.web_url = f"http://127.0.0.1:{self._web_port.number}"
        self._directory = directory
        self._env = {
            **os.environ,
            "DATABASE_URL": database_url_of_test(),
            "REDIS_URL": valkey.url,
            "PAPER_EXCHANGE_URL": paper.url,
            "WEB_PORT": str(self._web_port.number),
            "LOG_LEVEL": "INFO",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "PYTHONUNBUFFERED": "1",
            **settings,
        }
        self._commands = dict(parse_procfile((ROOT / "Procfile").read_text(encoding="utf-8")).processes)
        self._processes: dict[str, Process] = {}

    @property
    def environment(self) -> dict[str, str]:
        """What every program of the desk is told."""
        return dict(self._env)

    def start(self, *names: str) -> None:
        """Start these programs; wait until the workers, beat and watchers among them say that they live."""
        if "beat" in names:
            install(timezone.now())
        if "web" in names:
            self._web_port.release()
        for name in names:
            self.process(name).start()
        self._await(names)

    def start_all(self) -> None:
        """Start everything but the broker, the paper exchange and Flower."""
        self.start(*WORKERS, "beat", *WATCHERS, "web")

    def process(self, name: str, copy: int = 1) -> Process:
        """One program; a second `copy` of the same is another process, found again by `name_copy`."""
        key = name if copy == 1 else f"{name}_{copy}"
        if key not in self._processes:
            words = shlex.split(self._commands[name].replace("@%h", f"-{copy}@%h"))
            self._processes[key] = Process(key, words, self._directory, self._env)
        return self._processes[key]

    def changed(self, key: str, name: str, **swaps: str) -> Process:
        """The program `name` under another key, words of its command swapped for others."""
        words = [swaps.get(word, word) for word in shlex.split(self._commands[name])]
        self._processes[key] = Process(key, words, self._directory, self._env)
        return self._processes[key]

    def stop(self) -> None:
        """End every program of the desk and all they started."""
        for process in self._processes.values():
            process.stop()
        with suppress(OSError):
            self._web_port.release()

    def output(self) -> str:
        """Everything the programs wrote."""
        return "\n".join(process.output for process in self._processes.values())

    def _await(self, names: Iterable[str]) -> None:
        with self.valkey.client() as redis:
            for name in names:
                wait_until(partial(self._lives, redis, name), f"{name} to say that it lives", LIVE_SECONDS)

    def _lives(self, redis: Redis, name: str) -> bool:
        process = self.process(name)
        if not process.is_running:
            raise TimeoutError(f"{name} ended:\n{process.output[-3000:]}")
        with suppress(RedisError):
            keys = {"beat": heartbeat.BEAT} | {one: heartbeat.watcher_key(one) for one in WATCHERS}
            if name in QUEUES:
                return all(redis.exists(heartbeat.worker_key(queue, process.pid)) for queue in QUEUES[name])
            return name not in keys or heartbeat.age_seconds(redis, keys[name]) is not None
        return False
