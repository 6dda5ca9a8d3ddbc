"""Whether an account may enter, judged from what the exchange said of it: nothing is read or stored here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from accounts.domain.breaker import CREDENTIAL_CODES
from exchange.clock import TOO_FAR_MS
from exchange.port import (
    AccountSettings,
    BalanceReport,
    KeyPermissions,
    Market,
    PositionReport,
    SymbolSettings,
)

# A key may trade and yet not read its own rights: then they are unknown, which has a rule of its own.
PERMISSIONS_READ = "permissions"
POSTPONED_CODES = frozenset({"BUDGET", "STOPPED", "BUDGET_UNREACHABLE", "HTTP_429", "HTTP_418", "-1003"})


class Permissions(StrEnum):
    """What a key may do, as far as it matters: it must not be able to take money out."""

    SAFE = "SAFE"
    UNSAFE = "UNSAFE"
    NO_IP_LIMIT = "NO_IP_LIMIT"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one read did not answer: the error's code and safe message."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Reading:
    """What the exchange said; None with an entry in `failures` where a read did not answer.

    `money_asked_at` is right before the money was asked for: what moved earlier is in it.
    """

    money_asked_at: datetime | None = None
    balance: BalanceReport | None = None
    spot_balance: BalanceReport | None = None
    positions: tuple[PositionReport, ...] | None = None
    settings: AccountSettings | None = None
    symbols: tuple[SymbolSettings, ...] | None = None
    permissions: KeyPermissions | None = None
    clock_offset_ms: int | None = None
    failures: Mapping[str, Failure] = field(default_factory=dict)

    @property
    def is_postponed(self) -> bool:
        """Whether our own speed limit kept us from asking: nothing was learnt, for or against."""
        return any(failure.code in POSTPONED_CODES for failure in self.failures.values())


@dataclass(frozen=True, slots=True)
class Terms:
    """What the desk asks of the account."""

    markets: frozenset[Market]
    is_paper: bool
    wants_hedge_mode: bool = False
    are_unknown_permissions_accepted: bool = False
    known_account_id: str = ""
    twin: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Fit when `code` is empty; else why not, and whether the keys are to blame."""

    code: str = ""
    message: str = ""
    blames_keys: bool = False

    @property
    def is_fit(self) -> bool:
        """Whether the account may enter."""
        return not self.code


FIT = Verdict()


def permissions_of(told: KeyPermissions | None) -> Permissions:
    """The four states of a key; what the venue does not tell is UNKNOWN, never assumed harmless."""
    if told is None or told.can_withdraw is None:
        return Permissions.UNKNOWN
    if told.can_withdraw:
        return Permissions.UNSAFE
    return Permissions.SAFE if told.is_ip_restricted else Permissions.NO_IP_LIMIT


def judge(reading: Reading, terms: Terms) -> Verdict:
    """The first reason against entering, the gravest first; `FIT` when there is none."""
    for reason_against in REASONS:
        verdict = reason_against(reading, terms)
        if verdict is not None:
            return verdict
    return FIT


def _keys_refused(reading: Reading, _: Terms) -> Verdict | None:
    for name, failure in reading.failures.items():
        if name != PERMISSIONS_READ and failure.code in CREDENTIAL_CODES:
            return Verdict(
                failure.code, f"The exchange refuses the keys ({name}). {failure.message}", blames_keys=True
            )
    return None


def _can_withdraw(reading: Reading, _: Terms) -> Verdict | None:
    if permissions_of(reading.permissions) is Permissions.UNSAFE:
        return Verdict("KEY_CAN_WITHDRAW", "Take the withdrawal right from the key.")
    return None


def _unread(reading: Reading, _: Terms) -> Verdict | None:
    for name, failure in reading.failures.items():
        if name != PERMISSIONS_READ:
            return Verdict(failure.code, f"The {name} could not be read. {failure.message}".strip())
    return None


def _clock(reading: Reading, _: Terms) -> Verdict | None:
    offset_ms = reading.clock_offset_ms or 0
    if abs(offset_ms) > TOO_FAR_MS:
        return Verdict("CLOCK", f"The exchange's clock is {offset_ms} ms from ours.")
    return None


def _position_mode(reading: Reading, terms: Terms) -> Verdict | None:
    """An order made for one mode is refused in the other: entries wait until both agree."""
    if reading.settings is None or Market.FUTURES not in terms.markets:
        return None
    if reading.settings.is_hedge_mode == terms.wants_hedge_mode:
        return None
    if terms.wants_hedge_mode:
        return Verdict("ONE_WAY_MODE", "Set the position mode to hedge.")
    return Verdict("HEDGE_MODE", "Set the position mode to one-way.")


def _multi_assets(reading: Reading, _: Terms) -> Verdict | None:
    if reading.settings is not None and reading.settings.is_multi_assets:
        return Verdict("MULTI_ASSETS", "Switch the multi-assets mode off.")
    return None


def _portfolio_margin(reading: Reading, _: Terms) -> Verdict | None:
    """Its margin is one pool with options and borrowed coins: no balance read here says what is free."""
    if reading.permissions is not None and reading.permissions.has_portfolio_margin:
        return Verdict(
            "PORTFOLIO_MARGIN", "The key trades portfolio margin: leave it, or take the right away."
        )
    return None


def _may_not_trade(reading: Reading, terms: Terms) -> Verdict | None:
    told = reading.permissions
    if told is None:
        return None
    may = {Market.FUTURES: told.can_trade_futures, Market.SPOT: told.can_trade_spot}
    missing = sorted(market.value for market in terms.markets if may[market] is False)
    return Verdict("NO_TRADE_PERMISSION", f"The key may not trade {', '.join(missing)}.") if missing else None


def _permissions_unknown(reading: Reading, terms: Terms) -> Verdict | None:
    is_unknown = permissions_of(reading.permissions) is Permissions.UNKNOWN
    if is_unknown and not terms.is_paper and not terms.are_unknown_permissions_accepted:
        return Verdict(
            "PERMISSIONS_UNKNOWN", "The exchange does not tell what the key may do: accept it in the account."
        )
    return None


def _another_account(reading: Reading, terms: Terms) -> Verdict | None:
    told = reading.settings.exchange_account_id if reading.settings is not None else ""
    if told and terms.known_account_id and told != terms.known_account_id:
        return Verdict("OTHER_ACCOUNT", "The keys belong to another exchange account than before.")
    return None


def _twin(_: Reading, terms: Terms) -> Verdict | None:
    if terms.twin:
        return Verdict("SAME_ACCOUNT", f"This exchange account is already {terms.twin}.")
    return None


REASONS: tuple[Callable[[Reading, Terms], Verdict | None], ...] = (
    _keys_refused,
    _can_withdraw,
    _unread,
    _another_account,
    _twin,
    _clock,
    _position_mode,
    _multi_assets,
    _portfolio_margin,
    _may_not_trade,
    _permissions_unknown,
)
