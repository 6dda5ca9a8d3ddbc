# ruff: noqa: ARG001 - the framework gives every route its request
from datetime import datetime
from uuid import UUID

from django.http import HttpRequest
from ninja import Router, Schema

from trading.api.authentication import needs
from trading.api.numbers import Figure, Text
from trading.api.paging import Page, PagingQuery, page_of
from trading.models import Order
from trading.services.tokens import Scope

router = Router(tags=["orders"])


SHARES = ("allocation__", "position__allocation__")
"""The ways from an order to its share: an entry's own, an exit's or a stop's by its position."""


class OrderOut(Schema):
    """One attempt to trade and where it stands, from our row to the exchange's book."""

    id: UUID
    client_order_id: str
    exchange_order_id: str
    account: str
    purpose: str
    reason: str
    executor: str
    market: str
    symbol: str
    side: str
    type: str
    quantity: Figure | None
    price: Figure | None
    trigger_price: Figure | None
    reduce_only: bool
    close_position: bool
    attempt: int
    status: str
    code: str
    message: str
    filled_quantity: Figure
    average_price: Figure | None
    created_at: datetime
    submitted_at: datetime | None
    acknowledged_at: datetime | None
    finished_at: datetime | None
    decision_id: UUID | None
    position_id: UUID | None
    is_demonstration: bool

    @classmethod
    def of(cls, order: Order) -> "OrderOut":
        """Show a row whose account, decision, source and position are loaded."""
        share = order.allocation or (order.position.allocation if order.position else None)
        copied = {
            name: getattr(order, name)
            for name in cls.model_fields
            if name not in {"id", "account", "decision_id", "position_id", "is_demonstration"}
        }
        return cls(
            **copied,
            id=order.uuid,
            account=order.account.name,
            decision_id=order.allocation.decision.uuid if order.allocation else None,
            position_id=order.position.uuid if order.position else None,
            is_demonstration=share is not None and share.decision.is_demonstration,
        )


@router.get("orders", auth=needs(Scope.READ), response=Page[OrderOut])
def list_orders(
    request: HttpRequest,
    paging: PagingQuery,
    status: Text = "",
    account: Text = "",
    symbol: Text = "",
    purpose: Text = "",
) -> Page[OrderOut]:
    """Orders, newest first: entries, exits and stops."""
    rows = Order.objects.select_related("account", *(f"{way}decision__signal__source" for way in SHARES))
    rows = rows.defer(*(f"{way}decision__{heavy}" for way in SHARES for heavy in ("candidates", "inputs")))
    wanted = {
        "status": status.upper(),
        "account__name": account,
        "symbol": symbol,
        "purpose": purpose.upper(),
    }
    shown, following = page_of(
        rows.filter(**{name: value for name, value in wanted.items() if value}), paging
    )
    return Page(items=[OrderOut.of(order) for order in shown], next=following)
