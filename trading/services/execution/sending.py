"""Sending: the claimed orders leave together, and their answers are recorded together."""

import time
from collections.abc import Collection, Sequence
from datetime import datetime

import structlog
from django.db import OperationalError, connection

from accounts.services.gateways import ask_budgets_ahead, gateway_for
from exchange.budget import Priority, priority
from exchange.errors import GatewayError, OrderRejected, OutcomeUnknown, ReadFailed
from exchange.loop import IoLoop
from exchange.port import ExchangeGateway, Market, OrderRequest, OrderSide, OrderType
from trading.domain.states import OrderPurpose
from trading.models import Order
from trading.services import circuit, waves
from trading.services.bells import Bells
from trading.services.execution import claiming, recording
from trading.services.execution.answers import Answer
from trading.services.shares import settle_shares, settled_decisions

log = structlog.get_logger(__name__)

SEND_SECONDS = 30.0
"""Longer than any deadline of one request; whoever has not answered by then is unknown."""

RECORDED_AGAIN_AFTER = (0.05, 0.3, 1.0)
"""Seconds after which answers are written again that a deadlock or a database on its way back refused."""

CROWD = 10
"""So many orders sent together are a crowd: nobody is looked after before all of them have left."""

PRIORITY_OF: dict[str, Priority] = {
    OrderPurpose.EXIT: Priority.EXIT,
    OrderPurpose.HARD_STOP: Priority.PROTECTION,
    OrderPurpose.WORKING_STOP: Priority.PROTECTION,
    OrderPurpose.ENTRY: Priority.ENTRY,
}


def submit(order_ids: Sequence[int], now: datetime, *, are_entries: bool = False) -> Bells:
    """Claim, send and record a chunk of orders. Twice is harmless: the second finds nothing to claim.

    Those that are not known to be entries, all of them, are first asked for as exits, which is one statement.
    """
    ask_budgets_ahead()
    submitted, ended = claiming.take(order_ids, now, are_entries=are_entries)
    answers = send_all(submitted, told=_told_by_streams(submitted, now))
    bells = _recorded(answers, now)
    settle_shares({order.allocation_id for order in ended if order.allocation_id is not None}, now)
    bells.decisions.extend(_decisions_of(ended))
    # A decision is rung when its last share has its end; until then every chunk would read all of it.
    is_awaited = (
        len(bells.unread) == len(submitted) and not ended
    )  # no share has its end before a stream told
    settled = [] if is_awaited else settled_decisions(bells.decisions)
    bells.decisions = settled + waves.to_judge(submitted)
    refused = [answer.order for answer in answers if isinstance(answer.error, OrderRejected)]
    for decision_id in _decisions_of(refused):
        bells.add(circuit.stop_if_same_code(decision_id, now))
    return bells


def _recorded(answers: Sequence[Answer], now: datetime) -> Bells:
    """Record the answers; nobody else knows them, so what the database gave up is tried again.

    Not recorded, a filled entry would wait out its lease, 20 s, for a look and for its stop.
    """
    for wait_seconds in RECORDED_AGAIN_AFTER:
        try:
            return recording.record(answers, now)
        except OperationalError as error:
            if connection.in_atomic_block:
                raise
            log.warning("answers_not_recorded", orders=len(answers), detail=str(error)[:200])
            connection.close_if_unusable_or_obsolete()
            time.sleep(wait_seconds)
    return recording.record(answers, now)


def send_all(orders: Sequence[Order], told: Collection[int] = ()) -> list[Answer]:
    """Send every order at once and wait for every answer, in the order given.

    `told` are the ids of orders whose executions a stream tells: they are not asked for.
    """
    answers: dict[int, Answer] = {}
    departing: list[tuple[Order, ExchangeGateway]] = []
    for order in orders:
        try:
            departing.append((order, gateway_for(order.account, Market(order.market))))
        except GatewayError as error:  # no key, no gateway: certainly nothing left
            answers[order.pk] = Answer(order, error=OrderRejected(error.code, error.message))
    arrived = IoLoop.current().run_all(
        [_send(order, gateway, is_told=order.pk in told) for order, gateway in departing], SEND_SECONDS
    )
    for (order, _), answer in zip(departing, arrived, strict=True):
        answers[order.pk] = answer if isinstance(answer, Answer) else Answer(order, error=_unforeseen(answer))
    return [answers[order.pk] for order in orders]


def _told_by_streams(orders: Sequence[Order], now: datetime) -> set[int]:
    """Orders whose executions come by themselves. To read those of a thousand takes two minutes' weight.

    A lone exit's are read all the same: what it left open decides what is sent next.
    """
    told = {OrderPurpose.ENTRY} if len(orders) < CROWD else {OrderPurpose.ENTRY, OrderPurpose.EXIT}
    return {
        order.pk
        for order in orders
        if order.purpose in told and order.market == Market.FUTURES and order.account.is_heard(now)
    }


def _decisions_of(orders: Sequence[Order]) -> list[int]:
    return sorted({order.allocation.decision_id for order in orders if order.allocation is not None})


def request_of(order: Order) -> OrderRequest:
    """The request exactly as the committed row describes it, its timestamp included."""
    if order.request_timestamp_ms is None:
        message = f"order {order.client_order_id} has no committed request timestamp"
        raise ValueError(message)
    return OrderRequest(
        client_order_id=order.client_order_id,
        symbol=order.symbol,
        side=OrderSide(order.side),
        type=OrderType(order.type),
        quantity=order.quantity,
        timestamp_ms=order.request_timestamp_ms,
        price=order.price,
        trigger_price=order.trigger_price,
        reduce_only=order.reduce_only,
        close_position=order.close_position,
        position_side=order.position_side or None,
    )


async def _send(order: Order, gateway: ExchangeGateway, *, is_told: bool) -> Answer:
    log.info(
        "order_sent", client_order_id=order.client_order_id, account=order.account.name, symbol=order.symbol
    )
    with priority(PRIORITY_OF[order.purpose]):
        return await _ask(order, gateway, is_told=is_told)


async def _ask(order: Order, gateway: ExchangeGateway, *, is_told: bool) -> Answer:
    try:
        report = await gateway.submit_order(request_of(order))
    except GatewayError as error:
        return Answer(order, error=error)
    answer = Answer(order, report=report)
    if report.filled_quantity > 0 and not is_told:
        await _read_fills(gateway, answer)
    return answer


async def _read_fills(gateway: ExchangeGateway, answer: Answer) -> None:
    """Fetch the executions behind an answer; the answer itself says nothing of prices."""
    if answer.report is None:
        return
    try:
        # A filled entry has no stop before its executions are rows: reading them is protecting it. What an
        # exit did may be read later: only its own request is never refused.
        with priority(Priority.PROTECTION):
            answer.fills = await gateway.fetch_fills(
                answer.order.symbol, exchange_order_id=answer.report.exchange_order_id
            )
    except ReadFailed as error:  # the sweeper reads them again: `fills_complete` stays False
        log.warning("fills_unread", client_order_id=answer.order.client_order_id, code=error.code)


def _unforeseen(error: BaseException) -> GatewayError:
    """Whatever was not foreseen may have happened after the bytes left."""
    if isinstance(error, GatewayError):
        return error
    log.error("order_send_failed", error=type(error).__name__, detail=str(error)[:200])
    return OutcomeUnknown(type(error).__name__.upper()[:40])
