"""ccxt as it is, blocking and not, `binanceusdm` and `binance`: what each does with futures orders."""

from collections.abc import Callable
from itertools import pairwise

import ccxt
import pytest

from tests.clients.ccxt_clients import BTC, EVERY, SOL, Client, Kind, with_production_errors
from tests.processes import PaperExchange

Connect = Callable[[Kind], Client]
every_kind = pytest.mark.parametrize("kind", EVERY, ids=str)
TRIGGER = {"trigger": True}


@every_kind
async def test_a_market_order_opens_and_a_reduce_only_one_closes(connect: Connect, kind: Kind) -> None:
    client = connect(kind)
    assert (await client.fetch_balance())["USDT"]["free"] == 10_000
    opened = await client.create_order(BTC, "market", "buy", 0.05, None, {"clientOrderId": "in1"})
    assert (opened["status"], opened["filled"], opened["average"]) == ("closed", 0.05, None)
    found = await client.fetch_order(opened["id"], BTC)
    assert (found["clientOrderId"], found["average"], found["cost"]) == ("in1", 100_005, 5000.25)
    [position] = await client.fetch_positions([BTC])
    assert (position["side"], position["contracts"], position["entryPrice"]) == ("long", 0.05, 100_005)
    await client.create_order(BTC, "market", "sell", 0.05, None, {"reduceOnly": True})
    assert await client.fetch_positions([BTC]) == []
    fills = await client.fetch_my_trades(BTC)
    assert {(f["side"], f["price"], f["fee"]["cost"]) for f in fills} == {
        ("buy", 100_005, 2.500125),
        ("sell", 99_995, 2.499875),
    }
    assert (await client.fetch_balance())["USDT"]["total"] == 9994.5


@every_kind
async def test_a_limit_order_rests_is_edited_and_cancelled(connect: Connect, kind: Kind) -> None:
    client = connect(kind)
    placed = await client.create_order(BTC, "limit", "buy", 0.01, 90_000, {"clientOrderId": "rest1"})
    assert (placed["status"], placed["filled"]) == ("open", 0)
    edited = await client.edit_order(placed["id"], BTC, "limit", "buy", 0.02, 91_000)
    assert (edited["amount"], edited["price"]) == (0.02, 91_000)
    [listed] = await client.fetch_open_orders(BTC)
    assert (listed["clientOrderId"], listed["price"]) == ("rest1", 91_000)
    cancelled = await client.cancel_order(None, BTC, {"clientOrderId": "rest1"})
    assert cancelled["status"] == "canceled"
    assert await client.fetch_open_orders(BTC) == []
    assert [o["status"] for o in await client.fetch_orders(BTC)] == ["canceled"]


@every_kind
async def test_a_resting_order_fills_at_its_own_price_as_maker(
    paper: PaperExchange, connect: Connect, kind: Kind
) -> None:
    client = connect(kind)
    await client.create_order(SOL, "limit", "buy", 10, 149, {"clientOrderId": "maker1"})
    paper.set_mark("SOLUSDT", "148")
    found = await client.fetch_order(None, SOL, {"clientOrderId": "maker1"})
    assert (found["status"], found["average"]) == ("closed", 149)
    [fill] = await client.fetch_my_trades(SOL)
    assert (fill["takerOrMaker"], fill["price"], fill["fee"]["cost"]) == ("maker", 149, 0.298)


@every_kind
async def test_immediate_orders_leave_nothing_resting(connect: Connect, kind: Kind) -> None:
    client = with_production_errors(connect(kind))
    ioc = await client.create_order(BTC, "limit", "buy", 0.01, 99_000, {"timeInForce": "IOC"})
    assert (ioc["status"], ioc["filled"]) == ("expired", 0)
    with pytest.raises(ccxt.OrderNotFillable, match="-5021"):
        await client.create_order(BTC, "limit", "buy", 0.01, 99_000, {"timeInForce": "FOK"})
    with pytest.raises(ccxt.OrderNotFillable, match="-5022"):
        await client.create_order(BTC, "limit", "buy", 0.01, 100_100, {"postOnly": True})
    assert await client.fetch_open_orders(BTC) == []
    assert await client.fetch_my_trades(BTC) == []


