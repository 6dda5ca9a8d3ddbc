"""Accounts: who trades, through which executors, under which limits, in which health."""

import uuid
from datetime import datetime, timedelta
from typing import ClassVar

from django.db import models

from accounts.rows import Row
from exchange.port import Market

HEARD_FOR = timedelta(seconds=20)
"""A living stream is noted every five seconds, on a proof of the fifteen before."""


class Mode(models.TextChoices):
    """Which money an account moves; it must match the desk's mode to be active."""

    PAPER = "paper"
    TESTNET = "testnet"
    LIVE = "live"


class AccountSource(models.TextChoices):
    """Where an account's keys come from."""

    ENVIRONMENT = "environment"
    DATABASE = "database"


class Health(models.TextChoices):
    """What the last verification found."""

    UNVERIFIED = "UNVERIFIED"
    HEALTHY = "HEALTHY"
    UNHEALTHY = "UNHEALTHY"
    CREDENTIAL_ERROR = "CREDENTIAL_ERROR"


class PositionMode(models.TextChoices):
    """Whether a symbol has one position, or one a side."""

    ONE_WAY = "one-way"
    HEDGE = "hedge"


class MarginMode(models.TextChoices):
    """Whether a position stands on its own margin, or on the whole wallet."""

    ISOLATED = "isolated"
    CROSS = "cross"


class AccountGroup(Row):
    """A name under which limits and halts apply to several accounts."""

    name = models.CharField(max_length=40, unique=True)

    class Meta:
        """Listed by name."""

        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        """Show the name."""
        return self.name


class Tag(Row):
    """A word an operator puts on accounts to find and act on them; it changes no rule."""

    name = models.CharField(max_length=40, unique=True)

    class Meta:
        """Listed by name."""

        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        """Show the word."""
        return self.name


