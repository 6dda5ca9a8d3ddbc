from collections.abc import Callable
from functools import wraps

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse

View = Callable[..., HttpResponse]

TRADES = "trading.change_position"
SEES_THE_DESK = "trading.view_position"
UNAUTHORIZED = 401


def for_operators(view: View) -> View:
    """A page for people who may see positions; who is not signed in is asked to, and comes back."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        if not request.user.is_authenticated:
            return _ask_to_sign_in(request)
        if not request.user.has_perm(SEES_THE_DESK):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return guarded


def for_traders(view: View) -> View:
    """As `for_operators`, for what stops or resumes trading: it asks for the right to change positions."""

    @for_operators
    @wraps(view)
    def guarded(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        if not request.user.has_perm(TRADES):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return guarded


def _ask_to_sign_in(request: HttpRequest) -> HttpResponse:
    if not request.headers.get("HX-Request"):
        return redirect_to_login(request.get_full_path())
    # A redirect would be followed unseen and leave old figures standing: have the whole page loaded again.
    return HttpResponse(status=UNAUTHORIZED, headers={"HX-Refresh": "true"})
