"""The spot subset: market data, account and orders."""

from decimal import Decimal
from functools import partial

from paper.engine.book import levels
from paper.engine.orders import BUY, MARKET, SELL, ZERO, SpotOrder
from paper.engine.refusals import Refusal, refuse
from paper.engine.spot import STOP_TYPES, NewSpotOrder
from paper.ledger import Row
from paper.protocol.calls import SIGNED, Call, Json, Route, Routes, by_symbol, looked_up
from paper.protocol.market import (
    WEIGHT_LIMIT,
    aggregated_prints,
    candles,
    day_row,
    kline_row,
    ping,
    preparing_candles,
    printed,
    server_time,
)
from paper.protocol.shapes import Fields
from paper.symbols import Instrument

TYPES = frozenset({"LIMIT", "LIMIT_MAKER", MARKET}) | STOP_TYPES
NEEDS_PRICE = frozenset({"LIMIT", "LIMIT_MAKER", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT"})
MAX_KLINES = 1000


# market data


def instrument_row(instrument: Instrument) -> Fields:
    """One symbol of the spot exchangeInfo."""
    least, step = f"{instrument.min_quantity:f}", f"{instrument.step:f}"
    return {
        "symbol": instrument.symbol,
        "status": "TRADING",
        "baseAsset": instrument.base,
        "baseAssetPrecision": 8,
        "quoteAsset": instrument.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": sorted(TYPES),
        "icebergAllowed": True,
        "ocoAllowed": False,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": False,
        "cancelReplaceAllowed": False,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": f"{instrument.tick:f}",
                "maxPrice": f"{instrument.reference_price * 1000:f}",
                "tickSize": f"{instrument.tick:f}",
            },
            {
                "filterType": "LOT_SIZE",
                "minQty": least,
                "maxQty": f"{instrument.max_quantity:f}",
                "stepSize": step,
            },
            {
                "filterType": "MARKET_LOT_SIZE",
                "minQty": "0.00000000",
                "maxQty": f"{instrument.market_max_quantity:f}",
                "stepSize": "0.00000000",
            },
            {
                "filterType": "PERCENT_PRICE_BY_SIDE",
                "bidMultiplierUp": "5",
                "bidMultiplierDown": "0.2",
                "askMultiplierUp": "5",
                "askMultiplierDown": "0.2",
                "avgPriceMins": 5,
            },
            {
                "filterType": "NOTIONAL",
                "minNotional": f"{instrument.min_notional:f}",
                "applyMinToMarket": True,
                "maxNotional": f"{instrument.max_notional:f}",
                "applyMaxToMarket": False,
                "avgPriceMins": 5,
            },
        ],
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": ["EXPIRE_MAKER"],
    }


def symbols(call: Call) -> list[str]:
    """The spot symbols asked for that have a price."""
    venue = call.service.exchange.venue
    wanted = call.text("symbol")
    if wanted:
        venue.spot_instrument(wanted)
        return [wanted]
    return [symbol for symbol in venue.markets.spot if symbol in venue.quotes]


def exchange_info(call: Call) -> Json:
    """The spot symbols."""
    markets = call.service.exchange.venue.markets
    return {
        "timezone": "UTC",
        "serverTime": call.service.wall_ms(),
        "rateLimits": [
            {
                "rateLimitType": "REQUEST_WEIGHT",
                "interval": "MINUTE",
                "intervalNum": 1,
                "limit": WEIGHT_LIMIT,
            }
        ],
        "exchangeFilters": [],
        "symbols": [instrument_row(markets.spot[symbol]) for symbol in symbols(call)],
    }


def _shaped(call: Call, rows: list[Fields]) -> Json:
    return rows[0] if call.text("symbol") else rows


def _top(call: Call, symbol: str) -> tuple[list[str], list[str]]:
    """Best bid and ask, price and quantity each."""
    instrument = call.service.exchange.venue.markets.spot[symbol]
    last = call.service.exchange.spot.last(symbol)
    pairs = [next(levels(instrument, last, side)) for side in (SELL, BUY)]
    bid, ask = ([instrument.price(p), instrument.quantity(q)] for p, q in pairs)
    return bid, ask


