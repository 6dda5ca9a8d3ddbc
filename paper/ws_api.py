"""Requests over the WebSocket API: orders, accounts, prices and user streams."""

import asyncio
from typing import TYPE_CHECKING, Any

import orjson

from paper.engine.refusals import Refusal
from paper.fault_rules import Rule
from paper.limits import Exceeded
from paper.protocol import auth
from paper.protocol.calls import Call
from paper.protocol.market import WEIGHT_LIMIT, order_limits
from paper.protocol.routes import SPOT_USER_STREAM
from paper.streams import Connection

if TYPE_CHECKING:
    from paper.server import Server

OK = 200
FUTURES_PATH = "/ws-fapi/v1"
FUTURES = {
    "order.place": ("POST", "/fapi/v1/order"),
    "order.modify": ("PUT", "/fapi/v1/order"),
    "order.cancel": ("DELETE", "/fapi/v1/order"),
    "order.status": ("GET", "/fapi/v1/order"),
    "openOrders.status": ("GET", "/fapi/v1/openOrders"),
    "algoOrder.place": ("POST", "/fapi/v1/algoOrder"),
    "algoOrder.cancel": ("DELETE", "/fapi/v1/algoOrder"),
    "account.status": ("GET", "/fapi/v2/account"),
    "account.balance": ("GET", "/fapi/v2/balance"),
    "account.position": ("GET", "/fapi/v2/positionRisk"),
    "v2/account.status": ("GET", "/fapi/v3/account"),
    "v2/account.balance": ("GET", "/fapi/v3/balance"),
    "v2/account.position": ("GET", "/fapi/v3/positionRisk"),
    "depth": ("GET", "/fapi/v1/depth"),
    "ticker.price": ("GET", "/fapi/v1/ticker/price"),
    "ticker.book": ("GET", "/fapi/v1/ticker/bookTicker"),
    "userDataStream.start": ("POST", "/fapi/v1/listenKey"),
    "userDataStream.ping": ("PUT", "/fapi/v1/listenKey"),
    "userDataStream.stop": ("DELETE", "/fapi/v1/listenKey"),
}
SPOT = {
    "order.place": ("POST", "/api/v3/order"),
    "order.test": ("POST", "/api/v3/order/test"),
    "order.cancel": ("DELETE", "/api/v3/order"),
    "order.status": ("GET", "/api/v3/order"),
    "openOrders.status": ("GET", "/api/v3/openOrders"),
    "openOrders.cancelAll": ("DELETE", "/api/v3/openOrders"),
    "allOrders": ("GET", "/api/v3/allOrders"),
    "myTrades": ("GET", "/api/v3/myTrades"),
    "account.status": ("GET", "/api/v3/account"),
    "exchangeInfo": ("GET", "/api/v3/exchangeInfo"),
    "depth": ("GET", "/api/v3/depth"),
    "klines": ("GET", "/api/v3/klines"),
    "uiKlines": ("GET", "/api/v3/uiKlines"),
    "avgPrice": ("GET", "/api/v3/avgPrice"),
    "trades.recent": ("GET", "/api/v3/trades"),
    "trades.historical": ("GET", "/api/v3/historicalTrades"),
    "trades.aggregate": ("GET", "/api/v3/aggTrades"),
    "ticker.24hr": ("GET", "/api/v3/ticker/24hr"),
    "ticker.price": ("GET", "/api/v3/ticker/price"),
    "ticker.book": ("GET", "/api/v3/ticker/bookTicker"),
}
COUNTS = ("X-MBX-ORDER-COUNT-1M", "X-MBX-ORDER-COUNT-10S")
Fields = dict[str, Any]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def failed(number: object, status: int, code: int, message: str) -> Fields:
    """An error answer."""
    return {"id": number, "status": status, "error": {"code": code, "msg": message}, "rateLimits": []}


def used(headers: dict[str, str]) -> list[Fields]:
    """What the request used of each limit."""
    weight = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1}
    rows = [weight | {"limit": WEIGHT_LIMIT, "count": int(headers.get("X-MBX-USED-WEIGHT-1M", 0))}]
    for name, limit in zip(COUNTS, order_limits(), strict=True):
        if name in headers:
            rows.append(limit | {"count": int(headers[name])})
    return rows


