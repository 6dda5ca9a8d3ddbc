"""Orders and fills: committed before the network is touched, moved by compare-and-set only."""

import uuid
from typing import ClassVar

from django.db import models

from accounts.models import Account
from accounts.rows import Row
from exchange.port import Market, OrderSide, OrderType
from trading.domain.states import OPEN, OrderPurpose, OrderStatus
from trading.models.decisions import Allocation
from trading.models.positions import Position


class Order(Row):
    """One attempt to trade. `client_order_id` is ours and unique for ever.

    `fence` rises with every claim; a write carries the fence of its claim, so a former owner's late
    write changes nothing. `request_timestamp_ms` is the wall clock committed before the bytes leave and
    sent with them: the exchange itself refuses a late request. `due_at` is when the sweeper looks again.
    """

    uuid = models.UUIDField(default=uuid.uuid4, unique=True, editable=False)
    client_order_id = models.CharField(max_length=32, unique=True)
    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="orders")
    allocation = models.ForeignKey(
        Allocation, null=True, blank=True, on_delete=models.PROTECT, related_name="orders"
    )
    position = models.ForeignKey(
        Position, null=True, blank=True, on_delete=models.PROTECT, related_name="orders"
    )
    purpose = models.CharField(max_length=12, choices=[(p.value, p.value) for p in OrderPurpose])
    reason = models.CharField(max_length=14, blank=True, default="", help_text="Why an exit was ordered.")
    legs = models.JSONField(default=list, help_text="Indexes of the harvest legs this order closes.")
    executor = models.CharField(max_length=9, blank=True, default="")
    market = models.CharField(max_length=8, choices=[(m.value, m.value) for m in Market])
    symbol = models.CharField(max_length=40)
    base = models.CharField(max_length=20)
    side = models.CharField(max_length=4, choices=[(s.value, s.value) for s in OrderSide])
    type = models.CharField(max_length=12, choices=[(t.value, t.value) for t in OrderType])
    quantity = models.DecimalField(max_digits=30, decimal_places=12, null=True, blank=True)
    price = models.DecimalField(max_digits=30, decimal_places=12, null=True, blank=True)
    trigger_price = models.DecimalField(max_digits=30, decimal_places=12, null=True, blank=True)
    reduce_only = models.BooleanField(default=False)
    close_position = models.BooleanField(default=False)
    position_side = models.CharField(max_length=5, blank=True, default="")
    attempt = models.PositiveIntegerField(default=1)

    status = models.CharField(
        max_length=16, choices=[(s.value, s.value) for s in OrderStatus], default=OrderStatus.PENDING
    )
    code = models.CharField(
        max_length=40, blank=True, default="", help_text="The exchange's or our code of its end."
    )
    message = models.CharField(max_length=300, blank=True, default="")
    fence = models.PositiveIntegerField(default=0)
    claimed_by = models.UUIDField(null=True, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True, help_text="Wall clock.")
    request_timestamp_ms = models.BigIntegerField(null=True, blank=True, help_text="Wall clock, as sent.")
    looks = models.PositiveSmallIntegerField(
        default=0, help_text="Successful looks in both stores that found nothing."
    )
    first_look_at = models.DateTimeField(null=True, blank=True, help_text="Wall clock.")
    due_at = models.DateTimeField(
        null=True, blank=True, help_text="Wall clock: when the sweeper looks again."
    )
    unknown_since = models.DateTimeField(null=True, blank=True, help_text="Wall clock.")
    deadline_at = models.DateTimeField(null=True, blank=True, help_text="Desk clock; entries only.")

    exchange_order_id = models.CharField(max_length=40, blank=True, default="")
    triggered_order_id = models.CharField(max_length=40, blank=True, default="")
    filled_quantity = models.DecimalField(max_digits=30, decimal_places=12, default=0)
    average_price = models.DecimalField(max_digits=30, decimal_places=12, null=True, blank=True)
    fills_complete = models.BooleanField(default=False, help_text="Every fill the exchange reports is a row.")
    is_seen = models.BooleanField(default=False, help_text="A resting order seen in a stream or a list.")
    reserved_margin = models.DecimalField(max_digits=30, decimal_places=8, default=0)
    reserved_risk = models.DecimalField(max_digits=30, decimal_places=8, default=0)
    reserved_notional = models.DecimalField(max_digits=30, decimal_places=8, default=0)

    created_at = models.DateTimeField(help_text="Desk clock.")
    submitted_at = models.DateTimeField(null=True, blank=True, help_text="Wall clock.")
    acknowledged_at = models.DateTimeField(null=True, blank=True, help_text="Wall clock.")
    finished_at = models.DateTimeField(null=True, blank=True, help_text="Desk clock.")
    trace_id = models.CharField(max_length=40, blank=True, default="")

    class Meta:
        """One closer per position; one live attempt per allocation."""

        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["position"],
                condition=models.Q(purpose="EXIT", status__in=sorted(OPEN)),
                name="one_closer_per_position",
            ),
            models.UniqueConstraint(
                fields=["allocation"],
                condition=models.Q(purpose="ENTRY", status__in=sorted(OPEN)),
                name="one_live_attempt_per_allocation",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["status", "due_at"], name="order_by_due"),
            models.Index(fields=["account", "symbol", "status"], name="order_by_account_symbol"),
            models.Index(fields=["claimed_by"], name="order_by_claim"),
        ]

    def __str__(self) -> str:
        """Show what it is and where it stands."""
        return f"{self.client_order_id} {self.purpose} {self.status}"

    @property
    def is_conditional(self) -> bool:
        """Whether it rests in the conditional store."""
        return self.type in {OrderType.STOP_MARKET, OrderType.STOP_LIMIT}


