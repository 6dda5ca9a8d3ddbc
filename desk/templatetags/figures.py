"""How figures look on a page: signed with a real minus, grouped, with their unit, never a bare number."""

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from django import template
from django.conf import settings
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()

NOTHING = "–"
THIN = "\u202f"
MINUS = "\u2212"
MINUTE, HOUR, DAY = 60, 3600, 86_400
WORTH_TENTHS = 10
NUMBER = re.compile(r"-?\d+(\.\d+)?")
EMPTY: tuple[Any, ...] = ("", None, [], {})
HUNDREDTH = Decimal("0.01")
SEGMENTS = ("FILLED", "PARTIAL", "PENDING", "UNKNOWN", "REJECTED", "DENIED", "EXPIRED", "SKIPPED")


@register.filter
def money(value: Decimal | None) -> str:
    """Quote units, grouped, to the cent: ``12 345.67``."""
    return NOTHING if value is None else _grouped(Decimal(value), 2)


@register.filter
def whole(value: Decimal | None) -> str:
    """Quote units, grouped, where cents mean nothing: ``1 094 027 830``."""
    return NOTHING if value is None else _grouped(Decimal(value), 0)


@register.filter
def signed(value: Decimal | None) -> str:
    """Quote units with their sign."""
    return NOTHING if value is None else _signed(Decimal(value), 2)


@register.filter
def percent(value: Decimal | None) -> str:
    """A percentage with sign and unit: ``+0.42 %``."""
    return NOTHING if value is None else f"{_signed(Decimal(value), 2)}{THIN}%"


@register.filter
def with_unit(value: str, name: str) -> str:
    """A limit as it is written, with its unit: ``5 %``."""
    unit = settings.LIMITS.unit(name)
    return f"{value}{THIN}{unit}" if unit else value


@register.filter
def price(value: Decimal | None) -> str:
    """A price or quantity with the digits it has, no trailing zeros."""
    if value is None:
        return NOTHING
    number = Decimal(value)
    # The sign goes apart: the whole part of -0.75 is 0, and 0 has no sign.
    whole, _, places = f"{abs(number):f}".partition(".")
    places = places.rstrip("0")
    grouped = f"{int(whole):,}".replace(",", THIN)
    sign = MINUS if number < 0 else ""
    return f"{sign}{grouped}.{places}" if places else f"{sign}{grouped}"


@register.filter
def price_of(value: Decimal | None, like: Decimal | None) -> str:
    """An average price with at most two more digits than prices of its height are read with."""
    if value is None:
        return NOTHING
    height = abs(Decimal(like or value))
    places = 2 if height >= 100 else 4 if height >= 1 else 8  # noqa: PLR2004 - heights of prices
    return price(Decimal(value).quantize(Decimal(1).scaleb(-places)))


@register.filter
def tone(value: Decimal | None) -> str:
    """The class of a figure's colour; its sign says the same without colour."""
    if not value:
        return "flat"
    return "up" if value > 0 else "down"


