from collections.abc import Iterator

import pytest
from django.test import override_settings
from redis import Redis

from accounts.services.gateways import close_gateways
from tests.processes import PaperExchange


@pytest.fixture(scope="package")
def paper_exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaperExchange]:
    """A paper exchange for these tests alone. Nobody counts weight: a minute's worth is soon used up."""
    paper = PaperExchange(tmp_path_factory.mktemp("paper"), "--weight-limit", "0")
    paper.start()
    close_gateways()
    with override_settings(PAPER_EXCHANGE_URL=paper.url, WEIGHT_LIMIT_PER_MINUTE=0):
        yield paper
        close_gateways()
    paper.stop()


@pytest.fixture(autouse=True)
def unmarked(redis: Redis) -> None:
    """No mark on the board that another test pinned."""


@pytest.fixture
def unthrottled(paper_exchange: PaperExchange) -> None:
    """The exchange of these tests, which has no rate budget on either side."""


@pytest.fixture
def faults(paper_exchange: PaperExchange) -> Iterator[PaperExchange]:
    """The paper exchange, its fault rules taken away and its marks released after the test."""
    yield paper_exchange
    paper_exchange.delete("/paper/faults")
    for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT"):
        paper_exchange.set_mark(symbol, None)
