"""A venue that answers what was recorded, and keeps what it was asked."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import pytest
from aiohttp import web

from exchange.budget import wall_ms
from exchange.credentials import Credentials
from exchange.factory import GatewayFactory
from exchange.tests.recorded import FUTURES_INFO, SPOT_INFO


@dataclass(frozen=True)
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    params: dict[str, str]
    key: str | None


@dataclass
class RecordedVenue:
    """Scripted answers by method and path; anything unscripted is a 404."""

    answers: dict[tuple[str, str], Any] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    url: str = ""

    def answer(self, call: str, body: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Answer ``"POST /fapi/v1/order"`` with a body, a text, or what a function of the request returns."""
        method, path = call.split()
        self.answers[method, path] = (body, status, headers or {})

    def refuse(self, call: str, code: int, message: str = "Refused.", status: int = 400) -> None:
        self.answer(call, {"code": code, "msg": message}, status)

    def asked_for(self, call: str) -> list[Asked]:
        return [asked for asked in self.asked if f"{asked.method} {asked.path}" == call]

    async def serve(self, request: web.Request) -> web.StreamResponse:
        body = (await request.read()).decode()
        params = dict(parse_qsl(request.query_string) + parse_qsl(body))
        asked = Asked(request.method, request.path, params, request.headers.get("X-MBX-APIKEY"))
        self.asked.append(asked)
        found = self.answers.get((request.method, request.path))
        if found is None:
            return web.json_response({"code": -5000, "msg": f"Path {request.path} is invalid"}, status=404)
        answer, status, headers = found
        if callable(answer):
            answer = answer(asked)
            if asyncio.iscoroutine(answer):
                answer = await answer
        if isinstance(answer, web.StreamResponse):
            return answer
        if answer is DROP:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        text = answer if isinstance(answer, str) else json.dumps(answer)
        return web.Response(text=text, status=status, headers=headers, content_type="application/json")


DROP = object()


@pytest.fixture
async def venue() -> AsyncIterator[RecordedVenue]:
    recorded = RecordedVenue()
    recorded.answer("GET /fapi/v1/exchangeInfo", FUTURES_INFO)
    recorded.answer("GET /api/v3/exchangeInfo", SPOT_INFO)
    for path in ("/fapi/v1/time", "/api/v3/time"):
        recorded.answer(f"GET {path}", lambda _: {"serverTime": wall_ms()})
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", recorded.serve)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    recorded.url = f"http://{host}:{port}"
    yield recorded
    await runner.cleanup()


@pytest.fixture
async def factory(venue: RecordedVenue) -> AsyncIterator[GatewayFactory]:
    made = GatewayFactory("paper", base_url=venue.url)
    yield made
    await made.close()


@pytest.fixture
def keys() -> Credentials:
    return Credentials("paper-0001", "paper-0001")
