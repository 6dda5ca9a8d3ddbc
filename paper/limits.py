"""Request weight per address and orders per account, in fixed windows of the wall clock."""

from collections import defaultdict
from dataclasses import dataclass, field

MINUTE = 60
FIVE_MINUTES = 300
FUNDING_REQUESTS = 500
TEN_SECONDS = 10
ORDERS_PER_MINUTE = 1200
ORDERS_PER_TEN_SECONDS = 300
SPOT_SHARE = 2.5  # 6000 a minute beside 2400 of futures
MINUTES_KEPT = 1_000

TOO_MANY, BANNED = 429, 418
IGNORED_BEFORE_BAN = 50
FIRST_BAN_SECONDS = 120
LONGEST_BAN_SECONDS = 3 * 86_400


class Exceeded(Exception):  # an answer
    """The window is used up, or the address banned; `retry_after_seconds` tells when to come back."""

    def __init__(self, code: int, message: str, retry_after_seconds: int, status: int = TOO_MANY) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.retry_after_seconds = retry_after_seconds
        self.status = status


@dataclass(slots=True)
class Window:
    """A count that starts over with each window."""

    seconds: int
    slot: int = 0
    used: int = 0

    def add(self, weight: int, now: float) -> int:
        """Count, and return what this window has seen."""
        slot = int(now) // self.seconds
        if slot != self.slot:
            self.slot, self.used = slot, 0
        self.used += weight
        return self.used

    def left(self, now: float) -> int:
        """Seconds until the next window, at least one."""
        return max(1, self.seconds - int(now) % self.seconds)


@dataclass(slots=True)
class Minute:
    """What one address used of one minute, and how many of its requests were refused for it."""

    used: int = 0
    refused: int = 0


@dataclass(slots=True)
class Ban:
    """What an address did with its refusals: `ignored` in this window, bans so far, and until when."""

    ignored: int = 0
    slot: int = 0
    bans: int = 0
    until: float = 0.0


@dataclass(slots=True)
class Limits:
    """`weight_limit` a minute and address; 0 counts but refuses nothing, orders included.

    An address that goes on asking, 50 times in one window, is banned: two minutes, doubled each time, at
    most three days.
    """

    weight_limit: int
    bans: dict[str, Ban] = field(default_factory=dict)
    weights: defaultdict[str, Window] = field(default_factory=lambda: defaultdict(lambda: Window(MINUTE)))
    orders: dict[str, tuple[Window, Window]] = field(default_factory=dict)
    minutes: dict[tuple[str, int], Minute] = field(default_factory=dict)
    funding: defaultdict[str, Window] = field(
        default_factory=lambda: defaultdict(lambda: Window(FIVE_MINUTES))
    )

    def weigh(self, address: str, weight: int, now: float, *, is_spot: bool = False) -> int:
        """Count a request, futures and spot apart; the weight used this minute, else Exceeded."""
        name = f"{address} spot" if is_spot else address
        minute, window = self._minute(name, int(now) // MINUTE), self.weights[name]
        try:
            self._weigh(address, window, weight, now, is_spot=is_spot)
        except Exceeded:
            minute.refused += 1
            raise
        finally:
            if window.slot == int(now) // MINUTE:
                minute.used = window.used
        return window.used

    def _weigh(self, address: str, window: Window, weight: int, now: float, *, is_spot: bool) -> None:
        if self.bans:
            self._check_ban(address, now)
        limit = int(self.weight_limit * SPOT_SHARE) if is_spot else self.weight_limit
        used = window.add(weight, now)
        if limit and used > limit:
            self._note_ignored(address, window.slot, now)
            message = (
                f"Too many requests; current limit of IP({address}) is {limit} requests per "
                "minute. Please use the websocket for live updates to avoid polling the API."
            )
            raise Exceeded(-1003, message, window.left(now))

    def _minute(self, name: str, slot: int) -> Minute:
        minute = self.minutes.get((name, slot))
        if minute is None:
            minute = self.minutes[name, slot] = Minute()
            while len(self.minutes) > MINUTES_KEPT:
                del self.minutes[next(iter(self.minutes))]
        return minute

    def shown(self) -> list[dict[str, str | int]]:
        """Weight used and requests refused by address and minute, the oldest first."""
        return [
            {"address": name, "minute": slot * MINUTE, "used": minute.used, "refused": minute.refused}
            for (name, slot), minute in self.minutes.items()
        ]

    def count_funding(self, address: str, now: float) -> None:
        """Count a request for funding rates, which have a pool of their own; Exceeded when it is empty."""
        window = self.funding[address]
        if window.add(1, now) > FUNDING_REQUESTS and self.weight_limit:
            message = f"Too many requests; current limit is {FUNDING_REQUESTS} requests per 5 minutes."
            raise Exceeded(-1003, message, window.left(now))

    def _note_ignored(self, address: str, slot: int, now: float) -> None:
        ban = self.bans.setdefault(address, Ban())
        if ban.slot != slot:
            ban.slot, ban.ignored = slot, 0
        ban.ignored += 1
        if ban.ignored > IGNORED_BEFORE_BAN:
            ban.until = now + min(FIRST_BAN_SECONDS * 2**ban.bans, LONGEST_BAN_SECONDS)
            ban.bans, ban.ignored = ban.bans + 1, 0
            self._check_ban(address, now)

    def _check_ban(self, address: str, now: float) -> None:
        ban = self.bans.get(address)
        if ban is not None and now < ban.until:
            message = (
                f"Way too many requests; IP({address}) banned until {int(ban.until * 1000)}. Please use the "
                "websocket for live updates to avoid bans."
            )
            raise Exceeded(-1003, message, int(ban.until - now) + 1, BANNED)

    def count_order(self, account: str, now: float, orders: int = 1) -> tuple[int, int]:
        """Count a request that orders; what ten seconds and the minute have seen, else Exceeded.

        A batch counts as its `orders` within ten seconds, and as one of the minute.
        """
        windows = self.orders.get(account)
        if windows is None:
            windows = self.orders[account] = (Window(TEN_SECONDS), Window(MINUTE))
        short, long = windows[0].add(orders, now), windows[1].add(1, now)
        if self.weight_limit and short > ORDERS_PER_TEN_SECONDS:
            raise Exceeded(
                -1015, "Too many new orders; current limit is 300 orders per 10 SECOND.", windows[0].left(now)
            )
        if self.weight_limit and long > ORDERS_PER_MINUTE:
            raise Exceeded(
                -1015, "Too many new orders; current limit is 1200 orders per 1 MINUTE.", windows[1].left(now)
            )
        return short, long
