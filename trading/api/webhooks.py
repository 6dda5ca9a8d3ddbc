"""Where TradingView posts. It cannot set a header or sign, resends on 5xx only, and gives up after 3 s."""

import json
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from ninja import Router, Schema, Status

from exchange.errors import ReadFailed
from trading.api.errors import ApiError
from trading.models import Signal, Webhook
from trading.services import webhooks
from trading.services.signals import SignalRefused
from trading.tasks import ring, ring_symbols

router = Router(tags=["signals"])

LARGEST = 16 * 1024
UNAUTHORIZED = {"error": {"code": "UNAUTHORIZED", "message": "not accepted", "request_id": ""}}
"""One answer for every way of not being allowed in; the log tells which, by the id in X-Request-ID."""

ALERT = {
    "requestBody": {
        "required": True,
        "description": "A JSON object, or lines of name=value; docs/operations.md has the message to paste.",
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "text/plain": {"schema": {"type": "string"}},
        },
    }
}


class AlertOut(Schema):
    """The signal an alert led to; `closing_id`: the one that closes first where the strategy turned round."""

    id: UUID
    closing_id: UUID | None
    symbol: str
    side: str
    action: str
    status: str

    @classmethod
    def of(cls, signal: Signal, closing: Signal | None) -> "AlertOut":
        """Show it."""
        return cls(
            id=signal.uuid,
            closing_id=closing.uuid if closing else None,
            symbol=signal.symbol,
            side=signal.side,
            action=signal.action,
            status=signal.status,
        )


@router.post(
    "webhooks/tradingview/{path_id}",
    auth=None,
    response={200: AlertOut, 202: AlertOut},
    openapi_extra=ALERT,
)
def take_alert(request: HttpRequest, path_id: str) -> Status[AlertOut] | HttpResponse:
    """Take an alert in: 202 when its signal is stored, 200 with the same id when it is sent again."""
    sender, fields = _sender(request), _read(request)
    webhook = webhooks.find_webhook(path_id)
    is_its_own = webhooks.is_its_token(webhook, fields.pop("token", ""))
    if webhook is None or not is_its_own or not _may_send(sender):
        code = "SENDER" if not _may_send(sender) else "TOKEN" if fields else "UNREADABLE"
        webhooks.note_refusal(webhook, code, f"not accepted from {sender}", str(sender))
        return JsonResponse(UNAUTHORIZED, status=401)
    try:
        taken = _take(webhook, fields)
    except ApiError as refusal:
        webhooks.note_refusal(webhook, refusal.code, refusal.message, str(sender))
        raise
    return Status(202 if taken.is_new else 200, AlertOut.of(taken.signal, taken.closing))


def _take(webhook: Webhook, fields: Mapping[str, str]) -> webhooks.Taken:
    now, most = settings.CLOCK.now(), settings.TRADINGVIEW_ALERTS_PER_MINUTE
    try:
        taken = webhooks.take_alert(webhook, fields, now, most_per_minute=most, ring=ring)
    except SignalRefused as refusal:
        raise ApiError(422, refusal.code, refusal.message) from refusal
    except webhooks.TooManyAlerts as refusal:
        raise ApiError(429, "TOO_MANY", f"more than {most} entries in this minute") from refusal
    except webhooks.NotCounted as failure:
        raise ApiError(503, "UNAVAILABLE", "Valkey did not answer; send it again") from failure
    except ReadFailed as failure:
        raise ApiError(503, "MARKET_UNREAD", "the market table was not read yet; send it again") from failure
    if taken.is_new and taken.signal.action == "open":
        ring_symbols([taken.signal.symbol])
    return taken


# ── who sends ────────────────────────────────────────────────────────────────


def _sender(request: HttpRequest) -> IPv4Address | IPv6Address | None:
    """The address before our own proxies: what others put into X-Forwarded-For is further left, and not read.

    None where fewer proxies than we have told of it, or what they told is no address.
    """
    told = [hop.strip() for hop in request.headers.get("X-Forwarded-For", "").split(",") if hop.strip()]
    hops = [*told, request.META.get("REMOTE_ADDR", "")]
    try:
        address = ip_address(hops[-1 - settings.TRUSTED_PROXIES])
    except (IndexError, ValueError):
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def _may_send(sender: IPv4Address | IPv6Address | None) -> bool:
    return sender is not None and any(sender in network for network in settings.TRADINGVIEW_ADDRESSES)


# ── what is sent ─────────────────────────────────────────────────────────────


def _read(request: HttpRequest) -> dict[str, str]:
    """The fields of an alert as they are written; none where it is neither JSON nor lines of name=value."""
    if len(request.body) > LARGEST:
        raise ApiError(413, "TOO_LARGE", f"an alert has at most {LARGEST} bytes")
    try:
        text = request.body.decode("utf-8-sig").strip()
        return _of_json(text) if text.startswith("{") else _of_lines(text)
    except (ValueError, RecursionError):
        return {}


def _of_json(text: str) -> dict[str, str]:
    told: Mapping[str, Any] = json.loads(
        text, object_pairs_hook=_each_once, parse_float=str, parse_int=str, parse_constant=str
    )
    if any(not isinstance(value, str | None) for value in told.values()):
        raise ValueError("a field is neither text nor number")
    return {name: value for name, value in told.items() if value is not None}


def _of_lines(text: str) -> dict[str, str]:
    lines = [line.partition("=") for line in text.splitlines() if line.strip()]
    return _each_once([(name.strip(), value.strip()) for name, _, value in lines])


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field is told twice")
    return fields
