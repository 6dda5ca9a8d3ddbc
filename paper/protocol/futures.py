"""Futures orders, conditional orders, accounts and settings."""

from decimal import Decimal
from functools import partial
from typing import Any

import orjson

from paper import ledger
from paper.engine import margin
from paper.engine.book import NO_MATCH, PRICE_MATCHES, matched_price
from paper.engine.conditional import LIMIT_TYPES
from paper.engine.orders import (
    BOTH,
    BUY,
    CANCELED,
    CONDITIONAL_TYPES,
    EXPIRED,
    LIMIT,
    LONG,
    MARKET,
    NEW,
    OPEN,
    SELL,
    SHORT,
    Conditional,
    NewConditional,
    NewOrder,
    Order,
)
from paper.engine.refusals import Refusal, refuse
from paper.feeds.candles import DAY_MS
from paper.ledger import Row
from paper.protocol import shapes
from paper.protocol.calls import KEYED, SIGNED, Call, Json, Route, Routes, by_symbol, looked_up, malformed
from paper.protocol.market import order_limits
from paper.protocol.shapes import Fields

TIMES_IN_FORCE = frozenset({"GTC", "IOC", "FOK", "GTX", "GTD", "RPI"})
CONDITIONAL_TIMES_IN_FORCE = TIMES_IN_FORCE | {"GTE_GTC"}
SUCCESS = {"code": 200, "msg": "success"}
ALL_CANCELLED = {"code": 200, "msg": "The operation of cancel all open order is done."}
CONDITIONAL_ONLY = ("stopPrice", "activatePrice", "activationPrice", "callbackRate")
SELF_TRADE_PREVENTIONS = frozenset({"NONE", "EXPIRE_MAKER", "EXPIRE_TAKER", "EXPIRE_BOTH"})
MAX_BATCH = 5
MAX_CANCEL_BATCH = 10
WEEK_MS = 7 * DAY_MS
UNFILLED_KEPT_MS = 3 * DAY_MS
KEPT_MS = 90 * DAY_MS
GOOD_TILL_LEAD_MS = 600_000
LAST_MOMENT_MS = 253_402_300_799_000


# ordinary orders


def read_order(call: Call) -> NewOrder:
    """The order asked for, or the refusal of its shape."""
    kind, side = call.need("type").upper(), call.need("side").upper()
    if kind in CONDITIONAL_TYPES:
        raise refuse(-4120)
    if kind not in {LIMIT, MARKET}:
        raise refuse(-1116)
    if side not in {BUY, SELL}:
        raise refuse(-1117)
    for name in CONDITIONAL_ONLY:
        if call.text(name):
            raise Refusal(-1106, f"Parameter '{name}' sent when not required.")
    if call.flag("closePosition"):
        raise refuse(-4136)
    order = NewOrder(
        symbol=call.need("symbol"),
        side=side,
        type=kind,
        quantity=call.need_decimal("quantity"),
        client_order_id=call.text("newClientOrderId"),
        reduce_only=call.flag("reduceOnly"),
        position_side=call.text("positionSide", BOTH),
        self_trade_prevention=_self_trade_prevention(call),
    )
    if order.reduce_only and order.position_side != BOTH:
        raise refuse(-1106)
    order.price_match = _price_match(call, has_price=kind == LIMIT)
    if kind == LIMIT:
        order.price = _limit_price(call, order)
        order.time_in_force = _time_in_force(call)
        order.good_till_ms = _good_till(call, order.time_in_force)
    return order


def _price_match(call: Call, *, has_price: bool) -> str:
    """NONE, or how the price is taken from the book: -5037 and -5038 where that is not possible."""
    match = call.text("priceMatch", NO_MATCH).upper()
    if match == NO_MATCH:
        return match
    if match not in PRICE_MATCHES:
        raise refuse(-5037)
    if not has_price:
        raise refuse(-5038)
    if call.text("price"):
        raise Refusal(-1106, "Parameter 'price' sent when not required.")
    return match