@every_kind
async def test_conditional_orders_live_in_their_own_store(connect: Connect, kind: Kind) -> None:
    client = connect(kind)
    await client.create_order(BTC, "market", "buy", 0.05)
    sell = (BTC, "market", "sell", 0.01, None)
    stop = await client.create_order(*sell, {"stopLossPrice": 98_000, "clientOrderId": "stop1"})
    target = await client.create_order(*sell, {"takeProfitPrice": 102_000, "clientOrderId": "target1"})
    trail = await client.create_order(
        *sell, {"trailingPercent": 1.5, "trailingTriggerPrice": 101_000, "clientOrderId": "trail1"}
    )
    limit_stop = await client.create_order(
        BTC, "limit", "sell", 0.01, 97_900, {"stopLossPrice": 98_000, "clientOrderId": "stop2"}
    )
    assert [o["status"] for o in (stop, target, trail, limit_stop)] == ["open"] * 4
    assert await client.fetch_open_orders(BTC) == []
    listed = {o["clientOrderId"]: o for o in await client.fetch_open_orders(BTC, params=TRIGGER)}
    assert set(listed) == {"stop1", "target1", "trail1", "stop2"}
    assert (listed["stop1"]["triggerPrice"], listed["stop2"]["price"]) == (98_000, 97_900)
    assert listed["trail1"]["info"]["callbackRate"] == "1.5"
    found = await client.fetch_order(stop["id"], BTC, TRIGGER)
    assert (found["clientOrderId"], found["status"]) == ("stop1", "open")
    await client.cancel_order(None, BTC, TRIGGER | {"clientOrderId": "target1"})
    left = await client.fetch_open_orders(BTC, params=TRIGGER)
    assert {o["clientOrderId"] for o in left} == {"stop1", "trail1", "stop2"}


@every_kind
async def test_cancelling_all_is_done_once_a_store(connect: Connect, kind: Kind) -> None:
    client = connect(kind)
    await client.create_order(BTC, "market", "buy", 0.05)
    await client.create_order(BTC, "limit", "buy", 0.01, 90_000)
    await client.create_order(BTC, "market", "sell", 0.05, None, {"stopLossPrice": 98_000})
    await client.cancel_all_orders(BTC)
    assert await client.fetch_open_orders(BTC) == []
    assert len(await client.fetch_open_orders(BTC, params=TRIGGER)) == 1
    await client.cancel_all_orders(BTC, TRIGGER)
    assert await client.fetch_open_orders(BTC, params=TRIGGER) == []


@every_kind
async def test_a_fired_stop_is_an_ordinary_order_with_the_same_client_id(
    paper: PaperExchange, connect: Connect, kind: Kind
) -> None:
    client = connect(kind)
    await client.create_order(SOL, "market", "buy", 10)
    guard = {"stopLossPrice": 145, "reduceOnly": True, "workingType": "MARK_PRICE", "clientOrderId": "guard1"}
    stop = await client.create_order(SOL, "market", "sell", 10, None, guard)
    paper.set_mark("SOLUSDT", "140")
    fired = await client.fetch_order(stop["id"], SOL, TRIGGER)
    assert (fired["status"], fired["info"]["algoStatus"]) == ("closed", "FINISHED")
    order = await client.fetch_order(None, SOL, {"clientOrderId": "guard1"})
    assert order["id"] == fired["info"]["actualOrderId"]
    assert (order["status"], order["filled"], order["average"] < 140) == ("closed", 10, True)
    assert await client.fetch_positions([SOL]) == []


@every_kind
async def test_a_trailing_stop_follows_the_best_price_and_fires_below_it(
    paper: PaperExchange, connect: Connect, kind: Kind
) -> None:
    client = connect(kind)
    await client.create_order(SOL, "market", "buy", 10)
    trail = {"trailingPercent": 2, "trailingTriggerPrice": 155, "reduceOnly": True, "clientOrderId": "trail1"}
    await client.create_order(SOL, "market", "sell", 10, None, trail)
    for price in ("154", "140", "160", "157"):
        paper.set_mark("SOLUSDT", price)
    assert len(await client.fetch_open_orders(SOL, params=TRIGGER)) == 1
    paper.set_mark("SOLUSDT", "156.5")
    assert await client.fetch_positions([SOL]) == []
    assert (await client.fetch_order(None, SOL, {"clientOrderId": "trail1"}))["filled"] == 10


@every_kind
async def test_hedged_sides_are_held_and_closed_apart(connect: Connect, kind: Kind) -> None:
    client = connect(kind)
    await client.set_position_mode(True)
    assert (await client.fetch_position_mode())["hedged"] is True
    await client.create_order(BTC, "market", "buy", 0.02, None, {"hedged": True})
    await client.create_order(BTC, "market", "sell", 0.01, None, {"hedged": True})
    held = {p["side"]: p["contracts"] for p in await client.fetch_positions([BTC])}
    assert held == {"long": 0.02, "short": 0.01}
    await client.create_order(BTC, "market", "sell", 0.02, None, {"hedged": True, "reduceOnly": True})
    [left] = await client.fetch_positions([BTC])
    assert (left["side"], left["contracts"], left["hedged"]) == ("short", 0.01, True)
    with pytest.raises(ccxt.OperationRejected, match="-4068"):
        await client.set_position_mode(False)


