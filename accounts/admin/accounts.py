from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar
from zoneinfo import available_timezones

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince
from unfold.admin import TabularInline
from unfold.contrib.filters.admin import AutocompleteSelectFilter
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminPasswordWidget

from accounts.admin.bulk import GroupForm, LimitForm, TagForm, UntagForm, ask_first
from accounts.admin.files import download, import_page
from accounts.admin.limits import LimitedAdmin, LimitInline, changes_table, limits_table
from accounts.admin.rows import told_once
from accounts.errors import AccountRefused
from accounts.models import Account, AccountSource, Executor
from accounts.services import bulk
from accounts.services.files import CSV, JSON
from accounts.services.limits import effective_limits
from accounts.services.registry import (
    HIGHEST_LEVERAGE,
    create_account,
    refuse_untried_modes,
    replace_keys,
)
from accounts.tasks import verify_account, verify_accounts

HEALTH_COLOURS = {
    "HEALTHY": "success",
    "UNHEALTHY": "warning",
    "CREDENTIAL_ERROR": "danger",
    "UNVERIFIED": "info",
    "PAUSED": "warning",
    "ARCHIVED": "info",
}
PERMISSION_COLOURS = {"SAFE": "success", "UNSAFE": "danger", "NO_IP_LIMIT": "warning", "UNKNOWN": "info"}
TOLD_BY_ENVIRONMENT = ("name", "group", "leverage")
NOT_KNOWN = "–"
MOST_NAMED = 10


class AccountForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable while running
    """An account with its keys, which go in and never come out."""

    api_key = forms.CharField(
        label="API key",
        required=False,
        widget=UnfoldAdminPasswordWidget(render_value=False),
        help_text="It must not be able to withdraw. Left empty, the stored key and secret stay.",
    )
    api_secret = forms.CharField(
        label="API secret", required=False, widget=UnfoldAdminPasswordWidget(render_value=False)
    )
    passphrase = forms.CharField(required=False, widget=UnfoldAdminPasswordWidget(render_value=False))

    class Meta:
        """The columns an operator may set."""

        model = Account
        fields: ClassVar = [
            "name",
            "exchange",
            "mode",
            "group",
            "tags",
            "time_zone",
            "leverage",
            "position_mode",
            "margin_mode",
            "is_canary",
            "unknown_permissions_accepted",
        ]

    def clean_leverage(self) -> int:
        """Within what venues know."""
        leverage: int = self.cleaned_data["leverage"]
        if not 1 <= leverage <= HIGHEST_LEVERAGE:
            raise forms.ValidationError(f"BAD_LEVERAGE: {leverage} is outside 1 to {HIGHEST_LEVERAGE}.")
        return leverage

    def clean_margin_mode(self) -> str:
        """With the position mode, one that was tried at the exchange."""
        mode: str = self.cleaned_data["margin_mode"]
        exchange = self.cleaned_data.get("exchange") or self.instance.exchange
        position_mode = self.cleaned_data.get("position_mode") or self.instance.position_mode
        try:
            refuse_untried_modes(exchange, position_mode, mode)
        except AccountRefused as refused:
            raise forms.ValidationError(f"{refused.code}: {refused.message}") from refused
        return mode

    def clean_time_zone(self) -> str:
        """A zone this computer knows: its midnight starts the account's day."""
        zone: str = self.cleaned_data["time_zone"]
        if zone not in available_timezones():
            raise forms.ValidationError(f"BAD_TIME_ZONE: {zone} is no time zone.")
        return zone

    @property
    def has_keys(self) -> bool:
        """Whether a key or secret was typed."""
        return bool(self.cleaned_data.get("api_key") or self.cleaned_data.get("api_secret"))

    def keys(self) -> tuple[str, str, str]:
        """Key, secret and passphrase as typed."""
        typed = self.cleaned_data
        return typed.get("api_key") or "", typed.get("api_secret") or "", typed.get("passphrase") or ""


class ExecutorInline(TabularInline):  # type: ignore[misc]  # unfold has no types
    """The account's ways to markets: rank 1 is primary."""

    model = Executor
    fields = ("rank", "market", "is_enabled")
    extra = 0
    max_num = 2
    can_delete = False


