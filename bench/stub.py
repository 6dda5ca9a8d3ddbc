"""An exchange that only acknowledges: what the desk costs, without what an exchange costs.

`python -m bench.stub PORT LATENCY_MS`. Speaks as much of Binance USDⓈ-M as the desk's gateway asks: market
tables, time, placements, lookups, executions of an order. It checks no signature and keeps no account; with
`fills` on, every placement is answered FILLED and its executions can be read.

`POST /bench/reset?fills=1` starts a round, `GET /bench/counts` tells how many placements came, how many
different client ids they named, and when the first and the last came (wall clock, ms).
"""

import asyncio
import json
import signal
import sys
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl

import uvloop

TABLE = Path(__file__).resolve().parent.parent / "paper" / "symbols.json"
DELIVERY_MS = 4_133_404_800_000
HEAD_END = b"\r\n\r\n"
PLACEMENTS = {("POST", "/fapi/v1/order"), ("POST", "/fapi/v1/algoOrder")}

Row = Mapping[str, Any]
Query = Mapping[str, str]


class Book:
    """What the stub remembers of a round: enough to answer for the executions of an order."""

    def __init__(self) -> None:
        self.fills = False
        self._next = 1_000_000
        self.clear()

    def clear(self) -> None:
        """Start a round; order ids go on, because a trade id is one execution for ever."""
        self.placed = 0
        self.client_ids: set[str] = set()
        self.first_ms = self.last_ms = 0.0
        self._orders: dict[int, Query] = {}

    def place(self, query: Query) -> dict[str, Any]:
        """Take an ordinary order: filled whole at its price, or ended with nothing filled."""
        order_id = self._count(query.get("newClientOrderId", ""))
        self._orders[order_id] = query
        return self._order(order_id, query)

    def place_conditional(self, query: Query) -> dict[str, Any]:
        """Take a conditional order: it rests."""
        algo_id = self._count(query.get("clientAlgoId", ""))
        return {
            "algoId": algo_id,
            "clientAlgoId": query.get("clientAlgoId", ""),
            "algoType": "CONDITIONAL",
            "orderType": query.get("type", "STOP_MARKET"),
            "symbol": query.get("symbol", ""),
            "side": query.get("side", "SELL"),
            "positionSide": "BOTH",
            "quantity": query.get("quantity", "0"),
            "algoStatus": "NEW",
            "triggerPrice": query.get("triggerPrice", "0"),
            "reduceOnly": query.get("reduceOnly") == "true",
            "closePosition": query.get("closePosition") == "true",
            "createTime": _wall_ms(),
            "updateTime": _wall_ms(),
        }

    def executions(self, query: Query) -> list[dict[str, Any]]:
        """The one execution of an order of this round."""
        order_id = int(query.get("orderId", "0"))
        order = self._orders.get(order_id)
        if order is None or not self.fills:
            return []
        price, quantity = order.get("price", "0"), order.get("quantity", "0")
        return [
            {
                "id": order_id,
                "orderId": order_id,
                "symbol": order["symbol"],
                "side": order["side"],
                "price": price,
                "qty": quantity,
                "quoteQty": f"{Decimal(price) * Decimal(quantity):f}",
                "realizedPnl": "0",
                "commission": f"{Decimal(price) * Decimal(quantity) * Decimal('0.0005'):.8f}",
                "commissionAsset": "USDT",
                "positionSide": "BOTH",
                "buyer": order["side"] == "BUY",
                "maker": False,
                "time": _wall_ms(),
            }
        ]

    def counts(self) -> dict[str, float]:
        """What came since the round began."""
        return {
            "placed": self.placed,
            "distinct": len(self.client_ids),
            "first_ms": self.first_ms,
            "last_ms": self.last_ms,
        }

    def _count(self, client_id: str) -> int:
        now_ms = time.time() * 1000
        if not self.placed:
            self.first_ms = now_ms
        self.last_ms = now_ms
        self.placed += 1
        self.client_ids.add(client_id)
        self._next += 1
        return self._next

    def _order(self, order_id: int, query: Query) -> dict[str, Any]:
        executed = query.get("quantity", "0") if self.fills else "0"
        return {
            "orderId": order_id,
            "symbol": query.get("symbol", ""),
            "status": "FILLED" if self.fills else "EXPIRED",
            "clientOrderId": query.get("newClientOrderId", ""),
            "price": query.get("price", "0"),
            "origQty": query.get("quantity", "0"),
            "executedQty": executed,
            "cumQty": executed,
            "timeInForce": query.get("timeInForce", "GTC"),
            "type": query.get("type", "LIMIT"),
            "reduceOnly": query.get("reduceOnly") == "true",
            "closePosition": False,
            "side": query.get("side", "BUY"),
            "positionSide": "BOTH",
            "stopPrice": "0",
            "updateTime": _wall_ms(),
        }


