# ruff: noqa: ARG001 - the framework gives every route its request
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Router, Schema, Status
from pydantic import ConfigDict

from exchange.errors import ReadFailed
from trading.api.authentication import needs
from trading.api.errors import ApiError
from trading.api.numbers import Figure, Text
from trading.api.paging import Page, PagingQuery, page_of
from trading.models import Allocation, Decision, Signal
from trading.services import selection
from trading.services.bells import Bells
from trading.services.fan_outs import FanOut, Step, read_fan_outs, read_steps
from trading.services.tokens import Scope
from trading.tasks import ring

router = Router(tags=["decisions"])


class DecisionIn(Schema):
    """Which signal to execute now; `is_staged` has canaries go first, or not. Null: as the desk is set."""

    model_config = ConfigDict(extra="forbid")

    signal_id: UUID
    is_staged: bool | None = None


class LatencyOut(Schema):
    """From the decision's record to the exchange's acknowledgement over the accounts, in ms.

    The decision is recorded once the market was read and the choice made. Null before an answer; an account
    the exchange refused has none. `median` and `p99` are nearest ranks.
    """

    first: int | None
    median: int | None
    p99: int | None
    last: int | None


class SlippageOut(Schema):
    """Basis points against the decision's mark over the accounts that filled; positive costs."""

    mean: Figure | None
    worst: Figure | None


class EndingOut(Schema):
    """How many accounts ended with this outcome and code."""

    outcome: str
    code: str
    accounts: int


class StepOut(Schema):
    """One executor's part in a share: an attempt with its order, or a refusal without one."""

    attempt: int
    executor: str
    market: str
    status: str
    code: str
    client_order_id: str | None
    numbers: dict[str, Any]


class AllocationOut(Schema):
    """One account's share and its one known end, with every step to it.

    `place` is where it stands in the start order, `wave` 2 where it waits for canaries; `latency_ms` as in
    the decision's; `slippage_bps` against its mark, positive when it cost.
    """

    account: str
    outcome: str
    code: str
    executor: str
    market: str
    place: int | None
    wave: int
    client_order_id: str | None
    quantity: Figure | None
    filled_quantity: Figure
    average_price: Figure | None
    latency_ms: int | None
    slippage_bps: Figure | None
    detail: dict[str, Any]
    steps: list[StepOut]


class DecisionOut(Schema):
    """A choice, why, and how many accounts ended how.

    `turn` counts choices: the accounts' start order moves on with it. Of a staged decision `wave` is 1 while
    the canaries are out and 2 once the rest was let go.
    """

    id: UUID
    signal_id: UUID | None
    symbol: str | None
    side: str | None
    status: str
    reason: str
    is_requested: bool
    is_staged: bool
    wave: int
    turn: int
    quality: Figure | None
    confidence: Figure | None
    mark_price: Figure | None
    cap_price: Figure | None
    decided_at: datetime
    deadline_at: datetime | None
    completed_at: datetime | None
    stopped_code: str
    is_demonstration: bool
    counts: dict[str, int]
    endings: list[EndingOut]
    latency_ms: LatencyOut
    slippage_bps: SlippageOut


class DecisionDetail(DecisionOut):
    """A decision with its whole ledger: one row an account.

    `candidates` tell their quality, its parts, and as `verdict` why they won or lost; `considered` how many
    signals waited, were candidates, and were refused for each reason.
    """

    candidates: list[dict[str, Any]]
    considered: dict[str, int]
    inputs: dict[str, Any]
    allocations: list[AllocationOut]


