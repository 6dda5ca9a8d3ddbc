"""Cancelling resting orders: a cancel that finds nothing has lost a race, and the order is looked up."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.utils import timezone

from accounts.services.gateways import gateway_for
from exchange.budget import Priority, priority
from exchange.errors import GatewayError
from exchange.loop import IoLoop
from exchange.port import ExchangeGateway, Market
from trading.domain.states import OrderStatus, predecessors
from trading.models import Order
from trading.services.bells import Bells
from trading.services.execution import recording
from trading.services.execution.resolving import refresh

RETRY = timedelta(seconds=2)
CANCEL_SECONDS = 15.0


def cancel(order_ids: Sequence[int], now: datetime) -> Bells:
    """Cancel resting orders at the exchange; PENDING ones end here, nothing of them was ever sent."""
    bells = _end_unsent(order_ids, now)
    resting = [
        (order, gateway)
        for order in Order.objects.filter(
            pk__in=order_ids, status__in=[OrderStatus.ACKNOWLEDGED, OrderStatus.PARTIALLY_FILLED]
        ).select_related("account", "allocation__decision", "position")
        if (gateway := _gateway(order)) is not None
    ]
    answers = IoLoop.current().run_all(
        [_cancel(order, gateway) for order, gateway in resting], CANCEL_SECONDS
    )
    gone: list[int] = []
    for (order, _), answer in zip(resting, answers, strict=True):
        if answer is True:
            bells.add(_mark_cancelled(order, now))
        elif answer is False:
            gone.append(order.pk)
        else:
            # Not rung at once: whoever wants it gone asks again at its next look, and the sweep reads it.
            Order.objects.filter(pk=order.pk).update(due_at=timezone.now() + RETRY)
    return bells.add(refresh(gone, now)) if gone else bells


def cancel_leftovers(order_ids: Sequence[int], now: datetime) -> int:
    """Cancel what still rests at the exchange under our ids although its purpose is gone; returns how many.

    The row may have ended long ago: it is corrected only where it still counts as resting.
    """
    leftover = [
        (order, gateway)
        for order in Order.objects.filter(pk__in=order_ids).select_related("account")
        if (gateway := _gateway(order)) is not None
    ]
    answers = IoLoop.current().run_all(
        [_cancel(order, gateway) for order, gateway in leftover], CANCEL_SECONDS
    )
    cancelled = [order for (order, _), answer in zip(leftover, answers, strict=True) if answer is True]
    for order in cancelled:
        _mark_cancelled(order, now)
    return len(cancelled)


def _end_unsent(order_ids: Sequence[int], now: datetime) -> Bells:
    bells = Bells()
    unsent = Order.objects.filter(pk__in=order_ids, status=OrderStatus.PENDING)
    for order in unsent:
        if Order.objects.filter(pk=order.pk, status=OrderStatus.PENDING).update(
            status=OrderStatus.CANCELLED, code="UNSENT", finished_at=now, due_at=None, fills_complete=True
        ):
            bells.add(recording.due_after(order))
    return bells


def _gateway(order: Order) -> ExchangeGateway | None:
    try:
        return gateway_for(order.account, Market(order.market))
    except GatewayError:
        return None


async def _cancel(order: Order, gateway: ExchangeGateway) -> bool:
    with priority(Priority.PROTECTION):
        return await gateway.cancel_order(
            order.symbol, order.client_order_id, is_conditional=order.is_conditional
        )


def _mark_cancelled(order: Order, now: datetime) -> Bells:
    # A futures stop fills as another order. Of any other, what filled before the cancel is still to be read,
    # or we would hold more than our rows say; a spot stop is one order in one store.
    fills_elsewhere = order.is_conditional and order.market == Market.FUTURES
    Order.objects.filter(pk=order.pk, status__in=predecessors(OrderStatus.CANCELLED)).update(
        status=OrderStatus.CANCELLED, finished_at=now, due_at=None, fills_complete=fills_elsewhere
    )
    bells = recording.due_after(order)
    if not fills_elsewhere:
        bells.resolve.append(order.pk)
    return bells
