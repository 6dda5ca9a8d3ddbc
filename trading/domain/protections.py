"""Protections: small vetoes on new entries, each over a stated scope, after what closed trades have taught.

A veto is a value with its end and its reason; nothing is counted or stored. Which are in force, over whom and
with which numbers is the setting `PROTECTIONS`; none is by default. Exits never meet one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import ClassVar, Protocol

from trading.domain.percent import ZERO, from_percent


class Scope(StrEnum):
    """Over whose closed trades a protection looks, and whom it holds back: the same accounts."""

    ACCOUNT = "account"
    GROUP = "group"
    DESK = "desk"


@dataclass(frozen=True, slots=True)
class ClosedTrade:
    """A position that ended. `net` is after fees and funding, `notional` what was entered, in quote units.

    Those of one decision are one trade wherever trades are counted; None was opened by none of ours.
    """

    account: int
    decision: int | None
    symbol: str
    closed_at: datetime
    net: Decimal
    notional: Decimal
    is_stop_out: bool = False

    @property
    def counted_as(self) -> tuple[str, int]:
        """What it is counted by: its decision, or itself alone."""
        return ("account", self.account) if self.decision is None else ("decision", self.decision)


@dataclass(frozen=True, slots=True)
class Past:
    """The closed trades of a scope, the oldest first, and the equity its accounts have now (quote units)."""

    trades: Sequence[ClosedTrade]
    equity: Decimal


@dataclass(frozen=True, slots=True)
class Veto:
    """No entry before `until`, and why."""

    until: datetime
    reason: str


class Protection(Protocol):
    """One rule of caution."""

    name: ClassVar[str]

    @property
    def scope(self) -> Scope:
        """Whose trades, and who is held back."""
        ...

    @property
    def looks_back(self) -> timedelta:
        """How old a trade it still asks about."""
        ...

    def veto(self, past: Past, symbol: str, now: datetime) -> Veto | None:
        """Whether an entry of this symbol is held back; None when it is not."""
        ...


@dataclass(frozen=True, slots=True)
class CooldownAfterLoss:
    """After a trade that lost, no entry for `minutes`: the next idea is not a way to win it back."""

    name: ClassVar[str] = "cooldown_after_loss"
    scope: Scope
    minutes: int = 15

    @property
    def looks_back(self) -> timedelta:
        """As long as it lasts."""
        return timedelta(minutes=self.minutes)

    def veto(self, past: Past, symbol: str, now: datetime) -> Veto | None:  # noqa: ARG002 - the protocol's
        """From the last loss on."""
        losses = [one.closed_at for one in past.trades if one.net < ZERO]
        if not losses or (until := max(losses) + self.looks_back) <= now:
            return None
        return Veto(until, "a trade has just lost")


@dataclass(frozen=True, slots=True)
class StopOutGuard:
    """After `stop_outs` stopped-out decisions within `minutes`, no entry for `pause_minutes`."""

    name: ClassVar[str] = "stop_out_guard"
    scope: Scope
    stop_outs: int = 3
    minutes: int = 60
    pause_minutes: int = 60

    @property
    def looks_back(self) -> timedelta:
        """The pause may follow a window that has just closed."""
        return timedelta(minutes=self.minutes + self.pause_minutes)

    def veto(self, past: Past, symbol: str, now: datetime) -> Veto | None:  # noqa: ARG002 - the protocol's
        """From the stop-out on that was one too many."""
        first: dict[tuple[str, int], datetime] = {}
        for trade in past.trades:
            if trade.is_stop_out:
                first.setdefault(trade.counted_as, trade.closed_at)
        ends = sorted(first.values())
        full = [
            last
            for early, last in zip(ends, ends[self.stop_outs - 1 :], strict=False)
            if last - early <= timedelta(minutes=self.minutes)
        ]
        if not full or (until := full[-1] + timedelta(minutes=self.pause_minutes)) <= now:
            return None
        return Veto(until, f"{self.stop_outs} decisions stopped out within {self.minutes} min")


@dataclass(frozen=True, slots=True)
class LowPerformingSymbol:
    """No entry of a symbol whose trades of the last `hours`, at least `trades`, made less than `least`.

    `least` is their net profit by their notional, a fraction (written in percent); the veto ends as trades
    grow too old to count.
    """

    name: ClassVar[str] = "low_performing_symbol"
    scope: Scope
    trades: int = 4
    hours: int = 24
    least: Decimal = ZERO

    @property
    def looks_back(self) -> timedelta:
        """As long as it remembers."""
        return timedelta(hours=self.hours)

    def veto(self, past: Past, symbol: str, now: datetime) -> Veto | None:
        """Of this symbol alone."""
        since = now - self.looks_back
        mine = [one for one in past.trades if one.symbol == symbol and one.closed_at > since]
        notional = sum((one.notional for one in mine), ZERO)
        trades = {one.counted_as for one in mine}
        if len(trades) < self.trades or notional <= ZERO:
            return None
        made = sum((one.net for one in mine), ZERO) / notional
        if made >= self.least:
            return None
        until = min(one.closed_at for one in mine) + self.looks_back
        return Veto(until, f"{symbol} has made {made:.2%} in {len(trades)} trades")


@dataclass(frozen=True, slots=True)
class MaximumDrawdown:
    """No entry for `pause_minutes` after the trades of the last `hours` fell by `most` from their peak.

    `most` is a fraction (written in percent) of the equity the scope had at that peak.
    """

    name: ClassVar[str] = "maximum_drawdown"
    scope: Scope
    most: Decimal = Decimal("0.10")
    hours: int = 24
    pause_minutes: int = 60

    @property
    def looks_back(self) -> timedelta:
        """Its window, and the pause after it."""
        return timedelta(hours=self.hours, minutes=self.pause_minutes)

    def veto(self, past: Past, symbol: str, now: datetime) -> Veto | None:  # noqa: ARG002 - the protocol's
        """From the last trade on that was down by as much."""
        down = [at for at, fall in self._falls(past, now - self.looks_back) if fall >= self.most]
        if not down or (until := max(down) + timedelta(minutes=self.pause_minutes)) <= now:
            return None
        return Veto(until, f"trades have fallen by {self.most:.2%} or more from their peak")

    @staticmethod
    def _falls(past: Past, since: datetime) -> list[tuple[datetime, Decimal]]:
        """After each trade since then the fall from the highest equity before it, of closed trades alone."""
        trades = [one for one in past.trades if one.closed_at > since]
        equity = past.equity - sum((one.net for one in trades), ZERO)
        peak, falls = equity, []
        for trade in trades:
            equity += trade.net
            peak = max(peak, equity)
            falls.append((trade.closed_at, (peak - equity) / peak if peak > ZERO else ZERO))
        return falls


KINDS: Mapping[str, Callable[..., Protection]] = {
    kind.name: kind for kind in (CooldownAfterLoss, StopOutGuard, LowPerformingSymbol, MaximumDrawdown)
}
BOUNDS: Mapping[str, tuple[Decimal, Decimal]] = {
    "minutes": (Decimal(1), Decimal(10_080)),
    "pause_minutes": (Decimal(1), Decimal(10_080)),
    "hours": (Decimal(1), Decimal(720)),
    "stop_outs": (Decimal(1), Decimal(100)),
    "trades": (Decimal(1), Decimal(1_000)),
    "least": (Decimal(-100), Decimal(100)),
    "most": (Decimal(1), Decimal(90)),
}
"""Of each number as it is written: percent where it is one."""
PERCENTAGES = frozenset({"least", "most"})


def read_protection(written: str) -> Protection:
    """``stop_out_guard:group:stop_outs=4:minutes=30``: a kind, its scope, and the numbers that are not usual.

    Raises ValueError naming what cannot be read.
    """
    name, _, rest = written.strip().partition(":")
    scope, *numbers = rest.split(":") if rest else [""]
    if name not in KINDS:
        raise ValueError(f"{name!r} is none of {', '.join(sorted(KINDS))}")
    if scope not in set(Scope):
        raise ValueError(f"{name}: {scope!r} is none of {', '.join(Scope)}")
    return KINDS[name](Scope(scope), **dict(_number(name, one) for one in numbers))


def _number(name: str, written: str) -> tuple[str, int | Decimal]:
    key, _, text = written.partition("=")
    known = {one.name for one in fields(KINDS[name])} - {"scope"}  # type: ignore[arg-type]  # each is a dataclass
    if key not in known:
        raise ValueError(f"{name}: {key!r} is none of {', '.join(sorted(known))}")
    try:
        value = Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"{name}: {key}={text!r} is no number") from error
    low, high = BOUNDS[key]
    if not value.is_finite() or not low <= value <= high:
        raise ValueError(f"{name}: {key}={text} is outside {low} to {high}")
    if key in PERCENTAGES:
        return key, from_percent(value)
    if value != value.to_integral_value():
        raise ValueError(f"{name}: {key}={text} is no whole number")
    return key, int(value)
