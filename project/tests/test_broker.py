"""A channel whose connection was lost."""

from typing import Any

import pytest
from django.conf import settings
from kombu import Connection, Queue
from kombu.transport.redis import Mutex
from redis import Redis

from project.broker import Transport
from project.celery import app


@pytest.fixture
def connection(redis: Redis) -> Connection:
    return app.connection_for_read()


def in_hand(connection: Connection) -> Any:
    """A message that was taken and is not acknowledged."""
    queue = Queue("test-of-a-lost-line")
    channel: Any = connection.default_channel
    channel.do_restore = False
    with connection.Producer() as producer:
        producer.publish({}, routing_key=queue.name, declare=[queue])
    message = queue(channel).get()
    assert message is not None
    return message


def test_every_connection_of_the_desk_is_of_this_kind(connection: Connection) -> None:
    assert settings.CELERY_BROKER_TRANSPORT == "project.broker:Transport"
    assert isinstance(connection.transport, Transport)


def test_what_ends_after_its_line_was_lost_is_acknowledged_in_vain_and_harms_nobody(
    connection: Connection,
) -> None:
    message, errors = in_hand(connection), connection.connection_errors
    connection.close()
    with pytest.raises(errors):
        message.ack()


def test_a_channel_that_is_open_acknowledges(connection: Connection, redis: Redis) -> None:
    message = in_hand(connection)
    assert redis.hlen("desk:unacked") == 1
    message.ack()
    assert redis.hlen("desk:unacked") == 0
    connection.close()


def test_who_dies_while_looking_for_lost_messages_stops_the_others_for_seconds(
    connection: Connection, redis: Redis
) -> None:
    channel: Any = connection.default_channel
    with Mutex(redis, f"desk:{channel.unacked_mutex_key}", channel.unacked_mutex_expire):
        assert redis.ttl(f"desk:{channel.unacked_mutex_key}") <= 5
    connection.close()
