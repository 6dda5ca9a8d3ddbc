"""A worker that hears nothing."""

from time import monotonic

from redis import Redis

from project.worker import DEAF_SECONDS, DeafWatchdog


def test_a_consumer_that_was_heard_lately_is_not_deaf(redis: Redis) -> None:
    assert not DeafWatchdog(redis).is_deaf()


def test_a_consumer_silent_beside_a_broker_that_answers_is_deaf(redis: Redis) -> None:
    watchdog = DeafWatchdog(redis)
    watchdog.heard_at = monotonic() - DEAF_SECONDS
    assert watchdog.is_deaf()


def test_a_consumer_silent_because_the_broker_is_away_is_not_deaf() -> None:
    with Redis.from_url("redis://127.0.0.1:1/0", socket_timeout=1, socket_connect_timeout=1) as gone:
        watchdog = DeafWatchdog(gone)
        watchdog.heard_at = monotonic() - DEAF_SECONDS
        assert not watchdog.is_deaf()
        assert monotonic() - watchdog.heard_at < DEAF_SECONDS