def day_ticker(call: Call) -> Json:
    """24 hour statistics with best bid and ask."""
    rows = []
    for symbol in symbols(call):
        instrument = call.service.exchange.venue.markets.spot[symbol]
        bid, ask = _top(call, symbol)
        row = day_row(call, symbol, instrument)
        row |= {"prevClosePrice": row["openPrice"], "bidPrice": bid[0], "bidQty": bid[1]}
        rows.append(row | {"askPrice": ask[0], "askQty": ask[1]})
    return _shaped(call, rows)


def price_ticker(call: Call) -> Json:
    """Last prices."""
    spot = call.service.exchange.venue.markets.spot
    rows: list[Fields] = [
        {"symbol": symbol, "price": spot[symbol].price(call.service.exchange.spot.last(symbol))}
        for symbol in symbols(call)
    ]
    return _shaped(call, rows)


def book_ticker(call: Call) -> Json:
    """Best bids and asks."""
    rows = []
    for symbol in symbols(call):
        bid, ask = _top(call, symbol)
        names = ("bidPrice", "bidQty", "askPrice", "askQty")
        rows.append({"symbol": symbol, **dict(zip(names, (*bid, *ask), strict=True))})
    return _shaped(call, rows)


def klines(call: Call) -> Json:
    """Candles; the last one is still forming."""
    symbol = call.need("symbol")
    instrument = call.service.exchange.venue.spot_instrument(symbol)
    found, interval_ms = candles(call, symbol, seconds=True)
    return [kline_row(candle, interval_ms, instrument) for candle in found[-MAX_KLINES:]]


def depth(call: Call) -> Json:
    """The order book; it has 16 levels whatever the limit."""
    symbol, limit = call.need("symbol"), call.limit(100, 5000)
    instrument = call.service.exchange.venue.spot_instrument(symbol)
    last = call.service.exchange.spot.last(symbol)
    sides = {
        name: [
            [instrument.price(price), instrument.quantity(quantity)]
            for price, quantity in list(levels(instrument, last, side))[:limit]
        ]
        for name, side in (("bids", SELL), ("asks", BUY))
    }
    return {"lastUpdateId": call.service.exchange.venue.now_ms, **sides}


def _prints(call: Call) -> list[Fields]:
    symbol = call.need("symbol")
    instrument = call.service.exchange.venue.spot_instrument(symbol)
    last: Decimal = call.service.exchange.spot.last(symbol)
    return [row | {"isBestMatch": True} for row in printed(call, instrument, last)]


def recent_fills(call: Call) -> Json:
    """GET trades."""
    return _prints(call)


def aggregate_fills(call: Call) -> Json:
    """GET aggTrades."""
    return [row | {"M": True} for row in aggregated_prints(_prints(call))]


# account


def _balance_rows(call: Call) -> list[Fields]:
    """What each asset has free and locked: every asset of the market, or with `omitZeroBalances` the held."""
    held = call.portfolio.spot
    markets = call.service.exchange.venue.markets.spot.values()
    every = {asset for instrument in markets for asset in (instrument.base, instrument.quote)}
    quantities = dict.fromkeys(sorted(every), (ZERO, ZERO))
    quantities |= {asset: (balance.free, balance.locked) for asset, balance in held.items()}
    return [
        {"asset": asset, "free": f"{free:.8f}", "locked": f"{locked:.8f}"}
        for asset, (free, locked) in quantities.items()
        if free or locked or not call.flag("omitZeroBalances")
    ]


