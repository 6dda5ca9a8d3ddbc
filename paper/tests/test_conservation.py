"""The invariant the exchange lives by, over random order flow."""

from decimal import Decimal

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from paper.engine.orders import BOTH, LONG, SHORT, NewConditional, NewOrder
from paper.engine.refusals import Refusal
from paper.engine.spot import NewSpotOrder
from paper.ledger import fold
from paper.tests.conftest import Bench

ASSETS = {"BTCUSDT": ("BTC", "USDT")}
SIDES = st.sampled_from(["BUY", "SELL"])
QUANTITIES = st.integers(1, 900).map(lambda n: Decimal(n) / 1000)
PRICES = st.integers(60_000, 140_000).map(Decimal)


class Flow(RuleBasedStateMachine):
    """Orders of every kind, prices, funding and transfers, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()

    @initialize(dual=st.booleans(), isolated=st.booleans(), leverage=st.integers(1, 60))
    def choose_mode(self, dual: bool, isolated: bool, leverage: int) -> None:
        futures, alice = self.bench.exchange.futures, self.bench.alice
        if dual:
            futures.set_dual(alice, True)
        if isolated:
            futures.set_margin_type(alice, "BTCUSDT", "ISOLATED")
        futures.set_leverage(alice, "BTCUSDT", leverage)

    def _side(self, long: bool) -> str:
        dual = self.bench.alice.account.dual
        return BOTH if not dual else LONG if long else SHORT

    @rule(side=SIDES, quantity=QUANTITIES, reduces=st.booleans(), long=st.booleans())
    def market(self, side: str, quantity: Decimal, reduces: bool, long: bool) -> None:
        where = self._side(long)
        request = NewOrder("BTCUSDT", side, "MARKET", quantity, position_side=where)
        request.reduce_only = reduces and where == BOTH
        self._try(lambda: self.bench.exchange.futures.place(self.bench.alice, request))

    @rule(side=SIDES, quantity=QUANTITIES, price=PRICES, kind=st.sampled_from(["GTC", "IOC", "FOK", "GTX"]))
    def limit(self, side: str, quantity: Decimal, price: Decimal, kind: str) -> None:
        where = self._side(side == "BUY")
        request = NewOrder("BTCUSDT", side, "LIMIT", quantity, price, kind, position_side=where)
        self._try(lambda: self.bench.exchange.futures.place(self.bench.alice, request))

    @rule(side=SIDES, trigger=PRICES, closes=st.booleans(), long=st.booleans(), last=st.booleans())
    def stop(self, side: str, trigger: Decimal, closes: bool, long: bool, last: bool) -> None:
        request = NewConditional("BTCUSDT", side, "STOP_MARKET", trigger_price=trigger, close_position=closes)
        request.quantity = Decimal(0) if closes else Decimal("0.01")
        request.position_side = self._side(long)
        request.working_type = "CONTRACT_PRICE" if last else "MARK_PRICE"
        self._try(lambda: self.bench.exchange.conditional.place(self.bench.alice, request))

    @rule(side=SIDES, quantity=QUANTITIES, price=PRICES, kind=st.sampled_from(["MARKET", "LIMIT", "STOP"]))
    def spot(self, side: str, quantity: Decimal, price: Decimal, kind: str) -> None:
        request = NewSpotOrder("BTCUSDT", side, "MARKET", quantity / 10)
        if kind != "MARKET":
            request.type, request.price = "LIMIT", price
        if kind == "STOP":
            request.type, request.stop_price = "STOP_LOSS_LIMIT", price
        self._try(lambda: self.bench.exchange.spot.place(self.bench.alice, request))

    @rule(mark=PRICES, away=st.integers(-300, 300), hours=st.sampled_from([0, 0, 1, 9]))
    def move(self, mark: Decimal, away: int, hours: int) -> None:
        last = {"BTCUSDT": str(mark + away)}
        self.bench.move(seconds=hours * 3600 + 1, last=last, BTCUSDT=str(mark))

    @rule(quantity=st.integers(1, 5000))
    def deposit(self, quantity: int) -> None:
        self.bench.exchange.venue.deposit(self.bench.alice, Decimal(quantity))

    @precondition(lambda self: self.bench.alice.open_orders)
    @rule()
    def cancel_everything(self) -> None:
        self.bench.exchange.futures.cancel_all(self.bench.alice, "BTCUSDT")
        self.bench.exchange.conditional.cancel_all(self.bench.alice, "BTCUSDT")

    def _try(self, act: object) -> None:
        """A refusal must leave no trace."""
        before = len(self.bench.exchange.venue.ledger)
        try:
            act()  # type: ignore[operator]  # a closure
        except Refusal:
            assert len(self.bench.exchange.venue.ledger) == before

    @invariant()
    def the_ledger_adds_up_to_the_balances(self) -> None:
        alice = self.bench.alice
        folded = fold(self.bench.exchange.venue.ledger, "alice", ASSETS)
        assert folded.wallet == alice.account.wallet
        for (symbol, side), quantity in folded.positions.items():
            assert alice.quantity(symbol, side) == quantity
        for asset, quantity in folded.spot.items():
            assert alice.balance(asset).free + alice.balance(asset).locked == quantity

    @invariant()
    def nothing_is_owed_that_is_not_there(self) -> None:
        alice = self.bench.alice
        assert all(held.free >= 0 and held.locked >= 0 for held in alice.spot.values())
        assert all(order.executed <= order.quantity for order in alice.orders.values())
        assert all(p.isolated_wallet == 0 for p in alice.positions.values() if not p.quantity)
        locked = sum((o.locked for o in alice.open_spot_orders.values()), Decimal(0))
        assert locked == sum((held.locked for held in alice.spot.values()), Decimal(0))

    @invariant()
    def open_means_open_in_every_index(self) -> None:
        venue, alice = self.bench.exchange.venue, self.bench.alice
        assert set(venue.resting["BTCUSDT"]) == set(alice.open_orders)
        assert set(venue.waiting["BTCUSDT"]) == set(alice.open_conditionals)
        indexed = [n for index in (venue.on_mark, venue.on_last) for _, n in index["BTCUSDT"].up]
        indexed += [n for index in (venue.on_mark, venue.on_last) for _, n in index["BTCUSDT"].down]
        assert sorted(indexed) == sorted(alice.open_conditionals)


Flow.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestMoneyIsConserved = Flow.TestCase


def test_a_missing_cent_is_noticed() -> None:
    """The proof can fail: one altered row and the fold no longer agrees."""
    bench = Bench()
    bench.exchange.futures.place(bench.alice, NewOrder("BTCUSDT", "BUY", "MARKET", Decimal("0.1")))
    bench.exchange.venue.ledger[-1].fee += Decimal("0.01")
    assert fold(bench.exchange.venue.ledger, "alice", ASSETS).wallet != bench.alice.account.wallet
