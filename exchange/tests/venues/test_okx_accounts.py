"""An OKX account over the wire: contracts counted in base units, money, settings, clock, market data."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from exchange.credentials import Credentials
from exchange.errors import GatewayError, OrderRejected, ReadFailed
from exchange.factory import ExperimentalFactory
from exchange.okx_gateway import OkxGateway
from exchange.port import AccountSettings, KeyPermissions, Market, PositionReport, SymbolSettings
from exchange.tests.orders import BTC
from exchange.tests.venues import okx
from exchange.tests.venues.okx import OkxWire, refusal, rows
from exchange.tests.venues.wire import KEY, PASSPHRASE, SECRET, now_ms

ETH = "ETH/USDT:USDT"
POSITIONS, BALANCE = "GET /api/v5/account/positions", "GET /api/v5/account/balance"
CONFIG, BILLS = "GET /api/v5/account/config", "GET /api/v5/account/bills"
POSITION_MODE = "POST /api/v5/account/set-position-mode"
LEVERAGE, LEVERAGE_INFO = "POST /api/v5/account/set-leverage", "GET /api/v5/account/leverage-info"
FILLS, FILLS_HISTORY = "GET /api/v5/trade/fills", "GET /api/v5/trade/fills-history"


async def test_positions_are_told_in_base_units_with_the_sign_as_direction(
    okx_wire: OkxWire, okx_gateway: OkxGateway
) -> None:
    stranger = okx.position(instId="BTC-USD-SWAP", pos="7", ccy="BTC")
    okx_wire.answer(POSITIONS, rows(okx.position(), okx.position(pos="0"), stranger))

    assert await okx_gateway.fetch_positions() == [
        PositionReport(
            symbol=ETH,
            is_long=False,
            quantity=Decimal("0.05"),
            entry_price=Decimal("3320.5"),
            mark_price=Decimal("3305.5"),
            unrealized_profit=Decimal("0.75"),
            liquidation_price=Decimal("4200.5"),
            isolated_margin=Decimal("55.34"),
            is_isolated=True,
        )
    ]


async def test_in_hedge_mode_the_side_is_told_by_name(okx_wire: OkxWire, okx_gateway: OkxGateway) -> None:
    okx_wire.answer(POSITIONS, rows(okx.position(posSide="short", pos="2")))

    (position,) = await okx_gateway.fetch_positions()

    assert (position.is_long, position.position_side, position.quantity) == (False, "SHORT", Decimal("0.2"))


async def test_a_strangers_unlisted_contract_hides_no_position_of_ours(
    okx_wire: OkxWire, okx_gateway: OkxGateway
) -> None:
    okx_wire.answer(POSITIONS, rows(okx.position(instId="NEW-USDT-SWAP", pos="3"), okx.position()))

    stranger, ours = await okx_gateway.fetch_positions()

    assert (stranger.symbol, stranger.quantity) == ("NEW-USDT-SWAP", Decimal(3))
    assert (ours.symbol, ours.quantity) == (ETH, Decimal("0.05"))


@pytest.mark.parametrize("answer", ["", {"code": "0"}, rows({"instId": "ETH-USDT-SWAP"}), refusal("50001")])
async def test_positions_that_cannot_be_read_are_not_none(
    okx_wire: OkxWire, okx_gateway: OkxGateway, answer: Any
) -> None:
    okx_wire.answer(POSITIONS, answer)

    with pytest.raises(ReadFailed):
        await okx_gateway.fetch_positions()


async def test_the_wallet_counts_isolated_margin_and_not_what_is_unrealised(
    okx_wire: OkxWire, okx_gateway: OkxGateway
) -> None:
    okx_wire.answer(BALANCE, okx.balance())

    balance = await okx_gateway.fetch_balance()

    assert balance.equity == Decimal("99.89469657000001")
    assert balance.unrealized_profit == Decimal("-0.0273000000000002")
    assert balance.wallet == Decimal("99.92199657000001") + Decimal("0.0000000000000002")
    assert balance.available == Decimal("94.42612990333333")
    assert okx_wire.asked_for(BALANCE)[0].query == {"ccy": "USDT"}


@pytest.mark.parametrize(
    ("changes", "settings"),
    [
        ({}, AccountSettings(False, False, "44705892343619584")),
        ({"posMode": "long_short_mode"}, AccountSettings(True, False, "44705892343619584")),
        ({"acctLv": "3"}, AccountSettings(False, True, "44705892343619584")),
        ({"acctLv": "4"}, AccountSettings(False, True, "44705892343619584")),
    ],
)
async def test_the_modes_of_the_account(
    okx_wire: OkxWire, okx_gateway: OkxGateway, changes: dict[str, str], settings: AccountSettings
) -> None:
    okx_wire.answer(CONFIG, okx.config(**changes))

    assert await okx_gateway.fetch_account_settings() == settings


async def test_an_unheard_of_position_mode_is_a_failed_read(
    okx_wire: OkxWire, okx_gateway: OkxGateway
) -> None:
    okx_wire.answer(CONFIG, okx.config(posMode="another_mode"))

    with pytest.raises(ReadFailed):
        await okx_gateway.fetch_account_settings()


@pytest.mark.parametrize(
    ("changes", "permissions"),
    [
        ({}, KeyPermissions(False, False, True, True)),
        ({"ip": "117.37.203.58"}, KeyPermissions(False, True, True, True)),
        ({"perm": "read_only,withdraw,trade"}, KeyPermissions(True, False, True, True)),
        ({"perm": "read_only"}, KeyPermissions(False, False, False, False)),
    ],
)
async def test_what_the_key_may_do_is_the_venues_own_answer(
    okx_wire: OkxWire, okx_gateway: OkxGateway, changes: dict[str, str], permissions: KeyPermissions
) -> None:
    okx_wire.answer(CONFIG, okx.config(**changes))

    assert await okx_gateway.fetch_permissions() == permissions


async def test_isolated_leverage_is_set_and_read_back_of_what_was_set_or_is_open(
    okx_wire: OkxWire, okx_gateway: OkxGateway
) -> None:
    okx_wire.answer(LEVERAGE, rows({"instId": "BTC-USDT-SWAP", "lever": "3", "mgnMode": "isolated"}))
    okx_wire.answer(POSITIONS, rows(okx.position()))
    told = [
        {"instId": name, "lever": lever, "mgnMode": "isolated", "posSide": "net"}
        for name, lever in (("BTC-USDT-SWAP", "3.00000000"), ("ETH-USDT-SWAP", "2.5"))
    ]
    okx_wire.answer(LEVERAGE_INFO, rows(*told))

    await okx_gateway.set_isolated_margin(BTC)
    await okx_gateway.set_leverage(BTC, 3)

    (asked,) = okx_wire.changes
    assert asked.body == {"instId": "BTC-USDT-SWAP", "lever": "3", "mgnMode": "isolated"}
    assert await okx_gateway.fetch_symbol_settings() == [
        SymbolSettings(BTC, 3, is_isolated=True),
        SymbolSettings(ETH, 3, is_isolated=True),
    ]
    assert okx_wire.asked_for(LEVERAGE_INFO)[0].query == {
        "instId": "BTC-USDT-SWAP,ETH-USDT-SWAP",
        "mgnMode": "isolated",
    }


async def test_a_refused_leverage_is_told_by_its_code(okx_wire: OkxWire, okx_gateway: OkxGateway) -> None:
    okx_wire.answer(LEVERAGE, refusal("59102", "Leverage exceeds the maximum limit."))

    with pytest.raises(GatewayError) as refused:
        await okx_gateway.set_leverage(BTC, 125)

    assert refused.value.code == "59102"


async def test_one_way_mode_is_asked_for_the_account_and_refused_by_what_is_open(
    okx_wire: OkxWire, okx_gateway: OkxGateway
) -> None:
    okx_wire.answer(POSITION_MODE, rows({"posMode": "net_mode"}))
    await okx_gateway.set_one_way_mode()
    okx_wire.answer(POSITION_MODE, refusal("59000", "Close any open positions or orders."))

    with pytest.raises(OrderRejected) as refused:
        await okx_gateway.set_one_way_mode()

    assert refused.value.code == "59000"
    assert okx_wire.changes[0].body == {"posMode": "net_mode"}


async def test_the_clock_of_the_venue_is_measured_and_signed_with(
    okx_wire: OkxWire, okx_gateway: OkxGateway
) -> None:
    ahead = 700
    okx_wire.answer("GET /api/v5/public/time", lambda _: rows({"ts": str(now_ms() + ahead)}))
    okx_wire.answer(POSITIONS, rows())

    assert abs(await okx_gateway.fetch_clock_offset_ms() - ahead) < 200
    await okx_gateway.fetch_positions()

    (asked,) = okx_wire.asked_for(POSITIONS)
    signed = datetime.fromisoformat(asked.headers["OK-ACCESS-TIMESTAMP"]).timestamp() * 1000
    assert abs(signed - now_ms() - ahead) < 300


async def test_fills_are_told_in_base_units_with_the_fee_as_paid(
    okx_wire: OkxWire, okx_gateway: OkxGateway
) -> None:
    okx_wire.answer(FILLS, rows(okx.fill()))

    (fill,) = await okx_gateway.fetch_fills(BTC, exchange_order_id="680800019749904384")

    assert (fill.trade_id, fill.quantity, fill.price) == ("744876980", Decimal("0.013"), Decimal("70000.1"))
    assert (fill.fee, fill.fee_asset, fill.is_maker) == (Decimal("0.45500065"), "USDT", False)
    assert okx_wire.asked_for(FILLS_HISTORY) == []


async def test_older_fills_are_read_from_the_history(okx_wire: OkxWire, okx_gateway: OkxGateway) -> None:
    profit = okx.fill(fillPnl="12.5", execType="M", fee="0.01")
    okx_wire.answer(FILLS, rows())
    okx_wire.answer(FILLS_HISTORY, rows(profit))

    (of_order,) = await okx_gateway.fetch_fills(BTC, exchange_order_id="680800019749904384")
    (since,) = await okx_gateway.fetch_fills(BTC, since=datetime.now(UTC) - timedelta(days=20))

    assert of_order == since
    assert (since.realized_profit, since.fee, since.is_maker) == (Decimal("12.5"), Decimal("-0.01"), True)
    assert len(okx_wire.asked_for(FILLS)) == 1


async def test_income_is_funding_and_transfers_and_nothing_that_fills_tell(
    okx_wire: OkxWire, okx_gateway: OkxGateway
) -> None:
    moved = okx.bill(billId="2", type="1", balChg="250", posBalChg="0", instId="", ts="1695033476168")
    trade = okx.bill(billId="3", type="2", balChg="-1")
    within = okx.bill(billId="4", type="6", balChg="-5", posBalChg="5")
    okx_wire.answer(BILLS, rows(moved, trade, within, okx.bill()))

    funding, transfer = await okx_gateway.fetch_income(datetime.now(UTC) - timedelta(days=1))

    assert (funding.kind, funding.quantity, funding.symbol) == ("FUNDING_FEE", Decimal("-0.0219"), BTC)
    assert (transfer.kind, transfer.quantity, transfer.symbol) == ("TRANSFER", Decimal(250), "")


async def test_the_market_table_is_linear_perpetuals_in_base_units(
    okx_wire: OkxWire, okx_factory: ExperimentalFactory
) -> None:
    found = {item.symbol: item for item in await okx_factory.market_data(Market.FUTURES).fetch_instruments()}

    assert set(found) == {BTC, ETH, "SHIB/USDT:USDT"}
    bitcoin = found[BTC]
    assert (bitcoin.tick, bitcoin.step, bitcoin.min_quantity) == (
        Decimal("0.1"),
        Decimal("0.0001"),
        Decimal("0.0001"),
    )
    assert (bitcoin.max_market_quantity, bitcoin.venue_symbol) == (Decimal(120), "BTC-USDT-SWAP")
    assert found["SHIB/USDT:USDT"].step == Decimal(100_000)
    assert {asked.query["instType"] for asked in okx_wire.asked} == {"SWAP"}


async def test_marks_tickers_candles_and_depth_of_the_venue(
    okx_wire: OkxWire, okx_factory: ExperimentalFactory
) -> None:
    okx_wire.answer("GET /api/v5/public/mark-price", okx.MARKS)
    okx_wire.answer("GET /api/v5/market/tickers", okx.TICKERS)
    okx_wire.answer("GET /api/v5/market/candles", okx.CANDLES)
    okx_wire.answer("GET /api/v5/market/books", okx.BOOK)
    data = okx_factory.market_data(Market.FUTURES)

    (mark,) = await data.fetch_mark_prices()
    assert (mark.symbol, mark.mark_price) == (BTC, Decimal("70000.4"))
    (ticker,) = await data.fetch_tickers()
    assert (ticker.bid, ticker.quote_volume) == (Decimal("70009.9"), Decimal(22220) * Decimal(70010))
    older, newer = await data.fetch_candles(BTC, "1h", 2)
    assert (older.closed_at, older.volume) == (newer.opened_at, Decimal("67632347.24"))
    assert okx_wire.asked_for("GET /api/v5/market/candles")[0].query["bar"] == "1H"
    # 30.1 contracts of 0.01 BTC are the thinner side.
    assert await data.fetch_depth_quote(BTC, Decimal("0.005")) == Decimal("41006.3") * Decimal("0.301")


async def test_a_wrong_passphrase_is_a_refused_key(
    okx_wire: OkxWire, okx_factory: ExperimentalFactory
) -> None:
    stranger = okx_factory.for_account(Credentials(KEY, SECRET, "another"), Market.FUTURES)

    with pytest.raises(ReadFailed) as failed:
        await stranger.fetch_positions()

    assert failed.value.code == "50105"
    assert PASSPHRASE not in str(failed.value)


async def test_demo_trading_is_the_same_address_with_a_header(okx_wire: OkxWire) -> None:
    factory = ExperimentalFactory("testnet", "okx")
    factory._connection.hosts = factory.hosts.__class__(
        okx_wire.url, okx_wire.url, "", "", "", headers=factory.hosts.headers
    )
    okx_wire.answer(POSITIONS, rows())

    await factory.for_account(Credentials(KEY, SECRET, PASSPHRASE), Market.FUTURES).fetch_positions()

    assert {asked.headers.get("x-simulated-trading") for asked in okx_wire.asked} == {"1"}
    await factory.close()
