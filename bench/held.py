"""Positions as fills leave them, with a plan, without anything at the exchange."""

from collections.abc import Sequence
from decimal import Decimal

from django.conf import settings

from accounts.models import Account
from bench.orders import BASE, PRICE, QUANTITY, SYMBOL
from exchange.port import Market
from trading.domain import exit_plan
from trading.domain.exit_plan import ExitPlan, ExitPolicy, Level
from trading.domain.states import CloseReason, Protection
from trading.models import Position

BATCH = 5_000
CENT = Decimal("0.1")
STOP_AWAY = Decimal("0.3")


def at_target(
    price: Decimal, *, entry: Decimal = Decimal(PRICE), stop: Decimal | None = None, is_long: bool = True
) -> dict[str, object]:
    """A plan that closes everything at one target, as it is kept in a row; its stop is far away if untold."""
    quantity, far = Decimal(QUANTITY), entry * (1 - STOP_AWAY if is_long else 1 + STOP_AWAY)
    level = Level(2, price.quantize(CENT) if price > 1 else price, quantity)
    plan = ExitPlan(
        policy=ExitPolicy.ADAPTIVE,
        is_long=is_long,
        runner=False,
        stop_reason=CloseReason.STOP_LOSS,
        expires_at=None,
        unknown=("divergence", "volatility"),
        levels=(Level(1, level.price, Decimal(0), reached=True), level),
        entry_price=entry,
        initial_quantity=quantity,
        leverage=Decimal(3),
        tick=CENT,
        min_quantity=Decimal("0.001"),
        hard_stop_price=stop or far,
        stop_price=stop or far,
        break_even_price=entry,
        trail_start_price=None,
        trail_move=None,
        trail_distance=Decimal("0.015"),
        trail_step=Decimal("0.001"),
        loss_guard_amount=Decimal(10_000),
    )
    return exit_plan.to_json(plan)


def make_positions(accounts: Sequence[Account], plans: Sequence[dict[str, object]]) -> None:
    """One long of each account, protected as far as its row says."""
    now = settings.CLOCK.now()
    made = [
        Position(
            account=account,
            market=Market.FUTURES,
            symbol=SYMBOL,
            base=BASE,
            is_long=True,
            leverage=3,
            quantity=Decimal(QUANTITY),
            initial_quantity=Decimal(QUANTITY),
            entry_price=Decimal(PRICE),
            plan=plan,
            stop_price=Decimal(str(plan["stop_price"])),
            protection=Protection.VERIFIED,
            verified_at=now,
            opened_at=now,
        )
        for account, plan in zip(accounts, plans, strict=True)
    ]
    Position.objects.bulk_create(made, batch_size=BATCH)