def account(call: Call) -> Json:
    """GET account: balances with what open orders lock."""
    permissions = call.portfolio.account.permissions
    fee = f"{call.service.exchange.venue.settings.spot_fee:.8f}"
    return {
        "makerCommission": 10,
        "takerCommission": 10,
        "buyerCommission": 0,
        "sellerCommission": 0,
        "commissionRates": {"maker": fee, "taker": fee, "buyer": "0.00000000", "seller": "0.00000000"},
        "canTrade": bool(permissions.get("enableSpotAndMarginTrading", True)),
        "canWithdraw": bool(permissions.get("enableWithdrawals")),
        "canDeposit": True,
        "brokered": False,
        "requireSelfTradePrevention": False,
        "preventSor": False,
        "updateTime": call.portfolio.account.update_ms,
        "accountType": "SPOT",
        "balances": _balance_rows(call),
        "permissions": ["SPOT"],
        "uid": call.service.uid(call.portfolio.account.key),
    }


# orders


def read_order(call: Call) -> NewSpotOrder:
    """The order asked for, or the refusal of its shape."""
    kind, side = call.need("type").upper(), call.need("side").upper()
    if kind not in TYPES:
        raise refuse(-1116)
    if side not in {BUY, SELL}:
        raise refuse(-1117)
    if call.text("trailingDelta"):
        raise Refusal(-2010, "Trailing stop orders are not supported for this symbol.")
    order = NewSpotOrder(
        symbol=call.need("symbol"),
        side=side,
        type=kind,
        client_order_id=call.text("newClientOrderId"),
        stop_price=call.decimal("stopPrice"),
        time_in_force=call.text("timeInForce", "GTC").upper(),
    )
    if kind in NEEDS_PRICE:
        order.price = call.need_decimal("price")
        if kind != "LIMIT_MAKER":
            call.need("timeInForce")
    if kind == MARKET and call.text("quoteOrderQty"):
        order.quote_quantity = call.need_decimal("quoteOrderQty")
    else:
        order.quantity = call.need_decimal("quantity")
    if order.time_in_force not in {"GTC", "IOC", "FOK"}:
        raise refuse(-1115)
    return order


def head(order: SpotOrder, instrument: Instrument) -> Fields:
    """What every answer about a spot order says."""
    return {
        "symbol": order.symbol,
        "orderId": order.order_id,
        "orderListId": -1,
        "clientOrderId": order.client_order_id,
        "price": f"{order.price:.8f}",
        "origQty": f"{order.quantity:.8f}",
        "executedQty": f"{order.executed:.8f}",
        "origQuoteOrderQty": f"{order.quote_quantity:.8f}",
        "cummulativeQuoteQty": f"{order.cost:.8f}",
        "status": order.status,
        "timeInForce": order.time_in_force,
        "type": order.type,
        "side": order.side,
        "workingTime": order.working_ms or -1,
        "selfTradePreventionMode": "EXPIRE_MAKER",
        **({"stopPrice": instrument.price(order.stop_price)} if order.stop_price else {}),
    }


def queried(order: SpotOrder, instrument: Instrument) -> Fields:
    """The answer to looking an order up."""
    return head(order, instrument) | {
        "stopPrice": f"{order.stop_price:.8f}",
        "icebergQty": "0.00000000",
        "time": order.time_ms,
        "updateTime": order.update_ms,
        "isWorking": order.working,
    }


def _fill_row(row: Row) -> Fields:
    return {
        "price": f"{row.price:.8f}",
        "qty": f"{row.quantity:.8f}",
        "commission": f"{row.fee:.8f}",
        "commissionAsset": row.fee_asset,
        "tradeId": row.fill_id,
    }


def _response_type(call: Call) -> str:
    default = "FULL" if call.text("type").upper() in {MARKET, "LIMIT"} else "ACK"
    kind = call.text("newOrderRespType", default).upper()
    if kind not in {"ACK", "RESULT", "FULL"}:
        raise refuse(-1136)
    return kind


