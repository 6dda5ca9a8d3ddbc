"""The JSON of futures orders, accounts and positions: exact names, strings for numbers, ints for times."""

from decimal import Decimal
from typing import Any

from paper.engine import margin
from paper.engine.book import Quote
from paper.engine.margin import Exposure, Summary
from paper.engine.orders import NEW, ZERO, Conditional, Order
from paper.engine.venue import Portfolio, Venue
from paper.ledger import Row
from paper.symbols import Instrument

Fields = dict[str, Any]


def coin(value: Decimal) -> str:
    """A balance or profit with its eight decimals."""
    return f"{value:.8f}"


# orders


def placement(order: Order, instrument: Instrument, *, acknowledged: bool = False) -> Fields:
    """The answer to placing, changing or cancelling: without avgPrice and cumQuote, as since June 2026."""
    executed = instrument.quantity(ZERO if acknowledged else order.executed)
    return {
        "orderId": order.order_id,
        "symbol": order.symbol,
        "status": NEW if acknowledged else order.status,
        "clientOrderId": order.client_order_id,
        "price": instrument.price(order.price),
        "origQty": instrument.quantity(order.quantity),
        "executedQty": executed,
        "cumQty": executed,
        "timeInForce": order.time_in_force,
        "type": order.type,
        "reduceOnly": order.reduce_only,
        "closePosition": order.close_position,
        "side": order.side,
        "positionSide": order.position_side,
        "stopPrice": instrument.price(order.stop_price),
        "workingType": "CONTRACT_PRICE",
        "priceProtect": False,
        "origType": order.original_type,
        "priceMatch": order.price_match,
        "selfTradePreventionMode": order.self_trade_prevention,
        "goodTillDate": order.good_till_ms,
        "updateTime": order.update_ms,
    }


def queried(order: Order, instrument: Instrument) -> Fields:
    """The answer to looking an order up: with its average price and cost."""
    fields = placement(order, instrument)
    del fields["cumQty"]
    fields["avgPrice"] = instrument.price(order.average_price)
    fields["cumQuote"] = f"{order.cost:.8f}"
    fields["time"] = order.time_ms
    return fields


def conditional(order: Conditional, instrument: Instrument) -> Fields:
    """The answer to placing a conditional order."""
    fields = {
        "algoId": order.algo_id,
        "clientAlgoId": order.client_algo_id,
        "algoType": "CONDITIONAL",
        "orderType": order.type,
        "symbol": order.symbol,
        "side": order.side,
        "positionSide": order.position_side,
        "timeInForce": order.time_in_force,
        "quantity": instrument.quantity(order.quantity),
        "algoStatus": order.status,
        "triggerPrice": instrument.price(order.trigger_price),
        "price": instrument.price(order.price),
        "icebergQuantity": None,
        "selfTradePreventionMode": order.self_trade_prevention,
        "workingType": order.working_type,
        "priceMatch": order.price_match,
        "closePosition": order.close_position,
        "priceProtect": order.price_protect,
        "reduceOnly": order.reduce_only,
        "createTime": order.time_ms,
        "updateTime": order.update_ms,
        "triggerTime": order.trigger_ms,
        "goodTillDate": order.good_till_ms,
    }
    if order.callback_percent:
        fields["activatePrice"] = instrument.price(order.activate_price)
        fields["callbackRate"] = f"{order.callback_percent:f}"
    return fields


def actual_order_id(order: Conditional) -> str:
    """The number of the ordinary order it became, empty before."""
    return str(order.order_id) if order.order_id else ""


def conditional_open(order: Conditional, instrument: Instrument) -> Fields:
    """A row of the list of open conditional orders."""
    extra = {"actualOrderId": actual_order_id(order), "actualQty": "0.0", "isActivated": order.activated}
    return conditional(order, instrument) | extra


