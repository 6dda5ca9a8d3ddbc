"""What the exchange says of accounts now, read together. What could not be read is absent, never empty."""

from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TypeVar

import structlog

from accounts.models import Account
from accounts.services.gateways import gateway_for, market_data
from exchange.budget import Priority, priority
from exchange.errors import GatewayError
from exchange.loop import IoLoop
from exchange.port import ExchangeGateway, FillReport, Market, MarkPrice, OrderReport, PositionReport
from trading.models import Position

READ_SECONDS = 8.0
ZERO = Decimal(0)

Key = TypeVar("Key", bound=Hashable)
Picture = TypeVar("Picture")
Subject = TypeVar("Subject")

log = structlog.get_logger(__name__)


def positions_of(
    accounts: Iterable[Account], seconds: float = READ_SECONDS, urgency: Priority = Priority.LOOKUP
) -> dict[int, Sequence[PositionReport]]:
    """The open futures positions of each account by its id; one not read in these seconds is left out."""
    unique = {account.pk: account for account in accounts}
    with priority(urgency):
        return _read_all(
            unique,
            lambda account: (account, Market.FUTURES),
            lambda gateway, _: gateway.fetch_positions(),
            seconds,
        )


def resting_stops_of(positions: Iterable[Position]) -> dict[int, Sequence[OrderReport]]:
    """The resting stops on each position's symbol by position id; where the list failed, left out."""
    unique = {position.pk: position for position in positions}
    with priority(Priority.PROTECTION):
        return _read_all(
            unique,
            lambda position: (position.account, Market(position.market)),
            lambda gateway, position: gateway.fetch_open_orders(position.symbol, is_conditional=True),
        )


def fills_of(positions: Mapping[Position, datetime]) -> dict[int, Sequence[FillReport]]:
    """The executions on each position's symbol since a time, by position id; a failed read is left out."""
    unique = {position.pk: position for position in positions}
    with priority(Priority.LOOKUP):
        return _read_all(
            unique,
            lambda position: (position.account, Market(position.market)),
            lambda gateway, position: gateway.fetch_fills(position.symbol, since=positions[position]),
        )


def marks_of(positions: Iterable[Position]) -> dict[int, MarkPrice]:
    """The mark at the exchange this moment by position id, past every cache; nothing when it is not read."""
    asked = {position.pk: _perpetual(position) for position in positions}
    if not asked:
        return {}
    try:
        with priority(Priority.PROTECTION):
            read = IoLoop.current().run(market_data(Market.FUTURES).fetch_mark_prices(), READ_SECONDS)
    except (GatewayError, TimeoutError) as error:
        log.warning("exchange_read_failed", subject="marks", error=str(error)[:200])
        return {}
    marks = {mark.symbol: mark for mark in read}
    return {pk: marks[symbol] for pk, symbol in asked.items() if symbol in marks}


def _perpetual(position: Position) -> str:
    allocation = position.allocation
    signal = allocation.decision.signal if allocation else None
    return signal.symbol if signal else position.symbol


def position_report(reports: Sequence[PositionReport], position: Position) -> PositionReport | None:
    """The exchange's position behind ours, a stranger's share in it; None when the exchange is flat there."""
    for report in reports:
        if report.symbol == position.symbol and report.is_long == position.is_long and report.quantity > 0:
            return report
    return None


def our_share(reports: Sequence[PositionReport], position: Position) -> Decimal:
    """What the exchange holds beyond the stranger's share we know of."""
    report = position_report(reports, position)
    return max(ZERO, report.quantity - position.foreign_quantity) if report else ZERO


def is_flat(position: Position, read: Mapping[int, Sequence[PositionReport]]) -> bool:
    """Whether a successful reading shows nothing of ours; False for what was not read."""
    reports = read.get(position.account_id)
    return reports is not None and not our_share(reports, position)


def _read_all(
    subjects: Mapping[Key, Subject],
    owner: Callable[[Subject], tuple[Account, Market]],
    call: Callable[[ExchangeGateway, Subject], Awaitable[Picture]],
    seconds: float = READ_SECONDS,
) -> dict[Key, Picture]:
    async def read(subject: Subject) -> Picture:
        return await call(gateway_for(*owner(subject)), subject)

    answers = IoLoop.current().run_all([read(subject) for subject in subjects.values()], seconds)
    pictures: dict[Key, Picture] = {}
    for key, answer in zip(subjects, answers, strict=True):
        if isinstance(answer, BaseException):
            log.warning("exchange_read_failed", subject=str(key), error=str(answer)[:200])
        else:
            pictures[key] = answer
    return pictures
