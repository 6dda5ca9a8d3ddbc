"""Accounts of the environment: `TRADING_ACCOUNT_<n>_<FIELD>`. Their keys live here only, never in a row."""

import re
from dataclasses import dataclass, field
from decimal import Decimal

from project.env import Environment

PREFIX = "TRADING_ACCOUNT_"
NUMBERED = re.compile(rf"{PREFIX}(\d+)_[A-Z]")
MODES = ("paper", "testnet", "live")
HIGHEST_LEVERAGE = Decimal(125)
EXPERIMENTAL = ("bybit", "okx")


@dataclass(frozen=True, slots=True)
class EnvironmentAccount:
    """One account of the environment. `number` is its `<n>`; secrets are empty in the web process."""

    number: int
    name: str
    exchange: str
    mode: str
    group: str
    leverage: Decimal
    api_key: str = field(repr=False)
    api_secret: str = field(repr=False)
    passphrase: str = field(repr=False)

    @property
    def secrets(self) -> tuple[str, str, str]:
        """What no log may show."""
        return self.api_key, self.api_secret, self.passphrase


def read_accounts(env: Environment, mode: str, *, with_secrets: bool) -> tuple[EnvironmentAccount, ...]:
    """Every account the environment names, in the order of its numbers; faults are left with `env`."""
    numbers = {int(found[1]) for key in env.keys_starting(PREFIX) if (found := NUMBERED.match(key))}
    accounts = tuple(
        _read_account(env, number, mode, with_secrets=with_secrets) for number in sorted(numbers)
    )
    names = [account.name for account in accounts]
    for name in sorted({name for name in names if names.count(name) > 1}):
        env.fault(f"two {PREFIX}<n>_NAME are {name!r}")
    return accounts


def read_experimental_venues(env: Environment) -> frozenset[str]:
    """The exchanges that are named, apart by commas; what is no experimental one is a fault."""
    words = {word.strip() for word in env.env_str("EXPERIMENTAL_VENUES").split(",") if word.strip()}
    for word in sorted(words - set(EXPERIMENTAL)):
        env.fault(f"EXPERIMENTAL_VENUES names {word}, which is none of {', '.join(EXPERIMENTAL)}")
    return frozenset(words & set(EXPERIMENTAL))


def _read_account(env: Environment, number: int, mode: str, *, with_secrets: bool) -> EnvironmentAccount:
    prefix = f"{PREFIX}{number}_"
    api_key, api_secret = env.env_secret(f"{prefix}API_KEY"), env.env_secret(f"{prefix}API_SECRET")
    passphrase = env.env_secret(f"{prefix}PASSPHRASE")
    for name, value in (("API_KEY", api_key), ("API_SECRET", api_secret)):
        if not value:
            env.fault(f"{prefix}{name} is missing")
    return EnvironmentAccount(
        number=number,
        name=env.env_str(f"{prefix}NAME", f"environment-{number}"),
        exchange=env.env_str(f"{prefix}EXCHANGE", "binance"),
        mode=env.env_choice(f"{prefix}MODE", mode, MODES),
        group=env.env_str(f"{prefix}GROUP"),
        leverage=env.env_decimal(f"{prefix}LEVERAGE", Decimal(3), low=Decimal(1), high=HIGHEST_LEVERAGE),
        api_key=api_key if with_secrets else "",
        api_secret=api_secret if with_secrets else "",
        passphrase=passphrase if with_secrets else "",
    )
