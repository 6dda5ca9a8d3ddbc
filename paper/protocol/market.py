"""Public futures market data."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from paper.engine.book import Quote, levels
from paper.engine.orders import BUY, SELL
from paper.engine.refusals import Refusal, refuse
from paper.feeds.candles import INTERVALS_MS, Candle
from paper.protocol.calls import KEYED, Call, Json, Route, Routes, by_symbol
from paper.protocol.shapes import Fields, premium_index
from paper.symbols import Instrument

DEPTH_LIMITS = frozenset({5, 10, 20, 50, 100, 500, 1000})
ORDER_TYPES = ["LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET"]
DELIVERY_MS = 4_133_404_800_000
ONBOARD_MS = 1_567_965_300_000
MAX_KLINES = 1500
WEIGHT_LIMIT = 2400
ORDER_LIMITS = (("MINUTE", 1, 1200), ("SECOND", 10, 300))


def order_limits() -> list[Fields]:
    """How many orders an account may send."""
    return [
        {"rateLimitType": "ORDERS", "interval": unit, "intervalNum": number, "limit": limit}
        for unit, number, limit in ORDER_LIMITS
    ]


def quotes(call: Call) -> list[Quote]:
    """The quotes asked for: one symbol's, else all that have a price."""
    found = call.service.exchange.venue.quotes
    symbol = call.text("symbol")
    if not symbol:
        return list(found.values())
    if symbol not in found:
        raise refuse(-1121)
    return [found[symbol]]


def one_or_all(call: Call, rows: list[Fields]) -> Json:
    """An object when a symbol was named, else the list."""
    return rows[0] if call.text("symbol") else rows


def ping(_call: Call) -> Json:
    """Alive."""
    return {}


def server_time(call: Call) -> Json:
    """The wall clock, which signatures follow."""
    return {"serverTime": call.service.wall_ms() + call.service.faults.skew_ms(call)}


def instrument_row(instrument: Instrument, status: str = "TRADING") -> Fields:
    """One symbol of exchangeInfo."""
    highest = instrument.bracket(instrument.min_notional)
    return {
        "symbol": instrument.symbol,
        "pair": instrument.symbol,
        "contractType": "PERPETUAL",
        "deliveryDate": DELIVERY_MS,
        "onboardDate": ONBOARD_MS,
        "status": status,
        "maintMarginPercent": f"{highest.maintenance * 100:.4f}",
        "requiredMarginPercent": "5.0000",
        "baseAsset": instrument.base,
        "quoteAsset": instrument.quote,
        "marginAsset": instrument.quote,
        "pricePrecision": instrument.price_precision,
        "quantityPrecision": instrument.quantity_precision,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": [],
        "triggerProtect": f"{instrument.trigger_protect:.4f}",
        "liquidationFee": f"{instrument.liquidation_fee:.6f}",
        "marketTakeBound": f"{instrument.market_take_bound:.2f}",
        "maxMoveOrderLimit": 10000,
        "filters": _filters(instrument),
        "orderTypes": [*ORDER_TYPES, "TRAILING_STOP_MARKET"],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
        "permissionSets": ["GRID", "COPY", "DCA", "PSB"],
    }


def _filters(instrument: Instrument) -> list[Fields]:
    step, least = f"{instrument.step:f}", f"{instrument.min_quantity:f}"
    return [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": instrument.price(instrument.tick),
            "maxPrice": f"{instrument.reference_price * 1000:f}",
            "tickSize": instrument.price(instrument.tick),
        },
        {
            "filterType": "LOT_SIZE",
            "minQty": least,
            "maxQty": f"{instrument.max_quantity:f}",
            "stepSize": step,
        },
        {
            "filterType": "MARKET_LOT_SIZE",
            "minQty": least,
            "maxQty": f"{instrument.market_max_quantity:f}",
            "stepSize": step,
        },
        {"filterType": "MAX_NUM_ORDERS", "limit": instrument.max_orders},
        {"filterType": "MIN_NOTIONAL", "notional": f"{instrument.min_notional:f}"},
        {
            "filterType": "PERCENT_PRICE",
            "multiplierUp": f"{instrument.multiplier_up:.4f}",
            "multiplierDown": f"{instrument.multiplier_down:.4f}",
            "multiplierDecimal": "4",
        },
        {"filterType": "POSITION_RISK_CONTROL", "positionControlSide": "NONE"},
    ]


