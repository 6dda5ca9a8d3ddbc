"""Wire exchanges and the gateways of one account on them, through unmodified ccxt."""

from collections.abc import AsyncIterator

import pytest

from exchange.bybit_gateway import BybitGateway
from exchange.credentials import Credentials
from exchange.factory import ExperimentalFactory
from exchange.okx_gateway import OkxGateway
from exchange.port import Market
from exchange.tests.venues import bybit, okx
from exchange.tests.venues.bybit import BybitWire
from exchange.tests.venues.okx import OkxWire
from exchange.tests.venues.wire import KEY, PASSPHRASE, SECRET, now_ms, started


@pytest.fixture
async def bybit_wire() -> AsyncIterator[BybitWire]:
    wire = BybitWire()
    wire.answer(
        "GET /v5/market/instruments-info", bybit.rows(bybit.instrument("BTC"), bybit.instrument("ETH"))
    )
    wire.answer("GET /v5/market/time", lambda _: bybit.result(timeNano=f"{now_ms()}000000"))
    wire.answer("POST /v5/order/create", bybit.acknowledged)
    wire.answer("POST /v5/order/cancel", bybit.acknowledged)
    runner = await started(wire)
    yield wire
    await runner.cleanup()


@pytest.fixture
async def bybit_factory(bybit_wire: BybitWire) -> AsyncIterator[ExperimentalFactory]:
    factory = ExperimentalFactory("paper", "bybit", bybit_wire.url)
    yield factory
    await factory.close()


@pytest.fixture
def bybit_gateway(bybit_factory: ExperimentalFactory) -> BybitGateway:
    gateway = bybit_factory.for_account(Credentials(KEY, SECRET), Market.FUTURES)
    assert isinstance(gateway, BybitGateway)
    return gateway


@pytest.fixture
async def okx_wire() -> AsyncIterator[OkxWire]:
    wire = OkxWire()
    wire.answer("GET /api/v5/public/instruments", okx.INSTRUMENTS)
    wire.answer("GET /api/v5/public/time", lambda _: okx.rows({"ts": str(now_ms())}))
    wire.answer("POST /api/v5/trade/batch-orders", okx.acknowledged)
    wire.answer("POST /api/v5/trade/order-algo", okx.algo_acknowledged)
    wire.answer("POST /api/v5/trade/cancel-order", okx.acknowledged)
    wire.answer("POST /api/v5/trade/cancel-algos", okx.algo_acknowledged)
    runner = await started(wire)
    yield wire
    await runner.cleanup()


@pytest.fixture
async def okx_factory(okx_wire: OkxWire) -> AsyncIterator[ExperimentalFactory]:
    factory = ExperimentalFactory("paper", "okx", okx_wire.url)
    yield factory
    await factory.close()


@pytest.fixture
def okx_gateway(okx_factory: ExperimentalFactory) -> OkxGateway:
    gateway = okx_factory.for_account(Credentials(KEY, SECRET, PASSPHRASE), Market.FUTURES)
    assert isinstance(gateway, OkxGateway)
    return gateway
