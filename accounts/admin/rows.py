from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import structlog
from django.contrib import messages
from django.db import IntegrityError
from django.db.models import Model
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from unfold.admin import ModelAdmin

from accounts.errors import AccountRefused

log = structlog.get_logger(__name__)

Row = TypeVar("Row", bound=Model)
Shown = TypeVar("Shown")


def told_once(show: Callable[[Any, Row], Shown]) -> Callable[[Any, Row], Shown]:
    """Work out what a form shows of its row once: the templates ask for it several times."""

    @wraps(show)
    def remembered(shown_by: Any, row: Row) -> Shown:
        told: dict[str, Shown] = vars(row).setdefault("_told_once", {})
        if show.__name__ not in told:
            told[show.__name__] = show(shown_by, row)
        return told[show.__name__]

    return remembered


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


AT_ONCE = "TAKEN: Somebody else saved the same at the same moment; nothing of yours was saved."


class RefusingAdmin(ModelAdmin):  # type: ignore[misc]  # unfold has no types
    """Shows a refusal of services or database; the request's transaction has then undone everything."""

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
            return self._refused(request, f"{refused.code}: {refused.message}")
        except IntegrityError as error:
            log.warning("form_not_saved", form=request.path, error=str(error)[:200])
            return self._refused(request, AT_ONCE)
        return response

    def _refused(self, request: HttpRequest, told: str) -> HttpResponse:
        self.message_user(request, told, messages.ERROR)
        return HttpResponseRedirect(request.get_full_path())
