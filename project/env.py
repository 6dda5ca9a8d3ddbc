"""What the desk is told from outside: the process environment over an optional `.env` file.

Every key read is remembered with every fault found, so that one message at the end can name all of them.
"""

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import TypeVar

from django.core.exceptions import ImproperlyConfigured

T = TypeVar("T")
Network = IPv4Network | IPv6Network

TRUE = frozenset({"1", "true", "yes", "on"})
FALSE = frozenset({"0", "false", "no", "off", ""})


class SettingsRefused(ImproperlyConfigured):
    """The desk must not start with these settings. The message names each fault on a line of its own."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("These settings are refused:\n" + "\n".join(f"  - {fault}" for fault in self.faults))


def read_env_file(path: Path) -> dict[str, str]:
    """The `KEY=value` lines of a file; empty when there is no file.

    Raises SettingsRefused for a line that is neither a pair, nor blank, nor a comment.
    """
    if not path.is_file():
        return {}
    pairs: dict[str, str] = {}
    faults = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        key, equals, value = text.removeprefix("export ").partition("=")
        if not equals or not key.strip().isidentifier():
            faults.append(f"{path.name} line {number} is not KEY=value")
            continue
        pairs[key.strip()] = _unquoted(value.strip())
    if faults:
        raise SettingsRefused(faults)
    return pairs


def read_networks(env: "Environment", key: str, default: str) -> tuple[Network, ...]:
    """Addresses and networks apart by commas; what is none is a fault."""
    found = []
    for word in env.env_str(key, default).split(","):
        try:
            found.append(ip_network(word.strip()))
        except ValueError:
            env.fault(f"{key} names {word.strip()!r}, which is no address")
    return tuple(found)


def machine_environment(process: Mapping[str, str]) -> dict[str, str]:
    """What a program needs of its machine and nothing of a desk; the path begins with this interpreter.

    For programs on a stage of their own: over the caller's `DATABASE_URL` a replay would trade into, and a
    benchmark would empty, the desk that the address names.
    """
    kept = {name: process[name] for name in ("HOME", "LANG", "LC_ALL", "TMPDIR") if name in process}
    path = os.pathsep.join([str(Path(sys.executable).parent), process.get("PATH", os.defpath)])
    return {**kept, "PATH": path, "PYTHONUNBUFFERED": "1"}


def _unquoted(value: str) -> str:
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    return value[1:-1] if quoted else value


class Environment:
    """Typed reading of settings. A fault is collected and the default returned; `refuse` raises them all."""

    def __init__(self, process: Mapping[str, str], file: Mapping[str, str]) -> None:
        self._file = dict(file)
        self._values = {**file, **process}
        self._known: set[str] = set()
        self.faults: list[str] = []

    def env_str(self, key: str, default: str = "") -> str:
        """Text; an empty value counts as not given."""
        self._known.add(key)
        return self._values.get(key, "") or default

    def env_int(self, key: str, default: int, *, low: int, high: int) -> int:
        """A whole number between `low` and `high`, both included."""
        value = self._parsed(key, default, int, "a whole number")
        return self._bounded(key, value, default, low, high)

    def env_decimal(self, key: str, default: Decimal, *, low: Decimal, high: Decimal) -> Decimal:
        """A finite decimal number between `low` and `high`, both included."""
        value = self._parsed(key, default, _finite, "a number")
        return self._bounded(key, value, default, low, high)

    def env_bool(self, key: str, *, default: bool) -> bool:
        """On or off, in the usual spellings."""
        return self._parsed(key, default, _switch, "on or off")

    def env_choice(self, key: str, default: str, choices: Iterable[str]) -> str:
        """One of `choices`."""
        allowed = tuple(choices)
        value = self.env_str(key, default)
        if value in allowed:
            return value
        self.fault(f"{key}={value!r} is none of {', '.join(allowed)}")
        return default

    def env_secret(self, key: str, default: str = "") -> str:
        """A secret, given as `KEY` or as the path of a file in `KEY_FILE`; never named in a fault."""
        direct = self.env_str(key)
        path = self.env_str(f"{key}_FILE")
        if direct and path:
            self.fault(f"{key} and {key}_FILE are both set: give one of them")
        if not path:
            return direct or default
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except OSError as error:
            self.fault(f"{key}_FILE cannot be read: {error.strerror}")
            return default

    def keys_starting(self, prefix: str) -> tuple[str, ...]:
        """Every key given with this prefix, sorted."""
        return tuple(sorted(key for key in self._values if key.startswith(prefix)))

    def known_keys(self) -> frozenset[str]:
        """Every key that was asked for."""
        return frozenset(self._known)

    def fault(self, message: str) -> None:
        """Remember one fault."""
        self.faults.append(message)

    def refuse(self, prefixes: Iterable[str] = ()) -> None:
        """Raise SettingsRefused when anything was wrong.

        A key of the `.env` file that nothing read is unknown, and so is a key of the process
        environment that starts with one of our own `prefixes`.
        """
        ours = tuple(prefixes)
        named = {key for key in self._values if ours and key.startswith(ours)}
        unknown = sorted((set(self._file) | named) - self._known)
        faults = [*self.faults, *(f"{key} is not a setting of the desk" for key in unknown)]
        if faults:
            raise SettingsRefused(faults)

    def _parsed(self, key: str, default: T, parse: Callable[[str], T], kind: str) -> T:
        text = self.env_str(key)
        if not text:
            return default
        try:
            return parse(text)
        except (ValueError, InvalidOperation):
            self.fault(f"{key}={text!r} is not {kind}")
            return default

    def _bounded(self, key: str, value: T, default: T, low: T, high: T) -> T:
        if low <= value <= high:  # type: ignore[operator]  # int or Decimal, both ordered
            return value
        self.fault(f"{key}={value} is outside {low} to {high}")
        return default


def _finite(text: str) -> Decimal:
    number = Decimal(text)
    if not number.is_finite():
        raise ValueError(text)
    return number


def _switch(text: str) -> bool:
    lowered = text.lower()
    if lowered in TRUE:
        return True
    if lowered in FALSE:
        return False
    raise ValueError(text)
