from decimal import Decimal

import pytest

from paper.engine.orders import EXPIRED, FILLED, LIMIT, LONG, MARKET, NEW, PARTIALLY_FILLED, SHORT, NewOrder
from paper.engine.refusals import Refusal
from paper.tests.conftest import Bench

# At 100000 with a spread of one basis point BTC is 99995.0 bid, 100005.0 asked.


def order(side: str, quantity: str, price: str | None = None, **more: object) -> NewOrder:
    kind = LIMIT if price else MARKET
    return NewOrder("BTCUSDT", side, kind, Decimal(quantity), Decimal(price) if price else None, **more)  # type: ignore[arg-type]  # by name


def test_a_market_buy_pays_the_ask_and_the_taker_fee(bench: Bench) -> None:
    placed = bench.exchange.futures.place(bench.alice, order("BUY", "0.1"))
    assert (placed.status, placed.executed, placed.average_price) == (
        FILLED,
        Decimal("0.1"),
        Decimal("100005.0"),
    )
    assert bench.alice.account.wallet == Decimal(10_000) - Decimal("10000.5") * Decimal("0.0005")
    assert bench.alice.quantity("BTCUSDT", "BOTH") == Decimal("0.1")


def test_a_market_sell_gets_the_bid(bench: Bench) -> None:
    placed = bench.exchange.futures.place(bench.alice, order("SELL", "0.1"))
    assert placed.average_price == Decimal("99995.0")
    assert bench.alice.quantity("BTCUSDT", "BOTH") == Decimal("-0.1")


def test_what_an_immediate_order_cannot_fill_within_its_limit_expires(bench: Bench) -> None:
    bench.exchange.venue.deposit(bench.alice, Decimal(10_000_000))
    placed = bench.exchange.futures.place(bench.alice, order("BUY", "15", "100005", time_in_force="IOC"))
    first_level = Decimal("9.999")  # 1,000,000 of notional at the ask
    assert (placed.status, placed.executed) == (EXPIRED, first_level)
    assert not bench.alice.open_orders


def test_a_large_market_order_walks_the_book(bench: Bench) -> None:
    bench.exchange.venue.deposit(bench.alice, Decimal(10_000_000))
    placed = bench.exchange.futures.place(bench.alice, order("BUY", "15"))
    fills = [(row.price, row.quantity) for row in bench.alice.fills]
    assert fills == [(Decimal("100005.0"), Decimal("9.999")), (Decimal("100015.1"), Decimal("5.001"))]
    assert placed.status == FILLED


def test_fill_or_kill_leaves_nothing_when_it_cannot_fill(bench: Bench) -> None:
    bench.exchange.venue.deposit(bench.alice, Decimal(10_000_000))
    rows = len(bench.exchange.venue.ledger)
    with pytest.raises(Refusal) as refused:
        bench.exchange.futures.place(bench.alice, order("BUY", "15", "100005", time_in_force="FOK"))
    assert refused.value.code == -5021
    assert len(bench.exchange.venue.ledger) == rows
    assert not bench.alice.orders


def test_post_only_is_refused_where_it_would_take(bench: Bench) -> None:
    with pytest.raises(Refusal) as refused:
        bench.exchange.futures.place(bench.alice, order("BUY", "0.1", "100005", time_in_force="GTX"))
    assert refused.value.code == -5022
    resting = bench.exchange.futures.place(bench.alice, order("BUY", "0.1", "100000", time_in_force="GTX"))
    assert resting.status == NEW


def test_a_resting_order_fills_at_its_own_price_as_maker(bench: Bench) -> None:
    resting = bench.exchange.futures.place(bench.alice, order("BUY", "0.1", "99000"))
    bench.move(BTCUSDT="99100")
    assert resting.status == NEW
    bench.move(BTCUSDT="98000")
    assert (resting.status, resting.average_price) == (FILLED, Decimal(99000))
    assert bench.alice.account.wallet == Decimal(10_000) - Decimal(9900) * Decimal("0.0002")
    assert not bench.alice.open_orders


def test_an_open_client_id_is_refused_and_an_ended_one_fills_again(bench: Bench) -> None:
    futures = bench.exchange.futures
    futures.place(bench.alice, order("BUY", "0.01", "99000", client_order_id="one"))
    with pytest.raises(Refusal) as refused:
        futures.place(bench.alice, order("BUY", "0.01", client_order_id="one"))
    assert refused.value.code == -4116
    assert bench.alice.quantity("BTCUSDT", "BOTH") == 0
    futures.cancel(bench.alice, bench.alice.by_client_id["one"])
    for _ in range(2):
        futures.place(bench.alice, order("BUY", "0.01", client_order_id="one"))
    assert bench.alice.quantity("BTCUSDT", "BOTH") == Decimal("0.02")


