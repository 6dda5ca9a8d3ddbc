"""Bybit's answers (v5, unified account, linear), as reports of the port: raw rows in, Decimals and times out.

Fields as documented at bybit-exchange.github.io/docs/v5: order/open-order, order/execution, position,
account/wallet-balance, account/transaction-log, user/apikey-info, market/instrument, market/tickers.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from hashlib import sha256

from exchange.binance_reports import Raw, decimal_of, positive_or_none, time_of
from exchange.port import (
    BalanceReport,
    Candle,
    FillReport,
    IncomeReport,
    InstrumentReport,
    KeyPermissions,
    Market,
    MarkPrice,
    OrderReport,
    OrderSide,
    PositionReport,
    ReportStatus,
    Ticker,
)

ZERO = Decimal(0)

UNTRIGGERED = "Untriggered"

# docs/v5/enum, orderStatus. `Cancelled` may carry fills; a stop that never fired is `Deactivated`.
ORDER_STATUS = {
    "New": ReportStatus.NEW,
    "Triggered": ReportStatus.NEW,
    UNTRIGGERED: ReportStatus.NEW,
    "PartiallyFilled": ReportStatus.PARTIALLY_FILLED,
    "Filled": ReportStatus.FILLED,
    "Cancelled": ReportStatus.CANCELLED,
    "PartiallyFilledCanceled": ReportStatus.CANCELLED,
    "Deactivated": ReportStatus.CANCELLED,
    "Rejected": ReportStatus.REJECTED,
}
NEVER_FIRED = frozenset({UNTRIGGERED, "Deactivated", "Rejected"})
BY_PERSON = "CancelByUser"

# docs/v5/enum, positionIdx.
POSITION_INDEX = {None: 0, "LONG": 1, "SHORT": 2}
POSITION_SIDE = {1: "LONG", 2: "SHORT"}

# docs/v5/enum, execType: funding is told here too, and is no execution.
EXECUTIONS = frozenset(
    {"Trade", "AdlTrade", "BustTrade", "Delivery", "BlockTrade", "MovePosition", "FutureSpread"}
)
# docs/v5/enum, type(uta-translog): what executions tell themselves, and the port's words for the rest.
INCOME_OF_FILLS = frozenset({"TRADE", "LIQUIDATION", "ADL", "DELIVERY"})
INCOME_KINDS = {"SETTLEMENT": "FUNDING_FEE", "TRANSFER_IN": "TRANSFER", "TRANSFER_OUT": "TRANSFER"}

LONGEST_KIND = 30

# Taking money out, or moving it to another person's account.
MONEY_OUT = frozenset({"Withdraw", "SubMemberTransfer"})


def is_conditional(raw: Raw) -> bool:
    """Whether a row of the one order table still waits for its trigger."""
    return bool(raw["orderStatus"] == UNTRIGGERED)


def order_report(raw: Raw, symbol: str) -> OrderReport:
    """An ordinary order, or what a fired stop became: it keeps its ids."""
    return _report(raw, symbol, _status(raw), is_conditional=False)


def conditional_report(raw: Raw, symbol: str) -> OrderReport:
    """A conditional order; fired, it is TRIGGERED and names itself as the ordinary order it became."""
    if raw["orderStatus"] in NEVER_FIRED:
        return _report(raw, symbol, ORDER_STATUS[raw["orderStatus"]], is_conditional=True)
    return _report(raw, symbol, ReportStatus.TRIGGERED, is_conditional=True)


def _report(raw: Raw, symbol: str, status: ReportStatus, *, is_conditional: bool) -> OrderReport:
    moment = raw.get("updatedTime") or raw.get("createdTime")
    quantity = decimal_of(raw.get("qty"))
    return OrderReport(
        client_order_id=str(raw["orderLinkId"]),
        exchange_order_id=str(raw["orderId"]),
        symbol=symbol,
        side=OrderSide(str(raw["side"]).lower()),
        status=status,
        quantity=quantity,
        filled_quantity=decimal_of(raw.get("cumExecQty")),
        is_conditional=is_conditional,
        average_price=positive_or_none(raw.get("avgPrice")),
        trigger_price=positive_or_none(raw.get("triggerPrice")),
        reduce_only=bool(raw.get("reduceOnly")),
        close_position=bool(raw.get("closeOnTrigger")) and quantity == 0,
        position_side=POSITION_SIDE.get(int(raw.get("positionIdx") or 0)),
        triggered_order_id=str(raw["orderId"]) if status is ReportStatus.TRIGGERED else None,
        reject_reason="" if raw.get("rejectReason") in {None, "EC_NoError"} else str(raw["rejectReason"]),
        updated_at=time_of(moment) if moment else None,
    )


def _status(raw: Raw) -> ReportStatus:
    """What an immediate order could not fill is cancelled by the engine: that is its expiry, not a cancel."""
    status = ORDER_STATUS[str(raw["orderStatus"])]
    is_immediate = raw.get("timeInForce") in {"IOC", "FOK"} or raw.get("orderType") == "Market"
    if status is ReportStatus.CANCELLED and is_immediate and raw.get("cancelType") != BY_PERSON:
        return ReportStatus.EXPIRED
    return status


def fill_report(raw: Raw, symbol: str, quote_asset: str) -> FillReport:
    """One execution; the venue tells no realised profit with it."""
    return FillReport(
        trade_id=str(raw["execId"]),
        exchange_order_id=str(raw["orderId"]),
        symbol=symbol,
        side=OrderSide(str(raw["side"]).lower()),
        price=decimal_of(raw["execPrice"]),
        quantity=decimal_of(raw["execQty"]),
        fee=decimal_of(raw["execFee"]),
        fee_asset=str(raw.get("feeCurrency") or quote_asset),
        filled_at=time_of(raw["execTime"]),
        client_order_id=str(raw.get("orderLinkId") or ""),
        is_maker=bool(raw.get("isMaker")),
    )


def position_report(raw: Raw, symbol: str) -> PositionReport | None:
    """An open position, or None for a row that only tells the symbol's settings."""
    quantity = decimal_of(raw["size"])
    if quantity == 0:
        return None
    return PositionReport(
        symbol=symbol,
        is_long={"Buy": True, "Sell": False}[raw["side"]],
        quantity=quantity,
        entry_price=decimal_of(raw["avgPrice"]),
        mark_price=decimal_of(raw["markPrice"]),
        unrealized_profit=decimal_of(raw["unrealisedPnl"]),
        liquidation_price=positive_or_none(raw.get("liqPrice")),
        position_side=POSITION_SIDE.get(int(raw["positionIdx"])),
    )


