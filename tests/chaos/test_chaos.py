"""The short run, as everybody's proof: a desk struck and lied to for a minute, and the ledgers agree."""

import json
import os
import subprocess
import sys

import pytest

from tests.processes import ROOT

SEED = os.environ.get("CHAOS_SEED", "1")


@pytest.mark.whole_system
@pytest.mark.drill
@pytest.mark.timeout(900)
def test_a_desk_struck_and_lied_to_doubles_loses_and_invents_nothing() -> None:
    words = [sys.executable, "-m", "tests.chaos", "--size", "short", "--seed", SEED]
    run = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=880)
    assert run.returncode == 0, run.stderr[-8000:] + run.stdout
    told = json.loads(run.stdout)
    found = {kind: told[kind] for kind in ("doubled", "lost", "phantom", "unexplained", "incomplete")}
    assert found == dict.fromkeys(found, 0)
    assert told["orders"] >= 80
    assert sum(sum(times.values()) for times in told["faults"].values()) > 0
    assert sum(told["strikes"].values()) >= 8
    assert told["strikes"]["pause 45 s worker_orders"] >= 1
