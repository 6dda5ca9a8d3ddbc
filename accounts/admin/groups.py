from typing import ClassVar

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display

from accounts.admin.limits import LimitedAdmin, LimitInline, changes_table, limits_table
from accounts.admin.rows import RefusingAdmin, told_once
from accounts.models import AccountGroup, Tag
from accounts.services.limits import effective_group_limits


@admin.register(AccountGroup)
class AccountGroupAdmin(LimitedAdmin):
    """Groups with the limits of all their accounts."""

    list_display = ("name", "members", "own_limits")
    search_fields = ("name",)
    readonly_fields = ("limits_in_effect", "limit_changes")
    inlines: ClassVar = [LimitInline]

    def get_fieldsets(self, request: HttpRequest, obj: AccountGroup | None = None) -> object:  # noqa: ARG002 - Django's signature
        """A known group tells its limits."""
        named = (None, {"fields": ("name",)})
        if obj is None:
            return [named]
        return [
            named,
            ("Limits in effect", {"fields": ("limits_in_effect",), "classes": ("collapse",)}),
            ("Changes of limits", {"fields": ("limit_changes",), "classes": ("collapse",)}),
        ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[AccountGroup]:
        """Rows with their members and limits counted by the database."""
        rows: QuerySet[AccountGroup] = super().get_queryset(request)
        return rows.annotate(n=Count("accounts", distinct=True), m=Count("limits", distinct=True))

    @display(description="Accounts", ordering="n")  # type: ignore[untyped-decorator]  # unfold has no types
    def members(self, group: AccountGroup) -> int:
        """How many accounts it has."""
        return int(vars(group)["n"])

    @display(description="Limits of its own", ordering="m")  # type: ignore[untyped-decorator]  # unfold has no types
    def own_limits(self, group: AccountGroup) -> int:
        """How many limits it has otherwise than the desk."""
        return int(vars(group)["m"])

    @display(description="Limits")  # type: ignore[untyped-decorator]  # unfold has no types
    @told_once
    def limits_in_effect(self, group: AccountGroup) -> SafeString:
        """What an account of it has that sets nothing itself."""
        try:
            return limits_table(effective_group_limits(group))
        except ValueError as error:
            return format_html("<strong>No entries: {}</strong>", error)

    @display(description="Changes")  # type: ignore[untyped-decorator]  # unfold has no types
    @told_once
    def limit_changes(self, group: AccountGroup) -> SafeString:
        """Who changed which limit, newest first."""
        return changes_table(group)


@admin.register(Tag)
class TagAdmin(RefusingAdmin):
    """Words on accounts."""

    list_display = ("name", "members")
    search_fields = ("name",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Tag]:
        """Rows with their members counted by the database."""
        rows: QuerySet[Tag] = super().get_queryset(request)
        return rows.annotate(n=Count("accounts"))

    @display(description="Accounts", ordering="n")  # type: ignore[untyped-decorator]  # unfold has no types
    def members(self, tag: Tag) -> int:
        """How many accounts have it."""
        return int(vars(tag)["n"])
