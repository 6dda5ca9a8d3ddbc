"""The state everything shares: accounts, quotes, ledger, and what waits on each symbol."""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from paper import ledger
from paper.engine.book import Quote
from paper.engine.events import BalancesChanged, Event
from paper.engine.orders import (
    BUY,
    LONG,
    SHORT,
    ZERO,
    Account,
    Conditional,
    Order,
    Position,
    SpotBalance,
    SpotOrder,
)
from paper.engine.refusals import refuse
from paper.engine.triggers import TriggerIndex
from paper.ledger import Row
from paper.symbols import Instrument, Markets

PERMISSIONS = {
    "ipRestrict": False,
    "enableReading": True,
    "enableWithdrawals": False,
    "enableInternalTransfer": False,
    "enableMargin": False,
    "enableFutures": True,
    "permitsUniversalTransfer": False,
    "enableVanillaOptions": False,
    "enableFixApiTrade": False,
    "enableFixReadOnly": False,
    "enableSpotAndMarginTrading": True,
    "enablePortfolioMarginTrading": False,
}
UNIT = Decimal("0.00000001")

Entity = Account | Order | Conditional | Position | SpotOrder | SpotBalance


def money(value: Decimal) -> Decimal:
    """Rounded half-even to the unit every balance is kept in, 1e-8."""
    return value.quantize(UNIT)


@dataclass(slots=True)
class Portfolio:
    """One account with everything it owns and ever ordered."""

    account: Account
    positions: dict[tuple[str, str], Position] = field(default_factory=dict)
    orders: dict[int, Order] = field(default_factory=dict)
    open_orders: dict[int, Order] = field(default_factory=dict)
    by_client_id: dict[str, Order] = field(default_factory=dict)
    conditionals: dict[int, Conditional] = field(default_factory=dict)
    open_conditionals: dict[int, Conditional] = field(default_factory=dict)
    conditional_by_client_id: dict[str, Conditional] = field(default_factory=dict)
    spot: dict[str, SpotBalance] = field(default_factory=dict)
    spot_orders: dict[int, SpotOrder] = field(default_factory=dict)
    open_spot_orders: dict[int, SpotOrder] = field(default_factory=dict)
    spot_by_client_id: dict[str, SpotOrder] = field(default_factory=dict)
    fills: list[Row] = field(default_factory=list)
    movements: list[Row] = field(default_factory=list)

    def position(self, symbol: str, position_side: str) -> Position:
        """The position there, made flat when it was never opened."""
        found = self.positions.get((symbol, position_side))
        if found is None:
            found = Position(self.account.key, symbol, position_side)
            self.positions[symbol, position_side] = found
        return found

    def quantity(self, symbol: str, position_side: str) -> Decimal:
        """Signed quantity held there."""
        found = self.positions.get((symbol, position_side))
        return found.quantity if found else ZERO

    def closable(self, symbol: str, position_side: str, side: str) -> Decimal:
        """What an order of this side would close, never negative."""
        held = self.quantity(symbol, position_side)
        return max(ZERO, -held if side == BUY else held)

    def open_positions(self) -> list[Position]:
        """Positions that are not flat."""
        return [position for position in self.positions.values() if position.quantity]

    def balance(self, asset: str) -> SpotBalance:
        """The spot balance of the asset, made empty when never held."""
        found = self.spot.get(asset)
        if found is None:
            found = self.spot[asset] = SpotBalance(self.account.key, asset)
        return found


def closes(side: str, position_side: str) -> bool:
    """In hedge mode: whether this side can only close that position."""
    return (side == BUY and position_side == SHORT) or (side != BUY and position_side == LONG)


@dataclass(slots=True)
class Settings:
    """What a new account gets and what every fill costs."""

    deposit: Decimal = Decimal(10_000)
    spot_deposit: Decimal = Decimal(10_000)
    maker_fee: Decimal = Decimal("0.0002")
    taker_fee: Decimal = Decimal("0.0005")
    spot_fee: Decimal = Decimal("0.001")


