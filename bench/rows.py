"""The rows a decision over N accounts begins with, as allocation commits them, and their removal."""

from datetime import datetime, timedelta
from decimal import Decimal
from uuid import uuid4

from django.conf import settings
from django.db import IntegrityError, OperationalError, connection, transaction
from django.utils import timezone

from accounts.models import Account, Breaker, Executor, Health, SymbolSetting
from accounts.services.registry import create_paper_accounts
from bench.orders import BASE, PRICE, QUANTITY, SYMBOL
from exchange.marks import MarkBoard
from exchange.port import Market, MarkPrice, OrderSide
from trading.domain.states import AllocationOutcome, DecisionStatus
from trading.models import Allocation, Decision, Fill, Order, Position, PositionEvent, Signal, SignalSource
from trading.services.orders import new_entry
from trading.services.valkey import valkey

WALLET = Decimal(10_000)
OF_A_ROUND = (PositionEvent, Fill, Order, Position, Allocation, Decision, Signal, Breaker)
TRIES = 5
TIME_TO_SEND = timedelta(seconds=120)
"""The deadline of a measured decision: a slow machine is to be seen in the figures, not in expiries."""


def fit_accounts(count: int) -> list[Account]:
    """So many paper accounts as their verification leaves them: 10,000 free, settings read back.

    Those that an earlier measurement had more are archived.
    """
    clear()
    create_paper_accounts(count)
    now = settings.CLOCK.now()
    Account.objects.update(
        health=Health.HEALTHY,
        verified_at=now,
        fresh_at=now,
        balances_at=now,
        day_started_at=now,
        day_baseline_equity=WALLET,
        wallet_balance=WALLET,
        unrealized_profit=0,
        available_balance=WALLET,
        spot_wallet=WALLET,
        spot_available=WALLET,
        is_enabled=True,
        archived_at=None,
        heard_at=None,
    )
    # No second road: what is not at the exchange is told as such instead of being bought on the spot market.
    Executor.objects.filter(market=Market.SPOT).update(is_enabled=False)
    accounts = list(Account.objects.order_by("pk")[:count])
    Account.objects.exclude(pk__in=[one.pk for one in accounts]).update(archived_at=now)
    SymbolSetting.objects.bulk_create(
        [
            SymbolSetting(account=one, symbol=SYMBOL, leverage=one.leverage, is_isolated=True, read_at=now)
            for one in accounts
        ],
        ignore_conflicts=True,
    )
    return accounts


def freshen() -> None:
    """Let every account's picture be of this moment, as the streams would keep it."""
    now = settings.CLOCK.now()
    Account.objects.update(fresh_at=now, balances_at=now)


def pause_all_but(accounts: list[Account]) -> None:
    """Let a decision reach these accounts only, their pictures of this moment."""
    freshen()
    Account.objects.filter(is_enabled=False).update(is_enabled=True)
    Account.objects.exclude(pk__in=[one.pk for one in accounts]).update(is_enabled=False)


def publish_mark(price: Decimal = Decimal(PRICE)) -> None:
    """Put the symbol's mark on the board, as the watcher does each second."""
    now = settings.CLOCK.now()
    mark = MarkPrice(SYMBOL, price, now, Decimal("0.0001"), now + timedelta(hours=4))
    MarkBoard(valkey()).publish([mark])


def a_signal(price: Decimal = Decimal(PRICE)) -> Signal:
    """Advice at the price, its stop 1 % away and its target 3 %."""
    source, _ = SignalSource.objects.get_or_create(name="benchmark")
    now = settings.CLOCK.now()
    return Signal.objects.create(
        source=source,
        external_id=uuid4().hex,
        symbol=SYMBOL,
        side="LONG",
        score=Decimal("0.8"),
        entry_price=price,
        stop_price=price * Decimal("0.99"),
        take_profit_price=price * Decimal("1.03"),
        created_at=now,
        received_at=now,
    )


def a_decision(price: Decimal = Decimal(PRICE), time_to_send: timedelta = TIME_TO_SEND) -> Decision:
    """An open decision on it, nothing allocated yet."""
    now = settings.CLOCK.now()
    return Decision.objects.create(
        signal=a_signal(price),
        status=DecisionStatus.OPEN,
        mark_price=price,
        cap_price=price,
        decided_at=now,
        deadline_at=now + time_to_send,
    )


def committed_entries(accounts: list[Account], time_to_send: timedelta = TIME_TO_SEND) -> list[int]:
    """One decision's shares and entries, committed; the ids of the entries."""
    decision = a_decision(time_to_send=time_to_send)
    with transaction.atomic():
        shares = Allocation.objects.bulk_create([_share(decision, one) for one in accounts])
        return [order.pk for order in Order.objects.bulk_create([_entry(share) for share in shares])]


def _share(decision: Decision, account: Account) -> Allocation:
    return Allocation(
        decision=decision,
        account=account,
        outcome=AllocationOutcome.PENDING,
        market=Market.FUTURES,
        executor="primary",
        quantity=Decimal(QUANTITY),
        planned_risk=Decimal(100),
        attempts=1,
    )


def _entry(share: Allocation) -> Order:
    assert share.decision.deadline_at is not None  # noqa: S101 -- made with one, above
    return new_entry(
        share,
        market=Market.FUTURES,
        executor="primary",
        symbol=SYMBOL,
        base=BASE,
        side=OrderSide.BUY,
        quantity=Decimal(QUANTITY),
        price=Decimal(PRICE),
        attempt=1,
        deadline_at=share.decision.deadline_at,
        reserved_margin=Decimal(320),
        reserved_risk=Decimal(10),
        reserved_notional=Decimal(950),
        is_hedge_mode=share.account.is_hedge_mode,
        trace_id=share.decision.trace_id,
        now=share.decision.decided_at,
    )


def wall_clock() -> datetime:
    """What rows are stamped with, wherever the desk's own clock stands."""
    return timezone.now()


def clear() -> None:
    """Remove what a round left, so that every round begins with the same tables."""
    for left in range(TRIES - 1, -1, -1):
        try:
            with transaction.atomic():
                for model in OF_A_ROUND:
                    model.objects.all()._raw_delete(model.objects.db)  # noqa: SLF001 -- delete() reads every row
            break
        except (OperationalError, IntegrityError):  # a watcher was still at it
            if not left:
                raise
    if connection.vendor == "postgresql":
        tables = ", ".join(f'"{model._meta.db_table}"' for model in (*OF_A_ROUND, Account))  # noqa: SLF001
        with connection.cursor() as cursor:
            cursor.execute(f"VACUUM {tables}")  # dead rows of one round would slow the next
