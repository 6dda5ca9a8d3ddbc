"""Unmodified ccxt pointed at a server by addresses alone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import ccxt.pro

PATHS = {
    "fapiPublic": "/fapi/v1", "fapiPublicV2": "/fapi/v2", "fapiPublicV3": "/fapi/v3",
    "fapiPrivate": "/fapi/v1", "fapiPrivateV2": "/fapi/v2", "fapiPrivateV3": "/fapi/v3",
    "dapiPublic": "/dapi/v1", "dapiPrivate": "/dapi/v1", "dapiPrivateV2": "/dapi/v2",
    "fapiData": "/futures/data", "dapiData": "/futures/data", "eapiPublic": "/eapi/v1",
    "eapiPrivate": "/eapi/v1", "public": "/api/v3", "private": "/api/v3", "v1": "/api/v1",
    "sapi": "/sapi/v1", "sapiV2": "/sapi/v2", "sapiV3": "/sapi/v3", "sapiV4": "/sapi/v4",
    "papi": "/papi/v1", "papiV2": "/papi/v2",
}  # fmt: skip


def addresses(url: str) -> dict[str, Any]:
    """Every address ccxt knows, streams included."""
    ws = url.replace("http", "ws", 1)
    streams = {"spot": f"{ws}/ws", "margin": f"{ws}/ws", "linear": f"{ws}/ws", "inverse": f"{ws}/ws"}
    api = {"spot": f"{ws}/ws-api/v3", "linear": f"{ws}/ws-fapi/v1", "inverse": f"{ws}/ws-dapi/v1"}
    rest = {name: url + path for name, path in PATHS.items()}
    return {"api": {**rest, "ws": {**streams, "papi": f"{ws}/pm/ws", "ws-api": api}}}


@asynccontextmanager
async def client(kind: str, url: str, key: str) -> AsyncIterator[Any]:
    """A ccxt.pro exchange of that class, closed at the end."""
    options = {"fetchOpenOrders": {"warnWithoutSymbol": False}}
    made = getattr(ccxt.pro, kind)({"apiKey": key, "secret": key, "urls": addresses(url), "options": options})
    made.enableRateLimit = False
    try:
        yield made
    finally:
        await made.close()
