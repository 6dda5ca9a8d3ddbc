"""Every refusal of the API in one envelope: `{"error": {"code", "message", "request_id"}}`."""

from collections.abc import Mapping
from typing import Any

import structlog
from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.db import DataError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from ninja import NinjaAPI, Schema
from ninja.errors import HttpError, ValidationError

log = structlog.get_logger(__name__)

VALIDATION_CODES: Mapping[str, str] = {
    "missing": "MISSING",
    "extra_forbidden": "UNKNOWN_FIELD",
    "finite_number": "NOT_A_NUMBER",
    "decimal_parsing": "NOT_A_NUMBER",
    "decimal_type": "NOT_A_NUMBER",
    "decimal_max_digits": "ABSURD",
    "decimal_max_places": "ABSURD",
    "decimal_whole_digits": "ABSURD",
    "timezone_aware": "TIME_ZONE",
}
STATUS_CODES: Mapping[int, str] = {
    400: "BAD_REQUEST",
    401: "UNAUTHORIZED",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    413: "TOO_LARGE",
}


class Refusal(Schema):
    """Why a request was refused; `request_id` finds it in the logs."""

    code: str
    message: str
    request_id: str


class ErrorEnvelope(Schema):
    """What every refusal looks like."""

    error: Refusal


class ApiError(Exception):
    """A refusal with its HTTP status and its code."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def envelope(status: int, code: str, message: str) -> HttpResponse:
    """Answer with a refusal."""
    request_id = str(structlog.contextvars.get_contextvars().get("trace_id", ""))
    refusal = {"code": code, "message": message, "request_id": request_id}
    return JsonResponse({"error": refusal}, status=status)


def install(api: NinjaAPI) -> None:
    """Give every error the API can raise its place in the envelope."""
    api.add_exception_handler(ApiError, _on_api_error)
    api.add_exception_handler(ValidationError, _on_validation_error)
    api.add_exception_handler(HttpError, _on_http_error)
    api.add_exception_handler(Http404, _on_missing)
    api.add_exception_handler(RequestDataTooBig, _on_too_large)
    api.add_exception_handler(DataError, _on_unstorable)
    api.add_exception_handler(OperationalError, _on_database_away)
    api.add_exception_handler(Exception, _on_crash)


def _on_api_error(_: HttpRequest, error: Exception | type[Exception]) -> HttpResponse:
    assert isinstance(error, ApiError)  # noqa: S101 - the dispatcher's promise, for the type checker
    return envelope(error.status, error.code, error.message)


def _on_validation_error(_: HttpRequest, error: Exception | type[Exception]) -> HttpResponse:
    assert isinstance(error, ValidationError)  # noqa: S101 - the dispatcher's promise, for the type checker
    first = error.errors[0]
    code = VALIDATION_CODES.get(str(first.get("type")), "INVALID")
    return envelope(422, code, "; ".join(_describe(fault) for fault in error.errors))


def _describe(fault: Mapping[str, Any]) -> str:
    # The place and the rule only: what was sent may be a secret in the wrong field.
    place = ".".join(str(step) for step in fault.get("loc", ()) if step not in {"body", "query", "path"})
    return f"{place}: {fault.get('msg', 'invalid')}".removeprefix(": ")


def _on_http_error(_: HttpRequest, error: Exception | type[Exception]) -> HttpResponse:
    assert isinstance(error, HttpError)  # noqa: S101 - the dispatcher's promise, for the type checker
    return envelope(error.status_code, STATUS_CODES.get(error.status_code, "REFUSED"), str(error))


def _on_missing(_: HttpRequest, __: Exception | type[Exception]) -> HttpResponse:
    return envelope(404, "NOT_FOUND", "there is no such row")


def _on_too_large(_: HttpRequest, __: Exception | type[Exception]) -> HttpResponse:
    return envelope(413, "TOO_LARGE", f"a body has at most {settings.DATA_UPLOAD_MAX_MEMORY_SIZE} bytes")


def _on_unstorable(_: HttpRequest, __: Exception | type[Exception]) -> HttpResponse:
    return envelope(422, "INVALID", "a value is longer than its column, or has a character none may have")


def _on_database_away(request: HttpRequest, error: Exception | type[Exception]) -> HttpResponse:
    # 503 is what senders send again on; the row is unique, so a second try never doubles.
    log.error("database away", path=request.path, error=type(error).__name__)
    return envelope(503, "UNAVAILABLE", "the database did not answer; ask again")


def _on_crash(request: HttpRequest, error: Exception | type[Exception]) -> HttpResponse:
    log.error("request failed", path=request.path, error=type(error).__name__, exc_info=error)
    return envelope(500, "INTERNAL", "the desk failed to answer; the log has the request id")
