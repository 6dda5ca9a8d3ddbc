"""The runner says what happened, also when nothing did."""

import os
import sys
from pathlib import Path

import pytest

from tests.clients.conformance import Result, _read, main, table
from tests.processes import wait_until


def outcome(script: str, seconds: float = 10) -> Result:
    result = Result("client", "1.0")
    _read([sys.executable, "-c", script], dict(os.environ), seconds, result)
    return result


def test_a_client_is_good_when_every_check_passed_and_it_says_so() -> None:
    result = outcome("print('PASS one'); print('noise'); print('PASS two')")
    assert (result.passed, result.is_good) == (["PASS one", "PASS two"], True)
    assert table([result]).endswith("2       0  PASS")


@pytest.mark.parametrize(
    "script",
    [
        "print('PASS one'); print('FAIL two')",
        "print('PASS one'); raise SystemExit(3)",
        "print('nothing was checked')",
    ],
)
def test_a_client_that_failed_crashed_or_checked_nothing_is_not_good(script: str) -> None:
    result = outcome(script)
    assert not result.is_good
    assert "FAIL" in table([result])


def test_a_client_that_does_not_end_is_ended_with_all_it_started() -> None:
    child = (
        "import subprocess; sleeping = subprocess.Popen(['sleep', '60'])\n"
        "print('PASS', sleeping.pid, flush=True); sleeping.wait()"
    )
    result = outcome(child, seconds=1.5)
    assert (result.is_good, result.problem) == (False, "no end within 1.5 s")
    started = Path("/proc") / result.passed[0].split()[1] / "stat"
    wait_until(lambda: not started.exists() or started.read_text().split()[2] == "Z", "the child to end", 5.0)


def test_an_unknown_client_is_refused_before_anything_is_made(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["nobody"])
    assert ended.value.code == 2
    assert "unknown: nobody" in capsys.readouterr().err
