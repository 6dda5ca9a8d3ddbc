from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from django.core.management import call_command
from django.test import override_settings
from pytest_django import DjangoDbBlocker
from redis import Redis

from accounts.services.gateways import close_gateways
from tests.processes import PaperExchange, Valkey
from tests.running_desk import Desk
from tests.trading_desk import ONE_OF_EACH, WEATHER, TradingDesk

WEIGHT_LIMIT = "6000"
"""A minute of tests is a day of trading: the budget is there, and wide enough to read all in one tick."""


@pytest.fixture
def programs(transactional_db: None, redis: Redis, valkey: Valkey, tmp_path: Path) -> Iterator[Desk]:
    """A desk without an exchange, for what its programs do by themselves; nothing started yet."""
    running = Desk(tmp_path, valkey, PaperExchange(tmp_path))
    yield running
    running.stop()
    running.paper.stop()


@pytest.fixture
def desk(
    transactional_db: None, redis: Redis, valkey: Valkey, paper_exchange: PaperExchange, tmp_path: Path
) -> Iterator[Desk]:
    """A desk on the test database, the broker (emptied) and the paper exchange; nothing started yet."""
    running = Desk(tmp_path, valkey, paper_exchange)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def unthrottled() -> Iterator[None]:
    """No rate budget of ours where it is not the subject: what ran before may have used the minute up."""
    close_gateways()
    with override_settings(WEIGHT_LIMIT_PER_MINUTE=0):
        yield
    close_gateways()


@pytest.fixture(scope="module")
def db(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Here: the database for a whole module, its rows committed where other processes see them."""
    with django_db_blocker.unblock():
        yield
        call_command("flush", verbosity=0, interactive=False)


@pytest.fixture(scope="module")
def open_desk(
    db: None, valkey: Valkey, paper_exchange: PaperExchange, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., TradingDesk]]:
    """Opens a desk that trades on so many accounts, with an exchange of its own, for a whole module."""
    place = tmp_path_factory.mktemp("desk")
    exchange = PaperExchange(place / "exchange", "--weight-limit", WEIGHT_LIMIT)
    close_gateways()

    opened: list[TradingDesk] = []

    def open_with(accounts: int, copies: Mapping[str, int] = ONE_OF_EACH, **settings: str) -> TradingDesk:
        exchange.start()
        told = {"GATE_OFF": WEATHER, "WEIGHT_LIMIT_PER_MINUTE": WEIGHT_LIMIT, **settings}
        desk = Desk(place, valkey, exchange, **told)
        opened.append(TradingDesk(desk, exchange, accounts, copies))
        opened[0].start()
        return opened[0]

    with valkey.client() as client:
        client.flushdb()
    try:
        # The observer reads another exchange than the desk; its questions are not of the desk's budget.
        with override_settings(WEIGHT_LIMIT_PER_MINUTE=0):
            yield open_with
    finally:
        close_gateways()
        for trading in opened:
            trading.stop()
        exchange.stop()
