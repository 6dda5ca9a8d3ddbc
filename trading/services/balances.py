"""Balances and income as last read: written once per successful reading, never invented.

A wallet that moved by more than our rows explain is not written before the rows that explain it are read:
until then the day goes on from the reading before, and entries find the account unread.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q

from accounts.domain.breaker import has_money_come
from accounts.models import Account, Health
from accounts.services import breakers
from accounts.services.gateways import gateway_for
from accounts.services.money import money_columns
from exchange.budget import Priority, priority
from exchange.loop import IoLoop
from exchange.port import IncomeReport, Market
from trading.domain.percent import ZERO
from trading.domain.states import PositionStatus
from trading.models import Fill, Income, Position
from trading.services import streams
from trading.services.audits import TICK_SECONDS, Picture
from trading.services.exposure import day_start
from trading.services.money_flow import READ_ASSET
from trading.services.position_rows import lock_accounts
from trading.services.spot_only import spot_only

READ_SECONDS = 10.0
INCOME_EVERY = timedelta(hours=1)
WEIGHT_OF_INCOMES = 30
INCOME_SHARE = 0.15
"""Of the rate budget: the audits go before."""

INCOME_LAG = timedelta(minutes=1)
"""Settlements reach the income list a little after their hour."""

EXPLAINED_WITHIN = Decimal("0.005")
"""Of the wallet: funding of the hour and fees in other assets are less, and no limit of a day turns on it."""

WHOLE_SECONDS = timedelta(seconds=1)
"""The exchange may cut the time of a movement to its second."""

PICTURE_TAKES = timedelta(seconds=READ_SECONDS)
"""A picture is read up to so long after its time: what happened in between may be in it or not."""

HELD_BACK_AT_MOST = timedelta(minutes=5)
"""Longer than the exchange needs to list a movement; what it never lists must close no account for good."""

FUNDING = "FUNDING_FEE"
SETTLED_ELSEWHERE = frozenset({"REALIZED_PNL", "COMMISSION"})
"""What our fills already say; counted twice it would be money from nowhere."""

log = structlog.get_logger(__name__)


def write_balances(accounts: Sequence[Account], pictures: Mapping[int, Picture]) -> None:
    """Write each account's money as its picture has it, and its day's baseline at its local midnight.

    Most readings change nothing but their time: those are written together. One that nothing explains yet is
    held back, and its account doubted. Call outside a transaction: it may have to ask for incomes.
    """
    held_back = _held_back([account for account in accounts if account.pk in pictures], pictures)
    if held_back:
        streams.doubt(held_back)
    read = [account for account in accounts if account.pk in pictures and account.pk not in held_back]
    richer = [account.pk for account in read if _has_money_come(account, pictures[account.pk])]
    with transaction.atomic():
        lock_accounts(account.pk for account in read)
        same: dict[datetime, list[int]] = defaultdict(list)
        for account in read:
            same[pictures[account.pk].read_at].append(account.pk)
        for read_at, ids in same.items():
            times = {"balances_at": read_at, "fresh_at": read_at, "audited_at": read_at}
            Account.objects.filter(pk__in=ids).update(**times)
        for account in read:
            _write_money(account, pictures[account.pk])
    breakers.note_money(richer, settings.CLOCK.now())


def _has_money_come(account: Account, picture: Picture) -> bool:
    balance = picture.balance
    return balance is not None and has_money_come(
        balance.available, account.available_balance, balance.wallet
    )


def read_incomes(accounts: Sequence[Account], now: datetime) -> int:
    """Read funding and transfers of accounts whose last hour is not yet rows; returns how many came.

    Nothing lists the movements of a spot wallet: those that trade spot alone have none to read.
    """
    no_futures = spot_only(accounts)
    due = [one for one in accounts if one.pk not in no_futures and _is_income_due(one, now)]
    return _read_incomes_of(due, now)


def _read_incomes_of(accounts: Sequence[Account], now: datetime) -> int:
    due = _in_turn(accounts, now)
    if not due:
        return 0
    answers = IoLoop.current().run_all(
        [_read_income(account, _since(account, now)) for account in due], READ_SECONDS
    )
    count = 0
    for account, answer in zip(due, answers, strict=True):
        if isinstance(answer, BaseException):
            log.warning("income_not_read", account=account.name, error=str(answer)[:200])
            continue
        count += _store_income(account, answer)
        Account.objects.filter(pk=account.pk).update(income_read_at=now - INCOME_LAG)
    return count


def _in_turn(due: Sequence[Account], now: datetime) -> Sequence[Account]:
    """As many as a tick's weight allows, others first at each tick: who never answers holds up nobody."""
    if not settings.WEIGHT_LIMIT_PER_MINUTE or not due:
        return due
    weight = settings.WEIGHT_LIMIT_PER_MINUTE * INCOME_SHARE * TICK_SECONDS / 60
    count = max(1, int(weight / WEIGHT_OF_INCOMES))
    first = int(now.timestamp() / TICK_SECONDS) * count % len(due)
    return [*due[first:], *due[:first]][:count]


