"""Alerts: one row per cause while it lasts, counted, acknowledged by a person."""

from typing import ClassVar

from django.db import models


class Severity(models.TextChoices):
    """How soon a person must look."""

    INFO = "INFO"
    WARNING = "WARNING"
    CRITICAL = "CRITICAL"


class Alert(models.Model):
    """One thing people must be told. The same cause again raises `count`, never a second row."""

    cause = models.CharField(max_length=200, help_text="Its stable identity, e.g. unprotected:<position>.")
    severity = models.CharField(max_length=8, choices=Severity.choices)
    code = models.CharField(max_length=40)
    message = models.CharField(max_length=500)
    account = models.CharField(max_length=80, blank=True, default="")
    symbol = models.CharField(max_length=40, blank=True, default="")
    count = models.PositiveIntegerField(default=1)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    cleared_at = models.DateTimeField(null=True, blank=True)
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.CharField(max_length=150, blank=True, default="")
    delivered_at = models.DateTimeField(null=True, blank=True)
    delivery_attempts = models.PositiveSmallIntegerField(default=0)
    next_delivery_at = models.DateTimeField(null=True, blank=True, help_text="Not told before this moment.")

    class Meta:
        """At most one standing row per cause."""

        ordering: ClassVar = ["-last_at", "-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["cause"],
                condition=models.Q(cleared_at__isnull=True),
                name="one_standing_alert_per_cause",
            )
        ]

    def __str__(self) -> str:
        """Name the alert by its code and how often it came."""
        return f"{self.code} x{self.count}"
