"""What an alert of TradingView advises, from the words its message was filled with.

A strategy's `sell` may open a short, close a long, take a part of it off or turn it round: only its position
before and after tells which. What a close does not need is not read, so that nothing wrong in it holds it up.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Literal

from trading.domain.percent import from_percent, price_at

Action = Literal["open", "close", "cancel"]
Side = Literal["LONG", "SHORT"]

SIDES: Mapping[str, Side] = {"long": "LONG", "short": "SHORT"}
ORDERS: Mapping[str, Side] = {"buy": "LONG", "sell": "SHORT"}
POSITIONS = ("long", "short", "flat")
FIELDS = frozenset(
    {
        "action",
        "bar_time",
        "comment",
        "id",
        "order",
        "position",
        "previous_position",
        "price",
        "score",
        "stop_percent",
        "stop_price",
        "take_profit_percent",
        "take_profit_price",
        "ticker",
        "time",
    }
)
STRATEGY_MESSAGE = {
    "ticker": "{{exchange}}:{{ticker}}",
    "action": "{{strategy.order.action}}",
    "position": "{{strategy.market_position}}",
    "previous_position": "{{strategy.prev_market_position}}",
    "price": "{{close}}",
    "time": "{{timenow}}",
    "score": "0.8",
    "stop_percent": "2",
    "take_profit_percent": "6",
}
"""What to paste into the alert of a strategy, its token before it; percent are of the price."""

INDICATOR_MESSAGE = {
    "ticker": "{{exchange}}:{{ticker}}",
    "action": "long",
    "price": "{{close}}",
    "time": "{{timenow}}",
    "score": "0.8",
    "stop_percent": "2",
    "take_profit_percent": "6",
}
"""The same for an alert that means one thing: long, short, close or cancel."""
FINEST = Decimal("1E-12")
MOST_PERCENT = 100
SHOWN = 40


class AlertRefused(ValueError):
    """An alert that advises nothing the desk can do; `code` is stable, `message` names the words."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing to do. The side of a close is only told, it closes whatever its source opened."""

    action: Action
    side: Side


def read_advice(fields: Mapping[str, str]) -> tuple[Advice, ...]:
    """What the alert advises, in order: a strategy that turns round closes first and then opens.

    Raises AlertRefused.
    """
    action = fields.get("action", "").strip().lower()
    if action in SIDES:
        return (Advice("open", SIDES[action]),)
    if action in {"close", "cancel"}:
        before = fields.get("previous_position", "").strip().lower()
        return (Advice("close" if action == "close" else "cancel", SIDES.get(before, "LONG")),)
    if action not in ORDERS:
        raise AlertRefused(
            "ACTION", f"action {action[:SHOWN]!r} is none of buy, sell, long, short, close, cancel"
        )
    return _of_strategy(action, fields)


def _of_strategy(action: str, fields: Mapping[str, str]) -> tuple[Advice, ...]:
    bought, after = ORDERS[action], _position(fields, "position")
    if after == "flat":
        return (Advice("close", "SHORT" if bought == "LONG" else "LONG"),)
    if SIDES[after] != bought:
        raise AlertRefused(
            "PARTIAL", f"a {action} that leaves the strategy {after} takes off a part: the desk closes it all"
        )
    before, opening = _position(fields, "previous_position"), Advice("open", bought)
    return (opening,) if before in {"flat", after} else (Advice("close", SIDES[before]), opening)


def _position(fields: Mapping[str, str], name: str) -> str:
    word = fields.get(name, "").strip().lower()
    if word not in POSITIONS:
        raise AlertRefused(
            "POSITION",
            f"{name} {word[:SHOWN]!r} is none of {', '.join(POSITIONS)}: buy alone may open or close",
        )
    return word


def refuse_unknown(names: Iterable[str]) -> None:
    """Raise AlertRefused for a field that nobody reads: a misspelt stop is no stop."""
    unknown = sorted(name[:SHOWN] for name in names if name not in FIELDS)
    if unknown:
        raise AlertRefused("UNKNOWN_FIELD", f"not understood: {', '.join(unknown)}")


def exit_price(fields: Mapping[str, str], name: str, *, is_above: bool) -> str | None:
    """The price of `stop` or `take_profit` as told, or so many percent of the alert's price away from it.

    None when neither is told. Raises AlertRefused when both are, or one that is no number.
    """
    told, share = fields.get(f"{name}_price"), fields.get(f"{name}_percent")
    if told is not None and share is not None:
        raise AlertRefused("TWICE", f"{name}_price and {name}_percent are both told")
    if share is None:
        return told
    percent, price = _number(f"{name}_percent", share), _number("price", fields.get("price", ""))
    if not 0 < percent < MOST_PERCENT:
        raise AlertRefused("PERCENT", f"{name}_percent {percent} is not between 0 and 100")
    away = price_at(is_long=is_above, entry_price=price, move=from_percent(percent))
    return format(away.quantize(FINEST), "f")


def _number(name: str, written: str) -> Decimal:
    try:
        number = Decimal(written.strip())
        number.quantize(FINEST)  # what is no price has too many digits for it
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise AlertRefused("NOT_A_NUMBER", f"{name} {written[:SHOWN]!r} is not a number")
    return number


def content_id(fields: Mapping[str, str], action: Action) -> str:
    """The id of what an alert says, its time included: the same sent again has the same."""
    told = json.dumps([action, sorted(fields.items())])
    return f"tv-{hashlib.sha256(told.encode()).hexdigest()[:40]}"
