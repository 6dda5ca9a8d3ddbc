"""What accounts hold, owe and have at stake, loaded for many accounts in a handful of queries.

Money in quote units. A wallet is one market's money; risk and counts are the whole account's. Rows are read
as the columns that are used: objects of them would be most of what a decision over a thousand accounts costs.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from django.db.models import DateTimeField, QuerySet, Sum
from django.db.models.functions import Least

from accounts.models import Account
from accounts.services.entrants import Trader
from accounts.services.fixed_queries import AmongGiven, FixedQuery, Given
from exchange.clock import TOO_FAR_MS
from exchange.port import Market, OrderSide
from trading.domain.gate import Stake
from trading.domain.limits import Limits
from trading.domain.percent import ZERO, profit
from trading.domain.sizing import loss_at_stop
from trading.domain.states import OPEN, OrderPurpose, OrderStatus, PositionStatus
from trading.domain.values import value
from trading.models import Fill, ForeignOrder, Income, Order, Position
from trading.services import routes
from trading.services.market import TAKER_FEES
from trading.services.money_flow import READ_ASSET, TRANSFERS
from trading.services.routes import Way


class _PositionRow(NamedTuple):
    """The columns of a position that say what it is worth and what it may lose."""

    account_id: int
    market: str
    symbol: str
    base: str
    is_long: bool
    quantity: Decimal
    entry_price: Decimal
    leverage: int
    stop_price: Decimal | None
    realized_profit: Decimal
    fees: Decimal
    opened_at: datetime
    closed_at: datetime | None


class _EntryRow(NamedTuple):
    """The columns of an entry that say what it reserves."""

    account_id: int
    allocation_id: int | None
    market: str
    symbol: str
    base: str
    side: str
    status: str
    reserved_margin: Decimal
    reserved_risk: Decimal
    reserved_notional: Decimal
    created_at: datetime


class _FillRow(NamedTuple):
    """The columns of a fill that say what it made and cost."""

    account_id: int
    market: str
    symbol: str
    price: Decimal
    fee: Decimal
    fee_asset: str
    realized_profit: Decimal
    filled_at: datetime


class _MoveRow(NamedTuple):
    """A transfer: what came in, negative what went."""

    account_id: int
    quantity: Decimal
    at: datetime


Row = TypeVar("Row", _PositionRow, _EntryRow, _FillRow, _MoveRow)

FUTURES, SPOT = Market.FUTURES, Market.SPOT
MARKETS = {market.value: market for market in Market}
LONGEST_DAY = timedelta(hours=25)
CLOCKS_APART = timedelta(milliseconds=TOO_FAR_MS)
"""A fill carries the exchange's time and a reading ours: one so little older may not be in it yet."""

LOADED_BEFORE = timedelta(minutes=1)
"""How long before us an account may have been loaded: its row may tell of a newer reading than it does."""


@value
class Held(Stake):
    """One open position."""

    market: Market
    margin: Decimal
    unrealized_profit: Decimal
    opened_at: datetime


@value
class InFlight(Stake):
    """One entry that may still become a position; what it is weighed by is what it reserves."""

    market: Market
    margin: Decimal
    is_unknown: bool


@value
class Wallet:
    """One market's money of an account, the newest reading carried forward by what happened since.

    `available` lacks what entries in flight reserve and what positions use that the reading may not know of.
    """

    wallet: Decimal
    unrealized: Decimal
    available: Decimal

    @property
    def equity(self) -> Decimal:
        """Wallet plus unrealised profit."""
        return self.wallet + self.unrealized


@dataclass(slots=True)
class Exposure:
    """Everything one account has at stake.

    `foreign_bases` are coins on which an order rests that is not ours.
    The day is that of all markets it has an executor for, futures and spot; None where a part is unknown.
    """

    held: list[Held] = field(default_factory=list)
    in_flight: list[InFlight] = field(default_factory=list)
    foreign_bases: frozenset[str] = frozenset()
    wallets: dict[Market, Wallet] = field(default_factory=dict)
    entries_today: int = 0
    day_profit: Decimal | None = None
    day_baseline: Decimal | None = None

    @property
    def stakes(self) -> list[Stake]:
        """What is held and what is in flight."""
        return [*self.held, *self.in_flight]

    def risk(self, *, is_long: bool | None = None) -> Decimal:
        """Open risk and risk in flight, of one side or both."""
        return sum([one.risk for one in self.stakes if is_long is None or one.is_long == is_long], ZERO)

    def notional(self, base: str | None = None) -> Decimal:
        """Notional held and in flight, of one base asset or all."""
        return sum([one.notional for one in self.stakes if base is None or one.base == base], ZERO)


