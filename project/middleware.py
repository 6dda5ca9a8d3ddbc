"""What every request passes: the id of its journey, and what its page may load."""

import re
import time
from collections.abc import Callable
from uuid import uuid4

import structlog
from django.http import HttpRequest, HttpResponse

GetResponse = Callable[[HttpRequest], HttpResponse]

TRACE_FORMAT = re.compile(r"[A-Za-z0-9-]{8,64}")
QUIET_PATHS = ("/health", "/ready", "/static/")

OWN_PAGES = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "font-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}
# Alpine evaluates expressions and the admin theme and the API page style inline: theirs alone.
LIBRARY_PAGES = {
    "/admin/": {"script-src": "'self' 'unsafe-inline' 'unsafe-eval'", "style-src": "'self' 'unsafe-inline'"},
    "/api/bot/docs": {"style-src": "'self' 'unsafe-inline'"},
}

log = structlog.get_logger(__name__)


class TraceMiddleware:
    """Gives each request an id, carried into tasks and logs and returned as `X-Request-ID`."""

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request with its id bound."""
        given = request.headers.get("X-Request-ID", "")
        trace_id = given if TRACE_FORMAT.fullmatch(given) else uuid4().hex
        began = time.perf_counter()
        with structlog.contextvars.bound_contextvars(trace_id=trace_id):
            response = self._get_response(request)
            self._record(request, response, began)
        response["X-Request-ID"] = trace_id
        return response

    @staticmethod
    def _record(request: HttpRequest, response: HttpResponse, began: float) -> None:
        if request.path.startswith(QUIET_PATHS):
            return
        duration_ms = round((time.perf_counter() - began) * 1000, 1)
        log.info(
            "request answered",
            method=request.method,
            path=request.path,
            status=response.status_code,
            duration_ms=duration_ms,
        )


class ContentSecurityMiddleware:
    """Says what a page may load: nothing inline and nobody else's, except on pages a library draws."""

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Add the policy to the answer."""
        response = self._get_response(request)
        response.setdefault("Content-Security-Policy", policy_for(request.path))
        response.setdefault("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=()")
        return response


def policy_for(path: str) -> str:
    """The content security policy of a path."""
    directives = dict(OWN_PAGES)
    for start, exception in LIBRARY_PAGES.items():
        if path.startswith(start):
            directives |= exception
    return "; ".join(f"{name} {value}" for name, value in directives.items())
