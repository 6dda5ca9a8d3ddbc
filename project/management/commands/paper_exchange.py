import os
import sys
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser


class Command(BaseCommand):
    """Become the paper exchange."""

    help = "Runs the paper exchange (REST and streams on one port) in place of this process."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=settings.PAPER_PORT)
        parser.add_argument("--feed", choices=("synthetic", "replay"), default="synthetic")
        parser.add_argument("--data", help="folder of candle files, for --feed replay")
        parser.add_argument("--speed", help="how many times faster than the wall clock")
        parser.add_argument("--seed", type=int, default=settings.PAPER_SEED)
        parser.add_argument("--weight-limit", type=int, default=settings.WEIGHT_LIMIT_PER_MINUTE)
        parser.add_argument("--state", default=str(settings.VAR_DIR / "paper.sqlite3"))

    def handle(self, *_args: Any, **options: Any) -> None:
        names = ("port", "feed", "data", "speed", "seed", "state")
        told = [
            word for name in names if options[name] is not None for word in (f"--{name}", str(options[name]))
        ]
        told += ["--weight-limit", str(options["weight_limit"])]
        if settings.PAPER_ADMIN_SECRET:
            told.append(f"--admin-secret={settings.PAPER_ADMIN_SECRET}")
        os.execv(sys.executable, [sys.executable, "-m", "paper", *told])  # noqa: S606  # our own program, no shell
