import random
from decimal import Decimal

import pytest

from paper.engine import margin
from paper.engine.events import Event, MarginCalled
from paper.engine.orders import MARKET, NewOrder
from paper.engine.refusals import Refusal
from paper.engine.venue import Portfolio
from paper.tests.conftest import FUNDING_MS, PRICES, Bench


def buy(bench: Bench, symbol: str, quantity: str) -> None:
    bench.exchange.futures.place(bench.alice, NewOrder(symbol, "BUY", MARKET, Decimal(quantity)))


def test_available_is_what_neither_position_nor_loss_claims(bench: Bench) -> None:
    bench.isolate("BTCUSDT", 10)
    buy(bench, "BTCUSDT", "0.1")
    totals = margin.summary(bench.exchange.venue, bench.alice)
    fee = Decimal("10000.5") * Decimal("0.0005")
    assert totals.wallet == Decimal(10_000) - fee
    assert totals.available == Decimal(10_000) - fee - Decimal("1000.05")
    assert totals.unrealized == Decimal("-0.5")
    assert totals.margin_balance == Decimal(10_000) - fee - Decimal("0.5")


def test_the_liquidation_price_of_an_isolated_long_is_the_published_formula(bench: Bench) -> None:
    """Isolated long at 20x with m = 0.5 %: (1/L - m) / (1 - m) below the entry."""
    bench.isolate("SOLUSDT", 20)
    buy(bench, "SOLUSDT", "10")
    totals = margin.summary(bench.exchange.venue, bench.alice)
    line = totals.exposures[0]
    bracket = line.instrument.bracket(Decimal(1500))
    entry = line.position.entry_price
    distance = (Decimal(1) / 20 - bracket.maintenance) / (1 - bracket.maintenance)
    price = margin.liquidation_price(line, totals)
    assert abs(price - entry * (1 - distance)) < Decimal("0.001")


def test_the_brackets_of_every_symbol_are_contiguous(bench: Bench) -> None:
    for instrument in bench.exchange.venue.markets.futures.values():
        for lower, upper in zip(instrument.brackets, instrument.brackets[1:], strict=False):
            assert upper.floor == lower.cap
            step = lower.cum + upper.floor * (upper.maintenance - lower.maintenance)
            assert abs(upper.cum - step) < Decimal("0.01")


def test_an_isolated_liquidation_costs_its_margin_and_no_more(bench: Bench) -> None:
    bench.isolate("BTCUSDT", 20)
    buy(bench, "BTCUSDT", "0.1")
    wallet = bench.alice.account.wallet
    isolated = bench.alice.position("BTCUSDT", "BOTH").isolated_wallet
    bench.move(BTCUSDT="96000")
    assert bench.alice.quantity("BTCUSDT", "BOTH") == Decimal("0.1")
    bench.move(BTCUSDT="90000")
    assert bench.alice.quantity("BTCUSDT", "BOTH") == 0
    assert bench.alice.account.wallet == wallet - isolated
    last = list(bench.alice.orders.values())[-1]
    assert last.client_order_id.startswith("autoclose-")


def test_a_cross_account_is_liquidated_when_everything_is_used_up(bench: Bench) -> None:
    bench.exchange.futures.set_leverage(bench.alice, "BTCUSDT", 50)
    buy(bench, "BTCUSDT", "1")
    bench.move(BTCUSDT="91000")
    assert bench.alice.quantity("BTCUSDT", "BOTH") == 1
    bench.move(BTCUSDT="80000")
    assert bench.alice.quantity("BTCUSDT", "BOTH") == 0
    assert bench.alice.account.wallet == 0


def test_longs_pay_funding_at_its_time_and_once(bench: Bench) -> None:
    buy(bench, "BTCUSDT", "0.1")
    wallet = bench.alice.account.wallet
    seconds = (FUNDING_MS - bench.now_ms) // 1000
    bench.move(seconds=seconds - 1, BTCUSDT="100000")
    assert bench.alice.account.wallet == wallet
    bench.move(seconds=1, BTCUSDT="100000")
    bench.move(seconds=1, BTCUSDT="100000")
    assert bench.alice.account.wallet == wallet - Decimal("0.1") * 100_000 * Decimal("0.0001")
    assert [row.kind for row in bench.alice.movements].count("FUNDING") == 1


def test_resting_orders_claim_margin_until_they_end(bench: Bench) -> None:
    futures = bench.exchange.futures
    futures.set_leverage(bench.alice, "BTCUSDT", 10)
    resting = futures.place(bench.alice, NewOrder("BTCUSDT", "BUY", "LIMIT", Decimal("0.5"), Decimal(99000)))
    assert futures.available(bench.alice) == Decimal(10_000) - Decimal(49_500) / 10
    futures.cancel(bench.alice, resting)
    assert futures.available(bench.alice) == Decimal(10_000)


@pytest.mark.parametrize(
    ("bid", "ask", "expected"), [("0", "0", "0"), ("500", "0", "50"), ("0", "2500", "50")]
)
def test_open_orders_claim_the_worse_of_both_sides(bid: str, ask: str, expected: str) -> None:
    assert margin.order_margin(Decimal(1000), Decimal(bid), Decimal(ask), 10) == Decimal(expected)


