"""Position rows: locked in one order everywhere, each step of a life noted, the unprotected clock exact."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import QuerySet

from accounts.models import Account
from accounts.services.fixed_queries import AmongGiven, FixedQuery, Statement, carry_out
from trading.domain.states import Protection
from trading.models import Position, PositionEvent
from trading.services.many_rows import new_row

ZERO = Decimal(0)
MILLISECOND = Decimal("0.001")
ASKED_OF_HOLDERS = (
    *("name", "group", "leverage", "is_hedge_mode"),
    *("wallet_balance", "unrealized_profit", "spot_wallet"),
)


def _locking() -> QuerySet[Account]:
    return Account.objects.select_for_update(no_key=True).filter(AmongGiven("pk", "ids")).order_by("pk")


_ACCOUNTS = FixedQuery(_locking)
_HOLDERS = FixedQuery(lambda: _locking().only(*ASKED_OF_HOLDERS))
_HELD = FixedQuery(lambda: _locking().values_list("pk"))
_OWNERS = FixedQuery(
    lambda: (
        Account.objects.select_for_update(no_key=True)
        .filter(pk__in=Position.objects.filter(AmongGiven("pk", "ids")).order_by().values("account_id"))
        .order_by("pk")
    )
)
_POSITIONS = FixedQuery(
    lambda: Position.objects.select_for_update().filter(AmongGiven("pk", "ids")).order_by("account_id", "pk")
)


def lock_accounts(account_ids: Iterable[int]) -> dict[int, Account]:
    """The newest accounts by id, locked in one order everywhere; inside a transaction."""
    return {account.pk: account for account in _ACCOUNTS.ask(ids=set(account_ids))}


def lock_holders(account_ids: Iterable[int], then: Statement) -> tuple[dict[int, Account], Any]:
    """As `lock_accounts`, with what executions ask of their account; whatever else is asked is read then.

    And what a further statement reads once they are locked.
    """
    holders, read = carry_out(_HOLDERS.told(ids=set(account_ids)), then)
    return {account.pk: account for account in holders}, read


def hold_accounts(account_ids: Iterable[int]) -> None:
    """As `lock_accounts`, for whoever needs the locks and not the rows."""
    _HELD.ask(ids=set(account_ids))


def lock_many(position_ids: Iterable[int]) -> list[Position]:
    """The newest rows, locked after their accounts and in order, as fills lock: none waits for ever."""
    return lock_beside(position_ids)[0]


def lock_beside(position_ids: Iterable[int], *more: FixedQuery) -> tuple[list[Position], list[list[Any]]]:
    """As `lock_many`, and what further queries tell of these `ids` once they are locked."""
    wanted = set(position_ids)
    if not wanted:
        return [], [[] for _ in more]
    asked = (query.told(ids=wanted) for query in (_OWNERS, _POSITIONS, *more))
    owners, locked, *told = carry_out(*asked)
    owned_by: dict[int, Account] = {account.pk: account for account in owners}
    for position in locked:
        position.relate(account=owned_by[position.account_id])
    return locked, told


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


def set_protection(position: Position, state: Protection, now: datetime) -> PositionEvent | None:
    """Move a locked position to `state` in memory, its unprotected seconds exact; the step if that moved it.

    Everything but VERIFIED counts as unprotected. What was accepted and is lost starts the clock of the
    ten seconds again; the seconds before it stay counted.
    """
    if position.protection == state:
        return None
    if state != Protection.ACKED:
        stop_unprotected_clock(position, now)
    position.unprotected_since = _unprotected_since(position, state, now)
    position.protection = state
    position.acked_at = now if state == Protection.ACKED else None
    if state == Protection.VERIFIED:
        position.verified_at = now
    return step(position, state.value, now, unprotected_seconds=position.unprotected_seconds)


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