def _limit_price(call: Call, order: NewOrder) -> Decimal:
    """The price sent, or the one of a level of the book."""
    if order.price_match == NO_MATCH:
        return call.need_decimal("price")
    instrument = _instrument(call, order.symbol)
    last = call.service.exchange.venue.quotes[order.symbol].last
    return matched_price(instrument, last, order.side, order.price_match)


def _self_trade_prevention(call: Call) -> str:
    mode = call.text("selfTradePreventionMode", "EXPIRE_MAKER").upper()
    if mode not in SELF_TRADE_PREVENTIONS:
        raise refuse(-5039)
    return mode


def _time_in_force(call: Call) -> str:
    wanted = call.need("timeInForce").upper()
    if wanted not in TIMES_IN_FORCE:
        raise refuse(-1115)
    return wanted


def _good_till(call: Call, time_in_force: str) -> int:
    """When a GTD order ends: -1102 without a date, -5040 less than ten minutes ahead; 0 for any other."""
    if time_in_force != "GTD":
        return 0
    until = call.need_integer("goodTillDate")
    if not call.service.exchange.venue.now_ms + GOOD_TILL_LEAD_MS < until < LAST_MOMENT_MS:
        raise refuse(-5040)
    return until


def wants_acknowledgement(call: Call) -> bool:
    """ACK is the default; RESULT tells the outcome."""
    kind = call.text("newOrderRespType", "ACK").upper()
    if kind not in {"ACK", "RESULT"}:
        raise refuse(-1136)
    return kind == "ACK"


def place_order(call: Call) -> Json:
    """POST order."""
    request, acknowledged = read_order(call), wants_acknowledgement(call)
    tampering = call.service.faults.tampering(call)
    order = call.service.exchange.futures.place(call.portfolio, request, tampering)
    shown = shapes.placement(order, _instrument(call, order.symbol), acknowledged=acknowledged)
    if call.service.ack_has_average:
        shown |= {"avgPrice": "0.00" if acknowledged else shapes.coin(order.average_price)}
        shown |= {"cumQuote": "0" if acknowledged else shapes.coin(order.cost)}
    return shown


def test_order(call: Call) -> Json:
    """POST order/test: refused as the order itself would be, and nothing happens."""
    request = read_order(call)
    wants_acknowledgement(call)
    call.service.exchange.futures.admit(call.portfolio, request)
    return {}


def _instrument(call: Call, symbol: str) -> Any:
    return call.service.exchange.venue.instrument(symbol)


def _wanted(call: Call) -> str:
    """The symbol asked for, empty for all of them; -1121 when there is none of that name."""
    symbol = call.text("symbol")
    return str(_instrument(call, symbol).symbol) if symbol else ""


def _order(call: Call, code: int) -> Order:
    symbol, futures = _instrument(call, call.need("symbol")).symbol, call.service.exchange.futures
    find = partial(futures.find, call.portfolio, symbol)
    return looked_up(call, "orderId", "origClientOrderId", code, find)


def _is_forgotten(order: Order, now_ms: int) -> bool:
    """Ended without a fill three days ago, or ended in any way ninety days ago."""
    if order.status in OPEN:
        return False
    unfilled = order.status in {CANCELED, EXPIRED} and not order.executed
    return now_ms - order.update_ms > (UNFILLED_KEPT_MS if unfilled else KEPT_MS)


def query_order(call: Call) -> Json:
    """GET order, until it is forgotten."""
    order = _order(call, -2013)
    if _is_forgotten(order, call.service.exchange.venue.now_ms):
        raise refuse(-2013)
    return shapes.queried(order, _instrument(call, order.symbol))


def query_open_order(call: Call) -> Json:
    """GET openOrder: only while open."""
    order = _order(call, -2013)
    if order.order_id not in call.portfolio.open_orders:
        raise refuse(-2013)
    return shapes.queried(order, _instrument(call, order.symbol))


def cancel_order(call: Call) -> Json:
    """DELETE order."""
    order, futures = _order(call, -2011), call.service.exchange.futures
    rule = call.service.faults.cancel_race(call)
    if rule is not None:
        if rule.applies and order.order_id in call.portfolio.open_orders:
            futures.fill_resting(call.portfolio, order)
        raise refuse(-2011)
    return shapes.placement(futures.cancel(call.portfolio, order), _instrument(call, order.symbol))


