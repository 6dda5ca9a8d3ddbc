"""The limits an account really has: the desk's, overlaid by its group's, overlaid by its own.

The desk's are those of its settings, overlaid by what was set for the desk here. Rows are read at every use:
a change counts from the next allocation on. Every change is kept with what was before, who and when.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet

from accounts.errors import AccountRefused
from accounts.models import Account, AccountGroup, LimitChange, LimitOverride
from accounts.services.entrants import Trader
from accounts.services.fixed_queries import AmongGiven, FixedQuery

SETTING, DESK, GROUP, ACCOUNT = "setting", "desk", "group", "account"

LONGEST_NAME, LONGEST_VALUE = 60, 40

log = structlog.get_logger(__name__)

Overrides = Mapping[str, str]
Owner = Account | AccountGroup | None
"""Who has a limit otherwise; None is the desk."""

RACES_LOST_AT_MOST = 5

_Place = tuple[str, int, str]
"""Scope, number of the owner and name of the limit: there is one row at most."""


@dataclass(frozen=True, slots=True)
class EffectiveLimits:
    """The limits of one account or of the desk, of the type of `settings.LIMITS`, and who set what.

    A limit without an origin is the setting's: the default of the mode or a `LIMIT_*` of the environment.
    """

    limits: Any
    origins: Mapping[str, str]

    def origin(self, name: str) -> str:
        """Who set this limit: setting, desk, group or account."""
        return self.origins.get(name, SETTING)

    def shown(self) -> dict[str, tuple[str, str]]:
        """Every limit an account can have as its own, as written in a setting, with its origin."""
        return {name: told for name, told in self.shown_whole().items() if name not in self.limits.desk_only}

    def shown_whole(self) -> dict[str, tuple[str, str]]:
        """As `shown`, with what only the desk decides."""
        return {name: (text, self.origin(name)) for name, text in self.limits.as_edge().items()}


# ── reading ──────────────────────────────────────────────────────────────────


def desk_limits() -> Any:
    """The desk's limits as they stand now, in one query."""
    return effective_desk_limits().limits


def effective_desk_limits() -> EffectiveLimits:
    """The desk's limits with their origins; the settings' alone while what was set contradicts them."""
    return _desk(_texts(_of_desk()))


def effective_limits(account: Account) -> EffectiveLimits:
    """The limits of one account. Raises ValueError when its overrides contradict the desk's."""
    return _Stored.of([account]).effective(account)


def effective_group_limits(group: AccountGroup) -> EffectiveLimits:
    """The limits of an account that has none of its own. Raises ValueError as `effective_limits`."""
    return _Stored.of([Account(group=group)]).effective(Account(group=group))


def effective_limits_of(accounts: Iterable[Trader]) -> dict[int, EffectiveLimits]:
    """The limits of many accounts by id, in one query.

    An account whose overrides contradict is left out: it has no limits to enter under.
    """
    return desk_and_effective_limits_of(accounts)[1]


def desk_and_effective_limits_of(
    accounts: Iterable[Trader],
) -> tuple[EffectiveLimits, dict[int, EffectiveLimits]]:
    """As `effective_desk_limits` and `effective_limits_of`, both in one query."""
    chosen = list(accounts)
    stored, found = _Stored.of(chosen), dict[int, EffectiveLimits]()
    for account in chosen:
        try:
            found[account.pk] = stored.effective(account)
        except ValueError as error:
            log.warning("limits contradict", account=account.name, problem=str(error))
    return _desk(stored.of_desk), found


def usable_limits_of(accounts: Iterable[Account]) -> dict[int, Any]:
    """As `effective_limits_of`; the desk's for an account whose own contradict: its exits need limits too."""
    chosen = list(accounts)
    found = effective_limits_of(chosen)
    desk = None if len(found) == len(chosen) else desk_limits()
    return {one.pk: found[one.pk].limits if one.pk in found else desk for one in chosen}


