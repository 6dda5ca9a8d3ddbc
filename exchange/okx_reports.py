"""OKX's answers (v5, SWAP), as reports of the port: contracts in, base units out.

A contract is `ctVal` × `ctMult` of the base coin; the port knows base units only, so every quantity read is
multiplied and every quantity sent is divided. Fields as documented at www.okx.com/docs-v5/en:
order-book-trading-trade-get-order-details, -algo-trading-get-algo-order-details, trading-account-rest-api-*.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal

from exchange.binance_reports import Raw, decimal_of, positive_or_none, time_of
from exchange.port import (
    AccountSettings,
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

ORDER_STATUS = {
    "live": ReportStatus.NEW,
    "partially_filled": ReportStatus.PARTIALLY_FILLED,
    "filled": ReportStatus.FILLED,
    "canceled": ReportStatus.CANCELLED,
    "mmp_canceled": ReportStatus.CANCELLED,
}
IMMEDIATE = frozenset({"ioc", "fok", "market", "optimal_limit_ioc"})
BY_PERSON = "1"  # cancelSource: by the user

# `effective` says that it fired, not that anything filled.
ALGO_STATUS = {
    "live": ReportStatus.NEW,
    "pause": ReportStatus.NEW,
    "partially_effective": ReportStatus.TRIGGERED,
    "effective": ReportStatus.TRIGGERED,
    "canceled": ReportStatus.CANCELLED,
    "order_failed": ReportStatus.REJECTED,
    "partially_failed": ReportStatus.TRIGGERED,
}

POSITION_SIDE = {"long": "LONG", "short": "SHORT", "net": None, "": None}
TRIGGERS = ("slTriggerPx", "triggerPx", "tpTriggerPx", "moveTriggerPx")

# Bill types: what executions tell themselves (trade, delivery, liquidation, ADL), and the port's words.
BILLS_OF_FILLS = frozenset({"2", "3", "5", "9"})
BILL_KINDS = {"1": "TRANSFER", "8": "FUNDING_FEE"}
# Margin moved between the account and its own position: nothing came and nothing went.
WITHIN_THE_ACCOUNT = frozenset({"6"})

MULTI_CURRENCY = frozenset({"3", "4"})


def contract_size(info: Raw) -> Decimal:
    """How much of the base coin one contract is."""
    return decimal_of(info["ctVal"]) * (decimal_of(info.get("ctMult")) or 1)


def is_desk_market(market: Raw, quote: str) -> bool:
    """Whether a ccxt market is a perpetual whose contracts are a fixed amount of its base coin."""
    info: Raw = market["info"]
    return (
        market["swap"] is True
        and market["linear"] is True
        and market["settle"] == quote
        and info["ctValCcy"] == market["baseId"]
    )


def order_report(raw: Raw, symbol: str, size: Decimal) -> OrderReport:
    """An ordinary order; one a stop became has no client id of its own and is known by the stop's."""
    moment = raw.get("uTime") or raw.get("cTime")
    return OrderReport(
        client_order_id=str(raw.get("clOrdId") or raw.get("algoClOrdId") or ""),
        exchange_order_id=str(raw["ordId"]),
        symbol=symbol,
        side=OrderSide(str(raw["side"])),
        status=_status(raw),
        quantity=decimal_of(raw.get("sz")) * size,
        filled_quantity=decimal_of(raw["accFillSz"]) * size,
        is_conditional=False,
        average_price=positive_or_none(raw.get("avgPx")),
        reduce_only=_flag(raw.get("reduceOnly")),
        position_side=POSITION_SIDE[str(raw.get("posSide") or "")],
        updated_at=time_of(moment) if moment else None,
    )


def _status(raw: Raw) -> ReportStatus:
    """What an immediate order could not fill is cancelled by the engine: that is its expiry, not a cancel."""
    status = ORDER_STATUS[str(raw["state"])]
    is_immediate = raw.get("ordType") in IMMEDIATE
    if status is ReportStatus.CANCELLED and is_immediate and str(raw.get("cancelSource")) != BY_PERSON:
        return ReportStatus.EXPIRED
    return status