async def answer_request(server: "Server", connection: Connection, path: str, text: str) -> bytes | None:
    """One request of the WebSocket API at `path`; its signature covers the parameters in sorted order.

    Unread parameters are let pass: ccxt sends some with every order here.
    None to close the connection, nothing to stay silent: both only when a fault rule says so.
    """
    try:
        request = orjson.loads(text)
        number, method = request.get("id"), str(request.get("method"))
        given = {str(name): _text(value) for name, value in (request.get("params") or {}).items()}
    except (ValueError, AttributeError):
        return orjson.dumps(failed(None, 400, -1100, "The request is not JSON."))
    if method in {"ping", "time"}:
        result = {"serverTime": server.service.wall_ms()} if method == "time" else {}
        return orjson.dumps({"id": number, "status": 200, "result": result, "rateLimits": []})
    signature = given.pop("signature", "").encode()
    payload = "&".join(f"{name}={given[name]}" for name in sorted(given)).encode()
    signed = payload + b"&signature=" + signature
    key = given.pop("apiKey", "")
    if method == SPOT_USER_STREAM:
        call = Call(server.service, "WS", method, given, key)
        return orjson.dumps(await _subscribe(server, connection, call, number, signed))
    verb, address = (FUTURES if path == FUTURES_PATH else SPOT).get(method, ("", ""))
    call = Call(server.service, verb, address, given, key)
    if not verb:
        return orjson.dumps(failed(number, 400, -1100, f"Unknown method {method}."))
    return await _served(server, call, signed, connection.address, number)


async def _served(server: "Server", call: Call, signed: bytes, address: str, number: object) -> bytes | None:
    headers: dict[str, str] = {}
    try:
        route = server.admit(call, signed, b"", address, headers)
    except Refusal as refusal:
        server.service.traffic.refuse(f"{call.method} {call.path}", refusal.code)
        await server.service.settled()
        shown = failed(number, refusal.status, refusal.code, refusal.message)
        return orjson.dumps(shown | {"rateLimits": used(headers)})
    except Exceeded as exceeded:
        shown = failed(number, exceeded.status, exceeded.code, exceeded.message)
        again = server.service.wall_ms() + exceeded.retry_after_seconds * 1000
        shown["error"]["data"] = {"serverTime": server.service.wall_ms(), "retryAfter": again}
        return orjson.dumps(shown)
    rule = server.service.faults.answer(call)
    if rule is not None and rule.seconds:
        await asyncio.sleep(rule.seconds)
    body = b""
    if rule is None or rule.applies:
        status, answer = await server.run(call, route)
        body = orjson.dumps(_shown(number, status, answer, headers))
    return body if rule is None or (rule.kind == "delay" and rule.applies) else _spoiled(rule, number, body)


def _shown(number: object, status: int, answer: Any, headers: dict[str, str]) -> Fields:
    if status != OK:
        return failed(number, status, answer["code"], answer["msg"]) | {"rateLimits": used(headers)}
    return {"id": number, "status": OK, "result": answer, "rateLimits": used(headers)}


def _spoiled(rule: Rule, number: object, body: bytes) -> bytes | None:
    """The frame a fault rule leaves of an answer."""
    if rule.kind == "close_socket":
        return None
    if rule.kind == "truncate_body":
        return body[: len(body) // 2]
    if rule.kind == "empty_body":
        return b""
    return orjson.dumps(failed(number, rule.status, rule.code, rule.text))


async def _subscribe(
    server: "Server", connection: Connection, call: Call, number: object, signed: bytes
) -> Fields:
    """Attach the spot user stream of a signed request to this connection."""
    try:
        portfolio = auth.authenticate(call, signed, b"")
    except Refusal as refusal:
        return failed(number, refusal.status, refusal.code, refusal.message)
    await server.service.settled()
    server.service.hub.listen_spot(connection, portfolio.account.key)
    return {"id": number, "status": OK, "result": {"subscriptionId": 0}, "rateLimits": []}
