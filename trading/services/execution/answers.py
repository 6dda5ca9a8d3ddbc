"""What came back for one order: a report or an error, and the executions behind it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from django.utils import timezone

from exchange.errors import GatewayError
from exchange.port import FillReport, OrderReport
from trading.models import Order


@dataclass(slots=True)
class Answer:
    """One order's answer: exactly one of `report` and `error`. `at` is the wall clock of its arrival."""

    order: Order
    report: OrderReport | None = None
    error: GatewayError | None = None
    fills: Sequence[FillReport] = ()
    at: datetime = field(default_factory=timezone.now)

    @property
    def has_all_fills(self) -> bool:
        """Whether the executions add up to what the report says was filled."""
        if self.report is None:
            return False
        return sum((fill.quantity for fill in self.fills), Decimal(0)) >= self.report.filled_quantity
