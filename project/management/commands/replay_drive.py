"""The driver of a replay, on a stage that `replay` has raised. Not for use by hand."""

import time
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from project.replay import report
from project.replay.driver import Driver, NeverQuiet, replay_clock
from project.replay.real_time import follow
from project.replay.venue import Venue
from project.schedule import install
from trading.services.reconciliation import reconcile, unexplained_orders
from trading.services.statistics import Asked, read_statistics
from trading.services.statistics_text import render

TOLD_EVERY_SECONDS = 5.0


class Command(BaseCommand):
    """Move time, then report and reconcile."""

    help = "Drives a replay; started by `replay`."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take how far to go."""
        parser.add_argument("--days", type=float, required=True)
        parser.add_argument("--real-minutes", type=float, default=0.0)

    def handle(self, *_: Any, **options: Any) -> None:
        """Drive to the end; the exit code is 0 only when both folds agree."""
        venue = Venue(settings.PAPER_EXCHANGE_URL, settings.PAPER_ADMIN_SECRET)
        venue.await_start()
        driver = Driver(venue, replay_clock())
        begun_at = driver.prepare(settings.PAPER_ACCOUNTS)
        if options["real_minutes"]:
            install(timezone.now())
            ended_at = follow(venue, replay_clock(), options["real_minutes"], self._tell)
        else:
            ended_at = self._lockstep(driver, begun_at, timedelta(days=options["days"]))
        driver.finish(ended_at)
        self._report(venue, driver, begun_at, ended_at)

    def _lockstep(self, driver: Driver, begun_at: datetime, length: timedelta) -> datetime:
        told = time.monotonic()
        now, until = begun_at, begun_at + length
        try:
            while now < until:
                step = driver.step()
                now = step.now
                if step.is_done:
                    break
                if time.monotonic() - told >= TOLD_EVERY_SECONDS:
                    told = time.monotonic()
                    self._tell_progress(driver, begun_at, now, until)
        except NeverQuiet as stuck:
            raise CommandError(str(stuck)) from stuck
        return now

    def _tell_progress(self, driver: Driver, begun_at: datetime, now: datetime, until: datetime) -> None:
        share = (now - begun_at) / (until - begun_at)
        left = driver.progress.seconds * (1 - share) / share if share else 0.0
        self._tell(
            f"{now:%Y-%m-%d %H:%M}  {share:6.1%}  {driver.progress.seconds:5.0f} s, {left:5.0f} s to go"
        )

    def _tell(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()

    def _report(self, venue: Venue, driver: Driver, begun_at: datetime, ended_at: datetime) -> None:
        self._tell("\n".join(["", *report.journey(begun_at, ended_at)]))
        if settings.GATE_OFF:
            self._tell(f"gate rules off      {', '.join(sorted(settings.GATE_OFF))}")
        self._tell(
            f"wall clock          {driver.progress.seconds:.0f} s for {driver.progress.points} price points"
        )
        self._tell("\n" + render(read_statistics(Asked(), ended_at)))
        differences, unexplained = reconcile(venue.ledger()), unexplained_orders()
        self._tell("\n" + "\n".join(report.verdict(differences, unexplained)))
        if differences or unexplained:
            message = "the two folds do not agree"
            raise CommandError(message)
