import json
from typing import Any, ClassVar

from django import forms
from django.conf import settings
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.decorators import display

from accounts.admin.rows import RefusingAdmin
from exchange.errors import ReadFailed
from trading.admin.figures import lines, moment
from trading.domain.tradingview import INDICATOR_MESSAGE, STRATEGY_MESSAGE
from trading.models import Webhook
from trading.services.webhooks import Opened, WebhookRefused, create_webhook, read_symbols, revoke_webhook

ASKED = ("name", "source", "symbols", "side", "max_age_seconds")
TOLD = (
    "state",
    "path_start",
    "created_by",
    "created_at",
    "last_used_at",
    "refused_count",
    "refused_at",
    "refused_why",
)


class WebhookForm(forms.ModelForm):  # type: ignore[type-arg]  # not subscriptable while running
    """What a webhook is for; its address and token are made by the desk."""

    class Meta:
        """The columns an operator may set."""

        model = Webhook
        fields: ClassVar = [*ASKED]

    def clean_symbols(self) -> str:
        """As the desk spells them."""
        try:
            return read_symbols(self.cleaned_data["symbols"])
        except WebhookRefused as refused:
            raise ValidationError(str(refused)) from refused
        except ReadFailed as failure:
            raise ValidationError("The market table was not read yet; try again.") from failure


@admin.register(Webhook)
class WebhookAdmin(RefusingAdmin):
    """Addresses for TradingView's alerts. Address and token of a new one are shown once."""

    form = WebhookForm
    list_display = ("name", "state", "source", "entries", "last_used", "refused", "refused_why")
    list_select_related = ("source",)
    list_filter = ("source", ("revoked_at", admin.EmptyFieldListFilter))
    search_fields = ("name", "source__name")
    actions: ClassVar = ["revoke_selected"]

    def get_fields(self, request: HttpRequest, obj: Webhook | None = None) -> tuple[str, ...]:  # noqa: ARG002 - Django's signature
        """What may be asked of a new one, and what is known of one that is there."""
        return ASKED if obj is None else ASKED + TOLD

    def get_readonly_fields(self, request: HttpRequest, obj: Webhook | None = None) -> tuple[str, ...]:  # noqa: ARG002 - Django's signature
        """A webhook keeps its source."""
        return () if obj is None else ("source", *TOLD)

    def save_model(self, request: HttpRequest, obj: Webhook, form: Any, change: bool) -> None:
        """Make the secrets of a new one; they stay with the row of this request alone."""
        if change:
            super().save_model(request, obj, form, change)
            return
        opened = create_webhook(
            obj.name,
            obj.source,
            request.user.get_username(),
            symbols=obj.symbols,
            side=obj.side,
            max_age_seconds=obj.max_age_seconds,
        )
        vars(obj).update(vars(opened.webhook), opened=opened)

    def response_add(
        self,
        request: HttpRequest,
        obj: Webhook,
        post_url_continue: str | None = None,  # noqa: ARG002 - Django's signature
    ) -> HttpResponse:
        """Show address and token: in this answer and nowhere else, no session and no cookie keeps them."""
        opened: Opened = vars(obj)["opened"]
        address = reverse("api:take_alert", kwargs={"path_id": opened.path_id})
        context = {
            **self.admin_site.each_context(request),
            "opts": self.model._meta,  # noqa: SLF001 - Django's own name for it
            "title": f"Webhook {obj.name}",
            "address": settings.SITE_URL + address,
            "is_reachable": settings.HTTPS,
            "messages_to_paste": [
                ("Message of a strategy", _message(opened, STRATEGY_MESSAGE)),
                ("Message of an indicator that goes long", _message(opened, INDICATOR_MESSAGE)),
            ],
        }
        return TemplateResponse(request, "admin/trading/webhook.html", context)

    @display(description="State", label={"living": "success", "revoked": "danger"})  # type: ignore[untyped-decorator]  # unfold has no types
    def state(self, webhook: Webhook) -> str:
        """Whether it opens anything."""
        return "revoked" if webhook.revoked_at else "living"

    @display(description="Entries")  # type: ignore[untyped-decorator]  # unfold has no types
    def entries(self, webhook: Webhook) -> SafeString:
        """What it may enter."""
        return lines([webhook.side or "both sides", *(webhook.symbols.split() or ["all symbols"])])

    @display(description="Last used", ordering="last_used_at")  # type: ignore[untyped-decorator]  # unfold has no types
    def last_used(self, webhook: Webhook) -> SafeString | str:
        """When an alert was taken last."""
        return moment(webhook.last_used_at)

    @display(description="Last refused", ordering="refused_at")  # type: ignore[untyped-decorator]  # unfold has no types
    def refused(self, webhook: Webhook) -> SafeString | str:
        """When an alert was refused last."""
        return moment(webhook.refused_at)

    @admin.action(description="Revoke at once", permissions=["revoke"])
    def revoke_selected(self, request: HttpRequest, queryset: QuerySet[Webhook]) -> None:
        """End each; what posts to it is refused from now on."""
        revoked = sum(revoke_webhook(webhook, timezone.now()) for webhook in queryset)
        self.message_user(request, f"{revoked} revoked.")

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        """Who may change webhooks may end them."""
        return request.user.has_perm("trading.change_webhook")

    def has_delete_permission(self, request: HttpRequest, obj: Webhook | None = None) -> bool:  # noqa: ARG002 - Django's signature
        """What it refused and took stays."""
        return False


def _message(opened: Opened, message: dict[str, str]) -> str:
    return json.dumps({"token": opened.token, **message}, indent=2)
