"""How fast one account orders: the exchange counts its orders in fixed windows, whatever the address.

The exchange tells its own count with every placement, so the processes of a desk need no count of theirs.
Over the limit it answers -1015, and that account alone must be silent until the window is over: -1015 says
nothing of the address, nor of any other account.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from exchange.budget import SHARES, Priority
from exchange.errors import Throttled
from exchange.quirks import OrderWindow

UNLIMITED = frozenset({Priority.EXIT, Priority.PROTECTION})
"""Never held back for our own count: the exchange has the last word on them."""


@dataclass(slots=True)
class _Count:
    """Placements of one window; a new window starts over."""

    window: OrderWindow
    slot: int = 0
    used: int = 0

    def of(self, now_ms: int) -> int:
        """What this window has seen."""
        slot = now_ms // (self.window.seconds * 1000)
        if slot != self.slot:
            self.slot, self.used = slot, 0
        return self.used

    def left_seconds(self, now_ms: int) -> float:
        """Until the next window."""
        length_ms = self.window.seconds * 1000
        return (length_ms - now_ms % length_ms) / 1000


class OrderRate:
    """The order count of one account on one market, kept in one process."""

    __slots__ = ("_counts", "_now_ms", "_silent_until_ms", "_windows")

    def __init__(self, windows: Sequence[OrderWindow], now_ms: Callable[[], int]) -> None:
        """`now_ms` is the exchange's clock as far as known: the windows are of its time."""
        self._windows = windows
        self._counts = [_Count(window) for window in windows]
        self._now_ms = now_ms
        self._silent_until_ms = 0

    def of_another_account(self) -> "OrderRate":
        """The same windows, nothing counted."""
        return OrderRate(self._windows, self._now_ms)

    def take(self, wanted: Priority) -> None:
        """Count one placement; raises `Throttled` while the account must be silent or its share is used up.

        Entries may use their share of a window only: an exit of the same account must find room.
        """
        now_ms = self._now_ms()
        if now_ms < self._silent_until_ms:
            wait = (self._silent_until_ms - now_ms) / 1000
            raise Throttled("ORDER_RATE", "the exchange asked this account to order later", wait)
        for count in self._counts:
            if wanted not in UNLIMITED and count.of(now_ms) >= count.window.limit * SHARES[wanted]:
                message = f"this account ordered {count.used} times in {count.window.seconds} s"
                raise Throttled("ORDER_RATE", message, count.left_seconds(now_ms))
        for count in self._counts:
            count.used = count.of(now_ms) + 1

    def note_headers(self, headers: Mapping[str, str]) -> None:
        """Keep the exchange's own count where it is more than ours."""
        now_ms = self._now_ms()
        for count in self._counts:
            told = headers.get(count.window.header, "")
            if told.isdigit():
                count.used = max(count.of(now_ms), int(told))

    def note_refused(self, seconds: float) -> None:
        """-1015: silence for so long, to the end of the shortest window when the exchange does not say."""
        now_ms = self._now_ms()
        shortest = min((count.left_seconds(now_ms) for count in self._counts), default=1.0)
        self._silent_until_ms = max(self._silent_until_ms, now_ms + int((seconds or shortest) * 1000))
