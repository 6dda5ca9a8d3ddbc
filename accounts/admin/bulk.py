"""Actions on chosen accounts that have something to ask first."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.http import HttpRequest
from django.template.response import TemplateResponse
from unfold.admin import ModelAdmin
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from accounts.admin.limits import own_names
from accounts.errors import AccountRefused
from accounts.models import Account, AccountGroup, Tag
from accounts.services.bulk import TAG_LENGTH

APPLY = "apply"
Act = Callable[[list[Account], dict[str, Any]], str]


class GroupForm(forms.Form):
    """Which group."""

    group = forms.ModelChoiceField(
        AccountGroup.objects.all(), required=False, empty_label="no group", widget=UnfoldAdminSelectWidget
    )


class TagForm(forms.Form):
    """Which word."""

    tag = forms.CharField(max_length=TAG_LENGTH, widget=UnfoldAdminTextInputWidget)


class UntagForm(forms.Form):
    """Which of the words there are."""

    tag = forms.ModelChoiceField(Tag.objects.all(), widget=UnfoldAdminSelectWidget)


class LimitForm(forms.Form):
    """Which limit, and what it is to be."""

    name = forms.ChoiceField(widget=UnfoldAdminSelectWidget)
    value = forms.CharField(
        required=False,
        max_length=40,
        widget=UnfoldAdminTextInputWidget,
        help_text="Percent where the limit is one. Empty: what the group or the desk says.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["name"].choices = own_names()  # type: ignore[attr-defined]  # a choice field


def ask_first(
    shown_by: ModelAdmin, request: HttpRequest, chosen: list[Account], form_class: type[forms.Form], act: Act
) -> TemplateResponse | None:
    """Ask with the form, or act on what was answered; a refusal is shown beside the form."""
    form = form_class(request.POST if APPLY in request.POST else None)
    if form.is_valid():
        try:
            told = act(chosen, form.cleaned_data)
        except AccountRefused as refused:
            form.add_error(None, f"{refused.code}: {refused.message}")
        else:
            shown_by.message_user(request, told, messages.SUCCESS)
            return None
    action = request.POST["action"]
    is_all = request.POST.get("select_across") == "1"
    context = {
        **shown_by.admin_site.each_context(request),
        "opts": shown_by.model._meta,  # noqa: SLF001 - Django's own name for it
        "title": str(dict(shown_by.get_action_choices(request)).get(action, action)),
        "form": form,
        "action": action,
        "apply": APPLY,
        "checkbox": ACTION_CHECKBOX_NAME,
        "count": len(chosen),
        # Of a whole list one stands for all: the list is asked for again, by the same filters.
        "ids": [account.pk for account in (chosen[:1] if is_all else chosen)],
        "select_across": int(is_all),
    }
    return TemplateResponse(request, "admin/accounts/bulk.html", context)