def conditional_report(raw: Raw, symbol: str, size: Decimal) -> OrderReport:
    """An order of the algo store; once fired, the ordinary order it became is named."""
    moment = raw.get("uTime") or raw.get("cTime")
    closes = decimal_of(raw.get("closeFraction")) > 0
    return OrderReport(
        client_order_id=str(raw.get("algoClOrdId") or raw.get("clOrdId") or ""),
        exchange_order_id=str(raw["algoId"]),
        symbol=symbol,
        side=OrderSide(str(raw["side"])),
        status=ALGO_STATUS[str(raw["state"])],
        quantity=decimal_of(raw.get("sz")) * size,
        filled_quantity=Decimal(0),
        is_conditional=True,
        trigger_price=next((price for name in TRIGGERS if (price := positive_or_none(raw.get(name)))), None),
        reduce_only=_flag(raw.get("reduceOnly")),
        close_position=closes,
        position_side=POSITION_SIDE[str(raw.get("posSide") or "")],
        triggered_order_id=became(raw),
        reject_reason=str(raw.get("failCode") or "").removeprefix("0"),
        updated_at=time_of(moment) if moment else None,
    )


def became(raw: Raw) -> str | None:
    """The ordinary order an algo order became, or None while it has become none."""
    ids = [str(raw.get("ordId") or ""), *(str(one) for one in raw.get("ordIdList") or [])]
    return next((one for one in ids if one), None)


def fill_report(raw: Raw, symbol: str, size: Decimal) -> FillReport:
    """One execution. The venue writes a fee paid as a negative number."""
    return FillReport(
        trade_id=str(raw["tradeId"]),
        exchange_order_id=str(raw["ordId"]),
        symbol=symbol,
        side=OrderSide(str(raw["side"])),
        price=decimal_of(raw["fillPx"]),
        quantity=decimal_of(raw["fillSz"]) * size,
        fee=-decimal_of(raw["fee"]),
        fee_asset=str(raw["feeCcy"]),
        filled_at=time_of(raw.get("fillTime") or raw["ts"]),
        realized_profit=decimal_of(raw.get("fillPnl")),
        client_order_id=str(raw.get("clOrdId") or ""),
        is_maker=raw.get("execType") == "M",
    )


def position_report(raw: Raw, symbol: str, size: Decimal) -> PositionReport | None:
    """An open position, or None for a closed one; in net mode the sign of `pos` is the direction."""
    contracts, side = decimal_of(raw["pos"]), POSITION_SIDE[str(raw["posSide"])]
    if contracts == 0:
        return None
    return PositionReport(
        symbol=symbol,
        is_long=contracts > 0 if side is None else side == "LONG",
        quantity=abs(contracts) * size,
        entry_price=decimal_of(raw["avgPx"]),
        mark_price=decimal_of(raw["markPx"]),
        unrealized_profit=decimal_of(raw["upl"]),
        liquidation_price=positive_or_none(raw.get("liqPx")),
        is_isolated=raw["mgnMode"] == "isolated",
        isolated_margin=positive_or_none(raw.get("margin")) if raw["mgnMode"] == "isolated" else None,
        position_side=side,
    )


def balance_report(account: Raw, asset: str) -> BalanceReport:
    """The quote coin: its equity counts isolated margin and unrealised profit, its wallet the margin only."""
    row: Raw = next((row for row in account["details"] if row["ccy"] == asset), {})
    unrealized = decimal_of(row.get("upl"))
    return BalanceReport(
        asset=asset,
        wallet=decimal_of(row.get("eq")) - unrealized,
        unrealized_profit=unrealized,
        available=decimal_of(row.get("availEq") or row.get("availBal")),
    )


