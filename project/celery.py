"""The Celery application. Messages carry ids only: they ring for rows, and may be lost or doubled."""

import inspect
import os
from typing import Any

import structlog
from celery import Celery, signals

from project.logging import current_trace

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

TRACE_HEADER = "desk_trace"

app = Celery("phalanx", task_cls="project.poison:GuardedTask")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
# Of every thread, not only of the one that imported this: requests are answered in threads.
app.set_default()


@signals.setup_logging.connect
def keep_our_logging(**_: Any) -> None:
    """Connected so that Celery installs no handler of its own: each event is written once."""


@signals.before_task_publish.connect
def carry_trace(headers: dict[str, Any] | None = None, **_: Any) -> None:
    """Send the ids of the journey along with the message."""
    if headers is not None and (trace := current_trace()):
        headers[TRACE_HEADER] = trace


@signals.task_prerun.connect
def bind_trace(task: Any = None, task_id: str = "", **_: Any) -> None:
    """Take the ids of the journey up again; a tick of beat starts a journey of its own."""
    carried = getattr(task.request, TRACE_HEADER, None)
    trace = carried if isinstance(carried, dict) else {"trace_id": task_id}
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(task=task.name, **trace)


@signals.task_postrun.connect
def clear_trace(**_: Any) -> None:
    """The next task of this thread starts with no ids."""
    structlog.contextvars.clear_contextvars()


def coroutine_tasks(celery_app: Celery) -> list[str]:
    """The names of registered tasks whose body is a coroutine function."""
    return sorted(name for name, task in celery_app.tasks.items() if inspect.iscoroutinefunction(task.run))
