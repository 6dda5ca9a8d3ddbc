"""Closed hours read ahead of need: what rules will ask of a symbol is there before a decision waits for it.

One place for every account and page. Only the room that a minute's weight leaves to upkeep is used, a few
symbols a tick: the hour of three hundred symbols is worked out within some minutes of its close. Marks come
by the stream; tickers and books live for seconds and are read when they are asked for, once for everybody.
"""

from datetime import datetime

from django.db.models import Max

from exchange.budget import Priority
from exchange.errors import ReadFailed
from exchange.port import Market
from trading.domain.states import OPEN, OrderPurpose, PositionStatus
from trading.models import Order, Position, Signal
from trading.models.signals import SignalAction, SignalStatus
from trading.services import hours, market

SYMBOLS_A_TICK = 30
MOST_WATCHED = 300
MOST_SHOWN = 50


def keep_fresh(now: datetime) -> int:
    """Work out the last closed hour of watched symbols that lack it; how many were read.

    With the exchange away nothing is read, and the next tick asks again.
    """
    try:
        behind = hours.lacking(watched(), now)[:SYMBOLS_A_TICK]
    except ReadFailed:
        return 0
    return len(hours.hours_of(behind, now, Priority.UPKEEP)) if behind else 0


def watched() -> list[str]:
    """The perpetuals somebody may ask about next: held and awaited ones first, then by their best signal."""
    held = Position.objects.filter(status=PositionStatus.OPEN).order_by().values_list("symbol", flat=True)
    awaited = Order.objects.filter(purpose=OrderPurpose.ENTRY, status__in=sorted(OPEN)).order_by()
    at_stake = {*held.distinct(), *awaited.values_list("symbol", flat=True).distinct()}
    perpetuals = {market.symbol_on(symbol, Market.FUTURES) for symbol in at_stake} if at_stake else set()
    first = sorted(symbol for symbol in perpetuals if symbol is not None)
    return list(dict.fromkeys([*first, *_signalled()]))[:MOST_WATCHED]


def _signalled() -> list[str]:
    waiting = Signal.objects.filter(status=SignalStatus.OPEN, action=SignalAction.OPEN).order_by()
    best = waiting.values("symbol").annotate(best=Max("score")).order_by("-best", "symbol")
    return list(best.values_list("symbol", flat=True)[:MOST_WATCHED])
