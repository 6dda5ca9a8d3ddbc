from typing import Any

from django.conf import settings
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import FieldTextFilter
from unfold.decorators import display

from trading.admin.figures import NOT_KNOWN, PROTECTIONS, SIDES, figure, money, percent, unbroken
from trading.admin.rows import DeskRowsAdmin, DeskRowsInline, LongList
from trading.domain.states import CloseReason, PositionStatus
from trading.models import Order, Position, PositionEvent
from trading.services.bells import Bells
from trading.services.intents import intend_close
from trading.services.prices import seen_marks
from trading.services.readings import PositionReading, read_position, read_positions
from trading.tasks import ring


class ReadingList(LongList):
    """The list with each position against the mark, read for the whole page at once."""

    def get_results(self, request: HttpRequest) -> None:
        """Read the page's rows, then their marks."""
        super().get_results(request)
        shown: list[Any] = list(self.result_list)
        readings = read_positions(shown, seen_marks(shown), settings.CLOCK.now())
        for position, reading in zip(shown, readings, strict=True):
            position.reading = reading
        self.result_list = shown


class EventInline(DeskRowsInline):
    """Each step of its life."""

    model = PositionEvent
    verbose_name_plural = "Its life"
    fields = readonly_fields = ("at", "code", "detail")


class PositionOrderInline(DeskRowsInline):
    """Its exits and stops."""

    model = Order
    verbose_name_plural = "Exits and stops"
    fields = readonly_fields = (
        "created_at",
        "client_order_id",
        "purpose",
        "reason",
        "status",
        "code",
        "trigger_price",
        "filled_quantity",
        "average_price",
    )


@admin.register(Position)
class PositionAdmin(DeskRowsAdmin):
    """Positions with their three percentages, the distance to the stop and the proof of protection."""

    list_display = (
        "whose_account",
        "side_badge",
        "symbol",
        "protection_badge",
        "state",
        "price_move",
        "roe",
        "equity",
        "unrealised",
        "to_the_stop",
        "open_quantity",
        "entry",
        "price",
        "stop",
        "page",
    )
    list_display_links = ("whose_account", "symbol")
    list_filter = (
        "status",
        "protection",
        "market",
        "is_long",
        "close_reason",
        "is_foreign",
        ("symbol", FieldTextFilter),
    )
    list_select_related = ("account",)
    search_fields = ("account__name", "symbol")
    ordering = ("-id",)
    actions = ["close_selected"]
    inlines = [EventInline, PositionOrderInline]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ReadingList]:  # noqa: ARG002 - Django's signature
        """The list that reads marks."""
        return ReadingList

    @display(description="Account", ordering="account__name")  # type: ignore[untyped-decorator]  # unfold has no types
    def whose_account(self, position: Position) -> SafeString:
        """Its name."""
        return unbroken(position.account.name)

    @display(description="Side", label=SIDES, ordering="is_long")  # type: ignore[untyped-decorator]  # unfold has no types
    def side_badge(self, position: Position) -> str:
        """Long or short."""
        return "LONG" if position.is_long else "SHORT"

    @display(description="Quantity")  # type: ignore[untyped-decorator]  # unfold has no types
    def open_quantity(self, position: Position) -> str:
        """Base units open now."""
        return figure(position.quantity)

    @display(description="Entry")  # type: ignore[untyped-decorator]  # unfold has no types
    def entry(self, position: Position) -> str:
        """The average entry."""
        return figure(position.entry_price.normalize())

    @display(description="Mark or exit")  # type: ignore[untyped-decorator]  # unfold has no types
    def price(self, position: Position) -> str:
        """What the percentages are against."""
        return figure(_reading(position).price)

    @display(description="Price move")  # type: ignore[untyped-decorator]  # unfold has no types
    def price_move(self, position: Position) -> str:
        """Against the entry."""
        return percent(_reading(position).price_move_pct)

    @display(description="ROE")  # type: ignore[untyped-decorator]  # unfold has no types
    def roe(self, position: Position) -> str:
        """On the margin used."""
        return percent(_reading(position).roe_pct)

    @display(description="Equity")  # type: ignore[untyped-decorator]  # unfold has no types
    def equity(self, position: Position) -> str:
        """On the account's equity."""
        return percent(_reading(position).equity_pct)

    @display(description="Unrealised")  # type: ignore[untyped-decorator]  # unfold has no types
    def unrealised(self, position: Position) -> str:
        """Quote units."""
        return money(_reading(position).unrealized_profit)

    @display(description="Stop")  # type: ignore[untyped-decorator]  # unfold has no types
    def stop(self, position: Position) -> str:
        """The plan's stop."""
        return figure(position.stop_price)

    @display(description="To the stop")  # type: ignore[untyped-decorator]  # unfold has no types
    def to_the_stop(self, position: Position) -> str:
        """How far the mark may still go, as a price move."""
        reading = _reading(position)
        return "crossed" if reading.is_stop_crossed else percent(reading.distance_to_stop_pct)

    @display(description="Protection", label=PROTECTIONS, ordering="protection")  # type: ignore[untyped-decorator]  # unfold has no types
    def protection_badge(self, position: Position) -> str:
        """How sure the stop at the exchange is; only VERIFIED was seen there."""
        return position.protection if position.status == PositionStatus.OPEN else NOT_KNOWN

    @display(description="State", ordering="status")  # type: ignore[untyped-decorator]  # unfold has no types
    def state(self, position: Position) -> str:
        """Open, closing or closed, with the reason."""
        if position.closing_for and position.status == PositionStatus.OPEN:
            return f"closing: {position.closing_for}"
        return f"{position.status} {position.close_reason}".strip()

    @display(description="Desk")  # type: ignore[untyped-decorator]  # unfold has no types
    def page(self, position: Position) -> SafeString:
        """Where it is drawn."""
        return format_html('<a href="/desk/positions/{}/">show</a>', position.uuid)

    @admin.action(description="Close at market", permissions=["trade"])
    def close_selected(self, request: HttpRequest, queryset: QuerySet[Position]) -> None:
        """Keep the wish in the rows; the workers close, reduce-only."""
        ours = queryset.filter(status=PositionStatus.OPEN, is_foreign=False)
        ids = list(ours.values_list("pk", flat=True))
        for position_id in ids:
            intend_close(position_id, reason=CloseReason.MANUAL, now=settings.CLOCK.now())
        ring(Bells(positions=ids))
        self.message_user(request, f"{len(ids)} to be closed, {queryset.count() - len(ids)} left alone.")


def _reading(position: Position) -> PositionReading:
    """As the list attached it; on the form it is read for the one row."""
    attached = vars(position).get("reading")
    if isinstance(attached, PositionReading):
        return attached
    return read_position(position, seen_marks([position]).get(position.symbol), settings.CLOCK.now())
