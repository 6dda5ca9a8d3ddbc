"""Whether the web process lives, and whether the desk can do its work."""

from typing import Any

from django.conf import settings
from django.db import DatabaseError, connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_GET
from redis import Redis
from redis.exceptions import RedisError

from exchange import heartbeat

SILENT_SECONDS = 60.0
STALE_MARKS_SECONDS = 5.0
UNAVAILABLE = 503

Check = dict[str, Any]


@require_GET
def health(_request: HttpRequest) -> JsonResponse:
    """The process answers; nothing else is asked."""
    return JsonResponse({"status": "ok"})


@require_GET
def ready(_request: HttpRequest) -> JsonResponse:
    """Every part the desk needs, with its age where it has one; 503 when one is missing."""
    checks = {"database": _database(), **_signs_of_life()}
    is_ready = all(check["ok"] for check in checks.values())
    answer = {"status": "ok" if is_ready else "unavailable", "mode": settings.MODE, "checks": checks}
    return JsonResponse(answer, status=200 if is_ready else UNAVAILABLE)


def _database() -> Check:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as error:
        return {"ok": False, "error": type(error).__name__}
    return {"ok": True}


def _signs_of_life() -> dict[str, Check]:
    redis = Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2)
    try:
        redis.ping()
        return {
            "broker": {"ok": True},
            "beat": _aged(heartbeat.age_seconds(redis, heartbeat.BEAT), SILENT_SECONDS),
            **_watchers(heartbeat.watcher_ages_seconds(redis)),
            "marks": _aged(heartbeat.age_seconds(redis, heartbeat.MARKS), STALE_MARKS_SECONDS),
            **_workers(heartbeat.worker_ages_seconds(redis)),
        }
    except RedisError as error:
        return {"broker": {"ok": False, "error": type(error).__name__}}
    finally:
        redis.close()


def _watchers(ages: dict[str, float | None]) -> dict[str, Check]:
    return {name: _aged(age, SILENT_SECONDS) for name, age in ages.items()}


def _workers(ages: dict[str, float]) -> dict[str, Check]:
    return {f"worker_{queue}": _aged(ages.get(queue), SILENT_SECONDS) for queue in settings.QUEUES}


def _aged(age_seconds: float | None, limit_seconds: float) -> Check:
    if age_seconds is None:
        return {"ok": False, "age_seconds": None}
    return {"ok": age_seconds <= limit_seconds, "age_seconds": round(age_seconds, 1)}
