"""What the orders of a position have come to so far."""

from trading.domain.states import AT_EXCHANGE, TERMINAL, OrderPurpose
from trading.models import Order, Position


def failed_attempts(position: Position) -> list[Order]:
    """The newest exits that ended without a fill since one last filled, newest first."""
    failed: list[Order] = []
    ended = Order.objects.filter(position=position, purpose=OrderPurpose.EXIT, status__in=sorted(TERMINAL))
    for order in ended.order_by("-attempt"):
        if order.filled_quantity:
            break
        failed.append(order)
    return failed


def unended_names(position: Position) -> set[str]:
    """The client ids of orders the exchange may still have."""
    unended = Order.objects.filter(position=position, status__in=sorted(AT_EXCHANGE))
    return set(unended.values_list("client_order_id", flat=True))
