"""Failures on request: seeded rules, never any by default.

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

Two more act at once and are not kept: ``expire_listen_key`` ends the account's user stream the way an hour of
silence does, ``disconnect_streams`` closes its connections (everybody's without ``account``).

``apply`` is true by default, false for http.
"""

import json
import random
import time
from dataclasses import asdict, dataclass
from decimal import Decimal
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from paper.engine.futures import UNTOUCHED, Tampering
from paper.engine.orders import Conditional
from paper.engine.refusals import refuse
from paper.protocol.calls import NUMBER, Call

ANSWERS = frozenset({"http", "close_socket", "truncate_body", "empty_body", "delay"})
TAMPERING = frozenset({"late_fill", "partial"})
EVENTS = frozenset({"hide_event", "duplicate_event"})
REORDER, MISMATCH = "reorder_event", "mismatch"
OTHERS = frozenset({"lookup_not_found", "reject_trigger", "slippage", "cancel_race", "clock_skew"})
KINDS = ANSWERS | TAMPERING | EVENTS | OTHERS | {REORDER, MISMATCH}
BPS = Decimal(10_000)


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
    message: str = "Unknown error, please check your request or try again later."
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
    hits: int = 0

    @property
    def applies(self) -> bool:
        """Whether the request takes effect all the same."""
        return self.apply if self.apply is not None else self.kind != "http"


def read_rule(values: dict[str, Any]) -> Rule:
    """A rule out of JSON."""
    try:
        rule = Rule(**values)
    except TypeError as error:
        raise BadRule(str(error)) from error
    if rule.kind not in KINDS:
        raise BadRule(f"unknown kind {rule.kind!r}")
    if rule.kind == MISMATCH and rule.symbol == "*":
        raise BadRule("mismatch needs a symbol")
    for name in ("fraction", "foreign_position", "foreign_order"):
        if not NUMBER.fullmatch(str(getattr(rule, name))):
            raise BadRule(f"{name} is not a number")
    return rule


class Faults:
    """The active rules and the dice they are thrown with."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)  # noqa: S311  # reproducible failures, not secrets
        self.rules: list[Rule] = []
        self.placed: dict[str, float] = {}
        self.met: set[tuple[int, str]] = set()

    def add(self, values: dict[str, Any]) -> Rule:
        """Activate a rule."""
        rule = read_rule(values)
        self.rules.append(rule)
        return rule

    def shown(self) -> list[dict[str, Any]]:
        """The rules with their hits."""
        return [asdict(rule) for rule in self.rules]

    def _strike(self, rule: Rule) -> bool:
        if rule.count and rule.hits >= rule.count:
            return False
        if rule.probability < 1 and self.dice.random() >= rule.probability:
            return False
        rule.hits += 1
        return True

    def _about(self, rule: Rule, call: Call) -> bool:
        spared = rule.spares_reducing and (call.flag("reduceOnly") or call.flag("closePosition"))
        return (
            not spared
            and fnmatch(f"{call.method} {call.path}", rule.endpoint)
            and fnmatch(call.key, rule.account)
            and fnmatch(call.params.get("symbol", ""), rule.symbol)
        )

    def answer(self, call: Call) -> Rule | None:
        """The rule that spoils this request's answer, if any."""
        if not self.rules:
            return None
        for rule in self.rules:
            if rule.kind in ANSWERS and self._about(rule, call) and self._strike(rule):
                return rule
        return None

    def note_placement(self, call: Call) -> None:
        """From now on the account's orders can be hidden from lookups."""
        self.placed[call.key] = time.monotonic()

    def tampering(self, call: Call) -> Tampering:
        """What happens to the execution of this order."""
        self.note_placement(call)
        for rule in self.rules:
            if rule.kind in TAMPERING and self._about(rule, call) and self._strike(rule):
                if rule.kind == "late_fill":
                    return Tampering(hold_ms=int(rule.seconds * 1000))
                return Tampering(fraction=Decimal(rule.fraction))
        return UNTOUCHED

    def check_lookup(self, call: Call) -> None:
        """-2013 or -2011 while a rule hides freshly placed orders."""
        for rule in self.rules:
            fresh = time.monotonic() - self.placed.get(call.key, 0) < rule.seconds
            if rule.kind == "lookup_not_found" and fresh and self._about(rule, call) and self._strike(rule):
                raise refuse(-2011 if call.method == "DELETE" else -2013)

    def cancel_race(self, call: Call) -> Rule | None:
        """The rule by which this cancellation comes too late, if any."""
        for rule in self.rules:
            if rule.kind == "cancel_race" and self._about(rule, call) and self._strike(rule):
                return rule
        return None

    def skew_ms(self, call: Call) -> int:
        """How far this server's clock is ahead for the request."""
        for rule in self.rules:
            if rule.kind == "clock_skew" and self._about(rule, call) and self._strike(rule):
                return int(rule.seconds * 1000)
        return 0

    def _at_trigger(self, kind: str, order: Conditional) -> Rule | None:
        for rule in self.rules:
            about = fnmatch(order.account, rule.account) and fnmatch(order.symbol, rule.symbol)
            if rule.kind == kind and about and self._strike(rule):
                return rule
        return None

    def rejects_trigger(self, order: Conditional) -> bool:
        """Whether the order is refused at its trigger."""
        return self._at_trigger("reject_trigger", order) is not None

    def slips(self, order: Conditional) -> Tampering:
        """How much worse a book the triggered order meets."""
        rule = self._at_trigger("slippage", order)
        return Tampering(slip=Decimal(str(rule.bps)) / BPS) if rule else UNTOUCHED

    def mismatches(self, account: str) -> list[Rule]:
        """What is not as the owner of an account left it; each rule meets an account once."""
        found = []
        for rule in self.rules:
            new = rule.kind == MISMATCH and (id(rule), account) not in self.met
            if new and fnmatch(account, rule.account) and self._strike(rule):
                self.met.add((id(rule), account))
                found.append(rule)
        return found

    def copies(self, account: str, event: str) -> int:
        """How many times a user stream message is sent: 0, 1 or 2."""
        for rule in self.rules:
            about = rule.kind in EVENTS and fnmatch(account, rule.account) and fnmatch(event, rule.event)
            if about and self._strike(rule):
                return 0 if rule.kind == "hide_event" else 2
        return 1

    def reorders(self, account: str, event: str) -> bool:
        """Whether the message waits for the next one."""
        return any(
            rule.kind == REORDER
            and fnmatch(account, rule.account)
            and fnmatch(event, rule.event)
            and self._strike(rule)
            for rule in self.rules
        )


def read_file(path: Path) -> list[dict[str, Any]]:
    """The rules of a file: a JSON list, or an object with ``rules``. Raises BadRule."""
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise BadRule(f"{path} is not JSON: {error}") from error
    rows = values.get("rules") if isinstance(values, dict) else values
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise BadRule(f"{path} holds no list of rules")
    return rows
