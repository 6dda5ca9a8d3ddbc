from collections.abc import Iterable
from typing import Any, ClassVar

from django import forms
from django.conf import settings
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.admin import TabularInline
from unfold.decorators import display
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from accounts.admin.rows import ReadOnlyAdmin, RefusingAdmin
from accounts.models import DeskLimit, LimitChange, LimitOverride
from accounts.services.limits import (
    ACCOUNT,
    DESK,
    GROUP,
    SETTING,
    EffectiveLimits,
    Owner,
    clear_override,
    history,
    keep_changes,
    set_override,
    stored_overrides,
)

NEWEST_CHANGES = 20
ORIGINS = (ACCOUNT, GROUP, DESK, SETTING)


def own_names() -> list[tuple[str, str]]:
    """The limits that a group or an account can have, to choose from."""
    return _choices(settings.LIMITS.desk_only)


def desk_names() -> list[tuple[str, str]]:
    """The limits that can be set for the desk, to choose from."""
    return _choices(settings.LIMITS.setting_only)


def _choices(withheld: frozenset[str]) -> list[tuple[str, str]]:
    """Names with their unit, without those that are decided elsewhere."""
    names = sorted(set(settings.LIMITS.as_edge()) - withheld)
    return [(name, f"{name} {settings.LIMITS.unit(name)}".strip()) for name in names]


def limits_table(found: EffectiveLimits) -> SafeString:
    """Every limit with its value and who set it; what is set nearest to the account comes first."""
    rows = sorted(found.shown().items(), key=lambda item: (ORIGINS.index(item[1][1]), item[0]))
    shown = ((name, f"{value} {found.limits.unit(name)}".strip(), origin) for name, (value, origin) in rows)
    return _table(("Limit", "Value", "Set by"), shown)


def changes_table(owner: Owner) -> SafeString:
    """The newest changes of an owner's limits, with who and when."""
    newest = history(owner)[:NEWEST_CHANGES]
    rows = [(_when(one), one.name, one.before or "–", one.after or "–", one.changed_by) for one in newest]
    return _table(("When (UTC)", "Limit", "Before", "After", "By"), rows) if rows else SafeString("never")


def _when(change: LimitChange) -> str:
    return f"{change.changed_at:%Y-%m-%d %H:%M:%S}"


def _table(titles: Iterable[str], rows: Iterable[tuple[str, ...]]) -> SafeString:
    cell = "px-3 py-1 text-left whitespace-nowrap"
    head = format_html_join("", '<th class="{} font-semibold">{}</th>', ((cell, title) for title in titles))
    lines = (
        (format_html_join("", '<td class="{}">{}</td>', ((cell, text) for text in row)),) for row in rows
    )
    line = '<tr class="border-t border-base-200 dark:border-base-800">{}</tr>'
    return format_html('<table class="w-full"><tr>{}</tr>{}</table>', head, format_html_join("", line, lines))


class LimitInline(TabularInline):  # type: ignore[misc]  # unfold has no types
    """Limits set otherwise than above; percent where the limit is one."""

    model = LimitOverride
    fields = ("name", "value", "changed_by", "changed_at")
    readonly_fields = ("changed_by", "changed_at")
    extra = 0

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Names are chosen, not typed."""
        if db_field.name == "name":
            return forms.ChoiceField(choices=own_names(), widget=UnfoldAdminSelectWidget)
        return super().formfield_for_dbfield(db_field, request, **kwargs)


class LimitedAdmin(RefusingAdmin):
    """An owner of limits, which are changed in its form and kept in its history."""

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: Any) -> None:
        """Who changed which limit, and whether it can stand beside the others."""
        before = stored_overrides(form.instance) if change else {}
        super().save_related(request, form, formsets, change)
        keep_changes(form.instance, before, request.user.get_username())

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: Any) -> None:
        """Sign the limits that were changed."""
        for row in formset.save(commit=False):
            if isinstance(row, LimitOverride):
                row.changed_by = request.user.get_username()
        super().save_formset(request, form, formset, change)


class DeskLimitForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable while running
    """One limit of the desk."""

    name = forms.ChoiceField(widget=UnfoldAdminSelectWidget)
    value = forms.CharField(
        widget=UnfoldAdminTextInputWidget, max_length=40, help_text="Percent where the limit is one."
    )

    class Meta:
        """Its name and value."""

        model = DeskLimit
        fields: ClassVar = ["name", "value"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["name"].choices = desk_names()  # type: ignore[attr-defined]  # a choice field


@admin.register(DeskLimit)
class DeskLimitAdmin(RefusingAdmin):
    """What the desk has otherwise than its settings say; groups and accounts stand on it."""

    form = DeskLimitForm
    list_display = ("name", "value", "told", "changed_by", "changed_at")
    actions = None

    def get_queryset(self, request: HttpRequest) -> QuerySet[DeskLimit]:
        """The desk's rows alone."""
        rows: QuerySet[DeskLimit] = super().get_queryset(request)
        return rows.filter(group=None, account=None)

    def save_model(self, request: HttpRequest, obj: DeskLimit, form: Any, change: bool) -> None:
        """Through the service, which judges it beside every other and keeps the change."""
        if change and "name" in form.changed_data:
            clear_override(None, form.initial["name"], request.user.get_username())
        row = set_override(None, obj.name, obj.value, request.user.get_username())
        obj.pk = row.pk

    def delete_model(self, request: HttpRequest, obj: DeskLimit) -> None:
        """Let it be what the settings say."""
        clear_override(None, obj.name, request.user.get_username())

    @display(description="Setting")  # type: ignore[untyped-decorator]  # unfold has no types
    def told(self, limit: DeskLimit) -> str:
        """What it would be without this row."""
        return str(settings.LIMITS.as_edge().get(limit.name, "–"))


@admin.register(LimitChange)
class LimitChangeAdmin(ReadOnlyAdmin):
    """Every change of a limit, whoever's it is."""

    list_display = ("changed_at", "scope", "owner_name", "name", "before", "after", "changed_by")
    list_filter = ("scope",)
    search_fields = ("owner_name", "name", "changed_by")
