"""A desk that has run for a while: accounts, and the orders of many decisions over all of them."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import islice
from typing import TypeVar

from django.conf import settings
from django.db import connection
from django.db.models import Model

from accounts.models import Account, AccountGroup, Breaker, Health, SymbolSetting
from accounts.services.registry import create_paper_accounts
from alerts.models import Alert, Severity
from exchange.port import Market, OrderSide, OrderType
from trading.domain.states import (
    AllocationOutcome,
    CloseReason,
    DecisionStatus,
    HaltLevel,
    OrderPurpose,
    OrderStatus,
    PositionStatus,
    Protection,
)
from trading.models import (
    Allocation,
    Decision,
    Fill,
    Halt,
    Order,
    Position,
    Signal,
    SignalSource,
)

BATCH = 2_000
GROUPS = 20
COINS = [f"C{number:03d}" for number in range(200)]
PRICE, QUANTITY = Decimal(100), Decimal(2)
BETWEEN = timedelta(minutes=5)

Row = TypeVar("Row", bound=Model)


def fill(accounts: int, orders: int) -> None:
    """Write the accounts and, over all of them, decisions until there are so many orders."""
    chosen = _accounts(accounts)
    now = settings.CLOCK.now()
    Position.objects.filter(status=PositionStatus.OPEN).update(status=PositionStatus.CLOSED, closed_at=now)
    for number in range(max(1, orders // accounts)):
        _decide(number, chosen, now - BETWEEN * (number + 1))
    _around(chosen, orders, now)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")


def _accounts(count: int) -> list[Account]:
    create_paper_accounts(count)
    now = settings.CLOCK.now()
    Account.objects.update(
        health=Health.HEALTHY,
        permissions="SAFE",
        verified_at=now,
        fresh_at=now,
        balances_at=now,
        wallet_balance=Decimal(10_000),
        unrealized_profit=Decimal("12.5"),
        available_balance=Decimal(9_000),
        spot_wallet=Decimal(10_000),
        spot_available=Decimal(10_000),
    )
    groups = [AccountGroup.objects.get_or_create(name=f"group {one:02d}")[0] for one in range(GROUPS)]
    made = list(Account.objects.order_by("pk"))
    for place, group in enumerate(groups):
        Account.objects.filter(pk__in=[one.pk for one in made[place::GROUPS]]).update(group=group)
    return made


def _decide(number: int, accounts: list[Account], at: datetime) -> None:
    """One decision that was filled on every account; the newest one's positions are open."""
    coin = COINS[number % len(COINS)]
    decision = Decision.objects.create(
        signal=_signal(coin, at),
        status=DecisionStatus.COMPLETE,
        mark_price=PRICE,
        cap_price=PRICE,
        decided_at=at,
        deadline_at=at + timedelta(seconds=15),
    )
    is_open = number == 0
    shares = _write(Allocation, (_share(decision, account) for account in accounts))
    positions = _write(Position, (_position(share, coin, at, is_open=is_open) for share in shares))
    pairs = list(zip(shares, positions, strict=True))
    entries = _write(Order, (_entry(share, coin, at) for share, _ in pairs))
    _write(Fill, (_fill(order, one) for order, (_, one) in zip(entries, pairs, strict=True)))


def _signal(coin: str, at: datetime) -> Signal:
    source, _ = SignalSource.objects.get_or_create(name="history")
    return Signal.objects.create(
        source=source,
        external_id=f"{coin} {at.isoformat()}",
        symbol=f"{coin}/USDT:USDT",
        side="LONG",
        score=Decimal("0.8"),
        stop_price=PRICE * Decimal("0.99"),
        take_profit_price=PRICE * Decimal("1.03"),
        created_at=at,
        received_at=at,
        status="DECIDED",
    )


def _share(decision: Decision, account: Account) -> Allocation:
    return Allocation(
        decision=decision,
        account=account,
        outcome=AllocationOutcome.FILLED,
        market=Market.FUTURES,
        executor="primary",
        quantity=QUANTITY,
        filled_quantity=QUANTITY,
        average_price=PRICE,
        latency_ms=180,
        slippage_bps=Decimal("1.5"),
        attempts=1,
    )


