"""What the orders of a position have come to so far."""

from itertools import takewhile

from trading.domain.states import AT_EXCHANGE, TERMINAL, OrderPurpose
from trading.models import Order, Position

MOST_FAILED = 10
"""More are not told apart: the wait is the longest by then, and the alarm rung. A night makes thousands."""


def failed_attempts(position: Position) -> list[Order]:
    """The exits that ended without a fill since one last filled, newest first, `MOST_FAILED` at most."""
    ended = Order.objects.filter(position=position, purpose=OrderPurpose.EXIT, status__in=sorted(TERMINAL))
    newest = ended.order_by("-attempt")[:MOST_FAILED]
    return list(takewhile(lambda order: not order.filled_quantity, newest))


def unended_names(position: Position) -> set[str]:
    """The client ids of orders the exchange may still have."""
    unended = Order.objects.filter(position=position, status__in=sorted(AT_EXCHANGE))
    return set(unended.values_list("client_order_id", flat=True))
