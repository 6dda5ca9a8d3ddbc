"""The HTTP API under `/api/bot/`."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, URLResolver, re_path
from django.views.decorators.csrf import csrf_exempt
from ninja import NinjaAPI
from ninja.openapi.schema import OpenAPISchema

from trading.api import (
    accounts,
    decisions,
    errors,
    limits,
    many_accounts,
    market,
    orders,
    position_details,
    positions,
    reports,
    signals,
    statistics,
    stops,
    webhooks,
    why,
)
from trading.api.authentication import for_readers

METHOD_NOT_ALLOWED = 405
REFUSED = {
    "description": "Refused, with a code; the log has the request id.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorEnvelope"}}},
}
Patterns = list[URLPattern | URLResolver]


class DeskApi(NinjaAPI):
    """The API whose every refusal is in the envelope: the framework's own for a route or a method, too."""

    @property
    def urls(self) -> tuple[Patterns, str, str]:
        """The routes, each answering a wrong method in the envelope, and one for all that is no route."""
        patterns, app, namespace = super().urls
        for pattern in patterns:
            if isinstance(pattern, URLPattern):
                pattern.callback = _enveloped(pattern.callback)
        return [*patterns, re_path(r"", _no_route)], app, namespace

    def get_openapi_schema(self, **options: Any) -> OpenAPISchema:
        """The description of every route, the envelope of refusals included."""
        schema = super().get_openapi_schema(**options)
        template = "#/components/schemas/{model}"
        envelope = errors.ErrorEnvelope.model_json_schema(ref_template=template)
        schema["components"]["schemas"] |= {**envelope.pop("$defs"), "ErrorEnvelope": envelope}
        for path in schema["paths"].values():
            for operation in path.values():
                operation["responses"] |= {"4XX": REFUSED, "5XX": REFUSED}
        return schema


def _enveloped(view: Callable[..., Any]) -> Callable[..., Any]:
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        response = view(request, *args, **kwargs)
        if response.status_code != METHOD_NOT_ALLOWED:
            return response
        refusal = errors.envelope(METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "not on this route")
        refusal["Allow"] = response["Allow"]
        return refusal

    # Cookies are checked by the way of authentication itself; tokens need no CSRF check.
    return csrf_exempt(answer)


@csrf_exempt
def _no_route(_: HttpRequest) -> HttpResponse:
    return errors.envelope(404, "NOT_FOUND", "there is no such route")


api = DeskApi(
    title="Phalanx",
    version="1",
    description="Signals in; out the ledger of every decision, positions and their stops.",
    urls_namespace="api",
    docs_decorator=for_readers,
)
errors.install(api)
MODULES = (
    signals,
    webhooks,
    decisions,
    accounts,
    many_accounts,
    limits,
    positions,
    position_details,
    stops,
    orders,
    statistics,
    reports,
    market,
    why,
)
for module in MODULES:
    api.add_router("", module.router)
