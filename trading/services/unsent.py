"""Taking entries back before anything of them was sent."""

from datetime import datetime

from django.db.models import QuerySet

from trading.domain.states import OrderStatus
from trading.models import Order

# A claimed order has sent nothing: its worker's next step filters on CLAIMED and finds it gone.
UNSENT = (OrderStatus.PENDING, OrderStatus.CLAIMED)


def cancel_unsent(
    entries: QuerySet[Order], code: str, now: datetime, status: OrderStatus = OrderStatus.CANCELLED
) -> list[int]:
    """End those of the entries that were not sent, and return their allocations; inside a transaction."""
    unsent = entries.filter(status__in=UNSENT).select_for_update(of=("self",))
    found: dict[int, int | None] = dict(unsent.values_list("pk", "allocation_id"))
    Order.objects.filter(pk__in=found).update(
        status=status,
        code=code,
        finished_at=now,
        due_at=None,
        fills_complete=True,
        reserved_margin=0,
        reserved_risk=0,
        reserved_notional=0,
    )
    return sorted({allocation_id for allocation_id in found.values() if allocation_id is not None})