@admin.register(Account)
class AccountAdmin(LimitedAdmin):
    """Accounts at a glance; keys are write-only; nothing is deleted here."""

    form = AccountForm
    inlines: ClassVar = [ExecutorInline, LimitInline]
    list_display: Sequence[str] = (
        "name",
        "state",
        "grouped",
        "tagged",
        "equity",
        "spot",
        "markets",
        "rights",
        "key",
        "verified",
    )
    list_filter: Sequence[Any] = (
        "health",
        "is_enabled",
        "is_canary",
        "mode",
        ("group", AutocompleteSelectFilter),
        ("tags", AutocompleteSelectFilter),
        "source",
        ("archived_at", admin.EmptyFieldListFilter),
    )
    list_filter_submit = True
    list_fullwidth = True
    search_fields: Sequence[str] = ("name", "group__name", "exchange_account_id")
    autocomplete_fields: Sequence[str] = ("group", "tags")
    actions: ClassVar = [
        "verify_selected",
        "pause_selected",
        "resume_selected",
        "move_selected",
        "tag_selected",
        "untag_selected",
        "limit_selected",
        "export_as_csv",
        "export_as_json",
    ]
    actions_list: ClassVar = ["bring_file"]
    readonly_fields: Sequence[str] = (
        "source",
        "state_in_words",
        "health_message",
        "pause_reason",
        "verified",
        "rights",
        "clock_offset_ms",
        "exchange_account_id",
        "equity",
        "spot",
        "key",
        "limits_in_effect",
        "limit_changes",
        "page",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Account]:
        """Rows with what the list shows of them."""
        rows: QuerySet[Account] = super().get_queryset(request)
        return rows.select_related("group").prefetch_related("executors", "tags")

    def get_fieldsets(self, request: HttpRequest, obj: Account | None = None) -> Any:  # noqa: ARG002 - Django's signature
        """A new account: terms and keys. A known one: its state first."""
        terms = (
            "name",
            ("exchange", "mode"),
            ("group", "tags"),
            ("time_zone", "leverage"),
            ("position_mode", "margin_mode"),
            ("is_canary", "unknown_permissions_accepted"),
        )
        keys = ("api_key", "api_secret", "passphrase")
        if obj is None:
            return [("Account", {"fields": terms}), ("Keys", {"fields": keys})]
        shown_keys = ("key",) if _is_told(obj) or obj.archived_at else ("key", *keys)
        state = (
            ("state_in_words", "verified"),
            "health_message",
            "pause_reason",
            ("equity", "spot"),
            ("rights", "clock_offset_ms"),
        )
        return [
            ("State", {"fields": (*state, ("source", "exchange_account_id"), "page")}),
            ("Account", {"fields": terms}),
            ("Keys", {"fields": shown_keys}),
            ("Limits in effect", {"fields": ("limits_in_effect",), "classes": ("collapse",)}),
            ("Changes of limits", {"fields": ("limit_changes",), "classes": ("collapse",)}),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Account | None = None) -> Sequence[str]:
        """Exchange and mode are chosen once; what the environment tells is changed there."""
        fields: Sequence[str] = super().get_readonly_fields(request, obj)
        if obj is None:
            return fields
        return (*fields, "exchange", "mode", *(TOLD_BY_ENVIRONMENT if _is_told(obj) else ()))

    def get_inlines(self, request: HttpRequest, obj: Account | None) -> Any:
        """A new account gets both executors; they are changed once it is there."""
        return super().get_inlines(request, obj) if obj is not None else []

    def has_delete_permission(self, *_: Any, **__: Any) -> bool:
        """An account is archived, never deleted."""
        return False

    def save_model(self, request: HttpRequest, obj: Account, form: Any, change: bool) -> None:  # noqa: ARG002 - Django's signature
        """Through the services; only changed columns, so that a verification meanwhile is kept."""
        if change:
            columns = set(AccountForm.Meta.fields) - {"tags"}
            changed = [name for name in form.changed_data if name in columns]
            obj.save(update_fields=changed)
            if form.has_keys:
                replace_keys(obj, *form.keys())
        else:
            _create(obj, *form.keys())
        if not change or form.changed_data:
            _ring_verification(obj.pk)

    @display(description="State", label=HEALTH_COLOURS)  # type: ignore[untyped-decorator]  # unfold has no types
    def state(self, account: Account) -> tuple[str, str]:
        """Health, or what outweighs it, with its code."""
        if account.archived_at:
            return "ARCHIVED", "archived"
        if not account.is_enabled:
            return "PAUSED", f"paused: {account.health}"
        return account.health, f"{account.health} {account.health_code}".strip()

    @display(description="State")  # type: ignore[untyped-decorator]  # unfold has no types
    def state_in_words(self, account: Account) -> str:
        """The same without its colour."""
        return str(self.state(account)[1])

    @display(description="Equity")  # type: ignore[untyped-decorator]  # unfold has no types
    def equity(self, account: Account) -> str:
        """Futures wallet with unrealised profit, as last read."""
        if account.wallet_balance is None:
            return NOT_KNOWN
        return f"{account.wallet_balance + (account.unrealized_profit or 0):,.2f}"

    @display(description="Spot")  # type: ignore[untyped-decorator]  # unfold has no types
    def spot(self, account: Account) -> str:
        """Quote asset in the spot wallet, as last read."""
        return NOT_KNOWN if account.spot_wallet is None else f"{account.spot_wallet:,.2f}"

    @display(description="Executors")  # type: ignore[untyped-decorator]  # unfold has no types
    def markets(self, account: Account) -> str:
        """Enabled markets, the primary first."""
        return (
            " > ".join(executor.market for executor in account.executors.all() if executor.is_enabled)
            or NOT_KNOWN
        )

    @display(description="Key rights", label=PERMISSION_COLOURS)  # type: ignore[untyped-decorator]  # unfold has no types
    def rights(self, account: Account) -> str:
        """What the key may do."""
        return account.permissions or "UNKNOWN"

    @display(description="Key")  # type: ignore[untyped-decorator]  # unfold has no types
    def key(self, account: Account) -> str:
        """The end of the API key; nothing else of it can be shown."""
        where = " (environment)" if _is_told(account) else ""
        return f"••••{account.key_last4}{where}" if account.key_fingerprint else f"none{where}"

    @display(description="Verified")  # type: ignore[untyped-decorator]  # unfold has no types
    def verified(self, account: Account) -> str:
        """How long ago the exchange was asked."""
        return (
            f"{timesince(account.verified_at, settings.CLOCK.now())} ago" if account.verified_at else "never"
        )

    @display(description="Limits")  # type: ignore[untyped-decorator]  # unfold has no types
    @told_once
    def limits_in_effect(self, account: Account) -> SafeString:
        """Every limit with its value and who set it: setting, desk, group or account."""
        try:
            return limits_table(effective_limits(account))
        except ValueError as error:
            return format_html("<strong>No entries: {}</strong>", error)

    @display(description="Changes")  # type: ignore[untyped-decorator]  # unfold has no types
    @told_once
    def limit_changes(self, account: Account) -> SafeString:
        """Who changed which limit, newest first."""
        return changes_table(account)

    @display(description="Desk")  # type: ignore[untyped-decorator]  # unfold has no types
    def page(self, account: Account) -> SafeString:
        """Where its day, circuits and limits are drawn."""
        return format_html('<a href="/desk/accounts/{}/">its day, circuits and limits</a>', account.uuid)

    @display(description="Group", ordering="group__name")  # type: ignore[untyped-decorator]  # unfold has no types
    def grouped(self, account: Account) -> str:
        """Its group."""
        return account.group.name if account.group else NOT_KNOWN

    @display(description="Tags")  # type: ignore[untyped-decorator]  # unfold has no types
    def tagged(self, account: Account) -> str:
        """Its words."""
        return ", ".join(tag.name for tag in account.tags.all()) or NOT_KNOWN

    @admin.action(description="Verify at the exchange", permissions=["change"])
    def verify_selected(self, request: HttpRequest, queryset: QuerySet[Account]) -> None:
        """Have each verified: some at once, the rest as fast as the rate budget allows."""
        asked = bulk.ask_verification(_plain(queryset), settings.CLOCK.now())
        transaction.on_commit(verify_accounts.delay, robust=True)
        self.message_user(request, f"{asked} verifications asked for.")

    @admin.action(description="Pause", permissions=["change"])
    def pause_selected(self, request: HttpRequest, queryset: QuerySet[Account]) -> None:
        """No new entries; exits and monitoring go on."""
        paused = bulk.pause_all(_plain(queryset), f"Paused by {request.user.get_username()}.")
        self.message_user(request, f"{paused} paused: exits and monitoring go on.")

    @admin.action(description="Resume", permissions=["change"])
    def resume_selected(self, request: HttpRequest, queryset: QuerySet[Account]) -> None:
        """Entries again, except for archived accounts."""
        resumed, archived = bulk.resume_all(_plain(queryset))
        for name in archived[:MOST_NAMED]:
            self.message_user(request, f"{name} is archived: make it anew.", messages.ERROR)
        self.message_user(request, f"{resumed} resumed.")

    @admin.action(description="Move to a group...", permissions=["change"])
    def move_selected(self, request: HttpRequest, queryset: QuerySet[Account]) -> HttpResponse | None:
        """Ask for the group first."""

        def move(chosen: list[Account], asked: dict[str, Any]) -> str:
            group = asked["group"].name if asked["group"] else ""
            return f"{bulk.move_all(chosen, group)} are in {group or 'no group'}."

        return ask_first(self, request, _plain(queryset), GroupForm, move)

    @admin.action(description="Add a tag...", permissions=["change"])
    def tag_selected(self, request: HttpRequest, queryset: QuerySet[Account]) -> HttpResponse | None:
        """Ask for the word first."""

        def tag(chosen: list[Account], asked: dict[str, Any]) -> str:
            return f"{bulk.tag_all(chosen, asked['tag'])} tagged {asked['tag']}."

        return ask_first(self, request, _plain(queryset), TagForm, tag)

    @admin.action(description="Remove a tag...", permissions=["change"])
    def untag_selected(self, request: HttpRequest, queryset: QuerySet[Account]) -> HttpResponse | None:
        """Ask for the word first."""

        def untag(chosen: list[Account], asked: dict[str, Any]) -> str:
            return f"{bulk.untag_all(chosen, asked['tag'].name)} were tagged {asked['tag']}."

        return ask_first(self, request, _plain(queryset), UntagForm, untag)

    @admin.action(description="Set a limit...", permissions=["change"])
    def limit_selected(self, request: HttpRequest, queryset: QuerySet[Account]) -> HttpResponse | None:
        """Ask for limit and value first."""
        by = request.user.get_username()

        def limit(chosen: list[Account], asked: dict[str, Any]) -> str:
            changed = bulk.set_limit_for_all(chosen, asked["name"], asked["value"], by)
            return (
                f"{asked['name']} is {asked['value'] or 'no longer set'} on {len(chosen)}: {changed} changed."
            )

        return ask_first(self, request, _plain(queryset), LimitForm, limit)

    @admin.action(description="Export as CSV, without keys")
    def export_as_csv(self, request: HttpRequest, queryset: QuerySet[Account]) -> HttpResponse:  # noqa: ARG002 - Django's signature
        """Terms, tags and limits for a spreadsheet."""
        return download(_plain(queryset), CSV)

    @admin.action(description="Export as JSON, without keys")
    def export_as_json(self, request: HttpRequest, queryset: QuerySet[Account]) -> HttpResponse:  # noqa: ARG002 - Django's signature
        """Terms, tags and limits for a program."""
        return download(_plain(queryset), JSON)

    @action(description="Import", url_path="import", permissions=["change"])  # type: ignore[untyped-decorator]  # unfold has no types
    def bring_file(self, request: HttpRequest) -> HttpResponse:
        """Terms, tags and limits from a file."""
        return import_page(self, request)


