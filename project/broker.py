"""The line to the broker: kombu's own, whose loss does not end a busy worker.

When a connection is lost, kombu takes its address away from the transport that was closed. A channel of it
that is asked for anything afterwards (to put back what was in hand, to acknowledge what ends only now) fails
with an AttributeError, which nobody on the way takes for the lost connection it is: Celery's consumer ends,
and its worker with it, after the last task. What such a channel fails with here is a lost connection.
"""

from typing import Any

from kombu.transport import redis
from redis.exceptions import ConnectionError as LineLost


class Channel(redis.Channel):
    """Knows when its connection is gone. What it cannot acknowledge the broker delivers again."""

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        """Where to connect to. Raises ConnectionError, which kombu and Celery expect, when nobody knows."""
        if getattr(self.connection, "client", None) is None:
            raise LineLost("the connection of this channel was closed")
        return dict(super()._connparams(asynchronous=asynchronous))  # type: ignore[misc]


class Transport(redis.Transport):
    """Hands out such channels."""

    Channel = Channel
