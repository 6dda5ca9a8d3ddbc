import os
import subprocess
import sys
from pathlib import Path

from project.secret_files import kept_key_pair
from tests.processes import ROOT


def test_a_refused_setting_is_a_message_and_not_a_traceback(tmp_path: Path) -> None:
    env = {**os.environ, "VAR_DIR": str(tmp_path), "GATE_OFF": "NONSENSE"}
    run = subprocess.run(
        [sys.executable, "manage.py", "check"], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    assert run.stderr == ("These settings are refused:\n  - GATE_OFF names NONSENSE, which is no gate rule\n")


def test_django_finds_nothing_to_say_against_a_live_desk(tmp_path: Path) -> None:
    pair = kept_key_pair(tmp_path / "told")
    env = {
        "PATH": os.environ["PATH"],
        "ENV_FILE": os.devnull,
        "VAR_DIR": str(tmp_path),
        "MODE": "live",
        "SITE_URL": "https://desk.example",
        "SECRET_KEY": "kL8#vq2!Zr5^mW0@bN7&xT4*cY1(dH6)jG3_fP9+sA8=uE2-wR7:iO1?",
        "HPKE_PUBLIC_KEY": pair.public,
        "HPKE_PRIVATE_KEY": pair.private,
    }
    words = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
    run = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