@pytest.mark.parametrize("leverage", [2, 3, 20, 75, 100, 150])
@pytest.mark.parametrize("side", ["BUY", "SELL"])
def test_a_position_is_looked_at_before_it_must_be_liquidated(bench: Bench, leverage: int, side: str) -> None:
    """Walking the mark against it, the position is closed at the first price that exhausts its margin."""
    bench.exchange.venue.deposit(bench.alice, Decimal(10_000_000))
    bench.isolate("BTCUSDT", leverage)
    quantity = Decimal(30) if leverage <= 50 else Decimal("2.5")
    bench.exchange.futures.place(bench.alice, NewOrder("BTCUSDT", side, MARKET, quantity))
    totals = margin.summary(bench.exchange.venue, bench.alice)
    price = margin.liquidation_price(totals.exposures[0], totals)
    past = Decimal("0.9999") if side == "BUY" else Decimal("1.0001")
    bench.move(BTCUSDT=f"{price / past:.1f}")
    assert bench.alice.open_positions()
    bench.move(BTCUSDT=f"{price * past:.1f}")
    assert not bench.alice.open_positions()


def test_a_position_near_its_end_is_called_once(bench: Bench) -> None:
    bench.isolate("BTCUSDT", 20)
    buy(bench, "BTCUSDT", "0.1")
    called: list[str] = []

    def listen(_portfolio: Portfolio, event: Event) -> None:
        if isinstance(event, MarginCalled):
            called.append(event.position.symbol)

    bench.exchange.venue.publish = listen
    bench.move(BTCUSDT="96000")
    assert called == []
    for mark in ("95470", "95480", "95470"):
        bench.move(BTCUSDT=mark)
    assert called == ["BTCUSDT"]
    assert bench.alice.open_positions()


def exhausted(bench: Bench) -> bool:
    """Asked without any guard: whether the account should not be open any more."""
    totals = margin.summary(bench.exchange.venue, bench.alice)
    return bool(
        bench.alice.open_positions()
        and totals.cross_wallet + totals.cross_unrealized <= totals.cross_maintenance
    )


@pytest.mark.parametrize("seed", range(8))
def test_no_path_of_marks_leaves_an_exhausted_account_unseen(bench: Bench, seed: int) -> None:
    dice = random.Random(seed)
    futures, prices = bench.exchange.futures, {symbol: float(price) for symbol, price in PRICES.items()}
    against = {}
    for symbol, share in (("BTCUSDT", 50_000), ("ETHUSDT", 40_000), ("SOLUSDT", 30_000)):
        futures.set_leverage(bench.alice, symbol, 25)
        side = dice.choice(["BUY", "SELL"])
        against[symbol] = -0.001 if side == "BUY" else 0.001
        quantity = Decimal(round(share / prices[symbol], 2 if symbol == "SOLUSDT" else 3))
        futures.place(bench.alice, NewOrder(symbol, side, MARKET, quantity.quantize(Decimal("0.01"))))
    for _ in range(400):
        for symbol, drift in against.items():
            prices[symbol] *= 1 + dice.gauss(drift, 0.004)
        bench.pass_prices({symbol: f"{price:.4f}" for symbol, price in prices.items()}, {})
        assert not exhausted(bench)
    assert not bench.alice.open_positions(), "the walk was meant to end it"


def test_a_position_turned_around_breaks_even_at_its_own_entry_and_fee(bench: Bench) -> None:
    buy(bench, "BTCUSDT", "0.1")
    bench.move(BTCUSDT="110000")
    bench.exchange.futures.place(bench.alice, NewOrder("BTCUSDT", "SELL", MARKET, Decimal("0.3")))
    position = bench.alice.position("BTCUSDT", "BOTH")
    assert (position.quantity, position.entry_price) == (Decimal("-0.2"), Decimal("109994.5"))
    assert position.break_even_price == position.entry_price * (1 - Decimal("0.0005"))
    assert position.accumulated == Decimal("0.1") * (Decimal("109994.5") - Decimal(100_005))


@pytest.mark.parametrize(
    ("isolated", "held", "change", "code"),
    [
        (True, False, "10", -4054),
        (False, True, "10", -4049),
        (True, True, "9999", -4050),
        (True, True, "-0.01", -4051),
    ],
)
def test_margin_moves_only_where_it_is(
    bench: Bench, isolated: bool, held: bool, change: str, code: int
) -> None:
    if isolated:
        bench.isolate("BTCUSDT", 10)
    if held:
        buy(bench, "BTCUSDT", "0.1")
    before = bench.alice.position("BTCUSDT", "BOTH").isolated_wallet
    with pytest.raises(Refusal) as refused:
        bench.exchange.futures.move_margin(bench.alice, "BTCUSDT", "BOTH", Decimal(change))
    assert refused.value.code == code
    assert bench.alice.position("BTCUSDT", "BOTH").isolated_wallet == before
