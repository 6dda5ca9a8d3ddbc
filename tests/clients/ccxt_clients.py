"""Unmodified ccxt in its four shapes, pointed at a server by addresses alone, behind one way to call them."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import ccxt
import ccxt.pro

from paper.tests.clients import addresses

BTC = "BTC/USDT:USDT"
SOL = "SOL/USDT:USDT"


@dataclass(frozen=True, slots=True)
class Kind:
    """Which class of ccxt, whether it blocks, and the market it means when a symbol leaves that open."""

    exchange: str
    blocks: bool = False
    market: str = "swap"

    def __str__(self) -> str:
        return f"{self.exchange}-{'sync' if self.blocks else 'async'}"


USDM, BINANCE = Kind("binanceusdm"), Kind("binance")
ASYNC = (USDM, BINANCE)
EVERY = (*ASYNC, Kind("binanceusdm", blocks=True), Kind("binance", blocks=True))
SPOT = (Kind("binance", market="spot"), Kind("binance", blocks=True, market="spot"))


class Client:
    """A ccxt exchange whose every method is awaited, in a thread when it is one that blocks."""

    def __init__(self, ccxt_exchange: Any, *, blocks: bool) -> None:
        self.raw = ccxt_exchange
        self.blocks = blocks

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self.raw, name)
        if not self.blocks:
            return method  # type: ignore[no-any-return]  # ccxt has no types

        async def call(*words: Any, **named: Any) -> Any:
            return await asyncio.to_thread(method, *words, **named)

        return call

    async def close(self) -> None:
        """End its connections."""
        if self.blocks:
            self.raw.session.close()
        else:
            await self.raw.close()


def open_client(kind: Kind, url: str, key: str) -> Client:
    """A client with that key, its secret being the same."""
    options: dict[str, Any] = {"fetchOpenOrders": {"warnWithoutSymbol": False}}
    if kind.exchange == "binance":
        options["defaultType"] = kind.market
    module = ccxt if kind.blocks else ccxt.pro
    settings = {"apiKey": key, "secret": key, "urls": addresses(url), "options": options}
    made = getattr(module, kind.exchange)(settings)
    made.enableRateLimit = False
    return Client(made, blocks=kind.blocks)


def with_production_errors(client: Client) -> Client:
    """Give it the exception classes it would choose at the production address: ccxt picks them by URL."""
    exceptions = client.raw.exceptions
    exceptions["exact"] = {**exceptions["exact"], **exceptions["linear"]["exact"]}
    return client
