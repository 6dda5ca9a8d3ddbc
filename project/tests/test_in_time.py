"""A webhook is answered before its sender gives up, and what it began is seen through."""

import asyncio
import json
from typing import Any

import pytest

from project.in_time import InTime, Message, Receive, Send

PATH = "/api/bot/webhooks/tradingview/secret"


class Slow:
    """Answers 202 after a while, as Django would: it stops when it hears that its sender has gone."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.ended = asyncio.Event()
        self.body = b""

    async def __call__(self, _: Message, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            self.body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        gone = asyncio.ensure_future(receive())
        work = asyncio.ensure_future(asyncio.sleep(self.seconds))
        done, _waiting = await asyncio.wait({gone, work}, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        if work not in done:
            return
        self.ended.set()
        await send({"type": "http.response.start", "status": 202, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


async def ask(application: Any, path: str = PATH) -> list[Message]:
    """Send a body in two parts and hang up."""
    parts = [
        {"type": "http.request", "body": b"a", "more_body": True},
        {"type": "http.request", "body": b"b", "more_body": False},
    ]
    said: list[Message] = []

    async def receive() -> Message:
        return parts.pop(0) if parts else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        said.append(message)

    await application({"type": "http", "path": path}, receive, send)
    return said


def test_what_is_done_in_time_is_answered_as_it_is() -> None:
    async def story() -> None:
        slow = Slow(0)
        said = await ask(InTime(slow, seconds=2))
        assert (said[0]["status"], slow.body) == (202, b"ab")

    asyncio.run(story())


def test_what_takes_longer_is_503_once_and_is_still_seen_through() -> None:
    async def story() -> None:
        slow = Slow(0.3)
        said = await ask(InTime(slow, seconds=0.05))
        assert [message.get("status") for message in said] == [503, None]
        assert json.loads(said[1]["body"])["error"]["code"] == "UNAVAILABLE"
        await asyncio.wait_for(slow.ended.wait(), 2)
        await asyncio.sleep(0.05)
        assert len(said) == 2

    asyncio.run(story())


def test_a_sender_that_hangs_up_ends_nothing() -> None:
    async def story() -> None:
        slow = Slow(0.05)
        await ask(InTime(slow, seconds=2))
        assert slow.ended.is_set()

    asyncio.run(story())


def test_other_routes_are_left_alone() -> None:
    async def story() -> None:
        slow = Slow(0.2)
        assert await ask(InTime(slow, seconds=0.05), "/api/bot/signals") == []
        assert not slow.ended.is_set()

    asyncio.run(story())


def test_what_fails_in_time_fails_as_ever() -> None:
    async def broken(*_: Any) -> None:
        raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        asyncio.run(ask(InTime(broken)))