class Account(Row):
    """One real account at one exchange. Never two rows for one: see `key_fingerprint`, `exchange_account_id`.

    Keys are HPKE ciphertext bound to this row's uuid (database accounts) or stay in the environment.
    Money columns are the last successful reading, with its time; a failed reading changes nothing.
    """

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    name = models.CharField(max_length=80, unique=True)
    source = models.CharField(max_length=12, choices=AccountSource.choices, default=AccountSource.DATABASE)
    exchange = models.CharField(max_length=20, default="binance")
    mode = models.CharField(max_length=8, choices=Mode.choices, default=Mode.PAPER)
    group = models.ForeignKey(
        AccountGroup, null=True, blank=True, on_delete=models.PROTECT, related_name="accounts"
    )
    tags = models.ManyToManyField(Tag, blank=True, related_name="accounts")
    time_zone = models.CharField(
        max_length=40, default="UTC", help_text="The zone whose midnight starts its day."
    )
    leverage = models.PositiveSmallIntegerField(
        default=3, help_text="Asked for and read back; a cap on margin use."
    )

    position_mode = models.CharField(
        max_length=7,
        choices=PositionMode.choices,
        default=PositionMode.ONE_WAY,
        help_text="Asked for and read back: one position a symbol, or one a side.",
    )
    margin_mode = models.CharField(
        max_length=8,
        choices=MarginMode.choices,
        default=MarginMode.ISOLATED,
        help_text="Asked for and read back of every symbol.",
    )

    is_enabled = models.BooleanField(
        default=True, help_text="Off: no new entries; exits and monitoring go on."
    )
    is_canary = models.BooleanField(
        default=False, help_text="Goes first in a staged decision; the rest waits for what the exchange says."
    )
    pause_reason = models.CharField(max_length=200, blank=True, default="")
    archived_at = models.DateTimeField(null=True, blank=True)

    key_last4 = models.CharField(max_length=4, blank=True, default="")
    key_fingerprint = models.CharField(max_length=64, unique=True, null=True, blank=True)
    key_id = models.CharField(
        max_length=40, blank=True, default="", help_text="Which HPKE key sealed the secrets."
    )
    api_key_ciphertext = models.BinaryField(null=True, blank=True, editable=False)
    api_secret_ciphertext = models.BinaryField(null=True, blank=True, editable=False)
    passphrase_ciphertext = models.BinaryField(null=True, blank=True, editable=False)
    environment_index = models.PositiveSmallIntegerField(null=True, blank=True, unique=True)
    exchange_account_id = models.CharField(max_length=40, blank=True, default="")

    health = models.CharField(max_length=16, choices=Health.choices, default=Health.UNVERIFIED)
    health_code = models.CharField(max_length=40, blank=True, default="")
    health_message = models.CharField(max_length=300, blank=True, default="")
    verified_at = models.DateTimeField(null=True, blank=True)
    verification_asked_at = models.DateTimeField(
        null=True, blank=True, help_text="When an operator asked for a verification that is still to come."
    )
    permissions = models.CharField(
        max_length=20, blank=True, default="", help_text="SAFE, UNSAFE, NO_IP_LIMIT, UNKNOWN."
    )
    unknown_permissions_accepted = models.BooleanField(default=False)
    is_hedge_mode = models.BooleanField(default=False)
    is_multi_assets = models.BooleanField(default=False)
    clock_offset_ms = models.IntegerField(default=0)

    fresh_at = models.DateTimeField(null=True, blank=True, help_text="When its picture was last proven true.")
    heard_at = models.DateTimeField(
        null=True, blank=True, help_text="When its user stream was last proven alive; none while it is away."
    )
    wallet_balance = models.DecimalField(max_digits=30, decimal_places=8, null=True, blank=True)
    unrealized_profit = models.DecimalField(max_digits=30, decimal_places=8, null=True, blank=True)
    available_balance = models.DecimalField(max_digits=30, decimal_places=8, null=True, blank=True)
    spot_wallet = models.DecimalField(max_digits=30, decimal_places=8, null=True, blank=True)
    spot_available = models.DecimalField(max_digits=30, decimal_places=8, null=True, blank=True)
    balances_at = models.DateTimeField(null=True, blank=True)
    day_started_at = models.DateTimeField(
        null=True, blank=True, help_text="The first reading of its day: what the baseline says."
    )
    day_baseline_equity = models.DecimalField(max_digits=30, decimal_places=8, null=True, blank=True)
    audited_at = models.DateTimeField(
        null=True, blank=True, help_text="When it was last read whole; none: read next."
    )
    income_read_at = models.DateTimeField(null=True, blank=True, help_text="Until when its income is rows.")
    peak_equity = models.DecimalField(
        max_digits=30,
        decimal_places=8,
        null=True,
        blank=True,
        help_text="The highest value ever read, moved by transfers: drawdown is measured from it.",
    )
    peak_at = models.DateTimeField(
        null=True, blank=True, help_text="Until when transfers have moved the peak."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        """One real account is never two rows."""

        ordering: ClassVar = ["name"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["exchange", "mode", "exchange_account_id"],
                condition=~models.Q(exchange_account_id="") & models.Q(archived_at__isnull=True),
                name="one_row_per_real_account",
            )
        ]

    def __str__(self) -> str:
        """Show the name."""
        return self.name

    @property
    def group_name(self) -> str | None:
        """The name of its group, if it is in one."""
        return self.group.name if self.group else None

    @property
    def wants_hedge_mode(self) -> bool:
        """Whether it is to hold one position a side; `is_hedge_mode` is what the exchange said."""
        return self.position_mode == PositionMode.HEDGE

    @property
    def wants_isolated_margin(self) -> bool:
        """Whether its symbols are to be isolated."""
        return self.margin_mode == MarginMode.ISOLATED

    def is_heard(self, now: datetime) -> bool:
        """Whether its user stream, lately proven alive, tells what happens on it."""
        return self.heard_at is not None and now - self.heard_at <= HEARD_FOR


class Executor(Row):
    """An account's way to a market: rank 1 is primary, rank 2 secondary."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="executors")
    market = models.CharField(max_length=8, choices=[(m.value, m.value) for m in Market])
    rank = models.PositiveSmallIntegerField(default=1)
    is_enabled = models.BooleanField(default=True)

    class Meta:
        """One executor per rank and per market."""

        ordering: ClassVar = ["account_id", "rank"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account", "rank"], name="one_executor_per_rank"),
            models.UniqueConstraint(fields=["account", "market"], name="one_executor_per_market"),
        ]

    def __str__(self) -> str:
        """Show rank and market."""
        return f"{'primary' if self.rank == 1 else 'secondary'} {self.market}"


class SymbolSetting(Row):
    """Leverage and margin mode of a symbol as the exchange last read them back."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="symbol_settings")
    symbol = models.CharField(max_length=40)
    leverage = models.PositiveSmallIntegerField()
    is_isolated = models.BooleanField()
    read_at = models.DateTimeField()

    class Meta:
        """One row per account and symbol."""

        ordering: ClassVar = ["account_id", "symbol"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account", "symbol"], name="one_setting_per_symbol")
        ]

    def __str__(self) -> str:
        """Show the symbol and its leverage."""
        return f"{self.symbol} {self.leverage}x"


