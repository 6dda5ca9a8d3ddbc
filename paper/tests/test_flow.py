"""Ten thousand random operations of several accounts: the ledger adds up to the balances at every look."""

import os
import random
from collections.abc import Callable
from decimal import Decimal

import pytest

from paper.engine.orders import BOTH, LONG, MARKET, SHORT, NewConditional, NewOrder
from paper.engine.refusals import Refusal
from paper.engine.spot import NewSpotOrder
from paper.engine.venue import Portfolio
from paper.ledger import fold
from paper.tests.conftest import PRICES, Bench

OPERATIONS = int(os.environ.get("PAPER_OPERATIONS", "10000"))
LOOK_EVERY = 500
ASSETS = {symbol: (symbol[:-4], "USDT") for symbol in PRICES}
STEPS = {"BTCUSDT": "0.001", "ETHUSDT": "0.001", "SOLUSDT": "0.01", "XRPUSDT": "0.1"}
TICKS = {"BTCUSDT": "0.1", "ETHUSDT": "0.01", "SOLUSDT": "0.01", "XRPUSDT": "0.0001"}
TYPES = ("STOP_MARKET", "TAKE_PROFIT_MARKET", "STOP", "TAKE_PROFIT", "TRAILING_STOP_MARKET")


class Crowd:
    """Accounts of every mode doing whatever the dice say."""

    def __init__(self, bench: Bench, seed: int) -> None:
        self.bench, self.dice = bench, random.Random(seed)
        self.exchange = bench.exchange
        self.marks = {symbol: float(price) for symbol, price in PRICES.items()}
        self.people = [bench.exchange.venue.open_account(f"person-{number}") for number in range(6)]
        for number, person in enumerate(self.people):
            if number % 2:
                self.exchange.futures.set_dual(person, True)
            for symbol in PRICES:
                if number % 3 == 0:
                    self.exchange.futures.set_margin_type(person, symbol, "ISOLATED")
                self.exchange.futures.set_leverage(person, symbol, self.dice.choice([2, 5, 20, 50]))
        self.acts: list[Callable[[Portfolio], object]] = [
            *[self.market] * 5, *[self.limit] * 4, *[self.conditional] * 4, *[self.spot] * 3,
            *[self.move] * 4, self.cancel, self.settings, self.deposit, self.amend,
        ]  # fmt: skip
        self.refused = 0

    def act(self) -> None:
        """One operation; a refusal leaves nothing behind."""
        rows = len(self.exchange.venue.ledger)
        try:
            self.dice.choice(self.acts)(self.dice.choice(self.people))
        except Refusal:
            self.refused += 1
            assert len(self.exchange.venue.ledger) == rows

    def _where(self, person: Portfolio) -> tuple[str, str, str]:
        symbol, side = self.dice.choice(list(PRICES)), self.dice.choice(["BUY", "SELL"])
        return symbol, side, self.dice.choice([LONG, SHORT]) if person.account.dual else BOTH

    def _quantity(self, symbol: str) -> Decimal:
        step = Decimal(STEPS[symbol])
        worth = self.dice.choice([60, 300, 2_000, 20_000])
        return max(step, Decimal(int(worth / self.marks[symbol] / float(step))) * step)

    def _price(self, symbol: str) -> Decimal:
        tick = Decimal(TICKS[symbol])
        return Decimal(round(self.marks[symbol] * self.dice.uniform(0.96, 1.04) / float(tick))) * tick

    def market(self, person: Portfolio) -> None:
        symbol, side, where = self._where(person)
        order = NewOrder(symbol, side, MARKET, self._quantity(symbol), position_side=where)
        order.reduce_only = where == BOTH and self.dice.random() < 0.3
        self.exchange.futures.place(person, order)

    def limit(self, person: Portfolio) -> None:
        symbol, side, where = self._where(person)
        order = NewOrder(symbol, side, "LIMIT", self._quantity(symbol), self._price(symbol))
        order.time_in_force, order.position_side = (
            self.dice.choice(["GTC", "IOC", "FOK", "GTX", "GTD"]),
            where,
        )
        order.good_till_ms = self.bench.now_ms + 900_000 if order.time_in_force == "GTD" else 0
        order.reduce_only = where == BOTH and self.dice.random() < 0.2
        self.exchange.futures.place(person, order)

    def conditional(self, person: Portfolio) -> None:
        symbol, side, where = self._where(person)
        kind = self.dice.choice(TYPES)
        order = NewConditional(symbol, side, kind, position_side=where, trigger_price=self._price(symbol))
        order.working_type = self.dice.choice(["MARK_PRICE", "CONTRACT_PRICE"])
        order.close_position = kind.endswith("_MARKET") and kind != TYPES[-1] and self.dice.random() < 0.5
        order.quantity = Decimal(0) if order.close_position else self._quantity(symbol)
        order.reduce_only = where == BOTH and not order.close_position and self.dice.random() < 0.3
        order.price = self._price(symbol) if kind in {"STOP", "TAKE_PROFIT"} else None
        if kind == TYPES[-1]:
            order.trigger_price, order.callback_percent = None, Decimal(self.dice.choice(["0.3", "1", "3"]))
        self.exchange.conditional.place(person, order)

    def spot(self, person: Portfolio) -> None:
        symbol, side, _ = self._where(person)
        order = NewSpotOrder(symbol, side, MARKET, self._quantity(symbol) / 4)
        order.quantity -= order.quantity % Decimal("0.001")
        kind = self.dice.choice([MARKET, "LIMIT", "STOP_LOSS_LIMIT"])
        if kind != MARKET:
            order.type, order.price = kind, self._price(symbol)
        if kind == "STOP_LOSS_LIMIT":
            order.stop_price = self._price(symbol)
        self.exchange.spot.place(person, order)

    def move(self, _person: Portfolio) -> None:
        for symbol in self.marks:
            self.marks[symbol] *= 1 + self.dice.gauss(0, 0.01)
        marks = {symbol: f"{mark:.4f}" for symbol, mark in self.marks.items()}
        last = {
            symbol: f"{mark * self.dice.uniform(0.999, 1.001):.4f}" for symbol, mark in self.marks.items()
        }
        self.bench.now_ms += self.dice.choice([1, 60, 3_600, 8 * 3_600]) * 1000
        self.bench.pass_prices(marks, last)

    def cancel(self, person: Portfolio) -> None:
        symbol, _, _ = self._where(person)
        self.exchange.futures.cancel_all(person, symbol)
        if self.dice.random() < 0.3:
            self.exchange.conditional.cancel_all(person, symbol)

    def settings(self, person: Portfolio) -> None:
        symbol, _, where = self._where(person)
        if self.dice.random() < 0.5:
            self.exchange.futures.set_leverage(person, symbol, self.dice.randint(1, 60))
        else:
            self.exchange.futures.move_margin(person, symbol, where, Decimal(self.dice.choice([10, -10])))

    def deposit(self, person: Portfolio) -> None:
        self.exchange.venue.deposit(person, Decimal(self.dice.randint(-20, 500)))

    def amend(self, person: Portfolio) -> None:
        for order in list(person.open_orders.values())[:1]:
            price = self._price(order.symbol)
            self.exchange.futures.modify(person, order, order.quantity, price)

    def check(self) -> None:
        """Every account, to the last unit."""
        for person in self.people:
            folded = fold(self.exchange.venue.ledger, person.account.key, ASSETS)
            assert folded.wallet == person.account.wallet
            for place, quantity in folded.positions.items():
                assert person.quantity(*place) == quantity
            for asset, quantity in folded.spot.items():
                held = person.balance(asset)
                assert held.free + held.locked == quantity
                assert min(held.free, held.locked) >= 0


@pytest.mark.parametrize("seed", range(1, 5))
def test_money_is_conserved_over_ten_thousand_operations(bench: Bench, seed: int) -> None:
    crowd = Crowd(bench, seed)
    for number in range(1, OPERATIONS + 1):
        crowd.act()
        if number % LOOK_EVERY == 0:
            crowd.check()
    crowd.check()
    kinds = {row.kind for row in bench.exchange.venue.ledger}
    assert kinds >= {"FILL", "FUNDING", "CANCELED", "EXPIRED", "TRIGGERED", "AMENDED", "DEPOSIT"}
    assert any(row.reason == "CALCULATED" for row in bench.exchange.venue.ledger), "nobody was liquidated"
    fills = sum(row.kind == "FILL" for row in bench.exchange.venue.ledger)
    assert fills > OPERATIONS / 10
    assert crowd.refused < OPERATIONS * 0.8
