"""What an account is read as, from the venue's recorded answers, and that a failed read is never empty."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from exchange.budget import Priority, RateBudget, already_taken
from exchange.credentials import Credentials
from exchange.errors import OrderRejected, ReadFailed, Throttled
from exchange.factory import GatewayFactory
from exchange.futures_gateway import FuturesGateway
from exchange.port import (
    AccountSettings,
    BalanceReport,
    FillReport,
    IncomeReport,
    KeyPermissions,
    MarginBracket,
    Market,
    OrderSide,
    OrderType,
    PositionReport,
    SymbolSettings,
)
from exchange.spot_gateway import SpotGateway
from exchange.tests.conftest import Asked, RecordedVenue
from exchange.tests.orders import BTC, entry

NOW = datetime(2026, 9, 10, tzinfo=UTC)
DAY_MS = 86_400_000


def at(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=milliseconds)


@pytest.fixture
def futures(factory: GatewayFactory, keys: Credentials) -> FuturesGateway:
    return factory.for_account(keys, Market.FUTURES)


@pytest.fixture
def spot(factory: GatewayFactory, keys: Credentials) -> SpotGateway:
    return factory.for_account(keys, Market.SPOT)


def risk(**changes: Any) -> dict[str, Any]:
    return {
        "symbol": "BTCUSDT",
        "positionSide": "BOTH",
        "positionAmt": "-0.013",
        "entryPrice": "91508.9",
        "breakEvenPrice": "91463.1",
        "markPrice": "92415.80000000",
        "unRealizedProfit": "-11.78970000",
        "liquidationPrice": "0",
        "isolatedMargin": "600.25",
        "notional": "-1201.40",
        "marginAsset": "USDT",
        "updateTime": 1789000000000,
        **changes,
    }


async def test_positions_are_read_raw_and_a_row_without_quantity_is_none(
    venue: RecordedVenue, futures: FuturesGateway
) -> None:
    flat = risk(symbol="ETHUSDT", positionAmt="0.000", entryPrice="0.0")
    venue.answer(
        "GET /fapi/v3/positionRisk",
        [risk(), flat, risk(symbol="ETHUSDT", positionAmt="2", positionSide="LONG")],
    )

    short, long = await futures.fetch_positions()

    assert short == PositionReport(
        symbol=BTC,
        is_long=False,
        quantity=Decimal("0.013"),
        entry_price=Decimal("91508.9"),
        mark_price=Decimal("92415.8"),
        unrealized_profit=Decimal("-11.7897"),
        liquidation_price=None,
        isolated_margin=Decimal("600.25"),
        is_isolated=True,
    )
    assert (long.is_long, long.position_side) == (True, "LONG")


@pytest.mark.parametrize("body", ["", "[{", "{}", [{"symbol": "BTCUSDT"}], [risk(positionAmt="many")], ["x"]])
async def test_unreadable_positions_are_a_failed_read_never_no_positions(
    venue: RecordedVenue, futures: FuturesGateway, body: Any
) -> None:
    venue.answer("GET /fapi/v3/positionRisk", body)

    with pytest.raises(ReadFailed) as failed:
        await futures.fetch_positions()
    assert failed.value.code == "UNREADABLE"


@pytest.mark.parametrize(("status", "code"), [(429, -1003), (401, -2015), (500, -1000), (400, -1021)])
async def test_a_refused_read_keeps_its_code_and_is_still_a_failed_read(
    venue: RecordedVenue, futures: FuturesGateway, status: int, code: int
) -> None:
    venue.refuse("GET /fapi/v3/positionRisk", code, status=status)

    with pytest.raises(ReadFailed) as failed:
        await futures.fetch_positions()
    assert failed.value.code == str(code)


async def test_the_balance_includes_the_profit_of_isolated_positions(
    venue: RecordedVenue, futures: FuturesGateway
) -> None:
    usdt = {"walletBalance": "10056.84", "unrealizedProfit": "-10.32", "availableBalance": "9045.53"}
    venue.answer("GET /fapi/v3/account", {"assets": [{"asset": "BNB"}, {"asset": "USDT", **usdt}]})

    balance = await futures.fetch_balance()

    assert balance == BalanceReport("USDT", Decimal("10056.84"), Decimal("-10.32"), Decimal("9045.53"))
    assert balance.equity == Decimal("10046.52")


async def test_a_spot_balance_tells_free_and_locked_coins(venue: RecordedVenue, spot: SpotGateway) -> None:
    rows = [
        {"asset": "USDT", "free": "90.5", "locked": "10"},
        {"asset": "BTC", "free": "0.0", "locked": "0.5"},
        {"asset": "ETH", "free": "0.0", "locked": "0.0"},
    ]
    venue.answer("GET /api/v3/account", {"balances": rows, "uid": 7})

    balance = await spot.fetch_balance()

    assert (balance.wallet, balance.available) == (Decimal("100.5"), Decimal("90.5"))
    assert balance.free == {"USDT": Decimal("90.5"), "BTC": Decimal(0)}
    assert balance.locked == {"USDT": Decimal(10), "BTC": Decimal("0.5")}


async def test_modes_and_the_account_id_are_read_as_they_are(
    venue: RecordedVenue, futures: FuturesGateway
) -> None:
    venue.answer("GET /fapi/v1/accountConfig", {"dualSidePosition": True, "multiAssetsMargin": False})
    venue.answer("GET /api/v3/account", {"balances": [], "uid": 354937868})

    assert await futures.fetch_account_settings() == AccountSettings(
        is_hedge_mode=True, is_multi_assets=False, exchange_account_id="354937868"
    )


async def test_an_account_id_the_key_may_not_read_is_empty(venue: RecordedVenue, spot: SpotGateway) -> None:
    venue.refuse("GET /api/v3/account", -2015, status=401)

    assert (await spot.fetch_account_settings()).exchange_account_id == ""


async def test_an_account_id_that_could_not_be_asked_for_is_a_failed_read(
    venue: RecordedVenue, spot: SpotGateway
) -> None:
    venue.answer("GET /api/v3/account", "", 502)

    with pytest.raises(ReadFailed):
        await spot.fetch_account_settings()


async def test_symbol_settings_come_in_bulk(venue: RecordedVenue, futures: FuturesGateway) -> None:
    rows = [
        {"symbol": "BTCUSDT", "marginType": "ISOLATED", "isAutoAddMargin": False, "leverage": 3},
        {"symbol": "ETHUSDT", "marginType": "CROSSED", "isAutoAddMargin": False, "leverage": 20},
    ]
    venue.answer("GET /fapi/v1/symbolConfig", rows)

    assert await futures.fetch_symbol_settings() == [
        SymbolSettings(BTC, 3, is_isolated=True),
        SymbolSettings("ETH/USDT:USDT", 20, is_isolated=False),
    ]


async def test_already_isolated_is_success(venue: RecordedVenue, futures: FuturesGateway) -> None:
    venue.refuse("POST /fapi/v1/marginType", -4046, "No need to change margin type.")

    await futures.set_isolated_margin(BTC)

    (asked,) = venue.asked_for("POST /fapi/v1/marginType")
    assert (asked.params["symbol"], asked.params["marginType"]) == ("BTCUSDT", "ISOLATED")


async def test_hedge_mode_and_cross_margin_are_asked_for_by_the_venues_words(
    venue: RecordedVenue, futures: FuturesGateway
) -> None:
    venue.refuse("POST /fapi/v1/positionSide/dual", -4059, "No need to change position side.")
    venue.refuse("POST /fapi/v1/marginType", -4046, "No need to change margin type.")

    await futures.set_hedge_mode()
    await futures.set_cross_margin(BTC)

    (mode,) = venue.asked_for("POST /fapi/v1/positionSide/dual")
    (margin,) = venue.asked_for("POST /fapi/v1/marginType")
    assert mode.params["dualSidePosition"] == "true"
    assert (margin.params["symbol"], margin.params["marginType"]) == ("BTCUSDT", "CROSSED")


async def test_a_refused_leverage_is_refused(venue: RecordedVenue, futures: FuturesGateway) -> None:
    venue.refuse("POST /fapi/v1/leverage", -4028, "Leverage 200 is not valid")

    with pytest.raises(OrderRejected) as refused:
        await futures.set_leverage(BTC, 200)
    assert refused.value.code == "-4028"


@pytest.mark.parametrize("moves", [{"enableWithdrawals": True}, {"enableInternalTransfer": True}])
async def test_a_key_that_can_move_money_out_is_told(
    venue: RecordedVenue, futures: FuturesGateway, moves: dict[str, bool]
) -> None:
    answer = {"ipRestrict": False, "enableFutures": True, "enableSpotAndMarginTrading": False}
    nothing = {"enableWithdrawals": False, "enableInternalTransfer": False}
    venue.answer("GET /sapi/v1/account/apiRestrictions", {**answer, **nothing, **moves})

    assert await futures.fetch_permissions() == KeyPermissions(
        can_withdraw=True, is_ip_restricted=False, can_trade_futures=True, can_trade_spot=False
    )


async def test_a_venue_that_does_not_tell_leaves_permissions_unknown(futures: FuturesGateway) -> None:
    assert await futures.fetch_permissions() == KeyPermissions(None, None, None, None)


async def test_the_clock_is_measured_in_the_middle_of_the_trip_and_signs_what_follows(
    venue: RecordedVenue, futures: FuturesGateway
) -> None:
    async def ahead(_: Asked) -> dict[str, int]:
        await asyncio.sleep(0.02)
        return {"serverTime": round(datetime.now(UTC).timestamp() * 1000) + 5000}

    venue.answer("GET /fapi/v1/time", ahead)
    venue.answer("GET /fapi/v3/positionRisk", [])

    await futures.symbol_reader()
    sent_ms = datetime.now(UTC).timestamp() * 1000
    offset = await futures.fetch_clock_offset_ms()
    before_ms = datetime.now(UTC).timestamp() * 1000
    stamp = futures.timestamp_ms()
    await futures.fetch_positions()

    assert abs(offset - 5000) <= (before_ms - sent_ms) / 2 + 1
    assert abs(stamp - before_ms - offset) < 50
    (asked,) = venue.asked_for("GET /fapi/v3/positionRisk")
    assert offset - 5 <= int(asked.params["timestamp"]) - before_ms < offset + 1000


def user_trade(number: int, milliseconds: int, **changes: Any) -> dict[str, Any]:
    return {
        "buyer": False,
        "commission": "0.04550",
        "commissionAsset": "USDT",
        "id": number,
        "maker": False,
        "orderId": 283194212,
        "price": "70000.10",
        "qty": "0.013",
        "quoteQty": "910.0013",
        "realizedPnl": "-1.25",
        "side": "SELL",
        "positionSide": "BOTH",
        "symbol": "BTCUSDT",
        "time": milliseconds,
        **changes,
    }


async def test_the_fills_of_an_order_are_asked_for_by_its_id(
    venue: RecordedVenue, futures: FuturesGateway
) -> None:
    venue.answer("GET /fapi/v1/userTrades", [user_trade(2, 2000), user_trade(1, 1000)])

    first, second = await futures.fetch_fills(BTC, exchange_order_id="283194212")

    (asked,) = venue.asked_for("GET /fapi/v1/userTrades")
    assert asked.params["orderId"] == "283194212"
    assert second.trade_id == "2"
    assert first == FillReport(
        trade_id="1",
        exchange_order_id="283194212",
        symbol=BTC,
        side=OrderSide.SELL,
        price=Decimal("70000.1"),
        quantity=Decimal("0.013"),
        fee=Decimal("0.0455"),
        fee_asset="USDT",
        filled_at=at(1000),
        realized_profit=Decimal("-1.25"),
    )


async def test_a_long_history_is_read_in_windows_and_full_pages_without_loss_or_doubles(
    venue: RecordedVenue,
) -> None:
    """1,500 fills in one window of three; rows of the last millisecond of a page come twice."""
    start = NOW - timedelta(days=20)
    start_ms = round(start.timestamp() * 1000)
    rows = [user_trade(number, start_ms + 1000 + number // 4) for number in range(1500)]
    rows += [user_trade(2000, start_ms + 15 * DAY_MS)]

    def serve(asked: Asked) -> list[dict[str, Any]]:
        begin, end = int(asked.params["startTime"]), int(asked.params["endTime"])
        assert end - begin <= 7 * DAY_MS
        return [row for row in rows if begin <= row["time"] <= end][: int(asked.params["limit"])]

    venue.answer("GET /fapi/v1/userTrades", serve)
    factory = GatewayFactory("paper", base_url=venue.url, now=lambda: NOW)
    fills = await factory.for_account(Credentials("k", "s"), Market.FUTURES).fetch_fills(BTC, since=start)
    await factory.close()

    assert [int(fill.trade_id) for fill in fills] == [*range(1500), 2000]
    assert len(venue.asked_for("GET /fapi/v1/userTrades")) == 4


async def test_spot_history_goes_on_by_id(venue: RecordedVenue, spot: SpotGateway) -> None:
    rows = [
        {
            "symbol": "BTCUSDT",
            "id": number,
            "orderId": 28,
            "price": "70000",
            "qty": "0.001",
            "commission": "0.000001",
            "commissionAsset": "BTC",
            "time": 1000 + number,
            "isBuyer": True,
            "isMaker": False,
        }
        for number in range(1200)
    ]

    def serve(asked: Asked) -> list[dict[str, Any]]:
        first = int(asked.params.get("fromId", 0))
        return rows[first : first + 1000]

    venue.answer("GET /api/v3/myTrades", serve)
    fills = await spot.fetch_fills("BTC/USDT", since=at(0))

    assert [int(fill.trade_id) for fill in fills] == list(range(1200))
    assert (fills[0].side, fills[0].fee_asset) == (OrderSide.BUY, "BTC")


async def test_income_leaves_out_what_fills_tell_themselves(venue: RecordedVenue) -> None:
    def row(number: int, kind: str, **changes: Any) -> dict[str, Any]:
        told = {"asset": "USDT", "info": "", "time": 1789000000000, "tranId": number, "tradeId": ""}
        return {"symbol": "BTCUSDT", "incomeType": kind, "income": "-0.375", **told, **changes}

    rows = [
        row(1, "COMMISSION"),
        row(2, "REALIZED_PNL"),
        row(3, "FUNDING_FEE"),
        row(4, "TRANSFER", symbol=""),
    ]
    venue.answer("GET /fapi/v1/income", rows)
    factory = GatewayFactory("paper", base_url=venue.url, now=lambda: NOW)
    funding, transfer = await factory.for_account(Credentials("k", "s"), Market.FUTURES).fetch_income(
        NOW - timedelta(days=1)
    )
    await factory.close()

    assert funding == IncomeReport(
        income_id="FUNDING_FEE:3:BTCUSDT",
        kind="FUNDING_FEE",
        asset="USDT",
        quantity=Decimal("-0.375"),
        symbol=BTC,
        at=at(1789000000000),
    )
    assert (transfer.kind, transfer.symbol) == ("TRANSFER", "")


async def test_brackets_are_exact_although_they_come_as_numbers(
    venue: RecordedVenue, futures: FuturesGateway
) -> None:
    steps = [
        {
            "bracket": 2,
            "initialLeverage": 100,
            "notionalCap": 600000,
            "notionalFloor": 300000,
            "maintMarginRatio": 0.005,
        },
        {
            "bracket": 1,
            "initialLeverage": 150,
            "notionalCap": 300000,
            "notionalFloor": 0,
            "maintMarginRatio": 0.004,
        },
    ]
    venue.answer("GET /fapi/v1/leverageBracket", [{"symbol": "BTCUSDT", "brackets": steps}])

    assert (await futures.fetch_brackets())[BTC] == (
        MarginBracket(Decimal(0), Decimal(300000), 150, Decimal("0.004")),
        MarginBracket(Decimal(300000), Decimal(600000), 100, Decimal("0.005")),
    )


# -- the budget on the way -------------------------------------------------------------------------------


class GrantingRedis:
    """Grants everything and keeps what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def eval(self, script: str, numkeys: int, *keys_and_args: Any) -> list[int]:
        self.asked.append(keys_and_args)
        return list(keys_and_args[7::3])


