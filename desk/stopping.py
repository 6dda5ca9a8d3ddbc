"""The page that stops everything: what a stop would reach, the confirmation, its proof, and the way back.

Two requests on purpose: the first only names what would happen, the second does it and must repeat the
level's name. Both need the right to trade and a reason.
"""

from typing import Any

from django import forms
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from accounts.models import Account, AccountGroup
from desk.access import TRADES, for_operators, for_traders
from trading.domain.states import HaltLevel
from trading.models import Halt
from trading.services import emergency
from trading.services.halts import LEVELS, ScopeUnknown
from trading.services.status import read_status
from trading.services.stop_preview import preview
from trading.tasks import ring

LATEST = 10
WORDS = {
    HaltLevel.HALT_ENTRIES: "No new entries. What is open keeps its exits and stops.",
    HaltLevel.CANCEL_ORDERS: "And entries not yet filled are recalled. Protective stops stay.",
    HaltLevel.FLATTEN: "And every position is closed at market, until the exchange itself shows flat.",
}


class StopForm(forms.Form):
    """What to stop, how hard, and why."""

    scope = forms.CharField(max_length=90)
    level = forms.ChoiceField(choices=[(level.value, level.value) for level in LEVELS])
    reason = forms.CharField(max_length=300)


class ConfirmedStopForm(StopForm):
    """As asked before, with the level's name typed once more."""

    confirmation = forms.CharField(max_length=20)
    includes_foreign = forms.BooleanField(required=False)

    def clean_confirmation(self) -> str:
        """The level's own name, so that no habit confirms another level."""
        typed: str = self.cleaned_data["confirmation"].strip().upper()
        if typed != self.cleaned_data.get("level"):
            raise forms.ValidationError("Type the level's name to confirm it.")
        return typed


class ResumeForm(forms.Form):
    """What may trade again, and why."""

    scope = forms.CharField(max_length=90)
    reason = forms.CharField(max_length=300)


@require_safe
@never_cache
@for_operators
def stops(request: HttpRequest) -> HttpResponse:
    """Standing halts with their proof, and the form that asks for another."""
    return _page(request, StopForm(initial={"scope": "desk", "level": HaltLevel.HALT_ENTRIES}))


@require_POST
@never_cache
@for_traders
def ask(request: HttpRequest) -> HttpResponse:
    """Name what the stop would reach; nothing is stopped yet."""
    form = StopForm(request.POST)
    if not form.is_valid():
        return _page(request, form, status=422)
    try:
        reach = preview(form.cleaned_data["scope"])
    except ScopeUnknown as error:
        form.add_error("scope", str(error))
        return _page(request, form, status=422)
    return _page(request, form, reach=reach, confirmed=ConfirmedStopForm(initial=form.cleaned_data))


@require_POST
@never_cache
@for_traders
def raise_halt(request: HttpRequest) -> HttpResponse:
    """Stop, once confirmed. Asked twice, the same standing halt is shown again."""
    form = ConfirmedStopForm(request.POST)
    try:
        reach = preview(request.POST.get("scope", ""))
    except ScopeUnknown as error:
        return _page(request, StopForm(request.POST), problem=str(error), status=422)
    if not form.is_valid():
        return _page(request, form, reach=reach, confirmed=form, status=422)
    told = form.cleaned_data
    _, bells = emergency.raise_halt(
        told["scope"],
        told["level"],
        told["reason"],
        request.user.get_username(),
        settings.CLOCK.now(),
        includes_foreign=told["includes_foreign"] and told["level"] == HaltLevel.FLATTEN,
        ring=ring,
    )
    ring(bells)
    return redirect("desk:stops")


@require_POST
@never_cache
@for_traders
def resume(request: HttpRequest) -> HttpResponse:
    """Lift every halt of one scope."""
    form = ResumeForm(request.POST)
    if not form.is_valid():
        return _page(request, StopForm(), problem="A reason is needed to resume.", status=422)
    told = form.cleaned_data
    try:
        emergency.resume(told["scope"], told["reason"], request.user.get_username(), settings.CLOCK.now())
    except ScopeUnknown as error:
        return _page(request, StopForm(), problem=str(error), status=422)
    return redirect("desk:stops")


def _page(request: HttpRequest, form: StopForm, *, status: int = 200, **shown: Any) -> HttpResponse:
    groups = [f"group:{name}" for name in AccountGroup.objects.values_list("name", flat=True)]
    named = Account.objects.filter(archived_at__isnull=True).order_by("name")
    names = [f"account:{name}" for name in named.values_list("name", flat=True)[:1000]]
    return render(
        request,
        "desk/stops.html",
        {
            "status": read_status(settings.CLOCK.now()),
            "form": form,
            "levels": [(level.value, words) for level, words in WORDS.items()],
            "scopes": ["desk", *groups, *names],
            "standing": Halt.objects.filter(resumed_at__isnull=True),
            "past": Halt.objects.filter(resumed_at__isnull=False)[:LATEST],
            "may_trade": may_trade(request),
            **shown,
        },
        status=status,
    )


def may_trade(request: HttpRequest) -> bool:
    """Whether the buttons are shown; the requests ask for themselves."""
    return request.user.has_perm(TRADES)
