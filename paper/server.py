"""HTTP and WebSocket on one port: parse, authenticate, dispatch, keep, answer."""

import asyncio
import hmac
import logging
import time
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson
from aiohttp import WSMsgType, web

from paper.admin import Denied, run_verb
from paper.engine.refusals import Refusal
from paper.fault_rules import Rule
from paper.limits import Exceeded
from paper.protocol import auth, market
from paper.protocol.calls import KEYED, SIGNED, Call, Json, Route
from paper.protocol.routes import ROUTES
from paper.service import Service
from paper.status_page import page
from paper.streams import (
    HEARTBEAT_SECONDS,
    LIFETIME_SECONDS,
    MAX_FRAME_BYTES,
    Connection,
    answer_control,
    is_stream_path,
    read_path,
)
from paper.ws_api import answer_request

MAX_BODY_BYTES = 1 << 20
FIRST_REQUEST_SECONDS = 60
KEPT_ALIVE_SECONDS = 300
LOOPBACK = frozenset({"127.0.0.1", "::1"})
WS_API_PATHS = frozenset({"/ws-fapi/v1", "/ws-api/v3"})
UNAUTHORISED, TOO_LARGE = 401, 413
UNKNOWN = "An unknown error occured while processing the request."
LOG = logging.getLogger("paper")


def encoded(value: Any) -> bytes:
    """JSON as it goes over the wire."""
    return orjson.dumps(value)


def failure(code: int, message: str) -> bytes:
    """The body of a refusal."""
    return encoded({"code": code, "msg": message})


