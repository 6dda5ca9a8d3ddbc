"""The fence of venues whose signed time travels in headers: an order is signed with its stored time.

A worker that wakes up between SUBMITTED and the send signs with the time that was stored, so that the venue
refuses what comes too late. ccxt takes no time per request for these venues; a context variable carries it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from exchange.clients import GatedClient


@dataclass(frozen=True, slots=True)
class Stamp:
    """When a request is signed to have been made, its receive window, and the deadline sent beside it."""

    signed_at_ms: int
    recv_window_ms: int
    deadline_ms: int | None = None


current_stamp: ContextVar[Stamp | None] = ContextVar("current_stamp", default=None)


@contextmanager
def stamped(stamp: Stamp) -> Iterator[None]:
    """Sign the requests within by this stamp."""
    token = current_stamp.set(stamp)
    try:
        yield
    finally:
        current_stamp.reset(token)


class StampedClient(GatedClient):
    """Mixed into a ccxt class whose `sign` takes the time from `nonce` and puts it into headers."""

    options: dict[str, Any]

    def nonce(self) -> int:
        """The stamp's time within a stamped request, else the exchange's."""
        stamp = current_stamp.get()
        return super().nonce() if stamp is None else stamp.signed_at_ms

    def sign(self, *args: Any, **kwargs: Any) -> Any:
        """Sign with the stamp's window, and add its deadline; nothing is awaited between the two."""
        stamp = current_stamp.get()
        if stamp is None:
            return super().sign(*args, **kwargs)  # type: ignore[misc]  # ccxt's own
        own, self.options = self.options, {**self.options, "recvWindow": stamp.recv_window_ms}
        try:
            request = super().sign(*args, **kwargs)  # type: ignore[misc]  # ccxt's own
        finally:
            self.options = own
        if stamp.deadline_ms is not None and request.get("headers"):
            request["headers"]["expTime"] = str(stamp.deadline_ms)
        return request
