"""The peak that drawdown is measured from, in money, moved by what was transferred: a deposit is no profit.

Unitised: before a transfer an account of value V holds V / p units at the price p, and a transfer of T makes
units at that price. So every price ever reached, the highest too, now stands for (V + T) / V times the money.
"""

from decimal import Decimal

from trading.domain.percent import ZERO


def moved_peak(peak: Decimal, value: Decimal, transferred: Decimal) -> Decimal:
    """The peak after `transferred` was paid in (negative: out), `value` being what it is worth since.

    Where nothing was there before, or is now, there is nothing to fall from: the peak starts again.
    """
    before = value - transferred
    if transferred == ZERO:
        return peak
    if before <= ZERO or value <= ZERO:
        return ZERO
    return peak * value / before


def raised_peak(peak: Decimal | None, value: Decimal, transferred: Decimal = ZERO) -> Decimal:
    """The peak after a reading; it rises with the value, and falls by transfers alone."""
    moved = ZERO if peak is None else moved_peak(peak, value, transferred)
    return max(moved, value)
