"""Audits: accounts read at the exchange, the most doubtful first, within a share of the rate budget.

An account whose read failed is absent from the result and keeps what it had: error is not empty.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from django.conf import settings

from accounts.domain.health import POSTPONED_CODES
from accounts.models import Account, Health
from accounts.services.gateways import gateway_for
from exchange.budget import Priority, priority
from exchange.errors import GatewayError
from exchange.loop import IoLoop
from exchange.port import BalanceReport, ExchangeGateway, Market, OrderReport, PositionReport
from trading.domain.states import OPEN, PositionStatus
from trading.models import ForeignOrder, Order, Position
from trading.services.spot_only import spot_only
from trading.services.stops import STOPS

READ_SECONDS = 10.0
TICK_SECONDS = 10
AUDIT_SHARE = 0.40
"""Of the rate budget; the rest belongs to exits, protection, lookups and entries."""

PROOF_EVERY = timedelta(seconds=60)

WEIGHT_OF_ACCOUNT = 10
"""Positions and balance, 5 each."""

SIDE_BY_SIDE = 4
"""Accounts read together: as many may find the minute used up before they are whole."""

WEIGHT_PER_SYMBOL = 2
"""Ordinary and conditional open orders, 1 each."""

LEFTOVERS_SOUGHT = timedelta(hours=1)
"""How long the symbol of an ended stop is still looked at."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Picture:
    """What the exchange said of one account. `orders` and `stops` cover `symbols` only.

    `read_at` is the tick that asked, `money_asked_at` right before the futures money was asked for.
    """

    read_at: datetime
    money_asked_at: datetime
    positions: tuple[PositionReport, ...]
    orders: tuple[OrderReport, ...]
    stops: tuple[OrderReport, ...]
    symbols: frozenset[str]
    balance: BalanceReport | None
    spot: BalanceReport | None = None
    spot_symbols: frozenset[str] = frozenset()

    def market_of(self, symbol: str) -> Market:
        """Where a listed symbol trades: the two markets spell theirs differently."""
        return Market.SPOT if symbol in self.spot_symbols else Market.FUTURES


@dataclass(frozen=True, slots=True)
class Watched:
    """The symbols of one account on which something of ours is or may be at the exchange, by market."""

    futures: frozenset[str] = frozenset()
    spot: frozenset[str] = frozenset()


def watched_symbols(accounts: Sequence[Account], now: datetime) -> dict[int, Watched]:
    """Where each account has an open position or order, a stop that ended lately, or a stranger's order."""
    found: dict[int, dict[str, set[str]]] = defaultdict(lambda: {market: set() for market in Market})
    ids = [account.pk for account in accounts]
    held = Position.objects.filter(account__in=ids, status=PositionStatus.OPEN)
    live = Order.objects.filter(account__in=ids, status__in=sorted(OPEN))
    # A stop our row calls ended may rest all the same, and would hit whoever trades there next.
    ended = Order.objects.filter(
        account__in=ids,
        purpose__in=STOPS,
        submitted_at__isnull=False,
        finished_at__gte=now - LEFTOVERS_SOUGHT,
    ).order_by()
    strangers = ForeignOrder.objects.filter(account__in=ids).order_by()
    for rows in (held, live, ended, strangers):
        for account, market, symbol in rows.values_list("account_id", "market", "symbol"):
            found[account][market].add(symbol)
    return {
        account: Watched(frozenset(by_market[Market.FUTURES]), frozenset(by_market[Market.SPOT]))
        for account, by_market in found.items()
    }


def choose(accounts: Sequence[Account], watched: Mapping[int, Watched], now: datetime) -> list[Account]:
    """The accounts to read in this tick: never read first, then open risk, then the longest unread."""
    long_ago = now - timedelta(days=36_500)

    def doubt(account: Account) -> tuple[bool, bool, datetime]:
        return account.audited_at is not None, account.pk not in watched, account.audited_at or long_ago

    weight = settings.WEIGHT_LIMIT_PER_MINUTE * AUDIT_SHARE * TICK_SECONDS / 60
    chosen: list[Account] = []
    due = [one for one in accounts if _is_due(one, now) and not _is_new(one, watched)]
    for account in sorted(due, key=doubt):
        weight -= WEIGHT_OF_ACCOUNT + WEIGHT_PER_SYMBOL * len(watched.get(account.pk, Watched()).futures)
        if settings.WEIGHT_LIMIT_PER_MINUTE and weight < 0 and chosen:
            break
        chosen.append(account)
    return chosen


