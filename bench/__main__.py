"""`python -m bench [--quick]`: every figure as one line of JSON. Bounds are told, not enforced."""

import argparse
import importlib
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import django
from django.core.management import call_command

from bench import postgres
from bench.figures import Figure, report
from bench.stage import POSTGRES, ROOT, SQLITE, Scale, Stage

PLAN = (
    (POSTGRES, ("fan_out", "curve", "per_account", "after_ready", "unclear", "memory")),
    (SQLITE, ("fan_out",)),
    (POSTGRES, ("choosing",)),
    (POSTGRES, ("exits",)),
    (POSTGRES, ("flatten",)),
    (POSTGRES, ("protected",)),
    (SQLITE, ("gate",)),
    (SQLITE, ("admin",)),
    (POSTGRES, ("admin",)),
    (SQLITE, ("watch",)),
    (SQLITE, ("paper_exchange",)),
    (SQLITE, ("paper_load",)),
)
"""What is measured together shares a process and a stage: the start of both takes longer than some parts."""

PARTS = tuple(dict.fromkeys(part for _, parts in PLAN for part in parts))
AT_ONCE = 3
TERMINATED = 128 + signal.SIGTERM


def main() -> int:
    """Run every part; 0 when all of them ran."""
    parse = argparse.ArgumentParser(prog="bench", description=__doc__)
    parse.add_argument("--quick", action="store_true", help="few accounts and rounds: whether it works")
    parse.add_argument("--part", action="append", choices=PARTS, help="only this one, or these")
    parse.add_argument("--accounts", type=int, default=0, help="this many instead of the usual steps")
    parse.add_argument("--rounds", type=int, default=0, help="medians of this many instead of the usual")
    parse.add_argument("--database", choices=(SQLITE, POSTGRES), default=SQLITE, help="where the rows are")
    parse.add_argument("--no-streams", action="store_true", help="without a watcher: executions are read")
    told = parse.parse_args()
    # Told to end, it ends what it started: a termination would leave workers and a database behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    if not told.part:
        return int(any(_at_once() if told.quick else _one_by_one(told.rounds)))
    if told.database == POSTGRES and postgres.binaries() is None:
        sys.stderr.write(f"nothing measured on Postgres: {postgres.MISSING}\n")
        return 1
    if not any(set(told.part) <= set(planned) for _, planned in PLAN):
        # Parts that are not measured together want different exchanges: a stage has one.
        codes = [_run(told.database, [part], _more(told)) for part in told.part]
        return int(any(codes))
    scale = Scale(told.quick, told.accounts, told.rounds, not told.no_streams)
    return int(not measure(told.part, scale, told.database))


def _more(told: argparse.Namespace) -> list[str]:
    """What was told beside the parts, to be told again."""
    words = ["--accounts", str(told.accounts), "--rounds", str(told.rounds)]
    return [*words, *(["--quick"] if told.quick else []), *(["--no-streams"] if told.no_streams else [])]


def _one_by_one(rounds: int) -> list[int]:
    """Each entry of the plan alone on the machine; their exit codes."""
    more = ["--rounds", str(rounds)] if rounds else []
    return [_run(database, parts, more) for database, parts in _possible()]


def _at_once() -> list[int]:
    """A smoke asks whether everything runs: its figures stand in each other's way and mean nothing."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(lambda planned: _run(planned[0], planned[1], ["--quick"]), _possible()))


def _run(database: str, parts: Sequence[str], more: Sequence[str]) -> int:
    words = [sys.executable, "-m", "bench", "--database", database, *more]
    for part in parts:
        words += ["--part", part]
    return subprocess.run(words, cwd=ROOT, check=False).returncode


def _possible() -> list[tuple[str, tuple[str, ...]]]:
    """The plan without what this machine cannot measure, which is told as such."""
    if postgres.binaries() is not None:
        return list(PLAN)
    note = f"not measured: {postgres.MISSING}"
    skipped = [(part, database) for database, parts in PLAN for part in parts if database == POSTGRES]
    report([Figure(f"{part}_{database}", None, "", note=note) for part, database in skipped])
    return [planned for planned in PLAN if planned[0] != POSTGRES]


def measure(parts: Sequence[str], scale: Scale, database: str = SQLITE) -> bool:
    """Measure parts on one stage; whether all of them ran. One that fails is told, and costs no other.

    The desk's modules are loaded when its settings are known, and those name the stage.
    """
    with Stage(database) as stage:
        stage.enter_environment()
        stage.start_database()
        django.setup()
        call_command("migrate", verbosity=0)
        ran = [_measure_one(part, stage, scale) for part in parts]
    return all(ran)


def _measure_one(part: str, stage: Stage, scale: Scale) -> bool:
    module = importlib.import_module(f"bench.{part}")
    try:
        for figures in module.measured(stage, scale):
            report(figures)
    except Exception:  # noqa: BLE001 -- a measurement that fails says nothing of the next
        report([Figure(f"{part}_{stage.database}", None, "", note="failed: the error stream says why")])
        traceback.print_exc()
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
