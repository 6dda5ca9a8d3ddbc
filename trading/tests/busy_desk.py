"""A desk in the middle of its work: filled accounts, a denied one, a closed position, an alert, a curve."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from redis import Redis

from alerts.models import Severity
from alerts.services import raise_alert
from exchange import heartbeat
from exchange.marks import MarkBoard
from exchange.port import MarkPrice
from trading.domain import exit_plan
from trading.domain.states import AllocationOutcome, CloseReason, PositionStatus, Protection
from trading.models import Decision, EquitySnapshot, Fill, Position, PositionEvent, SignalSource
from trading.tests import rows

QUEUES = ("orders", "exits", "lookups", "monitor", "default")
PLAN = exit_plan.ExitPlan(
    policy=exit_plan.ExitPolicy.ADAPTIVE,
    is_long=True,
    entry_price=Decimal("97650.2"),
    initial_quantity=Decimal("0.034"),
    leverage=Decimal(3),
    tick=Decimal("0.1"),
    min_quantity=Decimal("0.001"),
    hard_stop_price=Decimal("96704.9"),
    stop_price=Decimal("96704.9"),
    stop_reason=CloseReason.STOP_LOSS,
    levels=(
        exit_plan.Level(1, Decimal("98700.1"), Decimal("0.010"), reached=True),
        exit_plan.Level(2, Decimal("99100.7"), Decimal("0.024")),
    ),
    break_even_price=Decimal("97796.6"),
    runner=False,
    trail_start_price=None,
    trail_distance=Decimal("0.015"),
    trail_step=Decimal("0.001"),
    loss_guard_amount=None,
    expires_at=None,
    unknown=("divergence",),
)
PARTS = {"score": "0.81000", "performance": "0.50000", "market": "0.62500", "reward": "0.31000"}


def fill_desk(redis: Redis, accounts: int = 12) -> Decision:
    """Write the rows and signs of life; the decision they lead to."""
    now = datetime.now(UTC)
    beat(redis, now)
    chosen = rows.signal(is_demonstration=True, received_at=now, created_at=now, score=Decimal("0.81"))
    SignalSource.objects.update(note="silent: no 15 min candle closed beyond its range", note_at=now)
    made = rows.decision(
        chosen,
        mark_price=Decimal("97612.4"),
        cap_price=Decimal("97702.1"),
        quality=Decimal("0.63000"),
        decided_at=now - timedelta(seconds=80),
        candidates=_candidates(str(chosen.uuid)),
        turn=17,
    )
    for number in range(1, accounts + 1):
        _fill_account(made, number, now)
    rows.allocation(
        made,
        rows.account("paper-0099", wallet_balance=Decimal(40)),
        outcome=AllocationOutcome.DENIED,
        code="MARGIN",
        detail={"needed": "120.00", "available": "36.20"},
        refusals=[
            {
                "attempt": 1,
                "executor": "secondary",
                "market": "spot",
                "code": "MIN_NOTIONAL",
                "numbers": {"notional": "3.90"},
            }
        ],
        filled_quantity=0,
        average_price=None,
        latency_ms=None,
    )
    rows.decision(status="NONE", reason="QUALITY", quality=None, decided_at=now - timedelta(seconds=20))
    raise_alert(
        "denied:MARGIN",
        Severity.WARNING,
        "MARGIN",
        "1 account was short of margin",
        now=now,
        symbol=rows.SYMBOL,
    )
    return made


def beat(redis: Redis, now: datetime) -> None:
    """Every part of the desk alive, and a mark."""
    for key in (heartbeat.BEAT, heartbeat.watcher_key(), heartbeat.MARKS):
        heartbeat.beat(redis, key)
    for queue in QUEUES:
        heartbeat.beat(redis, heartbeat.worker_key(queue, 1))
    MarkBoard(redis).publish([MarkPrice(rows.SYMBOL, Decimal("97911.7"), now)])


def _candidates(chosen: str) -> list[dict[str, Any]]:
    market_parts = {"trend": "0.50000", "volatility": "1.00000", "liquidity": None, "spread": "0.62000"}
    weighed: dict[str, Any] = {
        "symbol": rows.SYMBOL,
        "side": "LONG",
        "source": "desk tests",
        "score": "0.81000",
    }
    won = {
        "quality": "0.63000",
        "parts": PARTS,
        "market_parts": market_parts,
        "missing": ["market.liquidity"],
        "verdict": "CHOSEN",
    }
    lost = {"signal": "other", "symbol": "SOL/USDT:USDT", "side": "SHORT", "verdict": "DUPLICATE"}
    return [weighed | {"signal": chosen} | won, weighed | lost]


def _fill_account(made: Decision, number: int, now: datetime) -> None:
    account = rows.account(
        f"paper-{number:04d}",
        wallet_balance=Decimal(10_000) + number,
        unrealized_profit=Decimal("9.21"),
        day_baseline_equity=Decimal(9_980),
        fresh_at=now,
    )
    share = rows.allocation(
        made,
        account,
        latency_ms=180 + 7 * number,
        slippage_bps=Decimal("3.8725") + Decimal(number) / 10,
        average_price=Decimal("97650.2"),
        place=number,
    )
    order = rows.entry(share, f"px{number:020d}", quantity=Decimal("0.034"))
    position = rows.position(
        account,
        allocation=share,
        quantity=Decimal("0.034"),
        initial_quantity=Decimal("0.034"),
        entry_price=Decimal("97650.2"),
        stop_price=Decimal("96704.9"),
        plan=exit_plan.to_json(PLAN),
        opened_at=now - timedelta(seconds=79),
        protection=Protection.VERIFIED if number > 1 else Protection.ACKED,
    )
    PositionEvent.objects.create(position=position, at=now, code="OPENED", detail={"quantity": "0.034"})
    Fill.objects.create(
        account=account,
        order=order,
        position=position,
        market=order.market,
        symbol=order.symbol,
        trade_id=str(number),
        exchange_order_id="1",
        side=order.side,
        price=Decimal("97650.2"),
        quantity=Decimal("0.034"),
        fee=Decimal("1.66"),
        fee_asset="USDT",
        filled_at=now,
    )
    _add_history(position, number, now)


def _add_history(position: Position, number: int, now: datetime) -> None:
    rows.position(
        position.account,
        status=PositionStatus.CLOSED,
        is_long=number % 2 == 0,
        quantity=0,
        exit_price=Decimal("100.8"),
        realized_profit=Decimal("12.5") * (1 if number % 2 == 0 else -1),
        fees=Decimal("0.6"),
        close_reason=CloseReason.TAKE_PROFIT_3 if number % 2 == 0 else CloseReason.STOP_LOSS,
        closed_at=now - timedelta(minutes=number),
    )
    EquitySnapshot.objects.bulk_create(
        EquitySnapshot(
            account=position.account,
            at=now - timedelta(minutes=minutes),
            wallet=Decimal(10_000) + number,
            unrealized_profit=Decimal((minutes * 7919 + number * 31) % 60 - minutes % 90),
        )
        for minutes in range(0, 600, 5)
    )
