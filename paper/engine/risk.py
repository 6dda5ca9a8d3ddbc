"""Funding at its times, and liquidation when the margin is used up."""

from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal

from paper import ledger
from paper.engine import margin
from paper.engine.book import Quote, best
from paper.engine.events import BalancesChanged, MarginCalled
from paper.engine.fills import fill
from paper.engine.futures import FuturesMarket
from paper.engine.orders import BUY, MARKET, SELL, ZERO, NewOrder, Order, Position
from paper.engine.triggers import TriggerIndex
from paper.engine.venue import Portfolio, Venue, money

CALL_RATIO = Decimal("0.8")
MOST_ROOM = Decimal("0.5")


@dataclass(frozen=True, slots=True)
class Guard:
    """The price from which an account must be looked at again; marks short of it cannot hurt it."""

    account: str
    symbol: str
    price: Decimal
    upwards: bool


class RiskEngine:
    """Charges funding and closes what can no longer be carried."""

    def __init__(self, venue: Venue, futures: FuturesMarket) -> None:
        self.venue = venue
        self.futures = futures
        self.called: set[tuple[str, str, str]] = set()
        self.guards: defaultdict[str, TriggerIndex] = defaultdict(TriggerIndex)
        self.noted: dict[int, Guard] = {}
        self.by_account: defaultdict[str, list[int]] = defaultdict(list)
        self.last_guard = 0

    # funding

    def charge_funding(self, quote: Quote) -> None:
        """Pay -quantity x mark x funding rate to every position open at the time."""
        for position in list(self.venue.held[quote.symbol].values()):
            portfolio = self.venue.portfolios[position.account]
            income = money(-position.quantity * quote.mark * quote.funding_rate)
            if income:
                self._pay_funding(portfolio, position, income, quote)

    def _pay_funding(self, portfolio: Portfolio, position: Position, income: Decimal, quote: Quote) -> None:
        account = portfolio.account
        account.wallet += income
        account.update_ms = position.update_ms = self.venue.now_ms
        isolated = account.is_isolated(position.symbol)
        if isolated:
            position.isolated_wallet += income
        self.venue.touch(account)
        self.venue.touch(position)
        self.venue.record(
            ledger.FUNDING,
            account.key,
            symbol=position.symbol,
            position_side=position.position_side,
            quantity=position.quantity,
            price=quote.mark,
            asset="USDT",
            money=income,
            reason=f"{quote.funding_rate:f}",
        )
        shown = [position] if isolated else []
        self.venue.publish(portfolio, BalancesChanged("FUNDING_FEE", shown, income))

    # liquidation

    def check(self, quotes: list[Quote]) -> None:
        """Look at accounts that changed, and at those one of these marks has come too close to."""
        looked, self.venue.unguarded = self.venue.unguarded, {}
        for quote in quotes:
            index = self.guards.get(quote.symbol)
            if index is not None:
                looked |= dict.fromkeys(self.noted[number].account for number in index.take(quote.mark))
        for account in looked:
            self._look(self.venue.portfolios[account])

    def _look(self, portfolio: Portfolio) -> None:
        """Judge the account at the present marks and guard what stays open."""
        self._drop_guards(portfolio.account.key)
        cross = []
        for position in portfolio.open_positions():
            if portfolio.account.is_isolated(position.symbol):
                self._look_isolated(portfolio, position)
            else:
                cross.append(position)
        if cross:
            self._look_cross(portfolio, cross)

    def _look_isolated(self, portfolio: Portfolio, position: Position) -> None:
        mark = self.venue.quotes[position.symbol].mark
        needed = self._maintenance(position, mark)
        cushion = position.isolated_wallet + position.unrealized(mark)
        if self._is_exhausted(portfolio, position, cushion, needed):
            self._liquidate(portfolio, position, cushion)
        else:
            self._guard(position, self._call_price(position))

    def _look_cross(self, portfolio: Portfolio, positions: list[Position]) -> None:
        marks = {p.symbol: self.venue.quotes[p.symbol].mark for p in positions}
        isolated = sum((p.isolated_wallet for p in portfolio.positions.values()), ZERO)
        profits = [p.unrealized(marks[p.symbol]) for p in positions]
        cushion = portfolio.account.wallet - isolated + sum(profits, ZERO)
        needed = sum((self._maintenance(p, marks[p.symbol]) for p in positions), ZERO)
        worst = positions[profits.index(min(profits))]
        if self._is_exhausted(portfolio, worst, cushion, needed):
            for position in positions:
                self._liquidate(portfolio, position, None)
            if portfolio.account.wallet < 0:
                self._pay_insurance(portfolio, -portfolio.account.wallet, worst.symbol)
            return
        room = self._room(positions, marks, CALL_RATIO * cushion - needed)
        for position in positions:
            self._guard(position, marks[position.symbol] * (1 - room if position.quantity > 0 else 1 + room))

    def _room(self, positions: list[Position], marks: dict[str, Decimal], spare: Decimal) -> Decimal:
        """How far, as a share, every mark may move against the account before it must be looked at again.

        A short's maintenance grows with its loss, at most as in the bracket of twice its notional.
        """
        weight = ZERO
        for position in positions:
            notional = abs(position.quantity) * marks[position.symbol]
            bracket = self.venue.markets.futures[position.symbol].bracket(2 * notional)
            weight += notional * (CALL_RATIO + (bracket.maintenance if position.quantity < 0 else ZERO))
        return max(ZERO, min(spare / weight, MOST_ROOM))

    def _maintenance(self, position: Position, mark: Decimal) -> Decimal:
        return margin.maintenance_margin(
            self.venue.markets.futures[position.symbol], position.quantity * mark
        )

    def _guard(self, position: Position, price: Decimal) -> None:
        """Look again when the mark reaches the price; at every mark once the margin was called."""
        if self._place(position) in self.called:
            mark = self.venue.quotes[position.symbol].mark
            price = mark * 2 if position.quantity > 0 else mark / 2
        self.last_guard += 1
        guard = Guard(position.account, position.symbol, price, upwards=position.quantity < 0)
        self.noted[self.last_guard] = guard
        self.by_account[position.account].append(self.last_guard)
        self.guards[position.symbol].add(price, self.last_guard, upwards=guard.upwards)

    def _drop_guards(self, account: str) -> None:
        for number in self.by_account.pop(account, ()):
            guard = self.noted.pop(number)
            self.guards[guard.symbol].remove(guard.price, number, upwards=guard.upwards)

    def _call_price(self, position: Position) -> Decimal:
        """The price p where maintenance reaches the called share of what is left of the margin.

        Solves |q| p mmr - cum = ratio (isolated + q p - cost), again until the bracket fits the price.
        """
        instrument = self.venue.markets.futures[position.symbol]
        quantity, held = position.quantity, abs(position.quantity)
        bracket, price = instrument.bracket(abs(position.cost)), ZERO
        for _ in instrument.brackets:
            own = CALL_RATIO * (position.isolated_wallet - position.cost) + bracket.cum
            price = own / (held * bracket.maintenance - CALL_RATIO * quantity)
            fitting = instrument.bracket(held * max(ZERO, price))
            if fitting is bracket:
                break
            bracket = fitting
        return price

    def _place(self, position: Position) -> tuple[str, str, str]:
        return position.account, position.symbol, position.position_side

    def _is_exhausted(
        self, portfolio: Portfolio, position: Position, cushion: Decimal, needed: Decimal
    ) -> bool:
        place = self._place(position)
        if needed < cushion * CALL_RATIO:
            self.called.discard(place)
        elif place not in self.called:
            self.called.add(place)
            self.venue.publish(portfolio, MarginCalled(position))
        return cushion <= needed

    def _liquidate(self, portfolio: Portfolio, position: Position, cushion: Decimal | None) -> None:
        """Close at the book, never worse than the bankruptcy price of an isolated position.

        The liquidation fee is what is left of the isolated margin, at most the symbol's share of notional.
        """
        venue, symbol = self.venue, position.symbol
        self.futures.cancel_all(portfolio, symbol)
        instrument, quote = venue.markets.futures[symbol], venue.quotes[symbol]
        side = SELL if position.quantity > 0 else BUY
        quantity = abs(position.quantity)
        price = best(instrument, quote.last, side)
        left = None
        if cushion is not None:
            bankrupt = (position.cost - position.isolated_wallet) / position.quantity
            price = max(price, bankrupt) if side == SELL else min(price, bankrupt)
            left = position.isolated_wallet + position.quantity * price - position.cost
        fee = quantity * price * instrument.liquidation_fee
        fee = money(fee if left is None else max(ZERO, min(fee, left)))
        order = self._autoclose(portfolio, position, side, quantity)
        fill(venue, portfolio, order, price, quantity, maker=False, fee=fee, execution="CALCULATED")
        portfolio.open_orders.pop(order.order_id, None)
        venue.publish(portfolio, BalancesChanged("ORDER", [position]))
        self.futures.settle_flat(portfolio, symbol, position.position_side)

    def _autoclose(self, portfolio: Portfolio, position: Position, side: str, quantity: Decimal) -> Order:
        request = NewOrder(
            symbol=position.symbol,
            side=side,
            type=MARKET,
            quantity=quantity,
            time_in_force="IOC",
            client_order_id=f"autoclose-{self.venue.now_ms}{self.venue.last_id}",
            reduce_only=True,
            position_side=position.position_side,
        )
        return self.futures.accept(portfolio, request, original_type="LIQUIDATION")

    def _pay_insurance(self, portfolio: Portfolio, quantity: Decimal, symbol: str) -> None:
        portfolio.account.wallet += quantity
        self.venue.touch(portfolio.account)
        self.venue.record(
            ledger.INSURANCE, portfolio.account.key, symbol=symbol, asset="USDT", money=quantity
        )
        self.venue.publish(portfolio, BalancesChanged("INSURANCE_CLEAR", [], quantity))
