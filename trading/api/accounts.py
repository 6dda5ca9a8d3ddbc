# ruff: noqa: ARG001 - the framework gives every route its request
from datetime import datetime
from functools import partial
from typing import Annotated, Literal
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from ninja import Router, Schema, Status
from pydantic import ConfigDict, Field, SecretStr

from accounts.errors import AccountRefused
from accounts.models import Account
from accounts.services import breakers, registry
from accounts.tasks import verify_account
from exchange.port import Market
from trading.api.authentication import needs
from trading.api.errors import ApiError
from trading.api.numbers import Computed, Figure, Text
from trading.api.paging import Page, PagingQuery, page_of
from trading.domain.percent import to_percent
from trading.domain.states import PositionStatus
from trading.services.account_changes import (
    archive,
    change_canary,
    change_group,
    change_leverage,
    change_modes,
)
from trading.services.automatic_halts import read_standing
from trading.services.days import read_days
from trading.services.readings import equity_of
from trading.services.tokens import Scope

router = Router(tags=["accounts"])

Key = Annotated[SecretStr, Field(min_length=1, max_length=300)]
PositionModeText = Literal["one-way", "hedge"]
MarginModeText = Literal["isolated", "cross"]
CONFLICTS = frozenset(
    {"NAME_TAKEN", "SAME_KEY", "ARCHIVED", "HAS_POSITION", "UNRESOLVED_ORDER", "ENVIRONMENT_KEYS"}
)


class AccountIn(Schema):
    """An account with its keys: sealed at once, never returned.

    The first market is the primary; left out, the account has every market of its exchange, perpetuals first.
    """

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=80)]
    api_key: Key
    api_secret: Key
    passphrase: SecretStr = SecretStr("")
    exchange: Annotated[str, Field(max_length=20)] = "binance"
    mode: Literal["paper", "testnet", "live"] | None = None
    group: Annotated[Text, Field(max_length=40)] = ""
    leverage: int = 3
    position_mode: PositionModeText | None = None
    margin_mode: MarginModeText | None = None
    executors: list[Market] | None = None


class AccountChange(Schema):
    """What changes; fields left out stay. Pausing needs `pause_reason`; keys are replaced together."""

    model_config = ConfigDict(extra="forbid")

    is_enabled: bool | None = None
    is_canary: bool | None = None
    pause_reason: Annotated[Text, Field(max_length=200)] = ""
    group: Annotated[Text, Field(max_length=40)] | None = None
    leverage: int | None = None
    position_mode: PositionModeText | None = None
    margin_mode: MarginModeText | None = None
    api_key: Key | None = None
    api_secret: Key | None = None
    passphrase: SecretStr = SecretStr("")


class ExecutorOut(Schema):
    """An account's way to a market: rank 1 is primary."""

    market: str
    rank: int
    is_enabled: bool


class AccountOut(Schema):
    """An account as the desk knows it. Of its keys only the last four characters are ever shown."""

    id: UUID
    name: str
    source: str
    exchange: str
    mode: str
    group: str
    tags: list[str]
    time_zone: str
    leverage: int
    position_mode: str
    margin_mode: str
    executors: list[ExecutorOut]
    is_enabled: bool
    is_canary: bool
    pause_reason: str
    archived_at: datetime | None
    key_last4: str
    has_keys: bool
    health: str
    health_code: str
    health_message: str
    permissions: str
    verified_at: datetime | None
    fresh_at: datetime | None
    wallet_balance: Figure | None
    unrealized_profit: Figure | None
    available_balance: Figure | None
    equity: Figure | None
    open_positions: int

    @classmethod
    def of(cls, account: Account) -> "AccountOut":
        """Show a row of `_accounts()`."""
        computed = {"id", "group", "tags", "executors", "has_keys", "equity", "open_positions"}
        copied = {name: getattr(account, name) for name in cls.model_fields if name not in computed}
        return cls(
            **copied,
            id=account.uuid,
            group=account.group.name if account.group else "",
            tags=[tag.name for tag in account.tags.all()],
            executors=[
                ExecutorOut(market=way.market, rank=way.rank, is_enabled=way.is_enabled)
                for way in account.executors.all()
            ],
            has_keys=account.key_fingerprint is not None,
            equity=equity_of(account),
            open_positions=account.open_positions,  # type: ignore[attr-defined]  # annotated by `_accounts`
        )


