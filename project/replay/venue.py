"""The paper exchange's administration, as a replay uses it."""

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

ANSWER_SECONDS = 30.0
START_SECONDS = 60.0


class VenueSilent(RuntimeError):
    """The paper exchange does not answer, or refuses the administration's call."""


@dataclass(frozen=True, slots=True)
class Step:
    """Where the feed stands: its moment, its marks by the exchange's symbol, whether a minute just closed."""

    now: datetime
    marks: dict[str, Decimal]
    is_minute_closed: bool
    is_done: bool


class Venue:
    """One kept connection to the administration."""

    def __init__(self, url: str, secret: str) -> None:
        self._address = urlsplit(url).netloc
        self._headers = {"X-Paper-Secret": secret, "Content-Type": "application/json"}
        self._connection = HTTPConnection(self._address, timeout=ANSWER_SECONDS)

    def await_start(self) -> None:
        """Return as soon as it answers. Raises VenueSilent."""
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                self._ask("GET", "/paper/status", None)
            except VenueSilent:
                if time.monotonic() > until:
                    raise
                time.sleep(0.1)
            else:
                return

    def advance(self) -> Step:
        """Move the feed one price point; triggers, funding and liquidations have run when this returns."""
        return _step(self._ask("POST", "/paper/advance", {"points": 1}))

    def stand(self) -> Step:
        """Where the feed stands, without moving it."""
        return _step({"minute_closed": True, "done": False} | self._ask("GET", "/paper/status", None))

    def ledger(self) -> list[dict[str, Any]]:
        """Everything that happened at the exchange, in order."""
        rows: list[dict[str, Any]] = self._ask("GET", "/paper/ledger?format=json", None)
        return rows

    def now(self) -> datetime:
        """The feed's moment."""
        return self.stand().now

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        try:
            self._connection.request(method, path, None if body is None else json.dumps(body), self._headers)
            answer = self._connection.getresponse()
            text = answer.read()
        except (OSError, HTTPException) as error:
            self._connection.close()
            raise VenueSilent(f"{method} {path}: {error!r}") from error
        if answer.status != 200:  # noqa: PLR2004 - the status is its own name
            raise VenueSilent(f"{method} {path}: {answer.status} {text[:200]!r}")
        return json.loads(text)


def _step(answer: dict[str, Any]) -> Step:
    return Step(
        now=_moment(answer["time_ms"]),
        marks={symbol: Decimal(price) for symbol, price in answer["marks"].items()},
        is_minute_closed=bool(answer["minute_closed"]),
        is_done=bool(answer["done"]),
    )


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
