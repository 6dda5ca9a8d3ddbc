from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts.models import Account
from desk.access import for_operators
from desk.board import read_account, read_board, read_decision, read_looks
from desk.chart import draw
from exchange.errors import ReadFailed
from trading.domain.states import DecisionStatus
from trading.models import Decision, Position
from trading.services import market_upkeep
from trading.services.candle_window import candle_window
from trading.services.desk_exposure import read_desk_exposure
from trading.services.equity_curve import read_curve
from trading.services.fan_outs import read_steps, route_of
from trading.services.market import MarketFigures
from trading.services.market import figures as read_figures
from trading.services.position_story import read_story, watched_symbol
from trading.services.prices import seen_marks
from trading.services.readings import read_position
from trading.services.status import read_status
from trading.services.why import read_why

CURVE = timedelta(hours=24)
LONGEST_NUMBER = 18


@require_safe
@never_cache
@for_operators
def board(request: HttpRequest) -> HttpResponse:
    """The desk page."""
    shown = read_board(settings.CLOCK.now())
    return render(request, "desk/board.html", {"board": shown, "status": shown.status})


@require_safe
@never_cache
@for_operators
def live(request: HttpRequest) -> HttpResponse:
    """The parts of the desk page that change, each replacing its own place."""
    shown = read_board(settings.CLOCK.now())
    return render(request, "desk/live.html", {"board": shown, "status": shown.status, "is_update": True})


@require_safe
@never_cache
@for_operators
def equity(_: HttpRequest) -> HttpResponse:
    """The equity of the last day as points of seconds and value, for the chart."""
    now = settings.CLOCK.now()
    points = read_curve(now - CURVE, now)
    return JsonResponse(
        {"points": [{"time": int(point.at.timestamp()), "value": float(point.equity)} for point in points]}
    )


@require_safe
@never_cache
@for_operators
def account(request: HttpRequest, account_id: UUID) -> HttpResponse:
    """One account: its day, its circuits, and every limit with who set it."""
    rows = Account.objects.select_related("group").prefetch_related("tags")
    row, now = get_object_or_404(rows, uuid=account_id), settings.CLOCK.now()
    return render(request, "desk/account.html", {"status": read_status(now), **read_account(row, now)})


@require_safe
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


@require_safe
@never_cache
@for_operators
def looks(request: HttpRequest) -> HttpResponse:
    """Every look for a signal, newest first: what was chosen, or why nothing was."""
    before = request.GET.get("before", "")[:LONGEST_NUMBER]
    only_none = request.GET.get("only") == "none"
    found = read_looks(int(before) if before.isdecimal() else None, only_none=only_none)
    shown = {"status": read_status(settings.CLOCK.now()), "looks": found, "only_none": only_none}
    return render(request, "desk/looks.html", shown)


@require_safe
@never_cache
@for_operators
def market(request: HttpRequest) -> HttpResponse:
    """What is known of each coin the desk may be asked about, with source and age."""
    now = settings.CLOCK.now()
    found, failure = _read_market(now)
    return render(
        request, "desk/market.html", {"status": read_status(now), "figures": found, "failure": failure}
    )


def _read_market(now: datetime) -> tuple[list[MarketFigures], str]:
    try:
        symbols = market_upkeep.watched()[: market_upkeep.MOST_SHOWN]
        return list(read_figures(symbols, now).values()), ""
    except ReadFailed as failed:
        return [], str(failed)


@require_safe
@never_cache
@for_operators
def exposure(request: HttpRequest) -> HttpResponse:
    """What the desk has at stake by coin, side and account, and how its coins move together."""
    now = settings.CLOCK.now()
    return render(
        request, "desk/exposure.html", {"status": read_status(now), "exposure": read_desk_exposure(now)}
    )


@require_safe
@never_cache
@for_operators
def why(request: HttpRequest, account_id: UUID) -> HttpResponse:
    """What the gate would tell one account now, rule by rule."""
    account = get_object_or_404(Account.objects.select_related("group"), uuid=account_id)
    now = settings.CLOCK.now()
    symbol, side = request.GET.get("symbol", "")[:40], request.GET.get("side", "LONG")
    shown: dict[str, object] = {
        "status": read_status(now),
        "account": account,
        "symbol": symbol,
        "side": side,
    }
    try:
        shown["why"] = read_why(account, now, symbol, side)
    except (ReadFailed, ValueError) as failed:
        shown["failure"] = str(failed)
    return render(request, "desk/why.html", shown)


@require_safe
@never_cache
@for_operators
def position(request: HttpRequest, position_id: UUID) -> HttpResponse:
    """One position: its figures, a chart of its price and levels, its plan, its life and its protection."""
    rows = Position.objects.select_related("account", "allocation__decision__signal")
    row = get_object_or_404(rows, uuid=position_id)
    now = settings.CLOCK.now()
    story, mark = read_story(row, now), seen_marks([row]).get(row.symbol)
    window = candle_window(watched_symbol(row), story.since, story.until, now)
    return render(
        request,
        "desk/position.html",
        {
            "status": read_status(now),
            "plan": story.plan,
            "reading": read_position(row, mark, now),
            "story": story,
            "candles": window,
            "charts": draw(story, window, mark.mark_price if mark else None),
            "orders": row.orders.order_by("pk"),
            "fills": row.fills.select_related("order").order_by("filled_at", "pk"),
        },
    )
