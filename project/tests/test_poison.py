"""A message that ends every worker that takes it."""

from collections.abc import Iterator
from typing import Any

import pytest
from celery.app.task import Context
from celery.app.trace import build_tracer
from redis import Redis

from alerts.models import Alert
from project.celery import app
from project.poison import MOST_STARTS, PREFIX, GuardedTask, _begin, _key

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis")]

ROWS = ([7, 8],)


class Ran(list[Any]):
    """The arguments of every body that ran."""


@pytest.fixture
def ran() -> Ran:
    return Ran()


@pytest.fixture
def task(ran: Ran) -> Iterator[GuardedTask]:
    @app.task(name="project.tests.poison", shared=False)
    def touch(rows: list[int] | None = None) -> None:
        ran.append(rows)
        if rows == [0]:
            raise ValueError("a body that fails")

    assert isinstance(touch, GuardedTask)
    yield touch
    app.tasks.unregister("project.tests.poison")


def delivered(task: GuardedTask, *args: Any, queue: str = "orders") -> None:
    """One delivery of a message, traced as a worker traces it."""
    request: dict[str, Any] = {
        "id": "t-1",
        "args": args,
        "kwargs": {},
        "delivery_info": {"routing_key": queue},
    }
    build_tracer(task.name, task, app=app)("t-1", list(args), {}, request)


def died_of(task: GuardedTask, times: int, seconds: int = 60) -> None:
    """So many workers began the message and never ended it."""
    for number in range(times):
        _begin(_key(task.name, ROWS), seconds, f"worker {number}")


def test_every_task_of_the_desk_is_guarded() -> None:
    app.loader.import_default_modules()
    own = [task for name, task in app.tasks.items() if not name.startswith("celery.")]
    assert own
    assert all(isinstance(task, GuardedTask) for task in own)


def test_a_message_that_ends_leaves_no_count(task: GuardedTask, ran: Ran, redis: Redis) -> None:
    for _ in range(MOST_STARTS + 2):
        delivered(task, *ROWS)
        delivered(task, [0])
    assert len(ran) == 2 * (MOST_STARTS + 2)
    assert list(redis.scan_iter(f"{PREFIX}*")) == []
    assert not Alert.objects.exists()


def test_poison_is_taken_five_times_and_then_left_alone_and_told(task: GuardedTask, ran: Ran) -> None:
    died_of(task, MOST_STARTS)
    delivered(task, *ROWS)
    delivered(task, *ROWS)
    assert ran == []
    alert = Alert.objects.get(code="POISON")
    assert (alert.severity, alert.count, alert.cleared_at) == ("CRITICAL", 2, None)
    assert "project.tests.poison" in alert.message
    assert "[[7, 8]]" in alert.message


def test_rows_that_many_ring_for_at_once_are_no_poison(task: GuardedTask, ran: Ran) -> None:
    """A worker of sixteen threads may have them in hand more often than five times, and lives."""
    for _ in range(2 * MOST_STARTS):
        task.before_start("t-1", ROWS, {})
    delivered(task, *ROWS)
    assert ran == [[7, 8]]
    assert not Alert.objects.exists()


def test_other_rows_and_ticks_run_beside_poison(task: GuardedTask, ran: Ran) -> None:
    died_of(task, MOST_STARTS)
    delivered(task, [9])
    delivered(task)
    assert ran == [[9], None]


def test_poison_that_once_ends_is_none_and_its_alert_is_cleared(
    task: GuardedTask, ran: Ran, redis: Redis
) -> None:
    died_of(task, MOST_STARTS)
    delivered(task, *ROWS)
    redis.spop(_key(task.name, ROWS), MOST_STARTS - 1)  # it was left alone long enough
    delivered(task, *ROWS)
    assert ran == [[7, 8]]
    assert Alert.objects.get(code="POISON").cleared_at is not None


@pytest.mark.parametrize(("queue", "seconds"), [("exits", 60), ("orders", 20)])
def test_an_exit_is_left_alone_no_longer_than_a_minute(
    task: GuardedTask, ran: Ran, redis: Redis, queue: str, seconds: int
) -> None:
    task.request_stack.push(Context(delivery_info={"routing_key": queue}))
    task.before_start("t-1", ROWS, {})
    task.request_stack.pop()
    assert redis.ttl(_key(task.name, ROWS)) == seconds
