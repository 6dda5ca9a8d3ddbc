from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar
from zoneinfo import available_timezones

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.timesince import timesince
from unfold.admin import ModelAdmin, TabularInline
from unfold.decorators import display
from unfold.widgets import UnfoldAdminPasswordWidget, UnfoldAdminSelectWidget

from accounts.errors import AccountRefused
from accounts.models import (
    Account,
    AccountGroup,
    AccountSource,
    Breaker,
    Executor,
    LimitOverride,
    SymbolSetting,
)
from accounts.services.breakers import note_cause_gone
from accounts.services.limits import check_owner, effective_limits
from accounts.services.registry import HIGHEST_LEVERAGE, create_account, pause, replace_keys, resume
from accounts.tasks import verify_account

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


class ReadOnlyAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """Rows that only the desk writes."""

    def has_add_permission(self, *_: Any) -> bool:
        """Nobody adds one by hand."""
        return False

    def has_change_permission(self, *_: Any, **__: Any) -> bool:
        """Nobody edits one."""
        return False

    def has_delete_permission(self, *_: Any, **__: Any) -> bool:
        """Nobody deletes one."""
        return False


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
            "time_zone",
            "leverage",
            "is_canary",
            "unknown_permissions_accepted",
        ]

    def clean_leverage(self) -> int:
        """Within what venues know."""
        leverage: int = self.cleaned_data["leverage"]
        if not 1 <= leverage <= HIGHEST_LEVERAGE:
            raise forms.ValidationError(f"BAD_LEVERAGE: {leverage} is outside 1 to {HIGHEST_LEVERAGE}.")
        return leverage

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


class LimitInline(TabularInline):  # type: ignore[misc]  # unfold has no types
    """Limits set otherwise than the desk's; percent where the limit is one."""

    model = LimitOverride
    fields = ("name", "value", "changed_by", "changed_at")
    readonly_fields = ("changed_by", "changed_at")
    extra = 0

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Names are chosen, not typed."""
        if db_field.name == "name":
            names = [
                (name, name) for name in sorted(set(settings.LIMITS.as_edge()) - settings.LIMITS.desk_only)
            ]
            return forms.ChoiceField(choices=names, widget=UnfoldAdminSelectWidget)
        return super().formfield_for_dbfield(db_field, request, **kwargs)


class RefusingAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """Shows a refusal of the services; the request's transaction has then undone everything."""

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """The form, or a refusal."""
        try:
            response: HttpResponse = super().changeform_view(request, object_id, form_url, extra_context)
        except AccountRefused as refused:
            self.message_user(request, f"{refused.code}: {refused.message}", messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())
        return response

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: Any) -> None:
        """Who changed a limit, and whether it can stand beside the others."""
        for row in formset.save(commit=False):
            if isinstance(row, LimitOverride):
                row.changed_by = request.user.get_username()
        super().save_formset(request, form, formset, change)
        if formset.model is LimitOverride:
            check_owner(form.instance)


