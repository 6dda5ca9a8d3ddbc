"""The stage of a replay: its own place, broker, database, paper exchange and workers, all gone at its end."""

import os
import secrets
import shutil
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from project import valkey
from project.env import machine_environment
from project.supervisor import Child, Screen, Supervisor

WORKERS = ("orders", "exits", "lookups,monitor,default")
"""One worker process for each of these sets of queues, as in the Procfile."""

PAPER_SEED = 7

TRADING_RULES = frozenset({"ROUTE_POLICY", "EXIT_POLICY"})
"""Settings that say how to trade; these and all `LIMIT_*` a replay shares with its caller."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is replayed. `days` of trading after `warmup_days` of past; `real_minutes` > 0: at speed 1."""

    data: Path
    symbols: str
    timeframe: str
    days: float
    warmup_days: float
    accounts: int
    runner: bool
    gate_off: str
    place: Path
    real_minutes: float = 0.0

    @property
    def is_lockstep(self) -> bool:
        """Whether the driver moves the feed, point by point."""
        return not self.real_minutes


class Stage:
    """The programs of one replay."""

    def __init__(self, plan: Plan, screen: Screen) -> None:
        self._plan = plan
        self._screen = screen
        self._valkey_port, self._paper_port = free_port(), free_port()
        self._secret = secrets.token_urlsafe(16)
        self._password = secrets.token_urlsafe(16)
        if plan.place.exists():
            shutil.rmtree(plan.place)
        plan.place.mkdir(parents=True)

    def environment(self) -> dict[str, str]:
        """What every program of the replay is told: of the caller's desk only its trading rules."""
        plan = self._plan
        return {
            **machine_environment(os.environ),
            **{name: value for name, value in os.environ.items() if _is_rule(name)},
            "ENV_FILE": os.devnull,
            "MODE": "paper",
            "CLOCK": "replay",
            "VAR_DIR": str(plan.place),
            "REDIS_URL": f"redis://:{self._password}@127.0.0.1:{self._valkey_port}/0",
            "PAPER_EXCHANGE_URL": f"http://127.0.0.1:{self._paper_port}",
            "PAPER_ADMIN_SECRET": self._secret,
            "PAPER_ACCOUNTS": str(plan.accounts),
            "RUNNER": "on" if plan.runner else "off",
            "DEMO_SIGNALS": "on",
            "GATE_OFF": plan.gate_off,
            # A replayed minute lasts milliseconds: a budget by the minute would measure nothing.
            "WEIGHT_LIMIT_PER_MINUTE": "0",
            "LOG_LEVEL": os.environ.get("LOG_LEVEL", "WARNING"),
        }

    def foundations(self) -> list[Child]:
        """The broker and the paper exchange."""
        words = valkey.command(self._plan.place / "valkey", self._valkey_port, self._password)
        return [self._child("valkey", " ".join(words)), self._child("paper", self.paper_command())]

    def database(self) -> Child:
        """What makes the tables."""
        return self._child("migrate", "python manage.py migrate --no-input --verbosity 0")

    def programs(self) -> list[Child]:
        """The workers, and in real time beat and a watcher too."""
        workers = [
            self._child(f"worker_{queues.partition(',')[0]}", _worker_command(queues)) for queues in WORKERS
        ]
        if self._plan.is_lockstep:
            return workers
        return [
            *workers,
            self._child("beat", "python -m celery -A project beat"),
            self._child("watcher", "python manage.py watch_prices"),
        ]

    def driver(self) -> list[str]:
        """The words of the driver, which speaks to the terminal itself."""
        plan = self._plan
        words = [sys.executable, "manage.py", "replay_drive", "--days", str(plan.days)]
        return words if plan.is_lockstep else [*words, "--real-minutes", str(plan.real_minutes)]

    def paper_command(self) -> str:
        """The words that start the paper exchange."""
        plan = self._plan
        words = [
            "python -m paper",
            "--port",
            str(self._paper_port),
            "--feed replay",
            "--data",
            str(plan.data),
        ]
        words += ["--symbols", plan.symbols, "--timeframe", plan.timeframe]
        words += ["--warmup-days", str(plan.warmup_days), "--seed", str(PAPER_SEED), "--weight-limit 0"]
        # One word: one secret in sixty-four begins with a dash, which alone would be read as an option.
        words += [f"--admin-secret={self._secret}", "--state", str(plan.place / "paper")]
        return " ".join([*words, "--lockstep" if plan.is_lockstep else "--speed 1"])

    def _child(self, name: str, command: str) -> Child:
        return Child(name, command, self.environment(), self._plan.place / "logs", self._screen)


def raise_stage(stage: Stage, supervisor: Supervisor) -> None:
    """Start broker and exchange, make the database, then start the workers."""
    supervisor.start(stage.foundations())
    supervisor.run_once(stage.database())
    supervisor.start(stage.programs())


def replay_place() -> Path:
    """Where a replay keeps its rows and logs, apart from the desk's."""
    return Path(settings.VAR_DIR) / "replay"


def _is_rule(name: str) -> bool:
    return name in TRADING_RULES or name.startswith("LIMIT_")


def free_port() -> int:
    """A loopback port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _worker_command(queues: str) -> str:
    name = queues.partition(",")[0]
    return (
        f"python -m celery -A project worker -n {name}-replay@%h -Q {queues} -P threads -c 8"
        " --without-gossip --without-mingle"
    )


def candle_symbols(data: Path, timeframe: str) -> Sequence[str]:
    """The symbols that have a candle file of this timeframe."""
    files = sorted(data.glob(f"*-{timeframe}.csv*")) + sorted(data.glob(f"*-{timeframe}.zip"))
    return sorted({file.name.partition("-")[0] for file in files})
