from decimal import Decimal

import pytest

from paper.engine.events import BalancesChanged, ConditionalChanged, Event, OrderChanged
from paper.engine.orders import (
    CANCELED,
    EXPIRED,
    FILLED,
    FINISHED,
    MARKET,
    NEW,
    REJECTED,
    TRIGGERED,
    Conditional,
    NewConditional,
    NewOrder,
)
from paper.engine.refusals import Refusal
from paper.engine.venue import Portfolio
from paper.tests.conftest import Bench


def conditional(kind: str, trigger: str | None, **more: object) -> NewConditional:
    given: dict[str, object] = {"working_type": "MARK_PRICE"}
    given |= (
        {"close_position": True}
        if "quantity" not in more
        else {"quantity": Decimal(str(more.pop("quantity")))}
    )
    side = str(more.pop("side", "SELL"))
    price = Decimal(trigger) if trigger else None
    return NewConditional("BTCUSDT", side, kind, trigger_price=price, **(given | more))  # type: ignore[arg-type]  # by name


@pytest.fixture
def long(bench: Bench) -> Bench:
    """Alice holds 0.1 BTC bought at 100005."""
    bench.exchange.futures.place(bench.alice, NewOrder("BTCUSDT", "BUY", MARKET, Decimal("0.1")))
    return bench


def place(bench: Bench, request: NewConditional) -> Conditional:
    return bench.exchange.conditional.place(bench.alice, request)


def refused(bench: Bench, request: NewConditional) -> int:
    before = len(bench.alice.conditionals)
    with pytest.raises(Refusal) as refusal:
        place(bench, request)
    assert len(bench.alice.conditionals) == before
    return refusal.value.code


def test_a_stop_becomes_a_market_order_with_its_own_client_id(long: Bench) -> None:
    stop = place(long, conditional("STOP_MARKET", "99000", client_algo_id="guard"))
    long.move(BTCUSDT="99000.1")
    assert stop.status == NEW
    long.move(BTCUSDT="99000")
    child = long.alice.by_client_id["guard"]
    assert (stop.status, stop.order_id) == (FINISHED, child.order_id)
    assert (child.status, child.type, child.executed) == (FILLED, MARKET, Decimal("0.1"))
    assert long.alice.quantity("BTCUSDT", "BOTH") == 0
    assert not long.alice.open_conditionals


def test_the_steps_of_a_firing_stop_are_told_in_order(long: Bench) -> None:
    place(long, conditional("STOP_MARKET", "99000"))
    told: list[str] = []

    def listen(_portfolio: Portfolio, event: Event) -> None:
        match event:
            case ConditionalChanged():
                told.append(event.order.status)
            case OrderChanged():
                told.append(f"order {event.execution}")
            case BalancesChanged():
                told.append(f"account {event.reason}")
            case _:
                told.append(str(event))

    long.exchange.venue.publish = listen
    long.move(BTCUSDT="98500")
    assert told == ["TRIGGERING", TRIGGERED, "order NEW", "order TRADE", "account ORDER", FINISHED]


def test_a_gap_fills_at_the_book_not_at_the_trigger(long: Bench) -> None:
    place(long, conditional("STOP_MARKET", "99000"))
    long.move(BTCUSDT="90000")
    assert long.alice.fills[-1].price == Decimal("89995.5")


def test_a_wick_of_the_last_price_fires_only_stops_on_it(long: Bench) -> None:
    on_mark = place(long, conditional("STOP_MARKET", "99000", quantity="0.1", reduce_only=True))
    on_last = place(
        long,
        conditional("STOP_MARKET", "99000", quantity="0.1", reduce_only=True, working_type="CONTRACT_PRICE"),
    )
    long.move(BTCUSDT="99900", last={"BTCUSDT": "98900"})
    assert (on_mark.status, on_last.status) == (NEW, FINISHED)


@pytest.mark.parametrize(
    ("kind", "side", "trigger", "fires_at"),
    [
        ("STOP_MARKET", "SELL", "99000", "98999"),
        ("STOP_MARKET", "BUY", "101000", "101001"),
        ("TAKE_PROFIT_MARKET", "SELL", "101000", "101001"),
        ("TAKE_PROFIT_MARKET", "BUY", "99000", "98999"),
    ],
)
def test_each_type_fires_in_its_own_direction(
    bench: Bench, kind: str, side: str, trigger: str, fires_at: str
) -> None:
    waiting = place(bench, conditional(kind, trigger, side=side, quantity="0.01"))
    bench.move(BTCUSDT="100000")
    assert waiting.status == NEW
    bench.move(BTCUSDT=fires_at)
    assert waiting.status == FINISHED


