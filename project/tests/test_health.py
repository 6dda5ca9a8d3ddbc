import pytest
from django.conf import settings
from django.test import Client
from redis import Redis

from exchange import heartbeat


def test_health_asks_nothing_but_the_process(client: Client) -> None:
    assert client.get("/health").json() == {"status": "ok"}


@pytest.mark.django_db
def test_ready_names_what_is_missing(client: Client, redis: Redis) -> None:
    answer = client.get("/ready")
    checks = answer.json()["checks"]
    assert answer.status_code == 503
    assert checks["database"] == {"ok": True}
    assert checks["broker"] == {"ok": True}
    assert {name for name, check in checks.items() if not check["ok"]} == {
        "beat", "watcher", "marks", "worker_orders", "worker_exits", "worker_lookups",
        "worker_monitor", "worker_default",
    }  # fmt: skip


@pytest.mark.django_db
def test_ready_is_ready_when_every_part_says_it_lives(client: Client, redis: Redis) -> None:
    for key in (heartbeat.BEAT, heartbeat.watcher_key(), heartbeat.MARKS):
        heartbeat.beat(redis, key)
    for queue in settings.QUEUES:
        heartbeat.beat(redis, heartbeat.worker_key(queue, 1))
    answer = client.get("/ready")
    assert answer.status_code == 200, answer.json()
    assert answer.json()["mode"] == "paper"


@pytest.mark.django_db
def test_a_silent_part_is_not_alive(client: Client, redis: Redis) -> None:
    redis.set(heartbeat.BEAT, "1000.0")
    beat = client.get("/ready").json()["checks"]["beat"]
    assert not beat["ok"]
    assert beat["age_seconds"] > 60


@pytest.mark.django_db
def test_of_a_queue_the_youngest_worker_counts(client: Client, redis: Redis) -> None:
    redis.set(heartbeat.worker_key("orders", 1), "1000.0")
    heartbeat.beat(redis, heartbeat.worker_key("orders", 2))
    assert client.get("/ready").json()["checks"]["worker_orders"]["ok"]


@pytest.mark.django_db
def test_of_two_watchers_neither_hides_the_others_death(client: Client, redis: Redis) -> None:
    heartbeat.beat(redis, heartbeat.watcher_key())
    redis.set(heartbeat.watcher_key("watcher_2"), "1000.0")
    answer = client.get("/ready")
    checks = answer.json()["checks"]
    assert checks["watcher"]["ok"]
    assert not checks["watcher_2"]["ok"]
    assert answer.status_code == 503
