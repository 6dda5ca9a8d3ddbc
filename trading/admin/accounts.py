from typing import Any, ClassVar

from django.conf import settings
from django.contrib import admin, messages
from django.db.models import Count, IntegerField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display

from accounts.admin import AccountAdmin
from accounts.errors import AccountRefused
from accounts.models import Account
from trading.domain.states import OPEN, OrderPurpose, PositionStatus
from trading.models import Order, Position
from trading.services.account_changes import archive, refuse_holding

MODES = frozenset({"position_mode", "margin_mode"})

admin.site.unregister(Account)


@admin.register(Account)
class DeskAccountAdmin(AccountAdmin):
    """Accounts with what they hold and await."""

    list_display = (*AccountAdmin.list_display, "open_positions", "unresolved_orders", "gate")
    actions: ClassVar = [*AccountAdmin.actions, "archive_selected"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Account]:
        """Rows with their exposure, counted by the database."""
        held = Position.objects.filter(account=OuterRef("pk"), status=PositionStatus.OPEN)
        awaited = Order.objects.filter(account=OuterRef("pk"), status__in=sorted(OPEN)).exclude(
            purpose__in=[OrderPurpose.HARD_STOP, OrderPurpose.WORKING_STOP]
        )
        return super().get_queryset(request).annotate(held=_count(held), awaited=_count(awaited))

    def save_model(self, request: HttpRequest, obj: Account, form: Any, change: bool) -> None:
        """As for any account; an open position holds it in its modes."""
        if change and MODES & set(form.changed_data):
            refuse_holding(obj)
        super().save_model(request, obj, form, change)

    @display(description="Positions", ordering="held")  # type: ignore[untyped-decorator]  # unfold has no types
    def open_positions(self, account: Account) -> int:
        """How many it holds."""
        return int(vars(account)["held"])

    @display(description="Orders", ordering="awaited")  # type: ignore[untyped-decorator]  # unfold has no types
    def unresolved_orders(self, account: Account) -> int:
        """Entries and exits that are not finished; resting stops left out."""
        return int(vars(account)["awaited"])

    @display(description="Gate")  # type: ignore[untyped-decorator]  # unfold has no types
    def gate(self, account: Account) -> SafeString:
        """Where it is told what the gate would say of it now."""
        return format_html('<a href="{}">why</a>', reverse("desk:why", args=[account.uuid]))

    @admin.action(description="Archive: wipes the keys for good", permissions=["change"])
    def archive_selected(self, request: HttpRequest, queryset: QuerySet[Account]) -> None:
        """Take out of service; refused while something is open."""
        for account in queryset:
            try:
                archive(account, settings.CLOCK.now())
            except AccountRefused as refused:
                self.message_user(request, refused.message, messages.ERROR)
            else:
                self.message_user(request, f"{account.name} is archived, its keys are wiped.")


def _count(rows: QuerySet[Position] | QuerySet[Order]) -> Coalesce:
    counted = rows.order_by().values("account").annotate(n=Count("pk")).values("n")
    return Coalesce(Subquery(counted, output_field=IntegerField()), 0)