def history(owner: Owner = None) -> QuerySet[LimitChange]:
    """What was changed of this owner's limits, newest first."""
    if isinstance(owner, Account):
        return LimitChange.objects.filter(account=owner)
    if isinstance(owner, AccountGroup):
        return LimitChange.objects.filter(group=owner)
    return LimitChange.objects.filter(scope=DESK)


# ── changing ─────────────────────────────────────────────────────────────────


def set_override(owner: Owner, name: str, value: str, changed_by: str) -> LimitOverride:
    """Set one limit of an account, a group or the desk, as text (percent where it is one).

    Raises AccountRefused(BAD_LIMIT) for an unknown name, a limit that the owner cannot have, a bad value, or
    one that contradicts what the owner or any account under it has otherwise; then nothing is stored.
    """
    set_overrides([owner], {name.lower(): value}, changed_by)
    return LimitOverride.objects.get(_owned_by(owner), name=name.lower())


def clear_override(owner: Owner, name: str, changed_by: str) -> None:
    """Let a limit be what it is above this owner. Raises AccountRefused(BAD_LIMIT) as `set_override`."""
    set_overrides([owner], {name.lower(): ""}, changed_by)


def set_overrides(owners: Sequence[Owner], values: Overrides, changed_by: str) -> int:
    """Set (or, with an empty text, clear) these limits of every owner; how many were changed.

    All or nothing: raises AccountRefused(BAD_LIMIT) as `set_override`, naming the account that stands in the
    way.
    """
    return write_overrides([(owner, values) for owner in owners], changed_by)


def write_overrides(wanted: Iterable[tuple[Owner, Overrides]], changed_by: str) -> int:
    """As `set_overrides`, with values of each owner's own; the number of queries does not grow with them.

    Who sets the same at the same time is waited for and comes before: the history has both in their order.
    """
    asked = list(wanted)
    for _ in range(RACES_LOST_AT_MOST):
        try:
            with transaction.atomic():
                return _write(asked, changed_by)
        except IntegrityError:
            # Somebody else set for the first time what was unset when we looked: now it is there to change.
            continue
    raise AccountRefused("BUSY", "Others set the same limits again and again; nothing was changed.")


def keep_changes(owner: Owner, before: Overrides, changed_by: str) -> None:
    """Keep what a form has changed of this owner's stored limits, given what they were."""
    after = _texts(LimitOverride.objects.filter(_owned_by(owner)))
    names = sorted({*before, *after})
    changes = [_Change(owner, name, before.get(name, ""), after.get(name, "")) for name in names]
    changed = [change for change in changes if change.before != change.after]
    _refuse_not_theirs(changed)
    check_owners([owner])
    LimitChange.objects.bulk_create(_kept(change, changed_by, settings.CLOCK.now()) for change in changed)


def stored_overrides(owner: Owner) -> dict[str, str]:
    """The limits set for exactly this owner, as text."""
    return _texts(LimitOverride.objects.filter(_owned_by(owner)))


def check_owners(owners: Sequence[Owner]) -> None:
    """Raise AccountRefused(BAD_LIMIT) when what is stored of owners, or under them, contradicts itself."""
    accounts = [owner for owner in owners if isinstance(owner, Account)]
    groups = [owner for owner in owners if isinstance(owner, AccountGroup)]
    active = Account.objects.filter(archived_at=None).only("name", "group")
    under = active if None in owners else active.filter(group__in=groups) if groups else active.none()
    judged = [*accounts, *(Account(group=group) for group in groups), *under]
    try:
        _overlaid(_texts(_of_desk()))
        stored = _Stored.of(judged)
    except ValueError as error:
        raise AccountRefused("BAD_LIMIT", str(error)) from error
    for account in judged:
        try:
            stored.effective(account)
        except ValueError as error:
            whose = f"{account.name}: " if account.name else ""
            raise AccountRefused("BAD_LIMIT", f"{whose}{error}") from error


# ── rows ─────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Change:
    owner: Owner
    name: str
    before: str
    after: str

    @property
    def place(self) -> "_Place":
        """Where it is stored."""
        return *_key(self.owner), self.name


