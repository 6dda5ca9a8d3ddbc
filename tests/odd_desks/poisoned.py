"""The desk with a task that ends every process that runs it."""

import os
import signal
from pathlib import Path

from project.celery import app

__all__ = ["app"]

BEGUN = Path(os.environ["VAR_DIR"]) / "poisoned"


@app.task(name="tests.poison")
def poison(rows: list[int]) -> None:
    """Tell that it began, then die as a segmentation fault or the kernel's memory killer would have it."""
    with BEGUN.open("a", encoding="utf-8") as told:
        told.write(f"{rows}\n")
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="tests.harmless")
def harmless(rows: list[int]) -> None:
    """Tell that it ran."""
    with BEGUN.open("a", encoding="utf-8") as told:
        told.write(f"harmless {rows}\n")
