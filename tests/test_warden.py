"""A run of tests ends with everything it started, however it ends itself."""

import os
import subprocess
import sys
from pathlib import Path

from tests.processes import ROOT, wait_until
from tests.warden import left_over

HOLDS_A_PROGRAM = """
import os, sys, threading
from pathlib import Path
from tests.processes import Process
held = Process("held", [sys.executable, "-c", "import time; time.sleep(600)"], Path(sys.argv[1]), os.environ)
starter = threading.Thread(target=held.start)
starter.start()
starter.join()
print(held.pid, flush=True)
threading.Event().wait()
"""

DIES_AT_ITS_START = """
import os
from tests.chaos import ground
from tests.processes import PaperExchange, Process
start = Process.start
def told(process):
    start(process)
    print(process.pid, flush=True)
def deaf(exchange):
    raise TimeoutError("the exchange never answered")
Process.start, PaperExchange._answers = told, deaf
with ground.entered("sqlite", ""):
    pass
"""


def lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_programs_of_a_killed_run_end_with_it_and_not_with_the_thread_that_started_them(
    tmp_path: Path,
) -> None:
    words = [sys.executable, "-c", HOLDS_A_PROGRAM, str(tmp_path)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        held = int(run.stdout.readline())
        assert lives(held)
        run.kill()
    wait_until(lambda: not lives(held), "the program to be gone")


def test_a_chaos_run_that_dies_at_its_start_leaves_no_program(tmp_path: Path) -> None:
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    words = [sys.executable, "-c", DIES_AT_ITS_START]
    run = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert "the exchange never answered" in run.stderr
    started = [int(line) for line in run.stdout.split()]
    assert len(started) == 2  # broker and exchange
    assert not any(map(lives, started))
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_was_ended_is_nobodys_to_end() -> None:
    assert left_over(["+11\n", "+12\n", "-11\n"]) == {12}
