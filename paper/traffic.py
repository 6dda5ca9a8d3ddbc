"""How much is asked for, and what."""

from collections import Counter, deque
from dataclasses import dataclass, field

LOOK_BACK_SECONDS = 10
MAX_ENDPOINTS = 512


@dataclass(slots=True)
class Traffic:
    """Requests by endpoint and refusals by code since the start, and requests by second for the last few."""

    by_endpoint: dict[str, int] = field(default_factory=dict)
    refusals: Counter[str] = field(default_factory=Counter)
    seconds: deque[list[int]] = field(default_factory=lambda: deque(maxlen=LOOK_BACK_SECONDS + 1))

    def count(self, endpoint: str, now: float) -> None:
        """One more; endpoints beyond a bound, which nobody serves, are not told apart."""
        if endpoint in self.by_endpoint or len(self.by_endpoint) < MAX_ENDPOINTS:
            self.by_endpoint[endpoint] = self.by_endpoint.get(endpoint, 0) + 1
        second = int(now)
        if not self.seconds or self.seconds[-1][0] != second:
            self.seconds.append([second, 0])
        self.seconds[-1][1] += 1

    def refuse(self, endpoint: str, code: int) -> None:
        """One was refused with this code."""
        if endpoint in self.by_endpoint:
            self.refusals[f"{endpoint} {code}"] += 1

    def a_second(self, now: float) -> float:
        """Requests a second over the last whole ones."""
        last = int(now)
        recent = (n for second, n in self.seconds if last - LOOK_BACK_SECONDS <= second < last)
        return sum(recent) / LOOK_BACK_SECONDS
