"""Position rows: locked in one order everywhere, each step of a life noted, the unprotected clock exact."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

from django.db.models import QuerySet

from accounts.models import Account
from accounts.services.among import Among
from trading.domain.states import Protection
from trading.models import Position, PositionEvent
from trading.services.many_rows import new_row

ZERO = Decimal(0)
MILLISECOND = Decimal("0.001")
ASKED_OF_HOLDERS = (
    *("name", "group", "leverage", "is_hedge_mode"),
    *("wallet_balance", "unrealized_profit", "spot_wallet"),
)


def lock_accounts(account_ids: Iterable[int]) -> dict[int, Account]:
    """The newest accounts by id, locked in one order everywhere; inside a transaction."""
    return {account.pk: account for account in _locking(account_ids)}


def lock_holders(account_ids: Iterable[int]) -> dict[int, Account]:
    """As `lock_accounts`, with what executions ask of their account; whatever else is asked is read then."""
    return {account.pk: account for account in _locking(account_ids).only(*ASKED_OF_HOLDERS)}


def hold_accounts(account_ids: Iterable[int]) -> None:
    """As `lock_accounts`, for whoever needs the locks and not the rows."""
    list(_locking(account_ids).values_list("pk"))


def _locking(account_ids: Iterable[int]) -> QuerySet[Account]:
    rows = Account.objects.select_for_update(no_key=True).filter(Among("pk", set(account_ids)))
    return rows.order_by("pk")


def lock_many(position_ids: Iterable[int]) -> list[Position]:
    """The newest rows, locked after their accounts and in order, as fills lock: none waits for ever."""
    wanted = set(position_ids)
    owned_by = lock_accounts(Position.objects.filter(pk__in=wanted).values_list("account_id", flat=True))
    locked = list(Position.objects.select_for_update().filter(pk__in=wanted).order_by("account_id", "pk"))
    for position in locked:
        position.account = owned_by[position.account_id]
    return locked


def lock(position_id: int) -> Position:
    """One position's newest row, locked. Raises Position.DoesNotExist."""
    for position in lock_many([position_id]):
        return position
    raise Position.DoesNotExist(position_id)


def look_again(position: Position, at: datetime) -> None:
    """Ask to be looked at again at a time, even without a price tick."""
    Position.objects.filter(pk=position.pk).update(check_at=at)


def step(position: Position, code: str, at: datetime, **detail: object) -> PositionEvent:
    """Build a step of the position's timeline, not yet saved; money as text."""
    written = {name: str(value) if isinstance(value, Decimal) else value for name, value in detail.items()}
    return new_row(PositionEvent, position_id=position.pk, at=at, code=code, detail=written)


def note(position: Position, code: str, at: datetime, **detail: object) -> None:
    """Add a step to the position's timeline; money as text."""
    step(position, code, at, **detail).save()


def set_protection(position: Position, state: Protection, now: datetime) -> None:
    """Move a locked position to `state` and keep its unprotected seconds exact; saved.

    Everything but VERIFIED counts as unprotected. What was accepted and is lost starts the clock of the
    ten seconds again; the seconds before it stay counted.
    """
    if position.protection == state:
        return
    if state != Protection.ACKED:
        stop_unprotected_clock(position, now)
    position.unprotected_since = _unprotected_since(position, state, now)
    position.protection = state
    position.acked_at = now if state == Protection.ACKED else None
    if state == Protection.VERIFIED:
        position.verified_at = now
    position.save()
    note(position, state.value, now, unprotected_seconds=position.unprotected_seconds)


def _unprotected_since(position: Position, state: Protection, now: datetime) -> datetime | None:
    if state == Protection.VERIFIED:
        return None
    if state == Protection.ACKED and position.unprotected_since is not None:
        return position.unprotected_since
    return now


def stop_unprotected_clock(position: Position, at: datetime) -> None:
    """Count the seconds that ran without a verified stop; not yet saved."""
    if position.unprotected_since is not None:
        position.unprotected_seconds += _seconds(position.unprotected_since, at)
    position.unprotected_since = None


def _seconds(since: datetime, until: datetime) -> Decimal:
    return max(ZERO, Decimal(str((until - since).total_seconds()))).quantize(MILLISECOND)