class Exchange:
    """Answers by method and path."""

    def __init__(self) -> None:
        table = json.loads(TABLE.read_text(encoding="utf-8"))
        self.book = Book()
        self._routes: dict[tuple[str, str], Callable[[Query], Any]] = {
            ("POST", "/fapi/v1/order"): self.book.place,
            ("POST", "/fapi/v1/algoOrder"): self.book.place_conditional,
            ("GET", "/fapi/v1/userTrades"): self.book.executions,
            ("GET", "/fapi/v1/time"): _time,
            ("GET", "/api/v3/time"): _time,
            ("GET", "/bench/counts"): lambda _: self.book.counts(),
            ("POST", "/bench/reset"): self._reset,
        }
        self._tables = {
            ("GET", "/fapi/v1/exchangeInfo"): _futures_table(table["usdm"]),
            ("GET", "/api/v3/exchangeInfo"): _spot_table(table["spot"]),
            ("GET", "/fapi/v1/leverageBracket"): _brackets(table["usdm"]),
        }

    def answer(self, method: str, path: str, query: Query) -> tuple[int, bytes]:
        """Status and body."""
        known = self._tables.get((method, path))
        if known is not None:
            return 200, known
        route = self._routes.get((method, path))
        if route is None:
            return 404, b'{"code":-5000,"msg":"not spoken here"}'
        return 200, json.dumps(route(query)).encode()

    def _reset(self, query: Query) -> dict[str, float]:
        self.book.clear()
        self.book.fills = query.get("fills") == "1"
        return self.book.counts()


class Connection(asyncio.Protocol):
    """HTTP/1.1, kept alive, as little of it as two known clients need."""

    def __init__(self, exchange: Exchange, latency_seconds: float) -> None:
        self._exchange = exchange
        self._latency_seconds = latency_seconds
        self._left = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's own, which is no subclass

    def connection_lost(self, _error: Exception | None) -> None:
        """Nobody is left to answer."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Answer every whole request; what is not whole waits for the rest."""
        self._left += data
        while (end := self._left.find(HEAD_END)) >= 0:
            head = self._left[:end]
            body_at = end + len(HEAD_END)
            length = _content_length(head)
            if len(self._left) < body_at + length:
                return
            body = self._left[body_at : body_at + length]
            self._left = self._left[body_at + length :]
            self._take(head, body)

    def _take(self, head: bytes, body: bytes) -> None:
        method, target, _ = head[: head.index(b"\r\n")].decode("latin-1").split(" ")
        path, _, query = target.partition("?")
        given = dict(parse_qsl(query))
        given.update(parse_qsl(body.decode("latin-1")))
        status, answered = self._exchange.answer(method, path, given)
        words = "OK" if status == 200 else "Not Found"  # noqa: PLR2004 -- the only two it says
        wire = (
            f"HTTP/1.1 {status} {words}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(answered)}\r\n\r\n"
        ).encode() + answered
        if path.startswith("/bench/") or not self._latency_seconds:
            self._write(wire)
        else:
            asyncio.get_running_loop().call_later(self._latency_seconds, self._write, wire)

    def _write(self, wire: bytes) -> None:
        if self._transport is not None:
            self._transport.write(wire)


def _content_length(head: bytes) -> int:
    at = head.lower().find(b"content-length:")
    return 0 if at < 0 else int(head[at + 15 :].split(b"\r\n", 1)[0])


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


def _time(_query: Query) -> dict[str, int]:
    return {"serverTime": _wall_ms()}


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


async def serve(port: int, latency_ms: float) -> None:
    """Serve until told to stop."""
    exchange, loop, stopped = Exchange(), asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    server = await loop.create_server(
        lambda: Connection(exchange, latency_ms / 1000), "127.0.0.1", port, backlog=4096
    )
    await stopped.wait()
    server.close()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), float(sys.argv[2])))