class LimitOverride(Row):
    """One limit set otherwise: for a group, for an account, or, with neither, for the whole desk."""

    group = models.ForeignKey(
        AccountGroup, null=True, blank=True, on_delete=models.CASCADE, related_name="limits"
    )
    account = models.ForeignKey(
        Account, null=True, blank=True, on_delete=models.CASCADE, related_name="limits"
    )
    name = models.CharField(max_length=60, help_text="A field of the desk's limits, e.g. max_positions.")
    value = models.CharField(max_length=40)
    changed_at = models.DateTimeField(auto_now=True)
    changed_by = models.CharField(max_length=150, blank=True, default="")

    class Meta:
        """One override per limit and owner."""

        ordering: ClassVar = ["name"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["group", "name"], name="one_limit_per_group"),
            models.UniqueConstraint(fields=["account", "name"], name="one_limit_per_account"),
            models.UniqueConstraint(
                fields=["name"],
                condition=models.Q(group__isnull=True, account__isnull=True),
                name="one_limit_of_the_desk",
            ),
            models.CheckConstraint(
                condition=models.Q(group__isnull=True) | models.Q(account__isnull=True),
                name="limit_has_at_most_one_owner",
            ),
        ]

    def __str__(self) -> str:
        """Show the setting."""
        return f"{self.name} = {self.value}"


class DeskLimit(LimitOverride):
    """The rows of `LimitOverride` that are the desk's: with neither group nor account."""

    class Meta:
        """A page of its own in the admin."""

        proxy = True


class LimitChange(Row):
    """One change of one limit: what it was, what it became, who and when. Written once, never changed.

    Owners are kept by name as well: the history outlives a group that was removed.
    """

    scope = models.CharField(max_length=7, choices=[(one, one) for one in ("desk", "group", "account")])
    group = models.ForeignKey(
        AccountGroup, null=True, blank=True, on_delete=models.SET_NULL, related_name="limit_changes"
    )
    account = models.ForeignKey(
        Account, null=True, blank=True, on_delete=models.SET_NULL, related_name="limit_changes"
    )
    owner_name = models.CharField(max_length=80, blank=True, default="")
    name = models.CharField(max_length=60)
    before = models.CharField(max_length=40, blank=True, default="", help_text="Empty: it was not set here.")
    after = models.CharField(
        max_length=40, blank=True, default="", help_text="Empty: it is no longer set here."
    )
    changed_at = models.DateTimeField()
    changed_by = models.CharField(max_length=150)

    class Meta:
        """Newest first."""

        ordering: ClassVar = ["-pk"]

    def __str__(self) -> str:
        """Show the step."""
        return f"{self.name}: {self.before or 'unset'} to {self.after or 'unset'}"


class Breaker(Row):
    """Exchange rejections of entries in a row, by account and (symbol codes) symbol; blocks entries only."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="breakers")
    symbol = models.CharField(max_length=40, blank=True, default="")
    code = models.CharField(max_length=40, blank=True, default="")
    rejections = models.PositiveSmallIntegerField(default=0)
    openings = models.PositiveSmallIntegerField(default=0, help_text="How often in a row: 5, 15, 60 minutes.")
    opened_at = models.DateTimeField(null=True, blank=True)
    open_until = models.DateTimeField(null=True, blank=True)

    class Meta:
        """One breaker per account and symbol."""

        ordering: ClassVar = ["account_id", "symbol"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["account", "symbol"], name="one_breaker_per_account_and_symbol")
        ]

    def __str__(self) -> str:
        """Show where and why."""
        return f"{self.account_id} {self.symbol} {self.code}".strip()
