"""The conditional store: orders that wait for a trigger and then become ordinary ones."""

from collections.abc import Callable
from decimal import Decimal

from paper import ledger
from paper.engine import filters
from paper.engine.book import NO_MATCH, Quote, matched_price
from paper.engine.events import ConditionalChanged
from paper.engine.futures import UNTOUCHED, FuturesMarket, Tampering, check_position_side
from paper.engine.orders import (
    BOTH,
    BUY,
    CANCELED,
    CONDITIONAL_TYPES,
    EXPIRED,
    FINISHED,
    LIMIT,
    MARKET,
    NEW,
    OPEN,
    REJECTED,
    STOPS,
    TRAILING,
    TRIGGERED,
    TRIGGERING,
    ZERO,
    Conditional,
    NewConditional,
    NewOrder,
    Order,
)
from paper.engine.refusals import Refusal, refuse
from paper.engine.rows import of_conditional
from paper.engine.venue import Portfolio, Venue, closes
from paper.symbols import Instrument

MAX_OPEN = 200
LIMIT_TYPES = frozenset({"STOP", "TAKE_PROFIT"})
HUNDRED = Decimal(100)
LEAST_CALLBACK, MOST_CALLBACK = Decimal("0.1"), Decimal(20)
TIED = "GTE_GTC"  # ends with its position


