"""Entries as the desk commits them, sent to the paper exchange; what its own ledger says of them."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.utils import timezone

from accounts.models import Account
from exchange.port import Market, OrderSide
from tests.processes import PaperExchange
from trading.domain.states import AllocationOutcome, DecisionStatus, OrderPurpose, OrderStatus
from trading.models import Allocation, Decision, Order, Position
from trading.services import execution
from trading.services.bells import Bells
from trading.services.decisions import settle
from trading.services.orders import new_entry, new_stop
from trading.tests.services.journey import BTC, a_signal, fit_accounts, mark_of, now

PLACE = "POST /fapi/v1/order"
LOOK_UP = "GET /fapi/v1/order"
ABSENCE = timedelta(seconds=11)


def a_decision(**changes: Any) -> Decision:
    """An open decision on a long signal, its cap 0.2 % over the mark."""
    mark, moment = mark_of(BTC), now()
    told: dict[str, Any] = {
        "signal": a_signal(),
        "status": DecisionStatus.OPEN,
        "mark_price": mark,
        "cap_price": mark * Decimal("1.002"),
        "decided_at": moment,
        "deadline_at": moment + timedelta(seconds=15),
    }
    return Decision.objects.create(**told | changes)


def a_share(decision: Decision, account: Account, quantity: str = "0.010") -> Allocation:
    """A share not yet ordered."""
    return Allocation.objects.create(
        decision=decision,
        account=account,
        market=Market.FUTURES,
        executor="primary",
        outcome=AllocationOutcome.PENDING,
        quantity=Decimal(quantity),
        planned_risk=Decimal(100),
    )


def an_entry(
    account: Account | None = None,
    *,
    quantity: str = "0.010",
    share: Allocation | None = None,
    attempt: int = 1,
    **changes: Any,
) -> Order:
    """A committed entry well over the mark: it fills whole at once."""
    account = account or fit_accounts(1)[0]
    share = share or a_share(a_decision(), account, quantity)
    assert share.decision.deadline_at is not None
    order = new_entry(
        share,
        market=Market.FUTURES,
        executor="primary",
        symbol=BTC,
        base="BTC",
        side=OrderSide.BUY,
        quantity=Decimal(quantity),
        price=(mark_of(BTC) * Decimal("1.02")).quantize(Decimal("0.1")),
        attempt=attempt,
        deadline_at=share.decision.deadline_at,
        reserved_margin=Decimal(500),
        reserved_risk=Decimal(10),
        reserved_notional=Decimal(1500),
        is_hedge_mode=account.is_hedge_mode,
        trace_id=share.decision.trace_id,
        now=now(),
    )
    for name, value in changes.items():
        setattr(order, name, value)
    order.save()
    return order


def send(*orders: Order, at: datetime | None = None) -> Bells:
    """Submit the orders and read their rows again."""
    bells = execution.submit([order.pk for order in orders], at or now())
    for order in orders:
        order.refresh_from_db()
    return bells


def look_up(order: Order) -> Bells:
    """Look the order up as if its wait were over, and read its row again."""
    Order.objects.filter(pk=order.pk).update(due_at=None)
    bells = execution.resolve([order.pk], now()).add(execution.refresh([order.pk], now()))
    order.refresh_from_db()
    return bells


def grow_older(order: Order, by: timedelta = ABSENCE) -> None:
    """Set back what an unclear order remembers of the wall clock."""
    order.refresh_from_db()
    for name in ("submitted_at", "first_look_at", "unknown_since", "lease_until"):
        if getattr(order, name) is not None:
            Order.objects.filter(pk=order.pk).update(**{name: getattr(order, name) - by})
    order.refresh_from_db()


def lapse(order: Order) -> None:
    """Let the lease of a claim end, as if its owner had died."""
    Order.objects.filter(pk=order.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    order.refresh_from_db()


def told_of(paper: PaperExchange, account: Account, kind: str = "PLACED") -> list[dict[str, Any]]:
    """What the exchange's own ledger says of the account."""
    return [row for row in paper.ledger() if row["account"] == account.name and row["kind"] == kind]


def share_of(order: Order) -> Allocation:
    """The share the order is an attempt of, as its row is now."""
    return Allocation.objects.select_related("decision").get(orders=order)


def settled(order: Order) -> Allocation:
    """The order's share once its decision was settled."""
    settle([share_of(order).decision_id], now())
    return share_of(order)


def a_held_position(account: Account | None = None) -> Position:
    """A long really held at the exchange, no stop of it sent yet."""
    order = an_entry(account)
    send(order)
    assert order.status == OrderStatus.FILLED, order.message
    order.refresh_from_db()
    assert order.position is not None
    return order.position


def a_resting_stop(position: Position, *, below_pct: str = "1") -> Order:
    """A working stop of the whole position, resting at the exchange."""
    trigger = (mark_of(BTC) * (1 - Decimal(below_pct) / 100)).quantize(Decimal("0.1"))
    stop = new_stop(
        position,
        purpose=OrderPurpose.WORKING_STOP,
        trigger_price=trigger,
        quantity=position.quantity,
        close_position=False,
        now=now(),
    )
    stop.save()
    send(stop)
    assert stop.status == OrderStatus.ACKNOWLEDGED, stop.message
    return stop