def first_wallet(exposure: Exposure, markets: Iterable[Market]) -> Wallet:
    """The money of the first of an account's markets, as the gate measures it there; nothing while unread."""
    read = (exposure.wallets[on] for on in markets if on in exposure.wallets)
    return next(read, Wallet(ZERO, ZERO, ZERO))


def day_start(account: Trader, now: datetime) -> datetime:
    """The last midnight in the account's zone, in UTC."""
    return _midnight(account.time_zone, now)


@lru_cache(maxsize=256)
def _midnight(zone: str, now: datetime) -> datetime:
    local = now.astimezone(ZoneInfo(zone))
    return local.replace(hour=0, minute=0, second=0, microsecond=0).astimezone(UTC)


def exposures(
    accounts: Sequence[Trader],
    limits: Mapping[int, Limits],
    mark_prices: Mapping[str, Decimal],
    now: datetime,
    own_ways: Mapping[int, Sequence[Way]] | None = None,
) -> dict[int, Exposure]:
    """The exposure of every account by its id, in a number of queries that does not grow with the accounts.

    A position without a mark price is weighed at its entry price. `own_ways` are those of `routes.own_ways`,
    read here where the caller has no other use for them.
    """
    ways = routes.own_ways([account.pk for account in accounts]) if own_ways is None else own_ways
    rows = _Rows.load(accounts, now)
    return {
        account.pk: _exposure(account, limits[account.pk], mark_prices, rows, ways[account.pk], now)
        for account in accounts
    }


def desk_stake(accounts: QuerySet[Account], limits: Limits) -> tuple[Decimal, Decimal]:
    """The open risk of accounts together, entries in flight included, and their equity as last read.

    A handful of statements whatever their number, and no account of its own: for what the desk may choose at
    all. Positions count at their entry price, coins with what was paid for them.
    """
    money = accounts.order_by().aggregate(futures=Sum("wallet_balance"), spot=Sum("spot_wallet"))
    equity = (money["futures"] or ZERO) + (money["spot"] or ZERO)
    risk = _sum_of_reserved(accounts)
    opened = Position.objects.filter(account__in=accounts, status=PositionStatus.OPEN).order_by()
    for columns in opened.values_list(*_PositionRow._fields):
        position = _PositionRow(*columns)
        risk += _risk(position, limits, TAKER_FEES[Market(position.market)])
        if position.market == Market.SPOT:
            equity += position.quantity * position.entry_price
    return risk, equity


def _sum_of_reserved(accounts: QuerySet[Account]) -> Decimal:
    entries = Order.objects.filter(account__in=accounts, purpose=OrderPurpose.ENTRY, status__in=sorted(OPEN))
    found: Decimal | None = entries.order_by().aggregate(risk=Sum("reserved_risk"))["risk"]
    return found or ZERO


_MINE = AmongGiven("account_id", "ids")
_SINCE = Given("since", DateTimeField())


def _entries() -> QuerySet[Order]:
    return Order.objects.filter(_MINE, purpose=OrderPurpose.ENTRY).order_by()


