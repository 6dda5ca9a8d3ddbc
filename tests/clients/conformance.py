"""`make conformance`: every client against a paper exchange of its own, a table at the end, an honest exit.

Environments live under `.venv-clients/<client>`, made from `tests/clients/<client>/requirements.txt` and made
again when that changes. Only some: `make conformance CLIENTS="connector nautilus"`.
"""

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from tests.clients.checks import PRICES
from tests.processes import ROOT, PaperExchange

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = ROOT / ".venv-clients"
SYMBOLS = ",".join([*PRICES, "XRPUSDT", "ADAUSDT"])
PACKAGES = {
    "python_binance": "python-binance",
    "official_sdk": "binance-sdk-derivatives-trading-usds-futures",
    "connector": "binance-futures-connector",
    "nautilus": "nautilus_trader",
    "freqtrade": "freqtrade",
}
CCXT = "ccxt"
SECONDS_A_CLIENT = 300


class NotMade(Exception):
    """The environment of a client is missing, or could not be made; the text says why."""


@dataclass(slots=True)
class Result:
    """What a client did: its lines `PASS ...` and `FAIL ...` counted, and how its script ended."""

    client: str
    version: str
    passed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    problem: str = ""

    @property
    def is_good(self) -> bool:
        """Something passed, nothing failed, and the script said so itself."""
        return bool(self.passed) and not self.failed and not self.problem


def interpreter(client: str) -> Path:
    """The Python of a client's environment, made or not."""
    return ENVIRONMENTS / client / "bin" / "python"


def pinned(client: str) -> str:
    """The version of the client its requirements name."""
    name = PACKAGES[client].lower().replace("_", "-")
    for line in (HERE / client / "requirements.txt").read_text().splitlines():
        found, _, number = line.partition("==")
        if found.lower().replace("_", "-") == name:
            return number
    raise NotMade(f"{PACKAGES[client]} is not pinned")


def fingerprint(client: str) -> str:
    """Changes when the requirements do."""
    return hashlib.sha256((HERE / client / "requirements.txt").read_bytes()).hexdigest()


def is_made(client: str) -> bool:
    """Whether the environment stands as its requirements want it."""
    stamp = ENVIRONMENTS / client / ".made"
    return stamp.is_file() and stamp.read_text() == fingerprint(client)


def make(client: str) -> None:
    """Make the environment. Raises NotMade with the installer's last words."""
    if is_made(client):
        return
    place = ENVIRONMENTS / client
    requirements = HERE / client / "requirements.txt"
    python = str(interpreter(client))
    install = [
        python,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--quiet",
        "install",
        "-r",
        str(requirements),
    ]
    for words in ([sys.executable, "-m", "venv", "--clear", str(place)], install):
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise NotMade(done.stderr.strip().rpartition("\n")[2])
    (place / ".made").write_text(fingerprint(client))


def prove(client: str, seconds: float = SECONDS_A_CLIENT) -> Result:
    """Run a client's checks in its environment against an exchange started for them."""
    result = Result(PACKAGES[client], pinned(client))
    with tempfile.TemporaryDirectory() as directory:
        exchange = PaperExchange(Path(directory), "--symbols", SYMBOLS)
        exchange.start()
        try:
            told = {"PAPER_URL": exchange.url, "PAPER_SECRET": exchange.secret}
            words = [str(interpreter(client)), "-m", f"tests.clients.{client}.checks"]
            _read(words, os.environ | told, seconds, result)
        finally:
            exchange.stop()
    return result


def prove_ccxt() -> Result:
    """Run ccxt's checks: it is a dependency of ours, so they are tests in this environment."""
    result = Result(CCXT, version(CCXT))
    tests = sorted(str(path) for path in HERE.glob("test_ccxt_*.py"))
    words = [sys.executable, "-m", "pytest", "-q", "-rpfE", "--no-header", *tests]
    _read(words, dict(os.environ), SECONDS_A_CLIENT, result, words_of=("PASSED ", "FAILED "))
    return result


def _read(
    words: Sequence[str],
    environment: dict[str, str],
    seconds: float,
    result: Result,
    words_of: tuple[str, str] = ("PASS ", "FAIL "),
) -> None:
    script = subprocess.Popen(
        words,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        told, _ = script.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(script.pid, signal.SIGKILL)  # with what it started: a bot outlives its driver otherwise
        told, _ = script.communicate()
        result.problem = f"no end within {seconds:g} s"
    lines = told.splitlines()
    result.passed = [line for line in lines if line.startswith(words_of[0])]
    result.failed = [line for line in lines if line.startswith(words_of[1])]
    if script.returncode and not result.problem:
        result.problem = f"exit {script.returncode}"
    if not result.is_good:
        sys.stderr.write(told)


def attempt(client: str) -> Result:
    """Make and prove one client."""
    if client == CCXT:
        return prove_ccxt()
    try:
        make(client)
    except NotMade as error:
        return Result(PACKAGES[client], "", problem=f"not installed: {error}")
    return prove(client)


def table(results: Sequence[Result]) -> str:
    """One line a client."""
    rows = [f"{'client':<46}{'version':<12}{'passed':>7}{'failed':>8}  outcome"]
    for result in results:
        outcome = "PASS" if result.is_good else f"FAIL {result.problem}".rstrip()
        counts = f"{len(result.passed):>7}{len(result.failed):>8}"
        rows.append(f"{result.client:<46}{result.version:<12}{counts}  {outcome}")
    return "\n".join(rows)


def main(words: Sequence[str] | None = None) -> int:
    """Prove the clients named, all by default."""
    parser = argparse.ArgumentParser(
        prog="conformance", description="Other clients against the paper exchange."
    )
    every = [CCXT, *PACKAGES]
    parser.add_argument("clients", nargs="*", metavar="client", help=", ".join(every))
    chosen = parser.parse_args(words).clients or every
    if unknown := set(chosen) - set(every):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    results = []
    for client in chosen:
        sys.stdout.write(f"{client} ...\n")
        sys.stdout.flush()
        results.append(attempt(client))
        for line in [*results[-1].passed, *results[-1].failed]:
            sys.stdout.write(f"  {line}\n")
    sys.stdout.write(f"\n{table(results)}\n")
    return 0 if all(result.is_good for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
