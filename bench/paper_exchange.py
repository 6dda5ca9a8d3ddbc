"""Market orders a second that the paper exchange takes, beside the exchange that only acknowledges."""

import asyncio
from collections.abc import Iterator

import uvloop

from bench.figures import Figure, middle
from bench.floors import BareFloor, timed
from bench.orders import MARKET_ORDER
from bench.stage import Scale, Stage

KEYS = 50


def measured(stage: Stage, scale: Scale) -> Iterator[list[Figure]]:
    """One figure; both exchanges run beside the same client, and rounds interleave."""
    with Stage() as beside:
        stage.start_paper_exchange()
        beside.start_stub(0)
        floor, paper = uvloop.run(
            _rounds(
                beside.exchange_url,
                stage.exchange_url,
                orders=400 if scale.is_quick else 1500,
                rounds=2 if scale.is_quick else 5,
            )
        )
    yield [
        Figure("stub_market_orders", floor, "orders/s"),
        Figure("paper_exchange_market_orders", paper, "orders/s", floor),
    ]


async def _rounds(stub_url: str, paper_url: str, orders: int, rounds: int) -> tuple[float, float]:
    """Orders a second of both, medians; the first round makes accounts and connections."""
    keys = [f"paper-{number:04d}" for number in range(1, KEYS + 1)]
    stub, paper = BareFloor(stub_url, MARKET_ORDER), BareFloor(paper_url, MARKET_ORDER)
    try:
        for way in (stub, paper):
            await timed(way.send, keys)
        found = [(await _rate(stub, keys, orders), await _rate(paper, keys, orders)) for _ in range(rounds)]
    finally:
        await asyncio.gather(stub.close(), paper.close())
    floor, measured_rate = (middle(column) for column in zip(*found, strict=True))
    return floor, measured_rate


async def _rate(way: BareFloor, keys: list[str], orders: int) -> float:
    """Passes over all keys, one after another, until so many orders were taken."""
    passes = max(1, orders // len(keys))
    taken_ms = sum([(await timed(way.send, keys)).last_ms for _ in range(passes)])
    return passes * len(keys) / taken_ms * 1000
