"""The gateway against a live exchange: the same code, the same bytes, real answers."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from exchange.budget import RateBudget
from exchange.credentials import Credentials
from exchange.errors import OrderRejected, OutcomeUnknown, ReadFailed, Throttled
from exchange.factory import GatewayFactory
from exchange.futures_gateway import FuturesGateway
from exchange.port import (
    InstrumentReport,
    Market,
    OrderRequest,
    OrderSide,
    OrderType,
    ReportStatus,
    SymbolSettings,
)
from exchange.spot_gateway import SpotGateway
from exchange.stream_events import (
    BalanceEvent,
    ConditionalEvent,
    OrderEvent,
    PositionEvent,
    StreamUp,
    UserEvent,
)
from exchange.symbols import SymbolTable
from tests.processes import PaperExchange, Valkey

BTC = "BTC/USDT:USDT"
BTC_SPOT = "BTC/USDT"

names = (f"paper-gateway-{number}-{time.time_ns()}" for number in itertools.count())
ids = (f"phx{number}x{time.time_ns()}" for number in itertools.count())


@pytest.fixture
async def live(paper_exchange: PaperExchange) -> AsyncIterator[GatewayFactory]:
    factory = GatewayFactory("paper", base_url=paper_exchange.url)
    yield factory
    await factory.close()


def new_account() -> Credentials:
    name = next(names)
    return Credentials(name, name)


@pytest.fixture
def account() -> Credentials:
    return new_account()


@pytest.fixture
async def futures(live: GatewayFactory, account: Credentials) -> FuturesGateway:
    return live.for_account(account, Market.FUTURES)


@pytest.fixture
async def spot(live: GatewayFactory, account: Credentials) -> SpotGateway:
    return live.for_account(account, Market.SPOT)


async def btc(live: GatewayFactory, market: Market = Market.FUTURES) -> tuple[InstrumentReport, Decimal]:
    """The instrument and its price now."""
    instruments = {item.base: item for item in await live.market_data(market).fetch_instruments()}
    marks = {mark.symbol: mark for mark in await live.market_data(market).fetch_mark_prices()}
    return instruments["BTC"], marks[instruments["BTC"].symbol].mark_price


def floored(number: Decimal, step: Decimal) -> Decimal:
    return number // step * step


def request_(gateway: Any, **fields: Any) -> OrderRequest:
    told = {
        "client_order_id": next(ids),
        "symbol": BTC,
        "side": OrderSide.BUY,
        "type": OrderType.MARKET,
        "quantity": Decimal("0.01"),
        "timestamp_ms": gateway.timestamp_ms(),
        **fields,
    }
    return OrderRequest(**told)


def stop(gateway: Any, mark: Decimal, tick: Decimal, **fields: Any) -> OrderRequest:
    told = {
        "side": OrderSide.SELL,
        "type": OrderType.STOP_MARKET,
        "quantity": None,
        "trigger_price": floored(mark * Decimal("0.9"), tick),
        "close_position": True,
        **fields,
    }
    return request_(gateway, **told)


async def test_the_market_table_serves_both_markets(live: GatewayFactory, account: Credentials) -> None:
    futures = await live.market_data(Market.FUTURES, account).fetch_instruments()
    spot = await live.market_data(Market.SPOT).fetch_instruments()
    table = SymbolTable([*futures, *spot])

    assert table.unify("BTCUSDT") == BTC
    assert table.spot_twin(BTC) == BTC_SPOT
    assert all(item.tick > 0 and item.step > 0 and item.min_notional > 0 for item in [*futures, *spot])
    assert all(item.brackets for item in futures)


async def test_marks_candles_tickers_and_depth_agree(live: GatewayFactory) -> None:
    data = live.market_data(Market.FUTURES)
    marks = {mark.symbol: mark for mark in await data.fetch_mark_prices()}
    candles = await data.fetch_candles(BTC, "1h", 300)
    tickers = {ticker.symbol: ticker for ticker in await data.fetch_tickers()}

    assert abs((datetime.now(UTC) - marks[BTC].at).total_seconds()) < 5
    assert len(candles) == 300
    assert all(one.closed_at == two.opened_at for one, two in itertools.pairwise(candles))
    assert candles[-2].closed_at <= datetime.now(UTC) < candles[-1].closed_at
    assert abs(candles[-1].close / marks[BTC].mark_price - 1) < Decimal("0.01")
    bid, ask = tickers[BTC].bid, tickers[BTC].ask
    assert bid is not None
    assert ask is not None
    assert bid < ask
    assert await data.fetch_depth_quote(BTC, Decimal("0.005")) > 0


async def test_a_new_account_is_funded_flat_and_readable(futures: FuturesGateway) -> None:
    await futures.fetch_clock_offset_ms()
    balance, positions, settings, permissions = await asyncio.gather(
        futures.fetch_balance(),
        futures.fetch_positions(),
        futures.fetch_account_settings(),
        futures.fetch_permissions(),
    )

    assert balance.wallet == balance.available == balance.equity > 0
    assert list(positions) == []
    assert (settings.is_hedge_mode, settings.is_multi_assets) == (False, False)
    assert settings.exchange_account_id != ""
    assert (permissions.can_withdraw, permissions.can_trade_futures) == (False, True)


async def test_leverage_and_margin_are_what_is_read_back(futures: FuturesGateway) -> None:
    await futures.set_isolated_margin(BTC)
    await futures.set_isolated_margin(BTC)
    await futures.set_leverage(BTC, 3)

    settings = {item.symbol: item for item in await futures.fetch_symbol_settings()}
    assert settings[BTC] == SymbolSettings(BTC, 3, is_isolated=True)
    with pytest.raises(OrderRejected) as refused:
        await futures.set_leverage(BTC, 1000)
    assert refused.value.code == "-4028"


async def test_an_entry_its_lookup_its_fills_and_its_position_agree(
    live: GatewayFactory, futures: FuturesGateway
) -> None:
    instrument, mark = await btc(live)
    cap = floored(mark * Decimal("1.01"), instrument.tick)
    request = request_(futures, type=OrderType.LIMIT_IOC, price=cap)

    placed = await futures.submit_order(request)
    found = await futures.fetch_order(BTC, request.client_order_id, is_conditional=False)
    fills = await futures.fetch_fills(BTC, exchange_order_id=placed.exchange_order_id)
    recent = await futures.fetch_fills(BTC, since=datetime.now(UTC) - timedelta(minutes=5))
    (position,) = await futures.fetch_positions()
    balance = await futures.fetch_balance()

    assert (placed.status, placed.filled_quantity) == (ReportStatus.FILLED, Decimal("0.01"))
    assert found is not None
    assert found.average_price is not None
    assert sum(fill.quantity for fill in fills) == Decimal("0.01")
    cost = sum((fill.price * fill.quantity for fill in fills), Decimal(0))
    assert abs(cost / Decimal("0.01") - found.average_price) < instrument.tick
    assert all(fill.price <= cap and fill.fee > 0 for fill in fills)
    assert list(recent) == list(fills)
    assert (position.symbol, position.is_long, position.quantity) == (BTC, True, Decimal("0.01"))
    assert balance.available < balance.equity


async def test_an_entry_at_a_price_nobody_sells_at_expires_without_a_fill(
    live: GatewayFactory, futures: FuturesGateway
) -> None:
    instrument, mark = await btc(live)
    low = floored(mark * Decimal("0.98"), instrument.tick)

    report = await futures.submit_order(request_(futures, type=OrderType.LIMIT_IOC, price=low))

    assert (report.status, report.filled_quantity) == (ReportStatus.EXPIRED, Decimal(0))
    assert list(await futures.fetch_positions()) == []


async def test_a_late_request_is_refused_by_the_exchange_itself(futures: FuturesGateway) -> None:
    request = request_(futures, timestamp_ms=futures.timestamp_ms() - 45_000)

    with pytest.raises(Throttled) as late:
        await futures.submit_order(request)

    assert late.value.code == "-1021"
    assert await futures.fetch_order(BTC, request.client_order_id, is_conditional=False) is None


async def test_a_stop_rests_in_its_own_store_is_seen_and_can_be_cancelled(
    live: GatewayFactory, futures: FuturesGateway
) -> None:
    instrument, mark = await btc(live)
    await futures.submit_order(request_(futures))
    request = stop(futures, mark, instrument.tick)

    placed = await futures.submit_order(request)
    (listed,) = await futures.fetch_open_orders(is_conditional=True)
    ordinary = await futures.fetch_open_orders(is_conditional=False)
    found = await futures.fetch_order(BTC, request.client_order_id, is_conditional=True)
    cancelled = await futures.cancel_order(BTC, request.client_order_id, is_conditional=True)
    again = await futures.cancel_order(BTC, request.client_order_id, is_conditional=True)

    assert placed.status is ReportStatus.NEW
    assert (listed.client_order_id, listed.close_position) == (request.client_order_id, True)
    assert listed.trigger_price == request.trigger_price
    assert list(ordinary) == []
    assert found is not None
    assert found.status is ReportStatus.NEW
    assert (cancelled, again) == (True, False)


async def test_a_second_close_position_stop_and_one_already_crossed_are_refused(
    live: GatewayFactory, futures: FuturesGateway
) -> None:
    instrument, mark = await btc(live)
    await futures.submit_order(request_(futures))
    await futures.submit_order(stop(futures, mark, instrument.tick))

    with pytest.raises(OrderRejected) as second:
        await futures.submit_order(stop(futures, mark, instrument.tick))
    crossed = stop(
        futures,
        mark,
        instrument.tick,
        close_position=False,
        quantity=Decimal("0.01"),
        reduce_only=True,
        trigger_price=floored(mark * Decimal("1.05"), instrument.tick),
    )
    with pytest.raises(OrderRejected) as immediate:
        await futures.submit_order(crossed)

    assert (second.value.code, immediate.value.code) == ("-4130", "-2021")


async def test_a_reduce_only_close_leaves_nothing_and_a_second_one_is_refused(
    futures: FuturesGateway,
) -> None:
    await futures.submit_order(request_(futures))
    await futures.submit_order(request_(futures, side=OrderSide.SELL, reduce_only=True))

    assert list(await futures.fetch_positions()) == []
    with pytest.raises(OrderRejected) as refused:
        await futures.submit_order(request_(futures, side=OrderSide.SELL, reduce_only=True))
    assert refused.value.code == "-2022"


async def test_too_little_margin_and_too_small_an_order_are_refused_by_code(futures: FuturesGateway) -> None:
    with pytest.raises(OrderRejected) as margin:
        await futures.submit_order(request_(futures, quantity=Decimal(50)))
    with pytest.raises(OrderRejected) as small:
        await futures.submit_order(request_(futures, symbol="ETH/USDT:USDT", quantity=Decimal("0.001")))

    assert (margin.value.code, small.value.code) == ("-2019", "-4164")


async def test_a_wrong_secret_is_a_refusal_and_a_failed_read(
    live: GatewayFactory, account: Credentials
) -> None:
    stranger = live.for_account(Credentials(account.api_key, "wrong"), Market.FUTURES)

    with pytest.raises(OrderRejected):
        await stranger.submit_order(request_(stranger))
    with pytest.raises(ReadFailed):
        await stranger.fetch_positions()


async def test_an_order_applied_without_an_answer_is_unknown_and_found_by_its_id(
    paper_exchange: PaperExchange, futures: FuturesGateway, account: Credentials
) -> None:
    request = request_(futures)
    paper_exchange.add_fault(
        endpoint="POST /fapi/v1/order", account=account.api_key, kind="close_socket", apply=True, count=1
    )

    with pytest.raises(OutcomeUnknown):
        await futures.submit_order(request)
    found = await futures.fetch_order(BTC, request.client_order_id, is_conditional=False)

    assert found is not None
    assert found.status is ReportStatus.FILLED


async def test_spot_buys_locks_its_coins_under_a_stop_and_releases_them(
    live: GatewayFactory, spot: SpotGateway
) -> None:
    instrument, price = await btc(live, Market.SPOT)
    quantity = floored(Decimal(200) / price, instrument.step)
    bought = await spot.submit_order(request_(spot, symbol=BTC_SPOT, quantity=quantity))
    (fill, *_) = await spot.fetch_fills(BTC_SPOT, exchange_order_id=bought.exchange_order_id)
    owned = (await spot.fetch_balance()).free["BTC"]
    trigger = floored(price * Decimal("0.9"), instrument.tick)
    limit = floored(trigger * Decimal("0.97"), instrument.tick)
    resting = request_(
        spot,
        symbol=BTC_SPOT,
        side=OrderSide.SELL,
        type=OrderType.STOP_LIMIT,
        quantity=floored(owned, instrument.step),
        price=limit,
        trigger_price=trigger,
    )

    placed = await spot.submit_order(resting)
    locked = (await spot.fetch_balance()).locked["BTC"]
    (listed,) = await spot.fetch_open_orders(BTC_SPOT, is_conditional=True)
    assert await spot.cancel_order(BTC_SPOT, resting.client_order_id, is_conditional=True) is True
    released = (await spot.fetch_balance()).locked.get("BTC", Decimal(0))

    assert (bought.status, bought.filled_quantity) == (ReportStatus.FILLED, quantity)
    assert fill.fee > 0
    assert (placed.status, locked) == (ReportStatus.NEW, resting.quantity)
    assert (listed.client_order_id, listed.trigger_price) == (resting.client_order_id, trigger)
    assert released == 0


async def collect(events: list[UserEvent], stream: Any, until: asyncio.Event) -> None:
    async with aclosing(stream.events()) as told:
        async for event in told:
            events.append(event)
            if isinstance(event, StreamUp):
                until.set()


async def flat(futures: FuturesGateway) -> None:
    while list(await futures.fetch_positions()):  # noqa: ASYNC110 - the exchange is asked, nothing here can wake us
        await asyncio.sleep(0.05)


async def settled(events: list[UserEvent], wanted: type, seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not any(isinstance(event, wanted) for event in events):  # noqa: ASYNC110 - the list has no event
            await asyncio.sleep(0.02)


async def test_the_account_stream_tells_what_the_reads_tell(
    live: GatewayFactory, futures: FuturesGateway, account: Credentials
) -> None:
    instrument, mark = await btc(live)
    events: list[UserEvent] = []
    up = asyncio.Event()
    collecting = asyncio.create_task(collect(events, live.user_stream(account, Market.FUTURES), up))
    await asyncio.wait_for(up.wait(), 5)

    bought = await futures.submit_order(request_(futures))
    await futures.submit_order(stop(futures, mark, instrument.tick))
    await settled(events, ConditionalEvent)
    await settled(events, PositionEvent)
    fills = await futures.fetch_fills(BTC, exchange_order_id=bought.exchange_order_id)
    (position,) = await futures.fetch_positions()
    collecting.cancel()

    streamed = [event.fill for event in events if isinstance(event, OrderEvent) and event.fill]
    assert [(fill.trade_id, fill.price, fill.quantity, fill.fee) for fill in streamed] == [
        (fill.trade_id, fill.price, fill.quantity, fill.fee) for fill in fills
    ]
    told = [event for event in events if isinstance(event, PositionEvent)][-1]
    assert (told.symbol, told.is_long, told.quantity, told.entry_price) == (
        position.symbol,
        position.is_long,
        position.quantity,
        position.entry_price,
    )


async def test_a_fired_stop_is_told_by_stream_and_lookup_alike(
    paper_exchange: PaperExchange, live: GatewayFactory, futures: FuturesGateway, account: Credentials
) -> None:
    symbol = "ETH/USDT:USDT"
    data = live.market_data(Market.FUTURES)
    instruments = {item.symbol: item for item in await data.fetch_instruments()}
    mark = {mark.symbol: mark.mark_price for mark in await data.fetch_mark_prices()}[symbol]
    tick = instruments[symbol].tick
    events: list[UserEvent] = []
    up = asyncio.Event()
    collecting = asyncio.create_task(collect(events, live.user_stream(account, Market.FUTURES), up))
    await asyncio.wait_for(up.wait(), 5)
    await futures.submit_order(request_(futures, symbol=symbol, quantity=Decimal("0.1")))
    request = stop(futures, mark, tick, symbol=symbol, trigger_price=floored(mark * Decimal("0.99"), tick))
    await futures.submit_order(request)

    paper_exchange.set_mark("ETHUSDT", str(floored(mark * Decimal("0.98"), tick)))
    try:
        await asyncio.wait_for(flat(futures), 5)
    finally:
        paper_exchange.set_mark("ETHUSDT", None)
    found = await futures.fetch_order(symbol, request.client_order_id, is_conditional=True)
    ordinary = await futures.fetch_order(symbol, request.client_order_id, is_conditional=False)
    collecting.cancel()

    assert found is not None
    assert ordinary is not None
    assert (found.status, found.triggered_order_id) == (ReportStatus.TRIGGERED, ordinary.exchange_order_id)
    assert (ordinary.status, ordinary.filled_quantity) == (ReportStatus.FILLED, Decimal("0.1"))
    told = [event.report for event in events if isinstance(event, ConditionalEvent)]
    assert ordinary.exchange_order_id in {report.triggered_order_id for report in told}


@pytest.mark.parametrize(("market", "symbol"), [(Market.FUTURES, BTC), (Market.SPOT, BTC_SPOT)])
async def test_all_marks_are_streamed(live: GatewayFactory, market: Market, symbol: str) -> None:
    stream = live.mark_stream(market)
    async with asyncio.timeout(4), aclosing(stream.batches()) as batches:
        batch = await anext(batches)
        stale = stream.is_stale

    assert symbol in {mark.symbol for mark in batch}
    assert stale is False


async def test_the_spot_stream_tells_executions_and_balances(
    live: GatewayFactory, spot: SpotGateway, account: Credentials
) -> None:
    instrument, price = await btc(live, Market.SPOT)
    events: list[UserEvent] = []
    up = asyncio.Event()
    collecting = asyncio.create_task(collect(events, live.user_stream(account, Market.SPOT), up))
    await asyncio.wait_for(up.wait(), 5)

    quantity = floored(Decimal(200) / price, instrument.step)
    bought = await spot.submit_order(request_(spot, symbol=BTC_SPOT, quantity=quantity))
    await settled(events, BalanceEvent)
    collecting.cancel()

    fills = [event.fill for event in events if isinstance(event, OrderEvent) and event.fill]
    assert sum(fill.quantity for fill in fills) == quantity
    assert {fill.exchange_order_id for fill in fills} == {bought.exchange_order_id}


# -- one address ------------------------------------------------------------------------------------------


@pytest.fixture
async def two_processes(
    paper_exchange: PaperExchange, redis: Redis, valkey: Valkey
) -> AsyncIterator[list[GatewayFactory]]:
    """Two processes' gateways behind one address, with one budget."""
    clients = [AsyncRedis.from_url(valkey.url) for _ in range(2)]
    factories = [
        GatewayFactory(
            "paper",
            base_url=paper_exchange.url,
            # The exchange tells each the weight of all tests of the minute.
            budgets={Market.FUTURES: RateBudget(client, "binance-futures", weight_limit_per_minute=ROOM)},
        )
        for client in clients
    ]
    for factory in factories:
        await factory.warm_up()
    yield factories
    paper_exchange.delete("/paper/faults")
    for factory in factories:
        await factory.close()
    for client in clients:
        await client.aclose()


