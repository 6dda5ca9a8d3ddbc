"""ccxt `binance` as it is, on spot."""

from collections.abc import Callable

import ccxt
import pytest

from tests.clients.ccxt_clients import SPOT, Client, Kind

Connect = Callable[[Kind], Client]
BTC = "BTC/USDT"
spot_kinds = pytest.mark.parametrize("kind", SPOT, ids=str)


@spot_kinds
async def test_spot_is_bought_guarded_and_sold(connect: Connect, kind: Kind) -> None:
    client = connect(kind)
    assert (await client.fetch_balance())["USDT"]["free"] == 10_000
    bought = await client.create_order(BTC, "market", "buy", 0.01, None, {"clientOrderId": "spot1"})
    assert (bought["status"], bought["average"], bought["fee"]["cost"]) == ("closed", 100_005, 0.00001)
    guard = {"stopPrice": 98_000, "clientOrderId": "guard1"}
    await client.create_order(BTC, "STOP_LOSS_LIMIT", "sell", 0.00999, 97_900, guard)
    assert (await client.fetch_balance())["BTC"]["used"] == 0.00999
    [listed] = await client.fetch_open_orders(BTC)
    assert (listed["clientOrderId"], listed["triggerPrice"]) == ("guard1", 98_000)
    with pytest.raises(ccxt.InsufficientFunds):
        await client.create_order(BTC, "market", "sell", 0.005)
    await client.cancel_order(None, BTC, {"clientOrderId": "guard1"})
    await client.create_order(BTC, "market", "sell", 0.00999)
    assert (await client.fetch_balance())["BTC"]["total"] == 0
    assert sorted(f["side"] for f in await client.fetch_my_trades(BTC)) == ["buy", "sell"]


@spot_kinds
async def test_a_spot_order_rests_and_all_are_cancelled(connect: Connect, kind: Kind) -> None:
    client = connect(kind)
    placed = await client.create_order(BTC, "limit", "buy", 0.01, 90_000)
    await client.create_order(BTC, "limit", "buy", 0.01, 91_000)
    assert (await client.fetch_order(placed["id"], BTC))["status"] == "open"
    await client.cancel_all_orders(BTC)
    assert await client.fetch_open_orders(BTC) == []
    assert [o["status"] for o in await client.fetch_orders(BTC)] == ["canceled", "canceled"]
    assert (await client.fetch_balance())["USDT"] == {"free": 10_000, "used": 0, "total": 10_000}


@spot_kinds
async def test_spot_market_reads_parse(connect: Connect, kind: Kind) -> None:
    client = connect(kind)
    markets = await client.load_markets()
    assert markets[BTC]["spot"] is True
    assert (await client.fetch_ticker(BTC))["last"] == 100_000
    assert (await client.fetch_order_book(BTC, 5))["asks"][0][0] == 100_005
    assert len(await client.fetch_ohlcv(BTC, "1m", limit=5)) == 5
    assert (await client.fetch_bids_asks([BTC]))[BTC]["bid"] == 99_995
    assert len(await client.fetch_trades(BTC, limit=5)) == 5
