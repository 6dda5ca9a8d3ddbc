"""Who asks, and what they may: a bearer token with scopes, or a signed-in operator with permissions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import wraps

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from ninja.security import HttpBearer, SessionAuth

from trading.api.errors import ApiError
from trading.services.tokens import Scope, find_token

PERMISSIONS: Mapping[Scope, str] = {
    Scope.SIGNALS_WRITE: "trading.add_signal",
    Scope.READ: "trading.view_position",
    Scope.TRADE: "trading.change_position",
    Scope.ADMIN: "accounts.change_account",
}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, for the record of what they did."""

    name: str


class TokenAuth(HttpBearer):
    """A bearer token that has the scope."""

    def __init__(self, scope: Scope) -> None:
        super().__init__()
        self._scope = scope

    def authenticate(self, _: HttpRequest, token: str) -> Caller:
        """The token's name. Raises ApiError 401 for no living token, 403 for a scope it has not."""
        found = find_token(token, timezone.now())
        if found is None:
            raise ApiError(401, "UNAUTHORIZED", "the token is unknown, expired or revoked")
        if self._scope not in found.scopes:
            raise ApiError(403, "SCOPE_MISSING", f"this token has no scope {self._scope}")
        return Caller(f"token:{found.name}")


class OperatorAuth(SessionAuth):
    """A signed-in operator who has the permission; what changes something needs the CSRF token too."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(csrf=True)
        self._scope = scope

    def __call__(self, request: HttpRequest) -> Caller | None:
        """The operator's name; None for nobody. Raises ApiError 403 for a permission they have not."""
        # Nobody signed in is 401, whatever the CSRF token says.
        if not request.user.is_authenticated:
            return None
        self._get_key(request)
        if not request.user.has_perm(PERMISSIONS[self._scope]):
            raise ApiError(403, "FORBIDDEN", f"{request.user.get_username()} may not do this")
        return Caller(request.user.get_username())


def needs(scope: Scope) -> list[TokenAuth | OperatorAuth]:
    """The two ways to be allowed what `scope` covers."""
    return [TokenAuth(scope), OperatorAuth(scope)]


def for_readers(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """A page for a signed-in person or a token that may read; everyone else is asked to sign in."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        found = find_token(token, timezone.now()) if token else None
        if request.user.is_authenticated or (found is not None and Scope.READ in found.scopes):
            return view(request, *args, **kwargs)
        return redirect_to_login(request.get_full_path())

    return guarded


def caller(request: HttpRequest) -> str:
    """The name of who asks, on a route that `needs` a scope."""
    found: Caller = request.auth  # type: ignore[attr-defined]  # set by ninja once a way to be allowed was found
    return found.name