def conditional_listed(order: Conditional, instrument: Instrument) -> Fields:
    """A row of the list of all conditional orders."""
    extra = {
        "actualOrderId": actual_order_id(order),
        "actualPrice": instrument.price(order.actual_price),
        "tpOrderType": "",
    }
    return conditional(order, instrument) | extra


def conditional_queried(order: Conditional, instrument: Instrument) -> Fields:
    """The answer to looking a conditional order up."""
    extra = {"actualType": order.actual_type, "actualQty": instrument.quantity(order.actual_quantity)}
    return conditional_listed(order, instrument) | extra


def user_fill(row: Row, instrument: Instrument) -> Fields:
    """One execution as its owner sees it."""
    return {
        "symbol": row.symbol,
        "id": row.fill_id,
        "orderId": row.order_id,
        "side": row.side,
        "price": instrument.price(row.price),
        "qty": instrument.quantity(row.quantity),
        "realizedPnl": coin(row.realized),
        "quoteQty": coin(row.quantity * row.price),
        "commission": coin(row.fee),
        "commissionAsset": row.fee_asset,
        "time": row.time_ms,
        "positionSide": row.position_side,
        "buyer": row.side == "BUY",
        "maker": row.maker,
    }


# accounts


def totals(summary: Summary) -> Fields:
    """The totals at the head of an account."""
    return {
        "totalInitialMargin": coin(summary.position_initial + summary.order_initial),
        "totalMaintMargin": coin(summary.maintenance),
        "totalWalletBalance": coin(summary.wallet),
        "totalUnrealizedProfit": coin(summary.unrealized),
        "totalMarginBalance": coin(summary.margin_balance),
        "totalPositionInitialMargin": coin(summary.position_initial),
        "totalOpenOrderInitialMargin": coin(summary.order_initial),
        "totalCrossWalletBalance": coin(summary.cross_wallet),
        "totalCrossUnPnl": coin(summary.cross_unrealized),
        "availableBalance": coin(summary.available),
        "maxWithdrawAmount": coin(summary.max_withdraw),
    }


def asset(summary: Summary, update_ms: int) -> Fields:
    """The USDT row; clients skip a row whose updateTime is zero."""
    return {
        "asset": "USDT",
        "walletBalance": coin(summary.wallet),
        "unrealizedProfit": coin(summary.unrealized),
        "marginBalance": coin(summary.margin_balance),
        "maintMargin": coin(summary.maintenance),
        "initialMargin": coin(summary.position_initial + summary.order_initial),
        "positionInitialMargin": coin(summary.position_initial),
        "openOrderInitialMargin": coin(summary.order_initial),
        "crossWalletBalance": coin(summary.cross_wallet),
        "crossUnPnl": coin(summary.cross_unrealized),
        "availableBalance": coin(summary.available),
        "maxWithdrawAmount": coin(summary.max_withdraw),
        "updateTime": update_ms or 1,
    }


def balance_row(summary: Summary, portfolio: Portfolio) -> Fields:
    """The USDT row of the balance list."""
    return {
        "accountAlias": portfolio.account.key[:16],
        "asset": "USDT",
        "balance": coin(summary.wallet),
        "crossWalletBalance": coin(summary.cross_wallet),
        "crossUnPnl": coin(summary.cross_unrealized),
        "availableBalance": coin(summary.available),
        "maxWithdrawAmount": coin(summary.max_withdraw),
        "marginAvailable": True,
        "updateTime": portfolio.account.update_ms or 1,
    }


def isolated_margin(line: Exposure) -> Decimal:
    """Isolated wallet with profit, zero for cross."""
    return line.position.isolated_wallet + line.unrealized if line.isolated else ZERO


