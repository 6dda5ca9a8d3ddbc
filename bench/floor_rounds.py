"""The floors beside a desk, pass by pass, on one event loop of this process."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import uvloop

from accounts.models import Account
from bench.figures import Bound, Figure, middle
from bench.floors import (
    REFERENCE_ALONE_US,
    REFERENCE_BARE_CPU,
    REFERENCE_CCXT_CPU,
    BareFloor,
    CcxtFloor,
    Pass,
    timed,
)
from bench.stub_client import StubClient

WITHIN = Bound(1.2, of_ratio=True)


@dataclass(slots=True)
class Passes:
    """What the rounds of the floors measured; `read` asks for the executions behind each order too."""

    bare: list[Pass] = field(default_factory=list)
    ccxt: list[Pass] = field(default_factory=list)
    read: list[Pass] = field(default_factory=list)
    stub_us: list[float] = field(default_factory=list)

    @property
    def bare_ms(self) -> float:
        """The last answer of bare aiohttp."""
        return middle([one.last_ms for one in self.bare])

    @property
    def ccxt_ms(self) -> float:
        """The last answer of tuned ccxt."""
        return middle([one.last_ms for one in self.ccxt])


class Floors:
    """Both floors with their connections; made once, passed over again and again."""

    def __init__(self, exchange_url: str, accounts: Sequence[Account]) -> None:
        """A client for each account, whose key is its name."""
        self._keys = [one.name for one in accounts]
        self._stub = StubClient(exchange_url)
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._exchange_url = exchange_url
        self._bare: BareFloor
        self._ccxt: CcxtFloor
        self.alone_us = 0.0

    def __enter__(self) -> Self:
        self._runner.run(self._open())
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        """End the connections."""
        self._runner.run(self._close())
        self._runner.close()

    def one_round(self, accounts: Sequence[Account], found: Passes) -> None:
        """One pass of each over these accounts."""
        keys = [one.name for one in accounts]
        self._stub.reset(fills=True, told=False)  # a watcher beside it has no part in a floor
        found.bare.append(self._runner.run(timed(self._bare.send, keys)))
        found.stub_us.append(self._stub.counts().cpu_seconds / len(keys) * 1e6)
        found.ccxt.append(self._runner.run(timed(self._ccxt.send, keys)))
        found.read.append(self._runner.run(timed(self._ccxt.send_and_read, keys)))

    async def _open(self) -> None:
        self._bare, self._ccxt = BareFloor(self._exchange_url), CcxtFloor(self._exchange_url)
        await self._ccxt.load(self._keys)
        self.alone_us = await self._ccxt.alone_us(self._keys[0])

    async def _close(self) -> None:
        await self._bare.close()
        await self._ccxt.close()


def floor_figures(count: int, passes: Passes, alone_us: float) -> list[Figure]:
    """The floors, the stub, and the machine beside the one the floors were first measured on."""
    return [
        Figure("machine_ccxt_order_alone", alone_us, "us", REFERENCE_ALONE_US),
        Figure(f"stub_cpu_an_order_{count}", middle(passes.stub_us), "us", None, Bound(20)),
        Figure(f"floor_bare_last_{count}", passes.bare_ms, "ms"),
        _cpu_figure(f"floor_bare_cpu_per_1000_{count}", passes.bare, count, REFERENCE_BARE_CPU, alone_us),
        Figure(f"floor_ccxt_last_{count}", passes.ccxt_ms, "ms", passes.bare_ms),
        _cpu_figure(f"floor_ccxt_cpu_per_1000_{count}", passes.ccxt, count, REFERENCE_CCXT_CPU, alone_us),
        Figure(
            f"floor_ccxt_order_and_executions_{count}",
            middle([one.last_ms for one in passes.read]),
            "ms",
            passes.ccxt_ms,
        ),
    ]


def _cpu_figure(name: str, passes: list[Pass], count: int, reference: float, alone_us: float) -> Figure:
    cpu = middle([one.cpu_seconds for one in passes]) / count * 1000
    slower = alone_us / REFERENCE_ALONE_US
    note = ""
    if cpu > reference * WITHIN.limit:
        note = (
            f"this machine takes {slower:.2f} x as long for ccxt's part of an order without a network: "
            f"{cpu / slower:.3f} s at the reference's speed"
        )
    return Figure(name, cpu, "s", reference, WITHIN, note)