class DayOut(Schema):
    """An account's day since midnight in its zone, realised money in quote units, derived from its rows.

    `day_profit` is the whole day's with unrealised profit, as the limit of a day's loss sees it;
    `drawdown_pct` is the fall from its highest value. Both without transfers; null where not known.
    """

    since: datetime
    time_zone: str
    trades: int
    wins: int
    losses: int
    profit: Figure
    loss: Figure
    fees: Figure
    funding: Figure
    net: Figure
    day_profit: Figure | None
    day_baseline: Figure | None
    drawdown_pct: Computed | None


class BreakerOut(Schema):
    """Rejections of one code in a row; `state` is open, half-open or closed, an empty symbol is every one."""

    symbol: str
    state: str
    code: str
    rejections: int
    opened_at: datetime | None
    open_until: datetime | None


@router.get("multi-account/api-keys", auth=needs(Scope.READ), response=Page[AccountOut])
def list_accounts(
    request: HttpRequest,
    paging: PagingQuery,
    *,
    archived: bool = False,
    group: Text | None = None,
    tag: Text | None = None,
) -> Page[AccountOut]:
    """Accounts, newest first, of a group or with a tag where told; archived ones when asked for."""
    rows = _accounts().filter(archived_at__isnull=not archived)
    if group is not None:
        rows = rows.filter(group__name=group)
    if tag is not None:
        rows = rows.filter(pk__in=Account.tags.through.objects.filter(tag__name=tag).values("account"))
    shown, following = page_of(rows, paging)
    return Page(items=[AccountOut.of(account) for account in shown], next=following)


@router.post("multi-account/api-keys", auth=needs(Scope.ADMIN), response={201: AccountOut})
def add_account(request: HttpRequest, body: AccountIn) -> Status[AccountOut]:
    """Add an account and have it verified; it trades once it is found healthy."""
    try:
        with transaction.atomic():
            account = registry.create_account(
                body.name,
                body.api_key.get_secret_value(),
                body.api_secret.get_secret_value(),
                body.passphrase.get_secret_value(),
                exchange=body.exchange,
                mode=body.mode or settings.MODE,
                group=body.group,
                leverage=body.leverage,
                executors=body.executors,
            )
            change_modes(account, body.position_mode, body.margin_mode)
    except AccountRefused as refusal:
        raise _as_answer(refusal) from refusal
    _ring_verification(account)
    return Status(201, AccountOut.of(_accounts().get(pk=account.pk)))


@router.get("multi-account/api-keys/{uuid:account_id}", auth=needs(Scope.READ), response=AccountOut)
def read_account(request: HttpRequest, account_id: UUID) -> AccountOut:
    """One account."""
    return AccountOut.of(get_object_or_404(_accounts(), uuid=account_id))


@router.patch("multi-account/api-keys/{uuid:account_id}", auth=needs(Scope.ADMIN), response=AccountOut)
def change_account(request: HttpRequest, account_id: UUID, body: AccountChange) -> AccountOut:
    """Pause, resume, regroup, ask for another leverage or mode, let it go first, or replace the keys."""
    account = get_object_or_404(Account, uuid=account_id)
    try:
        with transaction.atomic():
            _change(account, body)
    except AccountRefused as refusal:
        raise _as_answer(refusal) from refusal
    return AccountOut.of(_accounts().get(pk=account.pk))


