"""Whatever the exchange knows, it knows again after a restart."""

import sqlite3
from decimal import Decimal
from pathlib import Path

import pytest

from paper.engine.orders import LONG, MARKET, SHORT, NewConditional, NewOrder
from paper.engine.spot import NewSpotOrder
from paper.engine.venue import Portfolio, Settings, Venue
from paper.store import Store
from paper.symbols import load_markets
from paper.tests.conftest import Bench


def keep(bench: Bench, path: Path) -> Venue:
    """Save everything and load it into a venue of its own."""
    venue = bench.exchange.venue
    store = Store(path)
    meta = {"last_id": str(venue.last_id), "now_ms": str(venue.now_ms)}
    store.save(venue.unsaved_rows, list(venue.unsaved.values()), meta)
    store.close()
    again, loaded = Store(path), Venue(load_markets(), Settings())
    again.load(loaded)
    again.close()
    return loaded


def held(portfolio: Portfolio) -> Portfolio:
    """The portfolio without positions that were only ever looked at."""
    portfolio.positions = {place: p for place, p in portfolio.positions.items() if p.update_ms}
    return portfolio


def act(bench: Bench) -> None:
    """Orders of every kind, open and ended, over two accounts."""
    exchange, alice = bench.exchange, bench.alice
    bench.isolate("BTCUSDT", 5)
    exchange.futures.place(alice, NewOrder("BTCUSDT", "BUY", MARKET, Decimal("0.2")))
    exchange.futures.place(alice, NewOrder("BTCUSDT", "SELL", MARKET, Decimal("0.1")))
    exchange.futures.place(alice, NewOrder("ETHUSDT", "BUY", "LIMIT", Decimal(1), Decimal(2900)))
    stop = NewConditional("BTCUSDT", "SELL", "STOP_MARKET", trigger_price=Decimal(90000), close_position=True)
    exchange.conditional.place(alice, stop)
    trailing = NewConditional("BTCUSDT", "SELL", "TRAILING_STOP_MARKET", Decimal("0.05"))
    trailing.callback_percent = Decimal(2)
    exchange.conditional.place(alice, trailing)
    exchange.spot.place(alice, NewSpotOrder("BTCUSDT", "BUY", MARKET, Decimal("0.05")))
    guard = NewSpotOrder("BTCUSDT", "SELL", "STOP_LOSS_LIMIT", Decimal("0.04"))
    guard.price, guard.stop_price = Decimal(94000), Decimal(95000)
    exchange.spot.place(alice, guard)
    bob = exchange.venue.open_account("bob", "s3cret", Decimal(500_000))
    exchange.futures.set_dual(bob, True)
    for side, where in (("BUY", LONG), ("SELL", SHORT)):
        exchange.futures.place(bob, NewOrder("SOLUSDT", side, MARKET, Decimal(10), position_side=where))
    bench.move(seconds=30_000, BTCUSDT="101000", SOLUSDT="155", ETHUSDT="3010")


def test_a_restart_changes_nothing(bench: Bench, tmp_path: Path) -> None:
    act(bench)
    before, after = bench.exchange.venue, keep(bench, tmp_path / "state")
    assert after.ledger == before.ledger
    assert (after.last_id, after.now_ms) == (before.last_id, before.now_ms)
    for key, portfolio in before.portfolios.items():
        assert held(after.portfolios[key]) == held(portfolio)


def test_what_waited_waits_again(bench: Bench, tmp_path: Path) -> None:
    act(bench)
    before, after = bench.exchange.venue, keep(bench, tmp_path / "state")
    for index in ("resting", "waiting", "trailing", "spot_resting", "spot_stops", "held"):
        was = {symbol: entries for symbol, entries in getattr(before, index).items() if entries}
        now = {symbol: entries for symbol, entries in getattr(after, index).items() if entries}
        assert now == was, index
    assert after.on_last["BTCUSDT"].down == before.on_last["BTCUSDT"].down != []


def test_a_save_that_fails_keeps_nothing_of_it(bench: Bench, tmp_path: Path) -> None:
    store = Store(tmp_path / "state")
    rows = bench.exchange.venue.ledger
    store.save(rows, [], {})
    with pytest.raises(sqlite3.IntegrityError):
        store.save(rows, [bench.alice.account], {"last_id": "99"})
    assert store.meta() == {}
    store.close()
