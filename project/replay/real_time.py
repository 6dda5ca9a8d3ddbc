"""A replay at speed 1: the real beat, watcher and workers; only the clock is carried over from the feed."""

import time
from collections.abc import Callable
from datetime import datetime

from project.clock import ReplayClock
from project.replay.venue import Venue

CARRY_SECONDS = 0.25
TOLD_EVERY_SECONDS = 60.0


def follow(venue: Venue, clock: ReplayClock, minutes: float, tell: Callable[[str], None]) -> datetime:
    """Carry the feed's clock to the desk for so many minutes; returns its last moment."""
    until, told = time.monotonic() + minutes * 60, time.monotonic()
    now = venue.now()
    while time.monotonic() < until:
        now = venue.now()
        clock.set(now)
        if time.monotonic() - told >= TOLD_EVERY_SECONDS:
            told = time.monotonic()
            tell(f"{now:%Y-%m-%d %H:%M:%S}  {(until - told) / 60:.0f} min to go")
        time.sleep(CARRY_SECONDS)
    return now
