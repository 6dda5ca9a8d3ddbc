"""The programs of the house as processes: they live, die, come back and stand by."""

import time

import pytest
from django.utils import timezone
from django_celery_beat.models import PeriodicTask
from redis import Redis

from exchange import heartbeat
from project.celery import app
from project.schedule import TICKS, install
from tests.processes import Process, wait_until
from tests.running_desk import Desk

pytestmark = pytest.mark.whole_system


def leaders(*beats: Process) -> list[int]:
    return [beat.pid for beat in beats if '"beat leads"' in beat.output and beat.is_running]


def test_a_killed_worker_falls_silent_and_a_new_one_says_it_lives(programs: Desk, redis: Redis) -> None:
    programs.start("worker_exits")
    worker = programs.process("worker_exits")
    first = heartbeat.worker_key("exits", worker.pid)
    worker.kill()
    assert heartbeat.age_seconds(redis, first) is not None
    programs.start("worker_exits")
    assert heartbeat.worker_key("exits", worker.pid) != first


def test_a_worker_outlives_a_broker_that_comes_back_empty(programs: Desk) -> None:
    programs.start("worker_exits")
    pid = programs.process("worker_exits").pid
    programs.valkey.kill()
    programs.valkey.forget()
    time.sleep(1)
    programs.valkey.start()
    with programs.valkey.client() as redis:
        wait_until(
            lambda: heartbeat.age_seconds(redis, heartbeat.worker_key("exits", pid)) is not None, "a beat"
        )
    assert programs.process("worker_exits").is_running


def test_of_two_beats_one_leads_and_the_other_takes_over_when_it_is_killed(programs: Desk) -> None:
    install(timezone.now())
    first, second = programs.process("beat"), programs.process("beat", copy=2)
    first.start()
    wait_until(lambda: leaders(first) == [first.pid], "the first beat to lead")
    second.start()
    time.sleep(4)
    assert leaders(first, second) == [first.pid]
    first.kill()
    wait_until(lambda: leaders(second) == [second.pid], "the standby to lead")


def test_two_beats_send_each_tick_once(programs: Desk, redis: Redis) -> None:
    install(timezone.now())
    PeriodicTask.objects.exclude(task="trading.tasks.sweep").update(enabled=False)
    PeriodicTask.objects.filter(task="trading.tasks.sweep").update(expire_seconds=600)
    beats = [programs.process("beat"), programs.process("beat", copy=2)]
    for beat in beats:
        beat.start()
    wait_until(lambda: bool(leaders(*beats)), "a beat to lead")
    began = time.monotonic()
    time.sleep(11)
    sent = redis.llen("desk:monitor")
    elapsed = time.monotonic() - began
    assert 2 <= sent <= 1 + elapsed / 5 + 1
    assert len(leaders(*beats)) == 1


def test_a_worker_asked_to_end_ends(programs: Desk) -> None:
    programs.start("worker_exits")
    worker = programs.process("worker_exits")
    began = time.monotonic()
    worker.stop()
    assert time.monotonic() - began < 9
    assert not worker.is_running


def test_the_tasks_of_the_schedule_are_tasks_of_the_desk() -> None:
    app.loader.import_default_modules()
    assert {tick.task for tick in TICKS} <= set(app.tasks)
