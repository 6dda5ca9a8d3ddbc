"""What a client is proved by: named checks in order against a paper exchange. Standard library only.

The scripts of the clients run in environments of their own, so nothing here may need more.
"""

import asyncio
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.request import Request, urlopen

PRICES = {"BTCUSDT": "100000", "ETHUSDT": "3000", "SOLUSDT": "150"}
Check = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Place:
    """The exchange a script is told to use by `PAPER_URL` and `PAPER_SECRET`, with a hand on its prices."""

    url: str
    secret: str

    @classmethod
    def of_environment(cls) -> "Place":
        """The exchange named by the environment, its prices pinned to `PRICES`."""
        place = cls(os.environ["PAPER_URL"], os.environ["PAPER_SECRET"])
        for symbol, price in PRICES.items():
            place.pin(symbol, price)
        return place

    @property
    def streams(self) -> str:
        """The address of its streams."""
        return self.url.replace("http", "ws", 1)

    def pin(self, symbol: str, price: str | None) -> None:
        """Jump a mark there and hold it; None releases it."""
        self._ask("mark", {"symbol": symbol, "price": price})

    def rows(self, kind: str, **wanted: object) -> list[dict[str, Any]]:
        """What the exchange's ledger holds of that kind, with these values."""
        ledger = self._ask("ledger?format=json")
        return [row for row in ledger if {"kind": kind, **wanted}.items() <= row.items()]

    def _ask(self, verb: str, body: dict[str, Any] | None = None) -> Any:
        given = json.dumps(body).encode() if body else None
        headers = {"X-Paper-Secret": self.secret, "Content-Type": "application/json"}
        with urlopen(Request(f"{self.url}/paper/{verb}", given, headers), timeout=10) as answer:  # noqa: S310  # ours
            return json.loads(answer.read())


def describe(check: Check) -> str:
    """The name of a check as words."""
    return check.__name__.strip("_").replace("_", " ")


async def _run(check: Check) -> None:
    result = check()
    if inspect.isawaitable(result):
        await asyncio.wait_for(result, 60)


async def pass_checks(checks: Iterable[Check]) -> int:
    """Run them in order on one loop, a line each; 1 when any failed."""
    failed = 0
    for check in checks:
        try:
            await _run(check)
        except Exception:  # noqa: BLE001  # whatever a client raises is a failed check, and the next is run
            failed += 1
            sys.stdout.write(f"FAIL {describe(check)}\n{traceback.format_exc(limit=-3)}\n")
        else:
            sys.stdout.write(f"PASS {describe(check)}\n")
        sys.stdout.flush()
    return 1 if failed else 0


def expect(found: object, wanted: object) -> None:
    """They are equal. Raises AssertionError telling both."""
    assert found == wanted, f"found {found!r}, wanted {wanted!r}"
