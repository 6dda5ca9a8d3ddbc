"""The ticks of the desk. Installed once into the database, where an operator may change them."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django_celery_beat.models import IntervalSchedule, PeriodicTask, PeriodicTasks


@dataclass(frozen=True, slots=True)
class Tick:
    """One task at an interval. A tick not begun in `expires_seconds` is dropped: the next does its work."""

    name: str
    task: str
    every_seconds: int
    queue: str

    @property
    def expires_seconds(self) -> int:
        """A tick lives until the next one."""
        return self.every_seconds


TICKS = (
    Tick("select signals", "trading.tasks.select_signals", 60, "default"),
    Tick("monitor accounts", "trading.tasks.monitor_accounts", 10, "monitor"),
    Tick("sweep open rows", "trading.tasks.sweep", 5, "monitor"),
    Tick("keep the market fresh", "trading.tasks.keep_market_fresh", 20, "monitor"),
    Tick("check the watcher", "trading.tasks.check_watcher", 10, "monitor"),
    Tick("record equity", "trading.tasks.record_equity", 60, "default"),
    Tick("poll the demonstration source", "trading.tasks.poll_demo_source", 20, "default"),
    Tick("verify accounts", "accounts.tasks.verify_accounts", 60, "default"),
    Tick("deliver alerts", "alerts.tasks.deliver_alerts", 15, "default"),
)


@transaction.atomic
def install(now: datetime) -> list[str]:
    """Add the ticks that are missing, by name, and return their names. What is there is the operator's."""
    present = set(
        PeriodicTask.objects.filter(name__in=[tick.name for tick in TICKS]).values_list("name", flat=True)
    )
    missing = [tick for tick in TICKS if tick.name not in present]
    for tick in missing:
        interval, _ = IntervalSchedule.objects.get_or_create(
            every=tick.every_seconds, period=IntervalSchedule.SECONDS
        )
        PeriodicTask.objects.create(
            name=tick.name,
            task=tick.task,
            interval=interval,
            queue=tick.queue,
            expire_seconds=tick.expires_seconds,
            # Due at once, so that a new desk does not wait a first interval in silence.
            last_run_at=now - timedelta(seconds=tick.every_seconds),
        )
    if missing:
        PeriodicTasks.update_changed()
    return [tick.name for tick in missing]
