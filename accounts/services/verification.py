"""Ask the real exchange whether an account may enter, and keep the answer.

A read that fails is a reason against the account and changes no money column. Only our own speed limit is no
reason: then nothing was learnt and the row stays as it is.
"""

from collections.abc import Awaitable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F, Q, QuerySet

from accounts.domain.breaker import has_money_come
from accounts.domain.health import PERMISSIONS_READ, Failure, Reading, Terms, Verdict, judge, permissions_of
from accounts.errors import AccountRefused, AccountUnusable, CredentialError
from accounts.models import Account, Health, Mode
from accounts.services.breakers import note_money, note_verified
from accounts.services.gateways import gateway_for
from accounts.services.health import MESSAGE_LENGTH, tell_health
from accounts.services.money import money_columns
from accounts.services.registry import refuse_untried
from accounts.services.symbol_settings import store_all
from alerts.models import Severity
from alerts.services import clear_alert, raise_alert
from exchange.budget import Priority, priority
from exchange.errors import GatewayError, OrderNotPlaced, Throttled
from exchange.loop import IoLoop
from exchange.port import AccountSettings, ExchangeGateway, Market

READ_SECONDS = 30.0
HEALTHY_FOR = timedelta(hours=1)
UNFIT_FOR = timedelta(seconds=55)
POSTPONED = Verdict("POSTPONED", "The rate budget left no room to ask.")

Answer = TypeVar("Answer")

log = structlog.get_logger(__name__)


def verify_account(account: Account, now: datetime) -> Verdict:
    """Read money, positions, modes, every symbol's settings, permissions and clock; store and judge them.

    An account in another position mode than asked for is asked into it, and read back; the read-back decides.

    `POSTPONED` when our own speed limit left no room: then nothing is stored.
    """
    markets = _markets(account)
    try:
        refuse_untried(account.exchange)
    except AccountRefused as refused:
        return _store_unusable(account, AccountUnusable(refused.code, refused.message), now)
    try:
        gateways = {market: gateway_for(account, market) for market in markets}
    except AccountUnusable as error:
        return _store_unusable(account, error, now)
    # Who cannot be verified cannot enter: its reads are as urgent as an entry. Who is well can wait a minute.
    urgency = Priority.UPKEEP if account.health == Health.HEALTHY else Priority.ENTRY
    reading = _read(gateways, urgency, wants_hedge_mode=account.wants_hedge_mode)
    if reading.is_postponed:
        return POSTPONED
    return _store(account, reading, _terms(account, reading, markets), now)


def due_accounts(now: datetime) -> QuerySet[Account]:
    """Accounts to verify now, never verified ones first: well ones hourly or as asked, others each minute."""
    is_due = (
        Q(verified_at=None)
        | Q(verification_asked_at__isnull=False)
        | Q(verified_at__lte=now - HEALTHY_FOR)
        | Q(verified_at__lte=now - UNFIT_FOR) & ~Q(health=Health.HEALTHY)
    )
    active = Account.objects.filter(archived_at=None)
    return active.filter(is_due).order_by(F("verified_at").asc(nulls_first=True), "pk")


def is_due(account: Account, now: datetime) -> bool:
    """Whether this account is to be verified now; a message that came twice finds it done."""
    return due_accounts(now).filter(pk=account.pk).exists()


def _markets(account: Account) -> frozenset[Market]:
    enabled = account.executors.filter(is_enabled=True).values_list("market", flat=True)
    return frozenset(Market(market) for market in enabled)


def _read(
    gateways: Mapping[Market, ExchangeGateway], urgency: Priority, *, wants_hedge_mode: bool
) -> Reading:
    if not gateways:
        return Reading(failures={"executors": Failure("NO_EXECUTOR", "No executor is enabled.")})
    try:
        return IoLoop.current().run(_ask(gateways, urgency, wants_hedge_mode), READ_SECONDS)
    except TimeoutError:
        return Reading(failures={"account": Failure("TIMEOUT", f"No answer in {READ_SECONDS:.0f} s.")})


async def _ask(
    gateways: Mapping[Market, ExchangeGateway], urgency: Priority, wants_hedge_mode: bool
) -> Reading:
    futures, spot = gateways.get(Market.FUTURES), gateways.get(Market.SPOT)
    main = gateways.get(Market.FUTURES) or gateways[Market.SPOT]
    failures: dict[str, Failure] = {}

    async def answer(name: str, call: Awaitable[Answer]) -> Answer | None:
        try:
            return await call
        except GatewayError as error:
            failures[name] = Failure(error.code, error.message)
            return None

    with priority(urgency):
        offset_ms = await answer("clock", main.fetch_clock_offset_ms())
        modes = await answer("settings", _in_position_mode(main, is_hedge_mode=wants_hedge_mode))
        symbols = await answer("symbol settings", futures.fetch_symbol_settings()) if futures else None
        positions = await answer("positions", main.fetch_positions())
        permissions = await answer("permissions", main.fetch_permissions())
        money_asked_at = settings.CLOCK.now()
        balance = await answer("balance", futures.fetch_balance()) if futures else None
        spot_balance = await answer("spot balance", spot.fetch_balance()) if spot else None
    return Reading(
        money_asked_at=money_asked_at,
        balance=balance,
        spot_balance=spot_balance,
        positions=None if positions is None else tuple(positions),
        settings=modes,
        symbols=None if symbols is None else tuple(symbols),
        permissions=permissions,
        clock_offset_ms=offset_ms,
        failures=failures,
    )


