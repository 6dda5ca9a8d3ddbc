"""Protections over rows: which accounts may not enter a symbol now, after what has closed.

Derived at every decision from closed positions, in two queries; with no protection set, in none.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal

from django.conf import settings
from django.db.models import F, FilteredRelation, Q, Sum

from accounts.models import Account
from accounts.services.entrants import Trader
from exchange.port import Market
from trading.domain.autohalt import STOP_OUTS
from trading.domain.percent import ZERO
from trading.domain.protections import ClosedTrade, Past, Protection, Scope, Veto
from trading.domain.states import PositionStatus
from trading.models import Position

Key = tuple[Scope, int]
NET_PROFIT = F("realized_profit") - F("fees") + F("funding")
NOTIONAL = F("initial_quantity") * F("entry_price")


def vetoes(accounts: Sequence[Trader], symbol: str, now: datetime) -> dict[int, str]:
    """What holds each account back from this symbol, by its id; absent where nothing does."""
    rules: Sequence[Protection] = settings.PROTECTIONS
    if not rules:
        return {}
    pasts = _pasts(now - max(rule.looks_back for rule in rules))
    known: dict[tuple[Protection, Key], Veto | None] = {}
    found: dict[int, str] = {}
    for rule in rules:
        for account in accounts:
            key = _key(rule.scope, account.pk, account.group_id)
            if (rule, key) not in known:
                known[rule, key] = rule.veto(pasts.get(key, NOTHING), symbol, now)
            if (veto := known[rule, key]) is not None:
                found.setdefault(account.pk, _told(rule, veto))
    return found


NOTHING = Past((), ZERO)


def _told(rule: Protection, veto: Veto) -> str:
    return f"{rule.name} {rule.scope}: {veto.reason}; until {veto.until:%Y-%m-%d %H:%M:%S} UTC"


def _key(scope: Scope, account_id: int, group_id: int | None) -> Key:
    """The scope that an account is in; without a group it stands alone."""
    if scope is Scope.DESK:
        return Scope.DESK, 0
    if scope is Scope.GROUP and group_id is not None:
        return Scope.GROUP, group_id
    return Scope.ACCOUNT, account_id


def _pasts(since: datetime) -> dict[Key, Past]:
    """The past of every scope: of all accounts of the desk, for some may sit this decision out."""
    trades: dict[Key, list[ClosedTrade]] = defaultdict(list)
    equity: dict[Key, Decimal] = defaultdict(Decimal)
    groups: dict[int, int | None] = {}
    ours = Account.objects.filter(archived_at=None, mode=settings.MODE).order_by()
    coins = FilteredRelation(
        "positions", condition=Q(positions__market=Market.SPOT, positions__status=PositionStatus.OPEN)
    )
    paid = Sum(F("coins__quantity") * F("coins__entry_price"))
    columns = ("pk", "group_id", "wallet_balance", "unrealized_profit", "spot_wallet", "paid")
    for pk, group, *money in ours.annotate(coins=coins).annotate(paid=paid).values_list(*columns):
        groups[pk] = group
        for key in _keys(pk, group):
            equity[key] += _equity(*(one or ZERO for one in money))
    for trade in _closed(since):
        if trade.account in groups:
            for key in _keys(trade.account, groups[trade.account]):
                trades[key].append(trade)
    return {key: Past(trades.get(key, ()), money) for key, money in equity.items()}


def _equity(wallet: Decimal, unrealized: Decimal, spot_wallet: Decimal, paid_for_coins: Decimal) -> Decimal:
    """The futures money; without any the spot money and what its coins cost: idle money widens no fall."""
    return wallet + unrealized if wallet > ZERO else spot_wallet + paid_for_coins


def _keys(account_id: int, group_id: int | None) -> set[Key]:
    return {_key(scope, account_id, group_id) for scope in Scope}


def _closed(since: datetime) -> Iterable[ClosedTrade]:
    """Positions of ours that closed since then, the oldest first."""
    rows = Position.objects.filter(status=PositionStatus.CLOSED, is_foreign=False, closed_at__gte=since)
    told = rows.annotate(net=NET_PROFIT, notional=NOTIONAL).order_by("closed_at", "pk")
    columns = (
        "account_id",
        "allocation__decision_id",
        "symbol",
        "closed_at",
        "close_reason",
        "net",
        "notional",
    )
    for account, decision, symbol, closed_at, reason, net, notional in told.values_list(*columns):
        yield ClosedTrade(
            account=account,
            decision=decision,
            symbol=symbol,
            closed_at=closed_at,
            net=net,
            notional=notional,
            # As the automatic halts see it: a stop that took a profit is none.
            is_stop_out=reason in STOP_OUTS and net < ZERO,
        )
