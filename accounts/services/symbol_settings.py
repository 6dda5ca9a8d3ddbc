"""Leverage and margin mode of an account's symbols: asked for, read back, and the read-back decides."""

from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from accounts.models import Account, SymbolSetting
from accounts.services.gateways import gateway_for
from exchange.budget import Priority, priority
from exchange.errors import GatewayError, Throttled, VenueUnavailable
from exchange.loop import IoLoop
from exchange.port import ExchangeGateway, Market, SymbolSettings

SETTLE_SECONDS = 30.0
WRITTEN_FOR = timedelta(hours=12)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """What an account asks of each of its symbols."""

    leverage: int
    is_isolated: bool

    @classmethod
    def of(cls, account: Account) -> "Asked":
        """As the account's row says."""
        return cls(account.leverage, account.wants_isolated_margin)

    def is_met_by(self, found: SymbolSettings | None) -> bool:
        """Whether what was read back is what was asked for."""
        return found is not None and (found.leverage, found.is_isolated) == (self.leverage, self.is_isolated)

    def margin_mode_of(self, gateway: ExchangeGateway, symbol: str) -> Awaitable[None]:
        """The request for the margin mode."""
        return gateway.set_isolated_margin(symbol) if self.is_isolated else gateway.set_cross_margin(symbol)


def ensure_symbol_settings(
    account: Account, symbols: Iterable[str], now: datetime
) -> dict[str, SymbolSettings]:
    """Bring perpetual symbols to the account's margin mode and leverage; store and return the read-back.

    A refused change is no error here (the read-back shows what is), a failed read is: `GatewayError`, and
    nothing is stored. A symbol the exchange does not tell of is left out.
    """
    gateway = gateway_for(account, Market.FUTURES)
    settling = _settle(gateway, Asked.of(account), tuple(symbols), Priority.ENTRY, {})
    read = IoLoop.current().run(settling, SETTLE_SECONDS)
    _store(account, read.values(), now)
    return read


def ensure_symbol_settings_of(
    accounts: Iterable[Account],
    symbols: Iterable[str],
    now: datetime,
    urgency: Priority = Priority.ENTRY,
) -> dict[int, dict[str, SymbolSettings]]:
    """As `ensure_symbol_settings` for many accounts at once, by id; one whose read failed is left out.

    What verification read lately is not read again before it is changed, only after.
    """
    chosen, wanted = list(accounts), tuple(symbols)
    known = _known(chosen, wanted, now)
    settled = [_settle_one(account, wanted, urgency, known[account.pk]) for account in chosen]
    answers = IoLoop.current().run_all(settled, SETTLE_SECONDS)
    found: dict[int, dict[str, SymbolSettings]] = {}
    for account, answer in zip(chosen, answers, strict=True):
        if isinstance(answer, BaseException):
            log.warning("symbol settings not read", account=account.name, error=type(answer).__name__)
            continue
        _store(account, answer.values(), now)
        found[account.pk] = answer
    return found


def _known(
    accounts: Sequence[Account], symbols: Sequence[str], now: datetime
) -> dict[int, dict[str, SymbolSettings]]:
    """What the rows say of these symbols, by account."""
    rows = SymbolSetting.objects.filter(
        account__in=[account.pk for account in accounts], symbol__in=symbols, read_at__gt=now - WRITTEN_FOR
    )
    known: dict[int, dict[str, SymbolSettings]] = {account.pk: {} for account in accounts}
    for row in rows:
        known[row.account_id][row.symbol] = SymbolSettings(row.symbol, row.leverage, row.is_isolated)
    return known


async def _settle_one(
    account: Account, symbols: Sequence[str], urgency: Priority, known: Mapping[str, SymbolSettings]
) -> dict[str, SymbolSettings]:
    return await _settle(gateway_for(account, Market.FUTURES), Asked.of(account), symbols, urgency, known)


async def _settle(
    gateway: ExchangeGateway,
    asked: Asked,
    symbols: Sequence[str],
    urgency: Priority,
    known: Mapping[str, SymbolSettings],
) -> dict[str, SymbolSettings]:
    with priority(urgency):
        before = known if _is_wrong_throughout(known, symbols, asked) else await _read(gateway, symbols)
        wrong = [symbol for symbol in symbols if not asked.is_met_by(before.get(symbol))]
        for symbol in wrong:
            found = before.get(symbol)
            if found is None or found.is_isolated != asked.is_isolated:
                await _asked(asked.margin_mode_of(gateway, symbol), symbol)
            if found is None or found.leverage != asked.leverage:
                await _asked(gateway.set_leverage(symbol, asked.leverage), symbol)
        return await _read(gateway, symbols) if wrong else dict(before)


def _is_wrong_throughout(known: Mapping[str, SymbolSettings], symbols: Sequence[str], asked: Asked) -> bool:
    """Whether each symbol is known, and known not to be as asked: then only the read-back is wanted."""
    return all(symbol in known and not asked.is_met_by(known[symbol]) for symbol in symbols)


async def _read(gateway: ExchangeGateway, symbols: Sequence[str]) -> dict[str, SymbolSettings]:
    return {found.symbol: found for found in await gateway.fetch_symbol_settings() if found.symbol in symbols}


async def _asked(change: Awaitable[None], symbol: str) -> None:
    """Ask for a change. Whatever is answered, "already so" and refusals alike, the read-back decides.

    Raises `Throttled` and `VenueUnavailable`: the next changes would be refused like this one.
    """
    try:
        await change
    except (Throttled, VenueUnavailable):
        raise
    except GatewayError as error:
        log.warning("symbol setting refused", symbol=symbol, code=error.code)


def store_all(account: Account, told: Iterable[SymbolSettings], now: datetime) -> None:
    """Keep a bulk reading: what is new or otherwise than known, and what was last written half a day ago."""
    known = {
        symbol: (leverage, is_isolated)
        for symbol, leverage, is_isolated in SymbolSetting.objects.filter(
            account=account, read_at__gt=now - WRITTEN_FOR
        ).values_list("symbol", "leverage", "is_isolated")
    }
    _store(account, [one for one in told if known.get(one.symbol) != (one.leverage, one.is_isolated)], now)


def _store(account: Account, read: Iterable[SymbolSettings], now: datetime) -> None:
    SymbolSetting.objects.bulk_create(
        [
            SymbolSetting(
                account=account,
                symbol=found.symbol,
                leverage=found.leverage,
                is_isolated=found.is_isolated,
                read_at=now,
            )
            for found in read
        ],
        update_conflicts=True,
        unique_fields=["account", "symbol"],
        update_fields=["leverage", "is_isolated", "read_at"],
    )
