"""`make replay` over recorded candles, whole: programs of its own, the journey, the verdict."""

import os
import secrets
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from project.replay import stage
from project.supervisor import Screen

WORDS = ("--days", "0.08", "--warmup-days", "8.338", "--accounts", "2")
"""Two hours around a signal of the demonstration rule that ends at its stop."""


def replayed(data: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    words = [sys.executable, "manage.py", "replay", "--data", str(data), *WORDS]
    given = {**os.environ, **environment}
    return subprocess.run(
        words, cwd=settings.BASE_DIR, env=given, capture_output=True, text=True, check=False
    )


def after(told: str, name: str) -> str:
    return next(line.removeprefix(name).strip() for line in told.splitlines() if line.startswith(name))


@pytest.mark.timeout(180)
def test_a_replay_opens_protects_closes_and_reconciles_without_the_callers_desk(
    recorded_candles: Path, tmp_path: Path
) -> None:
    database = tmp_path / "desk.sqlite3"
    run = replayed(
        recorded_candles,
        VAR_DIR=str(tmp_path),
        DATABASE_URL=f"sqlite:///{database}",
        TRADING_ACCOUNT_1_API_KEY="key of a real account",
        TRADING_ACCOUNT_1_API_SECRET="secret of a real account",
    )

    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    assert after(run.stdout, "allocations") == "2 FILLED"
    assert after(run.stdout, "positions closed") == "2 STOP_LOSS"
    assert after(run.stdout, "positions open") == "0"
    assert "2 VERIFIED" in after(run.stdout, "steps of positions")
    assert after(run.stdout, "reconciled:").startswith("the exchange's ledger and the desk's rows agree")
    assert not database.exists(), "the replay traded into the caller's database"


def test_a_replay_of_a_folder_without_candles_says_so_and_starts_nothing(tmp_path: Path) -> None:
    run = replayed(tmp_path, VAR_DIR=str(tmp_path))

    assert run.returncode == 1
    assert f"no 1m candle files in {tmp_path}" in run.stderr
    assert not (tmp_path / "replay").exists()


def test_a_secret_that_begins_with_a_dash_is_a_value_and_no_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(secrets, "token_urlsafe", lambda _: "-begins-with-a-dash")
    plan = stage.Plan(
        data=tmp_path,
        symbols="BTCUSDT",
        timeframe="1m",
        days=1,
        warmup_days=1,
        accounts=1,
        runner=False,
        gate_off="",
        place=tmp_path / "replay",
    )
    words = shlex.split(stage.Stage(plan, Screen(width=1)).paper_command())
    told = subprocess.run(
        [sys.executable, *words[1:], "--help"],
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.returncode, told.stderr) == (0, "")
