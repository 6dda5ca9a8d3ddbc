from django.conf import settings
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.decorators import display

from trading.admin.figures import HALTS, moment
from trading.admin.rows import DeskRowsAdmin
from trading.models import ApiToken, Halt
from trading.services import emergency
from trading.services.tokens import revoke_token


@admin.register(Halt)
class HaltAdmin(DeskRowsAdmin):
    """Orders to stop, standing and resumed."""

    list_display = (
        "raised",
        "state",
        "level",
        "where",
        "code",
        "reason",
        "raised_by",
        "is_automatic",
        "resumed",
        "resumed_by",
    )
    list_display_links = ("raised", "level")
    list_filter = ("scope", "level", "is_automatic", ("resumed_at", admin.EmptyFieldListFilter))
    search_fields = ("target", "reason", "code")
    actions = ["resume_selected"]

    @display(description="Raised", ordering="raised_at")  # type: ignore[untyped-decorator]  # unfold has no types
    def raised(self, halt: Halt) -> SafeString | str:
        """When it was raised."""
        return moment(halt.raised_at)

    @display(description="Resumed", ordering="resumed_at")  # type: ignore[untyped-decorator]  # unfold has no types
    def resumed(self, halt: Halt) -> SafeString | str:
        """When it was lifted."""
        return moment(halt.resumed_at)

    @display(description="State", label=HALTS)  # type: ignore[untyped-decorator]  # unfold has no types
    def state(self, halt: Halt) -> str:
        """Standing until it is resumed."""
        return "resumed" if halt.resumed_at else "standing"

    @display(description="Scope")  # type: ignore[untyped-decorator]  # unfold has no types
    def where(self, halt: Halt) -> str:
        """What it covers."""
        return _scope(halt)

    @admin.action(description="Resume: every halt of the same scope", permissions=["trade"])
    def resume_selected(self, request: HttpRequest, queryset: QuerySet[Halt]) -> None:
        """Let these scopes trade again."""
        by, now = request.user.get_username(), settings.CLOCK.now()
        scopes = {_scope(halt) for halt in queryset.filter(resumed_at__isnull=True)}
        lifted = sum(emergency.resume(scope, "resumed in the admin", by, now) for scope in sorted(scopes))
        self.message_user(request, f"{lifted} lifted.")


@admin.register(ApiToken)
class ApiTokenAdmin(DeskRowsAdmin):
    """Tokens by name and first characters; they are made by `manage.py create_token` and shown there once."""

    list_display = ("name", "prefix", "scopes", "state", "created_at", "last_used_at", "expires_at")
    search_fields = ("name", "prefix")
    exclude = ("token_hash",)
    actions = ["revoke_selected"]

    @display(description="State", label={"living": "success", "expired": "warning", "revoked": "danger"})  # type: ignore[untyped-decorator]  # unfold has no types
    def state(self, token: ApiToken) -> str:
        """Whether it opens anything."""
        if token.revoked_at:
            return "revoked"
        return "expired" if token.expires_at and token.expires_at <= timezone.now() else "living"

    @admin.action(description="Revoke at once", permissions=["revoke"])
    def revoke_selected(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> None:
        """End each; what uses it is refused from now on."""
        revoked = sum(revoke_token(token, timezone.now()) for token in queryset)
        self.message_user(request, f"{revoked} revoked.")

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        """Who may change tokens may end them."""
        return request.user.has_perm("trading.change_apitoken")


def _scope(halt: Halt) -> str:
    return f"{halt.scope}:{halt.target}" if halt.target else str(halt.scope)
