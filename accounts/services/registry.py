"""The list of accounts: make, change keys, pause, archive; and the accounts the environment tells."""

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from accounts.credentials import Field, Sealer, fingerprint, last4
from accounts.errors import AccountRefused
from accounts.models import (
    Account,
    AccountGroup,
    AccountSource,
    Executor,
    Health,
    MarginMode,
    Mode,
    PositionMode,
)
from alerts.models import Severity
from alerts.services import clear_alert, raise_alert
from exchange.port import Market
from exchange.quirks import VENUES

FUTURES_THEN_SPOT = (Market.FUTURES, Market.SPOT)
HIGHEST_LEVERAGE = 125
NAME_LENGTH = 80
VANISHED = "No longer in the environment."
VISIBLE_TEXT = re.compile(r"[!-~]+")
NO_KEYS: dict[str, Any] = {
    "key_last4": "",
    "key_fingerprint": None,
    "key_id": "",
    "api_key_ciphertext": None,
    "api_secret_ciphertext": None,
    "passphrase_ciphertext": None,
}
NOT_VERIFIED: dict[str, Any] = {
    "health": Health.UNVERIFIED,
    "health_code": "",
    "health_message": "",
    "verified_at": None,
    "permissions": "",
}


class ToldAccount(Protocol):
    """An account as the environment tells it; its keys are empty in a process that must not hold them."""

    @property
    def number(self) -> int:
        """The `<n>` of its settings: its identity over renamings."""

    @property
    def name(self) -> str:
        """The name shown."""

    @property
    def exchange(self) -> str:
        """The venue."""

    @property
    def mode(self) -> str:
        """Paper, testnet or live."""

    @property
    def group(self) -> str:
        """The group's name, or empty."""

    @property
    def leverage(self) -> Decimal:
        """A whole number."""

    @property
    def api_key(self) -> str:
        """The key, or empty where it may not be held."""


@dataclass(slots=True)
class Synchronised:
    """What a look at the environment changed, by account name; refusals with their reason."""

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    paused: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


def create_account(
    name: str,
    api_key: str,
    api_secret: str,
    passphrase: str = "",
    *,
    exchange: str = "binance",
    mode: str = Mode.PAPER,
    group: str = "",
    leverage: int = 3,
    executors: Sequence[Market] | None = None,
) -> Account:
    """Store an account with its keys sealed; the first market of `executors` is primary.

    Without `executors` it has the markets its exchange has. Raises AccountRefused: NAME_TAKEN, BAD_NAME,
    SAME_KEY, NO_KEYS, BAD_KEYS, UNKNOWN_EXCHANGE, EXPERIMENTAL_EXCHANGE, BAD_MODE, BAD_LEVERAGE, NO_EXECUTOR.
    """
    executors = markets_of(exchange) if executors is None else executors
    _check_terms(name, exchange, mode, leverage, executors)
    if VENUES[exchange].uses_passphrase and not passphrase.strip():
        raise AccountRefused("NO_KEYS", f"A key of {exchange} has a passphrase: it is needed too.")
    account = Account(name=name, exchange=exchange, mode=mode, leverage=leverage)
    _seal_into(account, api_key, api_secret, passphrase)
    with transaction.atomic():
        account.group = group_named(group)
        _insert(account, executors)
    return account


def replace_keys(account: Account, api_key: str, api_secret: str, passphrase: str = "") -> None:
    """Seal other keys of the same exchange account; it trades again after its next verification.

    Raises AccountRefused: ARCHIVED, ENVIRONMENT_KEYS, SAME_KEY, NO_KEYS, BAD_KEYS.
    """
    if account.archived_at is not None:
        raise AccountRefused("ARCHIVED", f"{account.name} is archived.")
    if account.source == AccountSource.ENVIRONMENT:
        raise AccountRefused("ENVIRONMENT_KEYS", f"The keys of {account.name} are told by the environment.")
    if VENUES[account.exchange].uses_passphrase and not passphrase.strip():
        raise AccountRefused("NO_KEYS", f"A key of {account.exchange} has a passphrase: it is needed too.")
    _seal_into(account, api_key, api_secret, passphrase)
    _set(account, **NOT_VERIFIED)
    with _refused_when_taken(account), transaction.atomic():
        account.save(update_fields=[*NO_KEYS, *NOT_VERIFIED])


def pause(account: Account, reason: str) -> None:
    """No new entries; exits and monitoring go on. Raises AccountRefused(NO_REASON) for an empty reason."""
    if not reason.strip():
        raise AccountRefused("NO_REASON", "A pause needs a reason.")
    _store(account, is_enabled=False, pause_reason=reason.strip()[:200])


