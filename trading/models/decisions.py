"""Decisions and allocations: what was chosen, why, and each account's known end."""

import uuid
from typing import ClassVar

from django.db import models

from accounts.models import Account
from accounts.rows import Row
from trading.domain.states import AllocationOutcome, DecisionStatus
from trading.models.signals import Signal


class Decision(Row):
    """A choice of one signal, or of none with the reason. A signal leads to at most one decision, ever.

    `mark_price` is the mark the decision was made at; `cap_price` the worst entry any account may pay;
    nothing unsent is sent after `deadline_at`.
    """

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    signal = models.OneToOneField(
        Signal, null=True, blank=True, on_delete=models.PROTECT, related_name="decision"
    )
    status = models.CharField(max_length=8, choices=[(s.value, s.value) for s in DecisionStatus])
    reason = models.CharField(
        max_length=200, blank=True, default="", help_text="Why none was chosen, or who asked."
    )
    is_requested = models.BooleanField(
        default=False, help_text="An operator asked for it: ranking skipped, never the gate."
    )
    candidates = models.JSONField(
        default=list, help_text="Every candidate with its quality parts and its reason."
    )
    considered = models.JSONField(
        default=dict, help_text="How many signals waited, were candidates, and were refused for each reason."
    )
    quality = models.DecimalField(max_digits=6, decimal_places=5, null=True, blank=True)
    confidence = models.DecimalField(max_digits=4, decimal_places=3, null=True, blank=True)
    route_policy = models.CharField(max_length=8, default="all")
    route_step = models.PositiveSmallIntegerField(default=0, help_text="How far a cascade has got.")
    turn = models.PositiveIntegerField(
        default=0, help_text="Counts choices from 1: who starts first moves on with it."
    )
    is_staged = models.BooleanField(
        default=False, help_text="Canary accounts first; the rest once they are acknowledged."
    )
    wave = models.PositiveSmallIntegerField(
        default=1, help_text="Of a staged decision: 1 while the canaries are out, 2 once the rest was let go."
    )
    mark_price = models.DecimalField(max_digits=30, decimal_places=12, null=True, blank=True)
    cap_price = models.DecimalField(max_digits=30, decimal_places=12, null=True, blank=True)
    inputs = models.JSONField(
        default=dict, help_text="Market figures the decision used, each with source and age."
    )
    decided_at = models.DateTimeField(help_text="Desk clock.")
    recorded_at = models.DateTimeField(auto_now_add=True, help_text="Wall clock: latencies count from here.")
    deadline_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)
    stopped_code = models.CharField(
        max_length=40,
        blank=True,
        default="",
        help_text="Why nothing more of it is sent: VENUE_CIRCUIT and its code, a canary's.",
    )
    trace_id = models.CharField(max_length=40, blank=True, default="")

    class Meta:
        """Newest first."""

        ordering: ClassVar = ["-decided_at", "-id"]
        indexes: ClassVar = [models.Index(fields=["status", "deadline_at"], name="decision_by_status")]

    def __str__(self) -> str:
        """Show what was decided."""
        return f"{self.decided_at:%Y-%m-%d %H:%M:%S} {self.status}"

    @property
    def is_demonstration(self) -> bool:
        """Whether a demonstration's signal led to it."""
        return self.signal is not None and self.signal.source.is_demonstration


class Allocation(Row):
    """One account's share of a decision, with exactly one known end."""

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    decision = models.ForeignKey(Decision, on_delete=models.CASCADE, related_name="allocations")
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="allocations")
    outcome = models.CharField(
        max_length=8,
        choices=[(s.value, s.value) for s in AllocationOutcome],
        default=AllocationOutcome.PENDING,
    )
    code = models.CharField(max_length=40, blank=True, default="")
    detail = models.JSONField(default=dict, help_text="The numbers of the refusal or of the sizing.")
    refusals = models.JSONField(
        default=list,
        help_text="Who else was asked and refused: attempt, executor, market, code, numbers.",
    )
    market = models.CharField(max_length=8, blank=True, default="", help_text="The executor that has it now.")
    executor = models.CharField(max_length=9, blank=True, default="", help_text="primary or secondary.")
    quantity = models.DecimalField(max_digits=30, decimal_places=12, null=True, blank=True)
    filled_quantity = models.DecimalField(max_digits=30, decimal_places=12, default=0)
    average_price = models.DecimalField(max_digits=30, decimal_places=12, null=True, blank=True)
    planned_risk = models.DecimalField(max_digits=30, decimal_places=8, null=True, blank=True)
    exit_policy = models.CharField(max_length=8, default="adaptive")
    attempts = models.PositiveSmallIntegerField(default=0)
    place = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        help_text="Its place in the start order of its step, from 1; none: not sent for.",
    )
    wave = models.PositiveSmallIntegerField(
        default=1, help_text="Of a staged decision: 1 a canary, 2 the rest."
    )
    acknowledged_at = models.DateTimeField(
        null=True, blank=True, help_text="Wall clock of the exchange's answer."
    )
    latency_ms = models.PositiveIntegerField(
        null=True, blank=True, help_text="Decision to exchange acknowledgement."
    )
    slippage_bps = models.DecimalField(max_digits=12, decimal_places=4, null=True, blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        """One per decision and account."""

        ordering: ClassVar = ["decision_id", "account_id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["decision", "account"], name="one_allocation_per_account")
        ]

    def __str__(self) -> str:
        """Show whose and how it ended."""
        return f"{self.account_id}: {self.outcome} {self.code}".strip()

    def was_offered_after(self, attempt: int) -> bool:
        """Whether an executor was asked after this attempt and refused, or none was left to ask."""
        return any(refusal["attempt"] > attempt for refusal in self.refusals)