def _is_new(account: Account, watched: Mapping[int, Watched]) -> bool:
    """Whether its verification, which reads as much, comes first: it may enter nothing before."""
    return account.health == Health.UNVERIFIED and account.pk not in watched


def _is_due(account: Account, now: datetime) -> bool:
    """An account whose stream lives is read once a minute, for its money and as proof; others every tick."""
    if account.health == Health.CREDENTIAL_ERROR:
        # A dead key is asked by verification, once a minute: read here it would starve accounts that answer,
        # and bad signatures get the whole address banned.
        return False
    if not settings.WEIGHT_LIMIT_PER_MINUTE or account.audited_at is None:
        return True
    is_told = account.fresh_at is not None and account.fresh_at > account.audited_at
    return not is_told or now - account.audited_at >= PROOF_EVERY


def read(accounts: Sequence[Account], watched: Mapping[int, Watched], now: datetime) -> dict[int, Picture]:
    """Read the accounts, some side by side; those that did not answer whole are left out.

    The first that finds no room in the minute is the last: half of a picture costs weight and shows nothing.
    """
    on_spot, no_futures = _with_spot(accounts), spot_only(accounts)
    size = SIDE_BY_SIDE if settings.WEIGHT_LIMIT_PER_MINUTE else max(1, len(accounts))
    pictures: dict[int, Picture] = {}
    for start in range(0, len(accounts), size):
        chunk = accounts[start : start + size]
        reads = [
            _read_one(
                account,
                watched.get(account.pk, Watched()),
                now,
                with_futures=account.pk not in no_futures,
                with_spot=account.pk in on_spot,
            )
            for account in chunk
        ]
        answers = IoLoop.current().run_all(reads, READ_SECONDS)
        for account, answer in zip(chunk, answers, strict=True):
            if isinstance(answer, Picture):
                pictures[account.pk] = answer
            else:
                log.warning("audit_failed", account=account.name, error=str(answer)[:200])
        if any(isinstance(one, GatewayError) and one.code in POSTPONED_CODES for one in answers):
            break
    return pictures


def _with_spot(accounts: Sequence[Account]) -> set[int]:
    ids = [account.pk for account in accounts]
    enabled = Account.objects.filter(pk__in=ids, executors__market=Market.SPOT, executors__is_enabled=True)
    return set(enabled.values_list("pk", flat=True))


async def _read_one(
    account: Account, watched: Watched, now: datetime, *, with_futures: bool, with_spot: bool
) -> Picture:
    orders: list[OrderReport] = []
    stops: list[OrderReport] = []
    positions: Sequence[PositionReport] = ()
    balance = spot = None
    money_asked_at = settings.CLOCK.now()
    with priority(Priority.REPORT):
        if with_futures:
            gateway = gateway_for(account, Market.FUTURES)
            orders, stops = await _open_orders(gateway, watched.futures)
            # Positions are read after the orders: a stop that fired in between shows as flat, not as missing.
            positions = await gateway.fetch_positions()
            money_asked_at = settings.CLOCK.now()
            balance = await gateway.fetch_balance()
        if with_spot:
            spot_gateway = gateway_for(account, Market.SPOT)
            spot_orders, spot_stops = await _open_orders(spot_gateway, watched.spot)
            orders, stops = orders + spot_orders, stops + spot_stops
            spot = await spot_gateway.fetch_balance()
    spot_symbols = watched.spot if with_spot else frozenset()
    return Picture(
        read_at=now,
        money_asked_at=money_asked_at,
        positions=tuple(positions),
        orders=tuple(orders),
        stops=tuple(stops),
        symbols=(watched.futures if with_futures else frozenset()) | spot_symbols,
        spot_symbols=spot_symbols,
        balance=balance,
        spot=spot,
    )


async def _open_orders(
    gateway: ExchangeGateway, symbols: frozenset[str]
) -> tuple[list[OrderReport], list[OrderReport]]:
    orders: list[OrderReport] = []
    stops: list[OrderReport] = []
    for symbol in sorted(symbols):
        orders += await gateway.fetch_open_orders(symbol, is_conditional=False)
        stops += await gateway.fetch_open_orders(symbol, is_conditional=True)
    return orders, stops