def _is_told(account: Account) -> bool:
    return account.source == AccountSource.ENVIRONMENT


def _create(typed: Account, api_key: str, api_secret: str, passphrase: str) -> None:
    """Make the account and turn the form's object into it."""
    made = create_account(
        typed.name,
        api_key,
        api_secret,
        passphrase,
        exchange=typed.exchange,
        mode=typed.mode,
        group=typed.group.name if typed.group else "",
        leverage=typed.leverage,
    )
    made.time_zone = typed.time_zone
    made.is_canary = typed.is_canary
    made.position_mode, made.margin_mode = typed.position_mode, typed.margin_mode
    made.unknown_permissions_accepted = typed.unknown_permissions_accepted
    settable = ["time_zone", "is_canary", "position_mode", "margin_mode", "unknown_permissions_accepted"]
    made.save(update_fields=settable)
    typed.pk = made.pk
    typed.refresh_from_db()


def _plain(chosen: QuerySet[Account]) -> list[Account]:
    """The chosen accounts without what the list shows of them."""
    return list(Account.objects.filter(pk__in=list(chosen.order_by().values_list("pk", flat=True))))


def _ring_verification(account_id: int) -> None:
    """Once the row is committed. Without a broker the next tick does it: the account is due."""
    transaction.on_commit(partial(verify_account.delay, account_id, is_asked=True), robust=True)