class ConditionalStore:
    """Conditional orders of every account; `reject_trigger` and `tampering` are fault switches."""

    def __init__(self, venue: Venue, futures: FuturesMarket) -> None:
        self.venue = venue
        self.futures = futures
        futures.on_flat = self.expire_tied
        futures.on_ended = self.finish
        futures.on_child = self.adopt
        self.reject_trigger: Callable[[Conditional], bool] = lambda _order: False
        self.tampering: Callable[[Conditional], Tampering] = lambda _order: UNTOUCHED

    # placement

    def place(self, portfolio: Portfolio, request: NewConditional) -> Conditional:
        """Accept a conditional order, or raise Refusal. Margin is checked at its trigger, not here."""
        instrument = self.venue.instrument(request.symbol)
        self.futures.check_open(request.symbol)
        self._check_shape(portfolio, request, instrument)
        self._check_open(portfolio, request)
        order = self._built(portfolio, request)
        if self._reached(order, self._reference(order)) and order.type != TRAILING:
            raise refuse(-2021)
        portfolio.conditionals[order.algo_id] = order
        portfolio.open_conditionals[order.algo_id] = order
        portfolio.conditional_by_client_id[order.client_algo_id] = order
        self.venue.wait(order)
        self._step(portfolio, order, NEW, ledger.PLACED)
        return order

    def _check_shape(self, portfolio: Portfolio, request: NewConditional, instrument: Instrument) -> None:
        if request.type not in CONDITIONAL_TYPES:
            raise refuse(-1116)
        check_position_side(portfolio, request.position_side)
        filters.check_client_id(request.client_algo_id)
        if request.reduce_only and request.position_side != BOTH:
            raise refuse(-1106)
        if request.close_position:
            self._check_close_position(request)
        else:
            kind = LIMIT if request.type in LIMIT_TYPES else MARKET
            filters.check_quantity(instrument, request.quantity, kind)
        if request.type == TRAILING:
            _check_callback(request, instrument)
        elif request.callback_percent is not None or request.activate_price is not None:
            raise Refusal(-1106, "Parameter 'callbackrate' sent when not required.")
        elif request.trigger_price is None:
            raise refuse(-1102)
        else:
            filters.check_price(instrument, request.trigger_price)
        if request.type in LIMIT_TYPES:
            self._check_limit(request, instrument)
        elif not request.close_position:
            self._check_notional(request, instrument)

    def _check_close_position(self, request: NewConditional) -> None:
        if request.type in LIMIT_TYPES or request.type == TRAILING:
            raise refuse(-4136)
        if request.quantity:
            raise refuse(-4137)
        if request.reduce_only:
            raise refuse(-1106)
        if request.position_side != BOTH and not closes(request.side, request.position_side):
            raise refuse(-4136)

    def _check_limit(self, request: NewConditional, instrument: Instrument) -> None:
        """A price matched to the book is known at the trigger only, and reckoned with as the trigger's."""
        if request.price_match != NO_MATCH:
            price = request.trigger_price
        else:
            price = request.price
            if price is not None:
                filters.check_price(instrument, price)
        if price is None:
            raise refuse(-1102)
        if not request.reduce_only and not closes(request.side, request.position_side):
            filters.check_notional(instrument, price, request.quantity)

    def _check_notional(self, request: NewConditional, instrument: Instrument) -> None:
        if not request.reduce_only and not closes(request.side, request.position_side):
            price = request.trigger_price or self.venue.quotes[request.symbol].mark
            filters.check_notional(instrument, price, request.quantity)

    def _check_open(self, portfolio: Portfolio, request: NewConditional) -> None:
        opened = portfolio.open_conditionals
        known = portfolio.conditional_by_client_id.get(request.client_algo_id)
        if request.client_algo_id and known is not None and known.is_open:
            raise refuse(-4116)
        if len(opened) >= MAX_OPEN:
            raise refuse(-4045)
        if request.close_position and any(_is_same_protection(other, request) for other in opened.values()):
            raise refuse(-4130)

    def _built(self, portfolio: Portfolio, request: NewConditional) -> Conditional:
        venue = self.venue
        number = venue.next_id()
        return Conditional(
            algo_id=number,
            account=portfolio.account.key,
            symbol=request.symbol,
            client_algo_id=request.client_algo_id or filters.generated_client_id(number),
            side=request.side,
            type=request.type,
            time_in_force=request.time_in_force,
            quantity=request.quantity,
            price=request.price or ZERO,
            trigger_price=request.trigger_price or ZERO,
            working_type=request.working_type,
            close_position=request.close_position,
            reduce_only=request.reduce_only,
            price_protect=request.price_protect,
            position_side=request.position_side,
            time_ms=venue.now_ms,
            update_ms=venue.now_ms,
            activate_price=request.activate_price or ZERO,
            callback_percent=request.callback_percent or ZERO,
            good_till_ms=request.good_till_ms,
            self_trade_prevention=request.self_trade_prevention,
            price_match=request.price_match,
        )

    # triggers

    def _reference(self, order: Conditional) -> Decimal:
        quote = self.venue.quotes[order.symbol]
        return quote.mark if order.working_type == "MARK_PRICE" else quote.last

    def _reached(self, order: Conditional, reference: Decimal) -> bool:
        if order.fires_upwards:
            return reference >= order.trigger_price
        return reference <= order.trigger_price

    def on_quote(self, quote: Quote) -> None:
        """Fire everything this symbol's new mark and last price meet."""
        waiting = self.venue.waiting.get(quote.symbol)
        if not waiting:
            return
        met = self.venue.on_mark[quote.symbol].take(quote.mark) + self.venue.on_last[quote.symbol].take(
            quote.last
        )
        for algo_id in met:
            order = waiting.get(algo_id)
            if order is not None:
                self._fire_or_wait(order, quote)
        for order in list(self.venue.trailing[quote.symbol].values()):
            self._trail(order)
        self._expire_overdue(quote.symbol)

    def _fire_or_wait(self, order: Conditional, quote: Quote) -> None:
        """A protected order waits while mark and last are further apart than the symbol allows."""
        apart = abs(quote.mark - quote.last) / quote.mark
        if order.price_protect and apart > self.venue.markets.futures[order.symbol].trigger_protect:
            self.venue.wait(order)
        else:
            self.fire(order)

    def _trail(self, order: Conditional) -> None:
        reference, sells = self._reference(order), order.side != BUY
        if not order.activated:
            reached = reference >= order.activate_price if sells else reference <= order.activate_price
            if order.activate_price and not reached:
                return
            order.activated, order.extreme = True, reference
            self._step(self.venue.portfolios[order.account], order, NEW)
        order.extreme = max(order.extreme, reference) if sells else min(order.extreme, reference)
        self.venue.touch(order)
        away = order.callback_percent / HUNDRED
        if reference <= order.extreme * (1 - away) if sells else reference >= order.extreme * (1 + away):
            self.fire(order)

    def _expire_overdue(self, symbol: str) -> None:
        for order in list(self.venue.dated[symbol].values()):
            if self.venue.now_ms >= order.good_till_ms:
                self._end(order, EXPIRED, "good till date")

    def fire(self, order: Conditional) -> None:
        """Turn the order into an ordinary one; a refusal of that one is this one's REJECTED."""
        portfolio = self.venue.portfolios[order.account]
        order.trigger_ms = self.venue.now_ms
        self._step(portfolio, order, TRIGGERING, ledger.TRIGGERED)
        quantity = order.quantity
        if order.close_position:
            quantity = portfolio.closable(order.symbol, order.position_side, order.side)
            if not quantity:
                self._end(order, EXPIRED, "position is flat")
                return
        if self.reject_trigger(order):
            self._end(order, REJECTED, "Order was refused by the matching engine")
            return
        try:
            self._become_ordinary(portfolio, order, quantity)
        except Refusal as refusal:
            self._end(order, REJECTED, refusal.message)

    def _become_ordinary(self, portfolio: Portfolio, order: Conditional, quantity: Decimal) -> None:
        is_limit = order.type in LIMIT_TYPES
        if order.price_match != NO_MATCH:
            instrument, quote = self.venue.instrument(order.symbol), self.venue.quotes[order.symbol]
            order.price = matched_price(instrument, quote.last, order.side, order.price_match)
        request = NewOrder(
            symbol=order.symbol,
            side=order.side,
            type=LIMIT if is_limit else MARKET,
            quantity=quantity,
            price=order.price if is_limit else None,
            time_in_force=order.time_in_force if is_limit and order.time_in_force != TIED else "GTC",
            client_order_id=order.client_algo_id,
            reduce_only=order.reduce_only or (order.close_position and order.position_side == BOTH),
            position_side=order.position_side,
            good_till_ms=order.good_till_ms if is_limit else 0,
            self_trade_prevention=order.self_trade_prevention,
            price_match=order.price_match,
        )
        order.actual_type = request.type
        self.venue.forget(order)
        self.futures.place(portfolio, request, self.tampering(order), origin=order)

    def finish(self, portfolio: Portfolio, child: Order) -> None:
        """The ordinary order that came of a conditional one has ended: so has its parent."""
        order = portfolio.conditionals.get(child.algo_id) if child.algo_id else None
        if order is None or child.status in OPEN:
            return
        order.actual_price, order.actual_quantity = child.average_price, child.executed
        self._step(portfolio, order, FINISHED)

    def adopt(self, portfolio: Portfolio, child: Order) -> None:
        """The ordinary order exists: its parent is TRIGGERED."""
        order = portfolio.conditionals[child.algo_id]
        order.order_id = child.order_id
        self._step(portfolio, order, TRIGGERED)

    # endings

    def cancel(self, order: Conditional) -> None:
        """End it by its owner's wish: -2011 when ended, -4117 while it is firing."""
        if order.status == TRIGGERING:
            raise refuse(-4117)
        if order.status != NEW:
            raise refuse(-2011)
        self._end(order, CANCELED)

    def cancel_all(self, portfolio: Portfolio, symbol: str) -> None:
        """End every waiting order of the symbol."""
        for order in list(portfolio.open_conditionals.values()):
            if order.symbol == symbol:
                self._end(order, CANCELED)

    def expire_tied(self, portfolio: Portfolio, symbol: str, position_side: str) -> None:
        """Close-position and position-tied orders end with their position."""
        for order in list(portfolio.open_conditionals.values()):
            tied = order.close_position or order.time_in_force == TIED
            if (
                tied
                and order.symbol == symbol
                and order.position_side == position_side
                and order.status == NEW
            ):
                self._end(order, EXPIRED, "position is flat")

    def find(self, portfolio: Portfolio, algo_id: int, client_algo_id: str) -> Conditional | None:
        """The order of that number, else the newest with that client id."""
        if algo_id:
            return portfolio.conditionals.get(algo_id)
        return portfolio.conditional_by_client_id.get(client_algo_id)

    def _end(self, order: Conditional, status: str, reason: str = "") -> None:
        order.reject_reason = reason
        self.venue.forget(order)
        self._step(self.venue.portfolios[order.account], order, status, status)

    def _step(self, portfolio: Portfolio, order: Conditional, status: str, kind: str = "") -> None:
        order.status, order.update_ms = status, self.venue.now_ms
        self.venue.touch(order)
        if kind:
            self._record(kind, order)
        self.venue.publish(portfolio, ConditionalChanged(order))

    def _record(self, kind: str, order: Conditional) -> None:
        self.venue.record(kind, order.account, **of_conditional(order))


def _check_callback(request: NewConditional, instrument: Instrument) -> None:
    if request.callback_percent is None:
        raise Refusal(-1102, "Mandatory parameter 'callbackrate' was not sent, was empty/null, or malformed.")
    if not LEAST_CALLBACK <= request.callback_percent <= MOST_CALLBACK:
        raise refuse(-2007)
    if request.activate_price is not None:
        filters.check_price(instrument, request.activate_price)


def _is_same_protection(other: Conditional, request: NewConditional) -> bool:
    family = "stop" if request.type in STOPS else "target"
    return (
        other.close_position
        and other.family == family
        and (other.symbol, other.side, other.position_side)
        == (request.symbol, request.side, request.position_side)
    )