_POSITIONS = FixedQuery(
    lambda: Position.objects.filter(_MINE, status=PositionStatus.OPEN).values_list(*_PositionRow._fields)
)
_SOLD = FixedQuery(
    lambda: Position.objects.filter(
        _MINE, status=PositionStatus.CLOSED, market=Market.SPOT, closed_at__gte=_SINCE
    ).values_list(*_PositionRow._fields)
)
_IN_FLIGHT = FixedQuery(lambda: _entries().filter(status__in=sorted(OPEN)).values_list(*_EntryRow._fields))
_ENTERED = FixedQuery(
    lambda: (
        _entries()
        .filter(created_at__gte=_SINCE, filled_quantity__gt=0)
        .values_list("account_id", "allocation_id", "created_at")
    )
)
_STRANGERS = FixedQuery(
    lambda: ForeignOrder.objects.filter(_MINE).order_by().values_list("account_id", "base")
)
_FILLS = FixedQuery(
    lambda: (
        Fill.objects.filter(
            _MINE, filled_at__gt=Least("account__balances_at", Given("loaded_since", DateTimeField()))
        )
        .order_by()
        .values_list(*_FillRow._fields)
    )
)
_MOVES = FixedQuery(
    lambda: Income.objects.filter(_MINE, kind__in=TRANSFERS, asset=READ_ASSET, at__gte=_SINCE).values_list(
        *_MoveRow._fields
    )
)


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows by account; `entered` is when each share that filled something since yesterday was ordered.

    `fills` are those since the account's own last reading: one left unread must not load everybody's.
    """

    positions: Mapping[int, Sequence[_PositionRow]]
    sold_coins: Mapping[int, Sequence[_PositionRow]]
    in_flight: Mapping[int, Sequence[_EntryRow]]
    entered: Mapping[int, Mapping[int, datetime]]
    strangers: Mapping[int, frozenset[str]]
    fills: Mapping[int, Sequence[_FillRow]]
    transfers: Mapping[int, Sequence[_MoveRow]]

    @classmethod
    def load(cls, accounts: Sequence[Trader], now: datetime) -> "_Rows":
        told = {"ids": [account.pk for account in accounts], "since": now - LONGEST_DAY}
        return cls(
            sold_coins=_by_account(_PositionRow, _SOLD.ask(**told)),
            positions=_by_account(_PositionRow, _POSITIONS.ask(**told)),
            in_flight=_by_account(_EntryRow, _IN_FLIGHT.ask(**told)),
            entered=_entered(_ENTERED.ask(**told)),
            strangers=_coins_of_strangers(_STRANGERS.ask(**told)),
            fills=_by_account(_FillRow, _FILLS.ask(**told, loaded_since=now - LOADED_BEFORE)),
            transfers=_by_account(_MoveRow, _MOVES.ask(**told)),
        )


def _coins_of_strangers(rows: Iterable[tuple[int, str]]) -> dict[int, frozenset[str]]:
    """The coins on which orders rest that are not ours."""
    found: dict[int, set[str]] = defaultdict(set)
    for account_id, base in rows:
        found[account_id].add(base)
    return {account_id: frozenset(bases) for account_id, bases in found.items()}


def _by_account(kind: type[Row], rows: Iterable[Iterable[Any]]) -> dict[int, list[Row]]:
    grouped: dict[int, list[Row]] = defaultdict(list)
    for row in map(kind._make, rows):
        grouped[row.account_id].append(row)
    return grouped


def _entered(rows: Iterable[tuple[int, int | None, datetime]]) -> dict[int, dict[int, datetime]]:
    grouped: dict[int, dict[int, datetime]] = defaultdict(dict)
    for account_id, allocation_id, created_at in rows:
        grouped[account_id][allocation_id or 0] = created_at
    return grouped


def _exposure(
    account: Trader,
    limits: Limits,
    mark_prices: Mapping[str, Decimal],
    rows: _Rows,
    ways: Sequence[Way],
    now: datetime,
) -> Exposure:
    pk, start = account.pk, day_start(account, now)
    in_flight = rows.in_flight.get(pk, ())
    exposure = Exposure(
        held=[_held(position, limits, mark_prices) for position in rows.positions.get(pk, ())],
        in_flight=[_in_flight(order) for order in in_flight],
        foreign_bases=rows.strangers.get(pk, frozenset()),
        entries_today=_entries_since(start, rows.entered.get(pk, {}), in_flight),
    )
    exposure.wallets = _wallets(account, exposure, rows.fills.get(pk, ()))
    _add_day(exposure, account, rows, {way.market for way in ways}, mark_prices, start)
    return exposure


def _entries_since(start: datetime, entered: Mapping[int, datetime], in_flight: Sequence[_EntryRow]) -> int:
    """The shares that filled something or still may, each once."""
    shares: set[int | None] = {share for share, at in entered.items() if at >= start}
    shares.update([order.allocation_id for order in in_flight if order.created_at >= start])
    return len(shares)


def _held(position: _PositionRow, limits: Limits, mark_prices: Mapping[str, Decimal]) -> Held:
    mark, market = mark_prices.get(position.symbol, position.entry_price), MARKETS[position.market]
    return Held(
        symbol=position.symbol,
        base=position.base,
        is_long=position.is_long,
        notional=position.quantity * mark,
        risk=_risk(position, limits, TAKER_FEES[market]),
        market=market,
        margin=position.quantity * position.entry_price / position.leverage,
        unrealized_profit=_unrealized(position, mark),
        opened_at=position.opened_at,
    )


def _unrealized(position: _PositionRow, mark: Decimal) -> Decimal:
    return profit(
        is_long=position.is_long,
        quantity=position.quantity,
        entry_price=position.entry_price,
        price=mark,
    )


def _risk(position: _PositionRow, limits: Limits, taker_fee: Decimal) -> Decimal:
    if position.stop_price is None:
        # Nothing but the liquidation would end it, and that takes the whole margin.
        return position.quantity * position.entry_price / position.leverage
    return loss_at_stop(
        position.quantity,
        is_long=position.is_long,
        entry_price=position.entry_price,
        stop_price=position.stop_price,
        taker_fee=taker_fee,
        slippage=limits.stop_slippage,
    )


def _in_flight(order: _EntryRow) -> InFlight:
    return InFlight(
        symbol=order.symbol,
        base=order.base,
        is_long=order.side == OrderSide.BUY,
        notional=order.reserved_notional,
        risk=order.reserved_risk,
        market=MARKETS[order.market],
        margin=order.reserved_margin,
        is_unknown=order.status == OrderStatus.UNKNOWN,
    )


def _wallets(account: Trader, exposure: Exposure, fills: Sequence[_FillRow]) -> dict[Market, Wallet]:
    """The money of each market, where it was ever read."""
    read_at, found = account.balances_at, dict[Market, Wallet]()
    if read_at is None:
        return found
    since = [fill for fill in fills if fill.filled_at > read_at]
    if account.wallet_balance is not None and account.available_balance is not None:
        read = Wallet(account.wallet_balance, ZERO, account.available_balance)
        found[FUTURES] = _carried_forward(read, FUTURES, read_at, exposure, since)
    if account.spot_wallet is not None and account.spot_available is not None:
        read = Wallet(account.spot_wallet, ZERO, account.spot_available)
        found[SPOT] = _carried_forward(read, SPOT, read_at, exposure, since)
    return found


def _carried_forward(
    read: Wallet, market: Market, read_at: datetime, exposure: Exposure, since: Sequence[_FillRow]
) -> Wallet:
    held = [position for position in exposure.held if position.market is market]
    in_flight = [order.margin for order in exposure.in_flight if order.market is market]
    filled = [fill for fill in since if fill.market == market]
    if not (held or in_flight or filled):
        return read
    # On spot a position was paid for from the wallet; on futures only its margin is set aside.
    paid = ZERO if market is FUTURES else sum([p.margin for p in held if p.opened_at <= read_at], ZERO)
    realized = sum([fill.realized_profit - _fee(fill) for fill in filled], ZERO)
    known_since = read_at - CLOCKS_APART
    younger = sum([one.margin for one in held if one.opened_at > known_since], ZERO)
    return Wallet(
        wallet=read.wallet + realized + paid,
        unrealized=sum([position.unrealized_profit for position in held], ZERO),
        available=read.available + min(realized, ZERO) - sum(in_flight, ZERO) - younger,
    )


def _fee(fill: _FillRow) -> Decimal:
    """The fee in quote units, on spot also taken of the coin bought; a third asset is not of this wallet."""
    if fill.fee_asset in {"", "USDT", "USDC"}:
        return fill.fee
    is_of_coin = fill.market == Market.SPOT and fill.symbol.startswith(f"{fill.fee_asset}/")
    return fill.fee * fill.price if is_of_coin else ZERO


def _add_day(
    exposure: Exposure,
    account: Trader,
    rows: _Rows,
    markets: set[Market],
    mark_prices: Mapping[str, Decimal],
    midnight: datetime,
) -> None:
    """Sum the day over the account's `markets`; it stays None where today's reading or a wallet is missing.

    Its loss is measured on the futures money at midnight, as the gate does for futures: spot money that lies
    idle must not let a day lose more. Only without futures money it is the spot money.
    """
    pk, since = account.pk, account.day_started_at
    if since is None or since < midnight or account.day_baseline_equity is None:
        return
    if not markets <= exposure.wallets.keys():
        return
    made = spot_made = _made_on_spot(pk, rows, mark_prices, midnight)
    baseline = ZERO
    if FUTURES in markets:
        futures = exposure.wallets[FUTURES].equity
        moved = sum([row.quantity for row in rows.transfers.get(pk, ()) if row.at > since], ZERO)
        made += futures - account.day_baseline_equity - moved
        baseline = account.day_baseline_equity if account.day_baseline_equity > 0 else futures
    if SPOT in markets and baseline <= 0:
        baseline = exposure.wallets[SPOT].equity - spot_made
    exposure.day_profit, exposure.day_baseline = made, baseline


def _made_on_spot(
    account_id: int, rows: _Rows, mark_prices: Mapping[str, Decimal], midnight: datetime
) -> Decimal:
    """What our coins made today, by our rows: nothing lists the movements of a spot wallet.

    Coins held since before midnight count their whole loss and no profit: what they were worth then is not
    kept, and yesterday's profit must hide no loss of today.
    """
    coins = [one for one in rows.positions.get(account_id, ()) if one.market == SPOT]
    coins += [
        one for one in rows.sold_coins.get(account_id, ()) if one.closed_at and one.closed_at >= midnight
    ]
    made = ZERO
    for coin in coins:
        mark = mark_prices.get(coin.symbol, coin.entry_price)
        whole = coin.realized_profit - coin.fees + _unrealized(coin, mark)
        made += whole if coin.opened_at >= midnight else min(whole, ZERO)
    return made