class ForeignOrder(Row):
    """An open order that is not ours, as an account's stream or an audit last showed it.

    Never touched: while it rests, its coin is closed to entries of the account, for it may fill any moment.
    """

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="foreign_orders")
    market = models.CharField(max_length=8, choices=[(m.value, m.value) for m in Market])
    symbol = models.CharField(max_length=40)
    base = models.CharField(max_length=20)
    client_order_id = models.CharField(max_length=64)
    seen_at = models.DateTimeField()

    class Meta:
        """One row an order."""

        ordering: ClassVar = ["account_id", "symbol"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["account", "market", "client_order_id"], name="one_row_per_foreign_order"
            )
        ]

    def __str__(self) -> str:
        """Show where it rests."""
        return f"{self.symbol} {self.client_order_id}"


class Fill(Row):
    """One execution, known by the exchange's trade id; the same fill from two roads is one row."""

    account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="fills")
    order = models.ForeignKey(Order, null=True, blank=True, on_delete=models.PROTECT, related_name="fills")
    position = models.ForeignKey(
        Position, null=True, blank=True, on_delete=models.PROTECT, related_name="fills"
    )
    market = models.CharField(max_length=8, choices=[(m.value, m.value) for m in Market])
    symbol = models.CharField(max_length=40)
    trade_id = models.CharField(max_length=40)
    exchange_order_id = models.CharField(max_length=40)
    client_order_id = models.CharField(max_length=64, blank=True, default="")
    side = models.CharField(max_length=4, choices=[(s.value, s.value) for s in OrderSide])
    price = models.DecimalField(max_digits=30, decimal_places=12)
    quantity = models.DecimalField(max_digits=30, decimal_places=12)
    fee = models.DecimalField(max_digits=30, decimal_places=12, default=0)
    fee_asset = models.CharField(max_length=20, blank=True, default="")
    realized_profit = models.DecimalField(max_digits=30, decimal_places=12, default=0)
    is_maker = models.BooleanField(default=False)
    position_side = models.CharField(
        max_length=5,
        blank=True,
        default="",
        help_text="LONG or SHORT in hedge mode: what it opened or closed.",
    )
    filled_at = models.DateTimeField()

    class Meta:
        """One row per trade id."""

        ordering: ClassVar = ["filled_at", "id"]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["account", "market", "symbol", "trade_id"], name="one_fill_per_trade_id"
            )
        ]

    def __str__(self) -> str:
        """Show the execution."""
        return f"{self.side} {self.quantity} {self.symbol} @ {self.price}"
