"""Answers in time for a sender that gives up after three seconds and then never sends again.

What takes longer is answered 503, on which it does send again, while the work goes on to its end: a signal
that is stored late is found by the second try. For the same reason a sender that hangs up ends nothing.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

Scope = dict[str, Any]
Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

log = structlog.get_logger(__name__)

WEBHOOKS = "/api/bot/webhooks/"
SECONDS = 2.5
NOT_IN_TIME = {"code": "UNAVAILABLE", "message": "not stored in time; send it again", "request_id": ""}


class InTime:
    """An application whose webhooks are answered within `seconds`."""

    def __init__(self, application: Application, seconds: float = SECONDS) -> None:
        self._application = application
        self._seconds = seconds
        self._late: set[asyncio.Future[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or not scope["path"].startswith(WEBHOOKS):
            await self._application(scope, receive, send)
            return
        call = _Call(receive, send)
        work = asyncio.ensure_future(self._application(scope, call.receive, call.send))
        await asyncio.wait({work}, timeout=self._seconds)
        if work.done() or call.is_begun:
            await work
            return
        call.is_late = True
        self._late.add(work)
        work.add_done_callback(self._end)
        log.error("webhook_not_in_time", seconds=self._seconds)
        await _refuse(send)

    def _end(self, work: asyncio.Future[None]) -> None:
        self._late.discard(work)
        if not work.cancelled() and work.exception() is not None:
            log.error("late_webhook_failed", error=type(work.exception()).__name__)


class _Call:
    """What the application hears and says of one request: no hanging up, and nothing once it is late."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._is_whole = False
        self.is_begun = False
        self.is_late = False

    async def receive(self) -> Message:
        if self._is_whole:
            await asyncio.Event().wait()
        message = await self._receive()
        self._is_whole = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if not self.is_late:
            self.is_begun = True
            await self._send(message)


async def _refuse(send: Send) -> None:
    body = json.dumps({"error": NOT_IN_TIME}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})
