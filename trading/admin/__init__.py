from trading.admin.accounts import DeskAccountAdmin
from trading.admin.decisions import DecisionAdmin
from trading.admin.operations import ApiTokenAdmin, HaltAdmin
from trading.admin.orders import FillAdmin, OrderAdmin
from trading.admin.positions import PositionAdmin
from trading.admin.schedules import DeskPeriodicTaskAdmin
from trading.admin.signals import SignalAdmin, SignalSourceAdmin
from trading.admin.webhooks import WebhookAdmin

__all__ = [
    "ApiTokenAdmin",
    "DecisionAdmin",
    "DeskAccountAdmin",
    "DeskPeriodicTaskAdmin",
    "FillAdmin",
    "HaltAdmin",
    "OrderAdmin",
    "PositionAdmin",
    "SignalAdmin",
    "SignalSourceAdmin",
    "WebhookAdmin",
]