def resume(account: Account) -> None:
    """Entries again, once verified. Raises AccountRefused(ARCHIVED)."""
    if account.archived_at is not None:
        raise AccountRefused("ARCHIVED", f"{account.name} is archived: make it anew.")
    _store(account, is_enabled=True, pause_reason="")


def wipe_keys(account: Account, now: datetime) -> None:
    """Archive: keys gone for good, rows kept. The caller has made sure that nothing is open or unresolved."""
    _store(
        account,
        **NO_KEYS,
        is_enabled=False,
        archived_at=now,
        environment_index=None,
        health=Health.UNVERIFIED,
        health_code="ARCHIVED",
        health_message="",
    )


def markets_of(exchange: str) -> tuple[Market, ...]:
    """The markets of an exchange, perpetuals before spot; both for an unknown one, refused elsewhere."""
    venue = VENUES.get(exchange)
    return tuple(market for market in FUTURES_THEN_SPOT if venue is None or market in venue.markets)


def refuse_untried_modes(exchange: str, position_mode: str, margin_mode: str) -> None:
    """Raise AccountRefused(NOT_TRIED) for hedge mode or cross margin where no test ever traded with it."""
    usual = (PositionMode.ONE_WAY, MarginMode.ISOLATED)
    if exchange != "binance" and (position_mode, margin_mode) != usual:
        raise AccountRefused("NOT_TRIED", f"{exchange} was tried one-way and isolated only.")


def refuse_untried(exchange: str) -> None:
    """Raises AccountRefused(EXPERIMENTAL_EXCHANGE) for a venue not yet tried that the desk does not name."""
    if VENUES[exchange].is_experimental and exchange not in settings.EXPERIMENTAL_VENUES:
        raise AccountRefused(
            "EXPERIMENTAL_EXCHANGE",
            f"{exchange} is not yet tried against its testnet, and EXPERIMENTAL_VENUES does not name it.",
        )


def create_paper_accounts(count: int) -> list[Account]:
    """Make what is missing of paper-0001 to paper-<count>; returns those. Key and secret are the name.

    Raises AccountRefused(NOT_PAPER) on any other desk.
    """
    if settings.MODE != Mode.PAPER:
        raise AccountRefused("NOT_PAPER", f"This desk trades {settings.MODE}: it has no paper accounts.")
    names = [f"paper-{number:04d}" for number in range(1, count + 1)]
    known = set(Account.objects.filter(name__startswith="paper-").values_list("name", flat=True))
    with transaction.atomic():
        return [create_account(name, name, name) for name in names if name not in known]


def sync_environment_accounts(now: datetime) -> Synchronised:
    """Make the rows match the environment: new ones made, changed ones updated, vanished ones paused.

    None is deleted. One that comes back is resumed when nothing but its vanishing had paused it. A name or
    key that another row has is refused, with an alert; the other row stands.
    """
    done = Synchronised()
    told_accounts: Sequence[ToldAccount] = settings.ENVIRONMENT_ACCOUNTS
    for told in told_accounts:
        cause = f"environment-account:{told.number}"
        try:
            _sync_one(told, done)
        except AccountRefused as refused:
            done.refused[told.name] = refused.message
            raise_alert(cause, Severity.CRITICAL, refused.code, refused.message, now=now, account=told.name)
        else:
            clear_alert(cause, now)
    _pause_vanished({told.number for told in told_accounts}, done)
    return done


def _sync_one(told: ToldAccount, done: Synchronised) -> None:
    _check_terms(told.name, told.exchange, told.mode, int(told.leverage), markets_of(told.exchange))
    account = Account.objects.filter(environment_index=told.number).first()
    if account is None:
        _create_told(told)
        done.created.append(told.name)
    elif _update_told(account, told):
        done.updated.append(told.name)


def _create_told(told: ToldAccount) -> None:
    account = Account(source=AccountSource.ENVIRONMENT, environment_index=told.number)
    with transaction.atomic():
        _set(account, **_terms_of(told))
        _insert(account, markets_of(told.exchange))


def _update_told(account: Account, told: ToldAccount) -> bool:
    terms = _terms_of(told)
    if terms.get("key_fingerprint", account.key_fingerprint) != account.key_fingerprint:
        terms |= NOT_VERIFIED
    if account.pause_reason == VANISHED:
        terms |= {"is_enabled": True, "pause_reason": ""}
    changed = {name: value for name, value in terms.items() if getattr(account, name) != value}
    _set(account, **changed)
    if changed:
        with _refused_when_taken(account), transaction.atomic():
            account.save(update_fields=list(changed))
    return bool(changed)


