"""A small server that speaks a venue's documented shapes, checks signatures and fence, and keeps all."""

import asyncio
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from exchange.credentials import Credentials
from exchange.factory import ExperimentalFactory
from exchange.port import ExchangeGateway, Market, OrderRequest

KEY, SECRET, PASSPHRASE = "venue-key", "venue-secret", "venue-phrase"


def now_ms() -> int:
    return int(time.time() * 1000)


def sent_now(request: OrderRequest, *, late_ms: int = 0) -> OrderRequest:
    """The request with the time that was stored for it: now, or so long ago."""
    return replace(request, timestamp_ms=now_ms() - late_ms)


def another_account(factory: ExperimentalFactory) -> ExchangeGateway:
    """A gateway that has ordered nothing yet: one that was told to order slower is silent for a while."""
    keys = Credentials(KEY, SECRET, PASSPHRASE)
    factory.forget(keys)
    return factory.for_account(keys, Market.FUTURES)


@dataclass(frozen=True)
class Asked:
    """One request as it arrived; `query` and `body` as they were read, `raw` as it was signed."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str]
    raw: str

    @property
    def call(self) -> str:
        return f"{self.method} {self.path}"


Body = Any | Callable[[Asked], Any]


@dataclass
class WireExchange(ABC):
    """Answers by method and path; what `refused` refuses never reaches them. Its clock is the machine's."""

    answers: dict[str, tuple[Body, int]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    url: str = ""

    def answer(self, call: str, body: Body, status: int = 200) -> None:
        self.answers[call] = (body, status)

    def asked_for(self, call: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.call == call]

    @property
    def changes(self) -> list[Asked]:
        """Everything that could have changed something."""
        return [asked for asked in self.asked if asked.method == "POST"]

    async def serve(self, request: web.Request) -> web.StreamResponse:
        text = (await request.read()).decode()
        asked = Asked(
            request.method,
            request.path,
            dict(parse_qsl(request.raw_path.partition("?")[2], keep_blank_values=True)),
            json.loads(text) if text else None,
            dict(request.headers),
            text or request.raw_path.partition("?")[2],
        )
        self.asked.append(asked)
        refusal = self.refused(asked, request.raw_path)
        if refusal is not None:
            return web.json_response(refusal[0], status=refusal[1])
        found = self.answers.get(asked.call)
        if found is None:
            return web.json_response(self.no_such_path(), status=404)
        body, status = found
        if callable(body):
            body = body(asked)
        if body is DROP:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        written = body if isinstance(body, str) else json.dumps(body)
        return web.Response(text=written, status=status, content_type="application/json")

    @abstractmethod
    def refused(self, asked: Asked, target: str) -> tuple[Any, int] | None:
        """What the venue answers to a request that is wrongly signed or too late; None when it is well."""

    @abstractmethod
    def no_such_path(self) -> Any:
        """What the venue answers where it serves nothing."""


DROP = object()


async def started(wire: WireExchange) -> web.AppRunner:
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", wire.serve)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    wire.url = f"http://{host}:{port}"
    return runner


@contextmanager
def serving(wire: WireExchange) -> Iterator[WireExchange]:
    """The wire exchange on a loop of its own, for services that wait for theirs."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, daemon=True)
    thread.start()
    runner = asyncio.run_coroutine_threadsafe(started(wire), loop).result(10)
    yield wire
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()