def test_reduce_only_without_a_position_is_refused(bench: Bench) -> None:
    with pytest.raises(Refusal) as refused:
        bench.exchange.futures.place(bench.alice, order("SELL", "0.1", reduce_only=True))
    assert refused.value.code == -2022
    assert bench.alice.quantity("BTCUSDT", "BOTH") == 0


def test_reduce_only_never_turns_a_position_around(bench: Bench) -> None:
    futures = bench.exchange.futures
    futures.place(bench.alice, order("BUY", "0.1"))
    placed = futures.place(bench.alice, order("SELL", "0.3", reduce_only=True))
    assert (placed.status, placed.executed) == (FILLED, Decimal("0.1"))
    assert bench.alice.quantity("BTCUSDT", "BOTH") == 0


def test_resting_reduce_only_orders_that_cover_the_position_refuse_another(bench: Bench) -> None:
    futures = bench.exchange.futures
    futures.place(bench.alice, order("BUY", "0.1"))
    futures.place(bench.alice, order("SELL", "0.1", "101000", reduce_only=True))
    with pytest.raises(Refusal) as refused:
        futures.place(bench.alice, order("SELL", "0.05", reduce_only=True))
    assert refused.value.code == -4118
    assert bench.alice.quantity("BTCUSDT", "BOTH") == Decimal("0.1")


def test_a_flat_position_ends_its_resting_reduce_only_orders(bench: Bench) -> None:
    futures = bench.exchange.futures
    futures.place(bench.alice, order("BUY", "0.1"))
    resting = futures.place(bench.alice, order("SELL", "0.1", "101000", reduce_only=True))
    futures.place(bench.alice, order("SELL", "0.1"))
    assert resting.status == EXPIRED


def test_an_opposite_order_larger_than_the_position_turns_it_around(bench: Bench) -> None:
    futures = bench.exchange.futures
    futures.place(bench.alice, order("BUY", "0.1"))
    futures.place(bench.alice, order("SELL", "0.3"))
    position = bench.alice.position("BTCUSDT", "BOTH")
    assert (position.quantity, position.entry_price) == (Decimal("-0.2"), Decimal("99995.0"))
    assert bench.alice.fills[-1].realized == Decimal("0.1") * (Decimal("99995.0") - Decimal("100005.0"))


def test_an_order_beyond_the_margin_is_refused(bench: Bench) -> None:
    bench.isolate("BTCUSDT", 2)
    with pytest.raises(Refusal) as refused:
        bench.exchange.futures.place(bench.alice, order("BUY", "0.21"))
    assert refused.value.code == -2019
    assert bench.exchange.futures.place(bench.alice, order("BUY", "0.19")).status == FILLED


def test_a_position_beyond_the_bracket_of_its_leverage_is_refused(bench: Bench) -> None:
    bench.exchange.venue.deposit(bench.alice, Decimal(10_000_000))
    bench.exchange.futures.set_leverage(bench.alice, "BTCUSDT", 125)
    with pytest.raises(Refusal) as refused:
        bench.exchange.futures.place(bench.alice, order("BUY", "4"))
    assert refused.value.code == -2027


@pytest.mark.parametrize(
    ("side", "quantity", "price", "code"),
    [
        ("BUY", "0", None, -4003),
        ("BUY", "-1", None, -4003),
        ("BUY", "0.0001", None, -1111),
        ("BUY", "121", None, -4005),
        ("BUY", "0.0004", "100000", -1111),
        ("BUY", "0.001", "100000.123", -1111),
        ("BUY", "0.001", "100000.05", -4014),
        ("BUY", "0.001", "105000.1", -4016),
        ("SELL", "0.001", "94999.9", -4024),
        ("BUY", "0.001", "49000", -4164),
    ],
)
def test_each_filter_has_its_code(
    bench: Bench, side: str, quantity: str, price: str | None, code: int
) -> None:
    with pytest.raises(Refusal) as refused:
        bench.exchange.futures.place(bench.alice, order(side, quantity, price))
    assert refused.value.code == code
    assert not bench.alice.orders


def test_the_smallest_notional_counts_at_the_mark_and_spares_reductions(bench: Bench) -> None:
    futures = bench.exchange.futures
    bench.move(BTCUSDT="40000")
    with pytest.raises(Refusal) as refused:
        futures.place(bench.alice, order("BUY", "0.001"))
    assert refused.value.code == -4164
    futures.place(bench.alice, order("BUY", "0.002"))
    assert futures.place(bench.alice, order("SELL", "0.001", reduce_only=True)).status == FILLED


