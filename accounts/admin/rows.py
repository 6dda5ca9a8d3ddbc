from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from unfold.admin import ModelAdmin

from accounts.errors import AccountRefused


class ReadOnlyAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """Rows that only the desk writes."""

    list_per_page = 50
    show_full_result_count = False

    def has_add_permission(self, *_: Any) -> bool:
        """Nobody adds one by hand."""
        return False

    def has_change_permission(self, *_: Any, **__: Any) -> bool:
        """Nobody edits one."""
        return False

    def has_delete_permission(self, *_: Any, **__: Any) -> bool:
        """Nobody deletes one."""
        return False


class RefusingAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """Shows a refusal of the services; the request's transaction has then undone everything."""

    list_per_page = 50
    show_full_result_count = False

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
