"""Trade recorded candles through the whole desk, and prove the result against the exchange's ledger."""

import subprocess
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from project.replay.stage import Plan, Stage, candle_symbols, raise_stage, replay_place
from project.supervisor import Screen, Supervisor

DAYS, WARMUP_DAYS, ACCOUNTS = 3.0, 8.3, 20
WAIT_SECONDS = 0.2


class Command(BaseCommand):
    """Raise a stage of its own, run the driver on it, leave nothing running."""

    help = "Replays candle files (Binance Vision columns) through real workers, in lockstep, and reconciles."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the data and how much of it."""
        parser.add_argument("--data", type=Path, required=True, help="folder of candle files")
        parser.add_argument("--symbols", default="", help="comma separated; all of the timeframe by default")
        parser.add_argument("--timeframe", default="1m")
        parser.add_argument("--days", type=float, default=DAYS, help=f"days to trade ({DAYS:g})")
        parser.add_argument("--warmup-days", type=float, default=WARMUP_DAYS, help="past left before them")
        parser.add_argument("--accounts", type=int, default=ACCOUNTS)
        parser.add_argument(
            "--runner", action="store_true", help="the last leg trails instead of closing at TP3"
        )
        parser.add_argument(
            "--gate-off", default="", help="gate rules switched off, by code; shown in the report"
        )
        parser.add_argument(
            "--real-minutes",
            type=float,
            default=0.0,
            help="at speed 1 with the real beat, for so many minutes",
        )

    def handle(self, *_: Any, **options: Any) -> None:
        """Run it; the exit code is 0 only when both folds agree."""
        plan = _plan(options)
        screen = Screen(width=len("worker_monitor"))
        supervisor = Supervisor(screen)
        supervisor.listen()
        stage = Stage(plan, screen)
        try:
            raise_stage(stage, supervisor)
            code = _drive(stage, supervisor)
        finally:
            supervisor.end()
        if code:
            message = f"the replay did not end well (exit code {code}); its logs are in {plan.place / 'logs'}"
            raise CommandError(message)


def _plan(options: dict[str, Any]) -> Plan:
    data = options["data"].resolve()
    symbols = options["symbols"] or ",".join(candle_symbols(data, options["timeframe"]))
    if not symbols:
        message = f"no {options['timeframe']} candle files in {data}"
        raise CommandError(message)
    return Plan(
        data=data,
        symbols=symbols,
        timeframe=options["timeframe"],
        days=options["days"],
        warmup_days=options["warmup_days"],
        accounts=options["accounts"],
        runner=options["runner"],
        gate_off=options["gate_off"],
        place=replay_place(),
        real_minutes=options["real_minutes"],
    )


def _drive(stage: Stage, supervisor: Supervisor) -> int:
    """Run the driver on this terminal until it ends or the operator stops it."""
    with subprocess.Popen(
        stage.driver(), env=stage.environment(), cwd=settings.BASE_DIR, stdin=subprocess.DEVNULL
    ) as driver:
        while driver.poll() is None:
            if supervisor.is_stopping:
                driver.terminate()
            try:
                driver.wait(WAIT_SECONDS)
            except subprocess.TimeoutExpired:
                continue
        return driver.returncode
