"""Two folds held against each other: they agree on the same facts, and on nothing else."""

from dataclasses import replace

import pytest

from trading.domain.reconciliation import (
    Books,
    LedgerFill,
    MoneyMove,
    Placement,
    compare,
    fold,
)
from trading.tests.domain.samples import D

SOL, SOL_SPOT = "SOL/USDT:USDT", "SOL/USDT"
ASSETS = {SOL: ("SOL", "USDT"), SOL_SPOT: ("SOL", "USDT")}

OPENED = LedgerFill("a", "futures", SOL, "1", "px1", True, D(2), D(100), D("0.1"), "USDT")
CLOSED = LedgerFill("a", "futures", SOL, "2", "px2", False, D(2), D(103), D("0.103"), "USDT", D(6))
BOUGHT = LedgerFill("a", "spot", SOL_SPOT, "1", "px3", True, D(3), D(100), D("0.003"), "SOL")
FILLS = [OPENED, CLOSED, BOUGHT]
PLACED = [
    Placement("a", "px1", "ordinary"),
    Placement("a", "stop", "conditional"),
    Placement("a", "px2", "ordinary"),
    Placement("a", "px3", "ordinary"),
]
MOVES = [
    MoneyMove("a", "futures", "USDT", D(1000)),
    MoneyMove("a", "futures", "USDT", D("-0.25")),
    MoneyMove("a", "spot", "USDT", D(500)),
]


def books(
    fills: list[LedgerFill] = FILLS, placed: list[Placement] = PLACED, moves: list[MoneyMove] = MOVES
) -> Books:
    return fold(fills, placed, moves, ASSETS)


def kinds(desk: Books) -> list[str]:
    return [difference.kind for difference in compare(desk, books())]


def test_the_fold_adds_up_wallets_and_positions() -> None:
    found = books()
    assert found.wallets == {
        ("a", "futures", "USDT"): D("1005.547"),  # 1000 - 0.25 + 6 - 0.1 - 0.103
        ("a", "spot", "USDT"): D(200),
        ("a", "spot", "SOL"): D("2.997"),
    }
    assert found.positions == {("a", "futures", SOL): D(0)}


def test_the_same_facts_in_any_order_agree() -> None:
    assert compare(books(FILLS[::-1], PLACED[::-1], MOVES[::-1]), books()) == []


def test_figures_are_compared_by_value_and_not_by_how_they_are_written() -> None:
    longer = [replace(OPENED, quantity=D("2.000"), fee=D("0.1000")), CLOSED, BOUGHT]
    assert compare(books(longer), books()) == []


@pytest.mark.parametrize(
    "altered",
    [
        replace(OPENED, quantity=D("2.001")),
        replace(OPENED, price=D("100.00000001")),
        replace(OPENED, fee=D("0.10000001")),
        replace(OPENED, is_buy=False),
        replace(OPENED, realized=D("0.01")),
        replace(OPENED, client_order_id="px9"),
        replace(OPENED, fee_asset="BNB"),
    ],
)
def test_one_altered_fill_is_found(altered: LedgerFill) -> None:
    assert "FILL_DIFFERS" in kinds(books([altered, CLOSED, BOUGHT]))


def test_a_lost_fill_moves_the_wallet_and_the_position_too() -> None:
    assert kinds(books([OPENED, BOUGHT])) == ["FILL_MISSING", "WALLET", "POSITION"]


def test_a_fill_that_is_two_rows_is_found() -> None:
    assert kinds(books([*FILLS, OPENED])) == ["FILL_TWICE", "WALLET", "POSITION"]


def test_one_cent_is_found_and_told_with_both_figures() -> None:
    found = compare(books(moves=[*MOVES, MoneyMove("a", "futures", "USDT", D("0.01"))]), books())
    assert [str(difference) for difference in found] == [
        "WALLET a futures USDT: desk 1005.557, exchange 1005.547"
    ]


def test_an_order_placed_twice_is_found_although_its_id_is_known() -> None:
    twice = fold(FILLS, [*PLACED, PLACED[0]], MOVES, ASSETS)
    assert [str(difference) for difference in compare(books(), twice)] == [
        "PLACED_TWICE a px1 ordinary: desk 1, exchange 2"
    ]


def test_an_order_we_do_not_know_is_found() -> None:
    found = compare(books(placed=PLACED[1:]), books())
    assert [str(difference) for difference in found] == [
        "UNKNOWN_TO_DESK a px1 ordinary: desk -, exchange placed"
    ]


def test_an_order_that_was_never_placed_is_found() -> None:
    invented = Placement("a", "px9", "ordinary")
    assert kinds(books(placed=[*PLACED, invented])) == ["NEVER_PLACED"]


def test_a_stop_in_the_wrong_store_is_found() -> None:
    moved = [PLACED[0], Placement("a", "stop", "ordinary"), *PLACED[2:]]
    assert kinds(books(placed=moved)) == ["UNKNOWN_TO_DESK", "NEVER_PLACED"]


def test_the_same_trade_id_on_another_symbol_is_another_fill() -> None:
    assert len(books().fills) == 3