def account_settings(raw: Raw) -> AccountSettings:
    """Position mode and account mode; multi-currency and portfolio margin count as multi-assets."""
    return AccountSettings(
        is_hedge_mode={"long_short_mode": True, "net_mode": False}[raw["posMode"]],
        is_multi_assets=str(raw["acctLv"]) in MULTI_CURRENCY,
        exchange_account_id=str(raw["uid"]),
    )


def key_permissions(raw: Raw) -> KeyPermissions:
    """What the key may do; `ip` is empty where it is bound to no address."""
    rights = {right.strip() for right in str(raw["perm"]).split(",")}
    return KeyPermissions(
        can_withdraw="withdraw" in rights,
        is_ip_restricted=bool(raw["ip"]),
        can_trade_futures="trade" in rights,
        can_trade_spot="trade" in rights,
    )


def income_report(raw: Raw, symbol: str) -> IncomeReport:
    """One bill; funding of an isolated position is booked at the position, the rest at the account."""
    kind = str(raw["type"])
    return IncomeReport(
        income_id=str(raw["billId"]),
        kind=BILL_KINDS.get(kind, f"BILL_{kind}"),
        asset=str(raw["ccy"]),
        quantity=decimal_of(raw["balChg"]) + decimal_of(raw.get("posBalChg")),
        symbol=symbol,
        at=time_of(raw["ts"]),
    )


def instrument_report(market: Raw) -> InstrumentReport:
    """A ccxt market, its rules in base units; the venue has no minimum notional beside the minimum size."""
    info: Raw = market["info"]
    size, expires = contract_size(info), str(info.get("expTime") or "")
    return InstrumentReport(
        symbol=str(market["symbol"]),
        market=Market.FUTURES,
        base=str(market["base"]),
        quote=str(market["quote"]),
        tick=decimal_of(info["tickSz"]),
        step=decimal_of(info["lotSz"]) * size,
        min_quantity=decimal_of(info["minSz"]) * size,
        max_quantity=decimal_of(info["maxLmtSz"]) * size,
        max_market_quantity=decimal_of(info["maxMktSz"]) * size,
        min_notional=Decimal(0),
        is_trading=info["state"] == "live",
        venue_symbol=str(market["id"]),
        delivery_at=time_of(expires) if expires else None,
    )


def mark_price(raw: Raw, symbol: str) -> MarkPrice:
    """One row of the mark prices; funding is told elsewhere, contract by contract."""
    return MarkPrice(symbol=symbol, mark_price=decimal_of(raw["markPx"]), at=time_of(raw["ts"]))


def ticker(raw: Raw, symbol: str) -> Ticker:
    """24 h figures; the volume in coins at the last price stands for the volume in quote units."""
    return Ticker(
        symbol=symbol,
        last_price=decimal_of(raw["last"]),
        quote_volume=decimal_of(raw["volCcy24h"]) * decimal_of(raw["last"]),
        bid=positive_or_none(raw.get("bidPx")),
        ask=positive_or_none(raw.get("askPx")),
    )


def book_in_base(raw: Raw, size: Decimal) -> Mapping[str, list[tuple[str, Decimal]]]:
    """A book of contracts as one of base units."""
    return {
        side: [(str(level[0]), decimal_of(level[1]) * size) for level in raw[side]]
        for side in ("bids", "asks")
    }


def candle(raw: Sequence[str], length: timedelta) -> Candle:
    """One candle: ts, open, high, low, close, contracts, coins, quote units, confirmed."""
    opened_at = time_of(raw[0])
    return Candle(
        opened_at=opened_at,
        closed_at=opened_at + length,
        open=decimal_of(raw[1]),
        high=decimal_of(raw[2]),
        low=decimal_of(raw[3]),
        close=decimal_of(raw[4]),
        volume=decimal_of(raw[6]),
        quote_volume=decimal_of(raw[7]),
    )


def _flag(value: object) -> bool:
    return str(value).lower() == "true"
