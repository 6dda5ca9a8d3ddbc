from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from django.test import Client, override_settings
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings
from redis import Redis

from accounts.services.gateways import close_gateways
from project.celery import app
from tests.processes import PaperExchange
from trading.services.tokens import Scope, create_token
from trading.tests.acceptance.desk import PublicDesk
from trading.tests.services.holding import pinned_mark
from trading.tests.services.journey import WEATHER


@pytest.fixture(scope="module")
def unthrottled() -> Iterator[None]:
    """No rate budget of ours: what ran before may have used the minute up."""
    close_gateways()
    with override_settings(WEIGHT_LIMIT_PER_MINUTE=0):
        yield
    close_gateways()


@pytest.fixture
def tasks_at_once(redis: Redis) -> Iterator[None]:
    """Every task runs where it is rung, with nothing between but the broker's bells."""
    app.conf.update(task_always_eager=True, task_eager_propagates=True)
    yield
    app.conf.update(task_always_eager=False, task_eager_propagates=False)


@pytest.fixture
def exchange(paper_exchange: PaperExchange, redis: Redis) -> Iterator[PaperExchange]:
    """The exchange with BTC held at 100,000; no fault and no pinned mark is left behind."""
    with pinned_mark(paper_exchange):
        redis.flushdb()  # no mark of before stays on the board
        yield paper_exchange
        for symbol in ("ETHUSDT", "SOLUSDT", "XRPUSDT", "BNBUSDT"):
            paper_exchange.set_mark(symbol, None)


@pytest.fixture
def desk(
    db: None,
    unthrottled: None,
    tasks_at_once: None,
    exchange: PaperExchange,
    redis: Redis,
    settings: Settings,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> PublicDesk:
    """A desk spoken to as its users do: over HTTP, with its own tasks and a real exchange behind."""
    settings.GATE_OFF = WEATHER
    # No watcher beats here, and a busy machine must not halt the desk for it.
    settings.LIMITS = replace(settings.LIMITS, stream_max_age_seconds=60)
    every: Callable[..., str] = create_token
    token = every("acceptance", tuple(Scope), replace=True)
    client = Client(headers={"Authorization": f"Bearer {token}"})
    return PublicDesk(client, exchange, redis, django_capture_on_commit_callbacks)