@admin.register(Account)
class AccountAdmin(RefusingAdmin):
    """Accounts at a glance; keys are write-only; nothing is deleted here."""

    form = AccountForm
    inlines: ClassVar = [ExecutorInline, LimitInline]
    list_display: Sequence[str] = (
        "name",
        "state",
        "mode",
        "equity",
        "spot",
        "markets",
        "rights",
        "key",
        "verified",
    )
    list_filter: Sequence[Any] = ("health", "is_enabled", "is_canary", "mode", "group", "source")
    list_per_page = 50
    search_fields: Sequence[str] = ("name", "group__name", "exchange_account_id")
    actions: ClassVar = ["verify_selected", "pause_selected", "resume_selected"]
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
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Account]:
        """Rows with what the list shows of them."""
        rows: QuerySet[Account] = super().get_queryset(request)
        return rows.select_related("group").prefetch_related("executors")

    def get_fieldsets(self, request: HttpRequest, obj: Account | None = None) -> Any:  # noqa: ARG002 - Django's signature
        """A new account: terms and keys. A known one: its state first."""
        terms = (
            "name",
            ("exchange", "mode"),
            ("group", "time_zone"),
            ("leverage", "is_canary"),
            "unknown_permissions_accepted",
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
            ("State", {"fields": (*state, ("source", "exchange_account_id"))}),
            ("Account", {"fields": terms}),
            ("Keys", {"fields": shown_keys}),
            ("Limits in effect", {"fields": ("limits_in_effect",), "classes": ("collapse",)}),
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
            changed = [name for name in form.changed_data if name in AccountForm.Meta.fields]
            obj.save(update_fields=changed)
            if form.has_keys:
                replace_keys(obj, *form.keys())
        else:
            _create(obj, *form.keys())
        if not change or form.changed_data:
            _ring_verification(obj)

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
    def limits_in_effect(self, account: Account) -> SafeString:
        """Every limit with its value and who set it: desk, group or account."""
        try:
            shown = effective_limits(account).shown()
        except ValueError as error:
            return format_html("<strong>No entries: {}</strong>", error)
        # What is not the desk's comes first.
        rows = sorted(shown.items(), key=lambda item: (item[1][1] == "desk", item[0]))
        cells = format_html_join(
            "",
            "<tr><td>{}</td><td>{}</td><td>{}</td></tr>",
            ((name, value, origin) for name, (value, origin) in rows),
        )
        return format_html("<table><tr><th>Limit</th><th>Value</th><th>Set by</th></tr>{}</table>", cells)

    @admin.action(description="Verify at the exchange", permissions=["change"])
    def verify_selected(self, request: HttpRequest, queryset: QuerySet[Account]) -> None:
        """Ring for a verification of each."""
        for account in queryset:
            _ring_verification(account)
        self.message_user(request, f"{len(queryset)} verifications asked for.")

    @admin.action(description="Pause", permissions=["change"])
    def pause_selected(self, request: HttpRequest, queryset: QuerySet[Account]) -> None:
        """No new entries; exits and monitoring go on."""
        for account in queryset:
            pause(account, f"Paused by {request.user.get_username()}.")
        self.message_user(request, f"{len(queryset)} paused: exits and monitoring go on.")

    @admin.action(description="Resume", permissions=["change"])
    def resume_selected(self, request: HttpRequest, queryset: QuerySet[Account]) -> None:
        """Entries again, except for archived accounts."""
        resumed = 0
        for account in queryset:
            try:
                resume(account)
            except AccountRefused as refused:
                self.message_user(request, refused.message, messages.ERROR)
            else:
                resumed += 1
        self.message_user(request, f"{resumed} resumed.")


@admin.register(AccountGroup)
class AccountGroupAdmin(RefusingAdmin):
    """Groups with the limits of all their accounts."""

    list_display = ("name", "members")
    search_fields = ("name",)
    inlines: ClassVar = [LimitInline]

    @display(description="Accounts")  # type: ignore[untyped-decorator]  # unfold has no types
    def members(self, group: AccountGroup) -> int:
        """How many accounts it has."""
        return group.accounts.count()


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

    @display(description="State", label={"open": "danger", "closed": "success", "trying": "warning"})  # type: ignore[untyped-decorator]  # unfold has no types
    def state(self, breaker: Breaker) -> str:
        """Open, or trying again after its time, or closed."""
        if breaker.open_until is None:
            return "closed"
        return "open" if settings.CLOCK.now() < breaker.open_until else "trying"

    @admin.action(description="Close: the cause is gone", permissions=["close"])
    def close_selected(self, request: HttpRequest, queryset: QuerySet[Breaker]) -> None:
        """Let entries through again."""
        for breaker in queryset.select_related("account"):
            note_cause_gone(breaker.account, [breaker.code], settings.CLOCK.now())
        self.message_user(request, f"{len(queryset)} closed.")


@admin.register(SymbolSetting)
class SymbolSettingAdmin(ReadOnlyAdmin):
    """Leverage and margin mode as the exchange last read them back."""

    list_display = ("account", "symbol", "leverage", "is_isolated", "read_at")
    list_select_related = ("account",)
    list_filter = ("symbol", "leverage", "is_isolated")
    search_fields = ("account__name", "symbol")


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
    made.unknown_permissions_accepted = typed.unknown_permissions_accepted
    made.save(update_fields=["time_zone", "is_canary", "unknown_permissions_accepted"])
    typed.pk = made.pk
    typed.refresh_from_db()


def _ring_verification(account: Account) -> None:
    """Once the row is committed. Without a broker the next tick does it: the account is due."""
    transaction.on_commit(partial(verify_account.delay, account.pk, is_asked=True), robust=True)