class FullRedis(GrantingRedis):
    """Has room for the market table and for nothing else."""

    def eval(self, script: str, numkeys: int, *keys_and_args: Any) -> list[int]:
        return [1] if keys_and_args[5] == 1 else [0]


@pytest.fixture
def granting() -> GrantingRedis:
    return GrantingRedis()


@pytest.fixture
async def counted(
    venue: RecordedVenue, granting: GrantingRedis, keys: Credentials
) -> AsyncIterator[FuturesGateway]:
    factory = GatewayFactory(
        "paper", base_url=venue.url, budgets={Market.FUTURES: RateBudget(granting, "binance")}
    )
    yield factory.for_account(keys, Market.FUTURES)
    await factory.close()


async def test_requests_are_counted_by_weight_and_the_venues_own_count_comes_back(
    venue: RecordedVenue, granting: GrantingRedis, counted: FuturesGateway
) -> None:
    venue.answer("GET /fapi/v3/positionRisk", [], headers={"X-MBX-USED-WEIGHT-1M": "1234"})
    venue.answer("GET /fapi/v1/openOrders", [])

    await counted.fetch_positions()
    await counted.fetch_open_orders(is_conditional=False)

    assert [(asked[5], asked[3]) for asked in granting.asked][-2:] == [(5, 0), (40, 1234)]


