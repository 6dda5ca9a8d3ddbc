"""Bybit's documented shapes: each names its page under bybit-exchange.github.io/docs/v5."""

import hmac
from typing import Any

from exchange.tests.venues.wire import KEY, SECRET, Asked, WireExchange, now_ms

PUBLIC = "/v5/market/"


class BybitWire(WireExchange):
    """`guide`, authentication: the signature, and from when until when a timestamp is taken."""

    def refused(self, asked: Asked, target: str) -> tuple[Any, int] | None:
        if asked.path.startswith(PUBLIC):
            return None
        sent, window = asked.headers["X-BAPI-TIMESTAMP"], asked.headers["X-BAPI-RECV-WINDOW"]
        signed = f"{sent}{KEY}{window}{asked.raw}".encode()
        if asked.headers["X-BAPI-SIGN"] != hmac.new(SECRET.encode(), signed, "sha256").hexdigest():
            return refusal(10004, "error sign! origin_string[...]"), 200
        if not now_ms() - int(window) <= int(sent) < now_ms() + 1000:
            return refusal(
                10002, "invalid request, please check your server timestamp or recv_window param"
            ), 200
        return None

    def no_such_path(self) -> Any:
        return refusal(10017, "Route not found.")


def refusal(code: int, message: str = "refused") -> dict[str, Any]:
    """`error`: a refusal comes with HTTP 200."""
    return {"retCode": code, "retMsg": message, "result": {}, "retExtInfo": {}, "time": now_ms()}


def result(**fields: Any) -> dict[str, Any]:
    """`guide`: the envelope of every answer."""
    return {"retCode": 0, "retMsg": "OK", "result": fields, "retExtInfo": {}, "time": now_ms()}


def rows(*listed: Any, cursor: str = "") -> dict[str, Any]:
    """`order/open-order`, `position`, ...: a page of a list."""
    return result(list=list(listed), nextPageCursor=cursor, category="linear")


def acknowledged(asked: Asked) -> dict[str, Any]:
    """`order/create-order`, `order/cancel-order`: the two ids, and nothing of what became of it."""
    return result(orderId="1321003749386327552", orderLinkId=asked.body["orderLinkId"])


def order(**changes: Any) -> dict[str, Any]:
    """`order/open-order`, Response Example."""
    return {
        "orderId": "fd4300ae-7847-404e-b947-b46980a4d140",
        "orderLinkId": "phx1",
        "blockTradeId": "",
        "symbol": "BTCUSDT",
        "price": "70000.10",
        "qty": "0.013",
        "side": "Buy",
        "isLeverage": "",
        "positionIdx": 0,
        "orderStatus": "New",
        "cancelType": "UNKNOWN",
        "rejectReason": "EC_NoError",
        "avgPrice": "0",
        "leavesQty": "0.013",
        "leavesValue": "910.0013",
        "cumExecQty": "0.000",
        "cumExecValue": "0",
        "cumExecFee": "0",
        "timeInForce": "GTC",
        "orderType": "Limit",
        "stopOrderType": "UNKNOWN",
        "orderIv": "",
        "triggerPrice": "0.00",
        "takeProfit": "",
        "stopLoss": "",
        "triggerDirection": 0,
        "triggerBy": "UNKNOWN",
        "lastPriceOnCreated": "",
        "reduceOnly": False,
        "closeOnTrigger": False,
        "smpType": "None",
        "smpGroup": 0,
        "smpOrderId": "",
        "tpslMode": "Full",
        "placeType": "",
        "createdTime": "1684738540559",
        "updatedTime": "1684738540561",
        **changes,
    }


def stop(**changes: Any) -> dict[str, Any]:
    """The same page, a conditional order (`enum`: orderStatus Untriggered, stopOrderType Stop)."""
    return order(
        **{
            "orderLinkId": "phxstop1",
            "side": "Sell",
            "qty": "0",
            "price": "",
            "orderType": "Market",
            "orderStatus": "Untriggered",
            "stopOrderType": "Stop",
            "triggerPrice": "69000.00",
            "triggerDirection": 2,
            "triggerBy": "MarkPrice",
            "reduceOnly": True,
            "closeOnTrigger": True,
            "timeInForce": "IOC",
            **changes,
        }
    )


