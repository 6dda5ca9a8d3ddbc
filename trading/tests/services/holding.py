"""Positions really held at the paper exchange, and the bells of their services answered without a broker."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

from accounts.models import Account
from accounts.services.gateways import gateway_for
from exchange.budget import Priority, priority
from exchange.loop import IoLoop
from exchange.port import Market, OrderReport, OrderRequest, OrderSide, OrderType, PositionReport
from tests.processes import PaperExchange
from trading.domain.states import OPEN, OrderPurpose, PositionStatus
from trading.models import Order, Position
from trading.services import closing, execution, protection, watching
from trading.services.allocation import allocate
from trading.services.bells import Bells
from trading.services.fills import record_fills
from trading.services.selection import request
from trading.services.valkey import valkey
from trading.services.watcher import Watcher
from trading.tests.services.journey import BTC, a_signal, fit_accounts, now

MARK = Decimal(100_000)
ZERO = Decimal(0)
SECONDS = 10.0
ROUNDS = 12


@contextmanager
def pinned_mark(exchange: PaperExchange) -> Iterator[PaperExchange]:
    """The mark of BTC held at 100,000, and no fault left behind."""
    exchange.set_mark("BTCUSDT", str(MARK))
    for key in valkey().scan_iter("desk:budget:*"):
        valkey().delete(key)  # a minute of tests reads more than a minute of a desk may
    try:
        yield exchange
    finally:
        exchange.delete("/paper/faults")
        exchange.set_mark("BTCUSDT", None)


def answer(bells: Bells, at: datetime | None = None) -> None:
    """Do what bells ask for until nothing is rung any more."""
    for _ in range(ROUNDS):
        at_now = at or now()
        asked = bells
        bells = Bells()
        if asked.entries or asked.exits:
            bells.add(execution.submit([*asked.entries, *asked.exits], at_now))
        if asked.positions:
            bells.add(look_after(asked.positions, at_now))
        if asked.cancel:
            bells.add(execution.cancel(asked.cancel, at_now))
        if not (bells.entries or bells.exits or bells.positions or bells.cancel):
            return
    raise AssertionError(f"still ringing after {ROUNDS} rounds: {bells}")


def look_after(position_ids: list[int], at: datetime) -> Bells:
    """One visit to positions, as the task pays it."""
    bells = watching.attend(position_ids, at)
    bells.add(closing.continue_closing(position_ids, at))
    return bells.add(protection.protect(position_ids, at))


def visit(position: Position, *, after_seconds: float = 0, at: datetime | None = None) -> Position:
    """Look after one position and answer everything that rings; the fresh row."""
    moment = (at or now()) + timedelta(seconds=after_seconds)
    answer(look_after([position.pk], moment), moment)
    return fresh(position)


def fresh(position: Position) -> Position:
    """The row as it is now."""
    return Position.objects.select_related("account").get(pk=position.pk)


def enter(
    side: str = "LONG",
    symbol: str = BTC,
    *,
    account: Account | None = None,
    executors: tuple[Market, ...] = (Market.FUTURES,),
    at: datetime | None = None,
) -> Position:
    """A position entered at the market, its hard stop committed and not yet sent."""
    account = account or fit_accounts(1, symbol, executors=executors)[0]
    decision = request(a_signal(symbol, side), at or now())
    entries = allocate(decision.pk, at or now()).entries
    execution.submit(entries, at or now())
    found = Position.objects.filter(account=account, status=PositionStatus.OPEN).first()
    assert found is not None, [
        (one.account.name, one.outcome, one.code, one.detail) for one in decision.allocations.all()
    ] + list(Order.objects.values_list("status", "code", "message"))
    return found


def hold(side: str = "LONG", symbol: str = BTC, **how: Any) -> Position:
    """A position entered and protected: its stop was seen at the exchange."""
    position = enter(side, symbol, **how)
    answer(Bells(exits=ids_of(position, live=True)), how.get("at"))
    return visit(position, at=how.get("at"))


def orders_of(position: Position, *purposes: OrderPurpose) -> list[Order]:
    """The position's orders but its entry, oldest first."""
    chosen = Order.objects.filter(position=position).exclude(purpose=OrderPurpose.ENTRY)
    return list((chosen.filter(purpose__in=purposes) if purposes else chosen).order_by("pk"))


def ids_of(position: Position, *purposes: OrderPurpose, live: bool = False) -> list[int]:
    """Their ids; only of those that still need someone when `live`."""
    return [order.pk for order in orders_of(position, *purposes) if not live or order.status in OPEN]


def stops_there(account: Account, symbol: str = BTC, market: Market = Market.FUTURES) -> list[OrderReport]:
    """The stops that rest at the exchange."""
    gateway = gateway_for(account, market)
    with priority(Priority.EXIT):
        return list(IoLoop.current().run(gateway.fetch_open_orders(symbol, is_conditional=True), SECONDS))


def held_there(account: Account) -> list[PositionReport]:
    """The positions the exchange has."""
    with priority(Priority.EXIT):
        return list(IoLoop.current().run(gateway_for(account, Market.FUTURES).fetch_positions(), SECONDS))


def tick(watcher: Watcher, price: Decimal, symbol: str = BTC, at: datetime | None = None) -> None:
    """One mark seen by the watcher, and everything it rings answered."""
    moment = at or now()
    answer(watcher.on_marks({symbol: price}, moment), moment)


def at_exchange(position: Position, request: OrderRequest) -> OrderReport:
    """An order sent past the desk, as a person at the exchange's own page would."""
    gateway = gateway_for(position.account, Market(position.market))
    return IoLoop.current().run(gateway.submit_order(request), SECONDS)


def sell_elsewhere(position: Position, quantity: Decimal) -> OrderReport:
    """Part of a long sold by somebody else."""
    return at_exchange(position, stranger(position, OrderSide.SELL, quantity))


def stranger(position: Position, side: OrderSide, quantity: Decimal) -> OrderRequest:
    """A market order that is not ours."""
    return OrderRequest(
        client_order_id=f"stranger{uuid4().hex[:16]}",
        symbol=position.symbol,
        side=side,
        type=OrderType.MARKET,
        quantity=quantity,
        timestamp_ms=int(now().timestamp() * 1000),
    )


def cancel_elsewhere(position: Position, order: Order) -> None:
    """A stop taken away at the exchange without our row knowing."""
    gateway = gateway_for(position.account, Market(position.market))
    cancel = gateway.cancel_order(order.symbol, order.client_order_id, is_conditional=True)
    assert IoLoop.current().run(cancel, SECONDS)


def read_fills(position: Position) -> Bells:
    """Every execution on the symbol since before the entry, booked."""
    gateway = gateway_for(position.account, Market(position.market))
    since = position.opened_at - timedelta(seconds=5)
    reports = IoLoop.current().run(gateway.fetch_fills(position.symbol, since=since), SECONDS)
    return record_fills(position.account, Market(position.market), reports, now())


def codes_of(position: Position) -> list[str]:
    """The steps of its life."""
    return list(position.events.order_by("pk").values_list("code", flat=True))