def place_order(call: Call) -> Json:
    """POST order: ACK, RESULT or FULL with the fills."""
    request, kind = read_order(call), _response_type(call)
    order = call.service.exchange.spot.place(call.portfolio, request, call.service.faults.tampering(call))
    instrument = call.service.exchange.venue.spot_instrument(order.symbol)
    fields = head(order, instrument) | {"transactTime": order.update_ms}
    if kind == "ACK":
        names = ("symbol", "orderId", "orderListId", "clientOrderId", "transactTime")
        return {name: fields[name] for name in names}
    if kind == "FULL":
        mine = [row for row in call.portfolio.fills[-20:] if row.order_id == order.order_id]
        fields["fills"] = [_fill_row(row) for row in mine]
    return fields


def test_order(call: Call) -> Json:
    """POST order/test: refused as the order itself would be, and nothing happens."""
    _, request = _response_type(call), read_order(call)
    call.service.exchange.spot.admit(call.portfolio, request)
    return {}


def _order(call: Call, code: int) -> SpotOrder:
    symbol, exchange = call.need("symbol"), call.service.exchange
    exchange.venue.spot_instrument(symbol)
    find = partial(exchange.spot.find, call.portfolio, symbol)
    return looked_up(call, "orderId", "origClientOrderId", code, find)


def query_order(call: Call) -> Json:
    """GET order."""
    order = _order(call, -2013)
    return queried(order, call.service.exchange.venue.spot_instrument(order.symbol))


def cancelled(order: SpotOrder, instrument: Instrument) -> Fields:
    """The answer to a cancellation: the id of the request is a new one."""
    fields = head(order, instrument)
    fields["origClientOrderId"] = order.client_order_id
    return fields | {"transactTime": order.update_ms}


def cancel_order(call: Call) -> Json:
    """DELETE order."""
    order, spot = _order(call, -2011), call.service.exchange.spot
    instrument = call.service.exchange.venue.spot_instrument(order.symbol)
    rule = call.service.faults.cancel_race(call)
    if rule is not None:
        if rule.applies and order.price and order.order_id in call.portfolio.open_spot_orders:
            spot.fill_resting(instrument, order)
        raise refuse(-2011)
    return cancelled(spot.cancel(call.portfolio, order), instrument)


def open_orders(call: Call) -> Json:
    """GET openOrders."""
    venue, wanted = call.service.exchange.venue, call.text("symbol")
    if wanted:
        venue.spot_instrument(wanted)
    found = [o for o in call.portfolio.open_spot_orders.values() if wanted in {"", o.symbol}]
    return [queried(order, venue.spot_instrument(order.symbol)) for order in found]


def cancel_all_orders(call: Call) -> Json:
    """DELETE openOrders of a symbol; -2011 when there are none."""
    symbol = call.need("symbol")
    instrument = call.service.exchange.venue.spot_instrument(symbol)
    found = [order for order in call.portfolio.open_spot_orders.values() if order.symbol == symbol]
    if not found:
        raise refuse(-2011)
    spot = call.service.exchange.spot
    return [cancelled(spot.cancel(call.portfolio, order), instrument) for order in found]


def _in_window(call: Call, time_ms: int) -> bool:
    return call.integer("startTime", 0) <= time_ms <= call.integer("endTime", 1 << 62)


def all_orders(call: Call) -> Json:
    """GET allOrders: the newest, or from an order number on."""
    symbol, limit = call.need("symbol"), call.limit(500, 1000)
    instrument = call.service.exchange.venue.spot_instrument(symbol)
    first = call.integer("orderId")
    found = [
        order
        for order in call.portfolio.spot_orders.values()
        if order.symbol == symbol and order.order_id >= first and _in_window(call, order.time_ms)
    ]
    return [queried(order, instrument) for order in (found[:limit] if first else found[-limit:])]


