from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from desk.access import for_operators
from desk.board import read_board, read_decision
from trading.domain import exit_plan
from trading.domain.states import DecisionStatus
from trading.models import Decision, Position
from trading.services.equity_curve import read_curve
from trading.services.fan_outs import read_steps, route_of
from trading.services.prices import seen_marks
from trading.services.readings import read_position
from trading.services.status import read_status

CURVE = timedelta(hours=24)


@require_GET
@never_cache
@for_operators
def board(request: HttpRequest) -> HttpResponse:
    """The desk page."""
    shown = read_board(settings.CLOCK.now())
    return render(request, "desk/board.html", {"board": shown, "status": shown.status})


@require_GET
@never_cache
@for_operators
def live(request: HttpRequest) -> HttpResponse:
    """The parts of the desk page that change, each replacing its own place."""
    shown = read_board(settings.CLOCK.now())
    return render(request, "desk/live.html", {"board": shown, "status": shown.status, "is_update": True})


@require_GET
@never_cache
@for_operators
def equity(_: HttpRequest) -> HttpResponse:
    """The equity of the last day as points of seconds and value, for the chart."""
    now = settings.CLOCK.now()
    points = read_curve(now - CURVE, now)
    return JsonResponse(
        {"points": [{"time": int(point.at.timestamp()), "value": float(point.equity)} for point in points]}
    )


@require_GET
@never_cache
@for_operators
def decision(request: HttpRequest, decision_id: UUID) -> HttpResponse:
    """One decision: why it was made, and what became of it on every account."""
    row = get_object_or_404(Decision.objects.select_related("signal__source"), uuid=decision_id)
    shares = list(row.allocations.select_related("account").order_by("outcome", "code", "account__name"))
    steps = read_steps(shares)
    return render(
        request,
        "desk/decision.html",
        {
            "status": read_status(settings.CLOCK.now()),
            "decision": row,
            "reading": read_decision(row),
            "route": route_of(row),
            "ledger": [(share, steps[share.pk]) for share in shares],
            "is_open": row.status == DecisionStatus.OPEN,
        },
    )


@require_GET
@never_cache
@for_operators
def position(request: HttpRequest, position_id: UUID) -> HttpResponse:
    """One position: its figures, its plan, and each step of its life."""
    rows = Position.objects.select_related("account", "allocation__decision__signal")
    row = get_object_or_404(rows, uuid=position_id)
    now = settings.CLOCK.now()
    return render(
        request,
        "desk/position.html",
        {
            "status": read_status(now),
            "plan": exit_plan.from_json(row.plan) if row.plan else None,
            "reading": read_position(row, seen_marks([row]).get(row.symbol), now),
            "events": row.events.all(),
            "orders": row.orders.order_by("pk"),
            "fills": row.fills.select_related("order").order_by("filled_at", "pk"),
        },
    )
