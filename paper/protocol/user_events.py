"""User stream messages: field by field as the contract lists them."""

from decimal import Decimal
from typing import assert_never

from paper.engine.events import (
    BalancesChanged,
    ConditionalChanged,
    Event,
    LeverageChanged,
    MarginCalled,
    MultiAssetsChanged,
    OrderChanged,
    SpotBalancesChanged,
    SpotOrderChanged,
)
from paper.engine.margin import exposure, summary
from paper.engine.orders import ZERO, Position
from paper.engine.venue import Portfolio, Venue
from paper.protocol.shapes import Fields, actual_order_id, coin

SPOT_EVENTS = (SpotOrderChanged, SpotBalancesChanged)


def message(venue: Venue, portfolio: Portfolio, event: Event) -> Fields:
    """The event as the account's stream carries it."""
    shown: Fields
    match event:
        case OrderChanged():
            shown = order_message(venue, event)
        case BalancesChanged():
            shown = account_message(venue, portfolio, event)
        case ConditionalChanged():
            shown = conditional_message(venue, event)
        case LeverageChanged():
            setting = {"s": event.symbol, "l": event.leverage}
            shown = _head(venue, "ACCOUNT_CONFIG_UPDATE") | {"ac": setting}
        case MultiAssetsChanged():
            shown = _head(venue, "ACCOUNT_CONFIG_UPDATE") | {"ai": {"j": event.multi_assets}}
        case MarginCalled():
            shown = margin_call(venue, portfolio, event.position)
        case SpotOrderChanged():
            shown = execution_report(venue, event)
        case SpotBalancesChanged():
            shown = spot_balances(venue, portfolio, event)
        case _:
            assert_never(event)
    return shown


def _head(venue: Venue, name: str) -> Fields:
    return {"e": name, "E": venue.now_ms, "T": venue.now_ms}


def order_message(venue: Venue, event: OrderChanged) -> Fields:
    """ORDER_TRADE_UPDATE."""
    order, row = event.order, event.fill
    instrument = venue.markets.futures[order.symbol]
    shown: Fields = {
        "s": order.symbol,
        "c": order.client_order_id,
        "S": order.side,
        "o": order.original_type if order.original_type == "LIQUIDATION" else order.type,
        "f": order.time_in_force,
        "q": instrument.quantity(order.quantity),
        "p": instrument.price(order.price),
        "ap": instrument.price(order.average_price),
        "sp": instrument.price(order.stop_price),
        "x": event.execution,
        "X": order.status,
        "i": order.order_id,
        "l": instrument.quantity(row.quantity if row else ZERO),
        "z": instrument.quantity(order.executed),
        "L": instrument.price(row.price if row else ZERO),
        "T": venue.now_ms,
        "t": row.fill_id if row else 0,
        "b": "0",
        "a": "0",
        "m": bool(row and row.maker),
        "R": order.reduce_only,
        "wt": "CONTRACT_PRICE",
        "ot": order.original_type,
        "ps": order.position_side,
        "cp": order.close_position,
        "rp": coin(row.realized if row else ZERO),
        "pP": False,
        "si": 0,
        "ss": 0,
        "V": order.self_trade_prevention,
        "pm": order.price_match,
        "gtd": order.good_till_ms,
        "er": "0",
    }
    if row:
        shown |= {"N": row.fee_asset, "n": coin(row.fee)}
    return _head(venue, "ORDER_TRADE_UPDATE") | {"o": shown}


def order_lite(venue: Venue, event: OrderChanged) -> Fields | None:
    """TRADE_LITE of an execution: the same fill, told sooner and shorter."""
    order, row = event.order, event.fill
    if row is None or event.execution != "TRADE":
        return None
    instrument = venue.markets.futures[order.symbol]
    return _head(venue, "TRADE_LITE") | {
        "s": order.symbol,
        "q": instrument.quantity(order.quantity),
        "p": instrument.price(order.price),
        "m": row.maker,
        "c": order.client_order_id,
        "S": order.side,
        "L": instrument.price(row.price),
        "l": instrument.quantity(row.quantity),
        "t": row.fill_id,
        "i": order.order_id,
    }


def liquidation(venue: Venue, event: OrderChanged) -> Fields:
    """The public forceOrder message of a liquidation."""
    order = event.order
    instrument = venue.markets.futures[order.symbol]
    price, quantity = instrument.price(order.average_price), instrument.quantity(order.executed)
    shown: Fields = {"s": order.symbol, "S": order.side, "o": "LIMIT", "f": "IOC", "q": quantity, "p": price}
    shown |= {"ap": price, "X": order.status, "l": quantity, "z": quantity, "T": venue.now_ms}
    return {"e": "forceOrder", "E": venue.now_ms, "o": shown}