def modify_order(call: Call) -> Json:
    """PUT order: side, quantity and price are all needed."""
    call.need("side")
    quantity, price = call.need_decimal("quantity"), call.need_decimal("price")
    order = _order(call, -2013)
    order = call.service.exchange.futures.modify(call.portfolio, order, quantity, price)
    return shapes.placement(order, _instrument(call, order.symbol)) | {"modifyId": order.modifications}


def open_orders(call: Call) -> Json:
    """GET openOrders."""
    symbol = _wanted(call)
    found = [o for o in call.portfolio.open_orders.values() if not symbol or o.symbol == symbol]
    return [shapes.queried(order, _instrument(call, order.symbol)) for order in found]


def window(call: Call) -> tuple[int, int]:
    """The start and end asked for, the last seven days by default.

    -1023 when it ends before it starts, -4165 beyond seven days, -4166 when it starts before what is kept.
    """
    now_ms = call.service.exchange.venue.now_ms
    start, end = call.integer("startTime", -1), call.integer("endTime", -1)
    if start < 0:
        start = (end if end >= 0 else now_ms) - WEEK_MS
    if end < 0:
        end = start + WEEK_MS
    if start > end:
        raise refuse(-1023)
    if end - start > WEEK_MS:
        raise refuse(-4165)
    if start < now_ms - KEPT_MS:
        raise refuse(-4166)
    return start, end


def all_orders(call: Call) -> Json:
    """GET allOrders: the newest of the window, or from an order number on."""
    symbol, limit = _wanted(call), call.limit(500, 1000)
    start, end = window(call)
    first, now_ms = call.integer("orderId"), call.service.exchange.venue.now_ms
    found = [
        order
        for order in call.portfolio.orders.values()
        if (not symbol or order.symbol == symbol)
        and not _is_forgotten(order, now_ms)
        and (order.order_id >= first if first else start <= order.time_ms <= end)
    ]
    chosen = found[:limit] if first else found[-limit:]
    return [shapes.queried(order, _instrument(call, order.symbol)) for order in chosen]


def cancel_all_orders(call: Call) -> Json:
    """DELETE allOpenOrders."""
    symbol = _instrument(call, call.need("symbol")).symbol
    call.service.exchange.futures.cancel_all(call.portfolio, symbol)
    return ALL_CANCELLED


def _batch(call: Call, name: str) -> list[dict[str, str]]:
    """The parameters of each order: -1102 when it is no list of plain objects, -4082 for none or too many."""
    try:
        rows = orjson.loads(call.need(name))
    except ValueError as error:
        raise malformed(name) from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise malformed(name)
    if not 1 <= len(rows) <= MAX_BATCH:
        raise refuse(-4082)
    return [{key: _plain(name, value) for key, value in row.items()} for row in rows]


def _plain(name: str, value: object) -> str:
    """A JSON value as it would be written into a query; null is absent."""
    if isinstance(value, list | dict):
        raise malformed(name)
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def place_batch(call: Call) -> Json:
    """POST batchOrders: each answers for itself."""
    answers: list[Any] = []
    for params in _batch(call, "batchOrders"):
        single = Call(call.service, "POST", "/fapi/v1/order", params, call.key, call.portfolio)
        try:
            answers.append(place_order(single))
        except Refusal as refusal:
            answers.append({"code": refusal.code, "msg": refusal.message})
    return answers


def _numbers_or_ids(call: Call) -> tuple[str, list[str]]:
    """How the orders to cancel are named, and their names; python-binance writes the lists in lower case."""
    numbers = call.text("orderIdList") or call.text("orderidlist")
    ids = call.text("origClientOrderIdList") or call.text("origclientorderidlist")
    try:
        wanted = orjson.loads(numbers or ids or call.need("origClientOrderIdList"))
    except ValueError as error:
        raise refuse(-1102) from error
    if not isinstance(wanted, list):
        raise refuse(-1102)
    if not 1 <= len(wanted) <= MAX_CANCEL_BATCH:
        raise Refusal(-4082, "Invalid number of batch cancel orders.")
    name = "orderId" if numbers else "origClientOrderId"
    return name, [_plain(f"{name}List", value) for value in wanted]


