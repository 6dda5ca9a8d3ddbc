"""Whether a part lives; 0 is alive.

`python -m project.probe worker QUEUE | beat | watcher NAME | http URL`
"""

import os
import sys
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from django.conf import settings
from redis import Redis
from redis.exceptions import RedisError

from exchange import heartbeat

SILENT_SECONDS = 60.0
OK = 200


def main(words: list[str]) -> int:
    """Answer the question of the command line."""
    match words:
        case ["worker", queue] if queue in settings.QUEUES:
            return _told(_answers_worker(queue))
        case ["beat"]:
            return _told(_answers_sign(heartbeat.BEAT))
        case ["watcher", name]:
            return _told(_answers_sign(heartbeat.watcher_key(name)))
        case ["http", url]:
            return _told(_answers_http(url))
        case _:
            sys.stderr.write(f"{__doc__}\n")
            return 2


def _told(is_alive: bool) -> int:
    return 0 if is_alive else 1


def _answers_worker(queue: str) -> bool:
    """Asked next door to the one worker of a container: the queue is known, its process id is not."""
    try:
        with _redis() as redis:
            age = heartbeat.worker_ages_seconds(redis).get(queue)
    except RedisError:
        return False
    return age is not None and age <= SILENT_SECONDS


def _answers_sign(key: str) -> bool:
    try:
        with _redis() as redis:
            age = heartbeat.age_seconds(redis, key)
    except RedisError:
        return False
    return age is not None and age <= SILENT_SECONDS


def _answers_http(url: str) -> bool:
    parts = urlsplit(url)
    connection = HTTPConnection(parts.netloc, timeout=5)
    try:
        connection.request("GET", parts.path or "/")
        return connection.getresponse().status == OK
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _redis() -> Redis:
    return Redis.from_url(settings.REDIS_URL, socket_timeout=5, socket_connect_timeout=3)


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    sys.exit(main(sys.argv[1:]))