def test_hedge_mode_keeps_both_sides_apart(bench: Bench) -> None:
    futures = bench.exchange.futures
    futures.set_dual(bench.alice, True)
    futures.place(bench.alice, order("BUY", "0.1", position_side=LONG))
    futures.place(bench.alice, order("SELL", "0.2", position_side=SHORT))
    assert bench.alice.quantity("BTCUSDT", LONG) == Decimal("0.1")
    assert bench.alice.quantity("BTCUSDT", SHORT) == Decimal("-0.2")
    with pytest.raises(Refusal) as refused:
        futures.place(bench.alice, order("SELL", "0.15", position_side=LONG))
    assert refused.value.code == -2022
    with pytest.raises(Refusal) as refused:
        futures.place(bench.alice, order("SELL", "0.1"))
    assert refused.value.code == -4061
    futures.place(bench.alice, order("SELL", "0.1", position_side=LONG))
    assert bench.alice.quantity("BTCUSDT", LONG) == 0


def test_the_position_mode_cannot_change_under_a_position(bench: Bench) -> None:
    futures = bench.exchange.futures
    with pytest.raises(Refusal) as refused:
        futures.set_dual(bench.alice, False)
    assert refused.value.code == -4059
    futures.place(bench.alice, order("BUY", "0.1"))
    with pytest.raises(Refusal) as refused:
        futures.set_dual(bench.alice, True)
    assert refused.value.code == -4068
    assert not bench.alice.account.dual


def test_margin_type_and_leverage_answer_what_is_already_so(bench: Bench) -> None:
    futures = bench.exchange.futures
    futures.set_margin_type(bench.alice, "BTCUSDT", "ISOLATED")
    with pytest.raises(Refusal) as refused:
        futures.set_margin_type(bench.alice, "BTCUSDT", "ISOLATED")
    assert refused.value.code == -4046
    futures.set_leverage(bench.alice, "BTCUSDT", 3)
    futures.set_leverage(bench.alice, "BTCUSDT", 3)
    with pytest.raises(Refusal) as refused:
        futures.set_leverage(bench.alice, "BTCUSDT", 151)
    assert refused.value.code == -4028
    futures.place(bench.alice, order("BUY", "0.1"))
    with pytest.raises(Refusal) as refused:
        futures.set_leverage(bench.alice, "BTCUSDT", 2)
    assert refused.value.code == -4161
    assert bench.alice.account.leverage("BTCUSDT") == 3


def test_a_change_of_a_resting_order_needs_to_change_something(bench: Bench) -> None:
    futures = bench.exchange.futures
    resting = futures.place(bench.alice, order("BUY", "0.1", "99000"))
    with pytest.raises(Refusal) as refused:
        futures.modify(bench.alice, resting, Decimal("0.1"), Decimal(99000))
    assert refused.value.code == -5027
    futures.modify(bench.alice, resting, Decimal("0.2"), Decimal(98000))
    assert (resting.quantity, resting.price, resting.status) == (Decimal("0.2"), Decimal(98000), NEW)
    assert resting.status != PARTIALLY_FILLED


def test_a_closed_symbol_takes_nothing_and_a_reduce_only_one_only_lets_out(bench: Bench) -> None:
    futures = bench.exchange.futures
    futures.place(bench.alice, order("BUY", "0.1"))
    futures.statuses["BTCUSDT"] = "REDUCE_ONLY"
    with pytest.raises(Refusal) as refused:
        futures.place(bench.alice, order("BUY", "0.1"))
    assert refused.value.code == -4140
    futures.place(bench.alice, order("SELL", "0.05", reduce_only=True))
    futures.statuses["BTCUSDT"] = "SETTLING"
    with pytest.raises(Refusal) as refused:
        futures.place(bench.alice, order("SELL", "0.05", reduce_only=True))
    assert refused.value.code == -4141
    assert bench.alice.quantity("BTCUSDT", "BOTH") == Decimal("0.05")


@pytest.mark.parametrize(
    ("quantity", "price", "code"),
    [
        ("0.05", "98000.05", -4014),
        ("0.0005", "98000", -1111),
        ("0.001", "40000", -4164),
        ("0.05", "106000", -4016),
        ("5", "99000", -2019),
    ],
)
def test_a_change_is_refused_as_a_new_order_would_be(
    bench: Bench, quantity: str, price: str, code: int
) -> None:
    futures = bench.exchange.futures
    resting = futures.place(bench.alice, order("BUY", "0.1", "99000"))
    with pytest.raises(Refusal) as refused:
        futures.modify(bench.alice, resting, Decimal(quantity), Decimal(price))
    assert refused.value.code == code
    assert (resting.quantity, resting.price, resting.modifications) == (Decimal("0.1"), Decimal(99000), 0)
    assert bench.alice.open_orders == {resting.order_id: resting}


