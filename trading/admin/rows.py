from typing import Any

from django.http import HttpRequest
from unfold.admin import ModelAdmin, TabularInline


class DeskRows:
    """Rows only the desk writes: a person reads them, and acts through actions."""

    def has_add_permission(self, *_: Any) -> bool:
        """Nobody adds one by hand."""
        return False

    def has_change_permission(self, *_: Any, **__: Any) -> bool:
        """Nobody edits one."""
        return False

    def has_delete_permission(self, *_: Any, **__: Any) -> bool:
        """Nobody deletes one."""
        return False

    def has_trade_permission(self, request: HttpRequest) -> bool:
        """Who may change positions may act on trading."""
        return request.user.has_perm("trading.change_position")


class DeskRowsAdmin(DeskRows, ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """A list of such rows."""

    list_per_page = 50
    show_full_result_count = False


class DeskRowsInline(DeskRows, TabularInline):  # type: ignore[misc]  # unfold has no types
    """Such rows under the row they belong to, a page at a time."""

    extra = 0
    per_page = 50
    can_delete = False
    tab = True
    show_change_link = False
