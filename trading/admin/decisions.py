from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display
from unfold.views import ChangeList

from trading.admin.figures import DECISIONS, NOT_KNOWN, OUTCOMES, figure, moment
from trading.admin.rows import DeskRowsAdmin, DeskRowsInline
from trading.models import Allocation, Decision
from trading.services.readings import FanOut, read_fan_outs


class FanOutList(ChangeList):  # type: ignore[misc]  # unfold has no types
    """The list with each decision's fan-out, read for the whole page at once."""

    result_list: Any

    def get_results(self, request: HttpRequest) -> None:
        """Read the page's rows, then what became of them."""
        super().get_results(request)
        shown: list[Any] = list(self.result_list)
        fan_outs = read_fan_outs(shown)
        for decision in shown:
            decision.fan_out = fan_outs[decision.pk]
        self.result_list = shown


class AllocationInline(DeskRowsInline):
    """The ledger: one row an account."""

    model = Allocation
    verbose_name_plural = "Ledger"
    fields = readonly_fields = (
        "account",
        "outcome_badge",
        "code",
        "executor",
        "market",
        "asked",
        "filled",
        "average",
        "latency_ms",
        "slippage_bps",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Allocation]:
        """With the accounts, by name."""
        rows: QuerySet[Allocation] = super().get_queryset(request)
        return rows.select_related("account").order_by("outcome", "code", "account__name")

    @display(description="Outcome", label=OUTCOMES)  # type: ignore[untyped-decorator]  # unfold has no types
    def outcome_badge(self, share: Allocation) -> str:
        """Its one known end."""
        return share.outcome

    @display(description="Quantity")  # type: ignore[untyped-decorator]  # unfold has no types
    def asked(self, share: Allocation) -> str:
        """What was ordered."""
        return figure(share.quantity)

    @display(description="Filled")  # type: ignore[untyped-decorator]  # unfold has no types
    def filled(self, share: Allocation) -> str:
        """What was filled."""
        return figure(share.filled_quantity)

    @display(description="Average price")  # type: ignore[untyped-decorator]  # unfold has no types
    def average(self, share: Allocation) -> str:
        """What was paid."""
        return figure(share.average_price)


@admin.register(Decision)
class DecisionAdmin(DeskRowsAdmin):
    """Decisions with their fan-out; the ledger is inside."""

    list_display = (
        "decided",
        "what",
        "state",
        "reason",
        "quality",
        "fan_out",
        "latency",
        "is_requested",
        "page",
    )
    list_filter = ("status", "is_requested", "signal__source")
    list_select_related = ("signal__source",)
    search_fields = ("signal__symbol", "signal__external_id", "reason")
    date_hierarchy = "decided_at"
    inlines = [AllocationInline]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[FanOutList]:  # noqa: ARG002 - Django's signature
        """The list that reads fan-outs."""
        return FanOutList

    @display(description="Decided", ordering="decided_at")  # type: ignore[untyped-decorator]  # unfold has no types
    def decided(self, decision: Decision) -> SafeString | str:
        """When the choice was made."""
        return moment(decision.decided_at)

    @display(description="Signal", ordering="signal__symbol")  # type: ignore[untyped-decorator]  # unfold has no types
    def what(self, decision: Decision) -> str:
        """What was chosen."""
        return f"{decision.signal.side} {decision.signal.symbol}" if decision.signal else NOT_KNOWN

    @display(description="State", label=DECISIONS, ordering="status")  # type: ignore[untyped-decorator]  # unfold has no types
    def state(self, decision: Decision) -> str:
        """Open, complete, or nothing chosen."""
        return decision.status

    @display(description="Fan-out")  # type: ignore[untyped-decorator]  # unfold has no types
    def fan_out(self, decision: Decision) -> str:
        """How many accounts ended how."""
        return _fan_out(decision).summary or NOT_KNOWN

    @display(description="First, median, last ms")  # type: ignore[untyped-decorator]  # unfold has no types
    def latency(self, decision: Decision) -> str:
        """Decision to the exchange's acknowledgement."""
        latency = _fan_out(decision).latency
        return NOT_KNOWN if latency.first is None else f"{latency.first}, {latency.median}, {latency.last}"

    @display(description="Desk")  # type: ignore[untyped-decorator]  # unfold has no types
    def page(self, decision: Decision) -> SafeString:
        """Where it is drawn."""
        return format_html('<a href="/desk/decisions/{}/">show</a>', decision.uuid)


def _fan_out(decision: Decision) -> FanOut:
    """As the list attached it; on the form it is read for the one row."""
    attached = vars(decision).get("fan_out")
    return attached if isinstance(attached, FanOut) else read_fan_outs([decision])[decision.pk]
