"""What `doctor` looks at: each part of the desk asked once, each answer a line."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from redis import Redis
from redis.exceptions import RedisError

from accounts.models import Account, Health
from accounts.services.gateways import market_data
from accounts.services.verification import POSTPONED, verify_account
from exchange.errors import GatewayError
from exchange.loop import IoLoop
from exchange.port import InstrumentReport, Market, MarketDataGateway

ANSWER_SECONDS = 30.0
"""A first call loads the market table."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of an examination."""

    subject: str
    is_well: bool
    text: str

    def __str__(self) -> str:
        return f"{'ok  ' if self.is_well else 'FAIL'} {self.subject}: {self.text}"


def examine(now: datetime) -> Iterator[Finding]:
    """Settings, database, broker, both markets, then every account; one that fails stops none."""
    yield Finding(
        "settings", is_well=True, text=f"mode {settings.MODE}, {len(settings.ENVIRONMENT_ACCOUNTS)} told"
    )
    yield _found("database", _database)
    yield _found("broker", _broker)
    for market in Market:
        yield _found(f"exchange {market.value}", partial(_exchange, market))
    try:
        accounts = list(Account.objects.filter(archived_at=None))
    except DatabaseError as error:
        yield Finding("accounts", is_well=False, text=type(error).__name__)
        return
    for account in accounts:
        yield _account(account, now)


def _found(subject: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(subject, is_well=True, text=look())
    except (
        DatabaseError,
        RedisError,
        GatewayError,
        TimeoutError,
        LookupError,
        ImproperlyConfigured,
    ) as error:
        return Finding(subject, is_well=False, text=f"{type(error).__name__} {error}".strip())


def _database() -> str:
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        raise LookupError(f"{len(missing)} migrations are not applied")
    return f"{connection.vendor}, all migrations applied"


def _broker() -> str:
    with Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2) as redis:
        redis.ping()
        return "answers"


def _exchange(market: Market) -> str:
    instruments = IoLoop.current().run(_instruments(market_data(market)), ANSWER_SECONDS)
    return f"{sum(instrument.is_trading for instrument in instruments)} symbols open"


async def _instruments(gateway: MarketDataGateway) -> Sequence[InstrumentReport]:
    return await gateway.fetch_instruments()


def _account(account: Account, now: datetime) -> Finding:
    verdict = verify_account(account, now)
    if verdict == POSTPONED:
        return Finding(
            account.name,
            is_well=account.health == Health.HEALTHY,
            text="not asked: the rate budget is used up",
        )
    if not verdict.is_fit:
        return Finding(account.name, is_well=False, text=f"{verdict.code} {verdict.message}")
    clock = f"clock {account.clock_offset_ms} ms"
    money = f"wallet {account.wallet_balance or 0:.2f}, spot {account.spot_wallet or 0:.2f}"
    return Finding(
        account.name, is_well=True, text=f"{account.health}, {clock}, {money}, {account.permissions}"
    )
