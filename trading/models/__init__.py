"""The rows of trading: the only truth; Celery is the doorbell."""

from trading.models.decisions import Allocation, Decision
from trading.models.operations import ApiToken, EquitySnapshot, Halt, Income, TickSlot, Webhook
from trading.models.orders import Fill, ForeignOrder, Order
from trading.models.positions import Position, PositionEvent
from trading.models.signals import Signal, SignalSource
from trading.models.watchers import WatcherProcess

__all__ = [
    "Allocation",
    "ApiToken",
    "Decision",
    "EquitySnapshot",
    "Fill",
    "ForeignOrder",
    "Halt",
    "Income",
    "Order",
    "Position",
    "PositionEvent",
    "Signal",
    "SignalSource",
    "TickSlot",
    "WatcherProcess",
    "Webhook",
]