def test_a_change_claims_margin_once(bench: Bench) -> None:
    futures = bench.exchange.futures
    resting = futures.place(bench.alice, order("BUY", "1.9", "99000"))
    futures.modify(bench.alice, resting, Decimal("1.95"), Decimal(99000))
    assert futures.available(bench.alice) == Decimal(10_000) - Decimal("1.95") * 99_000 / 20


def test_a_change_into_the_book_takes_the_books_price(bench: Bench) -> None:
    futures = bench.exchange.futures
    resting = futures.place(bench.alice, order("BUY", "0.1", "99000"))
    futures.modify(bench.alice, resting, Decimal("0.1"), Decimal(101_000))
    assert (resting.status, resting.average_price) == (FILLED, Decimal(100_005))
    assert bench.alice.fills[-1].maker is False
    assert bench.exchange.venue.resting["BTCUSDT"] == {}


def test_a_post_only_order_is_not_changed_into_the_book(bench: Bench) -> None:
    futures = bench.exchange.futures
    resting = futures.place(bench.alice, order("BUY", "0.1", "99000", time_in_force="GTX"))
    with pytest.raises(Refusal) as refused:
        futures.modify(bench.alice, resting, Decimal("0.1"), Decimal(101_000))
    assert (refused.value.code, resting.status, resting.price) == (-5022, NEW, Decimal(99_000))


def test_a_reduce_only_symbol_lets_hedged_positions_out(bench: Bench) -> None:
    futures = bench.exchange.futures
    futures.set_dual(bench.alice, True)
    futures.place(bench.alice, order("BUY", "0.1", position_side=LONG))
    futures.statuses["BTCUSDT"] = "REDUCE_ONLY"
    futures.place(bench.alice, order("SELL", "0.1", position_side=LONG))
    assert bench.alice.quantity("BTCUSDT", LONG) == 0
    with pytest.raises(Refusal) as refused:
        futures.place(bench.alice, order("SELL", "0.1", position_side=SHORT))
    assert refused.value.code == -4140


def refusal_of(bench: Bench, request: NewOrder) -> int:
    """The code an order is refused with; nothing of it is left."""
    before = len(bench.alice.orders)
    with pytest.raises(Refusal) as refused:
        bench.exchange.futures.place(bench.alice, request)
    assert len(bench.alice.orders) == before
    return refused.value.code


def test_two_hundred_open_orders_of_a_symbol_are_the_limit(bench: Bench) -> None:
    for _ in range(200):
        bench.exchange.futures.place(bench.alice, order("BUY", "0.001", "99000"))
    assert refusal_of(bench, order("BUY", "0.001", "99000")) == -2025
    other = NewOrder("ETHUSDT", "BUY", LIMIT, Decimal("0.1"), Decimal(2900))
    assert bench.exchange.futures.place(bench.alice, other).status == NEW
    assert bench.exchange.futures.place(bench.alice, order("BUY", "0.001")).status == FILLED


def test_a_market_order_finds_nobody_beyond_the_bound_around_the_mark(bench: Bench) -> None:
    bench.move(BTCUSDT="100000", last={"BTCUSDT": "106000"})
    assert refusal_of(bench, order("BUY", "0.1")) == -4131
    bench.move(BTCUSDT="100000", last={"BTCUSDT": "94000"})
    assert refusal_of(bench, order("SELL", "0.1")) == -4131
    assert bench.exchange.futures.place(bench.alice, order("BUY", "0.1")).status == FILLED


def test_leverage_is_not_lowered_beyond_what_the_wallet_carries(bench: Bench) -> None:
    futures = bench.exchange.futures
    futures.place(bench.alice, order("BUY", "1"))
    with pytest.raises(Refusal) as refused:
        futures.set_leverage(bench.alice, "BTCUSDT", 5)
    assert (refused.value.code, bench.alice.account.leverage("BTCUSDT")) == (-2028, 20)


def test_ten_thousand_changes_of_an_order_are_the_limit(bench: Bench) -> None:
    futures = bench.exchange.futures
    resting = futures.place(bench.alice, order("BUY", "0.1", "99000"))
    resting.modifications = 10_000
    with pytest.raises(Refusal) as refused:
        futures.modify(bench.alice, resting, Decimal("0.1"), Decimal(98_000))
    assert (refused.value.code, resting.price) == (-5026, Decimal(99_000))
