"""Fills folded into positions and orders."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.domain.ledger import LedgerFill, fold_position
from trading.tests.domain.samples import NOW, D


def fill(number: int, side: str, quantity: str, price: str, **fees: D) -> LedgerFill:
    return LedgerFill(
        trade_id=str(number),
        is_buy=side == "buy",
        quantity=D(quantity),
        price=D(price),
        filled_at=NOW + timedelta(seconds=number),
        **fees,
    )


def test_a_long_is_averaged_in_and_realised_out() -> None:
    held = fold_position(
        [
            fill(1, "buy", "1", "100", fee=D("0.05")),
            fill(2, "buy", "3", "104", fee=D("0.15")),
            fill(3, "sell", "1", "110", fee=D("0.05")),
        ],
        is_long=True,
    )
    assert (held.quantity, held.initial_quantity, held.entry_price) == (D(3), D(4), D(103))
    assert (held.realized_profit, held.fees, held.exit_price) == (D(7), D("0.25"), D(110))
    assert held.opened_at == NOW + timedelta(seconds=1)


def test_a_short_gains_when_it_is_bought_back_lower() -> None:
    held = fold_position([fill(1, "sell", "2", "50"), fill(2, "buy", "2", "47.5")], is_long=False)
    assert (held.quantity, held.realized_profit, held.is_flat) == (D(0), D(5), True)
    assert held.entry_price == D(50)


def test_a_fill_through_zero_shows_as_flipped_and_is_never_our_quantity() -> None:
    held = fold_position([fill(1, "buy", "1", "100"), fill(2, "sell", "1.5", "110")], is_long=True)
    assert (held.quantity, held.flipped_quantity, held.realized_profit) == (D(0), D("0.5"), D(10))
    back = fold_position(
        [fill(1, "buy", "1", "100"), fill(2, "sell", "1.5", "110"), fill(3, "buy", "0.5", "108")],
        is_long=True,
    )
    assert (back.is_flat, back.realized_profit) == (True, D(11))


def test_on_spot_the_fee_is_taken_out_of_the_coins_bought() -> None:
    held = fold_position([fill(1, "buy", "1", "100", base_fee=D("0.001"))], is_long=True)
    assert (held.quantity, held.initial_quantity, held.fees) == (D("0.999"), D("0.999"), D("0.1"))
    assert held.entry_price == D(100)


def test_a_fill_eaten_whole_by_its_fee_opens_nothing() -> None:
    held = fold_position([fill(1, "buy", "0.001", "100", base_fee=D("0.001"))], is_long=True)
    assert (held.is_flat, held.entry_price, held.fees) == (True, D(0), D("0.1"))


def test_no_fills_are_no_position() -> None:
    held = fold_position([], is_long=True)
    assert (held.quantity, held.entry_price, held.exit_price, held.opened_at) == (D(0), D(0), None, None)


def test_fills_of_one_moment_keep_the_exchanges_order() -> None:
    at_once = [
        LedgerFill("9", is_buy=True, quantity=D(1), price=D(100), filled_at=NOW),
        LedgerFill("10", is_buy=False, quantity=D(1), price=D(110), filled_at=NOW),
        LedgerFill("11", is_buy=True, quantity=D(1), price=D(90), filled_at=NOW),
    ]
    held = fold_position(at_once, is_long=True)
    assert (held.entry_price, held.realized_profit) == (D(90), D(10))


quantities = st.decimals(min_value="0.001", max_value=100, places=3)
fills = st.lists(
    st.builds(
        LedgerFill,
        trade_id=st.integers(1, 30).map(str),
        is_buy=st.booleans(),
        quantity=quantities,
        price=st.decimals(min_value=1, max_value=1000, places=2),
        filled_at=st.integers(0, 5).map(lambda seconds: NOW + timedelta(seconds=seconds)),
    ),
    max_size=20,
    unique_by=lambda one: one.trade_id,
)


@given(given_fills=fills, is_long=st.booleans(), seed=st.randoms())
def test_a_fold_does_not_depend_on_arrival_or_on_duplicates(
    given_fills: list[LedgerFill], is_long: bool, seed: object
) -> None:
    arrived = given_fills + given_fills[:3]
    seed.shuffle(arrived)  # type: ignore[attr-defined]  # hypothesis gives a random.Random
    assert fold_position(arrived, is_long=is_long) == fold_position(given_fills, is_long=is_long)


@given(given_fills=fills, is_long=st.booleans())
def test_quantity_is_the_sum_of_executions_and_money_adds_up(
    given_fills: list[LedgerFill], is_long: bool
) -> None:
    held = fold_position(given_fills, is_long=is_long)
    bought = sum((one.quantity for one in given_fills if one.is_buy), D(0))
    sold = sum((one.quantity for one in given_fills if not one.is_buy), D(0))
    net = bought - sold if is_long else sold - bought
    assert held.quantity - held.flipped_quantity == net
    assert held.quantity == 0 or held.flipped_quantity == 0
    cash = sum((one.quantity * one.price * (-1 if one.is_buy else 1) for one in given_fills), D(0))
    open_value = (bought - sold) * held.entry_price
    assert abs(held.realized_profit - (cash + open_value)) < D("1e-15")


@pytest.mark.parametrize("is_long", [True, False])
def test_what_is_entered_is_what_is_open_plus_what_was_closed(is_long: bool) -> None:
    enter, leave = ("buy", "sell") if is_long else ("sell", "buy")
    held = fold_position([fill(1, enter, "2", "10"), fill(2, leave, "0.5", "11")], is_long=is_long)
    assert held.initial_quantity - held.quantity == D("0.5")
