"""The board of armed faults: who is met by what, and what has struck."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

from tests.chaos.decks import AT_ONCE, ORDER, STOP, Fault, Faults, Rule
from tests.processes import PaperExchange

WITH, WITHOUT = "with", "without"
AGAINST_PLACING = frozenset(
    {
        "http",
        "close_socket",
        "truncate_body",
        "empty_body",
        "delay",
        "clock_skew",
        "partial",
        "late_fill",
    }
)
Counts = dict[int, dict[str, int]]


class Board:
    """Arms faults at the exchange and counts them, by switch, with and without the order applied."""

    def __init__(self, exchange: PaperExchange) -> None:
        self._exchange = exchange
        self._at_once: Counter[int] = Counter()
        self._lock = Lock()

    def arm(
        self,
        deck: Faults,
        accounts: Sequence[str],
        share: float,
        dice: random.Random,
        *,
        symbol: str,
        endpoint: str = "",
    ) -> None:
        """Deal a fault to this share of the accounts, at least one; each strikes once."""
        chosen = dice.sample(list(accounts), max(1, round(share * len(accounts))))
        rules = [
            _about(rule, fault, account, symbol, endpoint)
            for account, fault in ((account, deck.deal()) for account in chosen)
            for rule in fault.rules
        ]
        with self._lock:
            self._at_once.update(int(rule["label"]) for rule in rules if rule["kind"] in AT_ONCE)
        self._exchange.post("/paper/faults", rules=rules)

    def call_off(self, symbol: str) -> None:
        """What is still armed for a symbol meets nobody: whoever was denied places nothing."""
        self._exchange.delete(f"/paper/faults?symbol={symbol}")

    def slow(self, symbol: str, endpoint: str, count: int, seconds: float) -> None:
        """Answer this many requests later than usual: it is no fault, and leaves time to be killed in."""
        rule = {"kind": "delay", "endpoint": endpoint, "symbol": symbol, "count": count, "seconds": seconds}
        self._exchange.post("/paper/faults", **rule, label="slow")

    def counts(self) -> Counts:
        """What has struck, by switch."""
        counts: Counts = {}
        for rule in self._rules():
            if rule["hits"] and rule["label"].isdigit():
                of_switch = counts.setdefault(int(rule["label"]), {WITH: 0, WITHOUT: 0})
                of_switch[WITH if _applies(rule) else WITHOUT] += rule["hits"]
        for switch, times in self._at_once.items():
            counts.setdefault(switch, {WITH: 0, WITHOUT: 0})[WITH] += times
        return dict(sorted(counts.items()))

    def struck_placements(self) -> int:
        """How many placements met a fault."""
        return sum(
            rule["hits"]
            for rule in self._rules()
            if rule["label"].isdigit()
            and rule["kind"] in AGAINST_PLACING
            and rule["endpoint"] in {ORDER, STOP}
        )

    def _rules(self) -> list[dict[str, Any]]:
        return list(self._exchange.get("/paper/faults"))


def _about(rule: Rule, fault: Fault, account: str, symbol: str, endpoint: str) -> Rule:
    whom = {"account": account, "symbol": symbol, "label": str(fault.switch)}
    return whom | ({"endpoint": endpoint} if endpoint else {}) | rule


def _applies(rule: Mapping[str, Any]) -> bool:
    if rule["kind"] == "clock_skew":
        return False
    return bool(rule["apply"]) if rule["apply"] is not None else rule["kind"] != "http"
