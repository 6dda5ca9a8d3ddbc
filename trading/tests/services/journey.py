"""Accounts and signals around the real marks of the paper exchange, for tests of services."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

from accounts.models import Account, Health, SymbolSetting
from accounts.services import gateways
from accounts.services.registry import create_account
from exchange.port import Market
from trading.domain.states import DenyCode
from trading.models import Position, Signal
from trading.services import market
from trading.services.signals import SignalDraft, intake

BTC, ETH, SOL = "BTC/USDT:USDT", "ETH/USDT:USDT", "SOL/USDT:USDT"

WALLET = Decimal(10_000)

WEATHER = frozenset(
    {
        DenyCode.CORRELATED,
        DenyCode.VOLATILITY,
        DenyCode.TREND_AGAINST,
        DenyCode.FUNDING,
        DenyCode.SPREAD,
        DenyCode.REWARD_RISK,
    }
)
"""Gate rules about how the synthetic market happens to be while a test runs."""


def now() -> datetime:
    return datetime.now(UTC)


def fit_accounts(
    count: int, *symbols: str, executors: tuple[Market, ...] = (Market.FUTURES, Market.SPOT)
) -> list[Account]:
    """Accounts nobody else uses, their rows as a verification leaves them: 10,000 in each wallet."""
    names = [f"t-{uuid4().hex[:12]}" for _ in range(count)]
    accounts = [create_account(name, name, name, executors=executors) for name in names]
    for account in accounts:
        set_columns(account, **_verified(executors))
        if Market.FUTURES in executors:
            read_back(account, *(symbols or (BTC,)))
    _read_brackets()
    return accounts


def _read_brackets() -> None:
    """Have the market table read with these accounts' keys, were it read before there was any account."""
    if not market.instruments(Market.FUTURES)[BTC].brackets:
        gateways.gateways()._readers.clear()
        market._listing.cache_clear()


def _verified(executors: tuple[Market, ...]) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "health": Health.HEALTHY,
        "verified_at": now(),
        "fresh_at": now(),
        "balances_at": now(),
        "day_started_at": now(),
        "day_baseline_equity": WALLET,
    }
    if Market.FUTURES in executors:
        columns |= {"wallet_balance": WALLET, "unrealized_profit": 0, "available_balance": WALLET}
    if Market.SPOT in executors:
        columns |= {"spot_wallet": WALLET, "spot_available": WALLET}
    return columns


def read_back(account: Account, *symbols: str) -> None:
    """The symbols' settings as asked: isolated at the account's leverage."""
    for symbol in symbols:
        SymbolSetting.objects.update_or_create(
            account=account,
            symbol=symbol,
            defaults={"leverage": account.leverage, "is_isolated": True, "read_at": now()},
        )


def set_wallet(account: Account, wallet: str) -> None:
    """A futures wallet of this since the day began, all of it free."""
    money = Decimal(wallet)
    set_columns(account, wallet_balance=money, available_balance=money, day_baseline_equity=money)


def set_columns(account: Account, **columns: Any) -> None:
    """Change the row as if the exchange had been read so."""
    Account.objects.filter(pk=account.pk).update(**columns)
    account.refresh_from_db()


def mark_of(symbol: str) -> Decimal:
    """The mark now."""
    return market.marks([symbol], now())[symbol].mark_price


def a_signal(symbol: str = BTC, side: str = "LONG", **changes: Any) -> Signal:
    """A signal at the mark, its stop 1 % away and its target 3 %."""
    mark = mark_of(symbol)
    way = 1 if side == "LONG" else -1
    told: dict[str, Any] = {
        "external_id": uuid4().hex,
        "symbol": symbol,
        "side": side,
        "score": "0.8",
        "entry_price": f"{mark:.8f}",
        "stop_price": f"{mark * (1 - way * Decimal('0.01')):.8f}",
        "take_profit_price": f"{mark * (1 + way * Decimal('0.03')):.8f}",
    }
    signal, _ = intake("test source", SignalDraft(**{**told, **changes}), now())
    return signal


def a_position(account: Account, symbol: str, *, is_long: bool = True, quantity: str = "0.01") -> Position:
    """An open futures position at the mark with a stop 1 % away."""
    mark = mark_of(symbol)
    return Position.objects.create(
        account=account,
        market=Market.FUTURES,
        symbol=symbol,
        base=symbol.partition("/")[0],
        is_long=is_long,
        leverage=account.leverage,
        quantity=Decimal(quantity),
        initial_quantity=Decimal(quantity),
        entry_price=mark,
        stop_price=mark * (Decimal("0.99") if is_long else Decimal("1.01")),
        opened_at=now(),
    )