def execution(**changes: Any) -> dict[str, Any]:
    """`order/execution`, Response Example."""
    return {
        "symbol": "BTCUSDT",
        "orderType": "Market",
        "underlyingPrice": "",
        "orderLinkId": "phx1",
        "side": "Buy",
        "indexPrice": "",
        "orderId": "8c065341-7b52-4ca9-ac2c-37e31ac55c94",
        "stopOrderType": "UNKNOWN",
        "leavesQty": "0",
        "execTime": "1672282722429",
        "feeCurrency": "",
        "isMaker": False,
        "execFee": "0.071409",
        "feeRate": "0.0006",
        "execId": "e0cbe81d-0f18-5866-9415-cf319b5dab3b",
        "tradeIv": "",
        "blockTradeId": "",
        "markPrice": "70000.54",
        "execPrice": "70000.1",
        "markIv": "",
        "orderQty": "0.013",
        "orderPrice": "70000.1",
        "execValue": "910.0013",
        "execType": "Trade",
        "execQty": "0.013",
        "closedSize": "",
        "extraFees": "",
        "seq": 4688002127,
        **changes,
    }


def position(**changes: Any) -> dict[str, Any]:
    """`position`, Response Example, on a linear symbol."""
    return {
        "positionIdx": 0,
        "riskId": 1,
        "riskLimitValue": "2000000",
        "symbol": "BTCUSDT",
        "side": "Sell",
        "size": "0.300",
        "avgPrice": "27464.50441675",
        "positionValue": "8239.35",
        "tradeMode": 0,
        "positionStatus": "Normal",
        "autoAddMargin": 0,
        "adlRankIndicator": 2,
        "leverage": "10",
        "breakEvenPrice": "93556.73034991",
        "positionBalance": "0.00139186",
        "markPrice": "28224.50",
        "liqPrice": "",
        "bustPrice": "999999.00",
        "positionMM": "0.0000015",
        "positionIM": "0.00010923",
        "tpslMode": "Full",
        "takeProfit": "0.00",
        "stopLoss": "0.00",
        "trailingStop": "0.00",
        "unrealisedPnl": "-228.00",
        "curRealisedPnl": "0.00013123",
        "cumRealisedPnl": "-0.00096902",
        "seq": 5723621632,
        "isReduceOnly": False,
        "createdTime": "1676538056258",
        "updatedTime": "1697673600012",
        **changes,
    }


def wallet(**changes: Any) -> dict[str, Any]:
    """`account/wallet-balance`, Response Example: one account, its coins."""
    coin = {
        "availableToBorrow": "3",
        "bonus": "0",
        "accruedInterest": "0",
        "availableToWithdraw": "",
        "totalOrderIM": "0",
        "equity": "10046.52",
        "totalPositionMM": "5.01",
        "usdValue": "10046.52",
        "unrealisedPnl": "-10.32",
        "collateralSwitch": True,
        "borrowAmount": "0.0",
        "totalPositionIM": "1000.99",
        "walletBalance": "10056.84",
        "cumRealisedPnl": "0",
        "locked": "0",
        "marginCollateral": True,
        "coin": "USDT",
        "spotBorrow": "0",
        **changes,
    }
    return {
        "totalEquity": "10046.52",
        "accountIMRate": "",
        "totalMarginBalance": "",
        "totalInitialMargin": "",
        "accountType": "UNIFIED",
        "totalAvailableBalance": "",
        "totalPerpUPL": "-10.32",
        "totalWalletBalance": "10056.84",
        "accountLTV": "0",
        "coin": [coin],
    }


def account_info(mode: str = "ISOLATED_MARGIN") -> dict[str, Any]:
    """`account/account-info`, Response Example."""
    return result(
        marginMode=mode,
        updatedTime="1697078946000",
        unifiedMarginStatus=4,
        dcpStatus="OFF",
        timeWindow=10,
        smpGroup=0,
        isMasterTrader=False,
        spotHedgingStatus="OFF",
    )


def api_key(**changes: Any) -> dict[str, Any]:
    """`user/apikey-info`, Response Example."""
    return result(
        **{
            "id": "2208369",
            "note": "testnet",
            "apiKey": "XXXXXXXX",
            "readOnly": 0,
            "secret": "",
            "permissions": {
                "ContractTrade": ["Order", "Position"],
                "Spot": ["SpotTrade"],
                "Wallet": ["AccountTransfer"],
                "Options": [],
                "Derivatives": ["DerivativesTrade"],
                "CopyTrading": [],
                "BlockTrade": [],
                "Exchange": [],
                "NFT": [],
                "Affiliate": [],
                "Earn": [],
            },
            "ips": ["18.181.170.164"],
            "type": 1,
            "deadlineDay": -2,
            "expiredAt": "1970-01-01T00:00:00Z",
            "createdAt": "2025-10-13T03:20:45Z",
            "unified": 0,
            "uta": 1,
            "userID": 1448939,
            "inviterID": 0,
            "vipLevel": "PRO-1",
            "mktMakerLevel": "0",
            "affiliateID": 0,
            **changes,
        }
    )


