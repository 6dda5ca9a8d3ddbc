# ruff: noqa: ARG001 - the framework gives every route its request
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import structlog
from django.conf import settings
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Router, Schema, Status
from pydantic import ConfigDict, Field

from exchange.errors import ReadFailed
from trading.api.authentication import needs
from trading.api.errors import ApiError
from trading.api.numbers import Figure, GivenFigure, Moment, Text
from trading.api.paging import Page, PagingQuery, page_of
from trading.models import Signal
from trading.services import signals
from trading.services.tokens import Scope
from trading.tasks import ring, ring_symbols

router = Router(tags=["signals"])


class SignalIn(Schema):
    """Advice from a source. `source` and `external_id` name it for ever: sent again, it is the same."""

    model_config = ConfigDict(extra="forbid")

    source: Annotated[str, Field(min_length=1, max_length=60)]
    external_id: Annotated[str, Field(min_length=1, max_length=100)]
    symbol: Annotated[str, Field(min_length=1, max_length=40)]
    side: Literal["LONG", "SHORT"]
    action: Literal["open", "close", "cancel"] = "open"
    score: GivenFigure | None = None
    entry_price: GivenFigure | None = None
    stop_price: GivenFigure | None = None
    take_profit_price: GivenFigure | None = None
    created_at: Moment | None = None
    expires_at: Moment | None = None


class SignalOut(Schema):
    """A signal as it was taken in, and where it stands."""

    id: UUID
    source: str
    external_id: str
    symbol: str
    side: str
    action: str
    score: Figure
    entry_price: Figure | None
    stop_price: Figure | None
    take_profit_price: Figure | None
    created_at: datetime
    received_at: datetime
    expires_at: datetime | None
    status: str
    note: str
    is_demonstration: bool
    decision_id: UUID | None

    @classmethod
    def of(cls, signal: Signal) -> "SignalOut":
        """Show a row whose source and decision are loaded."""
        decision = getattr(signal, "decision", None)
        return cls(
            id=signal.uuid,
            source=signal.source.name,
            external_id=signal.external_id,
            symbol=signal.symbol,
            side=signal.side,
            action=signal.action,
            score=signal.score,
            entry_price=signal.entry_price,
            stop_price=signal.stop_price,
            take_profit_price=signal.take_profit_price,
            created_at=signal.created_at,
            received_at=signal.received_at,
            expires_at=signal.expires_at,
            status=signal.status,
            note=signal.note,
            is_demonstration=signal.source.is_demonstration,
            decision_id=decision.uuid if decision else None,
        )


@router.post("signals", auth=needs(Scope.SIGNALS_WRITE), response={200: SignalOut, 201: SignalOut})
def send_signal(request: HttpRequest, body: SignalIn) -> Status[SignalOut]:
    """Take a signal in: 201 when it is new, 200 with the same id when it is known."""
    now = settings.CLOCK.now()
    try:
        signal, is_new = signals.intake(body.source, _draft(body), now)
    except signals.SignalRefused as refusal:
        raise ApiError(422, refusal.code, refusal.message) from refusal
    except ReadFailed as failure:
        raise ApiError(503, "MARKET_UNREAD", "the market table was not read yet; send it again") from failure
    if is_new:
        ring(signals.act(signal, now))
        ring_symbols([signal.symbol])
    return Status(201 if is_new else 200, SignalOut.of(signal))


@router.get("signals", auth=needs(Scope.READ), response=Page[SignalOut])
def list_signals(
    request: HttpRequest, paging: PagingQuery, status: Text = "", source: Text = ""
) -> Page[SignalOut]:
    """Signals, newest first."""
    rows = Signal.objects.select_related("source", "decision")
    rows = rows.filter(status=status.upper()) if status else rows
    rows = rows.filter(source__name=source) if source else rows
    shown, following = page_of(rows, paging)
    return Page(items=[SignalOut.of(signal) for signal in shown], next=following)


@router.get("signals/{uuid:signal_id}", auth=needs(Scope.READ), response=SignalOut)
def read_signal(request: HttpRequest, signal_id: UUID) -> SignalOut:
    """One signal."""
    return SignalOut.of(
        get_object_or_404(Signal.objects.select_related("source", "decision"), uuid=signal_id)
    )


def _draft(body: SignalIn) -> signals.SignalDraft:
    trace_id = str(structlog.contextvars.get_contextvars().get("trace_id", ""))
    return signals.SignalDraft(**body.dict(exclude={"source"}), trace_id=trace_id)
