from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from itertools import count

import pytest

from tests.clients.ccxt_clients import Client, Kind, open_client
from tests.processes import PaperExchange

PRICES = {"BTCUSDT": "100000", "ETHUSDT": "3000", "SOLUSDT": "150"}
SYMBOLS = ",".join([*PRICES, "XRPUSDT", "ADAUSDT"])
KEYS = count(1)


@pytest.fixture(scope="module")
def live_exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PaperExchange]:
    """A real `python -m paper` for the tests of a module, each of which brings keys of its own."""
    place = tmp_path_factory.mktemp("exchange")
    exchange = PaperExchange(place, "--weight-limit", "0", "--symbols", SYMBOLS)
    exchange.start()
    yield exchange
    exchange.stop()


@pytest.fixture
def paper(live_exchange: PaperExchange) -> Iterator[PaperExchange]:
    """The exchange with BTC at 100000, ETH at 3000 and SOL at 150, and no fault left behind."""
    for symbol, price in PRICES.items():
        live_exchange.set_mark(symbol, price)
    yield live_exchange
    live_exchange.delete("/paper/faults")


@pytest.fixture
async def connect(paper: PaperExchange) -> AsyncIterator[Callable[[Kind], Client]]:
    """Makes clients with a key nobody had before, and closes them."""
    async with AsyncExitStack() as stack:

        def make(kind: Kind) -> Client:
            client = open_client(kind, paper.url, f"conformance-{next(KEYS)}")
            stack.push_async_callback(client.close)
            return client

        yield make