def cancel_batch(call: Call) -> Json:
    """DELETE batchOrders by order numbers or client ids."""
    symbol = call.need("symbol")
    name, wanted = _numbers_or_ids(call)
    answers: list[Any] = []
    for value in wanted:
        params = {"symbol": symbol, name: value}
        single = Call(call.service, "DELETE", "/fapi/v1/order", params, call.key, call.portfolio)
        try:
            answers.append(cancel_order(single))
        except Refusal as refusal:
            answers.append({"code": refusal.code, "msg": refusal.message})
    return answers


def countdown(call: Call) -> Json:
    """POST countdownCancelAll: cancels the symbol's ordinary orders when it runs out."""
    symbol = _instrument(call, call.need("symbol")).symbol
    countdown_ms = call.need_integer("countdownTime")
    if countdown_ms < 0:
        raise Refusal(-1130, "Data sent for parameter 'countdownTime' is not valid.")
    call.service.set_countdown(call.portfolio, symbol, countdown_ms)
    return {"symbol": symbol, "countdownTime": str(countdown_ms)}


# conditional orders


def read_conditional(call: Call) -> NewConditional:
    """The conditional order asked for, or the refusal of its shape."""
    if call.need("algoType").upper() != "CONDITIONAL":
        raise malformed("algoType")
    side = call.need("side").upper()
    if side not in {BUY, SELL}:
        raise refuse(-1117)
    closes = call.flag("closePosition")
    time_in_force = call.text("timeInForce", "GTC").upper()
    if time_in_force not in CONDITIONAL_TIMES_IN_FORCE:
        raise refuse(-1115)
    request = NewConditional(
        symbol=call.need("symbol"),
        side=side,
        type=call.need("type").upper(),
        quantity=call.decimal("quantity") or Decimal(0),
        price=call.decimal("price"),
        trigger_price=call.decimal("triggerPrice"),
        client_algo_id=call.text("clientAlgoId"),
        working_type=call.text("workingType", "CONTRACT_PRICE").upper(),
        time_in_force=time_in_force,
        close_position=closes,
        reduce_only=call.flag("reduceOnly"),
        price_protect=call.flag("priceProtect"),
        position_side=call.text("positionSide", BOTH),
        activate_price=call.decimal("activatePrice"),
        callback_percent=call.decimal("callbackRate"),
        good_till_ms=_good_till(call, time_in_force),
        price_match=_price_match(call, has_price=call.text("type").upper() in LIMIT_TYPES),
        self_trade_prevention=_self_trade_prevention(call),
    )
    if request.working_type not in {"MARK_PRICE", "CONTRACT_PRICE"}:
        raise Refusal(-1130, "Data sent for parameter 'workingType' is not valid.")
    if not closes and not call.text("quantity"):
        raise malformed("quantity")
    return request


def place_conditional(call: Call) -> Json:
    """POST algoOrder."""
    wants_acknowledgement(call)
    call.service.faults.note_placement(call)
    order = call.service.exchange.conditional.place(call.portfolio, read_conditional(call))
    return shapes.conditional(order, _instrument(call, order.symbol))


def _conditional(call: Call, code: int) -> Conditional:
    find = partial(call.service.exchange.conditional.find, call.portfolio)
    return looked_up(call, "algoId", "clientAlgoId", code, find)


def query_conditional(call: Call) -> Json:
    """GET algoOrder."""
    order = _conditional(call, -2013)
    return shapes.conditional_queried(order, _instrument(call, order.symbol))


def cancel_conditional(call: Call) -> Json:
    """DELETE algoOrder; the code is text here."""
    order, store = _conditional(call, -2011), call.service.exchange.conditional
    rule = call.service.faults.cancel_race(call)
    if rule is not None:
        if rule.applies and order.status == NEW:
            store.fire(order)
        raise refuse(-4117)
    store.cancel(order)
    return {"algoId": order.algo_id, "clientAlgoId": order.client_algo_id, "code": "200", "msg": "success"}


