"""A Bybit account over the wire: positions, money, settings, clock, history, market data."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from exchange.bybit_gateway import BybitGateway
from exchange.credentials import Credentials
from exchange.errors import GatewayError, OrderRejected, ReadFailed
from exchange.factory import ExperimentalFactory, GatewayFactory, factory_for
from exchange.port import AccountSettings, KeyPermissions, Market, PositionReport, SymbolSettings
from exchange.quirks import VENUES
from exchange.tests.orders import BTC
from exchange.tests.venues import bybit
from exchange.tests.venues.bybit import BybitWire, refusal, result, rows
from exchange.tests.venues.wire import KEY, SECRET, Asked, now_ms

POSITIONS, EXECUTIONS = "GET /v5/position/list", "GET /v5/execution/list"
SWITCH_MODE = "POST /v5/position/switch-mode"
LEVERAGE, MARGIN_MODE = "POST /v5/position/set-leverage", "POST /v5/account/set-margin-mode"
WALLET, KEY_INFO = "GET /v5/account/wallet-balance", "GET /v5/user/query-api"
ACCOUNT, LOG = "GET /v5/account/info", "GET /v5/account/transaction-log"


async def test_positions_are_those_of_the_quote_coin_in_base_units(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway
) -> None:
    pages = {None: rows(bybit.position(), bybit.position(size="0", side=""), cursor="next"), "next": rows()}
    bybit_wire.answer(POSITIONS, lambda asked: pages[asked.query.get("cursor")])

    assert await bybit_gateway.fetch_positions() == [
        PositionReport(
            symbol=BTC,
            is_long=False,
            quantity=Decimal("0.300"),
            entry_price=Decimal("27464.50441675"),
            mark_price=Decimal("28224.50"),
            unrealized_profit=Decimal("-228.00"),
        )
    ]
    assert bybit_wire.asked_for(POSITIONS)[0].query == {
        "category": "linear",
        "settleCoin": "USDT",
        "limit": "200",
    }


@pytest.mark.parametrize("answer", ["", result(), rows({"symbol": "BTCUSDT"}), refusal(10016)])
async def test_positions_that_cannot_be_read_are_not_none(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway, answer: Any
) -> None:
    bybit_wire.answer(POSITIONS, answer)

    with pytest.raises(ReadFailed):
        await bybit_gateway.fetch_positions()


async def test_what_is_available_is_the_coins_own_without_margins_and_losses(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway
) -> None:
    bybit_wire.answer(WALLET, rows(bybit.wallet()))

    balance = await bybit_gateway.fetch_balance()

    assert (balance.wallet, balance.unrealized_profit) == (Decimal("10056.84"), Decimal("-10.32"))
    assert balance.equity == Decimal("10046.52")
    assert balance.available == Decimal("9045.53")
    assert bybit_wire.asked_for(WALLET)[0].query == {"accountType": "UNIFIED", "coin": "USDT"}


async def test_a_wallet_without_its_account_is_a_failed_read(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway
) -> None:
    bybit_wire.answer(WALLET, rows())

    with pytest.raises(ReadFailed):
        await bybit_gateway.fetch_balance()


@pytest.mark.parametrize(
    ("mode", "index", "settings"),
    [
        ("ISOLATED_MARGIN", 0, AccountSettings(False, False, "1448939")),
        ("REGULAR_MARGIN", 1, AccountSettings(True, False, "1448939")),
        ("PORTFOLIO_MARGIN", 0, AccountSettings(False, True, "1448939")),
    ],
)
async def test_the_modes_of_an_account_without_positions_are_read_from_one_symbol(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway, mode: str, index: int, settings: AccountSettings
) -> None:
    flat = bybit.position(size="0", side="", positionIdx=index)
    bybit_wire.answer(ACCOUNT, bybit.account_info(mode))
    bybit_wire.answer(KEY_INFO, bybit.api_key())
    bybit_wire.answer(POSITIONS, lambda asked: rows(flat) if "symbol" in asked.query else rows())

    assert await bybit_gateway.fetch_account_settings() == settings


async def test_leverage_is_set_both_ways_and_read_back_symbol_by_symbol(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway
) -> None:
    flat = bybit.position(size="0", side="", leverage="3")
    bybit_wire.answer(LEVERAGE, result())
    bybit_wire.answer(ACCOUNT, bybit.account_info())
    bybit_wire.answer(POSITIONS, lambda asked: rows(flat) if "symbol" in asked.query else rows())
    assert await bybit_gateway.fetch_symbol_settings() == []

    await bybit_gateway.set_leverage(BTC, 3)

    (asked,) = bybit_wire.asked_for(LEVERAGE)
    assert asked.body == {
        "category": "linear",
        "symbol": "BTCUSDT",
        "buyLeverage": "3",
        "sellLeverage": "3",
    }
    assert await bybit_gateway.fetch_symbol_settings() == [SymbolSettings(BTC, 3, is_isolated=True)]


async def test_a_broken_leverage_is_never_read_as_the_whole_one(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway
) -> None:
    bybit_wire.answer(ACCOUNT, bybit.account_info("REGULAR_MARGIN"))
    bybit_wire.answer(POSITIONS, rows(bybit.position(leverage="2.50")))

    assert await bybit_gateway.fetch_symbol_settings() == [SymbolSettings(BTC, 3, is_isolated=False)]


async def test_leverage_that_is_so_already_is_set_and_a_refused_one_is_not(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway
) -> None:
    bybit_wire.answer(LEVERAGE, refusal(110043, "Set leverage has not been modified."))
    await bybit_gateway.set_leverage(BTC, 3)
    bybit_wire.answer(LEVERAGE, refusal(110013, "Cannot set leverage due to risk limit level."))

    with pytest.raises(GatewayError) as refused:
        await bybit_gateway.set_leverage(BTC, 100)

    assert refused.value.code == "110013"


async def test_one_way_mode_is_asked_for_the_coin_and_refused_by_what_is_open(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway
) -> None:
    bybit_wire.answer(SWITCH_MODE, refusal(110025, "Position mode has not been modified."))
    await bybit_gateway.set_one_way_mode()
    bybit_wire.answer(SWITCH_MODE, refusal(110024, "You have an existing position."))

    with pytest.raises(OrderRejected) as refused:
        await bybit_gateway.set_one_way_mode()

    assert refused.value.code == "110024"
    assert bybit_wire.changes[0].body == {"category": "linear", "coin": "USDT", "mode": 0}


async def test_isolated_margin_is_the_accounts_and_asked_for_once(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway
) -> None:
    bybit_wire.answer(MARGIN_MODE, result(reasons=[]))
    bybit_wire.answer(ACCOUNT, bybit.account_info("REGULAR_MARGIN"))
    await bybit_gateway.set_isolated_margin(BTC)
    bybit_wire.answer(ACCOUNT, bybit.account_info())
    await bybit_gateway.set_isolated_margin(BTC)

    (asked,) = bybit_wire.asked_for(MARGIN_MODE)
    assert asked.body == {"setMarginMode": "ISOLATED_MARGIN"}


@pytest.mark.parametrize(
    ("changes", "permissions"),
    [
        ({}, KeyPermissions(False, True, True, True)),
        ({"ips": ["*"]}, KeyPermissions(False, False, True, True)),
        ({"readOnly": 1}, KeyPermissions(False, True, False, False)),
        (
            {"permissions": {"Wallet": ["Withdraw"], "ContractTrade": ["Order"], "Spot": []}},
            KeyPermissions(True, True, False, False),
        ),
        (
            {"permissions": {"Wallet": ["SubMemberTransfer"], "ContractTrade": [], "Spot": []}},
            KeyPermissions(True, True, False, False),
        ),
    ],
)
async def test_what_the_key_may_do_is_the_venues_own_answer(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway, changes: dict[str, Any], permissions: KeyPermissions
) -> None:
    bybit_wire.answer(KEY_INFO, bybit.api_key(**changes))

    assert await bybit_gateway.fetch_permissions() == permissions


async def test_the_clock_of_the_venue_is_measured_and_signed_with(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway
) -> None:
    ahead = 700
    bybit_wire.answer(
        "GET /v5/market/time", lambda _: result(timeNano=f"{now_ms() + ahead}213947", timeSecond="0")
    )
    bybit_wire.answer(POSITIONS, rows())

    assert abs(await bybit_gateway.fetch_clock_offset_ms() - ahead) < 200
    await bybit_gateway.fetch_positions()

    (asked,) = bybit_wire.asked_for(POSITIONS)
    assert abs(int(asked.headers["X-BAPI-TIMESTAMP"]) - now_ms() - ahead) < 300


async def test_fills_of_an_order_leave_funding_out(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway
) -> None:
    funding = bybit.execution(execType="Funding", execId="f1")
    bybit_wire.answer(EXECUTIONS, rows(funding, bybit.execution()))

    (fill,) = await bybit_gateway.fetch_fills(BTC, exchange_order_id="8c065341")

    assert (fill.trade_id, fill.quantity, fill.price, fill.fee, fill.fee_asset) == (
        "e0cbe81d-0f18-5866-9415-cf319b5dab3b",
        Decimal("0.013"),
        Decimal("70000.1"),
        Decimal("0.071409"),
        "USDT",
    )
    assert bybit_wire.asked_for(EXECUTIONS)[0].query["orderId"] == "8c065341"


async def test_fills_since_a_time_are_read_in_windows_of_seven_days_and_told_once(
    bybit_wire: BybitWire, bybit_factory: ExperimentalFactory
) -> None:
    start = datetime(2026, 9, 1, tzinfo=UTC)
    factory = ExperimentalFactory("paper", "bybit", bybit_wire.url, now=lambda: start + timedelta(days=10))
    late = bybit.execution(execId="late", execTime="1672282722500")
    bybit_wire.answer(EXECUTIONS, rows(late, bybit.execution()))

    fills = await factory.for_account(Credentials(KEY, SECRET), Market.FUTURES).fetch_fills(BTC, since=start)

    assert [fill.trade_id for fill in fills] == ["e0cbe81d-0f18-5866-9415-cf319b5dab3b", "late"]
    spans = [
        int(asked.query["endTime"]) - int(asked.query["startTime"])
        for asked in bybit_wire.asked_for(EXECUTIONS)
    ]
    assert spans == [7 * 86_400_000] * 2
    await factory.close()


async def test_income_is_funding_and_transfers_and_nothing_that_fills_tell(
    bybit_wire: BybitWire, bybit_gateway: BybitGateway
) -> None:
    transfer = bybit.logged(type="TRANSFER_IN", symbol="", change="250", transactionTime="1672128000001")
    trade = bybit.logged(type="TRADE", change="-0.0190872")
    seller = bybit.logged(type="PREMARKET_DELIVERY_PLEDGE_PAY_SELLER", transactionTime="1672128000002")
    bybit_wire.answer(LOG, rows(seller, transfer, trade, bybit.logged(), bybit.logged()))

    funding, moved, other = await bybit_gateway.fetch_income(datetime.now(UTC) - timedelta(days=1))

    assert (funding.kind, funding.quantity, funding.symbol) == ("FUNDING_FEE", Decimal("-0.003676"), BTC)
    assert (moved.kind, moved.quantity, moved.symbol) == ("TRANSFER", Decimal(250), "")
    assert all(len(one.kind) <= 30 and len(one.income_id) <= 60 for one in (funding, moved, other))


async def test_the_market_table_is_the_perpetuals_of_the_quote_coin(
    bybit_wire: BybitWire, bybit_factory: ExperimentalFactory
) -> None:
    dated = bybit.instrument(
        "BTC", symbol="BTCUSDT-26MAR27", contractType="LinearFutures", deliveryTime="1806048000000"
    )

    def listed(asked: Asked) -> Any:
        if asked.query.get("status") == "PreLaunch":
            return rows()
        return rows(
            bybit.instrument("BTC"),
            bybit.instrument("SOL", isPreListing=True),
            bybit.instrument("LINK", status="Closed"),
            dated,
        )

    bybit_wire.answer("GET /v5/market/instruments-info", listed)

    found = {
        item.symbol: item for item in await bybit_factory.market_data(Market.FUTURES).fetch_instruments()
    }

    bitcoin = found[BTC]
    assert (bitcoin.tick, bitcoin.step, bitcoin.min_notional) == (
        Decimal("0.1"),
        Decimal("0.001"),
        Decimal(5),
    )
    assert (bitcoin.max_quantity, bitcoin.max_market_quantity) == (Decimal(1190), Decimal(500))
    assert (bitcoin.venue_symbol, bitcoin.is_trading) == ("BTCUSDT", True)
    assert not found["SOL/USDT:USDT"].is_trading
    assert not found["LINK/USDT:USDT"].is_trading
    assert len(found) == 3


async def test_marks_tickers_candles_and_depth_of_the_venue(
    bybit_wire: BybitWire, bybit_factory: ExperimentalFactory
) -> None:
    bybit_wire.answer("GET /v5/market/tickers", rows(bybit.ticker(), bybit.ticker(symbol="UNLISTEDUSDT")))
    bybit_wire.answer("GET /v5/market/kline", bybit.KLINES)
    bybit_wire.answer("GET /v5/market/orderbook", bybit.BOOK)
    data = bybit_factory.market_data(Market.FUTURES)

    (mark,) = await data.fetch_mark_prices()
    assert (mark.symbol, mark.mark_price, mark.funding_rate) == (BTC, Decimal("70000.43"), Decimal("0.0001"))
    ticker = (await data.fetch_tickers())[0]
    assert (ticker.bid, ticker.ask, ticker.quote_volume) == (
        Decimal("70009.90"),
        Decimal("70010.10"),
        Decimal("2115000000.6907"),
    )
    older, newer = await data.fetch_candles(BTC, "1h", 2)
    assert older.closed_at == newer.opened_at
    assert bybit_wire.asked_for("GET /v5/market/kline")[0].query["interval"] == "60"
    assert await data.fetch_depth_quote(BTC, Decimal("0.005")) == Decimal("65557.7") * Decimal("16.606555")


async def test_a_venue_that_is_not_tried_has_neither_streams_nor_spot(
    bybit_wire: BybitWire, bybit_factory: ExperimentalFactory
) -> None:
    keys = Credentials(KEY, SECRET)
    stream = bybit_factory.user_stream(keys, Market.FUTURES)
    events = stream.events()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(events), 0.05)
    assert (stream.is_up, stream.alive_at, bybit_wire.asked) == (False, None, [])
    with pytest.raises(ReadFailed):
        bybit_factory.mark_stream(Market.FUTURES)
    with pytest.raises(OrderRejected):
        bybit_factory.for_account(keys, Market.SPOT)
    with pytest.raises(ReadFailed):
        bybit_factory.market_data(Market.SPOT)


def test_each_venue_goes_to_its_own_addresses_and_to_no_other() -> None:
    for name in ("bybit", "okx"):
        assert VENUES[name].is_experimental
        assert isinstance(factory_for("live", name), ExperimentalFactory)
        with pytest.raises(ValueError, match="own address"):
            factory_for("testnet", name, "http://127.0.0.1:1")
        with pytest.raises(ValueError, match="unknown venue"):
            GatewayFactory("live", name)
    assert not VENUES["binance"].is_experimental
    assert factory_for("testnet", "bybit").hosts.futures == "https://api-testnet.bybit.com"
    assert factory_for("testnet", "okx").hosts.headers == {"x-simulated-trading": "1"}
    assert factory_for("live", "okx").hosts.headers == {}