async def test_a_throttled_answer_stops_the_whole_address(
    venue: RecordedVenue, granting: GrantingRedis, counted: FuturesGateway
) -> None:
    venue.answer(
        "POST /fapi/v1/order", {"code": -1003, "msg": "Too many requests"}, 429, {"Retry-After": "17"}
    )

    with pytest.raises(Throttled) as refused:
        await counted.submit_order(entry())

    assert refused.value.retry_after_seconds == 17.0
    assert granting.asked[-1] == ("desk:budget:binance:default:stop", 17_000)


async def test_too_many_orders_of_one_account_silence_that_account_alone(
    venue: RecordedVenue, granting: GrantingRedis, counted: FuturesGateway, keys: Credentials
) -> None:
    venue.answer(
        "POST /fapi/v1/order", {"code": -1015, "msg": "Too many new orders"}, 429, {"Retry-After": "7"}
    )
    with pytest.raises(Throttled) as refused:
        await counted.submit_order(entry())
    assert (refused.value.code, refused.value.retry_after_seconds) == ("-1015", 7.0)
    assert not any("stop" in asked[0] for asked in granting.asked)

    with pytest.raises(Throttled) as held_back:
        await counted.submit_order(entry(type=OrderType.MARKET, price=None, reduce_only=True))
    assert held_back.value.code == "ORDER_RATE"
    assert 6 < held_back.value.retry_after_seconds <= 7
    assert len(venue.asked_for("POST /fapi/v1/order")) == 1


