"""The spot market: balances that open orders lock, and the order types a second route needs."""

from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal

from paper import ledger
from paper.engine import filters
from paper.engine.book import best, levels, rounded, walk
from paper.engine.events import SpotBalancesChanged, SpotOrderChanged
from paper.engine.futures import UNTOUCHED, Tampering
from paper.engine.orders import (
    BUY,
    CANCELED,
    EXPIRED,
    FILLED,
    MARKET,
    OPEN,
    PARTIALLY_FILLED,
    SELL,
    ZERO,
    SpotOrder,
)
from paper.engine.refusals import Refusal, refuse
from paper.engine.rows import of_spot_order
from paper.engine.venue import Portfolio, Venue, money
from paper.symbols import Instrument

SHORT_OF_BALANCE = "Account has insufficient balance for requested action."
STOP_TYPES = frozenset({"STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT", "STOP_LOSS", "TAKE_PROFIT"})
MARKET_LIKE = frozenset({MARKET, "STOP_LOSS", "TAKE_PROFIT"})


@dataclass(slots=True)
class NewSpotOrder:
    """A spot order as asked for; `quote_quantity` spends or earns that much quote at market."""

    symbol: str
    side: str
    type: str
    quantity: Decimal = ZERO
    quote_quantity: Decimal = ZERO
    price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: str = "GTC"
    client_order_id: str = ""


