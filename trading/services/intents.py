"""What is wanted of a position, kept in its row until it is carried out. Nothing is sent here."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from django.db import transaction

from trading.domain.states import CloseReason, PositionStatus
from trading.models import Position, PositionEvent
from trading.services.position_rows import lock, note, step

ZERO = Decimal(0)
BY_OPERATOR = frozenset({CloseReason.MANUAL, CloseReason.FLATTEN})
ASKED_FOR = BY_OPERATOR | {CloseReason.SIGNAL}
STOP_RULES = frozenset(
    {CloseReason.STOP_LOSS, CloseReason.BREAK_EVEN, CloseReason.RATCHET, CloseReason.TRAILING}
)


def intend_close(
    position_id: int,
    *,
    reason: CloseReason,
    now: datetime,
    quantity: Decimal | None = None,
    legs: Sequence[int] = (),
) -> bool:
    """Keep in the row that the position, or `quantity` of it, must go; False when that changes nothing."""
    with transaction.atomic():
        position = lock(position_id)
        is_new = want_closed(position, reason, now, quantity=quantity, legs=legs)
        position.save()
    return is_new


def want_closed(
    position: Position,
    reason: CloseReason,
    now: datetime,
    *,
    quantity: Decimal | None = None,
    legs: Sequence[int] = (),
) -> bool:
    """Write the intent to a locked row, not yet saved, and note it; False when that changes nothing."""
    wanted = want(position, reason, now, quantity=quantity, legs=legs)
    if wanted is not None:
        wanted.save()
    return wanted is not None


def want(
    position: Position,
    reason: CloseReason,
    now: datetime,
    *,
    quantity: Decimal | None = None,
    legs: Sequence[int] = (),
) -> PositionEvent | None:
    """Write the intent to a row in memory; the step of its timeline, or None when that changes nothing.

    The first whole close stands, parts add up until they are the whole. Only what somebody asked for takes
    the place of a stop-out, which is taken back when the mark is. A foreign position goes only by an
    operator's word.
    """
    if position.status != PositionStatus.OPEN or position.quantity <= 0:
        return None
    if position.closing_for and not (position.closing_for in STOP_RULES and reason in ASKED_FOR):
        return None
    if position.is_foreign and reason not in BY_OPERATOR:
        return None
    wanted = position.quantity if quantity is None else quantity + already_wanted(position)
    if wanted >= position.quantity:
        position.closing_for, position.reduction = reason, {}
    else:
        known = position.reduction.get("legs", [])
        position.reduction = {"quantity": str(wanted), "legs": [*known, *legs], "reason": reason.value}
    position.check_at = now
    quantity_wanted = min(wanted, position.quantity)
    return step(position, "EXIT_WANTED", now, reason=reason, quantity=quantity_wanted, legs=list(legs))


def already_wanted(position: Position) -> Decimal:
    """What is wanted sold of the position but not yet sold; 0 for a whole close, which holds all."""
    return Decimal(position.reduction["quantity"]) if position.reduction else ZERO


def drop_intent(position: Position, now: datetime, why: str) -> None:
    """Want nothing any more of a locked position; saved."""
    position.closing_for = ""
    position.reduction = {}
    position.check_at = now
    position.save()
    note(position, "EXIT_DROPPED", now, reason=why)