@router.post("decisions", auth=needs(Scope.TRADE), response={200: DecisionDetail, 202: DecisionDetail})
def request_decision(request: HttpRequest, body: DecisionIn) -> Status[DecisionDetail]:
    """Execute this signal now: skips ranking and cooldown, never the gate.

    202 when it is under way; 200 with the decision the signal already led to.
    """
    signal = get_object_or_404(Signal.objects.select_related("source"), uuid=body.signal_id)
    known = _decisions().filter(signal=signal).first()
    if known is not None:
        return Status(200, _detail(known))
    now = settings.CLOCK.now()
    try:
        decision = selection.request(signal, now, is_staged=body.is_staged)
    except selection.RequestRefused as refusal:
        raise ApiError(409, refusal.code, refusal.message) from refusal
    except ReadFailed as failure:
        raise ApiError(503, "MARKET_UNREAD", "the market could not be read; ask again") from failure
    ring(Bells(decisions=[decision.pk]))
    return Status(202, _detail(_decisions().get(pk=decision.pk)))


@router.get("decisions", auth=needs(Scope.READ), response=Page[DecisionOut])
def list_decisions(request: HttpRequest, paging: PagingQuery, status: Text = "") -> Page[DecisionOut]:
    """Decisions, newest first, each with its counts."""
    rows = _decisions().filter(status=status.upper()) if status else _decisions()
    shown, following = page_of(rows, paging)
    fan_outs = read_fan_outs(shown)
    return Page(items=[DecisionOut(**_shown(row, fan_outs[row.pk])) for row in shown], next=following)


@router.get("decisions/{uuid:decision_id}", auth=needs(Scope.READ), response=DecisionDetail)
def read_decision(request: HttpRequest, decision_id: UUID) -> DecisionDetail:
    """One decision: the fan-out ledger."""
    return _detail(get_object_or_404(_decisions(), uuid=decision_id))


def _decisions() -> QuerySet[Decision]:
    return Decision.objects.select_related("signal__source")


def _shown(decision: Decision, fan_out: FanOut) -> dict[str, Any]:
    signal = decision.signal
    return {
        "id": decision.uuid,
        "signal_id": signal.uuid if signal else None,
        "symbol": signal.symbol if signal else None,
        "side": signal.side if signal else None,
        "status": decision.status,
        "reason": decision.reason,
        "is_requested": decision.is_requested,
        "is_staged": decision.is_staged,
        "wave": decision.wave,
        "turn": decision.turn,
        "quality": decision.quality,
        "confidence": decision.confidence,
        "mark_price": decision.mark_price,
        "cap_price": decision.cap_price,
        "decided_at": decision.decided_at,
        "deadline_at": decision.deadline_at,
        "completed_at": decision.completed_at,
        "stopped_code": decision.stopped_code,
        "is_demonstration": decision.is_demonstration,
        "counts": fan_out.counts,
        "endings": [EndingOut(**asdict(one)) for one in fan_out.endings],
        "latency_ms": LatencyOut(**asdict(fan_out.latency)),
        "slippage_bps": SlippageOut(**asdict(fan_out.slippage)),
    }


def _detail(decision: Decision) -> DecisionDetail:
    fan_out = read_fan_outs([decision])[decision.pk]
    shares = list(decision.allocations.select_related("account").order_by("account__name"))
    steps = read_steps(shares)
    return DecisionDetail(
        **_shown(decision, fan_out),
        candidates=decision.candidates,
        considered=decision.considered,
        inputs=decision.inputs,
        allocations=[_share(share, steps[share.pk]) for share in shares],
    )


def _share(share: Allocation, steps: Sequence[Step]) -> AllocationOut:
    sent = [step.client_order_id for step in steps if step.client_order_id is not None]
    return AllocationOut(
        account=share.account.name,
        outcome=share.outcome,
        code=share.code,
        executor=share.executor,
        market=share.market,
        place=share.place,
        wave=share.wave,
        client_order_id=sent[-1] if sent else None,
        quantity=share.quantity,
        filled_quantity=share.filled_quantity,
        average_price=share.average_price,
        latency_ms=share.latency_ms,
        slippage_bps=share.slippage_bps,
        detail=share.detail,
        steps=[StepOut(**asdict(step)) for step in steps],
    )