def open_conditionals(call: Call) -> Json:
    """GET openAlgoOrders."""
    symbol = _wanted(call)
    found = [o for o in call.portfolio.open_conditionals.values() if not symbol or o.symbol == symbol]
    return [shapes.conditional_open(order, _instrument(call, order.symbol)) for order in found]


def all_conditionals(call: Call) -> Json:
    """GET allAlgoOrders."""
    symbol, limit = call.need("symbol"), call.limit(500, 1000)
    start, end = window(call)
    first = call.integer("algoId")
    found = [
        order
        for order in call.portfolio.conditionals.values()
        if order.symbol == symbol and (order.algo_id >= first if first else start <= order.time_ms <= end)
    ]
    instrument = _instrument(call, symbol)
    return [shapes.conditional_listed(order, instrument) for order in found[-limit:]]


def cancel_all_conditionals(call: Call) -> Json:
    """DELETE algoOpenOrders."""
    symbol = _instrument(call, call.need("symbol")).symbol
    call.service.exchange.conditional.cancel_all(call.portfolio, symbol)
    return ALL_CANCELLED


# accounts


def account_v3(call: Call) -> Json:
    """GET v3 account."""
    summary = margin.summary(call.service.exchange.venue, call.portfolio)
    return shapes.totals(summary) | {
        "assets": [shapes.asset(summary, call.portfolio.account.update_ms)],
        "positions": [shapes.account_position(line) for line in summary.exposures],
    }


def _sides(call: Call) -> tuple[str, ...]:
    return (LONG, SHORT) if call.portfolio.account.dual else (BOTH,)


def account_v2(call: Call) -> Json:
    """GET v2 account: with permissions, and every symbol."""
    venue, portfolio = call.service.exchange.venue, call.portfolio
    summary = margin.summary(venue, portfolio)
    lines = shapes.every_exposure(venue, portfolio, _sides(call))
    head = {
        "feeTier": 0,
        "canTrade": True,
        "canDeposit": True,
        "canWithdraw": True,
        "updateTime": portfolio.account.update_ms,
        "multiAssetsMargin": portfolio.account.multi_assets,
        "tradeGroupId": -1,
    }
    usdt = shapes.asset(summary, portfolio.account.update_ms) | {"marginAvailable": True}
    positions = [shapes.account_position_v2(line) for line in lines]
    return head | shapes.totals(summary) | {"assets": [usdt], "positions": positions}


def balances(call: Call) -> Json:
    """GET balance."""
    return [shapes.balance_row(margin.summary(call.service.exchange.venue, call.portfolio), call.portfolio)]


def position_risk_v3(call: Call) -> Json:
    """GET v3 positionRisk: only what has a position or an open order."""
    wanted, summary = _wanted(call), margin.summary(call.service.exchange.venue, call.portfolio)
    lines = [line for line in summary.exposures if wanted in {"", line.position.symbol}]
    return [shapes.position_risk(line, summary) for line in lines]


def position_risk_v2(call: Call) -> Json:
    """GET v2 positionRisk: every symbol, with leverage and margin type."""
    venue, portfolio, wanted = call.service.exchange.venue, call.portfolio, _wanted(call)
    summary = margin.summary(venue, portfolio)
    lines = shapes.every_exposure(venue, portfolio, _sides(call))
    shown = [line for line in lines if wanted in {"", line.position.symbol}]
    return [shapes.position_risk_v2(line, summary) for line in shown]


def user_fills(call: Call) -> Json:
    """GET userTrades: the oldest of the window, or from a number on; -1128 for both at once."""
    symbol, limit = call.need("symbol"), call.limit(500, 1000)
    first, number = call.integer("fromId", -1), call.integer("orderId")
    instrument = _instrument(call, symbol)
    if call.text("fromId") and (call.text("startTime") or call.text("endTime")):
        raise refuse(-1128)
    now_ms = call.service.exchange.venue.now_ms
    start, end = (now_ms - KEPT_MS, now_ms) if first >= 0 else window(call)
    rows = [
        row
        for row in call.portfolio.fills
        if row.symbol == symbol
        and row.market == "futures"
        and (not number or row.order_id == number)
        and row.fill_id >= first
        and start <= row.time_ms <= end
    ]
    return [shapes.user_fill(row, instrument) for row in rows[:limit]]


