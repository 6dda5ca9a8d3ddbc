"""The gate: every refusal, its order, its numbers, and what missing figures do (V9, V15, V19, V20, V22)."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest

from trading.domain.exit_plan import Distances, distances
from trading.domain.gate import (
    AFTER_SIZING,
    BEFORE_SIZING,
    AccountState,
    Book,
    GateInput,
    MarketState,
    Proposal,
    Refusal,
    SignalTerms,
    Stake,
    liquidation_distance,
    refusal_after_sizing,
    refusal_before_sizing,
)
from trading.domain.instrument import Bracket, Instrument, Market
from trading.domain.limits import Limits
from trading.domain.sizing import Sizing, SizingInput, size
from trading.domain.states import DenyCode
from trading.tests.domain.samples import NOW, SOL, D, instrument, terms

SIZING = Sizing(
    quantity=D(10),
    wanted_quantity=D(10),
    bound_by=None,
    notional=D(1000),
    loss_at_stop=D(10),
    margin_required=D(400),
    denied=None,
)

PROPOSAL = Proposal(
    cap_price=D("100.10"),
    stop_price=D("99.35"),
    distances=Distances(D("0.0075"), (D("0.011"), D("0.015"), D("0.02")), (D("0.3"), D("0.3"), D("0.4"))),
    sizing=SIZING,
    taker_fee=D("0.0005"),
)

ACCOUNT = AccountState(
    wallet=D(1000),
    unrealized=D(0),
    available=D(1000),
    day_profit=D(0),
    day_baseline=D(1000),
    leverage=D(3),
    asked_leverage=D(3),
    picture_age_seconds=5.0,
)

MARKET = MarketState(
    mark_price=D(100),
    mark_age_seconds=1.0,
    spread=D("0.0002"),
    range_24h=D("0.03"),
    ema200=D(95),
    funding_rate=D("0.0001"),
    next_funding_at=NOW + timedelta(hours=4),
    quote_volume_24h=D(500_000_000),
    depth_notional=D(1_000_000),
)


@dataclass(frozen=True, slots=True)
class Question(GateInput):
    """What both halves of the gate are asked."""

    proposal: Proposal = PROPOSAL


ASKED = Question(
    now=NOW,
    limits=Limits(),
    is_long=True,
    instrument=SOL,
    signal=SignalTerms(stop_price=D(99), take_profit_price=D(105), entry_price=D(100)),
    account=ACCOUNT,
    market=MARKET,
)


def stake(
    symbol: str = "ETH/USDT:USDT", *, is_long: bool = True, risk: str = "10", notional: str = "500"
) -> Stake:
    return Stake(symbol, symbol.split("/", maxsplit=1)[0], is_long, D(notional), D(risk))


def asked(**changes: Any) -> Question:
    """The sample question; a dict changes fields of the part it names."""
    parts = {
        name: replace(getattr(ASKED, name), **change) if isinstance(change, dict) else change
        for name, change in changes.items()
    }
    return replace(ASKED, **parts)


def first_refusal(question: Question) -> Refusal | None:
    return refusal_before_sizing(question) or refusal_after_sizing(question, question.proposal)


def code(question: Question) -> DenyCode | None:
    refusal = first_refusal(question)
    return refusal.code if refusal else None


def test_a_sound_entry_passes() -> None:
    assert first_refusal(ASKED) is None


def test_the_two_tables_ask_every_code_in_the_order_of_the_rules() -> None:
    table = [found for found, _ in (*BEFORE_SIZING, *AFTER_SIZING)]
    assert table == [each for each in DenyCode if each is not DenyCode.VENUE_CIRCUIT]


REFUSED: list[tuple[DenyCode, dict[str, Any]]] = [
    (DenyCode.HALTED, {"account": {"halted_by": "desk"}}),
    (DenyCode.ACCOUNT_UNHEALTHY, {"account": {"unhealthy": ("not verified",)}}),
    (DenyCode.STALE_DATA, {"market": {"mark_age_seconds": 3.1}}),
    (DenyCode.STALE_DATA, {"account": {"picture_age_seconds": 30.1}}),
    (DenyCode.STALE_DATA, {"account": {"picture_age_seconds": None}}),
    (DenyCode.SIGNAL_EXPIRED, {"signal": {"expires_at": NOW}}),
    (DenyCode.DUPLICATE, {"signal": {"last_acted_at": NOW - timedelta(seconds=29)}}),
    (DenyCode.OUTCOME_UNKNOWN, {"book": {"unknown_bases": frozenset({"SOL"})}}),
    (DenyCode.ORDER_PENDING, {"book": {"pending_bases": frozenset({"SOL"})}}),
    (DenyCode.POSITION_OPEN, {"book": {"open_bases": frozenset({"SOL"})}}),
    (DenyCode.SYMBOL_CLOSED, {"instrument": {"trading": False}}),
    (DenyCode.SYMBOL_CLOSED, {"instrument": {"reduce_only": True}}),
    (DenyCode.SYMBOL_CLOSED, {"instrument": {"delivery_at": NOW + timedelta(hours=72)}}),
    (DenyCode.MAX_POSITIONS, {"book": {"held": (stake(),) * 3, "in_flight": (stake(),) * 2}}),
    (DenyCode.DAILY_TRADES, {"account": {"trades_today": 20}}),
    (DenyCode.DAILY_LOSS, {"account": {"day_profit": D(-40)}}),
    (DenyCode.RISK_BUDGET, {"account": {"day_profit": D(20)}, "book": {"held": (stake(risk="40.01"),)}}),
    (DenyCode.SAME_DIRECTION, {"book": {"held": (stake(risk="25.01"),)}}),
    (DenyCode.CORRELATED, {"book": {"held": (stake("A/USDT:USDT"), stake("B/USDT:USDT"))}}),
    (DenyCode.VOLATILITY, {"market": {"range_24h": D("0.151")}}),
    (DenyCode.TREND_AGAINST, {"market": {"ema200": D(100)}}),
    (
        DenyCode.FUNDING,
        {"market": {"next_funding_at": NOW + timedelta(minutes=10), "funding_rate": D("0.000751")}},
    ),
    (DenyCode.SPREAD, {"market": {"spread": D("0.0021")}}),
    (DenyCode.PRICE_AWAY, {"market": {"mark_price": D("100.26")}}),
    (DenyCode.PRICE_AWAY, {"signal": {"take_profit_price": D(100), "entry_price": None}}),
    (DenyCode.PRICE_AWAY, {"signal": {"stop_price": D(100), "entry_price": None}}),
    (DenyCode.REWARD_RISK, {"proposal": {"distances": Distances(D("0.0075"), (D("0.0104"),), (D(1),))}}),
    (DenyCode.STOP_INVALID, {"proposal": {"stop_price": D("100.20")}}),
    (DenyCode.STOP_INVALID, {"proposal": {"stop_price": D("99.96")}}),
    (DenyCode.STOP_INVALID, {"proposal": {"stop_price": D(70)}}),
    (DenyCode.SETTINGS, {"account": {"leverage": D(4)}}),
    (DenyCode.SETTINGS, {"account": {"margin_mode": "cross"}}),
    *(
        (denied, {"proposal": {"sizing": replace(SIZING, denied=denied)}})
        for denied in (
            DenyCode.LEVERAGE_BRACKET,
            DenyCode.MIN_NOTIONAL,
            DenyCode.MIN_QUANTITY,
            DenyCode.MAX_ORDER,
            DenyCode.MARGIN,
        )
    ),
]


@pytest.mark.parametrize(("expected", "changes"), REFUSED)
def test_each_rule_refuses_with_its_numbers_and_can_be_switched_off(
    expected: DenyCode, changes: dict[str, Any]
) -> None:
    refusal = first_refusal(asked(**changes))
    assert refusal is not None
    assert refusal.code is expected
    assert refusal.detail
    assert all(isinstance(number, str) for number in refusal.detail.values())
    off = first_refusal(asked(**changes, gate_off=frozenset({expected})))
    assert off is None or off.code is not expected


@pytest.mark.parametrize(
    "changes",
    [
        {"account": {"picture_age_seconds": 300.0, "is_stream_alive": True}},
        {"signal": {"last_acted_at": NOW - timedelta(seconds=30)}},
        {"book": {"open_bases": frozenset({"ETH"})}},
        {"instrument": {"delivery_at": NOW + timedelta(hours=73)}},
        {"account": {"day_profit": D("-39.99")}},
        {"book": {"held": (stake(risk="25"),)}},
        {"account": {"day_profit": D(1)}, "book": {"held": (stake(risk="40", is_long=False),)}},
        {"market": {"range_24h": D("0.15")}},
        {"market": {"next_funding_at": NOW + timedelta(minutes=11), "funding_rate": D("0.001")}},
        {"market": {"next_funding_at": NOW + timedelta(minutes=9), "funding_rate": D("-0.01")}},
        {"market": {"mark_price": D("100.25")}},
        {"limits": Limits(counter_trend=True), "market": {"ema200": D(200)}},
    ],
)
def test_at_the_edge_of_a_rule_the_entry_still_passes(changes: dict[str, Any]) -> None:
    assert first_refusal(asked(**changes)) is None


def test_the_days_loss_counts_what_the_open_stops_would_still_cost() -> None:
    account = {"day_profit": D(-20)}
    off = frozenset({DenyCode.RISK_BUDGET, DenyCode.SAME_DIRECTION})
    assert (
        code(asked(account=account, book={"held": (stake(risk="20"),)}, gate_off=off)) is DenyCode.DAILY_LOSS
    )
    assert code(asked(account=account, book={"held": (stake(risk="19.99"),)}, gate_off=off)) is None
    flying = {"in_flight": (stake(risk="20"),)}
    assert code(asked(account=account, book=flying, gate_off=off)) is DenyCode.DAILY_LOSS


def test_a_net_reward_equal_to_the_risk_is_just_enough() -> None:
    # Costs 0.15 % and funding 0.01 %: 0.0107 - 0.0016 over 0.0075 + 0.0016.
    even = Distances(D("0.0075"), (D("0.0107"),), (D(1),))
    assert code(asked(proposal={"distances": even})) is None
    under = Distances(D("0.0075"), (D("0.0106"),), (D(1),))
    assert code(asked(proposal={"distances": under})) is DenyCode.REWARD_RISK


@pytest.mark.parametrize(
    ("part", "figure", "expected"),
    [
        ("market", "mark_price", DenyCode.STALE_DATA),
        ("market", "mark_age_seconds", DenyCode.STALE_DATA),
        ("market", "depth_notional", DenyCode.STALE_DATA),
        ("market", "quote_volume_24h", DenyCode.STALE_DATA),
        ("market", "range_24h", DenyCode.VOLATILITY),
        ("market", "ema200", DenyCode.TREND_AGAINST),
        ("market", "funding_rate", DenyCode.FUNDING),
        ("market", "next_funding_at", DenyCode.FUNDING),
        ("market", "spread", DenyCode.SPREAD),
        ("account", "day_baseline", DenyCode.DAILY_LOSS),
        ("account", "day_profit", DenyCode.DAILY_LOSS),
        ("account", "leverage", DenyCode.STOP_INVALID),
    ],
)
def test_a_missing_figure_refuses(part: str, figure: str, expected: DenyCode) -> None:
    assert code(asked(**{part: {figure: None}})) is expected


def test_with_the_stale_rule_off_a_missing_mark_still_refuses() -> None:
    off = frozenset({DenyCode.STALE_DATA, DenyCode.TREND_AGAINST})
    assert code(asked(market={"mark_price": None}, gate_off=off)) is DenyCode.PRICE_AWAY


def test_a_signal_without_an_entry_is_only_measured_at_its_stop_and_target() -> None:
    assert first_refusal(asked(signal={"entry_price": None}, market={"mark_price": D(104)})) is None


def test_without_brackets_the_liquidation_is_unknown_and_refused() -> None:
    refusal = first_refusal(asked(instrument={"brackets": ()}))
    assert refusal is not None
    assert (refusal.code, refusal.detail) == (DenyCode.STOP_INVALID, {"missing": "brackets"})


def test_the_first_reason_in_the_order_of_the_rules_is_told() -> None:
    question = asked(account={"halted_by": "desk", "unhealthy": ("clock",)}, market={"spread": None})
    assert code(question) is DenyCode.HALTED
    off = replace(question, gate_off=frozenset({DenyCode.HALTED, DenyCode.ACCOUNT_UNHEALTHY}))
    assert code(off) is DenyCode.SPREAD


def test_v9_a_stop_ten_percent_away_at_20x_lies_beyond_the_liquidation() -> None:
    distance = liquidation_distance(is_long=True, margin_ratio=D(1) / 20, maint_margin_ratio=D("0.005"))
    assert distance.quantize(D("0.0001")) == D("0.0452")
    assert (distance * D("0.8")).quantize(D("0.0001")) == D("0.0362")
    question = asked(
        account={"leverage": D(20), "asked_leverage": D(20)},
        proposal={"cap_price": D("138.73"), "stop_price": D("124.857")},
    )
    assert code(question) is DenyCode.STOP_INVALID


def test_a_short_is_liquidated_a_little_earlier_than_a_long() -> None:
    short = liquidation_distance(is_long=False, margin_ratio=D("0.05"), maint_margin_ratio=D("0.005"))
    assert short == D("0.045") / D("1.005")


def test_in_cross_margin_other_positions_at_their_stops_bring_the_liquidation_nearer() -> None:
    cross = {"margin_mode": "cross", "asked_margin_mode": "cross", "wallet": D(60)}
    wide = {"stop_price": D("96.1")}  # 4.0 % away; 60 of wallet against 1,000 liquidates at 5.5 %
    off = frozenset({DenyCode.RISK_BUDGET, DenyCode.SAME_DIRECTION, DenyCode.DAILY_LOSS})
    assert code(asked(account=cross, proposal=wide, gate_off=off)) is None
    burdened = asked(account=cross, proposal=wide, gate_off=off, book={"held": (stake(risk="10"),)})
    assert code(burdened) is DenyCode.STOP_INVALID


def test_v15_of_three_like_signals_the_second_is_a_duplicate_and_the_third_meets_a_position() -> None:
    opened = {"open_bases": frozenset({"SOL"})}
    assert code(ASKED) is None
    second = asked(now=NOW + timedelta(seconds=29), signal={"last_acted_at": NOW}, book=opened)
    third = asked(now=NOW + timedelta(seconds=31), signal={"last_acted_at": NOW}, book=opened)
    assert (code(second), code(third)) == (DenyCode.DUPLICATE, DenyCode.POSITION_OPEN)


def test_v19_five_decisions_without_margin_are_five_refusals_for_margin() -> None:
    for available in ("0", "20", "50", "99", "100"):
        account = replace(ACCOUNT, available=D(available))
        sized = size(sizing_input(account=account))
        assert code(asked(account=account, proposal={"sizing": sized})) is DenyCode.MARGIN


def test_an_account_without_any_money_is_refused_for_margin() -> None:
    empty = replace(ACCOUNT, wallet=D(0), available=D(0), day_baseline=D(0))
    assert (
        code(asked(account=empty, proposal={"sizing": size(sizing_input(account=empty))})) is DenyCode.MARGIN
    )


@pytest.mark.parametrize(("day_profit", "refused"), [("-89.99", False), ("-90", True)])
def test_a_loss_on_spot_counts_in_the_day(day_profit: str, refused: bool) -> None:
    question = asked(instrument={"market": Market.SPOT}, account={"day_profit": D(day_profit)})
    assert code(question) is (DenyCode.DAILY_LOSS if refused else None), (
        "5 % of both wallets, less 10 at risk"
    )


@pytest.mark.parametrize("market", list(Market))
@pytest.mark.parametrize(("day_profit", "refused"), [("-39.99", False), ("-40", True)])
def test_with_nothing_at_midnight_the_day_is_measured_on_what_is_there_now(
    market: Market, day_profit: str, refused: bool
) -> None:
    account = {"day_baseline": D(0), "day_profit": D(day_profit)}
    question = asked(instrument={"market": market}, account=account)
    assert code(question) is (DenyCode.DAILY_LOSS if refused else None)


def test_the_futures_money_is_no_baseline_of_an_account_that_only_trades_spot() -> None:
    account = {"is_long_only": True, "day_baseline": D(100_000), "day_profit": D(-40)}
    assert code(asked(instrument={"market": Market.SPOT}, account=account)) is DenyCode.DAILY_LOSS


def test_v20_the_gate_weighs_the_plans_stop_and_not_the_signals() -> None:
    found = distances(terms(leverage=D(2)), D(100))
    plan_stop = D("100.10") * (1 - found.stop)
    sized = size(sizing_input(stop_price=plan_stop))
    question = asked(
        signal={"stop_price": D("99.70")},
        account={"leverage": D(2), "asked_leverage": D(2)},
        proposal={"stop_price": plan_stop, "distances": found, "sizing": sized},
    )
    assert first_refusal(question) is None
    assert found.stop.quantize(D("0.00001")) == D("0.00709")
    assert sized.loss_at_stop <= D("0.01") * ACCOUNT.wallet


def test_v22_a_long_only_account_may_spend_its_whole_budget_on_longs() -> None:
    held = {"held": (stake("A/USDT:USDT", risk="20"), stake("B/USDT:USDT", risk="19"))}
    far = {"correlations": {"A/USDT:USDT": D("0.1"), "B/USDT:USDT": D("0.1")}}
    assert code(asked(book=held | far)) is DenyCode.SAME_DIRECTION
    assert code(asked(book=held | far, account={"is_long_only": True})) is None


@pytest.mark.parametrize(
    ("is_long", "held_long", "correlation", "refused"),
    [
        (True, True, "0.8", True),
        (True, True, "0.79", False),
        (True, False, "0.9", False),
        (True, False, "-0.85", True),
        (False, True, "-0.85", True),
    ],
)
def test_correlation_counts_by_the_side_taken(
    is_long: bool, held_long: bool, correlation: str, refused: bool
) -> None:
    symbols = ("A/USDT:USDT", "B/USDT:USDT")
    book = Book(
        held=tuple(stake(symbol, is_long=held_long, risk="1") for symbol in symbols),
        correlations=dict.fromkeys(symbols, D(correlation)),
    )
    market = {"ema200": D(95) if is_long else D(105)}
    signal = {"stop_price": D(99) if is_long else D(101), "take_profit_price": D(105) if is_long else D(95)}
    proposal = {
        "cap_price": D("100.10") if is_long else D("99.90"),
        "stop_price": D("99.35") if is_long else D("100.65"),
    }
    question = asked(is_long=is_long, book=book, market=market, signal=signal, proposal=proposal)
    assert code(question) is (DenyCode.CORRELATED if refused else None)


def test_one_alike_position_is_not_yet_too_many() -> None:
    assert first_refusal(asked(book={"held": (stake(),)})) is None


def test_spot_knows_no_funding_no_leverage_and_no_liquidation() -> None:
    question = asked(
        instrument={"market": Market.SPOT, "brackets": ()},
        market={"funding_rate": None, "next_funding_at": None},
        account={"leverage": D(1), "margin_mode": None},
        proposal={"stop_price": D("98.5")},
    )
    assert first_refusal(question) is None


def test_the_bracket_at_the_notional_decides_the_maintenance_margin() -> None:
    harsh: Instrument = instrument(brackets=(Bracket(D(0), D(10_000), D("0.30"), D(50)),))
    assert code(replace(ASKED, instrument=harsh, proposal=replace(PROPOSAL, stop_price=D(96)))) is (
        DenyCode.STOP_INVALID
    )


def test_the_halves_can_be_asked_on_their_own() -> None:
    halted = asked(account={"halted_by": "desk"}, market={"spread": None})
    before, after = refusal_before_sizing(halted), refusal_after_sizing(halted, PROPOSAL)
    assert before is not None
    assert after is not None
    assert (before.code, after.code) == (DenyCode.HALTED, DenyCode.SPREAD)


def sizing_input(account: AccountState = ACCOUNT, stop_price: D = PROPOSAL.stop_price) -> SizingInput:
    return SizingInput(
        instrument=SOL,
        limits=Limits(),
        is_long=True,
        mark_price=D(100),
        cap_price=D("100.10"),
        stop_price=stop_price,
        taker_fee=D("0.0005"),
        leverage=D(3),
        wallet=account.wallet,
        unrealized=account.unrealized,
        available=account.available,
    )