def balance_report(account: Raw, asset: str) -> BalanceReport:
    """The quote coin of a unified account; `available` is of that coin alone, without unrealised gains."""
    row: Raw = next((row for row in account["coin"] if row["coin"] == asset), {})
    wallet, unrealized = decimal_of(row.get("walletBalance")), decimal_of(row.get("unrealisedPnl"))
    bound = sum((decimal_of(row.get(name)) for name in ("totalPositionIM", "totalOrderIM", "locked")), ZERO)
    return BalanceReport(
        asset=asset,
        wallet=wallet,
        unrealized_profit=unrealized,
        available=max(ZERO, wallet + min(ZERO, unrealized) - bound),
    )


def key_permissions(raw: Raw) -> KeyPermissions:
    """What the key may do; without an address of its own it is bound to none."""
    rights, is_writer = raw["permissions"], int(raw["readOnly"]) == 0
    addresses = [address for address in raw.get("ips") or [] if address != "*"]
    return KeyPermissions(
        can_withdraw=is_writer and not MONEY_OUT.isdisjoint(rights.get("Wallet") or []),
        is_ip_restricted=bool(addresses),
        can_trade_futures=is_writer and {"Order", "Position"} <= set(rights.get("ContractTrade") or []),
        can_trade_spot=is_writer and "SpotTrade" in (rights.get("Spot") or []),
    )


def income_report(raw: Raw, symbol: str) -> IncomeReport:
    """One row of the transaction log; the venue's id alone is not unique, and its names are long."""
    kind, moment = str(raw["type"]), str(raw["transactionTime"])
    own = sha256(f"{kind}:{raw['id']}:{raw.get('tradeId') or ''}:{raw['change']}".encode()).hexdigest()
    return IncomeReport(
        income_id=f"{moment}:{own[:32]}",
        kind=INCOME_KINDS.get(kind, kind)[:LONGEST_KIND],
        asset=str(raw["currency"]),
        quantity=decimal_of(raw["change"]),
        symbol=symbol,
        at=time_of(moment),
    )


def instrument_report(market: Raw) -> InstrumentReport:
    """A ccxt market, its rules read from the venue's raw strings."""
    info: Raw = market["info"]
    lot, delivery = info["lotSizeFilter"], str(info.get("deliveryTime") or "0")
    return InstrumentReport(
        symbol=str(market["symbol"]),
        market=Market.FUTURES,
        base=str(market["base"]),
        quote=str(market["quote"]),
        tick=decimal_of(info["priceFilter"]["tickSize"]),
        step=decimal_of(lot["qtyStep"]),
        min_quantity=decimal_of(lot["minOrderQty"]),
        max_quantity=decimal_of(lot["maxOrderQty"]),
        max_market_quantity=decimal_of(lot["maxMktOrderQty"]),
        min_notional=decimal_of(lot["minNotionalValue"]),
        is_trading=info["status"] == "Trading" and not info.get("isPreListing"),
        venue_symbol=str(market["id"]),
        delivery_at=time_of(delivery) if delivery != "0" else None,
    )


def mark_price(raw: Raw, symbol: str, at: datetime) -> MarkPrice:
    """One row of the tickers, at the time of the whole answer."""
    due = str(raw.get("nextFundingTime") or "0")
    return MarkPrice(
        symbol=symbol,
        mark_price=decimal_of(raw["markPrice"]),
        at=at,
        funding_rate=decimal_of(raw.get("fundingRate")),
        next_funding_at=time_of(due) if due != "0" else None,
    )


def ticker(raw: Raw, symbol: str) -> Ticker:
    """24 h figures with the best prices; `turnover24h` is in quote units on linear contracts."""
    return Ticker(
        symbol=symbol,
        last_price=decimal_of(raw["lastPrice"]),
        quote_volume=decimal_of(raw["turnover24h"]),
        bid=positive_or_none(raw.get("bid1Price")),
        ask=positive_or_none(raw.get("ask1Price")),
    )


def candle(raw: Sequence[str], length: timedelta) -> Candle:
    """One kline: start, open, high, low, close, volume, turnover."""
    opened_at = time_of(raw[0])
    return Candle(
        opened_at=opened_at,
        closed_at=opened_at + length,
        open=decimal_of(raw[1]),
        high=decimal_of(raw[2]),
        low=decimal_of(raw[3]),
        close=decimal_of(raw[4]),
        volume=decimal_of(raw[5]),
        quote_volume=decimal_of(raw[6]),
    )
