"""Binance's answers, as reports of the port: raw fields in, Decimals and aware times out.

Raw fields, because ccxt hides what matters here: an algo order that fired is "closed" with nothing filled,
a placement has no average price, positions have no leverage.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from exchange.port import (
    AccountSettings,
    BalanceReport,
    Candle,
    FillReport,
    IncomeReport,
    InstrumentReport,
    KeyPermissions,
    MarginBracket,
    Market,
    MarkPrice,
    OrderReport,
    OrderSide,
    PositionReport,
    ReportStatus,
    SymbolSettings,
    Ticker,
)

Raw = Mapping[str, Any]

ZERO = Decimal(0)

# The venue's date for contracts that never deliver.
NEVER_DELIVERS_MS = 4_133_404_800_000

# Fills already tell these two.
INCOME_OF_FILLS = frozenset({"COMMISSION", "REALIZED_PNL"})

ORDER_STATUS = {
    "NEW": ReportStatus.NEW,
    "PENDING_NEW": ReportStatus.NEW,
    "PENDING_CANCEL": ReportStatus.NEW,
    "NEW_INSURANCE": ReportStatus.NEW,
    "NEW_ADL": ReportStatus.NEW,
    "PARTIALLY_FILLED": ReportStatus.PARTIALLY_FILLED,
    "FILLED": ReportStatus.FILLED,
    "CANCELED": ReportStatus.CANCELLED,
    "EXPIRED": ReportStatus.EXPIRED,
    "EXPIRED_IN_MATCH": ReportStatus.EXPIRED,
    "REJECTED": ReportStatus.REJECTED,
}

# FINISHED does not mean filled, only that the ordinary order it became is no longer open.
ALGO_STATUS = {
    "NEW": ReportStatus.NEW,
    "TRIGGERING": ReportStatus.TRIGGERED,
    "TRIGGERED": ReportStatus.TRIGGERED,
    "FINISHED": ReportStatus.TRIGGERED,
    "CANCELED": ReportStatus.CANCELLED,
    "EXPIRED": ReportStatus.EXPIRED,
    "REJECTED": ReportStatus.REJECTED,
}


def decimal_of(value: object) -> Decimal:
    """A number of the wire, exact; missing or empty is 0. Raises `ArithmeticError` for anything else."""
    return Decimal(str(value)) if value not in {None, ""} else ZERO


def positive_or_none(value: object) -> Decimal | None:
    """A price of the wire; the venue writes 0 where there is none."""
    number = decimal_of(value)
    return number if number > 0 else None


def time_of(milliseconds: object) -> datetime:
    """An aware UTC time from wire milliseconds, exact to the millisecond."""
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=int(str(milliseconds)))


def milliseconds_of(moment: datetime) -> int:
    """Wire milliseconds of an aware time, floored."""
    return (moment - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1)


def order_report(raw: Raw, symbol: str, conditional_types: frozenset[str] = frozenset()) -> OrderReport:
    """An order of the ordinary store, futures or spot."""
    filled = decimal_of(raw.get("executedQty"))
    moment = raw.get("updateTime") or raw.get("transactTime") or raw.get("time")
    return OrderReport(
        client_order_id=str(raw["clientOrderId"]),
        exchange_order_id=str(raw["orderId"]),
        symbol=symbol,
        side=OrderSide(str(raw["side"]).lower()),
        status=ORDER_STATUS[str(raw["status"])],
        quantity=decimal_of(raw.get("origQty")),
        filled_quantity=filled,
        is_conditional=str(raw.get("type")) in conditional_types,
        average_price=_average_price(raw, filled),
        trigger_price=positive_or_none(raw.get("stopPrice")),
        reduce_only=bool(raw.get("reduceOnly")),
        close_position=bool(raw.get("closePosition")),
        position_side=_position_side(raw.get("positionSide")),
        updated_at=time_of(moment) if moment else None,
    )


def _average_price(raw: Raw, filled: Decimal) -> Decimal | None:
    """None in a futures placement, which no longer tells it; spot tells the quote quantity instead."""
    if "cummulativeQuoteQty" in raw and filled > 0:
        return decimal_of(raw["cummulativeQuoteQty"]) / filled
    return positive_or_none(raw.get("avgPrice"))


def _position_side(raw: object) -> str | None:
    return None if raw in {None, "", "BOTH"} else str(raw)


def conditional_report(raw: Raw, symbol: str) -> OrderReport:
    """An order of the conditional store; once fired, its ordinary order is named."""
    moment = raw.get("updateTime") or raw.get("createTime")
    triggered = str(raw.get("actualOrderId") or "")
    return OrderReport(
        client_order_id=str(raw["clientAlgoId"]),
        exchange_order_id=str(raw["algoId"]),
        symbol=symbol,
        side=OrderSide(str(raw["side"]).lower()),
        status=ALGO_STATUS[str(raw["algoStatus"])],
        quantity=decimal_of(raw.get("quantity")),
        filled_quantity=decimal_of(raw.get("actualQty")),
        is_conditional=True,
        average_price=positive_or_none(raw.get("actualPrice")),
        trigger_price=positive_or_none(raw.get("triggerPrice")),
        reduce_only=bool(raw.get("reduceOnly")),
        close_position=bool(raw.get("closePosition")),
        position_side=_position_side(raw.get("positionSide")),
        triggered_order_id=triggered if triggered not in {"", "0"} else None,
        reject_reason=str(raw.get("failReason") or ""),
        updated_at=time_of(moment) if moment else None,
    )


def fill_report(raw: Raw, symbol: str) -> FillReport:
    """One futures execution."""
    return FillReport(
        trade_id=str(raw["id"]),
        exchange_order_id=str(raw["orderId"]),
        symbol=symbol,
        side=OrderSide(str(raw["side"]).lower()),
        price=decimal_of(raw["price"]),
        quantity=decimal_of(raw["qty"]),
        fee=decimal_of(raw["commission"]),
        fee_asset=str(raw["commissionAsset"]),
        filled_at=time_of(raw["time"]),
        realized_profit=decimal_of(raw.get("realizedPnl")),
        is_maker=bool(raw.get("maker")),
        position_side=_position_side(raw.get("positionSide")),
    )


def spot_fill_report(raw: Raw, symbol: str) -> FillReport:
    """One spot execution; a buy's fee is usually taken in the coin bought."""
    return FillReport(
        trade_id=str(raw["id"]),
        exchange_order_id=str(raw["orderId"]),
        symbol=symbol,
        side=OrderSide.BUY if raw["isBuyer"] else OrderSide.SELL,
        price=decimal_of(raw["price"]),
        quantity=decimal_of(raw["qty"]),
        fee=decimal_of(raw["commission"]),
        fee_asset=str(raw["commissionAsset"]),
        filled_at=time_of(raw["time"]),
        is_maker=bool(raw.get("isMaker")),
    )


