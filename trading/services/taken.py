"""Positions that somebody else ended: the exchange itself, or a person at its own page.

An execution read by its symbol does not say who ordered it. The exchange marks its own orders by their client
id, which is read here before anybody is told.
"""

from collections.abc import Sequence
from datetime import datetime

import structlog

from accounts.services.gateways import gateway_for
from alerts.models import Severity
from alerts.services import raise_alert
from exchange.loop import IoLoop
from exchange.port import Market
from trading.domain.states import CloseReason, PositionStatus
from trading.models import Fill, Position
from trading.services.positions import close_reason

READ_SECONDS = 8.0
MOST_NAMED = 20
"""Executions asked about in one tick."""

TAKEN = (CloseReason.FOREIGN, CloseReason.LIQUIDATED, CloseReason.ADL, CloseReason.SETTLED)

log = structlog.get_logger(__name__)


def tell_taken(position_ids: Sequence[int], now: datetime) -> None:
    """Find out who closed these positions, if it was not the desk, and tell it once each."""
    closed = Position.objects.filter(pk__in=position_ids, status=PositionStatus.CLOSED).select_related(
        "account"
    )
    taken = list(closed.filter(close_reason__in=TAKEN))
    _name_closers([position for position in taken if position.close_reason == CloseReason.FOREIGN])
    for position in taken:
        raise_alert(
            f"taken:{position.pk}",
            Severity.CRITICAL,
            position.close_reason,
            f"{position.symbol}: closed by others than the desk ({position.close_reason}).",
            account=position.account.name,
            symbol=position.symbol,
            now=now,
        )


def tell_reduced(position_ids: Sequence[int], now: datetime) -> None:
    """Find out who reduced positions that are still open; what the exchange took is told, a person's is not.

    That one is told as a correction already.
    """
    unnamed = Fill.objects.filter(
        position__in=position_ids,
        position__status=PositionStatus.OPEN,
        order__isnull=True,
        client_order_id="",
    )
    fills = list(unnamed.select_related("account", "position").order_by("-filled_at")[:MOST_NAMED])
    _name(fills)
    for fill in fills:
        reason = close_reason(fill)
        if fill.position is not None and reason in TAKEN and reason != CloseReason.FOREIGN:
            raise_alert(
                f"taken:{fill.position_id}",
                Severity.CRITICAL,
                reason,
                f"{fill.symbol}: {fill.quantity.normalize():f} of it were taken by the exchange ({reason}).",
                account=fill.account.name,
                symbol=fill.symbol,
                now=now,
            )


def _name_closers(positions: Sequence[Position]) -> None:
    """Write the client ids behind the executions that closed them, and the reason these tell."""
    last = {position: _last_stranger(position) for position in positions}
    unnamed = [fill for fill in last.values() if fill is not None and not fill.client_order_id]
    _name(unnamed)
    for position, closer in last.items():
        if closer is not None:
            position.close_reason = close_reason(closer)
            position.save(update_fields=["close_reason", "updated_at"])


def _name(fills: Sequence[Fill]) -> None:
    """Write the client ids of the orders behind executions; one that cannot be read stays a stranger's."""
    answers = IoLoop.current().run_all([_client_order_id(fill) for fill in fills], READ_SECONDS)
    for fill, answer in zip(fills, answers, strict=True):
        if isinstance(answer, BaseException):
            log.warning("closer_not_named", account=fill.account.name, error=str(answer)[:200])
            continue
        fill.client_order_id = answer
        fill.save(update_fields=["client_order_id"])


def _last_stranger(position: Position) -> Fill | None:
    fills = Fill.objects.filter(position=position, order__isnull=True).select_related("account")
    return fills.order_by("filled_at", "pk").last()


async def _client_order_id(fill: Fill) -> str:
    gateway = gateway_for(fill.account, Market(fill.market))
    return await gateway.fetch_client_order_id(fill.symbol, fill.exchange_order_id)
