"""What the stub is told and asked between rounds, outside of what is measured."""

import json
from dataclasses import dataclass
from decimal import Decimal
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

from bench.orders import VENUE_SYMBOL


@dataclass(frozen=True, slots=True)
class Counts:
    """What came to the stub since the round began.

    Times are its wall clock in ms; `unclear_taken` and `unclear_refused` name the placements whose answer was
    lost, by client id; `listeners` is how many accounts are listened to, `marked_ms` when a mark was moved.
    """

    placed: int
    distinct: int
    first_ms: float
    last_ms: float
    cpu_seconds: float
    unclear_taken: list[str]
    unclear_refused: list[str]
    listeners: int
    marked_ms: float


class StubClient:
    """The stub's own two calls."""

    def __init__(self, url: str) -> None:
        self._place = urlsplit(url).netloc

    def reset(
        self,
        *,
        fills: bool,
        told: bool = True,
        unclear_percent: int = 0,
        unclear_first: int = 0,
        held: str = "",
    ) -> None:
        """Begin a round, with or without fills, losing so many percent of its first answers.

        `told` is whether streams tell of the fills, `held` what every account is long of.
        """
        words = f"fills={int(fills)}&told={int(told)}&unclear={unclear_percent}&first={unclear_first}"
        words += f"&held={held}" if held else ""
        self._ask("POST", f"/bench/reset?{words}")

    def mark(self, price: Decimal) -> None:
        """Move the mark of BTC, and have it told at once."""
        self._ask("POST", f"/bench/mark?symbol={VENUE_SYMBOL}&price={price}")

    def counts(self) -> Counts:
        """What came since."""
        return Counts(**self._ask("GET", "/bench/counts"))

    def _ask(self, method: str, path: str) -> Any:
        connection = HTTPConnection(self._place, timeout=10)
        try:
            connection.request(method, path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()
