from typing import ClassVar

from django.conf import settings
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import FieldTextFilter
from unfold.decorators import display

from accounts.admin.rows import ReadOnlyAdmin
from accounts.models import Breaker, SymbolSetting
from accounts.services.breakers import close_early, state_of


@admin.register(Breaker)
class BreakerAdmin(ReadOnlyAdmin):
    """Where entries are held back because the exchange keeps refusing them."""

    list_display = ("account", "where", "state", "code", "rejections", "openings", "opened_at", "open_until")
    list_select_related = ("account",)
    list_filter = ("code",)
    search_fields = ("account__name", "symbol")
    actions: ClassVar = ["close_selected"]

    def has_close_permission(self, request: HttpRequest) -> bool:
        """Who may change accounts may close their breakers."""
        return request.user.has_perm("accounts.change_account")

    @display(description="Where")  # type: ignore[untyped-decorator]  # unfold has no types
    def where(self, breaker: Breaker) -> str:
        """The symbol, or every one."""
        return breaker.symbol or "all symbols"

    @display(description="State", label={"open": "danger", "closed": "success", "half-open": "warning"})  # type: ignore[untyped-decorator]  # unfold has no types
    def state(self, breaker: Breaker) -> str:
        """Open, or half open after its time until an entry is taken, or closed."""
        return state_of(breaker, settings.CLOCK.now())

    @admin.action(description="Close: the cause is gone", permissions=["close"])
    def close_selected(self, request: HttpRequest, queryset: QuerySet[Breaker]) -> None:
        """Let entries through again."""
        for breaker in queryset:
            close_early(breaker, settings.CLOCK.now())
        self.message_user(request, f"{len(queryset)} closed.")


@admin.register(SymbolSetting)
class SymbolSettingAdmin(ReadOnlyAdmin):
    """Leverage and margin mode as the exchange last read them back."""

    list_display = ("account", "symbol", "leverage", "is_isolated", "read_at")
    list_select_related = ("account",)
    list_filter = (("symbol", FieldTextFilter), "is_isolated")
    list_filter_submit = True
    search_fields = ("account__name", "symbol")
