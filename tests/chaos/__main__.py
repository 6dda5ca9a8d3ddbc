"""`python -m tests.chaos`: the whole desk under faults and strikes; the seed first, the figures last."""

import argparse
import faulthandler
import importlib
import os
import random
import signal
import sys
from types import FrameType

import django
from django.core.management import call_command

from tests.chaos import ground
from tests.chaos.sizes import SIZES


def main() -> int:
    """Run once; 0 when nothing was doubled, lost, phantom or unexplained and all of it was complete."""
    parse = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parse.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parse.add_argument("--size", choices=sorted(SIZES), default="usual")
    parse.add_argument("--database", choices=(ground.SQLITE, ground.POSTGRES), default=ground.SQLITE)
    told = parse.parse_args()
    server_url = os.environ.get("DATABASE_URL", "")
    kind = ground.POSTGRES if server_url.startswith("postgres") else told.database
    again = f"make chaos SEED={told.seed} SIZE={told.size} DB={kind}"
    sys.stderr.write(f"seed {told.seed} ({again})\n")
    faulthandler.register(signal.SIGUSR1)  # where every thread is, when a run seems to stand still
    # What was started ends with us, also when we are told to.
    signal.signal(signal.SIGTERM, _interrupted)
    with ground.entered(kind, server_url if kind == ground.POSTGRES else "") as entered:
        django.setup()
        call_command("migrate", verbosity=0)
        result = int(importlib.import_module("tests.chaos.run").play(entered, SIZES[told.size], told.seed))
    sys.stderr.write(f"seed {told.seed}: {'passed' if result == 0 else 'FAILED, again by: ' + again}\n")
    return result


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
