"""Accounts as files in the admin: a download, and a page to bring one."""

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminFileFieldWidget, UnfoldBooleanSwitchWidget

from accounts.errors import AccountRefused
from accounts.models import Account
from accounts.services.files import CSV, JSON, Imported, export_accounts, import_accounts

TYPES = {CSV: "text/csv; charset=utf-8", JSON: "application/json"}
LARGEST = 8 * 1024 * 1024


class FileForm(forms.Form):
    """The file, and whether it is only tried."""

    file = forms.FileField(
        widget=UnfoldAdminFileFieldWidget,
        help_text="CSV or JSON as it was exported; columns may be left out.",
    )
    is_trial = forms.BooleanField(
        label="Only try", required=False, initial=True, widget=UnfoldBooleanSwitchWidget
    )


def download(accounts: list[Account], kind: str) -> HttpResponse:
    """The accounts as a file."""
    answer = HttpResponse(export_accounts(accounts, kind), content_type=TYPES[kind])
    answer["Content-Disposition"] = f'attachment; filename="accounts.{kind}"'
    return answer


def import_page(shown_by: ModelAdmin, request: HttpRequest) -> HttpResponse:
    """Ask for a file, and say what became of it."""
    form = FileForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        try:
            done = _import(request, form)
        except AccountRefused as refused:
            form.add_error("file", f"{refused.code}: {refused.message}")
        else:
            is_trial = form.cleaned_data["is_trial"]
            shown_by.message_user(request, _told(done, is_trial=is_trial), messages.SUCCESS)
            if not is_trial:
                return HttpResponseRedirect(reverse("admin:accounts_account_changelist"))
    context = {
        **shown_by.admin_site.each_context(request),
        "opts": shown_by.model._meta,  # noqa: SLF001 - Django's own name for it
        "title": "Import accounts",
        "form": form,
    }
    return TemplateResponse(request, "admin/accounts/import.html", context)


def _import(request: HttpRequest, form: FileForm) -> Imported:
    file = form.cleaned_data["file"]
    if file.size > LARGEST:
        raise AccountRefused("BAD_FILE", f"It has more than {LARGEST} bytes.")
    try:
        text = file.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise AccountRefused("BAD_FILE", "It is not UTF-8.") from error
    kind = JSON if text.lstrip().startswith("{") else CSV
    by = request.user.get_username()
    return import_accounts(text, kind, by, is_trial=form.cleaned_data["is_trial"])


def _told(done: Imported, *, is_trial: bool) -> str:
    would = "would be changed (nothing was)" if is_trial else "changed"
    return f"{len(done.changed)} accounts {would}, {done.unchanged} are as the file says."
