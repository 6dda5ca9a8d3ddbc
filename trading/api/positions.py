# ruff: noqa: ARG001 - the framework gives every route its request
from datetime import datetime
from typing import Literal
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Router, Schema, Status

from trading.api.authentication import needs
from trading.api.errors import ApiError
from trading.api.numbers import Figure, Text
from trading.api.paging import Page, PagingQuery, page_of
from trading.domain.states import CloseReason, PositionStatus
from trading.models import Position
from trading.services.bells import Bells
from trading.services.intents import intend_close
from trading.services.prices import fresh_marks
from trading.services.readings import PositionReading, read_position, read_positions
from trading.services.tokens import Scope
from trading.tasks import ring

router = Router(tags=["positions"])


class PositionOut(Schema):
    """One position: `price_move_pct` against the entry, `roe_pct` on its margin, `equity_pct` on the account.

    `mark_price` of a closed position is null: its figures are against `exit_price`.
    """

    id: UUID
    account: str
    market: str
    symbol: str
    side: str
    quantity: Figure
    initial_quantity: Figure
    leverage: int
    entry_price: Figure
    exit_price: Figure | None
    mark_price: Figure | None
    mark_at: datetime | None
    price_move_pct: Figure | None
    roe_pct: Figure | None
    equity_pct: Figure | None
    stop_price: Figure | None
    distance_to_stop_pct: Figure | None
    protection: str
    unprotected_seconds: Figure
    unrealized_profit: Figure | None
    realized_profit: Figure
    fees: Figure
    funding: Figure
    status: str
    close_reason: str
    closing_for: str
    is_foreign: bool
    opened_at: datetime
    closed_at: datetime | None
    decision_id: UUID | None
    is_demonstration: bool

    @classmethod
    def of(cls, reading: PositionReading) -> "PositionOut":
        """Show a reading whose row has its account, decision and source loaded."""
        row = reading.position
        return cls(
            id=row.uuid,
            account=row.account.name,
            market=row.market,
            symbol=row.symbol,
            side=reading.side,
            quantity=row.quantity,
            initial_quantity=row.initial_quantity,
            leverage=row.leverage,
            entry_price=row.entry_price,
            exit_price=row.exit_price,
            mark_price=reading.price if row.status == PositionStatus.OPEN else None,
            mark_at=reading.priced_at if row.status == PositionStatus.OPEN else None,
            price_move_pct=reading.price_move_pct,
            roe_pct=reading.roe_pct,
            equity_pct=reading.equity_pct,
            stop_price=row.stop_price,
            distance_to_stop_pct=reading.distance_to_stop_pct,
            protection=row.protection,
            unprotected_seconds=reading.unprotected_seconds,
            unrealized_profit=reading.unrealized_profit,
            realized_profit=row.realized_profit,
            fees=row.fees,
            funding=row.funding,
            status=row.status,
            close_reason=row.close_reason,
            closing_for=row.closing_for,
            is_foreign=row.is_foreign,
            opened_at=row.opened_at,
            closed_at=row.closed_at,
            decision_id=row.allocation.decision.uuid if row.allocation else None,
            is_demonstration=row.allocation is not None and row.allocation.decision.is_demonstration,
        )


@router.get("positions", auth=needs(Scope.READ), response=Page[PositionOut])
def list_positions(
    request: HttpRequest,
    paging: PagingQuery,
    status: Literal["", "OPEN", "CLOSED"] = "",
    account: Text = "",
    symbol: Text = "",
) -> Page[PositionOut]:
    """Positions, newest first, against the present marks."""
    now = settings.CLOCK.now()
    rows = Position.objects.select_related("account", "allocation__decision__signal__source")
    wanted = {"status": status, "account__name": account, "symbol": symbol}
    shown, following = page_of(
        rows.filter(**{name: value for name, value in wanted.items() if value}), paging
    )
    readings = read_positions(shown, fresh_marks(shown, now), now)
    return Page(items=[PositionOut.of(reading) for reading in readings], next=following)


@router.post("close-position/{uuid:position_id}", auth=needs(Scope.TRADE), response={202: PositionOut})
def close_position(request: HttpRequest, position_id: UUID) -> Status[PositionOut]:
    """Close what is open of a position at market, reduce-only. Asked twice, it is closed once."""
    now = settings.CLOCK.now()
    rows = Position.objects.select_related("account", "allocation__decision__signal__source")
    position = get_object_or_404(rows, uuid=position_id)
    if position.status == PositionStatus.CLOSED:
        raise ApiError(409, "POSITION_CLOSED", f"closed {position.closed_at}: {position.close_reason}")
    if position.is_foreign:
        raise ApiError(409, "FOREIGN", "the desk did not open this position and does not close it alone")
    # Only the intent: what follows reads the exchange with keys that this process may not have.
    intend_close(position.pk, reason=CloseReason.MANUAL, now=now)
    ring(Bells(positions=[position.pk]))
    position.refresh_from_db()
    mark = fresh_marks([position], now).get(position.symbol)
    return Status(202, PositionOut.of(read_position(position, mark, now)))
