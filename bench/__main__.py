"""`python -m bench [--quick]`: every figure as one line of JSON. Bounds are told, not enforced."""

import argparse
import importlib
import subprocess
import sys

import django
from django.core.management import call_command

from bench import postgres
from bench.figures import report
from bench.stage import POSTGRES, ROOT, SQLITE, Scale, Stage

PARTS = ("fan_out", "gate", "watch", "paper_exchange", "paper_load")


def main() -> int:
    """Run every part in a process of its own; 0 when all of them ran."""
    parse = argparse.ArgumentParser(prog="bench", description=__doc__)
    parse.add_argument("--quick", action="store_true", help="few accounts and rounds: whether it works")
    parse.add_argument("--part", choices=PARTS, help="only this one, in this process")
    parse.add_argument("--accounts", type=int, default=0, help="this many instead of the usual steps")
    parse.add_argument("--rounds", type=int, default=0, help="medians of this many instead of the usual")
    parse.add_argument("--database", choices=(SQLITE, POSTGRES), default=SQLITE, help="where the rows are")
    told = parse.parse_args()
    if told.database == POSTGRES and postgres.binaries() is None:
        sys.stderr.write(f"nothing measured on Postgres: {postgres.MISSING}\n")
        return 1
    if told.part:
        measure(told.part, Scale(told.quick, told.accounts, told.rounds), told.database)
        return 0
    return int(any(_at_once() if told.quick else _one_by_one()))


def _one_by_one() -> list[int]:
    """Each part alone on the machine; their exit codes."""
    return [subprocess.run(_words(part), cwd=ROOT, check=False).returncode for part in PARTS]


def _at_once() -> list[int]:
    """A smoke asks whether everything runs: its figures stand in each other's way and mean nothing."""
    running = [subprocess.Popen([*_words(part), "--quick"], cwd=ROOT) for part in PARTS]
    return [part.wait() for part in running]


def _words(part: str) -> list[str]:
    return [sys.executable, "-m", "bench", "--part", part]


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
