"""The desk with a task that takes its time."""

import os
import time
from pathlib import Path

from project.celery import app

__all__ = ["app"]

BEGUN = Path(os.environ["VAR_DIR"]) / "busy"


@app.task(name="tests.busy")
def busy(rows: list[int], seconds: float) -> None:
    """Tell that it began, and end so much later."""
    with BEGUN.open("a", encoding="utf-8") as told:
        told.write(f"{rows[0]}\n")
    time.sleep(seconds)
