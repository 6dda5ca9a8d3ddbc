from django.contrib import admin
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import FieldTextFilter, RangeDateTimeFilter
from unfold.decorators import display

from trading.admin.figures import ORDERS, figure, moment, unbroken
from trading.admin.rows import DeskRowsAdmin
from trading.models import Fill, Order


@admin.register(Order)
class OrderAdmin(DeskRowsAdmin):
    """Every attempt to trade: entries, exits and stops."""

    list_display = (
        "made",
        "client_order_id",
        "whose_account",
        "purpose",
        "reason",
        "state",
        "code",
        "market",
        "symbol",
        "side",
        "type",
        "asked",
        "trigger",
        "filled",
        "average",
    )
    list_display_links = ("client_order_id",)
    list_filter = (
        "status",
        "purpose",
        "market",
        "type",
        "side",
        ("symbol", FieldTextFilter),
        ("created_at", RangeDateTimeFilter),
    )
    list_select_related = ("account",)
    search_fields = ("client_order_id", "exchange_order_id", "account__name", "symbol", "code")

    @display(description="Made", ordering="created_at")  # type: ignore[untyped-decorator]  # unfold has no types
    def made(self, order: Order) -> SafeString | str:
        """When its row was written."""
        return moment(order.created_at)

    @display(description="Account", ordering="account__name")  # type: ignore[untyped-decorator]  # unfold has no types
    def whose_account(self, order: Order) -> SafeString:
        """Its name."""
        return unbroken(order.account.name)

    @display(description="State", label=ORDERS, ordering="status")  # type: ignore[untyped-decorator]  # unfold has no types
    def state(self, order: Order) -> str:
        """Where it is between our row and the exchange's book."""
        return order.status

    @display(description="Quantity")  # type: ignore[untyped-decorator]  # unfold has no types
    def asked(self, order: Order) -> str:
        """Base units, or the whole position."""
        return "all" if order.close_position else figure(order.quantity)

    @display(description="Trigger")  # type: ignore[untyped-decorator]  # unfold has no types
    def trigger(self, order: Order) -> str:
        """The price that releases a stop."""
        return figure(order.trigger_price)

    @display(description="Filled")  # type: ignore[untyped-decorator]  # unfold has no types
    def filled(self, order: Order) -> str:
        """Base units executed."""
        return figure(order.filled_quantity)

    @display(description="Average price")  # type: ignore[untyped-decorator]  # unfold has no types
    def average(self, order: Order) -> str:
        """Over its executions."""
        return figure(order.average_price)


@admin.register(Fill)
class FillAdmin(DeskRowsAdmin):
    """Every execution, each known by the exchange's trade id."""

    list_display = (
        "filled",
        "whose_account",
        "market",
        "symbol",
        "side",
        "executed",
        "at_price",
        "cost",
        "fee_asset",
        "is_maker",
        "trade_id",
        "whose",
    )
    list_filter = (
        "market",
        "side",
        "is_maker",
        ("symbol", FieldTextFilter),
        ("filled_at", RangeDateTimeFilter),
    )
    ordering = ("-id",)
    list_select_related = ("account", "order")
    search_fields = ("trade_id", "client_order_id", "exchange_order_id", "account__name", "symbol")

    @display(description="Filled", ordering="filled_at")  # type: ignore[untyped-decorator]  # unfold has no types
    def filled(self, fill: Fill) -> SafeString | str:
        """When it was executed."""
        return moment(fill.filled_at)

    @display(description="Account", ordering="account__name")  # type: ignore[untyped-decorator]  # unfold has no types
    def whose_account(self, fill: Fill) -> SafeString:
        """Its name."""
        return unbroken(fill.account.name)

    @display(description="Quantity")  # type: ignore[untyped-decorator]  # unfold has no types
    def executed(self, fill: Fill) -> str:
        """Base units."""
        return figure(fill.quantity)

    @display(description="Price")  # type: ignore[untyped-decorator]  # unfold has no types
    def at_price(self, fill: Fill) -> str:
        """Quote units."""
        return figure(fill.price)

    @display(description="Fee")  # type: ignore[untyped-decorator]  # unfold has no types
    def cost(self, fill: Fill) -> str:
        """Positive when paid."""
        return figure(fill.fee)

    @display(description="Order", label={"foreign": "danger"})  # type: ignore[untyped-decorator]  # unfold has no types
    def whose(self, fill: Fill) -> str:
        """Which purpose of ours it served."""
        return fill.order.purpose if fill.order else "foreign"
