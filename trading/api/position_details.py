# ruff: noqa: ARG001 - the framework gives every route its request
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Router, Schema

from trading.api.authentication import needs
from trading.api.numbers import Computed, Figure
from trading.api.positions import PositionOut
from trading.domain.exit_plan import ExitPlan, Level
from trading.domain.percent import price_move, to_percent
from trading.models import Fill, Order, Position
from trading.services.plans import plan_of
from trading.services.positions import close_reason
from trading.services.prices import fresh_marks
from trading.services.readings import read_position
from trading.services.stops import STOPS
from trading.services.tokens import Scope

router = Router(tags=["positions"])


class TargetOut(Schema):
    """One target of the plan: what it closes there, and how far the mark has to move from the entry."""

    number: int
    price: Figure
    price_move_pct: Computed
    quantity: Figure
    is_reached: bool

    @classmethod
    def of(cls, level: Level, plan: ExitPlan) -> "TargetOut":
        """Show a level of a plan."""
        return cls(
            number=level.number,
            price=level.price,
            price_move_pct=_move_pct(plan, level.price),
            quantity=level.quantity,
            is_reached=level.reached,
        )


class PlanOut(Schema):
    """Where the position stops, harvests and follows; `unknown` counted 0 when it was made.

    `hard_stop_price` rests at the exchange and is never moved, `stop_price` is the one that counts now, for
    `stop_reason`. Percentages are the mark's move against the average entry; a stop's is a loss.
    """

    policy: str
    leverage: Figure
    entry_price: Figure
    hard_stop_price: Figure
    hard_stop_pct: Computed
    stop_price: Figure
    stop_pct: Computed
    stop_reason: str
    break_even_price: Figure
    targets: list[TargetOut]
    is_runner: bool
    trail_start_price: Figure | None
    loss_guard_amount: Figure | None
    expires_at: datetime | None
    unknown: list[str]

    @classmethod
    def of(cls, plan: ExitPlan) -> "PlanOut":
        """Show a plan."""
        return cls(
            policy=plan.policy,
            leverage=plan.leverage,
            entry_price=plan.entry_price,
            hard_stop_price=plan.hard_stop_price,
            hard_stop_pct=-_move_pct(plan, plan.hard_stop_price),
            stop_price=plan.stop_price,
            stop_pct=-_move_pct(plan, plan.stop_price),
            stop_reason=plan.stop_reason,
            break_even_price=plan.break_even_price,
            targets=[TargetOut.of(level, plan) for level in plan.levels],
            is_runner=plan.runner,
            trail_start_price=plan.trail_start_price,
            loss_guard_amount=plan.loss_guard_amount,
            expires_at=plan.expires_at,
            unknown=list(plan.unknown),
        )


class LegOut(Schema):
    """One execution that closed some of it, and why."""

    at: datetime
    quantity: Figure
    price: Figure
    reason: str

    @classmethod
    def of(cls, fill: Fill) -> "LegOut":
        """Show an execution against the position's side."""
        return cls(at=fill.filled_at, quantity=fill.quantity, price=fill.price, reason=close_reason(fill))


class StopOut(Schema):
    """One stop it had at the exchange; `is_seen` once a stream or a list showed it there."""

    client_order_id: str
    purpose: str
    reason: str
    status: str
    code: str
    trigger_price: Figure | None
    quantity: Figure | None
    closes_position: bool
    is_seen: bool
    made_at: datetime

    @classmethod
    def of(cls, order: Order) -> "StopOut":
        """Show a stop's row."""
        return cls(
            client_order_id=order.client_order_id,
            purpose=order.purpose,
            reason=order.reason,
            status=order.status,
            code=order.code,
            trigger_price=order.trigger_price,
            quantity=order.quantity,
            closes_position=order.close_position,
            is_seen=order.is_seen,
            made_at=order.created_at,
        )


class StepOut(Schema):
    """One step of its life."""

    at: datetime
    code: str
    detail: dict[str, Any]


class PositionDetail(PositionOut):
    """A position with its plan, the legs that closed it, its stops and its life, oldest first."""

    plan: PlanOut | None
    legs: list[LegOut]
    stops: list[StopOut]
    life: list[StepOut]


@router.get("positions/{uuid:position_id}", auth=needs(Scope.READ), response=PositionDetail)
def read_one(request: HttpRequest, position_id: UUID) -> PositionDetail:
    """One position, whole: its figures, plan, closed legs, stops and life."""
    now = settings.CLOCK.now()
    rows = Position.objects.select_related("account", "allocation__decision__signal__source")
    row = get_object_or_404(rows, uuid=position_id)
    plan = plan_of(row)
    closing = row.fills.select_related("order").exclude(side="buy" if row.is_long else "sell")
    return PositionDetail(
        **PositionOut.of(read_position(row, fresh_marks([row], now).get(row.symbol), now)).dict(),
        plan=PlanOut.of(plan) if plan else None,
        legs=[LegOut.of(fill) for fill in closing.order_by("filled_at", "pk")],
        stops=[StopOut.of(order) for order in row.orders.filter(purpose__in=STOPS).order_by("pk")],
        life=[StepOut(at=step.at, code=step.code, detail=step.detail) for step in row.events.all()],
    )


def _move_pct(plan: ExitPlan, price: Decimal) -> Decimal:
    return to_percent(price_move(is_long=plan.is_long, entry_price=plan.entry_price, price=price))
