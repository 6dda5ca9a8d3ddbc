"""The limits an account really has: the desk's, overlaid by its group's, overlaid by its own."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction

from accounts.errors import AccountRefused
from accounts.models import Account, AccountGroup, LimitOverride
from accounts.services.among import Among

DESK, GROUP, ACCOUNT = "desk", "group", "account"

log = structlog.get_logger(__name__)

Overrides = dict[str, str]


@dataclass(frozen=True, slots=True)
class EffectiveLimits:
    """The limits of one account, of the type of `settings.LIMITS`, and who set what is not the desk's."""

    limits: Any
    origins: Mapping[str, str]

    def origin(self, name: str) -> str:
        """Who set this limit: desk, group or account."""
        return self.origins.get(name, DESK)

    def shown(self) -> dict[str, tuple[str, str]]:
        """Every limit an account can have as its own, as written in a setting, with its origin."""
        return {
            name: (text, self.origin(name))
            for name, text in self.limits.as_edge().items()
            if self._is_own(name)
        }

    def _is_own(self, name: str) -> bool:
        return name not in self.limits.desk_only


def effective_limits(account: Account) -> EffectiveLimits:
    """The limits of one account. Raises ValueError when its overrides contradict the desk's settings."""
    of_group, of_account = _overrides_of([account])
    return _effective(of_group.get(account.group_id, {}), of_account.get(account.pk, {}), {})


def effective_limits_of(accounts: Iterable[Account]) -> dict[int, EffectiveLimits]:
    """The limits of many accounts by id, in two queries.

    An account whose overrides contradict the desk's settings is left out: it has no limits to enter under.
    """
    chosen = list(accounts)
    of_group, of_account = _overrides_of(chosen)
    known: dict[frozenset[tuple[str, str]], Any] = {}
    found: dict[int, EffectiveLimits] = {}
    for account in chosen:
        try:
            found[account.pk] = _effective(
                of_group.get(account.group_id, {}), of_account.get(account.pk, {}), known
            )
        except ValueError as error:
            log.warning("limits contradict", account=account.name, problem=str(error))
    return found


def set_override(owner: Account | AccountGroup, name: str, value: str, changed_by: str) -> LimitOverride:
    """Set one limit of a group or an account, as text (percent where it is one).

    Raises AccountRefused(BAD_LIMIT) for an unknown name, a limit of the desk alone, a bad value, or one that
    contradicts what the owner or any account of the group has otherwise; then nothing is stored.
    """
    if name.lower() in settings.LIMITS.desk_only:
        raise AccountRefused("BAD_LIMIT", f"{name.lower()} is the desk's: no group or account has its own.")
    owned: dict[str, Any] = {"account": owner} if isinstance(owner, Account) else {"group": owner}
    with transaction.atomic():
        row, _ = LimitOverride.objects.update_or_create(
            name=name.lower(), **owned, defaults={"value": value, "changed_by": changed_by}
        )
        check_owner(owner)
    return row


def check_owner(owner: Account | AccountGroup) -> None:
    """Raise AccountRefused(BAD_LIMIT) when stored overrides of a group or an account cannot be used."""
    of_group = _texts(LimitOverride.objects.filter(group=owner)) if isinstance(owner, AccountGroup) else {}
    accounts = Account.objects.filter(group=owner) if isinstance(owner, AccountGroup) else [owner]
    try:
        _overlaid(of_group)
        for account in accounts:
            effective_limits(account)
    except ValueError as error:
        raise AccountRefused("BAD_LIMIT", str(error)) from error


def _effective(
    of_group: Overrides, of_account: Overrides, known: dict[frozenset[tuple[str, str]], Any]
) -> EffectiveLimits:
    merged = {**of_group, **of_account}
    key = frozenset(merged.items())
    if key not in known:
        known[key] = _overlaid(merged)
    origins = {**dict.fromkeys(of_group, GROUP), **dict.fromkeys(of_account, ACCOUNT)}
    return EffectiveLimits(known[key], origins)


def _overlaid(overrides: Overrides) -> Any:
    """The desk's limits with some written otherwise. Raises ValueError naming every problem."""
    desk = settings.LIMITS
    return type(desk).from_mapping({**desk.as_edge(), **overrides}) if overrides else desk


def _overrides_of(accounts: Iterable[Account]) -> tuple[dict[int | None, Overrides], dict[int, Overrides]]:
    chosen = list(accounts)
    of_group: dict[int | None, Overrides] = defaultdict(dict)
    for row in LimitOverride.objects.filter(group__in={account.group_id for account in chosen} - {None}):
        of_group[row.group_id][row.name] = row.value
    of_account: dict[int, Overrides] = defaultdict(dict)
    for row in LimitOverride.objects.filter(Among("account_id", [account.pk for account in chosen])):
        of_account[row.account_id or 0][row.name] = row.value
    return of_group, of_account


def _texts(rows: Iterable[LimitOverride]) -> Overrides:
    return {row.name: row.value for row in rows}
