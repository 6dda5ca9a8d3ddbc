"""Accounts of exchanges not yet tried, through the services, against servers of their documented shapes."""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from pytest_django import Settings

from accounts.models import Account, Health, SymbolSetting
from accounts.services.gateways import gateway_for, gateways_without_database, take_orders
from accounts.services.registry import create_account
from accounts.services.symbol_settings import ensure_symbol_settings
from accounts.services.verification import verify_account
from accounts.tests.test_registry import Told
from exchange.budget import Priority
from exchange.bybit_gateway import BybitGateway
from exchange.loop import IoLoop
from exchange.okx_gateway import OkxGateway
from exchange.port import Market, ReportStatus
from exchange.tests.orders import BTC, entry
from exchange.tests.venues import bybit, okx
from exchange.tests.venues.wire import KEY, PASSPHRASE, SECRET, WireExchange, now_ms, sent_now, serving

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("connections", "redis")]


@pytest.fixture
def bybit_wire(settings: Settings) -> Iterator[WireExchange]:
    wire = bybit.BybitWire()
    flat = bybit.position(size="0", side="", leverage="3")
    wire.answer("GET /v5/market/instruments-info", bybit.rows(bybit.instrument()))
    wire.answer("GET /v5/market/time", lambda _: bybit.result(timeNano=f"{now_ms()}000000"))
    wire.answer("GET /v5/account/info", bybit.account_info())
    wire.answer("GET /v5/user/query-api", bybit.api_key())
    wire.answer("GET /v5/account/wallet-balance", bybit.rows(bybit.wallet()))
    wire.answer(
        "GET /v5/position/list", lambda asked: bybit.rows(flat) if "symbol" in asked.query else bybit.rows()
    )
    wire.answer(
        "POST /v5/position/set-leverage", bybit.refusal(110043, "Set leverage has not been modified.")
    )
    wire.answer("POST /v5/order/create", bybit.acknowledged)
    with serving(wire):
        settings.PAPER_EXCHANGE_URL, settings.EXPERIMENTAL_VENUES = wire.url, frozenset({"bybit"})
        yield wire


@pytest.fixture
def okx_wire(settings: Settings) -> Iterator[WireExchange]:
    wire = okx.OkxWire()
    leverage = {"instId": "BTC-USDT-SWAP", "lever": "3", "mgnMode": "isolated", "posSide": "net"}
    wire.answer("GET /api/v5/public/instruments", okx.INSTRUMENTS)
    wire.answer("GET /api/v5/public/time", lambda _: okx.rows({"ts": str(now_ms())}))
    wire.answer("GET /api/v5/account/config", okx.config())
    wire.answer("GET /api/v5/account/balance", okx.balance())
    wire.answer("GET /api/v5/account/positions", okx.rows())
    wire.answer("GET /api/v5/account/leverage-info", okx.rows(leverage))
    wire.answer("POST /api/v5/account/set-leverage", okx.rows(leverage))
    wire.answer("POST /api/v5/trade/batch-orders", okx.acknowledged)
    with serving(wire):
        settings.PAPER_EXCHANGE_URL, settings.EXPERIMENTAL_VENUES = wire.url, frozenset({"okx"})
        yield wire


def ordered(account: Account) -> ReportStatus:
    async def send() -> ReportStatus:
        assert await take_orders(account.exchange, Market.FUTURES, 1, Priority.ENTRY) == 1
        gateway = gateway_for(account, Market.FUTURES)
        return (await gateway.submit_order(sent_now(entry()))).status

    return IoLoop.current().run(send(), 10)


def test_a_bybit_account_is_verified_set_and_ordered_with(bybit_wire: WireExchange) -> None:
    account = create_account("alpha", KEY, SECRET, exchange="bybit")

    verdict = verify_account(account, NOW)

    assert verdict.is_fit, verdict
    account.refresh_from_db()
    assert (account.health, account.exchange_account_id) == (Health.HEALTHY, "1448939")
    assert (account.wallet_balance, account.permissions) == (Decimal("10056.84"), "SAFE")
    assert ensure_symbol_settings(account, [BTC], NOW)[BTC].leverage == 3
    assert SymbolSetting.objects.get(account=account).is_isolated
    assert ordered(account) is ReportStatus.NEW
    assert [asked.path for asked in bybit_wire.changes] == ["/v5/position/set-leverage", "/v5/order/create"]


def test_an_okx_account_is_verified_set_and_ordered_with(okx_wire: WireExchange) -> None:
    account = create_account("alpha", KEY, SECRET, PASSPHRASE, exchange="okx")

    verdict = verify_account(account, NOW)

    assert verdict.is_fit, verdict
    account.refresh_from_db()
    assert (account.health, account.exchange_account_id) == (Health.HEALTHY, "44705892343619584")
    assert account.permissions == "NO_IP_LIMIT"
    assert ensure_symbol_settings(account, [BTC], NOW)[BTC].leverage == 3
    assert ordered(account) is ReportStatus.NEW
    assert [asked.path.rpartition("/")[2] for asked in okx_wire.changes] == ["set-leverage", "batch-orders"]


def test_a_key_without_the_database_goes_to_its_own_exchange(settings: Settings) -> None:
    settings.ENVIRONMENT_ACCOUNTS = (
        Told(name="binance-one"),
        Told(number=2, name="bybit-one", exchange="bybit", api_key="another"),
        Told(number=3, name="okx-one", exchange="okx", api_key="third", passphrase="phrase"),
    )

    told = gateways_without_database()

    assert isinstance(told["bybit-one"], BybitGateway)
    assert isinstance(told["okx-one"], OkxGateway)
    assert not isinstance(told["binance-one"], BybitGateway | OkxGateway)