def _position(share: Allocation, coin: str, at: datetime, *, is_open: bool) -> Position:
    return Position(
        account=share.account,
        allocation=share,
        market=Market.FUTURES,
        symbol=f"{coin}/USDT:USDT",
        base=coin,
        is_long=True,
        status=PositionStatus.OPEN if is_open else PositionStatus.CLOSED,
        leverage=3,
        quantity=QUANTITY if is_open else 0,
        initial_quantity=QUANTITY,
        entry_price=PRICE,
        exit_price=None if is_open else PRICE + 1,
        realized_profit=Decimal(0 if is_open else 2),
        stop_price=PRICE - 1,
        opened_at=at,
        closed_at=None if is_open else at + timedelta(minutes=3),
        close_reason="" if is_open else CloseReason.TAKE_PROFIT_3,
        protection=Protection.VERIFIED,
    )


def _entry(share: Allocation, coin: str, at: datetime) -> Order:
    return Order(
        client_order_id=f"px{share.pk:020d}",
        account=share.account,
        allocation=share,
        purpose=OrderPurpose.ENTRY,
        executor="primary",
        market=Market.FUTURES,
        symbol=f"{coin}/USDT:USDT",
        base=coin,
        side=OrderSide.BUY,
        type=OrderType.LIMIT_IOC,
        quantity=QUANTITY,
        price=PRICE,
        status=OrderStatus.FILLED,
        filled_quantity=QUANTITY,
        average_price=PRICE,
        fills_complete=True,
        created_at=at,
        finished_at=at,
    )


def _fill(order: Order, position: Position) -> Fill:
    return Fill(
        account=order.account,
        order=order,
        position=position,
        market=order.market,
        symbol=order.symbol,
        trade_id=str(order.pk),
        exchange_order_id=str(order.pk),
        client_order_id=order.client_order_id,
        side=order.side,
        price=PRICE,
        quantity=QUANTITY,
        fee=Decimal("0.08"),
        fee_asset="USDT",
        filled_at=order.created_at,
    )


def _around(accounts: list[Account], orders: int, now: datetime) -> None:
    """What else a desk keeps: fruitless selections, alerts, halts, breakers, symbols' settings."""
    many = max(20, orders // 5)
    moments = [now - timedelta(minutes=number) for number in range(many)]
    nothing = DecisionStatus.NONE
    _write(Decision, (Decision(status=nothing, reason="QUALITY", decided_at=at) for at in moments))
    _write(Alert, (_alert(number, at) for number, at in enumerate(moments)))
    _write(Halt, (_halt(account, now) for account in accounts[::10]))
    _write(Breaker, (Breaker(account=one, code="-2019", rejections=1) for one in accounts), again=True)
    _write(
        SymbolSetting,
        (
            SymbolSetting(account=one, symbol=f"{coin}/USDT:USDT", leverage=3, is_isolated=True, read_at=now)
            for one in accounts
            for coin in COINS[:10]
        ),
        again=True,
    )


def _alert(number: int, at: datetime) -> Alert:
    return Alert(
        cause=f"history:{at.isoformat()}",
        severity=Severity.WARNING,
        code=f"CODE_{number % 30}",
        message="something was told",
        account=f"paper-{number % 100:04d}",
        first_at=at,
        last_at=at,
        cleared_at=at if number % 4 else None,
    )


def _halt(account: Account, now: datetime) -> Halt:
    return Halt(
        scope="account",
        target=account.name,
        level=HaltLevel.HALT_ENTRIES,
        reason="The day's loss has reached the limit.",
        raised_by="desk",
        raised_at=now,
        resumed_at=now,
    )


def _write(model: type[Row], rows: Iterable[Row], *, again: bool = False) -> list[Row]:
    rows_of = model._default_manager  # noqa: SLF001 -- Django's own name for it
    return [row for batch in _batches(rows) for row in rows_of.bulk_create(batch, ignore_conflicts=again)]


def _batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    left = iter(rows)
    while batch := list(islice(left, BATCH)):
        yield batch
