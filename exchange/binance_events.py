"""Binance's stream messages, as events and marks; what the desk has no use for is no event."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from exchange.binance_reports import ALGO_STATUS, ORDER_STATUS, decimal_of, positive_or_none, time_of
from exchange.port import FillReport, MarkPrice, OrderReport, OrderSide
from exchange.stream_events import (
    BalanceEvent,
    ConditionalEvent,
    ConfigEvent,
    OrderEvent,
    PositionEvent,
    UserEvent,
)

Raw = Mapping[str, Any]
SymbolOf = Callable[[str], str]

EXECUTIONS = frozenset({"TRADE", "CALCULATED"})
SPOT_CONDITIONAL = frozenset({"STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT"})

KEY_EXPIRED = "listenKeyExpired"


def user_events(message: Raw, symbol_of: SymbolOf) -> Iterator[UserEvent]:
    """The events of one message of a user stream, none for types the desk does not know."""
    read = _READERS.get(str(message.get("e")))
    if read is not None:
        yield from read(message, symbol_of)


def marks(message: object, symbol_of: SymbolOf) -> list[MarkPrice]:
    """The marks of one message; an array of all symbols or one alone."""
    rows = message if isinstance(message, list) else [message]
    return [_mark(row, symbol_of) for row in rows if isinstance(row, dict) and row.get("e") in _MARK_TYPES]


_MARK_TYPES = frozenset({"markPriceUpdate", "24hrMiniTicker"})


def _mark(row: Raw, symbol_of: SymbolOf) -> MarkPrice:
    symbol, at = symbol_of(str(row["s"])), time_of(row["E"])
    if row["e"] == "24hrMiniTicker":
        return MarkPrice(symbol=symbol, mark_price=decimal_of(row["c"]), at=at)
    return MarkPrice(
        symbol=symbol,
        mark_price=decimal_of(row["p"]),
        at=at,
        funding_rate=decimal_of(row["r"]) if row.get("r") else None,
        next_funding_at=time_of(row["T"]) if row.get("T") else None,
    )


def _order(message: Raw, symbol_of: SymbolOf) -> Iterator[UserEvent]:
    raw: Raw = message["o"]
    symbol, at = symbol_of(str(raw["s"])), time_of(message["E"])
    report = OrderReport(
        client_order_id=str(raw["c"]),
        exchange_order_id=str(raw["i"]),
        symbol=symbol,
        side=OrderSide(str(raw["S"]).lower()),
        status=ORDER_STATUS[str(raw["X"])],
        quantity=decimal_of(raw["q"]),
        filled_quantity=decimal_of(raw["z"]),
        is_conditional=False,
        average_price=positive_or_none(raw.get("ap")),
        trigger_price=positive_or_none(raw.get("sp")),
        reduce_only=bool(raw.get("R")),
        close_position=bool(raw.get("cp")),
        position_side=_position_side(raw.get("ps")),
        reject_reason=str(raw.get("er") or "") if raw["X"] == "REJECTED" else "",
        updated_at=time_of(raw["T"]),
    )
    yield OrderEvent(report=report, fill=_fill(raw, symbol), at=at)


def _fill(raw: Raw, symbol: str) -> FillReport | None:
    if raw["x"] not in EXECUTIONS or decimal_of(raw["l"]) == 0:
        return None
    return FillReport(
        trade_id=str(raw["t"]),
        exchange_order_id=str(raw["i"]),
        symbol=symbol,
        side=OrderSide(str(raw["S"]).lower()),
        price=decimal_of(raw["L"]),
        quantity=decimal_of(raw["l"]),
        fee=decimal_of(raw.get("n")),
        fee_asset=str(raw.get("N") or ""),
        filled_at=time_of(raw["T"]),
        realized_profit=decimal_of(raw.get("rp")),
        client_order_id=str(raw["c"]),
        is_maker=bool(raw.get("m")),
        position_side=_position_side(raw.get("ps")),
    )


def _conditional(message: Raw, symbol_of: SymbolOf) -> Iterator[UserEvent]:
    raw: Raw = message["o"]
    triggered = str(raw.get("ai") or "")
    report = OrderReport(
        client_order_id=str(raw["caid"]),
        exchange_order_id=str(raw["aid"]),
        symbol=symbol_of(str(raw["s"])),
        side=OrderSide(str(raw["S"]).lower()),
        status=ALGO_STATUS[str(raw["X"])],
        quantity=decimal_of(raw.get("q")),
        filled_quantity=decimal_of(raw.get("aq")),
        is_conditional=True,
        average_price=positive_or_none(raw.get("ap")),
        trigger_price=positive_or_none(raw.get("tp")),
        reduce_only=bool(raw.get("R")),
        close_position=bool(raw.get("cp")),
        position_side=_position_side(raw.get("ps")),
        triggered_order_id=triggered if triggered not in {"", "0"} else None,
        reject_reason=str(raw.get("rm") or ""),
        updated_at=time_of(message["T"]),
    )
    yield ConditionalEvent(report=report, at=time_of(message["E"]))


def _account(message: Raw, symbol_of: SymbolOf) -> Iterator[UserEvent]:
    change: Raw = message["a"]
    reason, at = str(change.get("m") or ""), time_of(message["E"])
    for row in change.get("B", []):
        yield BalanceEvent(asset=str(row["a"]), wallet=decimal_of(row["wb"]), reason=reason, at=at)
    for row in change.get("P", []):
        quantity = decimal_of(row["pa"])
        yield PositionEvent(
            symbol=symbol_of(str(row["s"])),
            is_long=quantity > 0,
            quantity=abs(quantity),
            entry_price=decimal_of(row["ep"]),
            unrealized_profit=decimal_of(row.get("up")),
            position_side=_position_side(row.get("ps")),
            reason=reason,
            at=at,
        )


def _config(message: Raw, symbol_of: SymbolOf) -> Iterator[UserEvent]:
    at = time_of(message["E"])
    if "ac" in message:
        yield ConfigEvent(at=at, symbol=symbol_of(str(message["ac"]["s"])), leverage=int(message["ac"]["l"]))
    if "ai" in message:
        yield ConfigEvent(at=at, is_multi_assets=bool(message["ai"]["j"]))


def _spot_order(raw: Raw, symbol_of: SymbolOf) -> Iterator[UserEvent]:
    symbol, filled = symbol_of(str(raw["s"])), decimal_of(raw["z"])
    # A cancel report carries the cancel's own id in `c` and the order's in `C`.
    client_order_id = str(raw.get("C") or raw["c"])
    report = OrderReport(
        client_order_id=client_order_id,
        exchange_order_id=str(raw["i"]),
        symbol=symbol,
        side=OrderSide(str(raw["S"]).lower()),
        status=ORDER_STATUS[str(raw["X"])],
        quantity=decimal_of(raw["q"]),
        filled_quantity=filled,
        is_conditional=str(raw["o"]) in SPOT_CONDITIONAL,
        average_price=decimal_of(raw["Z"]) / filled if filled > 0 else None,
        trigger_price=positive_or_none(raw.get("P")),
        reject_reason="" if raw.get("r") in {None, "NONE"} else str(raw["r"]),
        updated_at=time_of(raw["T"]),
    )
    fill = _fill({**raw, "c": client_order_id}, symbol)
    yield OrderEvent(report=report, fill=fill, at=time_of(raw["E"]))


def _spot_account(message: Raw, symbol_of: SymbolOf) -> Iterator[UserEvent]:  # noqa: ARG001 - one shape for all readers
    at = time_of(message["E"])
    for row in message["B"]:
        free, locked = decimal_of(row["f"]), decimal_of(row["l"])
        yield BalanceEvent(asset=str(row["a"]), wallet=free + locked, reason="", at=at, locked=locked)


def _position_side(raw: object) -> str | None:
    return None if raw in {None, "", "BOTH"} else str(raw)


_READERS: Mapping[str, Callable[[Raw, SymbolOf], Iterator[UserEvent]]] = {
    "ORDER_TRADE_UPDATE": _order,
    "ALGO_UPDATE": _conditional,
    "ACCOUNT_UPDATE": _account,
    "ACCOUNT_CONFIG_UPDATE": _config,
    "executionReport": _spot_order,
    "outboundAccountPosition": _spot_account,
}