_REACHING = FixedQuery(
    lambda: LimitOverride.objects.filter(
        Q(account=None, group=None) | Q(AmongGiven("group_id", "groups")) | Q(AmongGiven("account_id", "ids"))
    ).values_list("account_id", "group_id", "name", "value")
)


class _Stored:
    """The overrides that reach some accounts; equal ones share their limits, worked out once."""

    def __init__(self, rows: Iterable[tuple[int | None, int | None, str, str]]) -> None:
        self.of_desk: dict[str, str] = {}
        self._of_group: dict[int | None, dict[str, str]] = defaultdict(dict)
        self._of_account: dict[int | None, dict[str, str]] = defaultdict(dict)
        self._known: dict[frozenset[tuple[str, str]], Any] = {}
        self._of_members: dict[int | None, EffectiveLimits] = {}
        for account_id, group_id, name, value in rows:
            if account_id is not None:
                self._of_account[account_id][name] = value
            elif group_id is not None:
                self._of_group[group_id][name] = value
            else:
                self.of_desk[name] = value

    @classmethod
    def of(cls, accounts: Sequence[Trader]) -> "_Stored":
        groups = {account.group_id for account in accounts} - {None}
        return cls(_REACHING.ask(groups=groups, ids=[pk for account in accounts if (pk := account.pk)]))

    def effective(self, account: Trader) -> EffectiveLimits:
        """Raises ValueError naming every problem."""
        of_account, group = self._of_account.get(account.pk), account.group_id
        if of_account:
            return self._merged(group, of_account)
        if group not in self._of_members:
            self._of_members[group] = self._merged(group, {})
        return self._of_members[group]

    def _merged(self, group: int | None, of_account: Overrides) -> EffectiveLimits:
        of_group = self._of_group.get(group, {})
        merged = {**self.of_desk, **of_group, **of_account}
        key = frozenset(merged.items())
        if key not in self._known:
            self._known[key] = _overlaid(merged)
        named = ((self.of_desk, DESK), (of_group, GROUP), (of_account, ACCOUNT))
        origins = {name: origin for rows, origin in named for name in rows}
        return EffectiveLimits(self._known[key], origins)


def _desk(overrides: Overrides) -> EffectiveLimits:
    try:
        return EffectiveLimits(_overlaid(overrides), dict.fromkeys(overrides, DESK))
    except ValueError as error:
        # Checked when they were set: the settings were changed since. No account enters meanwhile.
        log.warning("limits of the desk contradict its settings", problem=str(error))
        return EffectiveLimits(settings.LIMITS, {})


def _overlaid(overrides: Overrides) -> Any:
    """The settings' limits with some written otherwise. Raises ValueError naming every problem."""
    told = settings.LIMITS
    return type(told).from_mapping({**told.as_edge(), **overrides}) if overrides else told


def _of_desk() -> QuerySet[LimitOverride]:
    return LimitOverride.objects.filter(account=None, group=None)


def _owned_by(owner: Owner) -> Q:
    if isinstance(owner, Account):
        return Q(account=owner)
    return Q(account=None, group=owner)


def _key(owner: Owner) -> tuple[str, int]:
    return _scope(owner), owner.pk if owner is not None else 0


def _scope(owner: Owner) -> str:
    if isinstance(owner, Account):
        return ACCOUNT
    return DESK if owner is None else GROUP


def _write(asked: Sequence[tuple[Owner, Overrides]], changed_by: str) -> int:
    stored = _locked([owner for owner, _ in asked])
    changes = []
    for owner, values in asked:
        for name, value in values.items():
            row = stored.get((*_key(owner), name.lower()))
            changes.append(_Change(owner, name.lower(), row.value if row else "", value.strip()))
    # In one order for all, so that two who set the same for the first time never wait for each other.
    changes = sorted((one for one in changes if one.before != one.after), key=lambda one: one.place)
    _refuse_not_theirs(changes)
    _store(changes, stored, changed_by)
    check_owners([change.owner for change in changes])
    return len(changes)


