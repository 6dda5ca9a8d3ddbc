"""Positions: the net of fills, with the plan that will end them and the proof of their stop."""

import uuid
from typing import ClassVar

from django.db import models

from accounts.models import Account
from accounts.rows import Row
from exchange.port import Market
from trading.domain.states import CloseReason, PositionStatus, Protection
from trading.models.decisions import Allocation


class Position(Row):
    """One open or closed position of an account on one market symbol and side.

    `quantity` is what is open now, `initial_quantity` all that was ever entered; both positive.
    `plan` is the exit plan as `trading.domain.exit_plan` serialises it; `stop_price` its current stop.
    `check_at` is when something is due to be looked at even without a price tick.
    """

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="positions")
    allocation = models.ForeignKey(
        Allocation, null=True, blank=True, on_delete=models.PROTECT, related_name="positions"
    )
    market = models.CharField(max_length=8, choices=[(m.value, m.value) for m in Market])
    symbol = models.CharField(max_length=40)
    base = models.CharField(max_length=20)
    is_long = models.BooleanField()
    status = models.CharField(
        max_length=6, choices=[(s.value, s.value) for s in PositionStatus], default=PositionStatus.OPEN
    )
    is_foreign = models.BooleanField(
        default=False, help_text="Not opened by the desk: shown, alerted, never closed."
    )
    leverage = models.PositiveSmallIntegerField(default=1)
    quantity = models.DecimalField(max_digits=30, decimal_places=12)
    initial_quantity = models.DecimalField(max_digits=30, decimal_places=12)
    entry_price = models.DecimalField(max_digits=30, decimal_places=12)
    exit_price = models.DecimalField(max_digits=30, decimal_places=12, null=True, blank=True)
    realized_profit = models.DecimalField(max_digits=30, decimal_places=8, default=0)
    fees = models.DecimalField(max_digits=30, decimal_places=8, default=0)
    funding = models.DecimalField(max_digits=30, decimal_places=8, default=0)
    planned_risk = models.DecimalField(max_digits=30, decimal_places=8, null=True, blank=True)
    plan = models.JSONField(default=dict)
    stop_price = models.DecimalField(max_digits=30, decimal_places=12, null=True, blank=True)
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True, blank=True)
    close_reason = models.CharField(
        max_length=14, choices=[(s.value, s.value) for s in CloseReason], blank=True, default=""
    )
    closing_for = models.CharField(
        max_length=14, blank=True, default="", help_text="Why it must be flat now; kept until it is."
    )
    reduction = models.JSONField(
        default=dict, help_text="What must still be sold of it: quantity, legs, reason; kept until it is."
    )
    foreign_quantity = models.DecimalField(
        max_digits=30,
        decimal_places=12,
        default=0,
        help_text="Held on the same symbol by someone else's fills.",
    )
    protection = models.CharField(
        max_length=11, choices=[(s.value, s.value) for s in Protection], default=Protection.UNPROTECTED
    )
    unprotected_since = models.DateTimeField(null=True, blank=True)
    unprotected_seconds = models.DecimalField(max_digits=12, decimal_places=3, default=0)
    acked_at = models.DateTimeField(
        null=True, blank=True, help_text="Since when a stop is accepted but not seen."
    )
    verified_at = models.DateTimeField(null=True, blank=True)
    crossed_at = models.DateTimeField(
        null=True, blank=True, help_text="When the mark was first past its stop."
    )
    check_at = models.DateTimeField(null=True, blank=True)
    updated_at = models.DateTimeField(
        auto_now=True, db_index=True, help_text="Wall clock: the watcher reads what moved."
    )
    trace_id = models.CharField(max_length=40, blank=True, default="")

    class Meta:
        """One open position per account, market symbol and side."""

        ordering: ClassVar = ["-opened_at", "-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["account", "market", "symbol", "is_long"],
                condition=models.Q(status="OPEN"),
                name="one_open_position_per_side",
            )
        ]
        indexes: ClassVar = [
            models.Index(fields=["status", "check_at"], name="position_by_due_check"),
            models.Index(fields=["id"], condition=models.Q(status="OPEN"), name="open_position_by_id"),
        ]

    def __str__(self) -> str:
        """Show whose and what."""
        return f"{self.account_id} {'LONG' if self.is_long else 'SHORT'} {self.quantity} {self.symbol}"

    @property
    def is_saved(self) -> bool:
        """Whether it is a row already."""
        return not self._state.adding

    @property
    def is_closing(self) -> bool:
        """Whether an exit is wanted, of the whole or of a part."""
        return bool(self.closing_for or self.reduction)

    @property
    def exit_reason(self) -> str:
        """Why; a whole close outranks a part."""
        return self.closing_for or str(self.reduction.get("reason", ""))


class PositionEvent(Row):
    """One step in a position's life, for its timeline: opened, protected, harvested, stop moved, closed."""

    position = models.ForeignKey(Position, on_delete=models.CASCADE, related_name="events")
    at = models.DateTimeField()
    code = models.CharField(max_length=40)
    detail = models.JSONField(default=dict)

    class Meta:
        """In order of time."""

        ordering: ClassVar = ["at", "id"]

    def __str__(self) -> str:
        """Show the step."""
        return self.code