def _terms_of(told: ToldAccount) -> dict[str, Any]:
    terms = {
        "name": told.name,
        "exchange": told.exchange,
        "mode": told.mode,
        "group": group_named(told.group),
        "leverage": int(told.leverage),
    }
    # The web process is told no keys: what a worker has written of them stays.
    if told.api_key:
        terms |= {"key_fingerprint": fingerprint(told.api_key), "key_last4": last4(told.api_key)}
    return terms


def _pause_vanished(numbers: Collection[int], done: Synchronised) -> None:
    told_once: QuerySet[Account] = Account.objects.filter(source=AccountSource.ENVIRONMENT, archived_at=None)
    for account in told_once.filter(is_enabled=True).exclude(environment_index__in=numbers):
        pause(account, VANISHED)
        done.paused.append(account.name)


def _check_terms(name: str, exchange: str, mode: str, leverage: int, executors: Sequence[Market]) -> None:
    if not name.strip() or name != name.strip() or len(name) > NAME_LENGTH or not name.isprintable():
        raise AccountRefused(
            "BAD_NAME", f"A name has 1 to {NAME_LENGTH} printable characters, no spaces around."
        )
    if exchange not in VENUES:
        raise AccountRefused("UNKNOWN_EXCHANGE", f"{exchange} is none of {', '.join(sorted(VENUES))}.")
    refuse_untried(exchange)
    if mode not in Mode.values:
        raise AccountRefused("BAD_MODE", f"{mode} is none of {', '.join(Mode.values)}.")
    if not 1 <= leverage <= HIGHEST_LEVERAGE:
        raise AccountRefused("BAD_LEVERAGE", f"Leverage {leverage} is outside 1 to {HIGHEST_LEVERAGE}.")
    if not executors or len(set(executors)) != len(executors):
        raise AccountRefused("NO_EXECUTOR", "An account has one or two different markets.")
    missing = sorted(market.value for market in executors if market not in VENUES[exchange].markets)
    if missing:
        raise AccountRefused("NO_EXECUTOR", f"{exchange} is not traded on {', '.join(missing)} here.")


def _seal_into(account: Account, api_key: str, api_secret: str, passphrase: str) -> None:
    key, secret, phrase = (_clean(text) for text in (api_key, api_secret, passphrase))
    if not key or not secret:
        raise AccountRefused("NO_KEYS", "An API key and its secret are both needed.")
    sealer = Sealer.from_text(settings.HPKE_PUBLIC_KEY)
    account.key_id = sealer.key_id
    account.key_last4 = last4(key)
    account.key_fingerprint = fingerprint(key)
    account.api_key_ciphertext = sealer.seal(key, account.uuid, Field.API_KEY)
    account.api_secret_ciphertext = sealer.seal(secret, account.uuid, Field.API_SECRET)
    account.passphrase_ciphertext = sealer.seal(phrase, account.uuid, Field.PASSPHRASE) if phrase else None


def _clean(text: str) -> str:
    """A pasted key without the blanks around it. Raises AccountRefused(BAD_KEYS), naming nothing of it."""
    stripped = text.strip()
    if stripped and not VISIBLE_TEXT.fullmatch(stripped):
        raise AccountRefused("BAD_KEYS", "Keys are visible ASCII characters without blanks.")
    return stripped


def _insert(account: Account, executors: Sequence[Market]) -> None:
    with _refused_when_taken(account), transaction.atomic():
        account.save(force_insert=True)
    Executor.objects.bulk_create(
        Executor(account=account, market=market.value, rank=rank) for rank, market in enumerate(executors, 1)
    )


@contextmanager
def _refused_when_taken(account: Account) -> Iterator[None]:
    """Turn the database's refusal of a second row into ours: asked first, two requests at once would pass."""
    try:
        yield
    except IntegrityError as error:
        refused = _who_has_it(account)
        if refused is None:
            raise
        raise refused from error


def _who_has_it(account: Account) -> AccountRefused | None:
    others = Account.objects.exclude(pk=account.pk)
    same_key = others.exclude(key_fingerprint=None).filter(key_fingerprint=account.key_fingerprint).first()
    if same_key is not None:
        return AccountRefused("SAME_KEY", f"This key is already the account {same_key.name}.")
    if others.filter(name=account.name).exists():
        return AccountRefused("NAME_TAKEN", f"There is an account {account.name} already.")
    return None


def group_named(name: str) -> AccountGroup | None:
    """The group of that name, made when it is new; None for a blank one."""
    return AccountGroup.objects.get_or_create(name=name.strip())[0] if name.strip() else None


def _set(account: Account, **values: Any) -> None:
    for name, value in values.items():
        setattr(account, name, value)


def _store(account: Account, **values: Any) -> None:
    _set(account, **values)
    account.save(update_fields=list(values))
