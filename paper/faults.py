"""Failures on request: seeded rules (see :mod:`paper.fault_rules`), never any by default."""

import random
import time
from dataclasses import asdict
from decimal import Decimal
from fnmatch import fnmatch
from typing import Any

from paper.engine.futures import UNTOUCHED, Tampering
from paper.engine.orders import Conditional
from paper.engine.refusals import refuse
from paper.fault_rules import ANSWERS, EVENTS, MISMATCH, REORDER, TAMPERING, Rule
from paper.protocol.calls import Call

BPS = Decimal(10_000)


class Faults:
    """The active rules and the dice they are thrown with."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)  # noqa: S311  # reproducible failures, not secrets
        self.rules: list[Rule] = []
        self.spent: list[Rule] = []
        self.placed: dict[str, float] = {}
        self.met: set[tuple[int, str]] = set()

    def clear(self) -> None:
        """No rule is active any more, and none is remembered."""
        self.rules.clear()
        self.spent.clear()
        self.met.clear()

    def shown(self) -> list[dict[str, Any]]:
        """The rules with their hits, in the order they were added in."""
        return [asdict(rule) for rule in (*self.spent, *self.rules)]

    def add(self, rule: Rule) -> None:
        """Activate a rule; those that struck as often as asked are set aside, so that requests pass few."""
        self.spent += [one for one in self.rules if one.is_spent]
        self.rules = [one for one in self.rules if not one.is_spent] + [rule]

    def call_off(self, symbol: str) -> None:
        """The rules of this symbol strike no more; what they struck stays told."""
        self.spent += [one for one in self.rules if one.symbol == symbol and one.hits]
        self.rules = [one for one in self.rules if one.symbol != symbol]

    def _strike(self, rule: Rule) -> bool:
        if rule.is_spent:
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
