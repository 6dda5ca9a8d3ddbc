from typing import Any

import pytest
import structlog
from celery import Celery, shared_task
from django.conf import settings

from project.celery import TRACE_HEADER, app, bind_trace, carry_trace, clear_trace, coroutine_tasks


def test_a_coroutine_task_is_found_before_it_can_pretend_to_have_run() -> None:
    desk = Celery("test", set_as_current=False)

    @desk.task(name="sleeps", shared=False)
    async def sleeps() -> None:
        """Never awaited by Celery."""

    @desk.task(name="works", shared=False)
    def works() -> None:
        """Ordinary."""

    assert coroutine_tasks(desk) == ["sleeps"]


def test_no_task_of_the_desk_is_a_coroutine() -> None:
    app.loader.import_default_modules()
    assert coroutine_tasks(app) == []


def test_a_misspelt_queue_raises_instead_of_parking_the_message() -> None:
    with pytest.raises(Exception, match="orderz"):
        app.send_task("anything", queue="orderz")


def test_messages_survive_the_death_of_a_worker() -> None:
    assert app.conf.task_acks_late
    assert app.conf.task_reject_on_worker_lost
    assert app.conf.worker_prefetch_multiplier == 1
    assert not app.conf.worker_cancel_long_running_tasks_on_connection_loss
    assert app.conf.broker_transport_options["socket_timeout"] == 5


def test_only_json_is_accepted_and_no_result_is_kept() -> None:
    assert app.conf.accept_content == ["json"]
    assert app.conf.task_ignore_result
    assert app.conf.result_backend is None


def test_every_thread_of_every_process_uses_the_app_of_the_desk() -> None:
    @shared_task(name="project.tests.anything")
    def anything() -> None:
        """Only its app is asked."""

    assert anything.app.conf.broker_url == settings.REDIS_URL


def test_a_task_takes_up_the_ids_of_the_journey_that_rang_it() -> None:
    headers: dict[str, Any] = {}
    with structlog.contextvars.bound_contextvars(trace_id="trace-1", client_order_id="px1", other="x"):
        carry_trace(headers=headers)
    assert headers[TRACE_HEADER] == {"trace_id": "trace-1", "client_order_id": "px1"}

    class Task:
        name = "submit"
        request = type("Request", (), {TRACE_HEADER: headers[TRACE_HEADER]})()

    bind_trace(task=Task(), task_id="t-1")
    bound = structlog.contextvars.get_contextvars()
    clear_trace()
    assert bound == {"task": "submit", "trace_id": "trace-1", "client_order_id": "px1"}
    assert structlog.contextvars.get_contextvars() == {}


def test_a_tick_begins_a_journey_of_its_own() -> None:
    class Task:
        name = "sweep"
        request = type("Request", (), {})()

    bind_trace(task=Task(), task_id="t-2")
    bound = structlog.contextvars.get_contextvars()
    clear_trace()
    assert bound == {"task": "sweep", "trace_id": "t-2"}
