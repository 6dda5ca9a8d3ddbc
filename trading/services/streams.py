"""User streams: what the exchange tells of an account at once, applied to rows as it comes.

An event is never the only road to a fact: whatever a stream loses, the audits and lookups read. So an event
that names nothing of ours is left alone, except an execution, which may have hit a position of ours.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import structlog
from django.db import transaction

from accounts.models import Account
from exchange.port import Market, OrderReport, ReportStatus
from exchange.stream_events import ConditionalEvent, OrderEvent, StreamDown, StreamUp, UserEvent
from trading.models import Fill, Order
from trading.services import execution
from trading.services.bells import Bells
from trading.services.fills import record_fills
from trading.services.position_rows import lock_accounts

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Told:
    """One event of one account's stream on one market."""

    account_id: int
    market: Market
    event: UserEvent


def apply(told: Sequence[Told], now: datetime) -> Bells:
    """Apply a batch of events, in order; twice is harmless."""
    accounts = Account.objects.in_bulk({one.account_id for one in told})
    bells = Bells()
    for one in told:
        account = accounts.get(one.account_id)
        if account is not None:
            bells.add(_apply_one(account, one.market, one.event, now))
    return bells


def note_alive(account_ids: Collection[int], now: datetime) -> None:
    """A stream proven alive proves the account's picture: silence then means that nothing happened.

    Only of a picture that was read since the stream was last away.
    """
    with transaction.atomic():
        lock_accounts(account_ids)
        Account.objects.filter(pk__in=account_ids, audited_at__isnull=False).update(fresh_at=now)


def doubt(account_ids: Collection[int]) -> None:
    """A stream that was away may have missed something: the next audit reads these accounts first."""
    with transaction.atomic():
        lock_accounts(account_ids)
        Account.objects.filter(pk__in=account_ids).update(audited_at=None, fresh_at=None)


def _apply_one(account: Account, market: Market, event: UserEvent, now: datetime) -> Bells:
    if isinstance(event, OrderEvent):
        return _apply_order(account, market, event, now)
    if isinstance(event, ConditionalEvent):
        return _apply_stop(account, market, event.report, now)
    if isinstance(event, StreamDown):
        log.warning("user_stream_down", account=account.name, reason=event.reason)
    if isinstance(event, StreamUp | StreamDown):
        doubt([account.pk])
    return Bells()


def _apply_order(account: Account, market: Market, event: OrderEvent, now: datetime) -> Bells:
    order = _ours(account, market, event.report.client_order_id)
    bells = Bells()
    if event.fill is not None:
        bells.add(record_fills(account, market, [event.fill], now))
    if order is not None:
        order.refresh_from_db()
        known = _filled(order) >= event.report.filled_quantity
        bells.add(execution.apply_report(order, event.report, now, fills_known=known))
    return bells


def _apply_stop(account: Account, market: Market, report: OrderReport, now: datetime) -> Bells:
    order = _ours(account, market, report.client_order_id)
    if order is None:
        return Bells()
    bells = execution.apply_report(order, report, now)
    if report.status == ReportStatus.NEW:
        Order.objects.filter(pk=order.pk).update(is_seen=True)
    return bells


def _ours(account: Account, market: Market, client_order_id: str) -> Order | None:
    return Order.objects.filter(account=account, market=market, client_order_id=client_order_id).first()


def _filled(order: Order) -> Decimal:
    return sum(Fill.objects.filter(order=order).values_list("quantity", flat=True), Decimal(0))
