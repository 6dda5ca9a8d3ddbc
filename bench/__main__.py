"""`python -m bench [--quick]`: every figure as one line of JSON. Bounds are told, not enforced."""

import argparse
import importlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import django
from django.core.management import call_command

from bench import postgres
from bench.figures import Figure, report
from bench.stage import POSTGRES, ROOT, SQLITE, Scale, Stage

PLAN = (
    ("fan_out", POSTGRES),
    ("fan_out", SQLITE),
    ("curve", POSTGRES),
    ("per_account", POSTGRES),
    ("after_ready", POSTGRES),
    ("unclear", POSTGRES),
    ("memory", POSTGRES),
    ("gate", SQLITE),
    ("watch", SQLITE),
    ("paper_exchange", SQLITE),
    ("paper_load", SQLITE),
)
AT_ONCE = 4
PARTS = tuple(dict.fromkeys(part for part, _ in PLAN))


def main() -> int:
    """Run every part in a process of its own; 0 when all of them ran."""
    parse = argparse.ArgumentParser(prog="bench", description=__doc__)
    parse.add_argument("--quick", action="store_true", help="few accounts and rounds: whether it works")
    parse.add_argument("--part", choices=PARTS, help="only this one, in this process")
    parse.add_argument("--accounts", type=int, default=0, help="this many instead of the usual steps")
    parse.add_argument("--rounds", type=int, default=0, help="medians of this many instead of the usual")
    parse.add_argument("--database", choices=(SQLITE, POSTGRES), default=SQLITE, help="where the rows are")
    parse.add_argument("--no-streams", action="store_true", help="without a watcher: executions are read")
    told = parse.parse_args()
    if told.part:
        if told.database == POSTGRES and postgres.binaries() is None:
            sys.stderr.write(f"nothing measured on Postgres: {postgres.MISSING}\n")
            return 1
        measure(told.part, Scale(told.quick, told.accounts, told.rounds, not told.no_streams), told.database)
        return 0
    return int(any(_at_once() if told.quick else _one_by_one(told.rounds)))


def _one_by_one(rounds: int) -> list[int]:
    """Each part alone on the machine; their exit codes."""
    more = ["--rounds", str(rounds)] if rounds else []
    return [
        subprocess.run([*_words(part, database), *more], cwd=ROOT, check=False).returncode
        for part, database in _possible()
    ]


def _at_once() -> list[int]:
    """A smoke asks whether everything runs: its figures stand in each other's way and mean nothing."""

    def run(part: str, database: str) -> int:
        return subprocess.run([*_words(part, database), "--quick"], cwd=ROOT, check=False).returncode

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda planned: run(*planned), _possible()))


def _possible() -> list[tuple[str, str]]:
    """The plan without what this machine cannot measure, which is told as such."""
    if postgres.binaries() is not None:
        return list(PLAN)
    note = f"not measured: {postgres.MISSING}"
    report(
        [Figure(f"{part}_{database}", None, "", note=note) for part, database in PLAN if database == POSTGRES]
    )
    return [(part, database) for part, database in PLAN if database != POSTGRES]


def _words(part: str, database: str) -> list[str]:
    return [sys.executable, "-m", "bench", "--part", part, "--database", database]


def measure(part: str, scale: Scale, database: str = SQLITE) -> None:
    """Measure one part on a stage of its own.

    The desk's modules are loaded when its settings are known, and those name the stage.
    """
    with Stage(database) as stage:
        stage.enter_environment()
        stage.start_database()
        django.setup()
        call_command("migrate", verbosity=0)
        module = importlib.import_module(f"bench.{part}")
        for figures in module.measured(stage, scale):
            report(figures)


if __name__ == "__main__":
    sys.exit(main())
