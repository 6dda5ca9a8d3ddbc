# ruff: noqa: ARG001 - the framework gives every route its request
from collections.abc import Callable
from datetime import datetime
from typing import Annotated
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Router, Schema
from pydantic import ConfigDict, Field

from accounts.errors import AccountRefused
from accounts.models import Account, AccountGroup, LimitChange
from accounts.services.limits import (
    EffectiveLimits,
    Owner,
    clear_override,
    effective_desk_limits,
    effective_group_limits,
    effective_limits,
    history,
    set_override,
)
from trading.api.authentication import caller, needs
from trading.api.errors import ApiError
from trading.api.numbers import Text
from trading.api.paging import Page, PagingQuery, page_of
from trading.services.tokens import Scope

router = Router(tags=["limits"])

ACCOUNT = "multi-account/api-keys/{uuid:account_id}/limits"
GROUP = "multi-account/groups/{str:group}/limits"


class LimitIn(Schema):
    """What a limit is to be, as in a setting: percent where the limit is one."""

    model_config = ConfigDict(extra="forbid")

    value: Annotated[Text, Field(min_length=1, max_length=40)]


class LimitOut(Schema):
    """A limit in effect, and who set it: `setting` (default or environment), `desk`, `group` or `account`.

    `unit` is `%` where the value is a percentage, else empty.
    """

    name: str
    value: str
    unit: str
    origin: str


class LimitChangeOut(Schema):
    """One change: empty texts mean that it was or is not set there."""

    scope: str
    owner_name: str
    name: str
    before: str
    after: str
    changed_at: datetime
    changed_by: str


@router.get("limits", auth=needs(Scope.READ), response=list[LimitOut])
def list_desk_limits(request: HttpRequest) -> list[LimitOut]:
    """The desk's limits as they hold now."""
    return _shown(effective_desk_limits().shown_whole())


@router.get("limits/changes", auth=needs(Scope.READ), response=Page[LimitChangeOut])
def list_limit_changes(
    request: HttpRequest, paging: PagingQuery, *, account: UUID | None = None, group: Text = ""
) -> Page[LimitChangeOut]:
    """Who changed which limit and when, newest first: everybody's, or of one account or group."""
    rows = LimitChange.objects.all()
    if account is not None:
        rows = history(get_object_or_404(Account, uuid=account))
    elif group:
        rows = history(get_object_or_404(AccountGroup, name=group))
    shown, following = page_of(rows, paging)
    return Page(items=[LimitChangeOut.from_orm(change) for change in shown], next=following)


@router.put("limits/{str:name}", auth=needs(Scope.ADMIN), response=LimitOut)
def set_desk_limit(request: HttpRequest, name: str, body: LimitIn) -> LimitOut:
    """Set a limit of the desk: it holds wherever no group or account has it otherwise."""
    return _set(None, name, body.value, caller(request))


@router.delete("limits/{str:name}", auth=needs(Scope.ADMIN), response=LimitOut)
def clear_desk_limit(request: HttpRequest, name: str) -> LimitOut:
    """Let a limit of the desk be what the settings say."""
    return _set(None, name, "", caller(request))


@router.get(ACCOUNT, auth=needs(Scope.READ), response=list[LimitOut])
def list_account_limits(request: HttpRequest, account_id: UUID) -> list[LimitOut]:
    """Every limit of an account as it holds now, and who set it."""
    account = get_object_or_404(Account, uuid=account_id)
    return _shown(_usable(lambda: effective_limits(account)).shown())


@router.put(ACCOUNT + "/{str:name}", auth=needs(Scope.ADMIN), response=LimitOut)
def set_account_limit(request: HttpRequest, account_id: UUID, name: str, body: LimitIn) -> LimitOut:
    """Set a limit of one account; it holds from the next allocation on."""
    return _set(get_object_or_404(Account, uuid=account_id), name, body.value, caller(request))


@router.delete(ACCOUNT + "/{str:name}", auth=needs(Scope.ADMIN), response=LimitOut)
def clear_account_limit(request: HttpRequest, account_id: UUID, name: str) -> LimitOut:
    """Let a limit of an account be its group's or the desk's."""
    return _set(get_object_or_404(Account, uuid=account_id), name, "", caller(request))


@router.get(GROUP, auth=needs(Scope.READ), response=list[LimitOut])
def list_group_limits(request: HttpRequest, group: str) -> list[LimitOut]:
    """Every limit of an account of the group that sets none itself."""
    found = get_object_or_404(AccountGroup, name=group)
    return _shown(_usable(lambda: effective_group_limits(found)).shown())


@router.put(GROUP + "/{str:name}", auth=needs(Scope.ADMIN), response=LimitOut)
def set_group_limit(request: HttpRequest, group: str, name: str, body: LimitIn) -> LimitOut:
    """Set a limit of a group's accounts."""
    return _set(get_object_or_404(AccountGroup, name=group), name, body.value, caller(request))


@router.delete(GROUP + "/{str:name}", auth=needs(Scope.ADMIN), response=LimitOut)
def clear_group_limit(request: HttpRequest, group: str, name: str) -> LimitOut:
    """Let a limit of a group be the desk's."""
    return _set(get_object_or_404(AccountGroup, name=group), name, "", caller(request))


def _set(owner: Owner, name: str, value: str, by: str) -> LimitOut:
    try:
        if value:
            set_override(owner, name, value, by)
        else:
            clear_override(owner, name, by)
    except AccountRefused as refusal:
        raise ApiError(422, refusal.code, refusal.message) from refusal
    told = _effective(owner).shown_whole().get(name.lower())
    if told is None:
        raise ApiError(422, "BAD_LIMIT", f"{name[:60]}: no such limit")
    return _limit(name.lower(), *told)


def _effective(owner: Owner) -> EffectiveLimits:
    if owner is None:
        return effective_desk_limits()
    return effective_limits(owner) if isinstance(owner, Account) else effective_group_limits(owner)


def _usable(read: Callable[[], EffectiveLimits]) -> EffectiveLimits:
    try:
        return read()
    except ValueError as error:
        raise ApiError(409, "LIMITS_CONTRADICT", str(error)) from error


def _shown(limits: dict[str, tuple[str, str]]) -> list[LimitOut]:
    return [_limit(name, *told) for name, told in limits.items()]


def _limit(name: str, value: str, origin: str) -> LimitOut:
    return LimitOut(name=name, value=value, unit=settings.LIMITS.unit(name), origin=origin)
