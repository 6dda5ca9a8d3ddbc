"""Entry cap, models, caps and minimums (V10 to V12, V19, V20)."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.domain.instrument import floor_to
from trading.domain.limits import Limits, SizingModel
from trading.domain.sizing import (
    DENIED_BY,
    Cap,
    Kelly,
    SizingInput,
    cap_quantities,
    desk_ceiling,
    entry_cap,
    excess_quantity,
    kelly_risk,
    loss_at_stop,
    margin_required,
    share_pro_rata,
    size,
)
from trading.domain.states import DenyCode
from trading.tests.domain.samples import D, instrument

FREE_OF_COSTS = Limits(stop_slippage=D(0))
WIDE = Limits(symbol_notional=D(50), gross_notional=D(50))

REQUEST = SizingInput(
    instrument=instrument(),
    limits=Limits(),
    is_long=True,
    mark_price=D(100),
    cap_price=D("100.10"),
    stop_price=D("99.10"),
    taker_fee=D("0.0005"),
    leverage=D(3),
    wallet=D(1000),
    unrealized=D(0),
    available=D(1000),
)


def request(**changes: Any) -> SizingInput:  # a test names any field it changes
    return replace(REQUEST, **changes)


@pytest.mark.parametrize("leverage", ["2", "10", "50"])
def test_v11_the_loss_at_the_stop_is_the_risk_whatever_the_leverage(leverage: str) -> None:
    limits = replace(FREE_OF_COSTS, risk_per_trade=D("0.02"), symbol_notional=D(3))
    sized = size(
        request(limits=limits, cap_price=D(100), stop_price=D("98.5"), taker_fee=D(0), leverage=D(leverage))
    )
    assert sized.quantity == D("13.333")
    assert sized.notional == D("1333.300")
    assert sized.loss_at_stop.quantize(D("0.01")) == D("20.00")
    assert sized.bound_by is None


def test_v12_a_notional_of_1000_at_10x_needs_120() -> None:
    assert margin_required(D(1000), D(10), Limits()) == D(120)


@pytest.mark.parametrize(
    ("free", "notional", "denied"),
    [("100", "19.5827", DenyCode.MIN_NOTIONAL), ("154", "30.3216", None)],
)
def test_v10_fixed_margin_is_sent_or_denied_by_the_minimum(
    free: str, notional: str, denied: DenyCode | None
) -> None:
    sized = size(
        request(
            instrument=instrument(step=D("0.01"), min_notional=D(20)),
            limits=replace(WIDE, sizing_model=SizingModel.FIXED_MARGIN),
            leverage=D(10),
            wallet=D(free),
            available=D(free),
            cap_price=D("63.17"),
            mark_price=D("63.17"),
            stop_price=D("62.5"),
        )
    )
    assert (sized.notional, sized.denied) == (D(notional), denied)


def test_v19_an_account_without_margin_is_denied_for_margin_and_nothing_else() -> None:
    assert size(request(available=D(0))).denied is DenyCode.MARGIN
    assert size(request(available=D(100))).denied is DenyCode.MARGIN
    empty = size(request(wallet=D(0), available=D(0)))
    assert (empty.denied, empty.quantity) == (DenyCode.MARGIN, D(0))


def test_v20_the_size_follows_the_plans_stop_and_not_the_signals() -> None:
    plan_stop, signal_stop = D("100.10") * (1 - D("0.007094")), D("100.10") * (1 - D("0.003"))
    sized = size(request(limits=WIDE, available=D(10_000), stop_price=plan_stop))
    wrong = size(request(limits=WIDE, available=D(10_000), stop_price=signal_stop))
    assert sized.quantity < wrong.quantity
    assert D("9.9") < sized.loss_at_stop <= D(10)


def test_a_smaller_margin_shrinks_the_size_and_says_so() -> None:
    sized = size(request(limits=WIDE, available=D(160)))
    assert (sized.bound_by, sized.denied) == (Cap.MARGIN, None)
    assert sized.margin_required <= D(60)


@pytest.mark.parametrize(
    ("changes", "cap"),
    [
        ({"instrument": instrument(brackets=())}, None),
        ({"leverage": D(60)}, Cap.BRACKET),
        ({"symbol_notional": D(1000)}, Cap.SYMBOL_NOTIONAL),
        ({"gross_notional": D(3000)}, Cap.ACCOUNT_NOTIONAL),
        ({"limits": Limits(max_order_notional=D(3))}, Cap.MAX_ORDER),
        ({"instrument": instrument(max_market_quantity=D("0.01"))}, Cap.MAX_ORDER),
        ({"desk_notional": D(2)}, Cap.DESK_NOTIONAL),
    ],
)
def test_a_cap_that_leaves_too_little_names_itself(changes: dict[str, Any], cap: Cap | None) -> None:
    sized = size(request(**changes))
    assert sized.denied == (DENIED_BY[cap] if cap else None)
    if cap:
        assert sized.bound_by is cap


@pytest.mark.parametrize(
    ("mark", "cap", "denied"),
    [
        ("100", "100.10", None),
        ("99.99", "100.10", DenyCode.MIN_NOTIONAL),
        ("100.10", "99.99", DenyCode.MIN_NOTIONAL),
    ],
)
def test_the_minimum_notional_is_met_with_two_percent_to_spare_at_cap_and_mark(
    mark: str, cap: str, denied: DenyCode | None
) -> None:
    limits = replace(WIDE, sizing_model=SizingModel.FIXED_NOTIONAL, fixed_notional=D("51.06"))
    market = instrument(step=D("0.51"), min_notional=D(50))
    sized = size(request(instrument=market, limits=limits, mark_price=D(mark), cap_price=D(cap)))
    assert (sized.quantity, sized.denied) == (D("0.51"), denied)


def test_a_quantity_under_the_lot_minimum_is_told_apart_from_a_small_notional() -> None:
    market = instrument(min_quantity=D(50), min_notional=D(5), max_quantity=D(1000))
    sized = size(request(instrument=market, limits=WIDE, available=D(100_000)))
    assert sized.denied is DenyCode.MIN_QUANTITY


def test_the_kelly_model_sizes_by_its_own_risk() -> None:
    limits = replace(WIDE, sizing_model=SizingModel.CAPPED_KELLY)
    plain = size(request(limits=limits)).wanted_quantity
    timid = size(request(limits=limits, kelly=Kelly(30, D("0.4"), D("1.6")))).wanted_quantity
    assert plain == size(request(limits=WIDE)).wanted_quantity
    assert (timid / plain).quantize(D("0.000001")) == D("0.625")


def test_an_open_profit_does_not_enlarge_the_next_entry_and_an_open_loss_shrinks_it() -> None:
    plain = size(request()).wanted_quantity
    assert size(request(unrealized=D(100))).wanted_quantity == plain
    shrunk = size(request(unrealized=D(-100))).wanted_quantity
    assert shrunk.quantize(D("1E-20")) == (plain * D("0.9")).quantize(D("1E-20"))


@pytest.mark.parametrize(
    ("is_long", "stop_distance", "expected"),
    [
        (True, "0.0071", "100.18"),  # a quarter of the stop: 0.1775 %
        (False, "0.0071", "99.82"),
        (True, "0.02", "100.20"),  # never more than 0.20 %
        (False, "0.02", "99.80"),
    ],
)
def test_the_cap_is_a_fifth_of_a_percent_or_a_quarter_of_the_stop(
    is_long: bool, stop_distance: str, expected: str
) -> None:
    cap = entry_cap(
        mark_price=D(100), stop_distance=D(stop_distance), is_long=is_long, tick=D("0.01"), limits=Limits()
    )
    assert cap == D(expected)


def test_a_stop_in_profit_is_no_budget_for_another_risk() -> None:
    lost = loss_at_stop(
        D(1), is_long=True, entry_price=D(100), stop_price=D(103), taker_fee=D("0.0005"), slippage=D("0.0005")
    )
    assert lost == 0


@pytest.mark.parametrize(
    ("kelly", "risk"),
    [
        (None, "0.01"),
        (Kelly(29, D("0.9"), D(3)), "0.01"),
        (Kelly(30, D("0.9"), D(3)), "0.01"),
        (Kelly(30, D("0.4"), D("1.6")), "0.00625"),
        (Kelly(30, D("0.3"), D(1)), "0"),
    ],
)
def test_kelly_is_capped_at_the_risk_per_trade_and_silent_before_thirty_decisions(
    kelly: Kelly | None, risk: str
) -> None:
    assert kelly_risk(kelly, Limits()) == D(risk)


@pytest.mark.parametrize(
    ("model", "notional"), [(SizingModel.FIXED_NOTIONAL, "100"), (SizingModel.EQUITY_SHARE, "100")]
)
def test_the_other_models_find_their_notional(model: SizingModel, notional: str) -> None:
    sized = size(request(limits=Limits(sizing_model=model), cap_price=D(100)))
    assert sized.notional == D(notional)


def test_the_desks_room_is_shared_by_what_each_account_wants() -> None:
    assert share_pro_rata({"a": D(300), "b": D(100)}, D(200)) == {"a": D(150), "b": D(50)}
    assert share_pro_rata({"a": D(300)}, D(400)) == {"a": D(300)}


def test_the_desks_room_is_the_least_of_setting_volume_and_depth() -> None:
    limits = Limits()
    assert desk_ceiling(limits, quote_volume_24h=D(10**9), depth_notional=D(10**6)) == D(200_000)
    assert desk_ceiling(limits, quote_volume_24h=D(10**8), depth_notional=D(10**7)) == D(100_000)
    assert desk_ceiling(limits, quote_volume_24h=D(10**11), depth_notional=D(10**9)) == D(5_000_000)


@pytest.mark.parametrize(("volume", "depth"), [(10**9, None), (None, 10**6), (None, None)])
def test_an_unread_market_leaves_the_desk_no_room(volume: int | None, depth: int | None) -> None:
    quote_volume_24h, depth_notional = (None if one is None else D(one) for one in (volume, depth))
    ceiling = desk_ceiling(Limits(), quote_volume_24h=quote_volume_24h, depth_notional=depth_notional)
    assert ceiling == 0


@pytest.mark.parametrize(("per_unit", "excess"), [("1.25", "0"), ("1.26", "2.064"), ("-1", "0")])
def test_only_a_loss_above_a_quarter_more_than_planned_is_reduced(per_unit: str, excess: str) -> None:
    found = excess_quantity(
        instrument=instrument(),
        limits=Limits(),
        quantity=D(10),
        planned_loss_per_unit=D(per_unit),
        risk_amount=D(10),
    )
    assert found == D(excess)


money = st.decimals(min_value=0, max_value=100_000, places=2)


@given(
    wallet=money,
    available=money,
    held=money,
    room=money,
    leverage=st.integers(1, 50),
    distance=st.decimals("0.002", "0.05", places=4),
    is_long=st.booleans(),
)
def test_no_quantity_is_above_what_was_wanted_or_any_cap(
    wallet: D, available: D, held: D, room: D, leverage: int, distance: D, is_long: bool
) -> None:
    asked = request(
        is_long=is_long,
        stop_price=D("100.10") * (1 - distance if is_long else 1 + distance),
        leverage=D(leverage),
        wallet=wallet,
        available=available,
        symbol_notional=held,
        desk_notional=room,
    )
    sized = size(asked)
    assert 0 <= sized.quantity <= sized.wanted_quantity
    assert all(sized.quantity <= cap for cap in cap_quantities(asked).values())
    assert sized.quantity == floor_to(sized.quantity, asked.instrument.step)
    assert sized.loss_at_stop <= asked.wallet * asked.limits.risk_per_trade


models = st.sampled_from(list(SizingModel))


@given(
    model=models,
    wallet=money,
    unrealized=st.decimals(min_value=-5_000, max_value=5_000, places=2),
    available=money,
    held=money,
    room=money,
    leverage=st.integers(1, 50),
    distance=st.decimals("0.002", "0.05", places=4),
    closed=st.integers(0, 60),
)
def test_every_model_goes_through_the_same_caps_and_never_risks_more_than_it_says(
    model: SizingModel,
    wallet: D,
    unrealized: D,
    available: D,
    held: D,
    room: D,
    leverage: int,
    distance: D,
    closed: int,
) -> None:
    asked = request(
        limits=Limits(sizing_model=model),
        stop_price=D("100.10") * (1 - distance),
        leverage=D(leverage),
        wallet=wallet,
        unrealized=unrealized,
        available=available,
        symbol_notional=held,
        desk_notional=room,
        kelly=Kelly(closed=closed, win_rate=D("0.6"), payoff=D("1.5")),
    )
    sized = size(asked)
    caps = cap_quantities(asked)
    assert 0 <= sized.quantity <= min(sized.wanted_quantity, *caps.values())
    assert sized.margin_required <= max(
        D(0), available - asked.limits.margin_reserve * max(D(0), wallet + unrealized)
    )
    if model in {SizingModel.RISK, SizingModel.CAPPED_KELLY}:
        assert sized.loss_at_stop <= max(D(0), min(wallet, wallet + unrealized)) * asked.limits.risk_per_trade
    if model is SizingModel.CAPPED_KELLY and closed < asked.limits.kelly_min_decisions:
        assert sized == size(replace(asked, limits=Limits(sizing_model=SizingModel.RISK)))
    if sized.denied is None:
        assert sized.quantity * min(asked.cap_price, asked.mark_price) >= asked.instrument.min_notional


@given(model=models, available=money, less=st.decimals("0", "1", places=2), room=money)
def test_less_money_or_room_never_enlarges_an_entry(
    model: SizingModel, available: D, less: D, room: D
) -> None:
    limits = Limits(sizing_model=model)
    whole = size(request(limits=limits, available=available, desk_notional=room))
    for part in (
        request(limits=limits, available=available * less, desk_notional=room),
        request(limits=limits, available=available, desk_notional=room * less),
        request(limits=limits, available=available, desk_notional=room, gross_notional=room * less),
    ):
        assert size(part).quantity <= whole.quantity
