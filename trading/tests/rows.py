"""Rows as the desk would have written them, for what reads them."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from accounts.models import Account, Health
from accounts.services.registry import create_account
from exchange.port import Market, OrderSide, OrderType
from trading.domain.states import (
    AllocationOutcome,
    DecisionStatus,
    OrderPurpose,
    OrderStatus,
    PositionStatus,
    Protection,
)
from trading.models import Allocation, Decision, Order, Position, Signal, SignalSource

SYMBOL = "BTC/USDT:USDT"
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def account(name: str = "alpha", **values: Any) -> Account:
    """A healthy paper account with 10,000 in its wallet; its key and secret are its name."""
    key = name.replace(" ", "-")
    made = create_account(name, key, key)
    told = {
        "health": Health.HEALTHY,
        "wallet_balance": Decimal(10_000),
        "unrealized_profit": Decimal(0),
        "available_balance": Decimal(10_000),
        "spot_wallet": Decimal(10_000),
        "fresh_at": NOON,
        "verified_at": NOON,
    }
    for field, value in (told | values).items():
        setattr(made, field, value)
    made.save()
    return made


def signal(external_id: str = "s-1", *, is_demonstration: bool = False, **values: Any) -> Signal:
    """An open long on BTC."""
    source, _ = SignalSource.objects.get_or_create(
        name="desk tests", defaults={"is_demonstration": is_demonstration}
    )
    told: dict[str, Any] = {
        "symbol": SYMBOL,
        "side": "LONG",
        "score": Decimal("0.8"),
        "entry_price": Decimal(100),
        "stop_price": Decimal(99),
        "take_profit_price": Decimal(103),
        "created_at": NOON,
        "received_at": NOON,
    }
    return Signal.objects.create(source=source, external_id=external_id, **told | values)


def decision(of: Signal | None = None, **values: Any) -> Decision:
    """A complete decision made at noon."""
    told: dict[str, Any] = {
        "signal": of,
        "status": DecisionStatus.COMPLETE,
        "quality": Decimal("0.61"),
        "mark_price": Decimal(100),
        "cap_price": Decimal("100.2"),
        "decided_at": NOON,
        "deadline_at": NOON + timedelta(seconds=15),
    }
    return Decision.objects.create(**told | values)


def allocation(of: Decision, to: Account, **values: Any) -> Allocation:
    """A share that was filled."""
    told: dict[str, Any] = {
        "outcome": AllocationOutcome.FILLED,
        "market": Market.FUTURES,
        "executor": "primary",
        "quantity": Decimal(2),
        "filled_quantity": Decimal(2),
        "average_price": Decimal(100),
        "latency_ms": 40,
    }
    return Allocation.objects.create(decision=of, account=to, **told | values)


def entry(of: Allocation, client_order_id: str, **values: Any) -> Order:
    """A filled entry of a share."""
    told: dict[str, Any] = {
        "account": of.account,
        "purpose": OrderPurpose.ENTRY,
        "executor": "primary",
        "market": Market.FUTURES,
        "symbol": SYMBOL,
        "base": "BTC",
        "side": OrderSide.BUY,
        "type": OrderType.LIMIT_IOC,
        "quantity": Decimal(2),
        "price": Decimal("100.2"),
        "status": OrderStatus.FILLED,
        "filled_quantity": Decimal(2),
        "average_price": Decimal(100),
        "created_at": NOON,
    }
    return Order.objects.create(allocation=of, client_order_id=client_order_id, **told | values)


def position(of: Account, **values: Any) -> Position:
    """A long of 2 BTC at 100, leverage 3, with a verified stop at 98."""
    told: dict[str, Any] = {
        "market": Market.FUTURES,
        "symbol": SYMBOL,
        "base": "BTC",
        "is_long": True,
        "status": PositionStatus.OPEN,
        "leverage": 3,
        "quantity": Decimal(2),
        "initial_quantity": Decimal(2),
        "entry_price": Decimal(100),
        "stop_price": Decimal(98),
        "opened_at": NOON,
        "protection": Protection.VERIFIED,
        "unprotected_seconds": Decimal("0.4"),
    }
    return Position.objects.create(account=of, **told | values)
