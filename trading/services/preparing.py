"""Settings ahead of need: leverage and margin mode of what may be traded next, set and read back in time.

A decision waits for them only where a few accounts lack them: what was not read back as asked is denied
there (`SETTINGS`).
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from accounts.models import Account, Health, MarginMode, SymbolSetting
from accounts.services.among import Among
from accounts.services.symbol_settings import ensure_symbol_settings_of
from exchange.budget import Priority
from exchange.errors import ReadFailed
from exchange.port import Market
from trading.domain.states import DecisionStatus, PositionStatus
from trading.models import Decision, Position, Signal
from trading.models.signals import SignalStatus
from trading.services import market

READ_AGAIN_AFTER = timedelta(hours=24)
ACCOUNTS_A_TICK = 5
ACCOUNTS_AT_ONCE = 50
"""For how many a decision waits."""

OPEN_FUTURES = {"market": Market.FUTURES, "status": PositionStatus.OPEN}

SYMBOLS_A_TICK = 10
"""Per account; each costs up to two changes of the share that upkeep has of the rate budget."""


def prepare(accounts: Sequence[Account], now: datetime) -> int:
    """Prepare some symbols of a few accounts, what open signals ask for first; returns how many accounts."""
    lacking = missing(_fit(accounts), _wanted(), now)
    return _ensure(accounts, dict(list(lacking.items())[:ACCOUNTS_A_TICK]), now, Priority.UPKEEP)


def prepare_symbols(symbols: Sequence[str], now: datetime) -> int:
    """Prepare these symbols on every fit account that lacks them: signals for them have just come in."""
    accounts = list(Account.objects.filter(archived_at__isnull=True))
    return _ensure(accounts, missing(_fit(accounts), symbols, now), now)


def prepare_decision(decision_id: int, now: datetime) -> int:
    """Prepare what a decision made at once would be denied for; returns how many accounts were asked.

    Only while they are few: for many there is no room in the budget within the decision's seconds.
    """
    undecided = Decision.objects.filter(pk=decision_id, status=DecisionStatus.OPEN, allocations__isnull=True)
    symbol = undecided.values_list("signal__symbol", flat=True).first()
    if symbol is None:
        return 0
    fit = _trading_futures(
        Account.objects.filter(archived_at__isnull=True, is_enabled=True, health=Health.HEALTHY)
    )
    lacking = list(_lacking(fit, symbol, now)[: ACCOUNTS_AT_ONCE + 1])
    if len(lacking) > ACCOUNTS_AT_ONCE:
        return 0
    return _ensure(lacking, {account.pk: [symbol] for account in lacking}, now)


def _lacking(accounts: QuerySet[Account], symbol: str, now: datetime) -> QuerySet[Account]:
    """Those that `missing` tells for this symbol, found by the database: of a thousand hardly one."""
    own = {"account": OuterRef("pk"), "symbol": symbol}
    return accounts.exclude(Exists(SymbolSetting.objects.filter(_as_asked(now), **own))).exclude(
        Exists(Position.objects.filter(**OPEN_FUTURES, **own))
    )


def _fit(accounts: Iterable[Account]) -> list[Account]:
    """Those that may trade futures on this desk now."""
    ids = [one.pk for one in accounts if one.is_enabled and one.health == Health.HEALTHY]
    return list(_trading_futures(Account.objects.filter(Among("pk", ids))))


def _trading_futures(accounts: QuerySet[Account]) -> QuerySet[Account]:
    able = accounts.filter(executors__market=Market.FUTURES, executors__is_enabled=True)
    return able.filter(mode=settings.MODE).order_by("pk")


def _ensure(
    accounts: Sequence[Account],
    lacking: Mapping[int, Sequence[str]],
    now: datetime,
    urgency: Priority = Priority.ENTRY,
) -> int:
    """Ask account by account for all it lacks at once: one reading before and one after for all symbols."""
    by_id = {account.pk: account for account in accounts}
    groups: dict[tuple[str, ...], list[Account]] = defaultdict(list)
    for pk, symbols in lacking.items():
        groups[tuple(symbols[:SYMBOLS_A_TICK])].append(by_id[pk])
    return sum(
        len(ensure_symbol_settings_of(group, symbols, now, urgency)) for symbols, group in groups.items()
    )


def missing(accounts: Sequence[Account], symbols: Collection[str], now: datetime) -> dict[int, list[str]]:
    """The symbols, in the order given, that each account has not read back as asked within a day.

    One with an open position, ours or a stranger's, is left as it is: its margin would move under it.
    """
    ids = [account.pk for account in accounts]
    ready: dict[int, set[str]] = defaultdict(set)
    mine = Q(Among("account_id", ids))
    read_back = SymbolSetting.objects.filter(_as_asked(now), mine, symbol__in=symbols)
    for account, symbol in read_back.values_list("account_id", "symbol"):
        ready[account].add(symbol)
    held = Position.objects.filter(mine, **OPEN_FUTURES)
    for account, symbol in held.values_list("account_id", "symbol"):
        ready[account].add(symbol)
    lacking = {pk: [symbol for symbol in symbols if symbol not in ready[pk]] for pk in ids}
    return {pk: left for pk, left in lacking.items() if left}


def _as_asked(now: datetime) -> Q:
    """Of settings: read back as their account asks for them, within a day."""
    wants_isolated = Q(account__margin_mode=MarginMode.ISOLATED)
    mode = Q(wants_isolated, is_isolated=True) | Q(~wants_isolated, is_isolated=False)
    return Q(mode, leverage=F("account__leverage"), read_at__gte=now - READ_AGAIN_AFTER)


def _wanted() -> list[str]:
    """Symbols of open signals, then everything else that trades."""
    open_signals = Signal.objects.filter(status=SignalStatus.OPEN).order_by("-score")
    asked = list(dict.fromkeys(open_signals.values_list("symbol", flat=True)))
    try:
        listed = [one.symbol for one in market.instruments(Market.FUTURES).values() if one.trading]
    except ReadFailed:
        listed = []
    return list(dict.fromkeys([*asked, *listed]))
