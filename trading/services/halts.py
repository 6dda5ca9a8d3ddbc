"""Halts as they stand now. Read from the database at every use: a cached halt is an order too many.

One raised after the reader's work began counts too, so the reader's `now` bounds nothing.
"""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q

from accounts.models import Account, AccountGroup
from accounts.services.entrants import Trader
from accounts.services.fixed_queries import FixedQuery
from exchange.errors import ReadFailed
from exchange.port import Market
from trading.domain.states import HaltLevel
from trading.models import Halt, Order
from trading.models.operations import HaltScope
from trading.services import market

LEVELS = (HaltLevel.HALT_ENTRIES, HaltLevel.CANCEL_ORDERS, HaltLevel.FLATTEN)


class ScopeUnknown(ValueError):
    """The words name no part of this desk."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What a halt covers: a scope, its name in the rows, and for a symbol every market symbol of its coin."""

    scope: HaltScope
    target: str = ""
    symbols: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HaltBoard:
    """Every standing halt at one moment. Each level includes the ones before: any of them stops entries."""

    halts: tuple[Halt, ...]

    def level_for(self, account: Account, symbol: str) -> HaltLevel | None:
        """The hardest level that covers this account and symbol, or None."""
        covering = [HaltLevel(halt.level) for halt in self.halts if covers(halt, account, symbol)]
        return max(covering, key=LEVELS.index, default=None)

    def blocks_entry(self, account: Account, symbol: str) -> bool:
        """Whether nothing new may be opened here."""
        return any(covers(halt, account, symbol) for halt in self.halts)

    @property
    def whole_accounts(self) -> Q:
        """The accounts on which no coin may be entered: by their own, their group's or their venue's halt."""
        return (
            Q(name__in=self._targets(HaltScope.ACCOUNT))
            | Q(group__name__in=self._targets(HaltScope.GROUP))
            | Q(exchange__in=self._targets(HaltScope.VENUE))
        )

    @property
    def symbols(self) -> frozenset[str]:
        """The market symbols that no account may enter."""
        of_coins = [halt for halt in self.halts if halt.scope == HaltScope.SYMBOL]
        return frozenset(one for halt in of_coins for one in (halt.target, *halt.result.get("symbols", ())))

    def _targets(self, scope: HaltScope) -> list[str]:
        return [halt.target for halt in self.halts if halt.scope == scope]

    @property
    def desk_level(self) -> HaltLevel | None:
        """The hardest level over the whole desk."""
        levels = [HaltLevel(halt.level) for halt in self.halts if halt.scope == HaltScope.DESK]
        return max(levels, key=LEVELS.index, default=None)


NONE = HaltBoard(())
"""For whoever sends only what no halt stops."""


_STANDING = FixedQuery(lambda: Halt.objects.filter(resumed_at__isnull=True).order_by("raised_at"))


def standing(_now: datetime) -> HaltBoard:
    """Read the halts that have not been resumed."""
    return HaltBoard(tuple(_STANDING.ask()))


def covers(halt: Halt, account: Trader, symbol: str) -> bool:
    """Whether a halt reaches this account and symbol."""
    if halt.scope == HaltScope.GROUP:
        return account.group_name == halt.target
    if halt.scope == HaltScope.ACCOUNT:
        return account.name == halt.target
    if halt.scope == HaltScope.VENUE:
        return account.exchange == halt.target
    if halt.scope == HaltScope.SYMBOL:
        return symbol == halt.target or symbol in halt.result.get("symbols", ())
    return True


def follow_rename(scope: HaltScope, before: str, after: str) -> None:
    """Let the standing halts of an account or a group go by its new name: they cover it as before."""
    Halt.objects.filter(scope=scope, target=before, resumed_at__isnull=True).update(target=after)


def read_reach(text: str) -> Reach:
    """Read ``desk``, ``group:``, ``account:`` or ``venue:<name>``, ``symbol:<symbol>``, or `ScopeUnknown`."""
    scope, _, target = text.strip().partition(":")
    if scope == HaltScope.DESK and not target:
        return Reach(HaltScope.DESK)
    if scope == HaltScope.ACCOUNT and Account.objects.filter(name=target).exists():
        return Reach(HaltScope.ACCOUNT, target)
    if scope == HaltScope.GROUP and AccountGroup.objects.filter(name=target).exists():
        return Reach(HaltScope.GROUP, target)
    if scope == HaltScope.VENUE and Account.objects.filter(exchange=target).exists():
        return Reach(HaltScope.VENUE, target)
    if scope == HaltScope.SYMBOL and target:
        return _read_symbol(target)
    message = (
        f"no such scope here: {text!r} (desk, group:<name>, account:<name>, symbol:<symbol> or venue:<name>)"
    )
    raise ScopeUnknown(message)


def _read_symbol(target: str) -> Reach:
    """Every market symbol of the coin that `target` names, in any spelling of a signal or by the coin alone.

    Where the tables cannot be read, by our own rows: a halt must not wait for an exchange that is silent.
    """
    try:
        instruments = [one for kind in Market for one in market.instruments(kind).values()]
        symbol = market.listed_symbol(target)
    except ReadFailed:
        return _read_symbol_of_rows(target)
    named = [one for one in instruments if symbol == one.symbol or target.upper() == one.base]
    if not named:
        message = f"no market here trades {target!r}"
        raise ScopeUnknown(message)
    coin = (named[0].base, named[0].quote)
    symbols = tuple(one.symbol for one in instruments if (one.base, one.quote) == coin)
    return Reach(HaltScope.SYMBOL, symbols[0], symbols)


def _read_symbol_of_rows(target: str) -> Reach:
    """As `_read_symbol`, of the symbols we ever ordered; others have nothing of ours to stop."""
    known = set(Order.objects.order_by().values_list("symbol", "base").distinct())
    coins = {base for symbol, base in known if target in {symbol, base, _joined(symbol)}}
    symbols = sorted((symbol for symbol, base in known if base in coins), key=len, reverse=True)
    if len(coins) != 1:
        message = f"the market tables cannot be read now, and no order of ours names {target!r}"
        raise ScopeUnknown(message)
    return Reach(HaltScope.SYMBOL, symbols[0], tuple(symbols))


def _joined(symbol: str) -> str:
    """The exchange's spelling of a unified symbol of ours: base and quote without what stands between."""
    return symbol.partition(":")[0].replace("/", "")
