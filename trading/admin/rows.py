from typing import Any

from django.http import HttpRequest
from unfold.admin import ModelAdmin, TabularInline
from unfold.views import ChangeList


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


class LongList(ChangeList):  # type: ignore[misc]  # unfold has no types
    """A list that finds its page by keys first: sorting and skipping whole rows reads all of a long table."""

    result_list: Any

    def get_results(self, request: HttpRequest) -> None:
        """Read the rows of the page and no other."""
        super().get_results(request)
        keys = list(self.result_list.values_list("pk", flat=True))
        place = {key: number for number, key in enumerate(keys)}
        rows = self.root_queryset.filter(pk__in=keys)
        if self.list_select_related:
            rows = rows.select_related(*self.list_select_related)
        self.result_list = sorted(rows, key=lambda row: place[row.pk])


class DeskRowsAdmin(DeskRows, ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """A list of such rows.

    Filters are typed: every symbol or day to choose from would be looked for in the whole table at each look.
    """

    list_per_page = 50
    show_full_result_count = False
    list_filter_submit = True

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:  # noqa: ARG002 - Django's signature
        """The list that stays quick when it is long."""
        return LongList


class DeskRowsInline(DeskRows, TabularInline):  # type: ignore[misc]  # unfold has no types
    """Such rows under the row they belong to, a page at a time."""

    extra = 0
    per_page = 50
    can_delete = False
    tab = True
    show_change_link = False
