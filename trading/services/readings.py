"""What people and programs read of positions: one calculation for API, admin and pages.

Ratios are shown in percent here, each with its unit in its name; the domain keeps fractions.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db.models import Count, F, Sum

from accounts.models import Account
from exchange.port import Market, MarkPrice
from trading.domain import percent
from trading.domain.states import PositionStatus
from trading.models import Position

ZERO = Decimal(0)
SHOWN_PERCENT = Decimal("0.001")
SHOWN_MONEY = Decimal("0.00000001")


@dataclass(frozen=True, slots=True)
class PositionReading:
    """One position against a price: the mark while it is open, its average exit once closed.

    Figures that cannot be computed are None: no mark, no equity, no stop.
    """

    position: Position
    price: Decimal | None
    priced_at: datetime | None
    price_move_pct: Decimal | None
    roe_pct: Decimal | None
    equity_pct: Decimal | None
    distance_to_stop_pct: Decimal | None
    unrealized_profit: Decimal | None
    unprotected_seconds: Decimal

    @property
    def side(self) -> str:
        """LONG or SHORT."""
        return "LONG" if self.position.is_long else "SHORT"

    @property
    def notional(self) -> Decimal:
        """Quote units at the price shown, or at the entry when there is none."""
        return self.position.quantity * (self.price or self.position.entry_price)

    @property
    def net_profit(self) -> Decimal:
        """Realised less fees plus funding, in quote units."""
        return self.position.realized_profit - self.position.fees + self.position.funding

    @property
    def is_stop_crossed(self) -> bool:
        """Whether the mark is at or through the stop of an open position."""
        return self.distance_to_stop_pct is not None and self.distance_to_stop_pct <= 0


@dataclass(frozen=True, slots=True)
class OpenProfit:
    """Unrealised profit in quote units at the marks; `unpriced` positions have none and are left out."""

    profit: Decimal
    unpriced: int


def read_position(position: Position, mark: MarkPrice | None, now: datetime) -> PositionReading:
    """Read a position (its account loaded) against the mark; a closed one against its own average exit."""
    is_open = position.status == PositionStatus.OPEN
    shown = _price_shown(position, mark)
    profit = _profit(position, shown) if is_open else ZERO
    earned = profit if is_open else position.realized_profit
    return PositionReading(
        position=position,
        price=shown,
        priced_at=mark.at if mark and is_open else position.closed_at,
        price_move_pct=_price_move_pct(position, shown),
        roe_pct=_roe_pct(position, shown),
        equity_pct=_equity_pct(position, earned),
        distance_to_stop_pct=_distance_to_stop_pct(position, shown) if is_open else None,
        unrealized_profit=None if profit is None else profit.quantize(SHOWN_MONEY),
        unprotected_seconds=_unprotected_seconds(position, now),
    )


def read_positions(
    positions: Iterable[Position], marks: Mapping[str, MarkPrice], now: datetime
) -> list[PositionReading]:
    """Read positions against the marks of their symbols."""
    return [read_position(position, marks.get(position.symbol), now) for position in positions]


def read_open_profit(marks: Mapping[str, MarkPrice]) -> OpenProfit:
    """The unrealised profit of all open positions of ours, summed by the database per symbol and side."""
    opened = Position.objects.filter(status=PositionStatus.OPEN, is_foreign=False).order_by()
    books = opened.values_list("symbol", "is_long").annotate(
        n=Count("pk"), held=Sum("quantity"), cost=Sum(F("quantity") * F("entry_price"))
    )
    total, unpriced = ZERO, 0
    for symbol, is_long, n, held, cost in books:
        if (mark := marks.get(symbol)) is None:
            unpriced += n
        else:
            total += (mark.mark_price * held - cost) * percent.sign(is_long=is_long)
    return OpenProfit(total.quantize(SHOWN_MONEY), unpriced)


def equity_of(account: Account, market: str = Market.FUTURES) -> Decimal | None:
    """The account's equity in one market as it was last read; None before the first reading."""
    if market == Market.SPOT:
        return account.spot_wallet
    if account.wallet_balance is None:
        return None
    return percent.equity(wallet=account.wallet_balance, unrealized=account.unrealized_profit or ZERO)


def _price_shown(position: Position, mark: MarkPrice | None) -> Decimal | None:
    if position.status == PositionStatus.CLOSED:
        return position.exit_price
    return mark.mark_price if mark else None


def _profit(position: Position, price: Decimal | None) -> Decimal | None:
    if price is None:
        return None
    return percent.profit(
        is_long=position.is_long, quantity=position.quantity, entry_price=position.entry_price, price=price
    )


def _price_move_pct(position: Position, price: Decimal | None) -> Decimal | None:
    if price is None or not position.entry_price:
        return None
    move = percent.price_move(is_long=position.is_long, entry_price=position.entry_price, price=price)
    return _shown(move)


def _roe_pct(position: Position, price: Decimal | None) -> Decimal | None:
    if price is None or not position.entry_price:
        return None
    move = percent.price_move(is_long=position.is_long, entry_price=position.entry_price, price=price)
    return _shown(percent.roe(move, Decimal(position.leverage)))


def _equity_pct(position: Position, profit: Decimal | None) -> Decimal | None:
    equity = equity_of(position.account, position.market)
    if profit is None or equity is None:
        return None
    ratio = percent.equity_ratio(profit, equity)
    return None if ratio is None else _shown(ratio)


def _distance_to_stop_pct(position: Position, price: Decimal | None) -> Decimal | None:
    if price is None or position.stop_price is None:
        return None
    return _shown(
        percent.distance_to_stop(is_long=position.is_long, mark_price=price, stop_price=position.stop_price)
    )


def _shown(fraction: Decimal) -> Decimal:
    return percent.to_percent(fraction).quantize(SHOWN_PERCENT)


def _unprotected_seconds(position: Position, now: datetime) -> Decimal:
    if position.unprotected_since is None or position.status != PositionStatus.OPEN:
        return position.unprotected_seconds
    running = max(0.0, (now - position.unprotected_since).total_seconds())
    return position.unprotected_seconds + Decimal(f"{running:.3f}")
