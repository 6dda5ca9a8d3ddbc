"""What the stub says of the market: the listed symbols, and prices that stand still at the present time."""

import json
import time
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

TABLE = Path(__file__).resolve().parents[2] / "paper" / "symbols.json"
DELIVERY_MS = 4_133_404_800_000
HOUR_MS = 3_600_000
FUNDING_MS = 8 * HOUR_MS
SPANS_MS = {"1m": 60_000, "5m": 300_000, "15m": 900_000, "1h": HOUR_MS, "4h": 4 * HOUR_MS, "1d": 24 * HOUR_MS}
VOLUME, DEPTH = "900000", "2000"

Row = Mapping[str, Any]


class Tables:
    """The tables of both markets, and figures of the moment they are asked for."""

    def __init__(self) -> None:
        table = json.loads(TABLE.read_text(encoding="utf-8"))
        self._prices = {row["symbol"]: Decimal(row["reference_price"]) for row in table["usdm"]}
        self.futures = _futures_table(table["usdm"])
        self.spot = _spot_table(table["spot"])
        self.brackets = _brackets(table["usdm"])

    def set_price(self, symbol: str, price: Decimal) -> None:
        """Move the price of a perpetual, until it is moved again."""
        self._prices[symbol] = price

    def marks(self) -> bytes:
        """The premium index of every perpetual."""
        now_ms = wall_ms()
        due_ms = now_ms // FUNDING_MS * FUNDING_MS + FUNDING_MS
        return json.dumps(
            [
                {
                    "symbol": symbol,
                    "markPrice": str(price),
                    "indexPrice": str(price),
                    "lastFundingRate": "0.00010000",
                    "nextFundingTime": due_ms,
                    "time": now_ms,
                }
                for symbol, price in self._prices.items()
            ]
        ).encode()

    def mark_events(self) -> bytes:
        """The same as the array of the mark stream."""
        now_ms = wall_ms()
        due_ms = now_ms // FUNDING_MS * FUNDING_MS + FUNDING_MS
        return json.dumps(
            [
                {
                    "e": "markPriceUpdate",
                    "E": now_ms,
                    "s": symbol,
                    "p": str(price),
                    "r": "0.00010000",
                    "T": due_ms,
                }
                for symbol, price in self._prices.items()
            ]
        ).encode()

    def tickers(self) -> bytes:
        """24 h figures of every perpetual."""
        now_ms = wall_ms()
        return json.dumps(
            [
                {
                    "symbol": symbol,
                    "lastPrice": str(price),
                    "volume": VOLUME,
                    "quoteVolume": str(price * Decimal(VOLUME)),
                    "highPrice": str(price),
                    "lowPrice": str(price),
                    "openTime": now_ms - 24 * HOUR_MS,
                    "closeTime": now_ms,
                }
                for symbol, price in self._prices.items()
            ]
        ).encode()

    def books(self) -> bytes:
        """Best prices of every perpetual."""
        return json.dumps(
            [
                {
                    "symbol": symbol,
                    "bidPrice": str(price),
                    "bidQty": DEPTH,
                    "askPrice": str(price),
                    "askQty": DEPTH,
                }
                for symbol, price in self._prices.items()
            ]
        ).encode()

    def depth(self, symbol: str) -> bytes:
        """An order book deep enough for everybody."""
        price = self._prices[symbol]
        bids = [[str(price * (1 - Decimal(step) / 10_000)), DEPTH] for step in range(1, 11)]
        asks = [[str(price * (1 + Decimal(step) / 10_000)), DEPTH] for step in range(1, 11)]
        return json.dumps({"lastUpdateId": 1, "E": wall_ms(), "bids": bids, "asks": asks}).encode()

    def candles(self, symbol: str, interval: str, limit: int) -> bytes:
        """Candles that go up and down by a thousandth, the forming one last."""
        span, price = SPANS_MS[interval], self._prices[symbol]
        last_ms = wall_ms() // span * span
        rows = []
        for back in range(limit - 1, -1, -1):
            opened_ms = last_ms - back * span
            close = price * (1 + Decimal(opened_ms // span % 7 - 3) / 1000)
            high, low = close * Decimal("1.001"), close * Decimal("0.999")
            prices = [str(close), str(high), str(low), str(close)]
            quote = str(close * 1000)
            rows.append([opened_ms, *prices, "1000", opened_ms + span - 1, quote, 10, "500", quote, "0"])
        return json.dumps(rows).encode()


def wall_ms() -> int:
    """The wall clock, in ms."""
    return time.time_ns() // 1_000_000


def _filters(row: Row, *, is_spot: bool) -> list[dict[str, Any]]:
    lot = {"minQty": row["min_quantity"], "maxQty": row["max_quantity"], "stepSize": row["step"]}
    least = (
        {"filterType": "NOTIONAL", "minNotional": row["min_notional"]}
        if is_spot
        else {"filterType": "MIN_NOTIONAL", "notional": row["min_notional"]}
    )
    return [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": row["tick"],
            "maxPrice": "100000000",
            "tickSize": row["tick"],
        },
        {"filterType": "LOT_SIZE", **lot},
        {"filterType": "MARKET_LOT_SIZE", **lot, "maxQty": row["market_max_quantity"]},
        least,
    ]


def _futures_table(rows: list[Row]) -> bytes:
    symbols = [
        {
            "symbol": row["symbol"],
            "pair": row["symbol"],
            "contractType": "PERPETUAL",
            "deliveryDate": DELIVERY_MS,
            "onboardDate": 0,
            "status": "TRADING",
            "baseAsset": row["base"],
            "quoteAsset": row["quote"],
            "marginAsset": row["quote"],
            "pricePrecision": row["price_precision"],
            "quantityPrecision": row["quantity_precision"],
            "baseAssetPrecision": 8,
            "quotePrecision": 8,
            "filters": _filters(row, is_spot=False),
            "orderTypes": ["LIMIT", "MARKET"],
            "timeInForce": ["GTC", "IOC", "FOK"],
        }
        for row in rows
    ]
    return json.dumps({"timezone": "UTC", "rateLimits": [], "assets": [], "symbols": symbols}).encode()


def _spot_table(rows: list[Row]) -> bytes:
    symbols = [
        {
            "symbol": row["symbol"],
            "status": "TRADING",
            "baseAsset": row["base"],
            "quoteAsset": row["quote"],
            "baseAssetPrecision": 8,
            "quoteAssetPrecision": 8,
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": False,
            "permissions": ["SPOT"],
            "filters": _filters(row, is_spot=True),
            "orderTypes": ["LIMIT", "MARKET", "STOP_LOSS_LIMIT"],
        }
        for row in rows
    ]
    return json.dumps({"timezone": "UTC", "rateLimits": [], "symbols": symbols}).encode()


def _brackets(rows: list[Row]) -> bytes:
    names = ("initialLeverage", "notionalFloor", "notionalCap", "maintMarginRatio", "cum")
    told = [
        {
            "symbol": row["symbol"],
            "brackets": [
                {"bracket": number, **dict(zip(names, step, strict=True))}
                for number, step in enumerate(row["brackets"], 1)
            ],
        }
        for row in rows
    ]
    return json.dumps(told).encode()
