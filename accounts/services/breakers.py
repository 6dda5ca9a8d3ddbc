"""Circuit breakers as rows: the rule of `accounts.domain.breaker` meets the database and the alerts."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import datetime

from django.db import transaction
from django.db.models import CharField, DateTimeField, F, Q, QuerySet

from accounts.domain.breaker import (
    CREDENTIAL_CODES,
    MODE_CODES,
    MONEY_CODES,
    BreakerState,
    after_rejection,
    counts,
    scope,
)
from accounts.models import Account, Breaker
from accounts.services.among import Among
from accounts.services.fixed_queries import AmongGiven, FixedQuery, Given
from accounts.services.limits import effective_limits
from alerts.models import Severity
from alerts.services import clear_alert, raise_alert

_OPEN = FixedQuery(
    lambda: Breaker.objects.filter(
        Q(symbol=Given("symbol", CharField())) | Q(symbol=""),
        AmongGiven("account_id", "ids"),
        open_until__gt=Given("now", DateTimeField()),
    ).values_list("account_id")
)


def note_rejection(account: Account, symbol: str, code: str, now: datetime) -> bool:
    """Count a rejection of an entry by the exchange; True when it opened a breaker just now.

    Codes that say nothing against the next entry (local denials, speed, clock, lookups) are passed over.
    """
    if not counts(code):
        return False
    where = scope(symbol, code)
    with transaction.atomic():
        Breaker.objects.get_or_create(account=account, symbol=where)
        row = Breaker.objects.select_for_update().get(account=account, symbol=where)
        before = _state(row)
        after = after_rejection(before, code, now, rejections_to_open=_rejections_to_open(account))
        _write(row, after)
        has_opened = after.is_open(now) and not before.is_open(now)
        if has_opened:
            _alert_opened(row, account, now)
    return has_opened


def note_success(account: Account, symbol: str, now: datetime) -> None:
    """An entry was taken: the account's and the symbol's rejections are forgotten, open breakers close."""
    note_successes([(account.pk, symbol)], now)


def note_successes(taken: Iterable[tuple[int, str]], now: datetime) -> None:
    """As `note_success` for many entries, each (account id, symbol): one query when no breaker counts."""
    symbols: dict[int, set[str]] = defaultdict(set)
    for account_id, symbol in taken:
        symbols[account_id] |= {"", symbol}
    for row in _counting(Breaker.objects.filter(Among("account_id", symbols))):
        if row.symbol in symbols[row.account_id]:
            _close(row, now)


def note_cause_gone(account: Account, codes: Collection[str], now: datetime) -> None:
    """What these codes complained of is put right (keys, money): their breakers close early."""
    for row in _counting(Breaker.objects.filter(account=account, code__in=codes)):
        _close(row, now)


def close_early(row: Breaker, now: datetime) -> None:
    """An operator says that the cause is gone: this one lets entries through, and no other of its code."""
    with transaction.atomic():
        _close(Breaker.objects.select_for_update().get(pk=row.pk), now)


def note_verified(account: Account, now: datetime) -> None:
    """The exchange accepts the keys again, and the account's modes are as asked."""
    note_cause_gone(account, CREDENTIAL_CODES | MODE_CODES, now)


def note_money(account_ids: Collection[int], now: datetime) -> None:
    """Money has come to these accounts: what only the want of it had opened closes early."""
    if not account_ids:
        return
    short = Breaker.objects.filter(account__in=account_ids, code__in=MONEY_CODES)
    for row in _counting(short):
        _close(row, now)


def states(account: Account) -> QuerySet[Breaker]:
    """What is remembered of the exchange's refusals on this account, the newest opening first."""
    rows = _counting(Breaker.objects.filter(account=account))
    return rows.order_by(F("opened_at").desc(nulls_last=True), "symbol")


def state_of(row: Breaker, now: datetime) -> str:
    """``open``, ``half-open`` once its time is over and nothing has succeeded since, or ``closed``."""
    state = _state(row)
    if state.is_open(now):
        return "open"
    return "half-open" if state.is_half_open(now) else "closed"


def open_accounts(account_ids: Iterable[int], symbol: str, now: datetime) -> frozenset[int]:
    """Ids of the accounts whose entries of this symbol are held back, in one query."""
    return frozenset(pk for (pk,) in _OPEN.ask(ids=account_ids, symbol=symbol, now=now))


def is_open(account: Account, symbol: str, now: datetime) -> bool:
    """Whether entries of this symbol are held back on this account."""
    return bool(open_accounts([account.pk], symbol, now))


def _rejections_to_open(account: Account) -> int:
    return int(effective_limits(account).limits.breaker_rejections)


def _state(row: Breaker) -> BreakerState:
    return BreakerState(row.code, row.rejections, row.openings, row.opened_at, row.open_until)


def _write(row: Breaker, state: BreakerState) -> None:
    row.code, row.rejections, row.openings = state.code, state.rejections, state.openings
    row.opened_at, row.open_until = state.opened_at, state.open_until
    row.save()


def _counting(rows: QuerySet[Breaker]) -> QuerySet[Breaker]:
    """Those that remember a rejection."""
    return rows.exclude(rejections=0, open_until=None)


def _close(row: Breaker, now: datetime) -> None:
    _write(row, BreakerState())
    clear_alert(_cause(row), now)


def _alert_opened(row: Breaker, account: Account, now: datetime) -> None:
    what = f"entries of {row.symbol}" if row.symbol else "all entries"
    until = f"{row.open_until:%H:%M:%S} UTC"
    severity = Severity.CRITICAL if row.code in CREDENTIAL_CODES else Severity.WARNING
    message = f"The exchange refused with {row.code}; {what} are held back until {until}."
    raise_alert(
        _cause(row), severity, "BREAKER_OPEN", message, now=now, account=account.name, symbol=row.symbol
    )


def _cause(row: Breaker) -> str:
    return f"breaker:{row.account_id}:{row.symbol}"
