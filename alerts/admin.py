from typing import Any, ClassVar

from django.conf import settings
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.decorators import display

from alerts.models import Alert
from alerts.services import acknowledge


class StandingFilter(admin.SimpleListFilter):
    """Standing alerts unless all are asked for."""

    title = "state"
    parameter_name = "state"

    def lookups(self, *_: Any) -> list[tuple[str, str]]:
        """The choices."""
        return [("unseen", "Standing, not acknowledged"), ("standing", "Standing"), ("over", "Over")]

    def queryset(self, _: HttpRequest, queryset: QuerySet[Alert]) -> QuerySet[Alert]:
        """The chosen rows."""
        if self.value() == "unseen":
            return queryset.filter(cleared_at__isnull=True, acknowledged_at__isnull=True)
        if self.value() in {"standing", "over"}:
            return queryset.filter(cleared_at__isnull=self.value() == "standing")
        return queryset


@admin.register(Alert)
class AlertAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """Alerts are made by the desk and seen by people: nothing here adds, edits or deletes one."""

    list_display = ("severity_badge", "state", "code", "account", "symbol", "message", "count", "last_at")
    list_display_links = ("code",)
    list_filter = (StandingFilter, "severity", "code")
    search_fields = ("code", "account", "symbol", "message", "cause")
    actions: ClassVar = ["acknowledge_selected"]
    list_per_page = 50

    @display(  # type: ignore[untyped-decorator]  # unfold has no types
        description="Severity",
        label={"INFO": "info", "WARNING": "warning", "CRITICAL": "danger"},
        ordering="severity",
    )
    def severity_badge(self, alert: Alert) -> str:
        """The severity, coloured."""
        return alert.severity

    @display(description="State")  # type: ignore[untyped-decorator]  # unfold has no types
    def state(self, alert: Alert) -> str:
        """Whether it stands and who has seen it."""
        if alert.cleared_at:
            return "over"
        return f"seen by {alert.acknowledged_by}" if alert.acknowledged_at else "standing"

    @admin.action(description="Acknowledge", permissions=["acknowledge"])
    def acknowledge_selected(self, request: HttpRequest, queryset: QuerySet[Alert]) -> None:
        """Mark the selected alerts as seen by this operator."""
        now = settings.CLOCK.now()
        seen = sum(acknowledge(alert, request.user.get_username(), now) for alert in queryset)
        self.message_user(request, f"{seen} acknowledged.")

    def has_acknowledge_permission(self, request: HttpRequest) -> bool:
        """Who may change alerts may say that a person has seen them."""
        return request.user.has_perm("alerts.change_alert")

    def has_add_permission(self, *_: Any) -> bool:
        """Nobody adds an alert by hand."""
        return False

    def has_change_permission(self, *_: Any, **__: Any) -> bool:
        """Nobody edits an alert."""
        return False

    def has_delete_permission(self, *_: Any, **__: Any) -> bool:
        """Nobody deletes an alert."""
        return False
