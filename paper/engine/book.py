"""The synthetic book around the last price, the same for every order: nobody consumes another's depth."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from paper.engine.orders import BUY, SELL, ZERO
from paper.symbols import Instrument

# Distance of each level from the best price and its share of the first level's depth: 5 % deep.
LEVEL_BPS = tuple(Decimal(b) for b in (0, 1, 2, 3, 5, 8, 12, 18, 27, 40, 60, 90, 135, 200, 300, 450))
LEVEL_SHARE = tuple(
    Decimal(s)
    for s in ["1", "1.2", "1.4", "1.6", "1.8", "2", "2.2", "2.4", "2.6", "2.8", "3", "3", "3", "3", "3", "3"]
)
BPS = Decimal(10_000)
# Which level a matched price is taken from, and whether of one's own side of the book.
PRICE_MATCHES = {
    "OPPONENT": (False, 0),
    "OPPONENT_5": (False, 4),
    "OPPONENT_10": (False, 9),
    "OPPONENT_20": (False, 19),
    "QUEUE": (True, 0),
    "QUEUE_5": (True, 4),
    "QUEUE_10": (True, 9),
    "QUEUE_20": (True, 19),
}
NO_MATCH = "NONE"


@dataclass(slots=True)
class Quote:
    """Where one symbol stands: reference prices and the best bid and ask around `last`."""

    symbol: str
    mark: Decimal
    last: Decimal
    index: Decimal
    funding_rate: Decimal = Decimal("0.0001")
    next_funding_ms: int = 0
    time_ms: int = 0
    last_quantity: Decimal = ZERO
    update_id: int = 0

    def renew(self, now_ms: int) -> None:
        """The prices were set anew: the book has a later number than any before."""
        self.time_ms, self.update_id = now_ms, max(self.update_id + 1, now_ms)


def rounded(price: Decimal, tick: Decimal, rounding: str) -> Decimal:
    """The price on the tick grid."""
    return (price / tick).to_integral_value(rounding) * tick


def best(instrument: Instrument, last: Decimal, side: str) -> Decimal:
    """The best price an order of this side meets: the ask for a buy, the bid for a sell."""
    half = last * instrument.spread_bps / BPS / 2
    if side == BUY:
        return rounded(last + half, instrument.tick, ROUND_CEILING)
    return max(instrument.tick, rounded(last - half, instrument.tick, ROUND_FLOOR))


def levels(instrument: Instrument, last: Decimal, side: str) -> Iterator[tuple[Decimal, Decimal]]:
    """Price and quantity of each level an order of this side meets, best first."""
    top = best(instrument, last, side)
    sign, rounding = (1, ROUND_CEILING) if side == BUY else (-1, ROUND_FLOOR)
    for distance, share in zip(LEVEL_BPS, LEVEL_SHARE, strict=True):
        price = rounded(top * (1 + sign * distance / BPS), instrument.tick, rounding) if distance else top
        if price <= 0:
            return
        wanted = instrument.depth_notional * share / price
        quantity = max(instrument.step, rounded(wanted, instrument.step, ROUND_FLOOR))
        yield price, quantity


def walk(
    instrument: Instrument, last: Decimal, side: str, quantity: Decimal, limit: Decimal
) -> list[tuple[Decimal, Decimal]]:
    """The fills of an order that takes up to `quantity` at `limit` or better."""
    fills: list[tuple[Decimal, Decimal]] = []
    for price, depth in levels(instrument, last, side):
        if quantity <= 0 or (price > limit if side == BUY else price < limit):
            break
        taken = min(depth, quantity)
        fills.append((price, taken))
        quantity -= taken
    return fills


def matched_price(instrument: Instrument, last: Decimal, side: str, match: str) -> Decimal:
    """The price of a level of the book: the opponent's, or one's own queue; the deepest when it has fewer."""
    queues, place = PRICE_MATCHES[match]
    met = side if not queues else SELL if side == BUY else BUY
    found = list(levels(instrument, last, met))
    return found[min(place, len(found) - 1)][0]