INCOME_TYPES = {
    ledger.DEPOSIT: "TRANSFER",
    ledger.TRANSFER: "TRANSFER",
    ledger.FUNDING: "FUNDING_FEE",
    ledger.INSURANCE: "INSURANCE_CLEAR",
}


def income_rows(row: Row) -> list[Fields]:
    """The income entries of one ledger row: a fill gives profit and commission."""
    number = str(row.fill_id) if row.fill_id else ""
    if row.kind == ledger.FILL:
        fee_type = "INSURANCE_CLEAR" if row.reason == "CALCULATED" else "COMMISSION"
        parts = [("REALIZED_PNL", row.realized), (fee_type, -row.fee)]
    else:
        parts = [(INCOME_TYPES[row.kind], row.money)]
    return [
        {
            "symbol": row.symbol,
            "incomeType": kind,
            "income": shapes.coin(value),
            "asset": row.asset,
            "info": number or kind,
            "time": row.time_ms,
            "tranId": row.seq * 2 + place,
            "tradeId": number,
        }
        for place, (kind, value) in enumerate(parts)
        if value
    ]


def income(call: Call) -> Json:
    """GET income: the oldest of the window first, the last seven days by default, ninety kept."""
    kind, limit, wanted = call.text("incomeType"), call.limit(100, 1000), _wanted(call)
    now_ms = call.service.exchange.venue.now_ms
    start = max(call.integer("startTime", now_ms - WEEK_MS), now_ms - KEPT_MS)
    end = call.integer("endTime", now_ms)
    rows = [
        entry
        for row in call.portfolio.movements
        if start <= row.time_ms <= end and wanted in {"", row.symbol}
        for entry in income_rows(row)
        if not kind or entry["incomeType"] == kind
    ]
    return rows[:limit] if call.text("startTime") else rows[-limit:]


def account_config(call: Call) -> Json:
    """GET accountConfig."""
    account = call.portfolio.account
    return {
        "feeTier": 0,
        "canTrade": True,
        "canDeposit": True,
        "canWithdraw": True,
        "dualSidePosition": account.dual,
        "updateTime": account.update_ms,
        "multiAssetsMargin": account.multi_assets,
        "tradeGroupId": -1,
    }


def symbol_config(call: Call) -> Json:
    """GET symbolConfig: margin type and leverage per symbol."""
    account, markets = call.portfolio.account, call.service.exchange.venue.markets
    wanted = _wanted(call)
    return [
        {
            "symbol": symbol,
            "marginType": "ISOLATED" if account.is_isolated(symbol) else "CROSSED",
            "isAutoAddMargin": False,
            "leverage": account.leverage(symbol),
            "maxNotionalValue": f"{instrument.cap_at(account.leverage(symbol)).normalize():f}",
        }
        for symbol, instrument in markets.futures.items()
        if wanted in {"", symbol}
    ]


def leverage_bracket(call: Call) -> Json:
    """GET leverageBracket: always a list."""
    wanted = _wanted(call)
    return [
        {
            "symbol": symbol,
            "notionalCoef": 1.0,
            "brackets": [
                {
                    "bracket": step.number,
                    "initialLeverage": step.leverage,
                    "notionalCap": int(step.cap),
                    "notionalFloor": int(step.floor),
                    "maintMarginRatio": float(step.maintenance),
                    "cum": float(step.cum),
                }
                for step in instrument.brackets
            ],
        }
        for symbol, instrument in call.service.exchange.venue.markets.futures.items()
        if wanted in {"", symbol}
    ]


def commission(call: Call) -> Json:
    """GET commissionRate."""
    settings = call.service.exchange.venue.settings
    return {
        "symbol": _instrument(call, call.need("symbol")).symbol,
        "makerCommissionRate": f"{settings.maker_fee:.6f}",
        "takerCommissionRate": f"{settings.taker_fee:.6f}",
        "rpiCommissionRate": "0.000500",
    }


