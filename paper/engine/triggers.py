"""Waiting triggers of one symbol, sorted so that a tick looks only at those it meets."""

from bisect import bisect_left, bisect_right, insort
from decimal import Decimal

Entry = tuple[Decimal, int]


class TriggerIndex:
    """Prices to be met from below (`up`) or from above (`down`) by one reference price."""

    def __init__(self) -> None:
        self.up: list[Entry] = []
        self.down: list[Entry] = []

    def add(self, price: Decimal, number: int, *, upwards: bool) -> None:
        """Wait for the reference to reach `price`."""
        insort(self.up if upwards else self.down, (price, number))

    def remove(self, price: Decimal, number: int, *, upwards: bool) -> None:
        """Wait no longer; harmless when not waiting."""
        side = self.up if upwards else self.down
        place = bisect_left(side, (price, number))
        if place < len(side) and side[place] == (price, number):
            del side[place]

    def take(self, reference: Decimal) -> list[int]:
        """Remove and return what this reference price meets, nearest trigger first."""
        met: list[int] = []
        if self.up and self.up[0][0] <= reference:
            cut = bisect_right(self.up, reference, key=lambda entry: entry[0])
            met = [number for _, number in self.up[:cut]]
            del self.up[:cut]
        if self.down and self.down[-1][0] >= reference:
            cut = bisect_left(self.down, reference, key=lambda entry: entry[0])
            met += [number for _, number in reversed(self.down[cut:])]
            del self.down[cut:]
        return met