def _held_back(accounts: Sequence[Account], pictures: Mapping[int, Picture]) -> set[int]:
    """The accounts whose money moved by what our rows do not tell, even after their incomes were read."""
    moved = _unexplained(accounts, pictures)
    if not moved:
        return set()
    _read_incomes_of(moved, max(pictures[account.pk].read_at for account in moved))
    held_back = set()
    for account in _unexplained(moved, pictures):
        latest = pictures[account.pk].read_at - HELD_BACK_AT_MOST
        is_held = account.balances_at is not None and account.balances_at > latest
        log.warning("wallet_not_explained", account=account.name, is_held_back=is_held)
        if is_held:
            held_back.add(account.pk)
    return held_back


def _unexplained(accounts: Sequence[Account], pictures: Mapping[int, Picture]) -> list[Account]:
    told: dict[int, list[tuple[datetime, Decimal]]] = defaultdict(list)
    mine, since = Q(account__in=[one.pk for one in accounts]), F("account__balances_at") - WHOLE_SECONDS
    fills = Fill.objects.filter(mine, filled_at__gte=since, market=Market.FUTURES)
    for fill in fills.filter(symbol__endswith=f":{READ_ASSET}").order_by():
        fee = fill.fee if fill.fee_asset in {"", READ_ASSET} else ZERO
        told[fill.account_id].append((fill.filled_at, fill.realized_profit - fee))
    incomes = Income.objects.filter(mine, at__gte=since, asset=READ_ASSET)
    for account_id, at, quantity in incomes.order_by().values_list("account_id", "at", "quantity"):
        told[account_id].append((at, quantity))
    return [
        account for account in accounts if _is_unexplained(account, pictures[account.pk], told[account.pk])
    ]


def _is_unexplained(account: Account, picture: Picture, told: Sequence[tuple[datetime, Decimal]]) -> bool:
    """Whether the wallet differs from the one before by more than what our rows tell of the time between.

    What may have been in either reading explains any difference up to its size.
    """
    before, since, balance = account.wallet_balance, account.balances_at, picture.balance
    if before is None or since is None or balance is None:
        return False
    left, room = balance.wallet - before, EXPLAINED_WITHIN * max(before, balance.wallet)
    for at, quantity in told:
        if since + PICTURE_TAKES < at < picture.read_at:
            left -= quantity
        else:
            room += abs(quantity)
    return abs(left) > room


def _write_money(account: Account, picture: Picture) -> None:
    """Write what changed, as of the moment it was asked for: what moved earlier must not be counted again."""
    changes: dict[str, object] = {**money_columns(picture.balance, picture.spot)}
    start = day_start(account, picture.read_at)
    if account.day_started_at is None or account.day_started_at < start:
        baseline = picture.balance.equity if picture.balance is not None else ZERO
        changes |= {"day_started_at": picture.money_asked_at, "day_baseline_equity": baseline}
    changes = {name: value for name, value in changes.items() if getattr(account, name) != value}
    for name, value in changes.items():
        setattr(account, name, value)
    account.balances_at = account.fresh_at = account.audited_at = picture.read_at
    if changes:
        account.balances_at = picture.money_asked_at
        Account.objects.filter(pk=account.pk).update(**changes, balances_at=picture.money_asked_at)


def _is_income_due(account: Account, now: datetime) -> bool:
    """Once after every full hour, for that is when funding is settled; no account that audits never ask."""
    if account.health in {Health.UNVERIFIED, Health.CREDENTIAL_ERROR}:
        return False
    hour = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return now >= hour + INCOME_LAG and (account.income_read_at is None or account.income_read_at < hour)


def _since(account: Account, now: datetime) -> datetime:
    return (account.income_read_at or now - INCOME_EVERY * 24) - INCOME_LAG


async def _read_income(account: Account, since: datetime) -> Sequence[IncomeReport]:
    with priority(Priority.REPORT):
        return await gateway_for(account, Market.FUTURES).fetch_income(since)


def _store_income(account: Account, reports: Sequence[IncomeReport]) -> int:
    fresh = [report for report in reports if report.kind not in SETTLED_ELSEWHERE]
    known = set(
        Income.objects.filter(
            account=account, income_id__in=[report.income_id for report in fresh]
        ).values_list("kind", "income_id")
    )
    rows = [_income(account, report) for report in fresh if (report.kind, report.income_id) not in known]
    with transaction.atomic():
        Income.objects.bulk_create(rows, ignore_conflicts=True)
        for position in {row.position for row in rows if row.position is not None}:
            _sum_funding(position)
    return len(rows)


def _income(account: Account, report: IncomeReport) -> Income:
    return Income(
        account=account,
        position=_position_at(account, report) if report.kind == FUNDING else None,
        income_id=report.income_id,
        kind=report.kind,
        asset=report.asset,
        quantity=report.quantity,
        symbol=report.symbol,
        at=report.at,
    )


def _position_at(account: Account, report: IncomeReport) -> Position | None:
    """The position that was open at the settlement."""
    held = (
        Position.objects.filter(
            account=account, market=Market.FUTURES, symbol=report.symbol, opened_at__lte=report.at
        )
        .order_by("-opened_at")
        .first()
    )
    if held is None or (
        held.status == PositionStatus.CLOSED and held.closed_at and held.closed_at < report.at
    ):
        return None
    return held


def _sum_funding(position: Position) -> None:
    rows = Income.objects.filter(position=position, kind=FUNDING).values_list("quantity", flat=True)
    Position.objects.filter(pk=position.pk).update(funding=sum(rows, Decimal(0)))
