from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import RangeDateTimeFilter
from unfold.decorators import display

from trading.admin.figures import DECISIONS, NOT_KNOWN, OUTCOMES, bps, figure, lines, moment, unbroken
from trading.admin.rows import DeskRowsAdmin, DeskRowsInline, LongList
from trading.models import Allocation, Decision
from trading.services.fan_outs import WITH_ENTRIES, FanOut, read_fan_outs, route_of, steps_of

SEVERAL = 2


class FanOutList(LongList):
    """The list with each decision's fan-out, read for the whole page at once."""

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
        "place",
        "account",
        "outcome_badge",
        "code",
        "executor",
        "market",
        "asked",
        "filled",
        "average",
        "latency",
        "slippage",
        "steps",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Allocation]:
        """With the accounts, by name."""
        rows: QuerySet[Allocation] = super().get_queryset(request)
        shown = rows.select_related("account").prefetch_related(WITH_ENTRIES)
        return shown.order_by("outcome", "code", "account__name")

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

    @display(description="Latency")  # type: ignore[untyped-decorator]  # unfold has no types
    def latency(self, share: Allocation) -> str:
        """From the decision's record to the exchange's acknowledgement."""
        return NOT_KNOWN if share.latency_ms is None else unbroken(f"{share.latency_ms} ms")

    @display(description="Slippage")  # type: ignore[untyped-decorator]  # unfold has no types
    def slippage(self, share: Allocation) -> str:
        """Against the decision's mark."""
        return bps(share.slippage_bps)

    @display(description="Steps")  # type: ignore[untyped-decorator]  # unfold has no types
    def steps(self, share: Allocation) -> SafeString | str:
        """Every executor that was asked, where it was more than one."""
        steps = steps_of(share)
        if len(steps) < SEVERAL:
            return NOT_KNOWN
        return lines(step.summary for step in steps)


@admin.register(Decision)
class DecisionAdmin(DeskRowsAdmin):
    """Decisions with their fan-out; the ledger is inside."""

    list_display = (
        "decided",
        "what",
        "state",
        "reason",
        "fan_out",
        "latency",
        "slippage",
        "page",
    )
    fieldsets = [
        (
            "Decision",
            {
                "fields": (
                    ("what", "state"),
                    ("decided", "deadline"),
                    ("mark", "cap"),
                    ("quality", "confidence"),
                    ("is_requested", "is_staged", "turn"),
                    ("reason", "stopped_code"),
                )
            },
        ),
        ("Fan-out", {"fields": ("fan_out", ("latency", "slippage"), "route")}),
        ("Chosen from", {"fields": ("candidates", "inputs"), "classes": ("collapse",)}),
    ]
    readonly_fields = (
        "what",
        "state",
        "decided",
        "deadline",
        "mark",
        "cap",
        "fan_out",
        "latency",
        "slippage",
        "route",
    )
    list_filter = ("status", "is_requested", "signal__source", ("decided_at", RangeDateTimeFilter))
    list_select_related = ("signal__source",)
    search_fields = ("signal__symbol", "signal__external_id", "reason")
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
    def fan_out(self, decision: Decision) -> SafeString | str:
        """How many accounts ended how."""
        endings = _fan_out(decision).endings
        return lines(ending.summary for ending in endings) if endings else NOT_KNOWN

    @display(description="First, median, p99, last ms")  # type: ignore[untyped-decorator]  # unfold has no types
    def latency(self, decision: Decision) -> SafeString | str:
        """From the decision's record to the exchange's acknowledgement."""
        found = _fan_out(decision).latency
        if found.first is None:
            return NOT_KNOWN
        return unbroken(f"{found.first}, {found.median}, {found.p99}, {found.last}")

    @display(description="Mean, worst slippage bps")  # type: ignore[untyped-decorator]  # unfold has no types
    def slippage(self, decision: Decision) -> SafeString | str:
        """Against the decision's mark, over the accounts that filled; positive costs."""
        found = _fan_out(decision).slippage
        return NOT_KNOWN if found.mean is None else unbroken(f"{found.mean:+.2f}, {found.worst:+.2f}")

    @display(description="Deadline")  # type: ignore[untyped-decorator]  # unfold has no types
    def deadline(self, decision: Decision) -> SafeString | str:
        """When nothing unsent is sent any more."""
        return moment(decision.deadline_at)

    @display(description="Mark")  # type: ignore[untyped-decorator]  # unfold has no types
    def mark(self, decision: Decision) -> str:
        """What it was decided at."""
        return figure(decision.mark_price)

    @display(description="Cap")  # type: ignore[untyped-decorator]  # unfold has no types
    def cap(self, decision: Decision) -> str:
        """The worst entry any account may pay."""
        return figure(decision.cap_price)

    @display(description="Route")  # type: ignore[untyped-decorator]  # unfold has no types
    def route(self, decision: Decision) -> str:
        """Whom it covered, step by step."""
        return route_of(decision)

    @display(description="Desk")  # type: ignore[untyped-decorator]  # unfold has no types
    def page(self, decision: Decision) -> SafeString:
        """Where it is drawn."""
        return format_html('<a href="/desk/decisions/{}/">show</a>', decision.uuid)


def _fan_out(decision: Decision) -> FanOut:
    """As the list attached it; on the form it is read for the one row."""
    attached = vars(decision).get("fan_out")
    if isinstance(attached, FanOut):
        return attached
    read = read_fan_outs([decision])[decision.pk]
    vars(decision)["fan_out"] = read
    return read
