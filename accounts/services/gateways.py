"""From an account to its gateway. The mode is chosen once; keys are opened here, in memory only."""

import asyncio
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from threading import Lock
from time import monotonic

from django.conf import settings
from django.db import connection
from redis.asyncio import Redis

from accounts.credentials import Field, Opener, fingerprint
from accounts.errors import AccountUnusable, CredentialError
from accounts.models import Account, AccountSource, Health, Mode
from accounts.services.health import mark_credential_error
from exchange.budget import Priority, RateBudget
from exchange.credentials import Credentials
from exchange.errors import Throttled
from exchange.factory import ExperimentalFactory, GatewayFactory, factory_for
from exchange.loop import IoLoop
from exchange.port import ExchangeGateway, Market, MarketDataGateway
from exchange.quirks import VENUES
from exchange.streams import UserStream
from exchange.venue_answers import AnswerCount

REDIS_SECONDS = 1.0
CLOCK_SECONDS = 20.0
READER_KEPT_SECONDS = 300.0
KEYLESS_READER_KEPT_SECONDS = 5.0
READERS_TRIED = 5


def gateway_for(account: Account, market: Market) -> ExchangeGateway:
    """The account's way to a market; cheap, and may be called on the I/O loop.

    Raises AccountUnusable (MODE_DIFFERS, CREDENTIALS_ELSEWHERE), or CredentialError and then marks the
    account CREDENTIAL_ERROR. Both are `OrderRejected`: nothing was sent.
    """
    try:
        return gateways().gateway_of(account, market)
    except CredentialError as error:
        _mark(account, error, settings.CLOCK.now())
        raise


def clock_offset_ms(account: Account, market: Market) -> int:
    """How far the exchange's clock is from this machine's, for what is signed ahead of its sending.

    As this process measured it; before its first measurement as the account's row has it.
    """
    measured = gateways().factory(account.exchange).clock_offset_ms(market)
    return int(account.clock_offset_ms) if measured is None else measured


def measured_clocks(market: Market) -> dict[str, int]:
    """As `clock_offset_ms`, of every venue of this process that trades the market and was measured by it."""
    return gateways().measured_clocks(market)


def fetch_clock_offset_ms(exchange: str, market: Market = Market.FUTURES) -> int:
    """Measure a venue's clock now. Not for the I/O loop; raises `ReadFailed` or `TimeoutError`."""
    factory = gateways().factory(exchange)
    return IoLoop.current().run(factory.fetch_clock_offset_ms(market), CLOCK_SECONDS)


async def take_orders(
    exchange: str, market: Market, count: int, wanted: Priority, *, is_conditional: bool = False
) -> int:
    """How many of `count` placements at a venue may go now, asked at once; for the I/O loop.

    Each of them is then sent inside `exchange.budget.already_taken`. Raises `Throttled` while the address is
    stopped, `VenueUnavailable` for entries when the budget does not answer: nothing was sent.
    """
    factory = gateways().factory(exchange)
    return await factory.take_orders(market, count, wanted, is_conditional=is_conditional)


def ask_budgets_ahead() -> None:
    """Have the rate budgets asked whether their addresses are stopped, while the caller does something else.

    A futures order costs no weight: known to be let through so lately, it asks no more. Whatever else the
    answer says, the order hears for itself.
    """
    IoLoop.current().submit(gateways().ask_ahead())


def user_stream_for(account: Account, market: Market) -> UserStream:
    """What happens on the account, as the exchange tells it; raises as `gateway_for`, marking nothing."""
    return gateways().user_stream_of(account, market)


def keys_version(account: Account) -> object:
    """Changes whenever the row's keys do: the same API key may come with another secret."""
    return account.key_fingerprint, account.key_id, bytes(account.api_secret_ciphertext or b"")


def market_data(market: Market, exchange: str = "binance") -> MarketDataGateway:
    """Public data of a market; the first account whose keys open adds brackets. Not for the I/O loop."""
    return gateways().market_data(market, exchange)


