"""The dual executor: on which market of the house account a signal is carried out (section 5).

The markets that fit the signal are asked in order; the gate tells whose wallet can pay. Confidence is stored
and shown; it decides nothing.
"""

from decimal import Decimal

from trading.domain.instrument import Market

FUTURES_SCORE = Decimal("0.70")
FUTURES_RANGE = (Decimal("0.03"), Decimal("0.12"))
SPOT_SCORE = Decimal("0.65")
SPOT_MAX_RANGE = Decimal("0.15")
STRONG_SCORE = Decimal("0.8")


def signal_range(*, entry_price: Decimal, stop_price: Decimal, take_profit_price: Decimal) -> Decimal:
    """Return v = |target - stop| / entry of the signal, a fraction."""
    return abs(take_profit_price - stop_price) / entry_price


def possible_markets(*, score: Decimal, is_long: bool, span: Decimal) -> tuple[Market, ...]:
    """Return the markets that fit the signal, futures first; spot takes longs only."""
    low, high = FUTURES_RANGE
    futures = score >= FUTURES_SCORE and low <= span <= high
    spot = is_long and score >= SPOT_SCORE and span <= SPOT_MAX_RANGE
    return (Market.FUTURES,) * futures + (Market.SPOT,) * spot


def confidence(possible: tuple[Market, ...], score: Decimal) -> Decimal:
    """Return 0.9 when both fit and the score is strong, 0.8 when both or only spot, 0.7 when only futures."""
    if possible == (Market.FUTURES,):
        return Decimal("0.7")
    is_sure = len(possible) > 1 and score >= STRONG_SCORE
    return Decimal("0.9") if is_sure else Decimal("0.8")
