import random
from collections import Counter

from paper.fault_rules import read_rule
from tests.chaos import decks
from tests.chaos.decks import Deck


def every_fault() -> list[decks.Fault]:
    return [
        *decks.FOR_ENTRIES,
        *decks.FOR_EXITS,
        *decks.FOR_STOPS,
        *decks.AT_TRIGGERS,
        *decks.AT_CANCELS,
        *decks.AT_RECALLS,
        *decks.OF_STREAMS,
        *decks.OF_SETTINGS,
    ]


def test_a_deck_deals_each_card_as_often_as_any_other() -> None:
    deck = Deck("abc", random.Random(1))
    assert Counter(deck.deal() for _ in range(30)) == {"a": 10, "b": 10, "c": 10}


def test_the_same_seed_deals_the_same() -> None:
    first, second = (Deck(range(50), random.Random(7)) for _ in range(2))
    assert [first.deal() for _ in range(100)] == [second.deal() for _ in range(100)]


def test_every_switch_that_can_be_asked_for_is_dealt() -> None:
    assert {fault.switch for fault in every_fault()} == decks.SWITCHES


def test_every_rule_is_one_the_exchange_understands() -> None:
    for fault in every_fault():
        for rule in fault.rules:
            assert read_rule({"symbol": "BTCUSDT", **rule}).kind == rule["kind"]


def test_unclear_answers_come_with_and_without_the_order() -> None:
    unclear = [rule for fault in decks.PLACING for rule in fault.rules if fault.switch in {1, 3, 4, 5, 6}]
    assert Counter(rule["apply"] for rule in unclear) == {True: len(unclear) / 2, False: len(unclear) / 2}


def test_each_switch_is_dealt_as_often_as_any_other() -> None:
    dealt = decks.Faults(decks.FOR_ENTRIES, random.Random(3))
    switches = {fault.switch for fault in decks.FOR_ENTRIES}
    assert Counter(dealt.deal().switch for _ in range(10 * len(switches))) == dict.fromkeys(switches, 10)
