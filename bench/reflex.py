"""The floor under an exit: a mark is heard and parsed, an order signed and sent; nothing is kept or asked."""

import asyncio
import json
from decimal import Decimal

import aiohttp
import uvloop

from bench.floors import BareFloor
from bench.orders import MARKET_ORDER, PRICE, VENUE_SYMBOL
from bench.stub_client import StubClient

TURN = Decimal("0.001")


def reflexes(url: str, stub: StubClient, count: int) -> list[float]:
    """Milliseconds from telling a mark to taking the order, so many times over warm connections."""
    return uvloop.run(_reflexes(url, stub, count))[1:]


async def _reflexes(url: str, stub: StubClient, count: int) -> list[float]:
    floor, taken = BareFloor(url, MARKET_ORDER), []
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{url}/market/ws") as marks:
        await marks.send_json({"method": "SUBSCRIBE", "params": ["!markPrice@arr@1s"], "id": 1})
        for number in range(count + 1):
            price = Decimal(PRICE) * (1 + TURN * (number + 1))
            await asyncio.to_thread(stub.reset, fills=True)
            told = asyncio.create_task(asyncio.to_thread(stub.mark, price))
            await _hear(marks, price)
            await floor.send("paper-0001")
            await told
            counts = await asyncio.to_thread(stub.counts)
            taken.append(counts.first_ms - counts.marked_ms)
    await floor.close()
    return taken


async def _hear(marks: aiohttp.ClientWebSocketResponse, price: Decimal) -> None:
    """Return with the message that tells this price."""
    async for message in marks:
        rows = json.loads(message.data)
        if any(row["s"] == VENUE_SYMBOL and Decimal(row["p"]) == price for row in rows):
            return
