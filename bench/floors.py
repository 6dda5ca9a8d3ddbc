"""The floors: what N signed orders cost without a desk, on one event loop, over warm connections."""

import asyncio
import copy
import hashlib
import hmac
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from secrets import token_hex
from typing import Any
from urllib.parse import urlencode

import aiohttp
import ccxt.async_support as ccxt

from bench.orders import LIMIT_ORDER, PRICE, QUANTITY, SYMBOL, VENUE_SYMBOL
from exchange.quirks import Hosts

REFERENCE_BARE_CPU, REFERENCE_CCXT_CPU = 0.13, 0.235
"""CPU seconds for 1,000 orders of both floors, on the machine they were first measured on."""

REFERENCE_ALONE_US = 73.7
"""There, ccxt's `create_order` without a network: how fast a machine is, told by the work in question."""

PIECES, TRIES = 300, 7
PLACED = (
    '{"orderId":1,"symbol":"BTCUSDT","status":"FILLED","clientOrderId":"xxxxxxxxxxxxxxxxxxxxxxxx",'
    '"price":"95000.0","origQty":"0.010","executedQty":"0.010","cumQty":"0.010","timeInForce":"IOC",'
    '"type":"LIMIT","origType":"LIMIT","reduceOnly":false,"side":"BUY","positionSide":"BOTH",'
    '"stopPrice":"0","updateTime":1700000000000}'
)
PER_TURN = 10
"""Starts a loop turn: a thousand in one turn send nothing until the last is signed."""


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass over all accounts: from the start to the last answer, and the CPU of this process."""

    last_ms: float
    cpu_seconds: float


async def timed(send: Callable[[str], Awaitable[object]], keys: list[str]) -> Pass:
    """Send one order with each key, paced, and wait for every answer."""
    cpu, began = time.process_time(), time.perf_counter()
    tasks = []
    for number, key in enumerate(keys, 1):
        tasks.append(asyncio.ensure_future(send(key)))
        if number % PER_TURN == 0:
            await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    return Pass((time.perf_counter() - began) * 1000, time.process_time() - cpu)


class BareFloor:
    """aiohttp and a signature, nothing else."""

    def __init__(self, url: str, order: Mapping[str, str] = LIMIT_ORDER) -> None:
        """`order` is what every request says besides its id and time."""
        self._url = f"{url}/fapi/v1/order"
        self._order = dict(order)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=75), json_serialize=str
        )

    async def send(self, key: str) -> None:
        """One order: signed, sent, its answer parsed. Raises when it was not taken."""
        words = urlencode(
            {
                **self._order,
                "newClientOrderId": token_hex(12),
                "timestamp": time.time_ns() // 1_000_000,
                "recvWindow": 5000,
            }
        )
        signature = hmac.new(key.encode(), words.encode(), hashlib.sha256).hexdigest()
        body = f"{words}&signature={signature}"
        headers = {"X-MBX-APIKEY": key, "Content-Type": "application/x-www-form-urlencoded"}
        async with self._session.post(self._url, data=body, headers=headers) as answer:
            answer.raise_for_status()
            (await answer.json())["orderId"]

    async def close(self) -> None:
        """End the connections."""
        await self._session.close()


class CcxtFloor:
    """ccxt as fast as it goes in one process: one template, a clone an account, its own limiter off."""

    def __init__(self, url: str) -> None:
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=75))
        self._template: Any = ccxt.binanceusdm(
            {
                "enableRateLimit": False,
                "session": self._session,
                "urls": {"api": Hosts.single(url).ccxt_urls()},
                "options": {
                    "fetchCurrencies": False,
                    "fetchMargins": False,
                    "fetchMarkets": {"types": ["linear"]},
                },
            }
        )
        self._clients: dict[str, Any] = {}

    async def load(self, keys: list[str]) -> None:
        """Read the markets once and make the clones."""
        await self._template.load_markets()
        self._clients = {key: self._clone(key) for key in keys}

    async def send(self, key: str) -> None:
        """One order through ccxt's own `create_order`."""
        params = {"timeInForce": "IOC", "clientOrderId": token_hex(12)}
        await self._clients[key].create_order(SYMBOL, "limit", "buy", QUANTITY, PRICE, params)

    async def send_and_read(self, key: str) -> None:
        """One order, and the executions behind it: what has to be asked to know an average price."""
        params = {"timeInForce": "IOC", "clientOrderId": token_hex(12)}
        client = self._clients[key]
        order = await client.create_order(SYMBOL, "limit", "buy", QUANTITY, PRICE, params)
        await client.fapiPrivateGetUserTrades({"symbol": VENUE_SYMBOL, "orderId": order["id"]})

    async def alone_us(self, key: str) -> float:
        """CPU microseconds of `create_order` with the network left out, the least of several tries."""
        client = copy.copy(self._clients[key])
        body = json.loads(PLACED)

        async def fetch(*_: Any, **__: Any) -> Any:
            return dict(body)

        client.fetch = fetch
        tries = []
        for _ in range(TRIES):
            began = time.process_time()
            for _ in range(PIECES):
                params = {"timeInForce": "IOC", "clientOrderId": "x" * 24}
                await client.create_order(SYMBOL, "limit", "buy", QUANTITY, PRICE, params)
            tries.append((time.process_time() - began) / PIECES * 1e6)
        client.session = None  # it is the others' still
        return min(tries)

    async def close(self) -> None:
        """End the connections, and tell ccxt that they are not its own to complain about."""
        for client in (self._template, *self._clients.values()):
            client.session = None
        await self._session.close()

    def _clone(self, key: str) -> Any:
        client = copy.copy(self._template)
        client.apiKey = client.secret = key
        client.options = dict(self._template.options)
        client.headers = dict(self._template.headers)
        client.throttler = None
        return client
