"""What an operator changes of an account, where the desk's own rows have a say."""

from datetime import datetime

from django.db import transaction
from django.db.models import Q

from accounts.errors import AccountRefused
from accounts.models import Account
from accounts.services.limits import check_owners
from accounts.services.registry import HIGHEST_LEVERAGE, group_named, refuse_untried_modes, wipe_keys
from trading.domain.states import OPEN, OrderStatus, PositionStatus
from trading.models import Order, Position

MAY_HAVE_FILLED = (OrderStatus.FILLED, OrderStatus.EXPIRED, OrderStatus.CANCELLED)
"""Ended orders whose executions may still be unread: a position that no row shows yet."""


def archive(account: Account, now: datetime) -> None:
    """Take an account out of service for good: its keys are wiped, its rows stay.

    Raises AccountRefused: ARCHIVED when it was before; HAS_POSITION or UNRESOLVED_ORDER while something is
    open, which nobody could close without keys.
    """
    with transaction.atomic():
        # Held until the keys are gone, so that no allocation is made for it in between.
        locked = Account.objects.select_for_update().get(pk=account.pk)
        if locked.archived_at is not None:
            raise AccountRefused("ARCHIVED", f"{account.name} is archived already.")
        refuse_holding(account)
        unresolved = Q(status__in=sorted(OPEN)) | Q(status__in=MAY_HAVE_FILLED, fills_complete=False)
        if Order.objects.filter(unresolved, account=account).exists():
            raise AccountRefused("UNRESOLVED_ORDER", f"{account.name} has an order that is not resolved yet.")
        wipe_keys(locked, now)


def change_group(account: Account, group: str) -> None:
    """Put an account into a group, made when it is new; an empty name takes it out.

    Raises AccountRefused(BAD_LIMIT) when its own limits contradict the group's, and then it stays.
    """
    with transaction.atomic():
        account.group = group_named(group)
        account.save(update_fields=["group"])
        check_owners([account])


def change_canary(account: Account, *, is_canary: bool) -> None:
    """Let an account go first in staged decisions, or with the rest."""
    account.is_canary = is_canary
    account.save(update_fields=["is_canary"])


def change_modes(account: Account, position_mode: str | None, margin_mode: str | None) -> None:
    """Ask for another position or margin mode; the next verification and read-back bring it about.

    Raises AccountRefused: HAS_POSITION while something is open, which holds the exchange in its mode;
    NOT_TRIED where the exchange was not tried with it.
    """
    position_mode, margin_mode = position_mode or account.position_mode, margin_mode or account.margin_mode
    if (position_mode, margin_mode) == (account.position_mode, account.margin_mode):
        return
    refuse_untried_modes(account.exchange, position_mode, margin_mode)
    refuse_holding(account)
    account.position_mode, account.margin_mode = position_mode, margin_mode
    account.save(update_fields=["position_mode", "margin_mode"])


def refuse_holding(account: Account) -> None:
    """Raise AccountRefused(HAS_POSITION) while the account holds something."""
    if Position.objects.filter(account=account, status=PositionStatus.OPEN).exists():
        raise AccountRefused("HAS_POSITION", f"{account.name} holds a position: close it first.")


def change_leverage(account: Account, leverage: int) -> None:
    """Ask for another leverage; entries wait until it was read back. Raises AccountRefused(BAD_LEVERAGE)."""
    if not 1 <= leverage <= HIGHEST_LEVERAGE:
        raise AccountRefused("BAD_LEVERAGE", f"Leverage {leverage} is outside 1 to {HIGHEST_LEVERAGE}.")
    account.leverage = leverage
    account.save(update_fields=["leverage"])