class Venue:
    """Accounts, quotes and the ledger. `publish` is given by the server and does nothing until then."""

    def __init__(self, markets: Markets, settings: Settings) -> None:
        self.markets = markets
        self.settings = settings
        self.now_ms = 0
        self.portfolios: dict[str, Portfolio] = {}
        self.quotes: dict[str, Quote] = {}
        self.ledger: list[Row] = []
        self.last_id = 0
        self.unsaved_rows: list[Row] = []
        self.unsaved: dict[int, Entity] = {}
        self.resting: defaultdict[str, dict[int, Order]] = defaultdict(dict)
        self.held_back: dict[int, Order] = {}
        self.waiting: defaultdict[str, dict[int, Conditional]] = defaultdict(dict)
        self.on_mark: defaultdict[str, TriggerIndex] = defaultdict(TriggerIndex)
        self.on_last: defaultdict[str, TriggerIndex] = defaultdict(TriggerIndex)
        self.trailing: defaultdict[str, dict[int, Conditional]] = defaultdict(dict)
        self.dated: defaultdict[str, dict[int, Conditional]] = defaultdict(dict)
        self.spot_resting: defaultdict[str, dict[int, SpotOrder]] = defaultdict(dict)
        self.spot_held_back: dict[int, SpotOrder] = {}
        self.spot_stops: defaultdict[str, dict[int, SpotOrder]] = defaultdict(dict)
        # Accounts whose margin must be looked at whatever the marks do; in order, so that a replay repeats.
        self.unguarded: dict[str, None] = {}
        self.held: defaultdict[str, dict[tuple[str, str], Position]] = defaultdict(dict)
        self.publish: Callable[[Portfolio, Event], None] = lambda _portfolio, _event: None
        self.greet: Callable[[Portfolio], None] = lambda _portfolio: None

    def next_id(self) -> int:
        """A number never given before, for orders and fills alike."""
        self.last_id += 1
        return self.last_id

    def instrument(self, symbol: str) -> Instrument:
        """The futures market of that name, else -1121."""
        found = self.markets.futures.get(symbol)
        if found is None:
            raise refuse(-1121)
        return found

    def spot_instrument(self, symbol: str) -> Instrument:
        """The spot market of that name, else -1121."""
        found = self.markets.spot.get(symbol)
        if found is None:
            raise refuse(-1121)
        return found

    def touch(self, entity: Entity) -> None:
        """The entity changed and must be kept before the answer leaves."""
        self.unsaved[id(entity)] = entity
        if type(entity) is Account:
            self.unguarded[entity.key] = None
        elif type(entity) is Position:
            self.unguarded[entity.account] = None

    def record(self, kind: str, account: str, **values: Any) -> Row:
        """Append one row to the ledger."""
        seq = len(self.ledger) + 1
        row = Row(seq, self.now_ms, int(time.time() * 1000), kind, account, **values)
        self.ledger.append(row)
        self.unsaved_rows.append(row)
        self.file(row)
        return row

    def file(self, row: Row) -> None:
        """Put a row where fills and income of its account are looked up."""
        portfolio = self.portfolios[row.account]
        if row.kind == ledger.FILL:
            portfolio.fills.append(row)
        if row.market == "futures" and (row.kind == ledger.FILL or row.money):
            portfolio.movements.append(row)

    def open_account(self, key: str, secret: str | None = None, deposit: Decimal | None = None) -> Portfolio:
        """A new funded account."""
        account = Account(key, secret or key, created_ms=self.now_ms, update_ms=self.now_ms or 1)
        account.permissions = dict(PERMISSIONS)
        portfolio = self.portfolios[key] = Portfolio(account)
        self.deposit(portfolio, self.settings.deposit if deposit is None else deposit)
        if self.settings.spot_deposit:
            self.deposit_spot(portfolio, "USDT", self.settings.spot_deposit)
        self.touch(account)
        self.greet(portfolio)
        return portfolio

    def deposit(self, portfolio: Portfolio, quantity: Decimal) -> None:
        """Add to the futures wallet; a negative quantity withdraws."""
        if not quantity:
            return
        account = portfolio.account
        account.wallet += quantity
        account.update_ms = self.now_ms or 1
        self.touch(account)
        self.record(ledger.DEPOSIT, account.key, asset="USDT", money=quantity)
        self.publish(portfolio, BalancesChanged("DEPOSIT" if quantity > 0 else "WITHDRAW", [], quantity))

    def deposit_spot(self, portfolio: Portfolio, asset: str, quantity: Decimal) -> None:
        """Add to a spot balance."""
        balance = portfolio.balance(asset)
        balance.free += quantity
        self.touch(balance)
        self.record(ledger.DEPOSIT, portfolio.account.key, market="spot", asset=asset, money=quantity)

    def hold(self, position: Position) -> None:
        """Index the position by symbol while it is open."""
        place = (position.account, position.position_side)
        self.unguarded[position.account] = None
        if position.quantity:
            self.held[position.symbol][place] = position
        else:
            self.held[position.symbol].pop(place, None)

    def wait(self, order: Conditional) -> None:
        """Index an open conditional order by what it waits for."""
        self.waiting[order.symbol][order.algo_id] = order
        if order.good_till_ms:
            self.dated[order.symbol][order.algo_id] = order
        if order.callback_percent:
            self.trailing[order.symbol][order.algo_id] = order
        else:
            self.trigger_index(order).add(order.trigger_price, order.algo_id, upwards=order.fires_upwards)

    def forget(self, order: Conditional) -> None:
        """Take a conditional order out of every index."""
        self.waiting[order.symbol].pop(order.algo_id, None)
        self.dated[order.symbol].pop(order.algo_id, None)
        self.trailing[order.symbol].pop(order.algo_id, None)
        self.trigger_index(order).remove(order.trigger_price, order.algo_id, upwards=order.fires_upwards)
        self.portfolios[order.account].open_conditionals.pop(order.algo_id, None)

    def trigger_index(self, order: Conditional) -> TriggerIndex:
        """Where the order waits: on the mark or on the last price."""
        chosen = self.on_mark if order.working_type == "MARK_PRICE" else self.on_last
        return chosen[order.symbol]