def limits_of_orders(_call: Call) -> Json:
    """GET rateLimit/order."""
    return list(order_limits())


# settings


def set_leverage(call: Call) -> Json:
    """POST leverage."""
    symbol, leverage = call.need("symbol"), call.need_integer("leverage")
    instrument = call.service.exchange.futures.set_leverage(call.portfolio, symbol, leverage)
    most = f"{instrument.cap_at(leverage).normalize():f}"
    return {"leverage": leverage, "maxNotionalValue": most, "symbol": symbol}


def set_margin_type(call: Call) -> Json:
    """POST marginType."""
    symbol, kind = call.need("symbol"), call.need("marginType").upper()
    kind = {"CROSS": "CROSSED"}.get(kind, kind)
    if kind not in {"ISOLATED", "CROSSED"}:
        raise Refusal(-1130, "Data sent for parameter 'marginType' is not valid.")
    call.service.exchange.futures.set_margin_type(call.portfolio, symbol, kind)
    return SUCCESS


def move_margin(call: Call) -> Json:
    """POST positionMargin: type 1 adds, 2 takes."""
    change, kind = call.need_decimal("amount"), call.integer("type")
    if kind not in {1, 2} or change <= 0:
        raise Refusal(-1130, "Data sent for parameter 'type' is not valid.")
    symbol, side = call.need("symbol"), call.text("positionSide", BOTH)
    signed = change if kind == 1 else -change
    call.service.exchange.futures.move_margin(call.portfolio, symbol, side, signed)
    return {"amount": float(change), "code": 200, "msg": "Successfully modify position margin.", "type": kind}


def position_mode(call: Call) -> Json:
    """GET positionSide/dual."""
    return {"dualSidePosition": call.portfolio.account.dual}


def set_position_mode(call: Call) -> Json:
    """POST positionSide/dual."""
    call.need("dualSidePosition")
    call.service.exchange.futures.set_dual(call.portfolio, call.flag("dualSidePosition"))
    return SUCCESS


def multi_assets(call: Call) -> Json:
    """GET multiAssetsMargin."""
    return {"multiAssetsMargin": call.portfolio.account.multi_assets}


def set_multi_assets(call: Call) -> Json:
    """POST multiAssetsMargin: kept and told, margin stays single-asset."""
    call.need("multiAssetsMargin")
    call.service.exchange.futures.set_multi_assets(call.portfolio, call.flag("multiAssetsMargin"))
    return SUCCESS


# listen keys


def open_listen_key(call: Call) -> Json:
    """POST listenKey: made, or returned and extended."""
    call.service.exchange.venue.touch(call.portfolio.account)
    return {"listenKey": call.service.open_listen_key(call.portfolio.account.key)}


def extend_listen_key(call: Call) -> Json:
    """PUT listenKey: -1125 when it has expired."""
    return {"listenKey": call.service.listen_keys.extend(call.portfolio.account.key)}


def close_listen_key(call: Call) -> Json:
    """DELETE listenKey: whoever listened by it is hung up on."""
    call.service.close_listen_key(call.portfolio.account.key)
    return {}


