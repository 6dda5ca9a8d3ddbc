"""The vectors V1 to V25 of the trading rules: where each is proven, and two more that concern all rows."""

from collections.abc import Iterator
from decimal import Decimal

import pytest
from pytest_django import Settings
from redis import Redis

from tests.processes import PaperExchange
from tests.proofs import missing_proofs
from trading.domain.autohalt import HaltCode
from trading.domain.states import CloseReason, DecisionStatus, HaltLevel, OrderPurpose, PositionStatus
from trading.models import Allocation, Decision, Halt, Position
from trading.services import automatic_halts, emergency
from trading.tests import rows
from trading.tests.services.holding import (
    answer,
    fresh,
    held_there,
    hold,
    orders_of,
    pinned_mark,
    stops_there,
)
from trading.tests.services.journey import WEATHER, now

PERCENT = "trading/tests/domain/test_percent.py"
PLAN = "trading/tests/domain/test_exit_plan.py"
GATE = "trading/tests/domain/test_gate.py"
SIZING = "trading/tests/domain/test_sizing.py"
ALLOCATION = "trading/tests/services/test_allocation.py"
CLOSING = "trading/tests/services/test_closing.py"
EXECUTION = "trading/tests/services/test_execution.py"
PROTECTION = "trading/tests/services/test_protection.py"

PROVEN: dict[str, tuple[str, ...]] = {
    "V1": (f"{PLAN}::test_the_adaptive_plan_follows_the_leverage",),
    "V2": (f"{PLAN}::test_the_adaptive_plan_follows_the_leverage",),
    "V3": (f"{PLAN}::test_v3_more_leverage_means_a_wider_stop_and_a_nearer_first_target",),
    "V4": (
        f"{PERCENT}::test_a_short_of_the_reports_is_told_in_its_own_units",
        f"{PERCENT}::test_v4_the_stop_at_1_20_percent_was_not_crossed",
        "trading/tests/api/test_positions.py::test_the_atom_short_of_the_report_had_not_reached_its_stop",
    ),
    "V5": (f"{PERCENT}::test_a_short_of_the_reports_is_told_in_its_own_units",),
    "V6": (f"{PERCENT}::test_v6_equity_and_available_of_the_account",),
    "V7": (f"{PERCENT}::test_a_stop_of_the_reports_had_not_been_reached",),
    "V8": (f"{PERCENT}::test_a_stop_of_the_reports_had_not_been_reached",),
    "V9": (f"{GATE}::test_v9_a_stop_ten_percent_away_at_20x_lies_beyond_the_liquidation",),
    "V10": (
        f"{SIZING}::test_v10_fixed_margin_is_sent_or_denied_by_the_minimum",
        f"{ALLOCATION}::test_v10_the_one_below_the_minimum_is_denied_and_the_other_is_sent",
    ),
    "V11": (f"{SIZING}::test_v11_the_loss_at_the_stop_is_the_risk_whatever_the_leverage",),
    "V12": (f"{SIZING}::test_v12_a_notional_of_1000_at_10x_needs_120",),
    "V13": (f"{PLAN}::test_v13_a_harvest_is_of_the_initial_quantity_and_leaves_nothing",),
    "V14": (
        "trading/tests/domain/test_quality.py::test_v14_a_high_score_without_history_is_worth_0_83",
        "trading/tests/services/test_selection.py::test_v14_quality_is_the_weighted_sum_of_the_parts_that_are_kept",
    ),
    "V15": (
        f"{GATE}::test_v15_of_three_like_signals_the_second_is_a_duplicate_and_the_third_meets_a_position",
        f"{ALLOCATION}::test_v15_the_same_symbol_and_side_again_is_a_duplicate_and_then_an_open_order",
        f"{ALLOCATION}::test_v15_beside_a_position_the_same_again_is_denied_position_open",
    ),
    "V16": (
        f"{ALLOCATION}::test_v16_an_account_whose_picture_is_old_is_denied_stale_data",
        f"{CLOSING}::test_v16_a_failed_read_closes_nothing_in_our_rows_and_stops_no_exit",
    ),
    "V17": (
        f"{EXECUTION}::test_an_answer_that_proves_nothing_is_looked_up_and_found",
        f"{EXECUTION}::test_absence_is_concluded_by_three_looks_over_ten_seconds_and_the_next_attempt_has_a_new_id",
    ),
    "V18": (f"{PROTECTION}::test_v18_a_stop_the_mark_is_already_through_closes_at_market",),
    "V19": (
        f"{GATE}::test_v19_five_decisions_without_margin_are_five_refusals_for_margin",
        f"{ALLOCATION}::test_v19_five_decisions_without_margin_are_five_denials_one_alert_and_no_order",
    ),
    "V20": (
        f"{SIZING}::test_v20_the_size_follows_the_plans_stop_and_not_the_signals",
        f"{ALLOCATION}::test_v20_size_and_gate_use_the_stop_of_the_plan_and_not_the_nearer_one_of_the_signal",
    ),
    "V21": (f"{PROTECTION}::test_v21_a_second_close_position_stop_is_refused_and_the_first_still_protects",),
    "V22": (f"{ALLOCATION}::test_v22_a_long_only_account_may_open_a_third_long",),
    "V23": ("tests/test_vectors.py::test_v23_one_decision_stopped_out_everywhere_is_one_stop_out",),
    "V24": ("tests/test_vectors.py::test_v24_cancelling_orders_leaves_the_stops_of_open_positions",),
    "V25": (f"{EXECUTION}::test_a_request_that_leaves_late_is_refused_by_the_exchange_itself",),
}


