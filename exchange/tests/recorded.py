"""Shapes as the venue sends them."""

FUTURES_FILTERS = [
    {"filterType": "PRICE_FILTER", "minPrice": "556.80", "maxPrice": "4529764", "tickSize": "0.10"},
    {"filterType": "LOT_SIZE", "minQty": "0.001", "maxQty": "1000", "stepSize": "0.001"},
    {"filterType": "MARKET_LOT_SIZE", "minQty": "0.001", "maxQty": "120", "stepSize": "0.001"},
    {"filterType": "MAX_NUM_ORDERS", "limit": 200},
    {"filterType": "MIN_NOTIONAL", "notional": "50"},
    {
        "filterType": "PERCENT_PRICE",
        "multiplierUp": "1.0500",
        "multiplierDown": "0.9500",
        "multiplierDecimal": "4",
    },
    {"filterType": "POSITION_RISK_CONTROL", "positionControlSide": "NONE"},
]


def futures_symbol(base: str, **changes: object) -> dict[str, object]:
    return {
        "symbol": f"{base}USDT",
        "pair": f"{base}USDT",
        "contractType": "PERPETUAL",
        "deliveryDate": 4133404800000,
        "onboardDate": 1567965300000,
        "status": "TRADING",
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": base,
        "quoteAsset": "USDT",
        "marginAsset": "USDT",
        "pricePrecision": 2,
        "quantityPrecision": 3,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": ["PoW"],
        "triggerProtect": "0.0500",
        "liquidationFee": "0.012500",
        "marketTakeBound": "0.05",
        "filters": FUTURES_FILTERS,
        "orderTypes": [
            "LIMIT",
            "MARKET",
            "STOP",
            "STOP_MARKET",
            "TAKE_PROFIT",
            "TAKE_PROFIT_MARKET",
            "TRAILING_STOP_MARKET",
        ],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
        **changes,
    }


def spot_symbol(base: str) -> dict[str, object]:
    return {
        "symbol": f"{base}USDT",
        "status": "TRADING",
        "baseAsset": base,
        "baseAssetPrecision": 8,
        "quoteAsset": "USDT",
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT"],
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "quoteOrderQtyMarketAllowed": True,
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000.00", "tickSize": "0.01"},
            {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000.0", "stepSize": "0.00001"},
            {"filterType": "MARKET_LOT_SIZE", "minQty": "0.0", "maxQty": "0.0", "stepSize": "0.0"},
            {
                "filterType": "NOTIONAL",
                "minNotional": "5.0",
                "applyMinToMarket": True,
                "maxNotional": "9000000.0",
            },
        ],
    }


FUTURES_INFO = {
    "timezone": "UTC",
    "serverTime": 1789000000000,
    "futuresType": "U_MARGINED",
    "rateLimits": [],
    "exchangeFilters": [],
    "assets": [],
    "symbols": [
        futures_symbol("BTC"),
        futures_symbol("ETH"),
        futures_symbol("LINK", deliveryDate=1789600000000, status="SETTLING"),
        futures_symbol(
            "SOL",
            filters=[
                *FUTURES_FILTERS[:-1],
                {"filterType": "POSITION_RISK_CONTROL", "positionControlSide": "LONG"},
            ],
        ),
        {
            **futures_symbol("BTC", contractType="CURRENT_QUARTER", deliveryDate=1789600000000),
            "symbol": "BTCUSDT_260917",
        },
    ],
}

SPOT_INFO = {
    "timezone": "UTC",
    "serverTime": 1789000000000,
    "rateLimits": [],
    "exchangeFilters": [],
    "symbols": [spot_symbol("BTC"), spot_symbol("ETH")],
}


def placed(**changes: object) -> dict[str, object]:
    """A placement as it is answered since June 2026: no average price, no quote quantity."""
    return {
        "clientOrderId": "phx1",
        "cumQty": "0.013",
        "executedQty": "0.013",
        "orderId": 283194212,
        "origQty": "0.013",
        "price": "70000.10",
        "reduceOnly": False,
        "side": "BUY",
        "positionSide": "BOTH",
        "status": "FILLED",
        "stopPrice": "0.00",
        "closePosition": False,
        "symbol": "BTCUSDT",
        "timeInForce": "IOC",
        "type": "LIMIT",
        "origType": "LIMIT",
        "updateTime": 1789000000123,
        "workingType": "CONTRACT_PRICE",
        "priceProtect": False,
        "priceMatch": "NONE",
        "selfTradePreventionMode": "EXPIRE_MAKER",
        "goodTillDate": 0,
        **changes,
    }


def algo(**changes: object) -> dict[str, object]:
    """A conditional order as its own store tells it."""
    return {
        "algoId": 2148719,
        "clientAlgoId": "phxstop1",
        "algoType": "CONDITIONAL",
        "orderType": "STOP_MARKET",
        "symbol": "BTCUSDT",
        "side": "SELL",
        "positionSide": "BOTH",
        "timeInForce": "GTC",
        "quantity": "0.000",
        "algoStatus": "NEW",
        "triggerPrice": "69000.00",
        "price": "0.00",
        "icebergQuantity": None,
        "selfTradePreventionMode": "EXPIRE_MAKER",
        "workingType": "MARK_PRICE",
        "priceMatch": "NONE",
        "closePosition": True,
        "priceProtect": False,
        "reduceOnly": False,
        "createTime": 1789000000200,
        "updateTime": 1789000000200,
        "triggerTime": 0,
        "goodTillDate": 0,
        **changes,
    }


def spot_placed(**changes: object) -> dict[str, object]:
    return {
        "symbol": "BTCUSDT",
        "orderId": 28,
        "orderListId": -1,
        "clientOrderId": "phxspot1",
        "transactTime": 1789000000300,
        "price": "0.00",
        "origQty": "0.00100",
        "executedQty": "0.00100",
        "origQuoteOrderQty": "0.00",
        "cummulativeQuoteQty": "70.001",
        "status": "FILLED",
        "timeInForce": "GTC",
        "type": "MARKET",
        "side": "BUY",
        "workingTime": 1789000000300,
        "selfTradePreventionMode": "EXPIRE_MAKER",
        "fills": [],
        **changes,
    }