class Server:
    """Answers requests for one service."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.unheard: set[object] = set()

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Any request: a stream, an administration call, the page, or the exchange."""
        path = request.path
        self.service.requests += 1
        if self.unheard:
            self.unheard.discard(request.protocol)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._stream(request)
        if path.startswith("/paper/"):
            return await self._administer(request)
        if path == "/":
            shown = page(self.service, in_full=request.remote in LOOPBACK)
            return web.Response(body=shown, content_type="text/html")
        return await self._exchange(request)

    # the exchange

    async def _exchange(self, request: web.BaseRequest) -> web.StreamResponse:
        headers: dict[str, str] = {}
        try:
            call, query, body = await self._read(request)
            route = self.admit(call, query, body, request.remote or "", headers)
            route.check_parameters(call)
        except Refusal as refusal:
            self.service.traffic.refuse(f"{request.method} {request.path}", refusal.code)
            await self.service.settled()
            return _response(failure(refusal.code, refusal.message), refusal.status, headers)
        except Exceeded as exceeded:
            headers["Retry-After"] = str(exceeded.retry_after_seconds)
            return _response(failure(exceeded.code, exceeded.message), exceeded.status, headers)
        rule = self.service.faults.answer(call)
        if rule is None:
            return await self._serve(call, route, headers)
        return await self._spoil(request, call, route, headers, rule)

    async def _read(self, request: web.BaseRequest) -> tuple[Call, bytes, bytes]:
        """The call, and query and body as the bytes that were signed."""
        query = _raw_query(request)
        body = b""
        if request.method != "GET" and request.can_read_body:
            if (request.content_length or 0) > MAX_BODY_BYTES:
                raise Refusal(-1131, "Request body is too large.", TOO_LARGE)
            body = await request.read()
        params = _parsed(body) if body else {}
        if query:
            params.update(_parsed(query))
        key = request.headers.get("X-MBX-APIKEY", "")
        call = Call(self.service, request.method, request.path, params, key)
        return call, query, body

    def admit(self, call: Call, query: bytes, body: bytes, address: str, headers: dict[str, str]) -> Route:
        """Who answers the call, once its weight, key, signature and names are right.

        Raises Refusal or Exceeded; `headers` then tell what was used up all the same.
        """
        route = ROUTES.get((call.method, call.path))
        if route is None:
            raise market.unknown_path(call.path)
        now, is_spot = time.time(), call.path.startswith(("/api/", "/sapi/"))
        self.service.traffic.count(f"{call.method} {call.path}", now)
        used = self.service.limits.weigh(address, route.weigh(call), now, is_spot=is_spot)
        headers["X-MBX-USED-WEIGHT-1M"] = str(used)
        if route.is_funding:
            self.service.limits.count_funding(address, now)
        if route.security == SIGNED:
            call.accept(auth.authenticate(call, query, body))
            auth.check_permission(call)
        elif route.security == KEYED:
            call.accept(auth.identify(call))
        if route.is_order:
            account = f"{call.key} spot" if is_spot else call.key
            short, long = self.service.limits.count_order(account, now, route.orders)
            headers["X-MBX-ORDER-COUNT-10S"], headers["X-MBX-ORDER-COUNT-1M"] = str(short), str(long)
        return route

    async def _serve(self, call: Call, route: Route, headers: dict[str, str]) -> web.Response:
        """Answer the call; the answer leaves only after what it changed is kept."""
        status, result = await self.run(call, route)
        return _response(encoded(result), status, headers)

    async def run(self, call: Call, route: Route) -> tuple[int, Json]:
        """HTTP status and answer of an admitted call, once what it changed is kept."""
        try:
            if route.preparing is not None:
                for _ in route.preparing(call):
                    await asyncio.sleep(0)
            status, result = 200, route.answer(call)
        except Refusal as refusal:
            self.service.traffic.refuse(f"{call.method} {call.path}", refusal.code)
            status, result = refusal.status, {"code": refusal.code, "msg": refusal.message}
        except Exception:
            LOG.exception("%s %s failed", call.method, call.path)
            return 500, {"code": -1000, "msg": UNKNOWN}
        await self.service.settled()
        return status, result

    async def _spoil(
        self, request: web.BaseRequest, call: Call, route: Route, headers: dict[str, str], rule: Rule
    ) -> web.StreamResponse:
        """Answer as a fault rule says, with or without the request having taken effect."""
        if rule.seconds:
            await asyncio.sleep(rule.seconds)
        if rule.kind == "delay" and rule.applies:
            return await self._serve(call, route, headers)
        body = b""
        if rule.applies:
            body = bytes((await self._serve(call, route, headers)).body or b"")  # type: ignore[arg-type]  # bytes
        if rule.kind == "close_socket":
            if request.transport is not None:
                request.transport.close()
            return _response(b"", 200, headers)
        if rule.kind == "truncate_body":
            return _response(body[: len(body) // 2], 200, headers)
        if rule.kind == "empty_body":
            return _response(b"", 200, headers)
        if rule.retry_after is not None:
            headers["Retry-After"] = str(rule.retry_after)
        if rule.body is not None:
            return web.Response(text=rule.body, status=rule.status, headers=headers, content_type="text/html")
        return _response(failure(rule.code, rule.text), rule.status, headers)

    # administration

    async def _administer(self, request: web.BaseRequest) -> web.Response:
        try:
            self._check_secret(request)
            answer = run_verb(
                self.service, request.method, request.path, dict(request.query), await request.read()
            )
        except Denied as denied:
            return _response(encoded({"error": denied.message}), denied.status, {})
        except Refusal as refusal:
            return _response(failure(refusal.code, refusal.message), refusal.status, {})
        except orjson.JSONDecodeError:
            return _response(encoded({"error": "the body is not JSON"}), 400, {})
        await self.service.settled()
        return web.Response(body=answer.body, content_type=answer.content_type)

    def _check_secret(self, request: web.BaseRequest) -> None:
        """Its own secret; without one this host alone, and no page of another site in a browser on it."""
        secret = self.service.options.admin_secret
        given = request.headers.get("X-Paper-Secret", "").encode(errors="surrogateescape")
        origin = request.headers.get("Origin", "")
        if secret:
            if not hmac.compare_digest(secret.encode(), given):
                raise Denied(UNAUTHORISED, "X-Paper-Secret is missing or wrong")
        elif origin and urlsplit(origin).netloc != request.host:
            raise Denied(403, "administration is not for pages of other sites")
        elif request.remote not in LOOPBACK:
            raise Denied(403, "administration is for this host only unless started with --admin-secret")

    # streams

    async def _stream(self, request: web.BaseRequest) -> web.StreamResponse:
        path = request.path
        if path not in WS_API_PATHS and not is_stream_path(path):
            refusal = market.unknown_path(path)
            return _response(failure(refusal.code, refusal.message), 404, {})
        socket = web.WebSocketResponse(
            heartbeat=HEARTBEAT_SECONDS, max_msg_size=MAX_FRAME_BYTES, compress=False
        )
        await socket.prepare(request)
        combined, streams, listen_key, events = read_path(path, request.query_string)
        connection = Connection(
            socket,
            combined=combined,
            address=request.remote or "",
            transport=request.transport,
        )
        hub = self.service.hub
        hub.connections.add(connection)
        writer = asyncio.create_task(connection.write())
        ending = asyncio.get_running_loop().call_later(LIFETIME_SECONDS, connection.drop)
        try:
            if path not in WS_API_PATHS:
                hub.subscribe(connection, streams)
                hub.tell_state(connection, streams)
                account = self.service.listen_keys.owners.get(listen_key, "")
                if account:
                    hub.listen(connection, account, listen_key, events)
            await self._listen(connection, socket, path)
        finally:
            ending.cancel()
            hub.leave(connection)
            await connection.closed(writer)
        return socket

    async def _listen(self, connection: Connection, socket: web.WebSocketResponse, path: str) -> None:
        async for frame in socket:
            if frame.type is not WSMsgType.TEXT:
                continue
            fresh: list[str] = []
            shown: bytes | None = None
            if path in WS_API_PATHS:
                shown = await answer_request(self, connection, path, frame.data)
            elif connection.may_ask(time.monotonic()):
                answer, fresh = answer_control(self.service.hub, connection, frame.data)
                shown = encoded(answer)
            if shown is None:
                connection.drop()
                return
            if shown:
                connection.send(shown)
            self.service.hub.tell_state(connection, fresh)


class Listener(web.Server):
    """Accepts connections, and closes those that have not asked for anything within a minute."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.answer, keepalive_timeout=KEPT_ALIVE_SECONDS, access_log=None)
        self.server = server

    def __call__(self) -> web.RequestHandler:
        """A connection, from which a first request is awaited."""
        connection = super().__call__()
        self.server.unheard.add(connection)
        asyncio.get_running_loop().call_later(FIRST_REQUEST_SECONDS, self._close_unheard, connection)
        return connection

    def _close_unheard(self, connection: web.RequestHandler) -> None:
        if connection in self.server.unheard:
            self.server.unheard.discard(connection)
            connection.force_close()


def read_pairs(text: str) -> list[tuple[str, str]]:
    """Names and values; most requests escape nothing and are read the short way."""
    if "%" in text or "+" in text:
        return parse_qsl(text, keep_blank_values=True)
    parts = (part.partition("=") for part in text.split("&") if part)
    return [(name, value) for name, _, value in parts]


def _parsed(text: bytes) -> dict[str, str]:
    """Names and values; -1101 when a name is given twice."""
    pairs = read_pairs(text.decode(errors="replace"))
    params = dict(pairs)
    if len(params) < len(pairs):
        raise Refusal(-1101, "Duplicate values for a parameter detected.")
    return params


def _raw_query(request: web.BaseRequest) -> bytes:
    """The query exactly as sent: a signature covers bytes, not meaning."""
    return request.raw_path.partition("?")[2].encode(errors="surrogateescape")


def _response(body: bytes, status: int, headers: dict[str, str]) -> web.Response:
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")