@router.delete("multi-account/api-keys/{uuid:account_id}", auth=needs(Scope.ADMIN), response={204: None})
def remove_account(request: HttpRequest, account_id: UUID) -> Status[None]:
    """Archive the account and wipe its keys; refused while it holds a position or an unresolved order."""
    try:
        archive(get_object_or_404(Account, uuid=account_id), settings.CLOCK.now())
    except AccountRefused as refusal:
        raise _as_answer(refusal) from refusal
    return Status(204, None)


@router.post(
    "multi-account/api-keys/{uuid:account_id}/verify", auth=needs(Scope.ADMIN), response={202: AccountOut}
)
def ask_for_verification(request: HttpRequest, account_id: UUID) -> Status[AccountOut]:
    """Have the account read at its exchange; `health` and `verified_at` tell the result."""
    account = get_object_or_404(_accounts(), uuid=account_id)
    if account.archived_at is not None:
        raise ApiError(409, "ARCHIVED", f"{account.name} is archived.")
    _ring_verification(account)
    return Status(202, AccountOut.of(account))


@router.get("multi-account/api-keys/{uuid:account_id}/day", auth=needs(Scope.READ), response=DayOut)
def read_day(request: HttpRequest, account_id: UUID) -> DayOut:
    """The account's day: profit, loss, trades, and how far it is from its highest value."""
    account, now = get_object_or_404(Account, uuid=account_id), settings.CLOCK.now()
    day, standing = read_days([account], now)[account.pk], read_standing(account, now)
    fall = standing.drawdown
    return DayOut(
        **{name: getattr(day, name) for name in DayOut.model_fields if hasattr(day, name)},
        time_zone=account.time_zone,
        day_profit=standing.day_profit,
        day_baseline=standing.day_baseline,
        drawdown_pct=None if fall is None else to_percent(fall),
    )


@router.get(
    "multi-account/api-keys/{uuid:account_id}/breakers", auth=needs(Scope.READ), response=list[BreakerOut]
)
def list_breakers(request: HttpRequest, account_id: UUID) -> list[BreakerOut]:
    """What the exchange keeps refusing of this account's entries; empty when nothing."""
    account, now = get_object_or_404(Account, uuid=account_id), settings.CLOCK.now()
    return [
        BreakerOut(
            symbol=row.symbol,
            state=breakers.state_of(row, now),
            code=row.code,
            rejections=row.rejections,
            opened_at=row.opened_at,
            open_until=row.open_until,
        )
        for row in breakers.states(account)
    ]


def _accounts() -> QuerySet[Account]:
    is_open = Q(positions__status=PositionStatus.OPEN)
    return (
        Account.objects.select_related("group")
        .prefetch_related("executors", "tags")
        .annotate(open_positions=Count("positions", filter=is_open))
    )


def _change(account: Account, body: AccountChange) -> None:
    if body.api_key is not None or body.api_secret is not None:
        keys = [secret.get_secret_value() if secret else "" for secret in (body.api_key, body.api_secret)]
        registry.replace_keys(account, keys[0], keys[1], body.passphrase.get_secret_value())
        _ring_verification(account)
    if body.group is not None:
        change_group(account, body.group)
    if body.leverage is not None:
        change_leverage(account, body.leverage)
    if body.position_mode is not None or body.margin_mode is not None:
        change_modes(account, body.position_mode, body.margin_mode)
        _ring_verification(account)
    if body.is_canary is not None:
        change_canary(account, is_canary=body.is_canary)
    if body.is_enabled is True:
        registry.resume(account)
    elif body.is_enabled is False:
        registry.pause(account, body.pause_reason)


def _ring_verification(account: Account) -> None:
    """Once the row is committed. Without a broker the next tick does it: the account is due."""
    transaction.on_commit(partial(verify_account.delay, account.pk, is_asked=True), robust=True)


def _as_answer(refusal: AccountRefused) -> ApiError:
    return ApiError(409 if refusal.code in CONFLICTS else 422, refusal.code, refusal.message)
