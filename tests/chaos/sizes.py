"""How much chaos: a short run for every test run, the usual one, and the long one."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Size:
    """What a run must have had before it may end.

    `orders` are entries that were sent; `hits` is how often each switch struck, `strikes` how often each kind
    of strike fell; `rest` the seconds between two strikes; `most_seconds` how long a run waits for enough.
    `blows` are strikes of any kind; `paused` are the processes that may be stopped for 45 s.
    """

    accounts: int
    orders: int
    lanes: int
    hits: int
    strikes: int
    blows: int
    rest: tuple[float, float]
    paused: tuple[str, ...]
    most_seconds: float


ALL = ("worker_orders", "worker_orders_2", "worker_exits", "worker_monitor", "watcher", "watcher_2")

SIZES = {
    "short": Size(
        accounts=20,
        orders=80,
        lanes=4,
        hits=0,
        strikes=0,
        blows=8,
        rest=(3.0, 7.0),
        paused=("worker_orders",),
        most_seconds=600,
    ),
    "usual": Size(
        accounts=100,
        orders=2_000,
        lanes=4,
        hits=20,
        strikes=2,
        blows=40,
        rest=(4.0, 14.0),
        paused=ALL,
        most_seconds=3_600,
    ),
    "long": Size(
        accounts=100,
        orders=10_000,
        lanes=4,
        hits=20,
        strikes=4,
        blows=80,
        rest=(4.0, 14.0),
        paused=ALL,
        most_seconds=10_800,
    ),
}