def _position(portfolio: Portfolio, position: Position, mark: Decimal) -> Fields:
    is_open = bool(position.quantity)
    return {
        "s": position.symbol,
        "pa": f"{position.quantity.normalize():f}",
        "ep": f"{position.entry_price:.8f}" if is_open else "0",
        "bep": f"{position.break_even_price:.8f}" if is_open else "0",
        "cr": coin(position.accumulated),
        "up": coin(position.unrealized(mark)),
        "mt": "isolated" if portfolio.account.is_isolated(position.symbol) else "cross",
        "iw": coin(position.isolated_wallet),
        "ps": position.position_side,
    }


def account_message(venue: Venue, portfolio: Portfolio, event: BalancesChanged) -> Fields:
    """ACCOUNT_UPDATE with what changed."""
    wallet = portfolio.account.wallet
    isolated = sum((p.isolated_wallet for p in portfolio.positions.values()), ZERO)
    balance = {"a": "USDT", "wb": coin(wallet), "cw": coin(wallet - isolated), "bc": coin(event.change)}
    rows = [_position(portfolio, p, venue.quotes[p.symbol].mark) for p in event.positions]
    return _head(venue, "ACCOUNT_UPDATE") | {"a": {"m": event.reason, "B": [balance], "P": rows}}


def conditional_message(venue: Venue, event: ConditionalChanged) -> Fields:
    """ALGO_UPDATE."""
    order = event.order
    instrument = venue.markets.futures[order.symbol]
    shown = {
        "caid": order.client_algo_id,
        "aid": order.algo_id,
        "at": "CONDITIONAL",
        "o": order.type,
        "s": order.symbol,
        "S": order.side,
        "ps": order.position_side,
        "f": order.time_in_force,
        "q": instrument.quantity(order.quantity),
        "X": order.status,
        "ai": actual_order_id(order),
        "ap": instrument.price(order.actual_price),
        "aq": instrument.quantity(order.actual_quantity),
        "act": order.actual_type or "0",
        "tp": instrument.price(order.trigger_price),
        "p": instrument.price(order.price),
        "V": order.self_trade_prevention,
        "wt": order.working_type,
        "pm": order.price_match,
        "cp": order.close_position,
        "pP": order.price_protect,
        "R": order.reduce_only,
        "tt": order.trigger_ms,
        "gtd": order.good_till_ms,
        "rm": order.reject_reason,
        "ia": order.activated,
    }
    if order.callback_percent:
        shown |= {"AP": instrument.price(order.activate_price), "cr": f"{order.callback_percent:f}"}
    return _head(venue, "ALGO_UPDATE") | {"o": shown}


def margin_call(venue: Venue, portfolio: Portfolio, position: Position) -> Fields:
    """MARGIN_CALL for one position."""
    line = exposure(venue, portfolio, position)
    row = {
        "s": position.symbol,
        "ps": position.position_side,
        "pa": f"{position.quantity:f}",
        "mt": "ISOLATED" if line.isolated else "CROSSED",
        "iw": coin(position.isolated_wallet),
        "mp": f"{line.mark:f}",
        "up": coin(line.unrealized),
        "mm": coin(line.maintenance),
    }
    cross = coin(summary(venue, portfolio).cross_wallet)
    return {"e": "MARGIN_CALL", "E": venue.now_ms, "cw": cross, "p": [row]}


def execution_report(venue: Venue, event: SpotOrderChanged) -> Fields:
    """The executionReport of the spot user stream."""
    order, row = event.order, event.fill
    return {
        "e": "executionReport",
        "E": venue.now_ms,
        "s": order.symbol,
        "c": order.client_order_id,
        "S": order.side,
        "o": order.type,
        "f": order.time_in_force,
        "q": f"{order.quantity:.8f}",
        "p": f"{order.price:.8f}",
        "P": f"{order.stop_price:.8f}",
        "F": "0.00000000",
        "g": -1,
        "C": order.client_order_id if event.execution == "CANCELED" else "",
        "x": event.execution,
        "X": order.status,
        "r": "NONE",
        "i": order.order_id,
        "l": f"{row.quantity if row else ZERO:.8f}",
        "z": f"{order.executed:.8f}",
        "L": f"{row.price if row else ZERO:.8f}",
        "n": f"{row.fee if row else ZERO:.8f}",
        "N": row.fee_asset if row else None,
        "T": order.update_ms,
        "t": row.fill_id if row else -1,
        "w": order.working and order.status in {"NEW", "PARTIALLY_FILLED"},
        "m": bool(row and row.maker),
        "O": order.time_ms,
        "Z": f"{order.cost:.8f}",
        "Y": f"{row.quantity * row.price if row else ZERO:.8f}",
        "Q": f"{order.quote_quantity:.8f}",
        "W": order.working_ms,
        "V": "EXPIRE_MAKER",
    }


def spot_balances(venue: Venue, portfolio: Portfolio, event: SpotBalancesChanged) -> Fields:
    """The outboundAccountPosition of the spot user stream."""
    rows = [portfolio.balance(asset) for asset in event.assets]
    return {
        "e": "outboundAccountPosition",
        "E": venue.now_ms,
        "u": venue.now_ms,
        "B": [{"a": row.asset, "f": f"{row.free:.8f}", "l": f"{row.locked:.8f}"} for row in rows],
    }