class SpotMarket:
    """Spot orders of every account over one venue."""

    def __init__(self, venue: Venue) -> None:
        self.venue = venue

    def last(self, symbol: str) -> Decimal:
        """The last price, on the spot market's own tick."""
        instrument = self.venue.spot_instrument(symbol)
        return rounded(self.venue.quotes[symbol].last, instrument.tick, ROUND_FLOOR)

    # acceptance

    def place(
        self, portfolio: Portfolio, request: NewSpotOrder, tampering: Tampering = UNTOUCHED
    ) -> SpotOrder:
        """Accept and match an order, or raise Refusal with nothing changed."""
        instrument, waits = self.venue.spot_instrument(request.symbol), request.type in STOP_TYPES
        fills = self.admit(portfolio, request)
        if tampering.fraction is not None:
            fills = [
                (price, rounded(q * tampering.fraction, instrument.step, ROUND_FLOOR)) for price, q in fills
            ]
        order = self._accept(portfolio, instrument, request, working=not waits)
        if tampering.hold_ms and not waits:
            order.hold_until_ms = self.venue.now_ms + tampering.hold_ms
            self.venue.spot_held_back[order.order_id] = order
        elif waits:
            self.venue.spot_stops[order.symbol][order.order_id] = order
            self.venue.publish(portfolio, SpotBalancesChanged([instrument.base, instrument.quote]))
        else:
            self._execute(portfolio, instrument, order, [entry for entry in fills if entry[1]])
        return order

    def admit(self, portfolio: Portfolio, request: NewSpotOrder) -> list[tuple[Decimal, Decimal]]:
        """The prices and quantities an order would be filled with at once, or raise Refusal.

        Nothing is placed; the quantity a `quote_quantity` pays for is filled in.
        """
        instrument = self.venue.spot_instrument(request.symbol)
        filters.check_client_id(request.client_order_id)
        known = portfolio.spot_by_client_id.get(request.client_order_id) if request.client_order_id else None
        if known is not None and known.order_id in portfolio.open_spot_orders:
            raise Refusal(-2010, "Duplicate order sent.")
        if request.quote_quantity:
            request.quantity = self._for_quote(instrument, request)
        self._check_filters(instrument, request)
        if request.type in STOP_TYPES:
            self._check_stop(request)
            fills = []
        else:
            fills = self._matched(instrument, request)
        self._check_balance(portfolio, instrument, request, fills)
        return fills

    def _for_quote(self, instrument: Instrument, request: NewSpotOrder) -> Decimal:
        """The quantity that much quote buys or needs sold, walking the book."""
        left, quantity = request.quote_quantity, ZERO
        for price, depth in levels(instrument, self.last(request.symbol), request.side):
            part = min(depth, left / price)
            quantity += part
            left -= part * price
            if left <= 0:
                break
        return rounded(quantity, instrument.step, ROUND_FLOOR)

    def _check_filters(self, instrument: Instrument, request: NewSpotOrder) -> None:
        try:
            filters.check_quantity(instrument, request.quantity, request.type)
        except Refusal as refusal:
            raise Refusal(-1013, "Filter failure: LOT_SIZE") from refusal
        for price in (request.price, request.stop_price):
            if price is not None and (price <= 0 or price % instrument.tick):
                raise Refusal(-1013, "Filter failure: PRICE_FILTER")
        price = request.price or request.stop_price or self.last(request.symbol)
        notional = price * request.quantity
        if notional < instrument.min_notional or notional > instrument.max_notional:
            raise Refusal(-1013, "Filter failure: NOTIONAL")
        last = self.last(request.symbol)
        if request.price is not None and not last / 5 <= request.price <= last * 5:
            raise Refusal(-1013, "Filter failure: PERCENT_PRICE_BY_SIDE")

    def _check_stop(self, request: NewSpotOrder) -> None:
        if request.stop_price is None or (request.price is None and request.type.endswith("LIMIT")):
            raise refuse(-1102)
        if self._reached(request.side, request.type, request.symbol, request.stop_price):
            raise Refusal(-2010, "Stop price would trigger immediately.")

    def _reached(self, side: str, order_type: str, symbol: str, stop_price: Decimal) -> bool:
        last = self.venue.quotes[symbol].last
        upwards = (side == BUY) == order_type.startswith("STOP_LOSS")
        return last >= stop_price if upwards else last <= stop_price

    def _matched(self, instrument: Instrument, request: NewSpotOrder) -> list[tuple[Decimal, Decimal]]:
        last = self.last(request.symbol)
        if request.type == MARKET:
            limit = last * 2 if request.side == BUY else ZERO
        else:
            limit = request.price or ZERO
        fills = walk(instrument, last, request.side, request.quantity, limit)
        if request.type == "LIMIT_MAKER" and fills:
            raise Refusal(-2010, "Order would immediately match and take.")
        if request.time_in_force == "FOK" and sum((q for _, q in fills), ZERO) < request.quantity:
            return []
        return fills

    def _check_balance(
        self,
        portfolio: Portfolio,
        instrument: Instrument,
        request: NewSpotOrder,
        fills: list[tuple[Decimal, Decimal]],
    ) -> None:
        if request.side == SELL:
            short = portfolio.balance(instrument.base).free < request.quantity
        elif request.price is not None:
            short = portfolio.balance(instrument.quote).free < request.price * request.quantity
        else:
            short = portfolio.balance(instrument.quote).free < sum((p * q for p, q in fills), ZERO)
        if short:
            raise Refusal(-2010, SHORT_OF_BALANCE)

    def _accept(
        self, portfolio: Portfolio, instrument: Instrument, request: NewSpotOrder, *, working: bool
    ) -> SpotOrder:
        venue = self.venue
        number = venue.next_id()
        order = SpotOrder(
            order_id=number,
            account=portfolio.account.key,
            symbol=request.symbol,
            client_order_id=request.client_order_id or filters.generated_client_id(number),
            side=request.side,
            type=request.type,
            time_in_force=request.time_in_force,
            quantity=request.quantity,
            price=request.price or ZERO,
            stop_price=request.stop_price or ZERO,
            time_ms=venue.now_ms,
            update_ms=venue.now_ms,
            quote_quantity=request.quote_quantity,
            working=working,
            working_ms=venue.now_ms if working else 0,
        )
        portfolio.spot_orders[number] = portfolio.open_spot_orders[number] = order
        portfolio.spot_by_client_id[order.client_order_id] = order
        self._lock(portfolio, instrument, order)
        self._record(ledger.PLACED, order)
        venue.publish(portfolio, SpotOrderChanged(order, "NEW"))
        return order

    def _lock(self, portfolio: Portfolio, instrument: Instrument, order: SpotOrder) -> None:
        """A sell locks its quantity, a limit buy its cost; a market buy pays as it fills."""
        asset = instrument.base if order.side == SELL else instrument.quote
        order.locked = order.quantity if order.side == SELL else order.quantity * order.price
        balance = portfolio.balance(asset)
        balance.free -= order.locked
        balance.locked += order.locked
        self.venue.touch(balance)
        self.venue.touch(order)

    def _record(self, kind: str, order: SpotOrder, reason: str = "") -> None:
        self.venue.record(kind, order.account, **of_spot_order(order), reason=reason)

    # execution

    def _execute(
        self,
        portfolio: Portfolio,
        instrument: Instrument,
        order: SpotOrder,
        fills: list[tuple[Decimal, Decimal]],
    ) -> None:
        for price, quantity in fills:
            self._fill(portfolio, instrument, order, price, quantity, maker=False)
        if order.status not in OPEN:
            self._close(portfolio, order)
        elif order.type in MARKET_LIKE or order.time_in_force in {"IOC", "FOK"}:
            self._end(portfolio, order, EXPIRED, "the book within the limit was too thin")
        else:
            self.venue.spot_resting[order.symbol][order.order_id] = order
        self.venue.publish(portfolio, SpotBalancesChanged([instrument.base, instrument.quote]))

    def _fill(
        self,
        portfolio: Portfolio,
        instrument: Instrument,
        order: SpotOrder,
        price: Decimal,
        quantity: Decimal,
        *,
        maker: bool,
    ) -> None:
        """Move base, quote and fee; the fee is taken from what is received."""
        base, quote = portfolio.balance(instrument.base), portfolio.balance(instrument.quote)
        cost = quantity * price
        received, given = (base, quote) if order.side == BUY else (quote, base)
        gain, price_paid = (quantity, cost) if order.side == BUY else (cost, quantity)
        fee = money(gain * self.venue.settings.spot_fee)
        reserved = quantity if order.side == SELL else quantity * order.price
        received.free += gain - fee
        given.locked -= reserved
        given.free += reserved - price_paid
        order.locked -= reserved
        order.executed += quantity
        order.cost += cost
        order.status = FILLED if order.remaining <= 0 else PARTIALLY_FILLED
        order.update_ms = self.venue.now_ms
        for entity in (base, quote, order):
            self.venue.touch(entity)
        executed = {
            "quantity": quantity,
            "price": price,
            "fill_id": self.venue.next_id(),
            "maker": maker,
            "fee": fee,
            "fee_asset": received.asset,
        }
        row = self.venue.record(ledger.FILL, order.account, **(of_spot_order(order) | executed))
        self.venue.publish(portfolio, SpotOrderChanged(order, "TRADE", row))

    def _close(self, portfolio: Portfolio, order: SpotOrder) -> None:
        portfolio.open_spot_orders.pop(order.order_id, None)
        self.venue.spot_resting[order.symbol].pop(order.order_id, None)
        self.venue.spot_stops[order.symbol].pop(order.order_id, None)
        self.venue.spot_held_back.pop(order.order_id, None)
        self._unlock(portfolio, order)

    def _unlock(self, portfolio: Portfolio, order: SpotOrder) -> None:
        if not order.locked:
            return
        instrument = self.venue.markets.spot[order.symbol]
        balance = portfolio.balance(instrument.base if order.side == SELL else instrument.quote)
        balance.locked -= order.locked
        balance.free += order.locked
        order.locked = ZERO
        self.venue.touch(balance)
        self.venue.touch(order)

    def _end(self, portfolio: Portfolio, order: SpotOrder, status: str, reason: str = "") -> None:
        order.status, order.update_ms = status, self.venue.now_ms
        self._record(ledger.CANCELED if status == CANCELED else ledger.EXPIRED, order, reason)
        self._close(portfolio, order)
        self.venue.touch(order)
        self.venue.publish(portfolio, SpotOrderChanged(order, status))

    def cancel(self, portfolio: Portfolio, order: SpotOrder) -> SpotOrder:
        """End an open order by its owner's wish; -2011 when it is not open."""
        if order.order_id not in portfolio.open_spot_orders:
            raise refuse(-2011)
        self._end(portfolio, order, CANCELED)
        self.venue.publish(portfolio, SpotBalancesChanged(list(portfolio.spot)))
        return order

    def on_quote(self, symbol: str) -> None:
        """Wake stops the last price has met, then fill resting orders the book has reached."""
        if symbol not in self.venue.markets.spot:
            return
        for portfolio, order in self._waiting_stops(symbol):
            if self._reached(order.side, order.type, symbol, order.stop_price):
                self._wake(portfolio, order)
        resting = self.venue.spot_resting.get(symbol)
        if resting:
            instrument = self.venue.markets.spot[symbol]
            for order in list(resting.values()):
                self._match_resting(instrument, order)

    def _waiting_stops(self, symbol: str) -> list[tuple[Portfolio, SpotOrder]]:
        stops = self.venue.spot_stops[symbol]
        return [(self.venue.portfolios[order.account], order) for order in stops.values()]

    def _wake(self, portfolio: Portfolio, order: SpotOrder) -> None:
        self.venue.spot_stops[order.symbol].pop(order.order_id, None)
        instrument = self.venue.markets.spot[order.symbol]
        order.working, order.working_ms = True, self.venue.now_ms
        self._record(ledger.TRIGGERED, order)
        self._execute_now(portfolio, instrument, order)

    def release_held_back(self) -> None:
        """Execute orders a fault rule made wait."""
        for order in list(self.venue.spot_held_back.values()):
            if self.venue.now_ms >= order.hold_until_ms:
                del self.venue.spot_held_back[order.order_id]
                instrument = self.venue.markets.spot[order.symbol]
                self._execute_now(self.venue.portfolios[order.account], instrument, order)

    def _execute_now(self, portfolio: Portfolio, instrument: Instrument, order: SpotOrder) -> None:
        """What the book gives by now; nothing when a market buy can no longer be paid."""
        limit = order.price or (self.last(order.symbol) * 2 if order.side == BUY else ZERO)
        fills = walk(instrument, self.last(order.symbol), order.side, order.quantity, limit)
        cost = sum((price * quantity for price, quantity in fills), ZERO)
        if order.side == BUY and not order.locked and cost > portfolio.balance(instrument.quote).free:
            fills = []
        self.venue.touch(order)
        self._execute(portfolio, instrument, order, fills)

    def _match_resting(self, instrument: Instrument, order: SpotOrder) -> None:
        top = best(instrument, self.last(order.symbol), order.side)
        if order.price >= top if order.side == BUY else order.price <= top:
            self.fill_resting(instrument, order)

    def fill_resting(self, instrument: Instrument, order: SpotOrder) -> None:
        """Fill an open order whole, at its own price."""
        portfolio = self.venue.portfolios[order.account]
        self._fill(portfolio, instrument, order, order.price, order.remaining, maker=True)
        self._close(portfolio, order)
        self.venue.publish(portfolio, SpotBalancesChanged([instrument.base, instrument.quote]))

    def find(
        self, portfolio: Portfolio, symbol: str, order_id: int, client_order_id: str
    ) -> SpotOrder | None:
        """The order of that number, else the newest with that client id."""
        if order_id:
            found = portfolio.spot_orders.get(order_id)
        else:
            found = portfolio.spot_by_client_id.get(client_order_id)
        return found if found is not None and found.symbol == symbol else None
