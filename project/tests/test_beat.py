from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.utils import timezone
from redis import Redis
from redis.exceptions import RedisError

from exchange import heartbeat
from project.beat import STANDBY_SECONDS, AdvisoryLeadership, FileLeadership, LeaderScheduler
from project.celery import app
from project.schedule import install
from tests.processes import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


class Leadership:
    """Held, lost, or out of reach, as the test says."""

    def __init__(self, *, is_held: bool) -> None:
        self.is_held = is_held
        self.error: Exception | None = None

    def held(self) -> bool:
        if self.error is not None:
            raise self.error
        return self.is_held

    def close(self) -> None:
        """Nothing to let go."""


class Sent(list[str]):
    """The names of the ticks a scheduler sent."""


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    names = Sent()
    monkeypatch.setattr(LeaderScheduler, "apply_entry", lambda _self, entry, **_: names.append(entry.name))
    return names


@pytest.fixture
def scheduler(redis: Redis, sent: Sent) -> Iterator[LeaderScheduler]:
    install(timezone.now())
    scheduler = LeaderScheduler(app=app)
    scheduler._leadership.close()
    scheduler._leadership = Leadership(is_held=True)
    yield scheduler
    scheduler.close()


def tick(scheduler: LeaderScheduler, times: int = 8) -> None:
    for _ in range(times):
        scheduler.tick()


def test_the_leader_sends_what_is_due_and_says_it_lives(
    scheduler: LeaderScheduler, sent: Sent, redis: Redis
) -> None:
    tick(scheduler)
    assert "sweep open rows" in sent
    age = heartbeat.age_seconds(redis, heartbeat.BEAT)
    assert age is not None
    assert age < 5


def test_the_standby_sends_nothing_and_leaves_the_sign_of_life_to_the_leader(
    scheduler: LeaderScheduler, sent: Sent, redis: Redis
) -> None:
    scheduler._leadership = Leadership(is_held=False)
    assert scheduler.tick() == STANDBY_SECONDS
    assert sent == []
    assert heartbeat.age_seconds(redis, heartbeat.BEAT) is None


def test_a_beat_outlives_a_database_that_is_away_and_takes_over_again(
    scheduler: LeaderScheduler, sent: Sent
) -> None:
    leadership = Leadership(is_held=True)
    leadership.error = OperationalError("the server closed the connection")
    scheduler._leadership = leadership
    assert scheduler.tick() == STANDBY_SECONDS
    assert sent == []
    leadership.error = None
    tick(scheduler)
    assert "sweep open rows" in sent


def test_a_broker_that_is_away_does_not_stop_the_ticks(
    scheduler: LeaderScheduler, sent: Sent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RedisError("away")

    monkeypatch.setattr("exchange.heartbeat.beat", refuse)
    tick(scheduler)
    assert "sweep open rows" in sent


def test_one_host_has_one_leader_until_it_lets_go() -> None:
    with closing(FileLeadership()) as second:
        with closing(FileLeadership()) as first:
            assert first.held()
            assert not second.held()
        assert second.held()


@pytest.mark.skipif(connection.vendor != "postgresql", reason="a session lock is a thing of Postgres")
def test_one_database_has_one_leader_until_its_session_ends() -> None:
    with closing(AdvisoryLeadership()) as first, closing(AdvisoryLeadership()) as second:
        assert first.held()
        assert first.held()
        assert not second.held()
        first.close()
        wait_until(second.held, "the server to end the first session", seconds=5)