def position_report(raw: Raw, symbol: str) -> PositionReport | None:
    """An open position, or None for a row that is only there for its open orders."""
    quantity = decimal_of(raw["positionAmt"])
    if quantity == 0:
        return None
    return PositionReport(
        symbol=symbol,
        is_long=quantity > 0,
        quantity=abs(quantity),
        entry_price=decimal_of(raw["entryPrice"]),
        mark_price=decimal_of(raw["markPrice"]),
        unrealized_profit=decimal_of(raw["unRealizedProfit"]),
        liquidation_price=positive_or_none(raw.get("liquidationPrice")),
        isolated_margin=positive_or_none(raw.get("isolatedMargin")),
        is_isolated=positive_or_none(raw.get("isolatedMargin")) is not None,
        position_side=_position_side(raw.get("positionSide")),
    )


def futures_balance(raw: Raw, asset: str) -> BalanceReport:
    """The quote asset of a futures account; isolated positions' profit is included."""
    row: Raw = next((row for row in raw["assets"] if row["asset"] == asset), {})
    return BalanceReport(
        asset=asset,
        wallet=decimal_of(row.get("walletBalance")),
        unrealized_profit=decimal_of(row.get("unrealizedProfit")),
        available=decimal_of(row.get("availableBalance")),
    )