async def test_entries_leave_room_in_the_orders_an_account_may_place(
    venue: RecordedVenue, counted: FuturesGateway
) -> None:
    headers = {"X-MBX-ORDER-COUNT-10S": "209", "X-MBX-ORDER-COUNT-1M": "209"}
    venue.answer("POST /fapi/v1/order", {"code": -2019, "msg": "Margin is insufficient."}, 400, headers)
    with pytest.raises(OrderRejected):
        await counted.submit_order(entry())
    headers["X-MBX-ORDER-COUNT-10S"] = "210"
    venue.answer("POST /fapi/v1/order", {"code": -2019, "msg": "Margin is insufficient."}, 400, headers)
    with pytest.raises(OrderRejected):
        await counted.submit_order(entry())

    with pytest.raises(Throttled) as held_back:
        await counted.submit_order(entry())
    assert held_back.value.code == "ORDER_RATE"
    assert 0 < held_back.value.retry_after_seconds <= 10
    with pytest.raises(OrderRejected):
        await counted.submit_order(entry(type=OrderType.MARKET, price=None, reduce_only=True))


async def test_a_chunk_is_taken_at_once_and_its_orders_ask_no_more(
    venue: RecordedVenue, granting: GrantingRedis, keys: Credentials
) -> None:
    budget = RateBudget(granting, "binance", stop_check_seconds=0)
    factory = GatewayFactory("paper", base_url=venue.url, budgets={Market.FUTURES: budget})
    await factory.warm_up()
    venue.answer("POST /fapi/v1/order", {"code": -2019, "msg": "Margin is insufficient."}, 400)
    granting.asked.clear()

    assert await factory.take_orders(Market.FUTURES, 50, Priority.ENTRY) == 50
    for _ in range(50):
        with already_taken(), pytest.raises(OrderRejected):
            await factory.for_account(keys, Market.FUTURES).submit_order(entry())
    await factory.close()

    assert [asked[5:] for asked in granting.asked] == [(0, 1680, 50)]


async def test_a_ban_that_does_not_tell_its_length_is_taken_as_two_minutes(
    venue: RecordedVenue, granting: GrantingRedis, counted: FuturesGateway
) -> None:
    venue.answer("GET /fapi/v3/positionRisk", "", 418)

    with pytest.raises(ReadFailed):
        await counted.fetch_positions()

    assert granting.asked[-1] == ("desk:budget:binance:default:stop", 120_000)


async def test_a_request_the_budget_refuses_never_leaves(venue: RecordedVenue, keys: Credentials) -> None:
    factory = GatewayFactory(
        "paper", base_url=venue.url, budgets={Market.FUTURES: RateBudget(FullRedis(), "binance")}
    )
    venue.answer("GET /fapi/v3/positionRisk", [])

    with pytest.raises(ReadFailed) as refused:
        await factory.for_account(keys, Market.FUTURES).fetch_positions()
    await factory.close()

    assert refused.value.code == "BUDGET"
    assert venue.asked_for("GET /fapi/v3/positionRisk") == []
