# ruff: noqa: ARG001 - the framework gives every route its request
from datetime import datetime
from typing import Annotated, Any, Literal

from django.conf import settings
from django.http import HttpRequest
from ninja import Router, Schema, Status
from pydantic import ConfigDict, Field, StringConstraints

from trading.api.authentication import caller, needs
from trading.api.errors import ApiError
from trading.api.numbers import Text
from trading.models import Halt
from trading.services import emergency
from trading.services.halts import ScopeUnknown
from trading.services.tokens import Scope
from trading.tasks import ring

router = Router(tags=["stop everything"])

Reason = Annotated[Text, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)]
ScopeText = Annotated[
    Text,
    Field(description="desk, group:<name>, account:<name>, symbol:<symbol> or venue:<name>", max_length=90),
]


class StopIn(Schema):
    """What to stop and how hard; each level includes the one before."""

    model_config = ConfigDict(extra="forbid")

    scope: ScopeText
    level: Literal["HALT_ENTRIES", "CANCEL_ORDERS", "FLATTEN"]
    reason: Reason
    includes_foreign: bool = Field(
        default=False, description="flatten strangers' positions too; the result of a flatten names them"
    )


class ResumeIn(Schema):
    """What may trade again."""

    model_config = ConfigDict(extra="forbid")

    scope: ScopeText
    reason: Reason


class HaltOut(Schema):
    """A standing order to stop, with what was done for it per account so far."""

    scope: str
    level: str
    code: str
    reason: str
    raised_by: str
    is_automatic: bool
    raised_at: datetime
    resumed_at: datetime | None
    resumed_by: str
    resume_reason: str
    result: dict[str, Any]

    @classmethod
    def of(cls, halt: Halt) -> "HaltOut":
        """Show a row."""
        return cls(
            scope=f"{halt.scope}:{halt.target}" if halt.target else halt.scope,
            level=halt.level,
            code=halt.code,
            reason=halt.reason,
            raised_by=halt.raised_by,
            is_automatic=halt.is_automatic,
            raised_at=halt.raised_at,
            resumed_at=halt.resumed_at,
            resumed_by=halt.resumed_by,
            resume_reason=halt.resume_reason,
            result=halt.result,
        )


class HaltList(Schema):
    """Every standing halt; empty when the desk is free to trade."""

    items: list[HaltOut]
    next: None = None


@router.post("emergency-stop", auth=needs(Scope.TRADE), response={202: HaltOut})
def stop(request: HttpRequest, body: StopIn) -> Status[HaltOut]:
    """Stop entries, cancel orders or flatten, at once, in this scope. Read the result with GET."""
    now = settings.CLOCK.now()
    try:
        halt, bells = emergency.raise_halt(
            body.scope,
            body.level,
            body.reason,
            caller(request),
            now,
            includes_foreign=body.includes_foreign and body.level == "FLATTEN",
            ring=ring,
        )
    except ScopeUnknown as error:
        raise ApiError(422, "SCOPE", str(error)) from error
    ring(bells)
    return Status(202, HaltOut.of(halt))


@router.post("resume", auth=needs(Scope.TRADE), response=HaltList)
def resume(request: HttpRequest, body: ResumeIn) -> HaltList:
    """Lift every halt of this scope; what still stands is returned."""
    try:
        emergency.resume(body.scope, body.reason, caller(request), settings.CLOCK.now())
    except ScopeUnknown as error:
        raise ApiError(422, "SCOPE", str(error)) from error
    return _standing()


@router.get("emergency-stop", auth=needs(Scope.READ), response=HaltList)
def list_halts(request: HttpRequest) -> HaltList:
    """Every standing halt with its result per account."""
    return _standing()


def _standing() -> HaltList:
    return HaltList(items=[HaltOut.of(halt) for halt in Halt.objects.filter(resumed_at__isnull=True)])
