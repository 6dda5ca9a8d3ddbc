"""How states and figures look in the admin: a colour for what matters, always with its word."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

NOT_KNOWN = "–"

OUTCOMES: Mapping[str, str] = {
    "FILLED": "success",
    "PARTIAL": "warning",
    "PENDING": "info",
    "UNKNOWN": "danger",
    "REJECTED": "danger",
    "EXPIRED": "warning",
}
DECISIONS: Mapping[str, str] = {"OPEN": "info", "COMPLETE": "success"}
ORDERS: Mapping[str, str] = {
    "PENDING": "info",
    "CLAIMED": "info",
    "SUBMITTED": "info",
    "UNKNOWN": "danger",
    "ACKNOWLEDGED": "info",
    "PARTIALLY_FILLED": "warning",
    "FILLED": "success",
    "REJECTED": "danger",
}
PROTECTIONS: Mapping[str, str] = {"VERIFIED": "success", "ACKED": "warning", "UNPROTECTED": "danger"}
SIDES: Mapping[str, str] = {"LONG": "success", "SHORT": "danger"}
SIGNALS: Mapping[str, str] = {
    "OPEN": "info",
    "DECIDED": "success",
    "DUPLICATE": "warning",
    "CANCELLED": "warning",
}
HALTS: Mapping[str, str] = {"standing": "danger", "resumed": "success"}


def figure(value: Decimal | None) -> str:
    """A price or quantity without trailing zeros."""
    if value is None:
        return NOT_KNOWN
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(value: Decimal | None) -> str:
    """A signed percentage with its unit."""
    return NOT_KNOWN if value is None else f"{value:+.2f}\N{NO-BREAK SPACE}%"


def money(value: Decimal | None) -> str:
    """Signed quote units."""
    return NOT_KNOWN if value is None else f"{value:+,.2f}"


def bps(value: Decimal | None) -> str:
    """Signed basis points with their unit."""
    return NOT_KNOWN if value is None else f"{value:+.2f}\N{NO-BREAK SPACE}bps"


def moment(at: datetime | None) -> SafeString | str:
    """A time in UTC, to the second, on one line."""
    return NOT_KNOWN if at is None else unbroken(f"{at:%Y-%m-%d %H:%M:%S}")


def lines(texts: Iterable[str]) -> SafeString:
    """Each text on a line of its own."""
    return format_html_join(SafeString("<br>"), "{}", ((unbroken(text),) for text in texts))


def unbroken(text: str) -> SafeString:
    """A name or figure that is read on one line."""
    return format_html('<span class="whitespace-nowrap">{}</span>', text)