def spot_balance(raw: Raw, asset: str) -> BalanceReport:
    """The quote asset of a spot account, with every asset that is held."""
    held = [row for row in raw["balances"] if decimal_of(row["free"]) or decimal_of(row["locked"])]
    free = {str(row["asset"]): decimal_of(row["free"]) for row in held}
    locked = {str(row["asset"]): decimal_of(row["locked"]) for row in held}
    available = free.get(asset, ZERO)
    return BalanceReport(
        asset=asset,
        wallet=available + locked.get(asset, ZERO),
        unrealized_profit=ZERO,
        available=available,
        free=free,
        locked=locked,
    )


def account_settings(config: Raw, account_id: str) -> AccountSettings:
    """Position mode and multi-assets mode; the answer must carry both."""
    return AccountSettings(
        is_hedge_mode=_flag(config["dualSidePosition"]),
        is_multi_assets=_flag(config["multiAssetsMargin"]),
        exchange_account_id=account_id,
    )


def symbol_settings(raw: Raw, symbol: str) -> SymbolSettings:
    """Leverage and margin mode as the exchange will apply them."""
    return SymbolSettings(
        symbol=symbol, leverage=int(raw["leverage"]), is_isolated=str(raw["marginType"]).upper() == "ISOLATED"
    )


def key_permissions(raw: Raw) -> KeyPermissions:
    """What a key may do; moving money to another account counts as withdrawing it."""
    moves = [raw[name] for name in ("enableWithdrawals", "enableInternalTransfer") if name in raw]
    return KeyPermissions(
        can_withdraw=any(_flag(move) for move in moves) if moves else None,
        is_ip_restricted=_optional_flag(raw.get("ipRestrict")),
        can_trade_futures=_optional_flag(raw.get("enableFutures")),
        can_trade_spot=_optional_flag(raw.get("enableSpotAndMarginTrading")),
        has_portfolio_margin=_optional_flag(raw.get("enablePortfolioMarginTrading")),
    )


def _flag(value: object) -> bool:
    return str(value).lower() == "true"


def _optional_flag(value: object) -> bool | None:
    return None if value is None else _flag(value)


def income_report(raw: Raw, symbol: str) -> IncomeReport:
    """Funding, a transfer or any other movement; the id is unique with its kind."""
    kind = str(raw["incomeType"])
    return IncomeReport(
        income_id=f"{kind}:{raw['tranId']}:{raw.get('symbol') or ''}",
        kind=kind,
        asset=str(raw["asset"]),
        quantity=decimal_of(raw["income"]),
        symbol=symbol,
        at=time_of(raw["time"]),
    )


def candle(raw: Sequence[Any]) -> Candle:
    """One kline; `closed_at` is the next one's opening, so that ``closed_at <= now`` means closed."""
    return Candle(
        opened_at=time_of(raw[0]),
        closed_at=time_of(int(raw[6]) + 1),
        open=decimal_of(raw[1]),
        high=decimal_of(raw[2]),
        low=decimal_of(raw[3]),
        close=decimal_of(raw[4]),
        volume=decimal_of(raw[5]),
        quote_volume=decimal_of(raw[7]) if raw[7] not in {None, ""} else None,
    )


def mark_price(raw: Raw, symbol: str) -> MarkPrice:
    """One row of the premium index."""
    due = raw.get("nextFundingTime")
    return MarkPrice(
        symbol=symbol,
        mark_price=decimal_of(raw["markPrice"]),
        at=time_of(raw["time"]),
        funding_rate=decimal_of(raw.get("lastFundingRate")),
        next_funding_at=time_of(due) if due else None,
    )


def spot_last_price(raw: Raw, symbol: str) -> MarkPrice:
    """A spot market has no mark: its last price, at the venue's own time of the 24 h window's end."""
    return MarkPrice(symbol=symbol, mark_price=decimal_of(raw["lastPrice"]), at=time_of(raw["closeTime"]))


