"""The safeguards, each with what the desk would be without it. Loaded in the desk's own programs."""

import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from uuid import uuid4

from django.utils import timezone

from exchange.errors import GatewayError
from exchange.port import OrderReport
from tests.chaos.sabotage import ABSENCE, CLAIM, LOOKUP, SWEEPER
from trading.domain.states import OrderStatus
from trading.models import Order
from trading.services import sweeping
from trading.services.bells import Bells
from trading.services.execution import absence, claiming, recording

claim, mark_unknown = claiming.claim, recording._mark_unknown
judge, sweep = absence.judge, sweeping.sweep


def take_out() -> None:
    """Let every step ask first whether its safeguard is there."""
    claiming.claim = _claim
    recording._mark_unknown = _mark_unknown
    absence.judge = _judge
    sweeping.sweep = _sweep


def _is_off(safeguard: str) -> bool:
    path = Path(os.environ["SABOTAGE"])
    return path.is_file() and path.read_text(encoding="utf-8") == safeguard


def _claim(order_ids: Sequence[int]) -> list[Order]:
    """Without: whoever is rung takes the orders, whatever became of them."""
    if not _is_off(CLAIM):
        return claim(order_ids)
    token = uuid4()
    Order.objects.filter(pk__in=order_ids).update(
        status=OrderStatus.CLAIMED, claimed_by=token, lease_until=timezone.now() + claiming.LEASE
    )
    return claiming._held(order_ids)


def _mark_unknown(order: Order, error: GatewayError) -> Bells:
    """Without: what was not answered is sent again."""
    if not _is_off(LOOKUP):
        return mark_unknown(order, error)
    Order.objects.filter(pk=order.pk).update(status=OrderStatus.PENDING, lease_until=None, due_at=None)
    return Bells(entries=[order.pk])


def _judge(
    absent: Sequence[absence.Absent], asked_at: datetime, now: datetime
) -> Iterator[tuple[Order, OrderReport | bool]]:
    """Without: what one look does not find was never placed."""
    if not _is_off(ABSENCE):
        return judge(absent, asked_at, now)
    return iter([(order, True) for order, _ in absent])


def _sweep(now: datetime) -> Bells:
    """Without: what nobody rings for is never found."""
    return Bells() if _is_off(SWEEPER) else sweep(now)