def logged(**changes: Any) -> dict[str, Any]:
    """`account/transaction-log`, Response Example."""
    return {
        "transSubType": "",
        "id": "592324_XRPUSDT_161440249321",
        "symbol": "BTCUSDT",
        "side": "Buy",
        "funding": "-0.003676",
        "orderLinkId": "",
        "orderId": "1672128000-8-592324-1-2",
        "fee": "0.00000000",
        "change": "-0.003676",
        "cashFlow": "0",
        "transactionTime": "1672128000000",
        "type": "SETTLEMENT",
        "feeRate": "0.0001",
        "bonusChange": "",
        "size": "100",
        "qty": "100",
        "cashBalance": "5086.55825002",
        "currency": "USDT",
        "category": "linear",
        "tradePrice": "0.3676",
        "tradeId": "534c0003-4bf7-486f-aa02-78cee36825e4",
        "extraFees": "",
        **changes,
    }


def instrument(base: str = "BTC", **changes: Any) -> dict[str, Any]:
    """`market/instrument`, Linear, Response Example."""
    return {
        "symbol": f"{base}USDT",
        "symbolId": 5,
        "contractType": "LinearPerpetual",
        "status": "Trading",
        "baseCoin": base,
        "quoteCoin": "USDT",
        "launchTime": "1585526400000",
        "deliveryTime": "0",
        "deliveryFeeRate": "",
        "priceScale": "2",
        "leverageFilter": {"minLeverage": "1", "maxLeverage": "100.00", "leverageStep": "0.01"},
        "priceFilter": {"minPrice": "0.10", "maxPrice": "1999999.80", "tickSize": "0.10"},
        "lotSizeFilter": {
            "maxOrderQty": "1190.000",
            "minOrderQty": "0.001",
            "qtyStep": "0.001",
            "postOnlyMaxOrderQty": "1190.000",
            "maxMktOrderQty": "500.000",
            "minNotionalValue": "5",
        },
        "unifiedMarginTrade": True,
        "fundingInterval": 480,
        "settleCoin": "USDT",
        "copyTrading": "both",
        "upperFundingRate": "0.00375",
        "lowerFundingRate": "-0.00375",
        "isPreListing": False,
        "preListingInfo": None,
        "riskParameters": {"priceLimitRatioX": "0.01", "priceLimitRatioY": "0.02"},
        "symbolType": "",
        **changes,
    }


def ticker(**changes: Any) -> dict[str, Any]:
    """`market/tickers`, Response Example, on a linear symbol."""
    return {
        "symbol": "BTCUSDT",
        "lastPrice": "70010.00",
        "indexPrice": "70001.92",
        "markPrice": "70000.43",
        "prevPrice24h": "69595.90",
        "price24hPcnt": "0.0142425",
        "highPrice24h": "71309.30",
        "lowPrice24h": "69007.60",
        "openInterest": "52011.53",
        "openInterestValue": "3640807100",
        "turnover24h": "2115000000.6907",
        "volume24h": "30213.8320",
        "fundingRate": "0.0001",
        "nextFundingTime": "1760371200000",
        "ask1Size": "9.854",
        "bid1Price": "70009.90",
        "ask1Price": "70010.10",
        "bid1Size": "1.063",
        "deliveryTime": "0",
        **changes,
    }


SERVER_TIME = result(timeSecond="1688639403", timeNano="1688639403423213947")
"""`market/time`, Response Example."""

KLINES = result(
    symbol="BTCUSDT",
    category="linear",
    list=[
        ["1670608800000", "17071", "17073", "17027", "17055.5", "268.611", "4581494.9"],
        ["1670605200000", "17071.5", "17071.5", "17061", "17071", "4.177", "71305.5"],
    ],
)
"""`market/kline`, Response Example."""

BOOK = result(
    s="BTCUSDT",
    a=[["65557.7", "16.606555"]],
    b=[["65485.47", "47.081829"]],
    ts=1716863719031,
    u=230704,
    seq=1432604333,
    cts=1716863718905,
)
"""`market/orderbook`, Response Example."""
