from datetime import UTC, datetime

import pytest
from django_celery_beat.models import PeriodicTask

from project.schedule import TICKS, install

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
EVERY_SECONDS = {
    "trading.tasks.select_signals": 60,
    "trading.tasks.monitor_accounts": 10,
    "trading.tasks.sweep": 5,
    "trading.tasks.keep_market_fresh": 20,
    "trading.tasks.check_watcher": 10,
    "trading.tasks.record_equity": 60,
    "trading.tasks.poll_demo_source": 20,
    "accounts.tasks.verify_accounts": 60,
    "alerts.tasks.deliver_alerts": 15,
}


def test_the_defaults_are_installed_and_each_tick_expires() -> None:
    install(NOW)
    rows = PeriodicTask.objects.exclude(task__startswith="celery.")
    assert {row.task: row.interval.every for row in rows} == EVERY_SECONDS
    assert all(row.expire_seconds == row.interval.every for row in rows)
    assert all(row.queue in {"monitor", "default"} for row in rows)


def test_installing_again_leaves_what_an_operator_set() -> None:
    install(NOW)
    changed = PeriodicTask.objects.get(task="trading.tasks.sweep")
    changed.enabled = False
    changed.expire_seconds = 99
    changed.save()
    assert install(NOW) == []
    changed.refresh_from_db()
    assert (changed.enabled, changed.expire_seconds) == (False, 99)
    assert PeriodicTask.objects.filter(task="trading.tasks.sweep").count() == 1


def test_no_two_ticks_share_a_name() -> None:
    assert len({tick.name for tick in TICKS}) == len(TICKS)
