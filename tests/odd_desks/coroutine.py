"""The desk with a task that Celery would call done without ever running it."""

from project.celery import app

__all__ = ["app"]


@app.task
async def never_awaited() -> None:
    """What `async def` under `@shared_task` amounts to."""