def _locked(owners: Sequence[Owner]) -> dict[_Place, LimitOverride]:
    """What is stored of these owners, locked until the change is whole: two changes leave one history."""
    accounts = Q(account__in=[owner.pk for owner in owners if isinstance(owner, Account)])
    groups = Q(account=None, group__in=[owner.pk for owner in owners if isinstance(owner, AccountGroup)])
    asked = accounts | groups | (Q(account=None, group=None) if None in owners else Q(pk=None))
    rows = LimitOverride.objects.select_for_update().filter(asked).order_by("pk")
    return {_place_of(row): row for row in rows}


def _place_of(row: LimitOverride) -> _Place:
    if row.account_id is not None:
        return ACCOUNT, row.account_id, row.name
    return (DESK, 0, row.name) if row.group_id is None else (GROUP, row.group_id, row.name)


def _refuse_not_theirs(changes: Iterable[_Change]) -> None:
    limits = settings.LIMITS
    known = limits.as_edge()
    for change in changes:
        # What is written must fit its column; what was a limit once may still be cleared.
        if change.after and change.name not in known:
            raise AccountRefused("BAD_LIMIT", f"{change.name[:LONGEST_NAME]}: no such limit")
        if len(change.after) > LONGEST_VALUE or "\x00" in change.after:
            raise AccountRefused("BAD_LIMIT", f"{change.name}: {change.after[:LONGEST_VALUE]!r} is no value")
        if change.owner is not None and change.name in limits.desk_only:
            raise AccountRefused(
                "BAD_LIMIT", f"{change.name} is the desk's: no group or account has its own."
            )
        if change.owner is None and change.name in limits.setting_only:
            raise AccountRefused(
                "BAD_LIMIT", f"{change.name} is a setting of every process: it is told at start."
            )


def _store(changes: Sequence[_Change], stored: Mapping[_Place, LimitOverride], changed_by: str) -> None:
    now = settings.CLOCK.now()
    changed = list(_changed_rows(changes, stored, changed_by, now))
    LimitOverride.objects.bulk_update(changed, ["value", "changed_by", "changed_at"])
    cleared = [stored[change.place].pk for change in changes if not change.after]
    LimitOverride.objects.filter(pk__in=cleared).delete()
    LimitOverride.objects.bulk_create(_rows([one for one in changes if not one.before], changed_by, now))
    LimitChange.objects.bulk_create(_kept(change, changed_by, now) for change in changes)


def _changed_rows(
    changes: Iterable[_Change], stored: Mapping[_Place, LimitOverride], changed_by: str, now: datetime
) -> Iterator[LimitOverride]:
    """Changed in place, never made anew: whoever waits for the row then reads what it has become."""
    for change in changes:
        if change.before and change.after:
            row = stored[change.place]
            row.value, row.changed_by, row.changed_at = change.after, changed_by, now
            yield row


def _rows(changes: Iterable[_Change], changed_by: str, now: datetime) -> Iterator[LimitOverride]:
    for change in changes:
        yield LimitOverride(
            account=change.owner if isinstance(change.owner, Account) else None,
            group=change.owner if isinstance(change.owner, AccountGroup) else None,
            name=change.name,
            value=change.after,
            changed_by=changed_by,
            changed_at=now,
        )


def _kept(change: _Change, changed_by: str, now: datetime) -> LimitChange:
    return LimitChange(
        scope=_scope(change.owner),
        account=change.owner if isinstance(change.owner, Account) else None,
        group=change.owner if isinstance(change.owner, AccountGroup) else None,
        owner_name=change.owner.name if change.owner is not None else "",
        name=change.name,
        before=change.before,
        after=change.after,
        changed_at=now,
        changed_by=changed_by,
    )


def _texts(rows: Iterable[LimitOverride]) -> dict[str, str]:
    return {row.name: row.value for row in rows}
