import os
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from project import settings as loaded

LoadSettings = Callable[..., SimpleNamespace]


@pytest.fixture
def load_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> LoadSettings:
    """Read the settings file anew in an environment that holds only what the test tells."""

    def load(**told: str) -> SimpleNamespace:
        for key in list(os.environ):
            monkeypatch.delenv(key)
        environment = {"ENV_FILE": os.devnull, "VAR_DIR": str(tmp_path / "var"), **told}
        for key, value in environment.items():
            monkeypatch.setenv(key, value)
        return SimpleNamespace(**runpy.run_path(str(loaded.__file__)))

    return load
