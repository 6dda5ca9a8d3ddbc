"""Ordinary futures orders: acceptance, matching, cancellation and the settings of an account."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal

from paper import ledger
from paper.engine import filters, margin
from paper.engine.book import best, rounded, walk
from paper.engine.events import BalancesChanged, LeverageChanged, MultiAssetsChanged, OrderChanged
from paper.engine.fills import fill
from paper.engine.orders import (
    BOTH,
    BUY,
    CANCELED,
    EXPIRED,
    LIMIT,
    LONG,
    MARKET,
    OPEN,
    SHORT,
    ZERO,
    Conditional,
    NewOrder,
    Order,
)
from paper.engine.refusals import Refusal, refuse
from paper.engine.rows import of_order
from paper.engine.venue import Portfolio, Venue, closes, money
from paper.symbols import Instrument

MOST_MODIFICATIONS = 10_000
SLIPPED = Decimal("1.0005")
TRADING, REDUCE_ONLY = "TRADING", "REDUCE_ONLY"


@dataclass(frozen=True, slots=True)
class Tampering:
    """What a fault rule does to an execution: hold it back, fill only a share of it, or worsen its price.

    `slip` is the share of the price by which the book stands away from the order.
    """

    hold_ms: int = 0
    fraction: Decimal | None = None
    slip: Decimal = ZERO


UNTOUCHED = Tampering()


class FuturesMarket:
    """Ordinary orders of every account over one venue."""

    def __init__(self, venue: Venue) -> None:
        self.venue = venue
        # The conditional store follows what becomes of positions and of the orders it gave birth to.
        self.on_flat: Callable[[Portfolio, str, str], None] = lambda _portfolio, _symbol, _side: None
        self.on_ended: Callable[[Portfolio, Order], None] = lambda _portfolio, _order: None
        self.on_child: Callable[[Portfolio, Order], None] = lambda _portfolio, _order: None
        self.statuses: dict[str, str] = {}

    # acceptance

    def place(
        self,
        portfolio: Portfolio,
        request: NewOrder,
        tampering: Tampering = UNTOUCHED,
        origin: Conditional | None = None,
    ) -> Order:
        """Accept and match an order, or raise Refusal with nothing changed."""
        fills = self.admit(portfolio, request, tampering.slip, origin)
        order = self.accept(portfolio, request, origin)
        if tampering.fraction is not None:
            fills = _shortened(fills, tampering.fraction, self.venue.instrument(request.symbol))
        if tampering.hold_ms:
            order.hold_until_ms = self.venue.now_ms + tampering.hold_ms
            self.venue.held_back[order.order_id] = order
            return order
        self._execute(portfolio, order, fills)
        return order

    def admit(
        self,
        portfolio: Portfolio,
        request: NewOrder,
        slip: Decimal = ZERO,
        origin: Conditional | None = None,
    ) -> list[tuple[Decimal, Decimal]]:
        """The prices and quantities an order would be filled with at once, or raise Refusal.

        Nothing is placed; a reduction larger than the position is cut to it in `request`.
        """
        venue = self.venue
        instrument = venue.instrument(request.symbol)
        self._check_status(request)
        check_position_side(portfolio, request.position_side)
        filters.check_client_id(request.client_order_id)
        reduces = request.reduce_only or closes(request.side, request.position_side)
        quote = venue.quotes[request.symbol]
        filters.check_order(instrument, request, quote.mark, reduces=reduces)
        if origin is None:
            self._check_duplicate(portfolio, request.client_order_id)
        if reduces:
            self._fit_to_position(portfolio, request)
        else:
            self._check_margin(portfolio, request, instrument)
        fills = self._matched(request, instrument, slip)
        if request.type == LIMIT and request.time_in_force in {"GTC", "GTX", "GTD"}:
            self._check_open_count(portfolio, instrument)
        return fills

    def _check_status(self, request: NewOrder) -> None:
        """-4141 on a closed symbol, -4140 for what would open on one that only lets out."""
        status = self.statuses.get(request.symbol, TRADING)
        if status == REDUCE_ONLY and not (request.reduce_only or closes(request.side, request.position_side)):
            raise refuse(-4140)
        self.check_open(request.symbol)

    def check_open(self, symbol: str) -> None:
        """-4141 on a closed symbol."""
        if self.statuses.get(symbol, TRADING) not in {TRADING, REDUCE_ONLY}:
            raise refuse(-4141)

    def _check_duplicate(self, portfolio: Portfolio, client_order_id: str) -> None:
        """-4116 while an open order has the id; an ended one's id may be used, and fills, again."""
        known = portfolio.by_client_id.get(client_order_id) if client_order_id else None
        if known is not None and known.order_id in portfolio.open_orders:
            raise refuse(-4116)

    def _fit_to_position(self, portfolio: Portfolio, request: NewOrder) -> None:
        held = portfolio.closable(request.symbol, request.position_side, request.side)
        if not held or (request.position_side != BOTH and request.quantity > held):
            raise refuse(-2022)
        if request.position_side == BOTH and self._resting_reduce(portfolio, request) >= held:
            raise refuse(-4118)
        request.quantity = min(request.quantity, held)

    def _resting_reduce(self, portfolio: Portfolio, request: NewOrder) -> Decimal:
        return sum(
            (
                order.remaining
                for order in portfolio.open_orders.values()
                if order.symbol == request.symbol and order.reduce_only and order.side == request.side
            ),
            ZERO,
        )

    def _check_margin(self, portfolio: Portfolio, request: NewOrder, instrument: Instrument) -> None:
        """-2027 beyond the bracket, -2019 when the extra margin and the opening loss are not available."""
        position = portfolio.position(request.symbol, request.position_side)
        line = margin.exposure(self.venue, portfolio, position)
        quote = self.venue.quotes[request.symbol]
        price = request.price if request.price is not None else self._assumed_price(request, instrument)
        value = request.quantity * price
        bid, ask = line.bid_notional, line.ask_notional
        bid, ask = (bid + value, ask) if request.side == BUY else (bid, ask + value)
        worst = max(abs(line.notional + bid), abs(line.notional - ask))
        if worst > max(abs(line.notional), instrument.cap_at(line.leverage)):
            raise refuse(-2027)
        needed = margin.order_margin(line.notional, bid, ask, line.leverage) - line.order_initial
        away = price - quote.mark if request.side == BUY else quote.mark - price
        if needed and needed + request.quantity * max(ZERO, away) > self.available(portfolio):
            raise refuse(-2019)

    def _assumed_price(self, request: NewOrder, instrument: Instrument) -> Decimal:
        quote = self.venue.quotes[request.symbol]
        top = best(instrument, quote.last, request.side)
        return top * SLIPPED if request.side == BUY else max(top, quote.mark)

    def available(self, portfolio: Portfolio) -> Decimal:
        """What new orders may claim."""
        return margin.summary(self.venue, portfolio).available

    def _matched(
        self, request: NewOrder, instrument: Instrument, slip: Decimal
    ) -> list[tuple[Decimal, Decimal]]:
        limit = self._furthest(instrument, request.side, request.price)
        last = self.venue.quotes[request.symbol].last
        if slip:
            last *= 1 + slip if request.side == BUY else 1 - slip
        fills = walk(instrument, last, request.side, request.quantity, limit)
        filled = sum((quantity for _, quantity in fills), ZERO)
        if request.type == MARKET and not fills:
            raise refuse(-4131)
        if request.time_in_force == "FOK" and filled < request.quantity:
            raise refuse(-5021)
        if request.time_in_force == "GTX" and fills:
            raise refuse(-5022)
        return fills

    def _furthest(self, instrument: Instrument, side: str, price: Decimal | None) -> Decimal:
        """The worst price an order may pay: its own, or the market bound around the mark."""
        if price is not None:
            return price
        sign = 1 if side == BUY else -1
        return self.venue.quotes[instrument.symbol].mark * (1 + sign * instrument.market_take_bound)

    def _check_open_count(self, portfolio: Portfolio, instrument: Instrument) -> None:
        count = sum(1 for order in portfolio.open_orders.values() if order.symbol == instrument.symbol)
        if count >= instrument.max_orders:
            raise refuse(-2025)

    def accept(
        self,
        portfolio: Portfolio,
        request: NewOrder,
        origin: Conditional | None = None,
        original_type: str = "",
    ) -> Order:
        """Make the order open without matching it; `original_type` is what the user stream calls it."""
        venue = self.venue
        number = venue.next_id()
        order = Order(
            order_id=number,
            account=portfolio.account.key,
            symbol=request.symbol,
            client_order_id=request.client_order_id or filters.generated_client_id(number),
            side=request.side,
            type=request.type,
            original_type=original_type or request.type,
            time_in_force=request.time_in_force,
            quantity=request.quantity,
            price=request.price or ZERO,
            reduce_only=request.reduce_only,
            close_position=bool(origin and origin.close_position),
            position_side=request.position_side,
            time_ms=venue.now_ms,
            update_ms=venue.now_ms,
            stop_price=origin.trigger_price if origin else ZERO,
            good_till_ms=request.good_till_ms,
            self_trade_prevention=request.self_trade_prevention,
            price_match=request.price_match,
            algo_id=origin.algo_id if origin else 0,
        )
        self._register(portfolio, order)
        self._record(ledger.PLACED, order, original_type.lower())
        if origin is not None:
            self.on_child(portfolio, order)
        venue.publish(portfolio, OrderChanged(order, "NEW"))
        return order

    def _register(self, portfolio: Portfolio, order: Order) -> None:
        portfolio.orders[order.order_id] = order
        portfolio.by_client_id[order.client_order_id] = order
        portfolio.open_orders[order.order_id] = order
        self.venue.touch(order)

    def _record(self, kind: str, order: Order, reason: str = "") -> None:
        self.venue.record(kind, order.account, **of_order(order), reason=reason)

    # execution

    def _execute(self, portfolio: Portfolio, order: Order, fills: list[tuple[Decimal, Decimal]]) -> None:
        for price, quantity in fills:
            fill(self.venue, portfolio, order, price, quantity, maker=False)
        if order.status in OPEN and order.type != MARKET and order.time_in_force not in {"IOC", "FOK"}:
            self.venue.resting[order.symbol][order.order_id] = order
        else:
            self._conclude(portfolio, order, "the book within the limit was too thin")
        if fills:
            self._after_fill(portfolio, order)
        elif order.status not in OPEN:
            self.on_ended(portfolio, order)

    def _conclude(self, portfolio: Portfolio, order: Order, reason: str) -> None:
        """Nothing more will come of it: what is left expires."""
        if order.status in OPEN:
            self._mark_ended(portfolio, order, EXPIRED, reason)
        self._unlist(portfolio, order)

    def _after_fill(self, portfolio: Portfolio, order: Order) -> None:
        """The account is told of its balance before a conditional parent is told of its end."""
        position = portfolio.position(order.symbol, order.position_side)
        self.venue.publish(portfolio, BalancesChanged("ORDER", [position]))
        if order.status not in OPEN:
            self.on_ended(portfolio, order)
        if not position.quantity:
            self.settle_flat(portfolio, order.symbol, order.position_side)

    def settle_flat(self, portfolio: Portfolio, symbol: str, position_side: str) -> None:
        """A flat position ends what could only reduce it."""
        for other in list(portfolio.open_orders.values()):
            if other.symbol == symbol and other.position_side == position_side and other.reduce_only:
                self._end(portfolio, other, EXPIRED, "position is flat")
        self.on_flat(portfolio, symbol, position_side)

    def _unlist(self, portfolio: Portfolio, order: Order) -> None:
        portfolio.open_orders.pop(order.order_id, None)
        self.venue.resting[order.symbol].pop(order.order_id, None)
        self.venue.held_back.pop(order.order_id, None)

    def _mark_ended(self, portfolio: Portfolio, order: Order, status: str, reason: str) -> None:
        order.status = status
        order.update_ms = self.venue.now_ms
        self.venue.touch(order)
        self._record(ledger.CANCELED if status == CANCELED else ledger.EXPIRED, order, reason)
        self.venue.publish(portfolio, OrderChanged(order, status))

    def _end(self, portfolio: Portfolio, order: Order, status: str, reason: str = "") -> None:
        self._mark_ended(portfolio, order, status, reason)
        self._unlist(portfolio, order)
        self.on_ended(portfolio, order)

    def match_resting(self, symbol: str) -> None:
        """Fill resting limit orders the book has reached, as maker at their own price; end overdue ones."""
        resting = self.venue.resting.get(symbol)
        if not resting:
            return
        instrument, quote = self.venue.markets.futures[symbol], self.venue.quotes[symbol]
        ask, bid = (best(instrument, quote.last, side) for side in (BUY, "SELL"))
        for order in list(resting.values()):
            portfolio = self.venue.portfolios[order.account]
            if order.good_till_ms and self.venue.now_ms >= order.good_till_ms:
                self._end(portfolio, order, EXPIRED, "good till date")
            elif order.price >= ask if order.side == BUY else order.price <= bid:
                self.fill_resting(portfolio, order)

    def fill_resting(self, portfolio: Portfolio, order: Order) -> None:
        """Fill an open order at its own price, no further than there is something to reduce."""
        quantity = order.remaining
        if order.reduce_only or closes(order.side, order.position_side):
            quantity = min(quantity, portfolio.closable(order.symbol, order.position_side, order.side))
        if quantity:
            fill(self.venue, portfolio, order, order.price, quantity, maker=True)
        self._conclude(portfolio, order, "nothing left to reduce")
        if quantity:
            self._after_fill(portfolio, order)
        else:
            self.on_ended(portfolio, order)

    def release_held_back(self) -> None:
        """Execute orders a fault rule made wait."""
        for order in list(self.venue.held_back.values()):
            if self.venue.now_ms >= order.hold_until_ms:
                del self.venue.held_back[order.order_id]
                self._execute_late(self.venue.portfolios[order.account], order)

    def _execute_late(self, portfolio: Portfolio, order: Order) -> None:
        """What the book gives by now, and no more than is still there to reduce."""
        instrument = self.venue.markets.futures[order.symbol]
        wanted = order.remaining
        if order.reduce_only or closes(order.side, order.position_side):
            wanted = min(wanted, portfolio.closable(order.symbol, order.position_side, order.side))
        last = self.venue.quotes[order.symbol].last
        limit = self._furthest(instrument, order.side, order.price if order.type == LIMIT else None)
        self._execute(portfolio, order, walk(instrument, last, order.side, wanted, limit))

    # cancellation and lookup

    def cancel(self, portfolio: Portfolio, order: Order) -> Order:
        """End an open order by its owner's wish; -2011 when it is not open."""
        if order.order_id not in portfolio.open_orders:
            raise refuse(-2011)
        self._end(portfolio, order, CANCELED)
        return order

    def cancel_all(self, portfolio: Portfolio, symbol: str) -> None:
        """End every open ordinary order of the symbol."""
        for order in list(portfolio.open_orders.values()):
            if order.symbol == symbol:
                self._end(portfolio, order, CANCELED)

    def modify(self, portfolio: Portfolio, order: Order, quantity: Decimal, price: Decimal) -> Order:
        """Move a resting limit order, which takes what the book gives at its new price.

        Cancelled when already filled beyond the new quantity. -5027 without a change, -5026 after ten
        thousand of them, else refused as a new order of that price and quantity would be.
        """
        if order.order_id not in portfolio.open_orders:
            raise refuse(-2013)
        if order.type != LIMIT:
            raise refuse(-5025)
        if quantity == order.quantity and price == order.price:
            raise refuse(-5027)
        if order.modifications >= MOST_MODIFICATIONS:
            raise refuse(-5026)
        fills = self._admit_change(portfolio, order, quantity, price)
        if quantity <= order.executed:
            self._end(portfolio, order, CANCELED)
            return order
        order.quantity, order.price, order.update_ms = quantity, price, self.venue.now_ms
        order.modifications += 1
        self.venue.touch(order)
        self._record(ledger.AMENDED, order)
        self.venue.publish(portfolio, OrderChanged(order, "AMENDMENT"))
        if self.venue.resting[order.symbol].pop(order.order_id, None) is not None:
            self._execute(portfolio, order, fills)
        return order

    def _admit_change(
        self, portfolio: Portfolio, order: Order, quantity: Decimal, price: Decimal
    ) -> list[tuple[Decimal, Decimal]]:
        """What the changed order would be filled with at once, or raise Refusal as for a new one."""
        instrument = self.venue.instrument(order.symbol)
        request = NewOrder(order.symbol, order.side, LIMIT, quantity, price, order.time_in_force)
        request.reduce_only, request.position_side = order.reduce_only, order.position_side
        reduces = order.reduce_only or closes(order.side, order.position_side)
        self._check_status(request)
        filters.check_order(instrument, request, self.venue.quotes[order.symbol].mark, reduces=reduces)
        request.quantity = max(ZERO, quantity - order.executed)
        if reduces:
            held = portfolio.closable(order.symbol, order.position_side, order.side)
            request.quantity = min(request.quantity, held)
        else:
            self._check_changed_margin(portfolio, order, request, instrument)
        return self._matched(request, instrument, ZERO)

    def _check_changed_margin(
        self, portfolio: Portfolio, order: Order, request: NewOrder, instrument: Instrument
    ) -> None:
        """The margin rule of a new order, without what the old one claims."""
        del portfolio.open_orders[order.order_id]
        try:
            self._check_margin(portfolio, request, instrument)
        finally:
            portfolio.open_orders[order.order_id] = order

    def find(self, portfolio: Portfolio, symbol: str, order_id: int, client_order_id: str) -> Order | None:
        """The order of that number, else the newest with that client id."""
        found = portfolio.orders.get(order_id) if order_id else portfolio.by_client_id.get(client_order_id)
        return found if found is not None and found.symbol == symbol else None

    # settings

    def set_leverage(self, portfolio: Portfolio, symbol: str, leverage: int) -> Instrument:
        """Set the symbol's leverage: -4028 outside the brackets, -4161 and -2028 with a position."""
        instrument, account = self.venue.instrument(symbol), portfolio.account
        if not 1 <= leverage <= instrument.brackets[0].leverage:
            raise Refusal(-4028, f"Leverage {leverage} is not valid")
        before = account.leverage(symbol)
        held = [p for p in portfolio.open_positions() if p.symbol == symbol]
        if held and leverage < before and account.is_isolated(symbol):
            raise refuse(-4161)
        account.leverages[symbol] = leverage
        if leverage < before and self._is_overdrawn(portfolio):
            account.leverages[symbol] = before
            raise refuse(-2028)
        self.venue.touch(account)
        self.venue.record(ledger.SETTING, account.key, symbol=symbol, reason=f"leverage {leverage}")
        self.venue.publish(portfolio, LeverageChanged(symbol, leverage))
        return instrument

    def _is_overdrawn(self, portfolio: Portfolio) -> bool:
        totals = margin.summary(self.venue, portfolio)
        cross = sum((line.initial for line in totals.exposures if not line.isolated), ZERO)
        return totals.cross_wallet + totals.cross_unrealized < cross + totals.order_initial

    def set_margin_type(self, portfolio: Portfolio, symbol: str, margin_type: str) -> None:
        """ISOLATED or CROSSED: -4046 when it is already so, -4047 and -4048 with orders or a position."""
        self.venue.instrument(symbol)
        account = portfolio.account
        if account.is_isolated(symbol) == (margin_type == "ISOLATED"):
            raise refuse(-4046)
        if any(order.symbol == symbol for order in portfolio.open_orders.values()):
            raise refuse(-4047)
        if any(position.symbol == symbol for position in portfolio.open_positions()):
            raise refuse(-4048)
        account.margin_types[symbol] = margin_type
        self.venue.touch(account)
        self.venue.record(ledger.SETTING, account.key, symbol=symbol, reason=f"margin {margin_type}")

    def set_dual(self, portfolio: Portfolio, dual: bool) -> None:
        """Hedge mode on or off: -4059 when it is already so, -4067 and -4068 with orders or positions."""
        if portfolio.account.dual == dual:
            raise refuse(-4059)
        if portfolio.open_orders or portfolio.open_conditionals:
            raise refuse(-4067)
        if portfolio.open_positions():
            raise refuse(-4068)
        portfolio.account.dual = dual
        self.venue.touch(portfolio.account)
        self.venue.record(ledger.SETTING, portfolio.account.key, reason=f"dual {dual}")

    def set_multi_assets(self, portfolio: Portfolio, multi_assets: bool) -> None:
        """Multi-assets margin on or off: -4171 when it is already so."""
        if portfolio.account.multi_assets == multi_assets:
            raise refuse(-4171)
        portfolio.account.multi_assets = multi_assets
        self.venue.touch(portfolio.account)
        self.venue.record(ledger.SETTING, portfolio.account.key, reason=f"multi_assets {multi_assets}")
        self.venue.publish(portfolio, MultiAssetsChanged(multi_assets))

    def move_margin(self, portfolio: Portfolio, symbol: str, position_side: str, change: Decimal) -> None:
        """Add to an isolated position's margin, or take from it.

        -4054 without a position, -4049 for a cross one, -4050 and -4051 when there is not so much to move.
        """
        position = portfolio.position(symbol, position_side)
        if not position.quantity:
            raise refuse(-4054)
        if not portfolio.account.is_isolated(symbol):
            raise refuse(-4049)
        if change > self.available(portfolio):
            raise refuse(-4050)
        least = abs(position.cost) / portfolio.account.leverage(symbol)
        if change < 0 and position.isolated_wallet + change < least:
            raise refuse(-4051)
        position.isolated_wallet += money(change)
        self.venue.touch(position)
        reason = f"isolated margin {change:f} to {symbol}"
        self.venue.record(ledger.SETTING, portfolio.account.key, symbol=symbol, reason=reason)
        self.venue.publish(portfolio, BalancesChanged("MARGIN_TRANSFER", [position]))


def check_position_side(portfolio: Portfolio, position_side: str) -> None:
    """-4061 unless it fits the account's mode."""
    if position_side not in {BOTH, LONG, SHORT}:
        raise refuse(-4060)
    if portfolio.account.dual == (position_side == BOTH):
        raise refuse(-4061)


def _shortened(
    fills: list[tuple[Decimal, Decimal]], fraction: Decimal, instrument: Instrument
) -> list[tuple[Decimal, Decimal]]:
    wanted = sum((quantity for _, quantity in fills), ZERO) * fraction
    left = rounded(wanted, instrument.step, ROUND_FLOOR)
    kept = []
    for price, quantity in fills:
        taken = min(left, quantity)
        if taken:
            kept.append((price, taken))
        left -= taken
    return kept
