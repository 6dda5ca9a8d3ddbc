"""The table of order states and the codes."""

import pytest

from trading.domain.states import (
    LATE_FILLS,
    OPEN,
    STEPS,
    TERMINAL,
    DenyCode,
    OrderStatus,
    predecessors,
    successors,
)


def test_every_status_has_its_row_and_is_either_open_or_terminal() -> None:
    assert set(STEPS) == set(OrderStatus)
    assert not OPEN & TERMINAL
    assert set(OPEN | TERMINAL) == set(OrderStatus)


def test_an_order_is_submitted_only_from_a_claim() -> None:
    assert predecessors(OrderStatus.SUBMITTED) == {OrderStatus.CLAIMED}


def test_an_unknown_order_can_never_be_sent_again() -> None:
    assert not {OrderStatus.PENDING, OrderStatus.CLAIMED, OrderStatus.SUBMITTED} & successors(
        OrderStatus.UNKNOWN
    )


@pytest.mark.parametrize("status", sorted(TERMINAL))
def test_a_finished_order_is_left_only_by_a_late_fill(status: OrderStatus) -> None:
    assert successors(status) == LATE_FILLS.get(status, frozenset())
    assert successors(status) <= {OrderStatus.PARTIALLY_FILLED, OrderStatus.FILLED}


@pytest.mark.parametrize("status", sorted(OPEN))
def test_every_open_order_can_reach_an_end(status: OrderStatus) -> None:
    reached, frontier = {status}, {status}
    while frontier:
        frontier = {after for before in frontier for after in successors(before)} - reached
        reached |= frontier
    assert reached & TERMINAL


def test_the_exchange_alone_can_reject() -> None:
    assert predecessors(OrderStatus.REJECTED) == {
        OrderStatus.SUBMITTED,
        OrderStatus.UNKNOWN,
        OrderStatus.ACKNOWLEDGED,
    }


def test_the_gate_asks_halts_first_and_margin_last() -> None:
    asked = [code for code in DenyCode if code is not DenyCode.VENUE_CIRCUIT]
    assert (asked[0], asked[-1]) == (DenyCode.HALTED, DenyCode.MARGIN)
