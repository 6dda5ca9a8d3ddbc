"""User streams: what the exchange tells of an account at once, applied to rows as it comes.

An event is never the only road to a fact: whatever a stream loses, the audits and lookups read. So an event
that names nothing of ours is left alone, except an execution, which may have hit a position of ours.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

import structlog
from django.db import transaction

from accounts.models import Account, SymbolSetting
from accounts.services.among import Among
from exchange.port import Market, OrderReport, ReportStatus
from exchange.stream_events import ConditionalEvent, ConfigEvent, OrderEvent, StreamDown, StreamUp, UserEvent
from trading.models import Order
from trading.services import execution, foreign_orders, protection
from trading.services.bells import Bells
from trading.services.fills import Executions, Orders, warm_market_table, write_executions
from trading.services.foreign_orders import Seen
from trading.services.position_rows import hold_accounts
from trading.services.positions import AT_ONCE
from trading.services.shares import settle_shares, settled_decisions

CROWD_CLEARED_AFTER = timedelta(seconds=2)
"""The stops of many that close at once go when the exits of all have left: those compete for one worker."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Told:
    """One event of one account's stream on one market."""

    account_id: int
    market: Market
    event: UserEvent


def apply(told: Sequence[Told], now: datetime) -> Bells:
    """Apply a batch of events, in order; twice is harmless.

    Orders' events between two changes of connection are written together: their statements do not grow with
    the accounts that a decision filled at once.
    """
    bells = Bells()
    for is_of_order, run in groupby(told, key=_is_of_order):
        if is_of_order:
            bells.add(_apply_orders(list(run), now))
        else:
            others = list(run)
            _note_connections(others)
            _note_settings(others, now)
    return bells


def note_alive(account_ids: Collection[int], now: datetime) -> None:
    """A stream proven alive proves the account's picture: silence then means that nothing happened.

    Only of a picture that was read since the stream was last away.
    """
    with transaction.atomic():
        hold_accounts(account_ids)
        heard = Account.objects.filter(Among("pk", account_ids))
        heard.update(heard_at=now)
        heard.filter(audited_at__isnull=False).update(fresh_at=now)


def doubt(account_ids: Collection[int]) -> None:
    """A stream that was away may have missed something: the next audit reads these accounts first."""
    with transaction.atomic():
        hold_accounts(account_ids)
        Account.objects.filter(pk__in=account_ids).update(audited_at=None, fresh_at=None, heard_at=None)


def _is_of_order(told: Told) -> bool:
    return isinstance(told.event, OrderEvent | ConditionalEvent)


def _note_connections(told: Sequence[Told]) -> None:
    for one in told:
        if isinstance(one.event, StreamDown):
            log.warning("user_stream_down", account_id=one.account_id, reason=one.event.reason)
    changed = {one.account_id for one in told if isinstance(one.event, StreamUp | StreamDown)}
    if changed:
        doubt(changed)


def _note_settings(told: Sequence[Told], now: datetime) -> None:
    """A setting somebody changed at the exchange counts at once: the next entry must not plan by the old."""
    for one in told:
        event = one.event
        if not isinstance(event, ConfigEvent):
            continue
        if event.leverage is not None:
            known = SymbolSetting.objects.filter(account=one.account_id, symbol=event.symbol)
            known.update(leverage=event.leverage, read_at=now)
        if event.is_multi_assets is not None:
            Account.objects.filter(pk=one.account_id).update(is_multi_assets=event.is_multi_assets)


def _apply_orders(told: Sequence[Told], now: datetime) -> Bells:
    executions = [
        Executions(one.account_id, one.market, [one.event.fill])
        for one in told
        if isinstance(one.event, OrderEvent) and one.event.fill is not None
    ]
    for kind in {one.market for one in executions}:
        warm_market_table(kind)
    names = {
        one.event.report.client_order_id
        for one in told
        if isinstance(one.event, OrderEvent | ConditionalEvent)
    }
    with transaction.atomic():
        # Accounts before orders, as whoever records an answer holds them.
        accounts, orders = Orders.held({one.account_id for one in told}, executions, names)
        is_crowd = len(executions) >= execution.CROWD
        clear_after = CROWD_CLEARED_AFTER if is_crowd else AT_ONCE
        bells = write_executions(executions, accounts, orders, now, clear_after) if executions else Bells()
        reported = _ours(told, orders)
        bells.add(execution.apply_reports([one for one, _ in reported], now))
        seen = [one.order for one, is_seen in reported if is_seen]
        if seen:
            Order.objects.filter(Among("pk", [order.pk for order in seen])).update(is_seen=True)
        foreign_orders.keep(_strangers(told, orders), now)
        settle_shares({one.order.allocation_id for one, _ in reported if one.order.allocation_id}, now)
    bells.decisions = settled_decisions(bells.decisions)
    shown = {order.position_id for order in seen if order.position_id is not None}
    bells.positions = [pk for pk in bells.positions if pk not in shown]
    return bells.add(protection.see(shown, now)) if shown else bells


def _strangers(told: Sequence[Told], orders: Orders) -> list[Seen]:
    """Orders of nobody here; what a fired stop of ours became bears another id and is known by its number."""
    found = []
    for one in told:
        event = one.event
        if not isinstance(event, OrderEvent | ConditionalEvent):
            continue
        report = event.report
        names = (one.account_id, one.market.value, report.client_order_id)
        number = (one.account_id, one.market.value, report.symbol, report.exchange_order_id)
        if names not in orders.by_client_id and number not in orders.by_exchange_id:
            found.append(Seen(one.account_id, one.market, report))
    return found


def _ours(told: Sequence[Told], orders: Orders) -> list[tuple[execution.Reported, bool]]:
    """What the events say of orders of ours, and whether each shows a stop resting in its store."""
    found = []
    for one in told:
        event = one.event
        if not isinstance(event, OrderEvent | ConditionalEvent):
            continue
        order = orders.by_client_id.get((one.account_id, one.market.value, event.report.client_order_id))
        if order is not None:
            is_seen = isinstance(event, ConditionalEvent) and _shows(event.report, order)
            found.append((execution.Reported(order, event.report), is_seen))
    return found


def _shows(report: OrderReport, order: Order) -> bool:
    """Whether a stop rests just as it was ordered; one that differs only a list makes clear."""
    is_as_ordered = (report.side, report.trigger_price, report.close_position) == (
        order.side,
        order.trigger_price,
        order.close_position,
    )
    is_covering = order.close_position or report.quantity == order.quantity
    return report.status == ReportStatus.NEW and is_as_ordered and is_covering