def gateways_without_database(name: str = "") -> dict[str, ExchangeGateway]:
    """Futures gateways of every account whose key needs no database, by name; of one when `name` is given.

    Those are environment accounts and, on paper, the accounts whose key is their own name.
    """
    told = {
        kept.name: (kept.exchange, Credentials(kept.api_key, kept.api_secret, kept.passphrase))
        for kept in settings.ENVIRONMENT_ACCOUNTS
    }
    if settings.MODE == Mode.PAPER:
        paper = {f"paper-{number:04d}" for number in range(1, settings.PAPER_ACCOUNTS + 1)}
        told |= {own: ("binance", Credentials(own, own)) for own in paper | ({name} - {""})}
    chosen = {own: way for own, way in told.items() if name in {"", own}}
    return {
        own: gateways().factory(exchange).for_account(keys, Market.FUTURES)
        for own, (exchange, keys) in sorted(chosen.items())
    }


async def warm_up(exchange: str = "binance") -> None:
    """Load market tables and open connections before a worker says that it is ready."""
    await gateways().factory(exchange).warm_up()


def close_gateways() -> None:
    """Close every connection and the I/O loop of this process; the next call builds anew."""
    IoLoop.current().close(gateways().close)
    gateways.cache_clear()


class Gateways:
    """The gateways of one process: one factory a venue, the keys of each account while they are current."""

    def __init__(self) -> None:
        self._opener = Opener(settings.HPKE_PRIVATE_KEY)
        self._factories: dict[str, GatewayFactory | ExperimentalFactory] = {}
        self._opened: dict[int, tuple[object, Credentials]] = {}
        self._readers: dict[tuple[str, Market], tuple[float, MarketDataGateway]] = {}
        self._redis: Redis | None = None
        self._lock = Lock()

    def gateway_of(self, account: Account, market: Market) -> ExchangeGateway:
        """As `gateway_for`, without marking the account."""
        if account.mode != settings.MODE:
            raise AccountUnusable(
                "MODE_DIFFERS", f"{account.name} is {account.mode}, the desk {settings.MODE}."
            )
        return self.factory(account.exchange).for_account(self._credentials(account), market)

    def user_stream_of(self, account: Account, market: Market) -> UserStream:
        """As `user_stream_for`."""
        if account.mode != settings.MODE:
            raise AccountUnusable(
                "MODE_DIFFERS", f"{account.name} is {account.mode}, the desk {settings.MODE}."
            )
        return self.factory(account.exchange).user_stream(self._credentials(account), market)

    def market_data(self, market: Market, exchange: str) -> MarketDataGateway:
        """As `market_data`; the account behind it is chosen again every few minutes."""
        until, reader = self._readers.get((exchange, market), (0.0, None))
        if reader is None or monotonic() > until:
            credentials = self._any_credentials(exchange)
            reader = self.factory(exchange).market_data(market, credentials)
            kept = READER_KEPT_SECONDS if credentials else KEYLESS_READER_KEPT_SECONDS
            self._readers[exchange, market] = (monotonic() + kept, reader)
        return reader

    def factory(self, exchange: str) -> GatewayFactory | ExperimentalFactory:
        """The one factory of a venue."""
        with self._lock:
            if exchange not in self._factories:
                self._factories[exchange] = self._build(exchange)
            return self._factories[exchange]

    async def ask_ahead(self) -> None:
        """As `ask_budgets_ahead`, of the venues this process has asked before."""
        for factory in list(self._factories.values()):
            with suppress(Throttled):
                await factory.take_orders(Market.FUTURES, 0, Priority.EXIT)

    def measured_clocks(self, market: Market) -> dict[str, int]:
        """As the function of that name."""
        with self._lock:
            built = list(self._factories.items())
        measured = {
            exchange: factory.clock_offset_ms(market)
            for exchange, factory in built
            if market in VENUES[exchange].markets
        }
        return {exchange: offset_ms for exchange, offset_ms in measured.items() if offset_ms is not None}

    async def close(self) -> None:
        """Close every connection."""
        for factory in self._factories.values():
            await factory.close()
        if self._redis is not None:
            await self._redis.aclose()

    def _build(self, exchange: str) -> GatewayFactory | ExperimentalFactory:
        base_url = settings.PAPER_EXCHANGE_URL if settings.MODE == Mode.PAPER else ""
        return factory_for(settings.MODE, exchange, base_url, self._budgets(exchange), now=settings.CLOCK.now)

    def _budgets(self, exchange: str) -> dict[Market, RateBudget]:
        """One per market: futures and spot count an address's weight apart, in the venue's proportion."""
        known = VENUES[exchange].weight_limit_per_minute
        if not settings.WEIGHT_LIMIT_PER_MINUTE:
            return {}
        if self._redis is None:
            self._redis = Redis.from_url(
                settings.REDIS_URL, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS
            )
        answers = AnswerCount(self._redis, exchange)
        return {
            market: RateBudget(
                self._redis,
                f"{exchange}-{market}",
                settings.EGRESS,
                answers=answers,
                weight_limit_per_minute=settings.WEIGHT_LIMIT_PER_MINUTE * limit // known[Market.FUTURES],
            )
            for market, limit in known.items()
        }

    def _credentials(self, account: Account) -> Credentials:
        version = keys_version(account)
        opened = self._opened.get(account.pk)
        if opened is not None and opened[0] == version:
            return opened[1]
        self._forget(account)
        credentials = self._told(account) if _is_told(account) else self._unsealed(account)
        if fingerprint(credentials.api_key) != account.key_fingerprint:
            raise CredentialError("KEY_DIFFERS", "The key is not the one this account was made with.")
        self._opened[account.pk] = (version, credentials)
        return credentials

    def _forget(self, account: Account) -> None:
        opened = self._opened.pop(account.pk, None)
        if opened is not None:
            self.factory(account.exchange).forget(opened[1])

    def _told(self, account: Account) -> Credentials:
        if not settings.OPENS_CREDENTIALS:
            raise AccountUnusable("CREDENTIALS_ELSEWHERE", "This process holds no keys.")
        for told in settings.ENVIRONMENT_ACCOUNTS:
            if told.number == account.environment_index:
                return Credentials(told.api_key, told.api_secret, told.passphrase)
        raise CredentialError("ENVIRONMENT_GONE", "The environment no longer tells this account.")

    def _unsealed(self, account: Account) -> Credentials:
        if not settings.HPKE_PRIVATE_KEY:
            raise AccountUnusable("CREDENTIALS_ELSEWHERE", "This process holds no private key.")
        return Credentials(
            self._open(account, account.api_key_ciphertext, Field.API_KEY),
            self._open(account, account.api_secret_ciphertext, Field.API_SECRET),
            self._open(account, account.passphrase_ciphertext, Field.PASSPHRASE)
            if account.passphrase_ciphertext
            else "",
        )

    def _open(self, account: Account, ciphertext: bytes | memoryview | None, field: Field) -> str:
        if not ciphertext:
            raise CredentialError("NO_KEYS", f"{account.name} has no {field.value}.")
        return self._opener.open(bytes(ciphertext), account.key_id, account.uuid, field)

    def _any_credentials(self, exchange: str) -> Credentials | None:
        usable = Account.objects.filter(exchange=exchange, mode=settings.MODE, archived_at=None)
        for account in usable.exclude(health=Health.CREDENTIAL_ERROR).order_by("pk")[:READERS_TRIED]:
            try:
                return self._credentials(account)
            except AccountUnusable:
                continue
        return None


@lru_cache(maxsize=1)
def gateways() -> Gateways:
    """The gateways of this process."""
    return Gateways()


def _is_told(account: Account) -> bool:
    return account.source == AccountSource.ENVIRONMENT


def _mark(account: Account, error: CredentialError, now: datetime) -> None:
    """Mark the row; on the I/O loop from another thread, because the loop never waits for the database."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        mark_credential_error(account, error.code, error.message, now)
    else:
        loop.run_in_executor(None, _mark_elsewhere, account, error, now)


def _mark_elsewhere(account: Account, error: CredentialError, now: datetime) -> None:
    try:
        mark_credential_error(account, error.code, error.message, now)
    finally:
        connection.close()