def ticker(raw: Raw, book: Raw, symbol: str) -> Ticker:
    """24 h figures with the best prices of the book."""
    return Ticker(
        symbol=symbol,
        last_price=decimal_of(raw["lastPrice"]),
        quote_volume=decimal_of(raw["quoteVolume"]) if raw.get("quoteVolume") not in {None, ""} else None,
        bid=positive_or_none(book.get("bidPrice")),
        ask=positive_or_none(book.get("askPrice")),
    )


def depth_quote(raw: Raw, within: Decimal) -> Decimal:
    """Quote units within a fraction of the mid, on the thinner side; 0 when a side is empty."""
    bids, asks = _levels(raw["bids"]), _levels(raw["asks"])
    if not bids or not asks:
        return ZERO
    mid = (bids[0][0] + asks[0][0]) / 2
    lowest, highest = mid * (1 - within), mid * (1 + within)
    buying = sum((price * quantity for price, quantity in bids if price >= lowest), ZERO)
    selling = sum((price * quantity for price, quantity in asks if price <= highest), ZERO)
    return min(buying, selling)


def _levels(raw: Iterable[Sequence[Any]]) -> list[tuple[Decimal, Decimal]]:
    return [(decimal_of(level[0]), decimal_of(level[1])) for level in raw]


def brackets(raw: Raw) -> tuple[MarginBracket, ...]:
    """The leverage and maintenance-margin steps of one symbol, smallest first."""
    steps = [
        MarginBracket(
            notional_floor=decimal_of(step["notionalFloor"]),
            notional_cap=decimal_of(step["notionalCap"]),
            max_leverage=int(step["initialLeverage"]),
            maint_margin_ratio=decimal_of(step["maintMarginRatio"]),
        )
        for step in raw["brackets"]
    ]
    return tuple(sorted(steps, key=lambda step: step.notional_floor))


def instrument_report(
    market: Raw, side_of: Market, margin_brackets: tuple[MarginBracket, ...] = ()
) -> InstrumentReport:
    """A ccxt market, its filters read from the venue's raw strings."""
    info: Raw = market["info"]
    filters: dict[str, Raw] = {str(row["filterType"]): row for row in info["filters"]}
    lot = filters["LOT_SIZE"]
    at_market = filters.get("MARKET_LOT_SIZE", lot)
    return InstrumentReport(
        symbol=str(market["symbol"]),
        market=side_of,
        base=str(market["base"]),
        quote=str(market["quote"]),
        tick=decimal_of(filters["PRICE_FILTER"]["tickSize"]),
        step=decimal_of(lot["stepSize"]),
        min_quantity=decimal_of(lot["minQty"]),
        max_quantity=decimal_of(lot["maxQty"]),
        # Spot writes 0 where the maximum of market orders follows the order book.
        max_market_quantity=positive_or_none(at_market["maxQty"]) or decimal_of(lot["maxQty"]),
        min_notional=_min_notional(filters),
        is_trading=_is_trading(info, filters),
        venue_symbol=str(market["id"]),
        delivery_at=_delivery_at(info.get("deliveryDate")),
        brackets=margin_brackets,
    )


def _min_notional(filters: Mapping[str, Raw]) -> Decimal:
    row = filters.get("MIN_NOTIONAL") or filters.get("NOTIONAL") or {}
    return decimal_of(row.get("notional") or row.get("minNotional"))


def _is_trading(info: Raw, filters: Mapping[str, Raw]) -> bool:
    """Open for entries: trading, and not under a control that only lets positions shrink."""
    control = filters.get("POSITION_RISK_CONTROL", {}).get("positionControlSide", "NONE")
    return (
        info["status"] == "TRADING" and control == "NONE" and info.get("isSpotTradingAllowed", True) is True
    )


def _delivery_at(milliseconds: object) -> datetime | None:
    if milliseconds in {None, "", 0} or int(str(milliseconds)) >= NEVER_DELIVERS_MS:
        return None
    return time_of(milliseconds)