@register.filter
def age(seconds: float | None) -> str:
    """An age in its largest fitting unit."""
    if seconds is None:
        return "never heard of"
    if seconds < WORTH_TENTHS:
        return f"{seconds:.1f}{THIN}s"
    for limit, unit, name in ((MINUTE, 1, "s"), (HOUR, MINUTE, "min"), (DAY, HOUR, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f}{THIN}{name}"
    return f"{seconds / DAY:.0f}{THIN}d"


@register.filter
def age_at(moment: datetime | None, now: datetime) -> str:
    """How long ago a moment was at `now`."""
    return age(None if moment is None else max(0.0, (now - moment).total_seconds()))


@register.filter
def clock(moment: datetime | None, now: datetime | None = None) -> SafeString | str:
    """The time of day in UTC, with the date when it is another day."""
    if moment is None:
        return NOTHING
    is_today = now is not None and moment.date() == now.date()
    text = f"{moment:%H:%M:%S}" if is_today else f"{moment:%m-%d %H:%M:%S}"
    return format_html('<time datetime="{}">{}</time>', moment.isoformat(), text)


@register.filter
def coin(symbol: str) -> str:
    """A symbol as people read it: ``BTC/USDT``."""
    return symbol.partition(":")[0]


@register.filter
def base(symbol: str) -> str:
    """The coin of a symbol: ``BTC``."""
    return symbol.partition("/")[0]


@register.filter
def standing(value: Decimal | int | None) -> str:
    """A count as it is, money to the cent, what is not known as a dash."""
    return str(value) if isinstance(value, int) else money(value)


@register.filter
def part(value: Decimal | None) -> str:
    """A quality or one of its parts, 0 to 1."""
    return f"{value.quantize(HUNDREDTH, ROUND_HALF_UP)}" if isinstance(value, Decimal) else NOTHING


@register.filter
def share(value: Decimal | None) -> str:
    """A part as a width."""
    return "0%" if value is None else f"{100 * value:.1f}%"


VERDICTS = {
    "CHOSEN": "chosen too, in a decision of its own",
    "SAME_COIN": "another of this coin was better",
    "NOT_THE_BEST": "good enough, not the best",
    "QUALITY": "quality too low",
    "NO_MARK": "its mark could not be read",
    "BELOW_SHORTLIST": "below the shortlist",
    "SCORE": "score too low",
    "AGE": "too old",
    "EXPIRED": "expired",
    "DUPLICATE": "same as a decision just made",
    "NO_ACCOUNT": "no account could take it",
}


@register.filter
def verdict(code: str) -> str:
    """Why a signal won or lost, in words, its code beside them; unweighed rows of older desks say nothing."""
    words = VERDICTS.get(code)
    return f"{words} ({code})" if words else code or NOTHING


@register.filter
def fraction(value: Decimal | None, places: int = 2) -> str:
    """A fraction as a percentage without a plus sign: a spread, a range, a share of a limit."""
    return NOTHING if value is None else f"{_grouped(100 * Decimal(value), places)}{THIN}%"


@register.filter
def correlation(value: Decimal | None) -> str:
    """Pearson's r with its sign; what is not known says so, for it counts as 1."""
    return "?" if value is None else _signed(Decimal(value), 2)


@register.filter
def told(numbers: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Kept numbers with readable names and no more digits than mean something; empty ones left out."""
    return [(name.replace("_", " "), _told(value)) for name, value in numbers.items() if value not in EMPTY]


@register.filter
def outcome_bar(counts: dict[str, int]) -> list[dict[str, Any]]:
    """The segments of a fan-out bar: outcome, count, and where each begins and how wide it is, in percent."""
    total = sum(counts.values()) or 1
    segments, begin = [], 0.0
    for outcome in SEGMENTS:
        if n := counts.get(outcome, 0):
            width = 100 * n / total
            segments.append({"outcome": outcome, "n": n, "x": f"{begin:.3f}%", "width": f"{width:.3f}%"})
            begin += width
    return segments


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_told(part)}" for name, part in value.items())
    if isinstance(value, list):
        return ", ".join(_told(part) for part in value)
    return price_of(Decimal(value), None) if NUMBER.fullmatch(str(value)) else str(value)


def _grouped(value: Decimal, places: int) -> str:
    text = f"{abs(value):,.{places}f}".replace(",", THIN)
    return f"{MINUS}{text}" if value < 0 else text


def _signed(value: Decimal, places: int) -> str:
    return f"+{_grouped(value, places)}" if value > 0 else _grouped(value, places)


STEPS = {
    "ENTERED": "Entered",
    "REDUCED": "Reduced",
    "PLANNED": "Exit plan made",
    "UNPROTECTED": "Without a stop",
    "ACKED": "Stop accepted",
    "VERIFIED": "Stop seen at the exchange",
    "STOP_MOVED": "Stop moved",
    "STOP_CROSSED": "Mark went through the stop",
    "STOP_FAILED": "Stop failed",
    "STOP_ADOPTED": "Resting stop adopted",
    "LEFTOVER_STOP": "Leftover stop in the way",
    "EXIT_WANTED": "Exit wanted",
    "EXIT_DROPPED": "Exit no longer wanted",
    "FOREIGN_SHARE": "A stranger's share changed",
    "CLOSED": "Closed",
    "REOPENED": "Reopened by a late fill",
}


@register.filter
def step_words(code: str) -> str:
    """A step of a position's life in words; an unknown one by its code."""
    return STEPS.get(code, code)
