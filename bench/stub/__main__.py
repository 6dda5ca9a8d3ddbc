"""Serve until told to stop."""

import asyncio
import gc
import signal
import sys

import uvloop

from bench.stub.connection import Connection
from bench.stub.exchange import Exchange
from bench.stub.outbox import Outbox


async def serve(port: int, latency_ms: float) -> None:
    """Serve until told to stop."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    exchange, outbox = Exchange(), Outbox(loop, latency_ms / 1000)
    server = await loop.create_server(lambda: Connection(exchange, outbox), "127.0.0.1", port, backlog=4096)
    await stopped.wait()
    server.close()


if __name__ == "__main__":
    gc.disable()  # nothing here is a circle, and a collection would count as an answer's work
    uvloop.run(serve(int(sys.argv[1]), float(sys.argv[2])))