def exchange_info(call: Call) -> Json:
    """Every symbol, whatever was asked for."""
    venue = call.service.exchange.venue
    weight = {
        "rateLimitType": "REQUEST_WEIGHT",
        "interval": "MINUTE",
        "intervalNum": 1,
        "limit": WEIGHT_LIMIT,
    }
    return {
        "timezone": "UTC",
        "serverTime": call.service.wall_ms(),
        "futuresType": "U_MARGINED",
        "rateLimits": [weight, *order_limits()],
        "exchangeFilters": [],
        "assets": [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}],
        "symbols": [
            instrument_row(instrument, call.service.exchange.futures.statuses.get(symbol, "TRADING"))
            for symbol, instrument in venue.markets.futures.items()
            if symbol in venue.quotes
        ],
    }


def premium(call: Call) -> Json:
    """Mark prices and funding."""
    now_ms = call.service.exchange.venue.now_ms
    return one_or_all(call, [premium_index(quote, now_ms) for quote in quotes(call)])


def day_row(call: Call, symbol: str, instrument: Instrument) -> Fields:
    """The rolling 24 hours of a symbol; the count is an estimate, nobody counts invented fills."""
    day, now_ms = call.service.day(symbol), call.service.exchange.venue.now_ms
    change = day.close - day.open
    digits = instrument.price_precision
    number = int(day.open_ms // 1000)
    return {
        "symbol": symbol,
        "priceChange": f"{change:.{digits}f}",
        "priceChangePercent": f"{change / day.open * 100:.3f}",
        "weightedAvgPrice": f"{day.quote_volume / day.volume if day.volume else day.close:.{digits}f}",
        "lastPrice": f"{day.close:.{digits}f}",
        "lastQty": instrument.quantity(instrument.min_quantity),
        "openPrice": f"{day.open:.{digits}f}",
        "highPrice": f"{day.high:.{digits}f}",
        "lowPrice": f"{day.low:.{digits}f}",
        "volume": f"{day.volume:.{instrument.quantity_precision}f}",
        "quoteVolume": f"{day.quote_volume:.2f}",
        "openTime": now_ms - 86_400_000,
        "closeTime": now_ms,
        "firstId": number,
        "lastId": number + 86_400,
        "count": 86_400,
    }


def day_ticker(call: Call) -> Json:
    """24 hour statistics."""
    instruments = call.service.exchange.venue.markets.futures
    return one_or_all(call, [day_row(call, q.symbol, instruments[q.symbol]) for q in quotes(call)])


def book_row(quote: Quote, instrument: Instrument, now_ms: int) -> Fields:
    """The best bid and ask."""
    ask, bid = (next(levels(instrument, quote.last, side)) for side in (BUY, SELL))
    return {
        "symbol": quote.symbol,
        "bidPrice": instrument.price(bid[0]),
        "bidQty": instrument.quantity(bid[1]),
        "askPrice": instrument.price(ask[0]),
        "askQty": instrument.quantity(ask[1]),
        "time": now_ms,
        "lastUpdateId": quote.update_id,
    }


def book_ticker(call: Call) -> Json:
    """Best bids and asks."""
    venue = call.service.exchange.venue
    rows = [book_row(q, venue.markets.futures[q.symbol], venue.now_ms) for q in quotes(call)]
    return one_or_all(call, rows)


def price_ticker(call: Call) -> Json:
    """Last prices."""
    venue = call.service.exchange.venue
    rows = [
        {
            "symbol": q.symbol,
            "price": venue.markets.futures[q.symbol].price(q.last),
            "time": venue.now_ms,
        }
        for q in quotes(call)
    ]
    return one_or_all(call, rows)


def depth_levels(instrument: Instrument, quote: Quote, side: str, limit: int) -> list[list[str]]:
    """Price and quantity of the levels an order of this side meets."""
    found = list(levels(instrument, quote.last, side))[:limit]
    return [[instrument.price(price), instrument.quantity(quantity)] for price, quantity in found]


def depth(call: Call) -> Json:
    """The order book; it has 16 levels whatever the limit."""
    symbol, limit = call.need("symbol"), call.integer("limit", 500)
    venue = call.service.exchange.venue
    instrument = venue.instrument(symbol)
    if limit not in DEPTH_LIMITS:
        raise refuse(-4021)
    return {
        "lastUpdateId": venue.quotes[symbol].update_id,
        "E": venue.now_ms,
        "T": venue.now_ms,
        "bids": depth_levels(instrument, venue.quotes[symbol], SELL, limit),
        "asks": depth_levels(instrument, venue.quotes[symbol], BUY, limit),
    }


def kline_row(candle: Candle, interval_ms: int, instrument: Instrument) -> list[Any]:
    """The twelve columns of a candle; half of the volume is the takers' buying."""
    digits, places = instrument.price_precision, instrument.quantity_precision
    return [
        candle.open_ms,
        f"{candle.open:.{digits}f}",
        f"{candle.high:.{digits}f}",
        f"{candle.low:.{digits}f}",
        f"{candle.close:.{digits}f}",
        f"{candle.volume:.{places}f}",
        candle.open_ms + interval_ms - 1,
        f"{candle.quote_volume:.5f}",
        max(1, int(candle.quote_volume // 2000)),
        f"{candle.volume / 2:.{places}f}",
        f"{candle.quote_volume / 2:.5f}",
        "0",
    ]


def candles(call: Call, symbol: str, *, seconds: bool = False) -> tuple[list[Candle], int]:
    """The candles asked for by startTime, endTime and limit, and their interval."""
    interval_ms = INTERVALS_MS.get(call.need("interval"), 0)
    if not interval_ms or (interval_ms < 60_000 and not seconds):  # noqa: PLR2004  # futures have no seconds
        raise refuse(-1120)
    limit = call.limit(500, MAX_KLINES)
    feed = call.service.feed
    end = min(call.integer("endTime", feed.now_ms), feed.now_ms)
    start = call.integer("startTime", -1)
    if start < 0:
        found = feed.candles(symbol, interval_ms, end - interval_ms * (limit + 1), end)[-limit:]
    else:
        start = max(start, feed.first_ms(symbol, interval_ms))
        found = feed.candles(symbol, interval_ms, start, min(end, start + interval_ms * limit))[:limit]
    return call.service.with_pin(symbol, found, interval_ms), interval_ms


def preparing_candles(call: Call) -> Iterator[None]:
    """Short steps of work before candles are answered, so that nobody else waits for all of it."""
    interval_ms, feed = INTERVALS_MS.get(call.text("interval"), 0), call.service.feed
    if not interval_ms:
        return iter(())
    span = interval_ms * (min(call.integer("limit", 500), MAX_KLINES) + 1)
    end = call.integer("endTime", feed.now_ms)
    start = call.integer("startTime", end - span)
    symbol = call.text("symbol") or call.text("pair")
    return feed.preparing(symbol, interval_ms, start, min(end, start + span))


def klines(call: Call) -> Json:
    """Candles; the last one is still forming."""
    symbol = call.text("symbol") or call.need("pair")
    instrument = call.service.exchange.venue.instrument(symbol)
    found, interval_ms = candles(call, symbol)
    return [kline_row(candle, interval_ms, instrument) for candle in found]


def kline_weight(call: Call) -> int:
    """1, 2, 5, 10 by limit."""
    limit = call.integer("limit", 500)
    return 1 if limit < 100 else 2 if limit < 500 else 5 if limit <= 1000 else 10  # noqa: PLR2004  # as published


def depth_weight(call: Call) -> int:
    """2, 5, 10, 20 by limit."""
    limit = call.integer("limit", 500)
    return 2 if limit <= 50 else 5 if limit <= 100 else 10 if limit <= 500 else 20  # noqa: PLR2004  # as published


def funding_rates(call: Call) -> Json:
    """Past settlements, oldest first."""
    feed, venue = call.service.feed, call.service.exchange.venue
    limit = call.limit(100, 1000)
    start, end = call.integer("startTime", -1), call.integer("endTime", feed.now_ms)
    rows = []
    for quote in quotes(call):
        past = feed.funding(quote.symbol, max(start, 0), end)
        for time_ms, funding_rate, mark_price in past[:limit] if start >= 0 else past[-limit:]:
            rows.append(
                {
                    "symbol": quote.symbol,
                    "fundingTime": time_ms,
                    "fundingRate": f"{funding_rate:.8f}",
                    "markPrice": venue.markets.futures[quote.symbol].price(mark_price),
                    "rateType": "Regular",
                }
            )
    return sorted(rows, key=lambda row: int(str(row["fundingTime"])))[-1000:]


def funding_info(call: Call) -> Json:
    """Caps and the interval of settlements."""
    return [
        {
            "symbol": symbol,
            "adjustedFundingRateCap": "0.02000000",
            "adjustedFundingRateFloor": "-0.02000000",
            "fundingIntervalHours": 8,
            "disclaimer": False,
            "updateTime": None,
        }
        for symbol in call.service.exchange.venue.quotes
    ]


def _print_numbers(call: Call) -> range:
    """The prints asked for, each numbered by its second: from a number or a moment on, else the newest."""
    limit, now_ms = call.limit(500, 1000), call.service.exchange.venue.now_ms
    last = min(call.integer("endTime", now_ms), now_ms) // 1000
    first = call.integer("fromId", -1)
    if first < 0 <= call.integer("startTime", -1):
        first = -(-call.integer("startTime") // 1000)
    if first < 0:
        first = last - limit + 1
    return range(first, min(last + 1, first + limit))


def printed(call: Call, instrument: Instrument, last: Decimal) -> list[Fields]:
    """Invented public fills at the last price, one a second."""
    price, quantity = instrument.price(last), instrument.quantity(instrument.min_quantity)
    value = f"{last * instrument.min_quantity:.8f}"
    return [
        {
            "id": second,
            "price": price,
            "qty": quantity,
            "quoteQty": value,
            "time": second * 1000,
            "isBuyerMaker": bool(second % 2),
        }
        for second in _print_numbers(call)
    ]


def aggregated_prints(rows: list[Fields]) -> list[Fields]:
    """The same public fills in the aggregate shape."""
    return [
        {
            "a": row["id"],
            "p": row["price"],
            "q": row["qty"],
            "nq": row["qty"],
            "f": row["id"],
            "l": row["id"],
            "T": row["time"],
            "m": row["isBuyerMaker"],
        }
        for row in rows
    ]


def _prints(call: Call) -> list[Fields]:
    venue, symbol = call.service.exchange.venue, call.need("symbol")
    instrument = venue.instrument(symbol)
    return printed(call, instrument, venue.quotes[symbol].last)


def recent_fills(call: Call) -> Json:
    """GET trades."""
    return _prints(call)


def aggregate_fills(call: Call) -> Json:
    """GET aggTrades."""
    return aggregated_prints(_prints(call))


def open_interest(call: Call) -> Json:
    """The sum of what accounts hold here."""
    symbol = call.need("symbol")
    venue = call.service.exchange.venue
    instrument = venue.instrument(symbol)
    held = sum((abs(p.quantity) for p in venue.held[symbol].values()), instrument.step * 0)
    return {"openInterest": instrument.quantity(held), "symbol": symbol, "time": venue.now_ms}


def no_symbols(call: Call) -> Json:
    """Coin-margined futures exist, without any symbol."""
    return {
        "timezone": "UTC",
        "serverTime": call.service.wall_ms(),
        "rateLimits": [],
        "exchangeFilters": [],
        "symbols": [],
    }


def unknown_path(path: str) -> Refusal:
    """The answer for a path that is not served."""
    return Refusal(-5000, f"Path {path} is invalid", 404)


FAPI = "/fapi/v1"
ROUTES: Routes = {
    ("GET", f"{FAPI}/ping"): Route(ping),
    ("GET", f"{FAPI}/time"): Route(server_time),
    ("GET", f"{FAPI}/exchangeInfo"): Route(exchange_info),
    ("GET", f"{FAPI}/premiumIndex"): Route(premium, weight=by_symbol(1, 10)),
    ("GET", f"{FAPI}/ticker/24hr"): Route(day_ticker, weight=by_symbol(1, 40)),
    ("GET", f"{FAPI}/ticker/bookTicker"): Route(book_ticker, weight=by_symbol(2, 5)),
    ("GET", f"{FAPI}/ticker/price"): Route(price_ticker, weight=by_symbol(1, 2)),
    ("GET", "/fapi/v2/ticker/price"): Route(price_ticker, weight=by_symbol(1, 2)),
    ("GET", f"{FAPI}/klines"): Route(klines, weight=kline_weight, preparing=preparing_candles),
    ("GET", f"{FAPI}/continuousKlines"): Route(klines, weight=kline_weight, preparing=preparing_candles),
    ("GET", f"{FAPI}/markPriceKlines"): Route(klines, weight=kline_weight, preparing=preparing_candles),
    ("GET", f"{FAPI}/indexPriceKlines"): Route(klines, weight=kline_weight, preparing=preparing_candles),
    ("GET", f"{FAPI}/depth"): Route(depth, weight=depth_weight),
    ("GET", f"{FAPI}/trades"): Route(recent_fills, weight=5),
    ("GET", f"{FAPI}/historicalTrades"): Route(recent_fills, KEYED, 200),
    ("GET", f"{FAPI}/aggTrades"): Route(aggregate_fills, weight=20),
    ("GET", f"{FAPI}/openInterest"): Route(open_interest),
    ("GET", f"{FAPI}/fundingRate"): Route(funding_rates, weight=0, is_funding=True),
    ("GET", f"{FAPI}/fundingInfo"): Route(funding_info, weight=0, is_funding=True),
    ("GET", "/dapi/v1/exchangeInfo"): Route(no_symbols),
    ("GET", "/dapi/v1/ping"): Route(ping),
    ("GET", "/dapi/v1/time"): Route(server_time),
}
