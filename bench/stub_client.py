"""What the stub is told and asked between rounds, outside of what is measured."""

import json
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Counts:
    """What came to the stub since the round began; times are its wall clock in ms."""

    placed: int
    distinct: int
    first_ms: float
    last_ms: float


class StubClient:
    """The stub's own two calls."""

    def __init__(self, url: str) -> None:
        self._place = urlsplit(url).netloc

    def reset(self, *, fills: bool) -> None:
        """Begin a round, with or without fills."""
        self._ask("POST", f"/bench/reset?fills={int(fills)}")

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
