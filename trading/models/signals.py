"""Signals: advice from a source, one row for ever per source and external id."""

import uuid
from typing import ClassVar

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from accounts.rows import Row


class SignalSide(models.TextChoices):
    """Which way the advice points."""

    LONG = "LONG"
    SHORT = "SHORT"


class SignalAction(models.TextChoices):
    """What the advice asks: open, close what the source opened, or cancel before it is decided."""

    OPEN = "open"
    CLOSE = "close"
    CANCEL = "cancel"


class SignalStatus(models.TextChoices):
    """Where a signal stands."""

    OPEN = "OPEN"
    DECIDED = "DECIDED"
    DUPLICATE = "DUPLICATE"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"
    DONE = "DONE"  # a close or cancel that was carried out


class SignalSource(Row):
    """Who sends signals. A demonstration source marks everything it leads to."""

    name = models.CharField(max_length=60, unique=True)
    is_active = models.BooleanField(default=True)
    is_demonstration = models.BooleanField(default=False)
    weight = models.DecimalField(
        max_digits=4,
        decimal_places=3,
        default=1,
        validators=[MinValueValidator(0), MaxValueValidator(1)],
        help_text="What its word counts, 0 to 1: multiplies the score in ranking and quality.",
    )
    note = models.CharField(
        max_length=200, blank=True, default="", help_text="What it says when it is silent."
    )
    note_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        """Listed by name; no word counts more than what it says."""

        ordering: ClassVar = ["name"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(weight__gte=0) & models.Q(weight__lte=1), name="weight_is_a_share"
            )
        ]

    def __str__(self) -> str:
        """Show the name."""
        return self.name


class Signal(Row):
    """One piece of advice. `external_id` is unique per source: the same again is the same row."""

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    source = models.ForeignKey(SignalSource, on_delete=models.PROTECT, related_name="signals")
    external_id = models.CharField(max_length=100)
    symbol = models.CharField(max_length=40, help_text="ccxt unified perpetual symbol.")
    side = models.CharField(max_length=5, choices=SignalSide.choices)
    action = models.CharField(max_length=6, choices=SignalAction.choices, default=SignalAction.OPEN)
    score = models.DecimalField(max_digits=6, decimal_places=5)
    entry_price = models.DecimalField(max_digits=30, decimal_places=12, null=True, blank=True)
    stop_price = models.DecimalField(max_digits=30, decimal_places=12, null=True, blank=True)
    take_profit_price = models.DecimalField(max_digits=30, decimal_places=12, null=True, blank=True)
    created_at = models.DateTimeField(help_text="When the source made it.")
    received_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    status = models.CharField(max_length=10, choices=SignalStatus.choices, default=SignalStatus.OPEN)
    note = models.CharField(max_length=200, blank=True, default="")
    trace_id = models.CharField(max_length=40, blank=True, default="")

    class Meta:
        """One row per source and external id."""

        ordering: ClassVar = ["-received_at", "-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["source", "external_id"], name="one_signal_per_external_id")
        ]
        indexes: ClassVar = [models.Index(fields=["status", "-score"], name="signal_by_status_and_score")]

    def __str__(self) -> str:
        """Show what it says."""
        return f"{self.side} {self.symbol} {self.score}"

    @property
    def is_long(self) -> bool:
        """Whether it advises a long."""
        return self.side == SignalSide.LONG
