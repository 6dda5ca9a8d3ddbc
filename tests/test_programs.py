"""The programs of the house as processes: they live, die, come back and stand by."""

import itertools
import signal
import time

import pytest
from django.conf import settings
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from redis import Redis

from alerts.models import Alert
from exchange import heartbeat
from project.celery import app
from project.poison import MOST_STARTS
from project.schedule import TICKS, install
from project.worker import REFUSED
from tests.processes import Process, wait_until
from tests.running_desk import Desk

pytestmark = pytest.mark.whole_system

EVERY_SECONDS = 2
BEGUN = settings.VAR_DIR / "poisoned"
"""Where the poison of `odd_desks` writes that it was taken."""

BUSY = settings.VAR_DIR / "busy"
"""Where its busy task writes what it was taken for."""

BUSY_SECONDS = 4.0
BACK_SECONDS = 6.0
"""A try each half second, and what a machine with much to do adds."""


def leaders(*beats: Process) -> list[int]:
    return [beat.pid for beat in beats if '"beat leads"' in beat.output and beat.is_running]


def test_a_worker_outlives_an_empty_broker_is_replaced_when_killed_and_ends_when_told(
    programs: Desk, redis: Redis
) -> None:
    programs.start("worker_exits")
    worker = programs.process("worker_exits")
    first = heartbeat.worker_key("exits", worker.pid)
    programs.valkey.kill()
    programs.valkey.forget()
    time.sleep(0.5)
    programs.valkey.start()
    wait_until(lambda: heartbeat.age_seconds(redis, first) is not None, "a beat")
    assert worker.is_running
    worker.kill()
    programs.start("worker_exits")
    assert heartbeat.worker_key("exits", worker.pid) != first
    worker.tell(signal.SIGTERM)
    assert worker.wait_ended(9) == 0


@pytest.mark.drill
@pytest.mark.parametrize(
    ("at_once", "away_seconds"), [(3, 1.0), (8, 13.0)], ids=["while it waits for more", "with its hands full"]
)
def test_a_worker_whose_broker_dies_while_it_is_busy_takes_messages_again_within_seconds(
    programs: Desk, redis: Redis, at_once: int, away_seconds: float
) -> None:
    BUSY.unlink(missing_ok=True)
    worker = programs.changed("odd", "worker_orders", project="tests.odd_desks.busy")
    worker.start()
    wait_until(lambda: bool(redis.exists(heartbeat.worker_key("orders", worker.pid))), "the worker to live")
    for row in range(at_once):
        app.send_task("tests.busy", ([row], BUSY_SECONDS), queue="orders")
    wait_until(lambda: len(taken()) == at_once, "every message to be taken")
    programs.valkey.kill()
    time.sleep(away_seconds)
    programs.valkey.start()
    app.send_task("tests.busy", ([100], 0.0), queue="orders")
    wait_until(lambda: "100" in taken(), "a message to be taken again", BACK_SECONDS)
    time.sleep(BUSY_SECONDS)  # what was taken before ends, and is acknowledged to a line that is gone
    app.send_task("tests.busy", ([101], 0.0), queue="orders")
    wait_until(lambda: "101" in taken(), "one more message to be taken", BACK_SECONDS)
    assert worker.is_running
    assert "Unrecoverable error" not in worker.output


def taken() -> list[str]:
    return BUSY.read_text().split() if BUSY.exists() else []


def test_of_two_beats_one_sends_and_the_other_takes_over_without_repeating(
    programs: Desk, redis: Redis
) -> None:
    install(timezone.now())
    PeriodicTask.objects.exclude(task="trading.tasks.sweep").update(enabled=False)
    IntervalSchedule.objects.filter(every=5).update(every=EVERY_SECONDS)
    PeriodicTask.objects.filter(task="trading.tasks.sweep").update(expire_seconds=600)
    first, second = programs.process("beat"), programs.process("beat", copy=2)
    first.start()
    wait_until(lambda: leaders(first) == [first.pid], "the first beat to lead")
    second.start()
    wait_until(lambda: "beat" in second.output, "the second beat to have started")
    ticks = [next_tick(redis) for _ in range(4)]
    assert leaders(first, second) == [first.pid]
    # Right after a tick, once the row tells of it: one that was sent and not noted is sent again, and finds
    # its slot taken.
    sweep = PeriodicTask.objects.filter(task="trading.tasks.sweep")
    wait_until(lambda: sweep.get().total_run_count >= redis.llen("desk:monitor"), "the tick to be noted")
    first.kill()
    ticks += [next_tick(redis) for _ in range(2)]
    assert leaders(first, second) == [second.pid]
    pauses = [after - before for before, after in itertools.pairwise(ticks)]
    assert min(pauses) > EVERY_SECONDS - 0.5, pauses
    assert max(pauses) < EVERY_SECONDS + 10, pauses


def next_tick(redis: Redis) -> float:
    """Wait until one more tick lies in the queue; the moment it was seen, never more than one at once."""
    before = redis.llen("desk:monitor")
    wait_until(lambda: redis.llen("desk:monitor") > before, "a tick")
    assert redis.llen("desk:monitor") == before + 1
    return time.monotonic()


def test_a_worker_with_a_coroutine_for_a_task_does_not_start(programs: Desk) -> None:
    worker = programs.changed("odd", "worker_orders", project="tests.odd_desks.coroutine")
    worker.start()
    assert worker.wait_ended(30) == REFUSED
    assert "never_awaited" in worker.output


def test_poison_is_taken_five_times_then_left_alone_and_told_and_other_messages_run(
    programs: Desk, redis: Redis
) -> None:
    BEGUN.unlink(missing_ok=True)
    # Forked children: each death leaves the worker itself alive to deliver the message again, at once.
    worker = programs.changed(
        "odd", "worker_orders", project="tests.odd_desks.poisoned", threads="prefork", **{"8": "1"}
    )
    worker.start()
    wait_until(lambda: bool(redis.exists(heartbeat.worker_key("orders", worker.pid))), "the worker to live")
    app.send_task("tests.poison", ([1],), queue="orders")
    wait_until(lambda: Alert.objects.filter(code="POISON").exists(), "the alert")
    app.send_task("tests.harmless", ([2],), queue="orders")
    wait_until(lambda: "harmless" in BEGUN.read_text(), "another message to run")
    assert BEGUN.read_text().splitlines() == ["[1]"] * MOST_STARTS + ["harmless [2]"]
    # What begins is acknowledged when it ends.
    wait_until(lambda: not redis.llen("desk:orders") + redis.hlen("desk:unacked"), "nothing to be left")
    assert worker.is_running


def test_the_tasks_of_the_schedule_are_tasks_of_the_desk() -> None:
    app.loader.import_default_modules()
    assert {tick.task for tick in TICKS} <= set(app.tasks)