ORDER_READS = frozenset({
    "symbol", "side", "positionSide", "type", "timeInForce", "quantity", "reduceOnly", "price",
    "newClientOrderId", "newOrderRespType", "priceMatch", "selfTradePreventionMode", "goodTillDate",
    "stopPrice", "activatePrice", "activationPrice", "callbackRate", "closePosition", "workingType",
    "priceProtect",
})  # fmt: skip
CONDITIONAL_READS = frozenset({
    "algoType", "symbol", "side", "positionSide", "type", "timeInForce", "quantity", "price",
    "triggerPrice", "workingType", "priceMatch", "closePosition", "priceProtect", "reduceOnly",
    "activatePrice", "callbackRate", "clientAlgoId", "newOrderRespType", "selfTradePreventionMode",
    "goodTillDate", "icebergQuantity",
})  # fmt: skip
V1, V2, V3 = "/fapi/v1", "/fapi/v2", "/fapi/v3"
ROUTES: Routes = {
    ("POST", f"{V1}/order"): Route(place_order, SIGNED, 0, is_order=True, parameters=ORDER_READS),
    ("PUT", f"{V1}/order"): Route(modify_order, SIGNED, 0, is_order=True),
    ("GET", f"{V1}/order"): Route(query_order, SIGNED),
    ("DELETE", f"{V1}/order"): Route(cancel_order, SIGNED),
    ("POST", f"{V1}/order/test"): Route(test_order, SIGNED, parameters=ORDER_READS),
    ("GET", f"{V1}/openOrder"): Route(query_open_order, SIGNED),
    ("GET", f"{V1}/openOrders"): Route(open_orders, SIGNED, by_symbol(1, 40)),
    ("GET", f"{V1}/allOrders"): Route(all_orders, SIGNED, 5),
    ("DELETE", f"{V1}/allOpenOrders"): Route(cancel_all_orders, SIGNED),
    ("POST", f"{V1}/batchOrders"): Route(place_batch, SIGNED, 5, is_order=True, orders=MAX_BATCH),
    ("DELETE", f"{V1}/batchOrders"): Route(cancel_batch, SIGNED),
    ("POST", f"{V1}/countdownCancelAll"): Route(countdown, SIGNED, 10),
    ("POST", f"{V1}/algoOrder"): Route(
        place_conditional, SIGNED, 0, is_order=True, parameters=CONDITIONAL_READS
    ),
    ("GET", f"{V1}/algoOrder"): Route(query_conditional, SIGNED),
    ("DELETE", f"{V1}/algoOrder"): Route(cancel_conditional, SIGNED),
    ("GET", f"{V1}/openAlgoOrders"): Route(open_conditionals, SIGNED, by_symbol(1, 40)),
    ("GET", f"{V1}/allAlgoOrders"): Route(all_conditionals, SIGNED, 5),
    ("DELETE", f"{V1}/algoOpenOrders"): Route(cancel_all_conditionals, SIGNED),
    ("GET", f"{V1}/userTrades"): Route(user_fills, SIGNED, 5),
    ("GET", f"{V1}/income"): Route(income, SIGNED, 30),
    ("GET", f"{V2}/account"): Route(account_v2, SIGNED, 5),
    ("GET", f"{V3}/account"): Route(account_v3, SIGNED, 5),
    ("GET", f"{V2}/balance"): Route(balances, SIGNED, 5),
    ("GET", f"{V3}/balance"): Route(balances, SIGNED, 5),
    ("GET", f"{V2}/positionRisk"): Route(position_risk_v2, SIGNED, 5),
    ("GET", f"{V3}/positionRisk"): Route(position_risk_v3, SIGNED, 5),
    ("GET", f"{V1}/accountConfig"): Route(account_config, SIGNED, 5),
    ("GET", f"{V1}/symbolConfig"): Route(symbol_config, SIGNED, 5),
    ("GET", f"{V1}/leverageBracket"): Route(leverage_bracket, SIGNED),
    ("GET", f"{V1}/commissionRate"): Route(commission, SIGNED, 20),
    ("GET", f"{V1}/rateLimit/order"): Route(limits_of_orders, SIGNED),
    ("POST", f"{V1}/leverage"): Route(set_leverage, SIGNED),
    ("POST", f"{V1}/marginType"): Route(set_margin_type, SIGNED),
    ("POST", f"{V1}/positionMargin"): Route(move_margin, SIGNED),
    ("GET", f"{V1}/positionSide/dual"): Route(position_mode, SIGNED, 30),
    ("POST", f"{V1}/positionSide/dual"): Route(set_position_mode, SIGNED),
    ("GET", f"{V1}/multiAssetsMargin"): Route(multi_assets, SIGNED, 30),
    ("POST", f"{V1}/multiAssetsMargin"): Route(set_multi_assets, SIGNED),
    ("POST", f"{V1}/listenKey"): Route(open_listen_key, KEYED),
    ("PUT", f"{V1}/listenKey"): Route(extend_listen_key, KEYED),
    ("DELETE", f"{V1}/listenKey"): Route(close_listen_key, KEYED),
}
