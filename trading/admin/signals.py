from django.conf import settings
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import RangeDateTimeFilter
from unfold.decorators import display

from accounts.admin.rows import RefusingAdmin
from exchange.errors import ReadFailed
from trading.admin.figures import SIDES, SIGNALS, figure, moment
from trading.admin.rows import DeskRowsAdmin
from trading.models import Signal, SignalSource
from trading.services import selection
from trading.services.bells import Bells
from trading.tasks import ring


@admin.register(SignalSource)
class SignalSourceAdmin(RefusingAdmin):
    """Who may send signals. A source is switched off here; its rows stay."""

    list_display = ("name", "is_active", "weight", "is_demonstration", "note", "note_at")
    list_editable = ("is_active", "weight")
    search_fields = ("name",)
    readonly_fields = ("note", "note_at")

    def has_delete_permission(self, request: HttpRequest, obj: SignalSource | None = None) -> bool:  # noqa: ARG002 - Django's signature
        """What it sent stays."""
        return False


@admin.register(Signal)
class SignalAdmin(DeskRowsAdmin):
    """Signals as they were taken in."""

    list_display = (
        "received",
        "side_badge",
        "symbol",
        "state",
        "action",
        "score",
        "entry",
        "stop",
        "target",
        "source",
        "demonstration",
        "note",
    )
    list_display_links = ("received", "symbol")
    list_filter = ("status", "side", "action", "source", ("received_at", RangeDateTimeFilter))
    list_select_related = ("source",)
    search_fields = ("external_id", "symbol")
    actions = ["execute_selected"]

    @display(description="Received", ordering="received_at")  # type: ignore[untyped-decorator]  # unfold has no types
    def received(self, signal: Signal) -> SafeString | str:
        """When it came."""
        return moment(signal.received_at)

    @display(description="Side", label=SIDES, ordering="side")  # type: ignore[untyped-decorator]  # unfold has no types
    def side_badge(self, signal: Signal) -> str:
        """Long or short."""
        return signal.side

    @display(description="State", label=SIGNALS, ordering="status")  # type: ignore[untyped-decorator]  # unfold has no types
    def state(self, signal: Signal) -> str:
        """Where it stands."""
        return signal.status

    @display(description="Demonstration", boolean=True)  # type: ignore[untyped-decorator]  # unfold has no types
    def demonstration(self, signal: Signal) -> bool:
        """Whether its source only demonstrates."""
        return signal.source.is_demonstration

    @display(description="Entry")  # type: ignore[untyped-decorator]  # unfold has no types
    def entry(self, signal: Signal) -> str:
        """The entry price advised."""
        return figure(signal.entry_price)

    @display(description="Stop")  # type: ignore[untyped-decorator]  # unfold has no types
    def stop(self, signal: Signal) -> str:
        """The stop price advised."""
        return figure(signal.stop_price)

    @display(description="Target")  # type: ignore[untyped-decorator]  # unfold has no types
    def target(self, signal: Signal) -> str:
        """The take-profit price advised."""
        return figure(signal.take_profit_price)

    @admin.action(description="Execute now: skips ranking, never the gate", permissions=["trade"])
    def execute_selected(self, request: HttpRequest, queryset: QuerySet[Signal]) -> None:
        """Decide on each now; one that was decided before keeps its decision."""
        for signal in queryset.select_related("source"):
            try:
                decision = selection.request(signal, settings.CLOCK.now())
            except (selection.RequestRefused, ReadFailed) as refusal:
                self.message_user(request, f"{signal}: {refusal}", messages.ERROR)
                continue
            ring(Bells(decisions=[decision.pk]))
            self.message_user(request, f"{signal}: decision {decision.status}.")
