"""What a fault rule says.

A rule is JSON with ``kind`` and, all optional: ``endpoint`` (pattern over ``"POST /fapi/v1/order"``),
``account``, ``symbol``, ``count`` (how often, 0 is for ever), ``probability`` (1), ``seconds``, ``apply``
(whether the request takes effect all the same), ``spares_reducing`` (leave reduce-only and close-position
orders alone) and what the kind needs. Requests over the WebSocket API are met like those over HTTP.

====================  ====================================================================================
``http``              answers ``status`` with ``code`` and ``message``, or with ``body`` as it stands;
                      ``retry_after`` seconds go into the header
``close_socket``      closes the connection instead of answering
``truncate_body``     answers 200 with half of the body
``empty_body``        answers 200 with nothing
``delay``             waits ``seconds``, then goes on; with ``apply`` false it then answers like ``http``
``clock_skew``        the server's clock is ``seconds`` ahead (behind, when negative) for a signed request
``lookup_not_found``  orders cannot be found (-2013, -2011) for ``seconds`` after the account's last placement
``late_fill``         the order is accepted as NEW and filled ``seconds`` (of the feed) later
``partial``           only ``fraction`` of the order is filled, the rest expires
``slippage``          a triggered order meets a book ``bps`` basis points worse than the price says
``reject_trigger``    a conditional order is REJECTED at its trigger
``cancel_race``       a cancelled order fills first and the cancellation is -2011; a conditional one fires and
                      it is -4117; with ``apply`` false nothing happens but the refusal
``hide_event``        a user stream message of type ``event`` (pattern) is not sent
``duplicate_event``   it is sent twice
``reorder_event``     it is sent after the next one
``mismatch``          an account is not as its owner left it: ``dual``, ``margin_type`` and ``leverage`` of
                      ``symbol``, a ``foreign_position`` (signed quantity) and a ``foreign_order`` (quantity
                      bid far below the mark); at once for known accounts, else when first seen
====================  ====================================================================================

Two more act at once and are not kept: ``expire_listen_key`` ends the user streams of accounts the way an hour
of silence does, ``disconnect_streams`` closes their connections (everybody's without ``account``).

``apply`` is true by default, false for http. Without ``message`` a code brings the exchange's own text.
``label`` is the caller's own word for a rule, shown back with its hits. A rule that names what does not
exist, or means nothing, is refused with those that came beside it.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from paper.engine.refusals import MESSAGES
from paper.limits import BANNED, FIRST_BAN_SECONDS
from paper.protocol.calls import NUMBER
from paper.protocol.routes import ENDPOINTS

ANSWERS = frozenset({"http", "close_socket", "truncate_body", "empty_body", "delay"})
TAMPERING = frozenset({"late_fill", "partial"})
EVENTS = frozenset({"hide_event", "duplicate_event"})
REORDER, MISMATCH = "reorder_event", "mismatch"
OTHERS = frozenset({"lookup_not_found", "reject_trigger", "slippage", "cancel_race", "clock_skew"})
EXPIRE, DISCONNECT = "expire_listen_key", "disconnect_streams"
AT_ONCE = frozenset({EXPIRE, DISCONNECT})
KINDS = ANSWERS | TAMPERING | EVENTS | OTHERS | AT_ONCE | {REORDER, MISMATCH}
MARGIN_TYPES = frozenset({"", "ISOLATED", "CROSSED"})
UNAVAILABLE = 503
UNKNOWN = "Unknown error, please check your request or try again later."


class BadRule(ValueError):  # said to whoever wrote the rule
    """The rule names something that does not exist."""


@dataclass(slots=True)
class Rule:
    """One failure to be injected; `hits` counts how often it was."""

    kind: str
    endpoint: str = "*"
    account: str = "*"
    symbol: str = "*"
    count: int = 1
    probability: float = 1.0
    seconds: float = 0.0
    apply: bool | None = None
    status: int = 503
    code: int = -1000
    message: str = ""
    body: str | None = None
    retry_after: int | None = None
    fraction: str = "0.5"
    event: str = "*"
    bps: float = 0.0
    spares_reducing: bool = False
    dual: bool | None = None
    margin_type: str = ""
    leverage: int = 0
    foreign_position: str = "0"
    foreign_order: str = "0"
    label: str = ""
    hits: int = 0

    @property
    def is_spent(self) -> bool:
        """Whether it has struck as often as it was asked to."""
        return 0 < self.count <= self.hits

    @property
    def applies(self) -> bool:
        """Whether the request takes effect all the same."""
        return self.apply if self.apply is not None else self.kind != "http"

    @property
    def text(self) -> str:
        """The message given, else what the exchange says with this code; a ban names its end."""
        if self.message:
            return self.message
        if (self.status, self.code) == (UNAVAILABLE, -1000):
            return UNKNOWN
        if (self.status, self.code) == (BANNED, -1003):
            until = time.time() + (self.retry_after or FIRST_BAN_SECONDS)
            return (
                f"Way too many requests; IP banned until {int(until * 1000)}. "
                "Please use the websocket for live updates to avoid bans."
            )
        return MESSAGES[self.code]


def _is_whole(value: object) -> bool:
    return type(value) is int


def _is_number(value: object) -> bool:
    return type(value) in {int, float} and math.isfinite(value)  # type: ignore[arg-type]  # just seen


def _is_quantity(value: object) -> bool:
    return bool(NUMBER.fullmatch(str(value)))


def _is_share(value: object) -> bool:
    return _is_quantity(value) and 0 <= Decimal(str(value)) <= 1


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_switch(value: object) -> bool:
    return isinstance(value, bool)


def _is_known_endpoint(value: object) -> bool:
    return isinstance(value, str) and any(fnmatch(name, value) for name in ENDPOINTS)


MEANINGS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "kind": (lambda value: _is_text(value) and value in KINDS, "unknown kind"),
    "endpoint": (_is_known_endpoint, "unknown endpoint"),
    "account": (_is_text, "account is no name"),
    "symbol": (_is_text, "symbol is no name"),
    "count": (lambda value: _is_whole(value) and value >= 0, "count is not a whole number from 0 on"),
    "probability": (lambda value: _is_number(value) and 0 <= value <= 1, "probability is not within 0..1"),
    "seconds": (_is_number, "seconds is not a number"),
    "apply": (_is_switch, "apply is neither true nor false"),
    "status": (lambda value: _is_whole(value) and 200 <= value <= 599, "status is not within 200..599"),  # noqa: PLR2004
    "code": (_is_whole, "code is not a whole number"),
    "message": (_is_text, "message is no text"),
    "body": (_is_text, "body is no text"),
    "retry_after": (lambda value: _is_whole(value) and value >= 0, "retry_after is not in whole seconds"),
    "fraction": (_is_share, "fraction is not within 0..1"),
    "event": (_is_text, "event is no name"),
    "bps": (_is_number, "bps is not a number"),
    "spares_reducing": (_is_switch, "spares_reducing is neither true nor false"),
    "dual": (_is_switch, "dual is neither true nor false"),
    "margin_type": (lambda value: _is_text(value) and value in MARGIN_TYPES, "unknown margin_type"),
    "leverage": (lambda value: _is_whole(value) and value >= 0, "leverage is not a whole number from 0 on"),
    "foreign_position": (_is_quantity, "foreign_position is not a number"),
    "foreign_order": (_is_quantity, "foreign_order is not a number"),
    "label": (_is_text, "label is no text"),
}
OPTIONAL = frozenset({"apply", "body", "retry_after", "dual"})
AS_TEXT = frozenset({"fraction", "foreign_position", "foreign_order"})


def read_rule(values: object) -> Rule:
    """A rule out of JSON. Raises BadRule, which names what is wrong with it."""
    if not isinstance(values, dict):
        raise BadRule(f"a rule is a JSON object, not {values!r}")
    if "kind" not in values:
        raise BadRule("kind is missing")
    for name, value in values.items():
        if name not in MEANINGS:
            raise BadRule(f"unknown field {name!r}")
        is_meaningful, complaint = MEANINGS[name]
        if not is_meaningful(value) and not (value is None and name in OPTIONAL):
            raise BadRule(f"{complaint}: {value!r}")
    read: dict[str, Any] = {name: str(value) if name in AS_TEXT else value for name, value in values.items()}
    rule = Rule(**read)
    _check_sense(rule)
    return rule


def _check_sense(rule: Rule) -> None:
    """Fields that only some kinds allow, or need."""
    if rule.kind == MISMATCH and rule.symbol == "*":
        raise BadRule("mismatch needs a symbol")
    if rule.seconds < 0 and rule.kind != "clock_skew":
        raise BadRule(f"seconds is negative: {rule.seconds}")
    if (
        rule.kind in {"http", "delay"}
        and rule.body is None
        and not rule.message
        and rule.code not in MESSAGES
    ):
        raise BadRule(f"code {rule.code} has no text of its own: give a message")


def read_rules(rows: object) -> list[Rule]:
    """Rules out of a JSON list, all or none. Raises BadRule."""
    if not isinstance(rows, list):
        raise BadRule("rules is not a list")
    return [read_rule(row) for row in rows]


def read_file(path: Path) -> object:
    """The rules of a file: a JSON list, or an object with ``rules``. Raises BadRule."""
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise BadRule(f"{path} is not JSON: {error}") from error
    return values["rules"] if isinstance(values, dict) and set(values) == {"rules"} else values