ROOM = 100_000
HEARD_BY_THEN_SECONDS = 0.06
"""What weighs nothing asks at most every 50 ms whether somebody else was told to be silent."""


@pytest.mark.parametrize("status", [429, 418])
async def test_who_is_told_to_be_silent_silences_every_process_of_the_address_until_it_is_over(
    paper_exchange: PaperExchange, two_processes: list[GatewayFactory], status: int
) -> None:
    told, other = (factory.for_account(new_account(), Market.FUTURES) for factory in two_processes)
    paper_exchange.add_fault(
        kind="http", endpoint="GET /fapi/v3/positionRisk", status=status, code=-1003, retry_after=2
    )
    with pytest.raises(ReadFailed):
        await told.fetch_positions()
    asked_at = time.monotonic()

    await asyncio.sleep(HEARD_BY_THEN_SECONDS)
    for gateway in (told, other):
        with pytest.raises(Throttled) as stopped:
            await gateway.submit_order(request_(gateway, reduce_only=True))
        assert stopped.value.code == "STOPPED"
        assert 0 < stopped.value.retry_after_seconds <= 2
    await asyncio.sleep(2.1 - (time.monotonic() - asked_at))
    for gateway in (told, other):
        assert list(await gateway.fetch_positions()) == []


async def test_too_many_orders_of_one_account_hold_back_no_other(
    paper_exchange: PaperExchange, two_processes: list[GatewayFactory]
) -> None:
    fast, other = (two_processes[0].for_account(new_account(), Market.FUTURES) for _ in range(2))
    paper_exchange.add_fault(
        kind="http",
        endpoint="POST /fapi/v1/order",
        account=fast._credentials.api_key,
        status=429,
        code=-1015,
        retry_after=5,
    )
    for code in ("-1015", "ORDER_RATE"):
        with pytest.raises(Throttled) as held_back:
            await fast.submit_order(request_(fast))
        assert held_back.value.code == code
    assert (await other.submit_order(request_(other))).status == ReportStatus.FILLED
    assert list(await fast.fetch_positions()) == []