async def _in_position_mode(gateway: ExchangeGateway, *, is_hedge_mode: bool) -> AccountSettings:
    """The account's modes, after it was asked into the position mode it lacked; the read-back decides."""
    modes = await gateway.fetch_account_settings()
    if modes.is_hedge_mode == is_hedge_mode:
        return modes
    try:
        await (gateway.set_hedge_mode() if is_hedge_mode else gateway.set_one_way_mode())
    except OrderNotPlaced as error:  # open orders or positions hold it there; or it was not the time to ask
        if isinstance(error, Throttled):
            raise
        log.warning("position_mode_refused", code=error.code)
        return modes
    return await gateway.fetch_account_settings()


def _terms(account: Account, reading: Reading, markets: frozenset[Market]) -> Terms:
    return Terms(
        markets=markets,
        is_paper=account.mode == Mode.PAPER,
        wants_hedge_mode=account.wants_hedge_mode,
        are_unknown_permissions_accepted=account.unknown_permissions_accepted,
        known_account_id=account.exchange_account_id,
        twin=_twin_of(account, reading),
    )


def _twin_of(account: Account, reading: Reading) -> str:
    """The name of another row for the same real account."""
    told = reading.settings.exchange_account_id if reading.settings else ""
    if not told:
        return ""
    same = Account.objects.filter(exchange=account.exchange, mode=account.mode, exchange_account_id=told)
    twin = same.filter(archived_at=None).exclude(pk=account.pk).first()
    return twin.name if twin else ""


def _store(account: Account, reading: Reading, terms: Terms, now: datetime) -> Verdict:
    verdict, permissions_before = judge(reading, terms), account.permissions
    told = reading.balance
    is_richer = told is not None and has_money_come(told.available, account.available_balance, told.wallet)
    try:
        with transaction.atomic():
            _write(account, _columns(account, reading, verdict, now))
            store_all(account, reading.symbols or (), now)
    except IntegrityError:
        # Another row took the exchange's account id between our look and our write: now the look finds it.
        verdict = Verdict("SAME_ACCOUNT", f"This exchange account is already {_twin_of(account, reading)}.")
        _write(account, _verdict_columns(verdict, now))
    _tell(account, verdict, now)
    _tell_permissions(account, permissions_before, now)
    note_money([account.pk] if is_richer else [], now)
    return verdict


def _store_unusable(account: Account, error: AccountUnusable, now: datetime) -> Verdict:
    """Keys that do not open, or a mode that differs; a process without keys has nothing to say of them."""
    verdict = Verdict(error.code, error.message, blames_keys=isinstance(error, CredentialError))
    if error.code != "CREDENTIALS_ELSEWHERE":
        _write(account, _verdict_columns(verdict, now))
        _tell(account, verdict, now)
    return verdict


def _write(account: Account, columns: dict[str, Any]) -> None:
    """Store, unless the keys were replaced or the account archived while the exchange was asked."""
    same = Account.objects.filter(pk=account.pk, key_fingerprint=account.key_fingerprint, archived_at=None)
    if same.update(**columns):
        for name, value in columns.items():
            setattr(account, name, value)


def _columns(account: Account, reading: Reading, verdict: Verdict, now: datetime) -> dict[str, Any]:
    columns = _verdict_columns(verdict, now) | _money_columns(reading, now)
    if account.day_started_at is None and (reading.balance or reading.spot_balance):
        # Without a baseline the day's loss is unknown: a new account would be denied until its first audit.
        # A spot wallet is measured as it is now: only futures money has a baseline.
        baseline = reading.balance.equity if reading.balance else Decimal(0)
        columns |= {"day_started_at": reading.money_asked_at, "day_baseline_equity": baseline}
    if reading.permissions is not None or PERMISSIONS_READ in reading.failures:
        columns["permissions"] = permissions_of(reading.permissions).value
    if reading.clock_offset_ms is not None:
        columns["clock_offset_ms"] = reading.clock_offset_ms
    if reading.settings is not None:
        columns["is_hedge_mode"] = reading.settings.is_hedge_mode
        columns["is_multi_assets"] = reading.settings.is_multi_assets
        if verdict.code not in {"SAME_ACCOUNT", "OTHER_ACCOUNT"}:
            columns["exchange_account_id"] = (
                reading.settings.exchange_account_id or account.exchange_account_id
            )
    return columns


def _verdict_columns(verdict: Verdict, now: datetime) -> dict[str, Any]:
    return {
        "health": health_of(verdict),
        "health_code": verdict.code,
        "health_message": verdict.message[:MESSAGE_LENGTH],
        "verified_at": now,
        "verification_asked_at": None,
    }


def _money_columns(reading: Reading, now: datetime) -> dict[str, Any]:
    """What was read of the money; a failed read leaves its columns as they are."""
    columns: dict[str, Any] = {**money_columns(reading.balance, reading.spot_balance)}
    if not {"balance", "spot balance", "positions", "account", "executors"} & set(reading.failures):
        columns |= {"balances_at": reading.money_asked_at, "fresh_at": now}
    return columns


def health_of(verdict: Verdict) -> Health:
    """The stored health of a verdict."""
    if verdict.is_fit:
        return Health.HEALTHY
    return Health.CREDENTIAL_ERROR if verdict.blames_keys else Health.UNHEALTHY


def _tell(account: Account, verdict: Verdict, now: datetime) -> None:
    tell_health(account, health_of(verdict), verdict.code, verdict.message, now)
    if verdict.is_fit:
        note_verified(account, now)


def _tell_permissions(account: Account, before: str, now: datetime) -> None:
    """A key whose rights changed is somebody's doing: one alert, until a later look finds them unchanged."""
    cause = f"key-permissions:{account.pk}"
    if before in {"", "UNKNOWN", account.permissions}:  # learning what was not known is no change
        clear_alert(cause, now)
        return
    message = f"The rights of the key of {account.name} changed from {before} to {account.permissions}."
    raise_alert(cause, Severity.WARNING, "KEY_PERMISSIONS", message, now=now, account=account.name)