def account_position(line: Exposure) -> Fields:
    """A position within the v3 account."""
    position = line.position
    return {
        "symbol": position.symbol,
        "positionSide": position.position_side,
        "positionAmt": line.instrument.quantity(position.quantity),
        "unrealizedProfit": coin(line.unrealized),
        "isolatedMargin": coin(isolated_margin(line)),
        "notional": coin(line.notional),
        "isolatedWallet": coin(position.isolated_wallet),
        "initialMargin": coin(line.initial + line.order_initial),
        "maintMargin": coin(line.maintenance),
        "updateTime": position.update_ms,
    }


def account_position_v2(line: Exposure) -> Fields:
    """A position within the v2 account."""
    return account_position(line) | {
        "positionInitialMargin": coin(line.initial),
        "openOrderInitialMargin": coin(line.order_initial),
        "leverage": str(line.leverage),
        "isolated": line.isolated,
        "entryPrice": entry(line),
        "breakEvenPrice": break_even(line),
        "maxNotional": f"{line.instrument.cap_at(line.leverage).normalize():f}",
        "bidNotional": coin(line.bid_notional),
        "askNotional": coin(line.ask_notional),
    }


def entry(line: Exposure) -> str:
    """The average entry price with the decimals clients compute with."""
    return f"{line.position.entry_price:.{line.instrument.price_precision + 4}f}"


def break_even(line: Exposure) -> str:
    """The break-even price with the decimals clients compute with."""
    if not line.position.quantity:
        return "0.0"
    return f"{line.position.break_even_price:.{line.instrument.price_precision + 4}f}"


def position_risk(line: Exposure, summary: Summary) -> Fields:
    """A row of positionRisk v3: no leverage and no margin type."""
    position, instrument = line.position, line.instrument
    liquidation = margin.liquidation_price(line, summary)
    return {
        "symbol": position.symbol,
        "positionSide": position.position_side,
        "positionAmt": instrument.quantity(position.quantity),
        "entryPrice": entry(line),
        "breakEvenPrice": break_even(line),
        "markPrice": f"{line.mark:.8f}",
        "unRealizedProfit": coin(line.unrealized),
        "liquidationPrice": f"{liquidation:.8f}" if liquidation else "0",
        "isolatedMargin": coin(isolated_margin(line)),
        "notional": coin(line.notional),
        "marginAsset": "USDT",
        "isolatedWallet": coin(position.isolated_wallet),
        "initialMargin": coin(line.initial + line.order_initial),
        "maintMargin": coin(line.maintenance),
        "positionInitialMargin": coin(line.initial),
        "openOrderInitialMargin": coin(line.order_initial),
        "adl": 1 if position.quantity else 0,
        "bidNotional": coin(line.bid_notional),
        "askNotional": coin(line.ask_notional),
        "updateTime": position.update_ms,
    }


def position_risk_v2(line: Exposure, summary: Summary) -> Fields:
    """A row of positionRisk v2, with leverage and margin type."""
    return position_risk(line, summary) | {
        "leverage": str(line.leverage),
        "marginType": "isolated" if line.isolated else "cross",
        "isAutoAddMargin": "false",
        "maxNotionalValue": f"{line.instrument.cap_at(line.leverage).normalize():f}",
    }


def every_exposure(venue: Venue, portfolio: Portfolio, sides: tuple[str, ...]) -> list[Exposure]:
    """A line for every symbol that has a price, as the v2 endpoints list them."""
    return [
        margin.exposure(venue, portfolio, portfolio.position(symbol, side))
        for symbol in venue.markets.futures
        if symbol in venue.quotes
        for side in sides
    ]


# prices


def premium_index(quote: Quote, now_ms: int) -> Fields:
    """Mark, index and the coming settlement."""
    return {
        "symbol": quote.symbol,
        "markPrice": f"{quote.mark:.8f}",
        "indexPrice": f"{quote.index:.8f}",
        "estimatedSettlePrice": f"{quote.index:.8f}",
        "lastFundingRate": f"{quote.funding_rate:.8f}",
        "interestRate": "0.00010000",
        "nextFundingTime": quote.next_funding_ms,
        "time": now_ms,
    }