@every_kind
async def test_leverage_and_margin_mode_are_set_and_read_back(connect: Connect, kind: Kind) -> None:
    client = connect(kind)
    await client.set_leverage(7, BTC)
    await client.set_margin_mode("isolated", BTC)
    with pytest.raises(ccxt.MarginModeAlreadySet):
        await client.set_margin_mode("isolated", BTC)
    read = await client.fetch_leverage(BTC)
    assert (read["longLeverage"], read["marginMode"]) == (7, "isolated")
    await client.create_order(BTC, "market", "buy", 0.01)
    await client.add_margin(BTC, 50)
    [position] = await client.fetch_positions([BTC])
    assert (position["marginMode"], position["info"]["isolatedWallet"]) == ("isolated", "192.86428571")
    assert (await client.fetch_leverage_tiers([BTC]))[BTC][0]["maxLeverage"] == 150


@every_kind
async def test_a_batch_answers_for_each_order(connect: Connect, kind: Kind) -> None:
    client = connect(kind)
    order = {"symbol": BTC, "type": "limit", "side": "buy", "amount": 0.01}
    placed = await client.create_orders([order | {"price": 90_000}, order | {"price": 10, "amount": 0.001}])
    assert {(o["status"], o["id"] is None) for o in placed} == {("open", False), ("rejected", True)}
    assert [o["price"] for o in await client.fetch_open_orders(BTC)] == [90_000]


@every_kind
async def test_market_reads_parse(connect: Connect, kind: Kind) -> None:
    client = connect(kind)
    markets = await client.load_markets()
    assert (markets[BTC]["precision"]["price"], markets[BTC]["limits"]["cost"]["min"]) == (0.1, 50)
    assert abs(await client.fetch_time() - client.raw.milliseconds()) < 1000
    assert (await client.fetch_status())["status"] == "ok"
    assert (await client.fetch_ticker(BTC))["last"] == 100_000
    assert BTC in await client.fetch_tickers([BTC])
    assert (await client.fetch_bids_asks([BTC]))[BTC]["ask"] == 100_005
    assert (await client.fetch_last_prices([BTC]))[BTC]["price"] == 100_000
    book = await client.fetch_order_book(BTC, 5)
    assert (book["bids"][0][0], book["asks"][0][0], len(book["bids"])) == (99_995, 100_005, 5)
    candles = await client.fetch_ohlcv(BTC, "15m", limit=20)
    assert [b[0] - a[0] for a, b in pairwise(candles)] == [900_000] * 19
    assert len(await client.fetch_ohlcv(BTC, "1m", limit=3, params={"price": "mark"})) == 3
    assert len(await client.fetch_trades(BTC, limit=7)) == 7
    assert (await client.fetch_funding_rate(BTC))["markPrice"] == 100_000
    assert len(await client.fetch_funding_rate_history(BTC, limit=3)) == 3
    assert (await client.fetch_mark_price(BTC))["markPrice"] == 100_000
    assert (await client.fetch_trading_fee(BTC))["maker"] == 0.0002
    assert (await client.fetch_open_interest(BTC))["symbol"] == BTC
    assert await client.fetch_funding_history(BTC) == []
    restrictions = await client.sapiGetAccountApiRestrictions()
    assert (restrictions["enableFutures"], restrictions["enableWithdrawals"]) == (True, False)


@every_kind
async def test_candles_are_paged_by_their_opening(connect: Connect, kind: Kind) -> None:
    client = connect(kind)
    [oldest] = await client.fetch_ohlcv(BTC, "1m", since=1, limit=1)
    first, second = await client.fetch_ohlcv(BTC, "1m", since=oldest[0], limit=2)
    assert (first[0], second[0]) == (oldest[0], oldest[0] + 60_000)
    after = await client.fetch_ohlcv(BTC, "1m", since=first[0] + 1, limit=1)
    assert after == [second]
    [forming] = await client.fetch_ohlcv(BTC, "1m", limit=1)
    assert await client.fetch_ohlcv(BTC, "1m", since=forming[0] + 1) == []


@every_kind
async def test_public_fills_are_paged_by_moment_and_by_number(connect: Connect, kind: Kind) -> None:
    client = connect(kind)
    await client.load_markets()
    newest = await client.fetch_trades(BTC, limit=10)
    paged = await client.fetch_trades(BTC, since=newest[2]["timestamp"], limit=3)
    assert [row["id"] for row in paged] == [row["id"] for row in newest[2:5]]
    question = {"symbol": "BTCUSDT", "fromId": newest[4]["id"], "limit": 2}
    numbered = await client.fapiPublicGetHistoricalTrades(question)
    assert [str(row["id"]) for row in numbered] == [row["id"] for row in newest[4:6]]