def user_fills(call: Call) -> Json:
    """GET myTrades."""
    symbol, limit = call.need("symbol"), call.limit(500, 1000)
    call.service.exchange.venue.spot_instrument(symbol)
    number, first = call.integer("orderId"), call.integer("fromId")
    rows = [
        row
        for row in call.portfolio.fills
        if row.market == "spot"
        and row.symbol == symbol
        and (not number or row.order_id == number)
        and row.fill_id >= first
        and _in_window(call, row.time_ms)
    ]
    return [
        _fill_row(row)
        | {
            "symbol": symbol,
            "id": row.fill_id,
            "orderId": row.order_id,
            "orderListId": -1,
            "quoteQty": f"{row.quantity * row.price:.8f}",
            "time": row.time_ms,
            "isBuyer": row.side == BUY,
            "isMaker": row.maker,
            "isBestMatch": True,
        }
        for row in (rows[:limit] if first else rows[-limit:])
    ]


def average_price(call: Call) -> Json:
    """GET avgPrice: the last price stands for the five minutes."""
    symbol = call.need("symbol")
    instrument = call.service.exchange.venue.spot_instrument(symbol)
    price: Decimal = call.service.exchange.spot.last(symbol)
    return {"mins": 5, "price": instrument.price(price), "closeTime": call.service.exchange.venue.now_ms}


def gone(_call: Call) -> Json:
    """Spot listen keys ended in 2026; user streams are subscribed over the WebSocket API."""
    raise Refusal(-1000, "This endpoint is no longer available. Use the WebSocket API.", 410)


ORDER_READS = frozenset({
    "symbol", "side", "type", "timeInForce", "quantity", "quoteOrderQty", "price", "newClientOrderId",
    "strategyId", "strategyType", "stopPrice", "trailingDelta", "icebergQty", "newOrderRespType",
    "selfTradePreventionMode",
})  # fmt: skip
V3 = "/api/v3"
ROUTES: Routes = {
    ("GET", f"{V3}/ping"): Route(ping),
    ("GET", f"{V3}/time"): Route(server_time),
    ("GET", f"{V3}/exchangeInfo"): Route(exchange_info, weight=20),
    ("GET", f"{V3}/ticker/24hr"): Route(day_ticker, weight=by_symbol(2, 80)),
    ("GET", f"{V3}/ticker/price"): Route(price_ticker, weight=by_symbol(2, 4)),
    ("GET", f"{V3}/ticker/bookTicker"): Route(book_ticker, weight=by_symbol(2, 4)),
    ("GET", f"{V3}/avgPrice"): Route(average_price, weight=2),
    ("GET", f"{V3}/klines"): Route(klines, weight=2, preparing=preparing_candles),
    ("GET", f"{V3}/depth"): Route(depth, weight=5),
    ("GET", f"{V3}/uiKlines"): Route(klines, weight=2, preparing=preparing_candles),
    ("GET", f"{V3}/trades"): Route(recent_fills, weight=25),
    ("GET", f"{V3}/historicalTrades"): Route(recent_fills, weight=25),
    ("GET", f"{V3}/aggTrades"): Route(aggregate_fills, weight=4),
    ("GET", f"{V3}/account"): Route(account, SIGNED, 20),
    ("POST", f"{V3}/order"): Route(place_order, SIGNED, 1, is_order=True, parameters=ORDER_READS),
    ("POST", f"{V3}/order/test"): Route(
        test_order, SIGNED, parameters=ORDER_READS | {"computeCommissionRates"}
    ),
    ("GET", f"{V3}/order"): Route(query_order, SIGNED, 4),
    ("DELETE", f"{V3}/order"): Route(cancel_order, SIGNED),
    ("GET", f"{V3}/openOrders"): Route(open_orders, SIGNED, by_symbol(6, 80)),
    ("DELETE", f"{V3}/openOrders"): Route(cancel_all_orders, SIGNED),
    ("GET", f"{V3}/allOrders"): Route(all_orders, SIGNED, 20),
    ("GET", f"{V3}/myTrades"): Route(user_fills, SIGNED, 20),
    ("POST", f"{V3}/userDataStream"): Route(gone),
    ("PUT", f"{V3}/userDataStream"): Route(gone),
    ("DELETE", f"{V3}/userDataStream"): Route(gone),
}
