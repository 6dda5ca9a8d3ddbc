"""What keeps the desk itself honest: halts, ticks taken, equity seen, money flows, tokens, webhooks."""

from typing import ClassVar

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from accounts.models import Account
from accounts.rows import Row
from exchange.port import Market
from trading.domain.states import HaltLevel
from trading.models.signals import SignalSide, SignalSource


class HaltScope(models.TextChoices):
    """What a halt covers."""

    DESK = "desk"
    GROUP = "group"
    ACCOUNT = "account"
    SYMBOL = "symbol"
    VENUE = "venue"


class Halt(Row):
    """A standing order to stop; ends only by an explicit resume (or by itself where a rule says so)."""

    scope = models.CharField(max_length=8, choices=HaltScope.choices)
    target = models.CharField(
        max_length=80, blank=True, default="", help_text="Name of the group, account or symbol."
    )
    level = models.CharField(max_length=13, choices=[(h.value, h.value) for h in HaltLevel])
    code = models.CharField(max_length=40, blank=True, default="", help_text="Why, when a rule raised it.")
    reason = models.CharField(max_length=300)
    raised_by = models.CharField(max_length=150)
    is_automatic = models.BooleanField(default=False)
    raised_at = models.DateTimeField()
    result = models.JSONField(
        default=dict, help_text="Per account: cancelled, closed, residuals, seconds to flat."
    )
    resumed_at = models.DateTimeField(null=True, blank=True)
    resumed_by = models.CharField(max_length=150, blank=True, default="")
    resume_reason = models.CharField(max_length=300, blank=True, default="")

    class Meta:
        """Newest first."""

        ordering: ClassVar = ["-raised_at", "-id"]
        indexes: ClassVar = [models.Index(fields=["resumed_at"], name="halt_by_resumed")]

    def __str__(self) -> str:
        """Show what is halted."""
        return f"{self.level} {self.scope} {self.target}".strip()


class TickSlot(Row):
    """One tick of one job, taken once: two beats or a late message do nothing twice."""

    job = models.CharField(max_length=60)
    slot = models.BigIntegerField()
    taken_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        """A slot is taken once."""

        ordering: ClassVar = ["-slot"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["job", "slot"], name="one_taker_per_tick")]

    def __str__(self) -> str:
        """Show the tick."""
        return f"{self.job} {self.slot}"


class EquitySnapshot(Row):
    """An account's money at a time, as the exchange said it."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="equity_snapshots")
    market = models.CharField(
        max_length=8, choices=[(m.value, m.value) for m in Market], default=Market.FUTURES
    )
    at = models.DateTimeField()
    wallet = models.DecimalField(max_digits=30, decimal_places=8)
    unrealized_profit = models.DecimalField(max_digits=30, decimal_places=8)

    class Meta:
        """One per account, market and time."""

        ordering: ClassVar = ["at"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account", "market", "at"], name="one_snapshot_per_time")
        ]
        indexes: ClassVar = [models.Index(fields=["at"], name="equity_by_time")]

    def __str__(self) -> str:
        """Show when and how much."""
        return f"{self.at:%Y-%m-%d %H:%M:%S} {self.wallet + self.unrealized_profit}"


class Income(Row):
    """A money movement at the exchange that is not a fill: funding, transfer, insurance, other."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="incomes")
    position = models.ForeignKey("trading.Position", null=True, blank=True, on_delete=models.SET_NULL)
    income_id = models.CharField(max_length=60)
    kind = models.CharField(max_length=30)
    asset = models.CharField(max_length=20)
    quantity = models.DecimalField(max_digits=30, decimal_places=12)
    symbol = models.CharField(max_length=40, blank=True, default="")
    at = models.DateTimeField()

    class Meta:
        """One row per movement."""

        ordering: ClassVar = ["at", "id"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account", "kind", "income_id"], name="one_row_per_income")
        ]

    def __str__(self) -> str:
        """Show the movement."""
        return f"{self.kind} {self.quantity} {self.asset}"


class ApiToken(Row):
    """A bearer token of the API, stored as a hash; `scopes` of signals:write, read, trade, admin."""

    name = models.CharField(max_length=80, unique=True)
    prefix = models.CharField(max_length=12)
    token_hash = models.CharField(max_length=64, unique=True)
    scopes = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        """Listed by name."""

        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        """Show the name, never the token."""
        return f"{self.name} ({self.prefix}...)"


class Webhook(Row):
    """An address TradingView posts alerts to. It opens with its path and its token, both stored as hashes.

    It may do one thing: submit signals of its one source. What narrows it holds for entries alone.
    """

    name = models.CharField(max_length=80, unique=True)
    source = models.ForeignKey(SignalSource, on_delete=models.PROTECT, related_name="webhooks")
    path_start = models.CharField(max_length=6, help_text="How its address begins, to know it again.")
    path_hash = models.CharField(max_length=64, unique=True)
    token_hash = models.CharField(max_length=64)
    symbols = models.CharField(
        max_length=1000,
        blank=True,
        default="",
        help_text="Entries it may ask for, apart by blanks; empty: all.",
    )
    side = models.CharField(
        max_length=5,
        choices=SignalSide.choices,
        blank=True,
        default="",
        help_text="The only side it may enter; empty: both.",
    )
    max_age_seconds = models.PositiveIntegerField(
        default=120,
        validators=[MinValueValidator(10), MaxValueValidator(3600)],
        help_text="How old an alert may be that asks for an entry.",
    )
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField(auto_now_add=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    refused_count = models.PositiveIntegerField(default=0)
    refused_at = models.DateTimeField(null=True, blank=True)
    refused_why = models.CharField(max_length=300, blank=True, default="")

    class Meta:
        """Listed by name."""

        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        """Show the name, never a secret."""
        return self.name