def test_every_vector_is_a_test_that_exists() -> None:
    assert list(PROVEN) == [f"V{number}" for number in range(1, 26)]
    assert missing_proofs(proof for proofs in PROVEN.values() for proof in proofs) == []
    assert missing_proofs([f"{PLAN}::test_nothing_of_the_kind"]) != []


# ── V23 ──────────────────────────────────────────────────────────────────────


def stopped_out(accounts: int, name: str) -> Decision:
    """A decision whose positions all ended at their stop, one an account."""
    decision = rows.decision(status=DecisionStatus.COMPLETE)
    closed = {"status": PositionStatus.CLOSED, "close_reason": CloseReason.STOP_LOSS, "closed_at": now()}
    loss = {"realized_profit": Decimal(-20), "fees": Decimal(1)}
    for number in range(accounts):
        account = rows.account(f"{name}-{number}")
        share: Allocation = rows.allocation(decision, account)
        rows.position(account, allocation=share, **closed, **loss)
    return decision


def desk_halts() -> list[str]:
    automatic_halts.check([], {}, {}, 0.0, now())
    return list(Halt.objects.filter(scope="desk").values_list("code", flat=True))


@pytest.mark.django_db
def test_v23_one_decision_stopped_out_everywhere_is_one_stop_out() -> None:
    stopped_out(60, "many")
    assert desk_halts() == []
    stopped_out(1, "second")
    assert desk_halts() == []
    stopped_out(1, "third")
    assert desk_halts() == [HaltCode.STOP_OUTS]


# ── V24 ──────────────────────────────────────────────────────────────────────


@pytest.fixture
def exchange(
    unthrottled: None, paper_exchange: PaperExchange, settings: Settings, redis: Redis
) -> Iterator[PaperExchange]:
    settings.GATE_OFF = WEATHER
    with pinned_mark(paper_exchange):
        redis.flushdb()  # no mark of before stays on the board
        yield paper_exchange


@pytest.mark.django_db
def test_v24_cancelling_orders_leaves_the_stops_of_open_positions(exchange: PaperExchange) -> None:
    position: Position = hold()
    (stop,) = orders_of(position, OrderPurpose.HARD_STOP)
    _, bells = emergency.raise_halt("desk", HaltLevel.CANCEL_ORDERS, "a drill", "operator", now())
    answer(bells)
    assert [there.client_order_id for there in stops_there(position.account)] == [stop.client_order_id]
    (held,) = held_there(position.account)
    assert held.quantity == fresh(position).quantity > Decimal(0)
    assert fresh(position).protection == "VERIFIED"