def test_a_trigger_already_met_is_refused(long: Bench) -> None:
    assert refused(long, conditional("STOP_MARKET", "100000")) == -2021
    assert refused(long, conditional("TAKE_PROFIT_MARKET", "99999")) == -2021


def test_a_second_close_position_stop_of_the_same_direction_is_refused(long: Bench) -> None:
    place(long, conditional("STOP_MARKET", "99000"))
    assert refused(long, conditional("STOP_MARKET", "98000")) == -4130
    target = place(long, conditional("TAKE_PROFIT_MARKET", "101000"))
    working = place(long, conditional("STOP_MARKET", "99500", quantity="0.1", reduce_only=True))
    assert (target.status, working.status) == (NEW, NEW)


def test_what_close_position_excludes_is_refused(long: Bench) -> None:
    both = NewConditional(
        "BTCUSDT", "SELL", "STOP_MARKET", Decimal("0.1"), trigger_price=Decimal(99000), close_position=True
    )
    assert refused(long, both) == -4137
    assert refused(long, conditional("STOP_MARKET", "99000", reduce_only=True)) == -1106
    assert refused(long, conditional("STOP", "99000", price=Decimal(98000))) == -4136


def test_two_hundred_waiting_orders_are_the_limit(bench: Bench) -> None:
    for number in range(200):
        place(bench, conditional("STOP_MARKET", str(50_000 + number), quantity="0.01"))
    assert refused(bench, conditional("STOP_MARKET", "60000", quantity="0.01")) == -4045


def test_a_waiting_client_id_is_refused(long: Bench) -> None:
    place(long, conditional("STOP_MARKET", "99000", quantity="0.1", client_algo_id="same"))
    request = conditional("STOP_MARKET", "98000", quantity="0.1", client_algo_id="same")
    assert refused(long, request) == -4116


def test_a_flat_position_expires_close_position_orders_and_keeps_reduce_only_ones(long: Bench) -> None:
    tied = place(long, conditional("STOP_MARKET", "99000"))
    kept = place(long, conditional("STOP_MARKET", "98000", quantity="0.1", reduce_only=True))
    long.exchange.futures.place(long.alice, NewOrder("BTCUSDT", "SELL", MARKET, Decimal("0.1")))
    assert (tied.status, kept.status) == (EXPIRED, NEW)
    long.move(BTCUSDT="97000")
    assert (kept.status, kept.reject_reason) == (REJECTED, "ReduceOnly Order is rejected.")
    assert long.alice.quantity("BTCUSDT", "BOTH") == 0


def test_margin_is_asked_for_at_the_trigger_only(bench: Bench) -> None:
    waiting = place(bench, conditional("STOP_MARKET", "101000", side="BUY", quantity="100"))
    bench.move(BTCUSDT="101000")
    assert (waiting.status, waiting.reject_reason) == (REJECTED, "Margin is insufficient.")
    assert not bench.alice.orders


def test_a_limit_stop_that_is_jumped_over_rests_unfilled(long: Bench) -> None:
    waiting = place(
        long, conditional("STOP", "99000", quantity="0.1", reduce_only=True, price=Decimal(98900))
    )
    long.move(BTCUSDT="97000")
    child = long.alice.orders[waiting.order_id]
    assert (waiting.status, child.status, child.executed) == (TRIGGERED, NEW, Decimal(0))
    long.move(BTCUSDT="99000")
    assert (waiting.status, child.status) == (FINISHED, FILLED)


def test_a_trailing_stop_follows_the_high_and_fires_below_it(long: Bench) -> None:
    request = conditional("TRAILING_STOP_MARKET", None, quantity="0.1", reduce_only=True)
    request.activate_price, request.callback_percent = Decimal(101000), Decimal(1)
    trailing = place(long, request)
    for mark in ("99000", "101000", "103000", "102000"):
        long.move(BTCUSDT=mark)
        assert trailing.status == NEW
    assert trailing.extreme == Decimal(103000)
    long.move(BTCUSDT="101970")
    assert trailing.status == FINISHED


def test_a_protected_stop_waits_while_mark_and_last_are_far_apart(long: Bench) -> None:
    guarded = place(
        long, conditional("STOP_MARKET", "99000", quantity="0.1", reduce_only=True, price_protect=True)
    )
    long.move(BTCUSDT="90000", last={"BTCUSDT": "99900"})
    assert guarded.status == NEW
    long.move(BTCUSDT="90000", last={"BTCUSDT": "90100"})
    assert guarded.status == FINISHED


def test_a_cancelled_stop_never_fires(long: Bench) -> None:
    stop = place(long, conditional("STOP_MARKET", "99000"))
    long.exchange.conditional.cancel(stop)
    with pytest.raises(Refusal) as refusal:
        long.exchange.conditional.cancel(stop)
    assert refusal.value.code == -2011
    long.move(BTCUSDT="90000")
    assert stop.status == CANCELED
    assert long.alice.quantity("BTCUSDT", "BOTH") == Decimal("0.1")


