"""Ours against the exchange's picture."""

from dataclasses import replace

import pytest

from trading.domain.comparison import (
    DifferenceKind,
    OurPosition,
    OurStop,
    TheirOrder,
    TheirPosition,
    compare_orders,
    compare_positions,
)
from trading.tests.domain.samples import D

SOL, BTC = "SOL/USDT:USDT", "BTC/USDT:USDT"
OURS = OurPosition(position_id=7, symbol=SOL, is_long=True, quantity=D(10))
THEIRS = TheirPosition(SOL, is_long=True, quantity=D(10))
STOP = OurStop(
    order_id=3,
    client_order_id="phxstop",
    symbol=SOL,
    position_id=7,
    is_resting=True,
    is_position_open=True,
)
RESTING = TheirOrder("phxstop", SOL)
LISTED = frozenset({SOL})


def test_equal_pictures_have_no_difference() -> None:
    assert compare_positions([OURS], [THEIRS]) == []
    assert compare_positions([], []) == []
    assert compare_orders([STOP], frozenset(), [RESTING], LISTED) == []


@pytest.mark.parametrize(
    ("theirs", "kind", "quantity"),
    [
        ([], DifferenceKind.VANISHED, "0"),
        ([replace(THEIRS, quantity=D(9))], DifferenceKind.QUANTITY_MISMATCH, "9"),
        ([replace(THEIRS, quantity=D(0))], DifferenceKind.VANISHED, "0"),
    ],
)
def test_a_position_that_differs_is_told_with_what_the_exchange_holds(
    theirs: list[TheirPosition], kind: DifferenceKind, quantity: str
) -> None:
    (difference,) = compare_positions([OURS], theirs)
    assert (difference.kind, difference.position_id, difference.quantity) == (kind, 7, D(quantity))


def test_the_other_side_at_the_exchange_is_a_side_mismatch_and_a_position_of_nobody() -> None:
    found = compare_positions([OURS], [replace(THEIRS, is_long=False)])
    assert [difference.kind for difference in found] == [
        DifferenceKind.SIDE_MISMATCH,
        DifferenceKind.FOREIGN_POSITION,
    ]


def test_what_none_of_our_rows_explains_is_foreign() -> None:
    (difference,) = compare_positions([OURS], [THEIRS, replace(THEIRS, symbol=BTC, quantity=D(2))])
    assert (difference.kind, difference.symbol) == (DifferenceKind.FOREIGN_POSITION, BTC)
    assert (difference.quantity, difference.position_id) == (D(2), None)


def test_a_strangers_share_is_expected_on_top_of_ours() -> None:
    shared = replace(OURS, foreign_quantity=D(2))
    assert compare_positions([shared], [replace(THEIRS, quantity=D(12))]) == []
    (difference,) = compare_positions([shared], [THEIRS])
    assert difference.kind is DifferenceKind.QUANTITY_MISMATCH


def test_a_foreign_position_that_went_is_not_ours_vanished() -> None:
    (difference,) = compare_positions([replace(OURS, is_foreign=True)], [])
    assert difference.kind is DifferenceKind.FOREIGN_GONE


@pytest.mark.parametrize("theirs", [[], [replace(THEIRS, quantity=D(4))], [replace(THEIRS, is_long=False)]])
def test_while_an_order_of_ours_is_in_flight_the_symbol_is_left_to_it(theirs: list[TheirPosition]) -> None:
    assert compare_positions([OURS], theirs, frozenset({SOL})) == []


def test_a_stop_we_counted_on_that_a_list_lacks_is_missing() -> None:
    (difference,) = compare_orders([STOP], frozenset(), [], LISTED)
    assert (difference.kind, difference.order_id, difference.position_id) == (
        DifferenceKind.MISSING_STOP,
        3,
        7,
    )


def test_a_symbol_that_was_not_listed_proves_nothing_about_its_stops() -> None:
    assert compare_orders([STOP], frozenset(), [], frozenset({BTC})) == []


@pytest.mark.parametrize(
    ("stop", "kind"),
    [
        (replace(STOP, is_position_open=False), DifferenceKind.ORPHAN_STOP),
        (replace(STOP, is_position_open=False, is_resting=False), DifferenceKind.ORPHAN_STOP),
        (replace(STOP, is_resting=False), DifferenceKind.UNTRACKED_STOP),
    ],
)
def test_a_stop_that_should_not_rest_is_told_by_what_is_wrong(stop: OurStop, kind: DifferenceKind) -> None:
    (difference,) = compare_orders([stop], frozenset(), [RESTING], LISTED)
    assert (difference.kind, difference.client_order_id) == (kind, "phxstop")


def test_only_an_order_whose_id_we_never_made_is_foreign() -> None:
    strange = TheirOrder("web_1", SOL)
    assert compare_orders([], frozenset({"web_1"}), [strange], LISTED) == []
    (difference,) = compare_orders([], frozenset(), [strange], LISTED)
    assert (difference.kind, difference.client_order_id) == (DifferenceKind.FOREIGN_ORDER, "web_1")
