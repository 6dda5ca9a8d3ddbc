from decimal import Decimal

import pytest

from paper.engine.orders import CANCELED, EXPIRED, FILLED, NEW
from paper.engine.refusals import Refusal
from paper.engine.spot import NewSpotOrder
from paper.tests.conftest import Bench

# At 100000 the spot book is 99995.00 bid, 100005.00 asked.


def request(side: str, kind: str, quantity: str, **more: object) -> NewSpotOrder:
    given = {name: Decimal(str(value)) if name.endswith("price") else value for name, value in more.items()}
    return NewSpotOrder("BTCUSDT", side, kind, Decimal(quantity), **given)  # type: ignore[arg-type]  # by name


def balance(bench: Bench, asset: str) -> tuple[Decimal, Decimal]:
    held = bench.alice.balance(asset)
    return held.free, held.locked


def test_a_buy_receives_the_base_less_its_fee(bench: Bench) -> None:
    placed = bench.exchange.spot.place(bench.alice, request("BUY", "MARKET", "0.05"))
    assert (placed.status, placed.cost) == (FILLED, Decimal("0.05") * Decimal("100005.00"))
    assert balance(bench, "BTC") == (Decimal("0.04995"), Decimal(0))
    assert balance(bench, "USDT") == (Decimal(10_000) - Decimal("5000.25"), Decimal(0))


def test_a_limit_order_takes_the_better_price_and_returns_the_rest(bench: Bench) -> None:
    placed = bench.exchange.spot.place(
        bench.alice, request("BUY", "LIMIT", "0.05", price="100200", time_in_force="IOC")
    )
    assert placed.status == FILLED
    assert balance(bench, "USDT") == (Decimal(10_000) - Decimal("5000.25"), Decimal(0))


def test_an_immediate_order_below_the_ask_expires_with_everything_unlocked(bench: Bench) -> None:
    placed = bench.exchange.spot.place(
        bench.alice, request("BUY", "LIMIT", "0.05", price="99000", time_in_force="IOC")
    )
    assert (placed.status, placed.executed) == (EXPIRED, Decimal(0))
    assert balance(bench, "USDT") == (Decimal(10_000), Decimal(0))


def test_a_stop_loss_limit_locks_its_quantity_and_sells_when_met(bench: Bench) -> None:
    spot = bench.exchange.spot
    spot.place(bench.alice, request("BUY", "MARKET", "0.05"))
    stop = spot.place(
        bench.alice, request("SELL", "STOP_LOSS_LIMIT", "0.04995", price="95060", stop_price="98000")
    )
    assert balance(bench, "BTC") == (Decimal(0), Decimal("0.04995"))
    with pytest.raises(Refusal) as refused:
        spot.place(bench.alice, request("SELL", "MARKET", "0.01"))
    assert (refused.value.code, "insufficient balance" in refused.value.message) == (-2010, True)
    bench.move(BTCUSDT="97900")
    assert stop.status == FILLED
    assert balance(bench, "BTC") == (Decimal(0), Decimal(0))


def test_cancelling_a_stop_releases_what_it_locked(bench: Bench) -> None:
    spot = bench.exchange.spot
    spot.place(bench.alice, request("BUY", "MARKET", "0.05"))
    stop = spot.place(
        bench.alice, request("SELL", "STOP_LOSS_LIMIT", "0.04995", price="95060", stop_price="98000")
    )
    spot.cancel(bench.alice, stop)
    assert stop.status == CANCELED
    assert balance(bench, "BTC") == (Decimal("0.04995"), Decimal(0))
    bench.move(BTCUSDT="90000")
    assert stop.status == CANCELED


def test_a_stop_jumped_over_rests_at_its_limit(bench: Bench) -> None:
    spot = bench.exchange.spot
    spot.place(bench.alice, request("BUY", "MARKET", "0.05"))
    stop = spot.place(
        bench.alice, request("SELL", "STOP_LOSS_LIMIT", "0.04995", price="97000", stop_price="98000")
    )
    bench.move(BTCUSDT="96000")
    assert (stop.status, stop.working) == (NEW, True)
    bench.move(BTCUSDT="97100")
    assert stop.status == FILLED


@pytest.mark.parametrize(
    ("kind", "more", "code", "words"),
    [
        ("MARKET", {}, -1013, "LOT_SIZE"),
        ("LIMIT", {"price": "100000.001"}, -1013, "LOT_SIZE"),
    ],
)
def test_filters_are_named(bench: Bench, kind: str, more: dict[str, str], code: int, words: str) -> None:
    with pytest.raises(Refusal) as refused:
        bench.exchange.spot.place(bench.alice, request("BUY", kind, "0.000001", **more))
    assert (refused.value.code, words in refused.value.message) == (code, True)
    assert not bench.alice.spot_orders


def test_an_order_below_the_smallest_notional_is_refused(bench: Bench) -> None:
    with pytest.raises(Refusal) as refused:
        bench.exchange.spot.place(bench.alice, request("BUY", "MARKET", "0.00004"))
    assert (refused.value.code, refused.value.message) == (-1013, "Filter failure: NOTIONAL")


def test_an_open_client_id_is_refused(bench: Bench) -> None:
    wanted = request("BUY", "LIMIT", "0.01", price="90000", client_order_id="one")
    bench.exchange.spot.place(bench.alice, wanted)
    with pytest.raises(Refusal) as refused:
        bench.exchange.spot.place(bench.alice, wanted)
    assert (refused.value.code, refused.value.message) == (-2010, "Duplicate order sent.")
    assert balance(bench, "USDT") == (Decimal(9_100), Decimal(900))