@pytest.mark.parametrize(
    ("force", "born_as"), [("GTC", "GTC"), ("GTE_GTC", "GTC"), ("IOC", "IOC"), ("GTD", "GTD")]
)
def test_a_fired_limit_order_lives_as_long_as_was_asked_for(long: Bench, force: str, born_as: str) -> None:
    request = conditional("STOP", "99000", quantity="0.1", price=Decimal(99_500), time_in_force=force)
    request.good_till_ms = long.now_ms + 3_600_000 if force == "GTD" else 0
    parent = place(long, request)
    long.move(BTCUSDT="98000")
    child = long.alice.orders[parent.order_id]
    assert (child.time_in_force, child.good_till_ms) == (born_as, request.good_till_ms)
    assert child.status == (EXPIRED if force == "IOC" else NEW)
    long.move(seconds=3600, BTCUSDT="98000")
    assert child.status == (NEW if born_as == "GTC" else EXPIRED)


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"callback_percent": None}, -1102),
        ({"callback_percent": Decimal("0.09")}, -2007),
        ({"callback_percent": Decimal("20.1")}, -2007),
        ({"callback_percent": Decimal(1), "activate_price": Decimal("101000.05")}, -4014),
    ],
)
def test_a_trailing_stop_needs_a_callback_in_range(long: Bench, more: dict[str, object], code: int) -> None:
    assert refused(long, conditional("TRAILING_STOP_MARKET", None, quantity="0.1", **more)) == code


@pytest.mark.parametrize("name", ["callback_percent", "activate_price"])
def test_only_a_trailing_stop_takes_what_makes_one(long: Bench, name: str) -> None:
    """A stop that quietly became a trailing one would not be where its owner put it."""
    request = conditional("STOP_MARKET", "99000", **{name: Decimal(1)})
    assert refused(long, request) == -1106


def test_a_closed_symbol_takes_no_stop(long: Bench) -> None:
    long.exchange.futures.statuses["BTCUSDT"] = "BREAK"
    assert refused(long, conditional("STOP_MARKET", "99000")) == -4141


def test_a_stop_still_lets_out_of_a_reduce_only_symbol_in_hedge_mode(bench: Bench) -> None:
    bench.exchange.futures.set_dual(bench.alice, True)
    bench.exchange.futures.place(
        bench.alice, NewOrder("BTCUSDT", "BUY", MARKET, Decimal("0.1"), position_side="LONG")
    )
    bench.exchange.futures.statuses["BTCUSDT"] = "REDUCE_ONLY"
    stop = place(bench, conditional("STOP_MARKET", "99000", position_side="LONG"))
    bench.move(BTCUSDT="98000")
    assert (stop.status, bench.alice.quantity("BTCUSDT", "LONG")) == (FINISHED, Decimal(0))


def test_a_price_matched_to_the_book_is_taken_at_the_trigger(long: Bench) -> None:
    request = conditional("STOP", "99000", quantity="0.1", price_match="QUEUE")
    stop = place(long, request)
    assert stop.price == 0
    long.move(BTCUSDT="98000")
    child = long.alice.orders[stop.order_id]
    assert (child.price, child.price_match, child.status) == (Decimal("98004.9"), "QUEUE", NEW)


def test_a_trailing_buy_follows_the_low_and_fires_above_it(bench: Bench) -> None:
    bench.exchange.futures.place(bench.alice, NewOrder("BTCUSDT", "SELL", MARKET, Decimal("0.1")))
    request = conditional("TRAILING_STOP_MARKET", None, side="BUY", quantity="0.1", reduce_only=True)
    request.activate_price, request.callback_percent = Decimal(99_000), Decimal(1)
    trailing = place(bench, request)
    for mark in ("101000", "99000", "97000", "97969"):
        bench.move(BTCUSDT=mark)
        assert trailing.status == NEW
    assert trailing.extreme == Decimal(97_000)
    bench.move(BTCUSDT="97970")
    assert (trailing.status, bench.alice.quantity("BTCUSDT", "BOTH")) == (FINISHED, Decimal(0))


def test_a_trailing_stop_without_an_activation_price_is_awake_at_once(long: Bench) -> None:
    request = conditional("TRAILING_STOP_MARKET", None, quantity="0.1", reduce_only=True)
    request.callback_percent = Decimal(1)
    trailing = place(long, request)
    long.move(BTCUSDT="100000")
    long.move(BTCUSDT="99000")
    assert trailing.status == FINISHED
