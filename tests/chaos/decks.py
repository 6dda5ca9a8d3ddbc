"""What is dealt: every fault of the paper exchange, with and without the order applied, each as often.

The numbers are the switches of `docs/paper-exchange.md`. What the desk may take for certainly not placed
(429, 418, a skewed clock, an overloaded or absent venue) comes without the order only: with it the exchange
would lie.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Generic, TypeVar

ORDER, STOP = "POST /fapi/v1/order", "POST /fapi/v1/algoOrder"
LOOKUP, STOP_LOOKUP = "GET /fapi/v1/order", "GET /fapi/v1/algoOrder"
LATER_THAN_THE_CLIENT_WAITS = 11.0
LONGEST_LAG_SECONDS = 4.0
PAGE = "<html><head><title>{0}</title></head><body>{0}</body></html>"

Rule = dict[str, Any]
Card = TypeVar("Card")
ONCE: Mapping[int, int] = MappingProxyType({})
HIDDEN_OFTEN: Mapping[int, int] = MappingProxyType({7: 3, 15: 3})
ENTRIES_OFTEN: Mapping[int, int] = MappingProxyType({7: 3, 10: 2})
"""Only an entry can be filled in part, everything else has further occasions."""


class Deck(Generic[Card]):
    """Deals shuffled rounds of the same cards: over a run each comes as often as any other."""

    def __init__(self, cards: Sequence[Card], dice: random.Random) -> None:
        self._cards = list(cards)
        self._dice = dice
        self._left: list[Card] = []

    def deal(self) -> Card:
        """The next one."""
        if not self._left:
            self._left = self._dice.sample(self._cards, len(self._cards))
        return self._left.pop()


class Faults:
    """Deals faults so that each switch comes as often as any other, and of a switch each way to fail.

    `often` names switches that come so many times as often: whose fault strikes only who asks in time.
    """

    def __init__(
        self, faults: Sequence["Fault"], dice: random.Random, often: Mapping[int, int] = ONCE
    ) -> None:
        self._ways = {
            switch: Deck([one for one in faults if one.switch == switch], dice)
            for switch in dict.fromkeys(one.switch for one in faults)
        }
        self._switches = Deck([one for one in self._ways for _ in range(often.get(one, 1))], dice)

    def deal(self) -> "Fault":
        """The next one."""
        return self._ways[self._switches.deal()].deal()


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to fail: its switch, and the rules that make it, which lack only whom they are about."""

    switch: int
    rules: tuple[Rule, ...] = field(default=())


def _http(switch: int, status: int, code: int, *applied: bool, **more: Any) -> list[Fault]:
    return [
        Fault(switch, ({"kind": "http", "status": status, "code": code, "apply": one, **more},))
        for one in applied
    ]


def _answer(switch: int, kind: str, **more: Any) -> list[Fault]:
    return [Fault(switch, ({"kind": kind, "apply": one, **more},)) for one in (True, False)]


PLACING: tuple[Fault, ...] = (
    *_http(1, 408, -1007, True, False),
    *_http(2, 503, -1000, True, False),
    *_http(2, 503, -1001, True, False),
    *_http(2, 503, -1008, False),
    *_http(2, 503, -1000, False, body="Service Unavailable."),
    *_http(3, 502, -1000, True, False, body=PAGE.format("502 Bad Gateway")),
    *_http(3, 504, -1000, True, False, body=PAGE.format("504 Gateway Time-out")),
    *_answer(4, "close_socket"),
    *_answer(5, "truncate_body"),
    *_answer(5, "empty_body"),
    *_answer(6, "delay", seconds=LATER_THAN_THE_CLIENT_WAITS),
    *_http(8, 429, -1003, False, retry_after=1),
    *_http(8, 418, -1003, False, retry_after=1),
    Fault(9, ({"kind": "clock_skew", "seconds": 8.0},)),
    Fault(9, ({"kind": "clock_skew", "seconds": -8.0},)),
)
"""Faults of any placement: entries, exits and stops."""

LOST: Rule = {"kind": "http", "status": 504, "code": -1000, "apply": True, "body": PAGE.format("504")}


def _hidden(switch: int, where: str, seconds: float, count: int) -> Fault:
    """The answer is lost, the stream silent, and lookups do not find what was placed for so long."""
    silent = [
        {"kind": "hide_event", "event": event, "count": 2, "label": "16"}
        for event in ("ORDER_TRADE_UPDATE", "ALGO_UPDATE")
    ]
    lookup = {"kind": "lookup_not_found", "endpoint": where, "seconds": seconds, "count": count}
    return Fault(switch, ({**LOST, "label": "3"}, *silent, lookup))


HIDING: tuple[Fault, ...] = (
    _hidden(7, LOOKUP, 2.0, 3),
    _hidden(7, LOOKUP, LONGEST_LAG_SECONDS, 3),
    # That a list shows a stop and its own lookup does not may stay so.
    _hidden(15, STOP_LOOKUP, 30.0, 2),
)

FOR_ENTRIES: tuple[Fault, ...] = (
    *PLACING,
    *(one for one in HIDING if one.switch == 7),
    Fault(10, ({"kind": "partial", "fraction": "0.5"},)),
    Fault(11, ({"kind": "late_fill", "seconds": 2.0},)),
)
FOR_EXITS: tuple[Fault, ...] = (*PLACING, *(one for one in HIDING if one.switch == 7))
FOR_STOPS: tuple[Fault, ...] = (*PLACING, *(one for one in HIDING if one.switch == 15))

AT_TRIGGERS: tuple[Fault, ...] = (
    Fault(13, ({"kind": "slippage", "bps": 25.0},)),
    Fault(14, ({"kind": "reject_trigger"},)),
)
AT_CANCELS: tuple[Fault, ...] = tuple(
    Fault(18, ({"kind": "cancel_race", "endpoint": "DELETE /fapi/v1/algoOrder", "apply": one},))
    for one in (True, False)
)
AT_RECALLS: tuple[Fault, ...] = tuple(
    Fault(
        19,
        (
            {"kind": "late_fill", "endpoint": ORDER, "seconds": 20.0, "label": "11"},
            {"kind": "cancel_race", "endpoint": "DELETE /fapi/v1/order", "apply": one},
        ),
    )
    for one in (True, False)
)
OF_STREAMS: tuple[Fault, ...] = (
    *(
        Fault(16, ({"kind": kind, "event": event},))
        for kind in ("hide_event", "duplicate_event", "reorder_event")
        for event in ("ORDER_TRADE_UPDATE", "ACCOUNT_UPDATE", "ALGO_UPDATE")
    ),
    Fault(16, ({"kind": "expire_listen_key"},)),
    Fault(16, ({"kind": "disconnect_streams"},)),
)
OF_SETTINGS: tuple[Fault, ...] = (
    Fault(20, ({"kind": "mismatch", "leverage": 7},)),
    Fault(20, ({"kind": "mismatch", "margin_type": "ISOLATED"},)),
    Fault(20, ({"kind": "mismatch", "margin_type": "CROSSED"},)),
)
AT_ONCE = frozenset({"expire_listen_key", "disconnect_streams"})
"""Kinds that act when they are asked for and are not kept as rules."""

SWITCHES = frozenset(range(1, 21)) - {12, 17}
"""Those that are asked for; 12 (no average price) and 17 (an id again after its fill) always hold."""
