"""Monitoring: ours against what the exchange says of every account; correct, alert, halt, account.

1. Error is not empty: an account whose reading failed keeps its rows and grows stale.
2. Corrections come from the exchange's executions, never from the difference itself.
3. What is not ours is shown and told, never closed.
4. Paused and unhealthy accounts are monitored like any other: only their entries stop.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TypeVar

import structlog
from django.conf import settings
from django.db.models import Q
from django.utils import timezone
from redis.exceptions import RedisError

from accounts.models import Account
from accounts.services.limits import usable_limits_of
from alerts.models import Severity
from alerts.services import clear_alert, clear_alerts, raise_alert
from exchange.port import Market, OrderSide, PositionReport
from trading.domain.comparison import (
    Difference,
    DifferenceKind,
    OurPosition,
    OurStop,
    TheirOrder,
    TheirPosition,
    compare_orders,
    compare_positions,
)
from trading.domain.states import AT_EXCHANGE, OPEN, CloseReason, OrderStatus, PositionStatus
from trading.models import Order, Position
from trading.services import (
    audits,
    automatic_halts,
    balances,
    changed_settings,
    closing,
    emergency,
    execution,
    foreign_orders,
    market,
    pictures,
    preparing,
    prices,
    streams,
    venue_halts,
    warnings,
)
from trading.services.audits import Picture, Watched
from trading.services.bells import Bells
from trading.services.exposure import exposures
from trading.services.fills import record_fills
from trading.services.foreign_orders import Seen
from trading.services.stops import STOPS
from trading.services.taken import tell_reduced, tell_taken

RESTING = OrderStatus.ACKNOWLEDGED

NOT_CORRECTED = "not-corrected:"
"""The cause of an alert, before the account's number."""

FILLS_READ_BEFORE_OPENING = timedelta(minutes=1)

Book = Callable[[Sequence[int], datetime], Bells]

log = structlog.get_logger(__name__)


def monitor(now: datetime) -> Bells:
    """One tick: read the most doubtful accounts, put right what differs, then warn, halt and flatten."""
    accounts = list(
        Account.objects.filter(archived_at__isnull=True, mode=settings.MODE)
        .select_related("group")
        .order_by("pk")
    )
    # Before everything that reads for other reasons: flattening waits for nobody.
    bells = emergency.continue_flattening(now)
    watched = audits.watched_symbols(accounts, now)
    chosen = audits.choose(accounts, watched, now)
    bells.add(audit(chosen, watched, now))
    bells.add(changed_settings.follow(now))
    balances.read_incomes(accounts, now)
    preparing.prepare(accounts, now)
    _judge(accounts, now)
    return bells


def audit(accounts: Sequence[Account], watched: Mapping[int, Watched], now: datetime) -> Bells:
    """Read these accounts at the exchange and correct our rows where they differ."""
    begun = timezone.now()
    seen = audits.read(accounts, watched, now)
    balances.write_balances(accounts, seen)
    read = [account for account in accounts if account.pk in seen]
    ours = _Ours.load(read, begun, seen)
    bells = Bells()
    unbooked = _Unbooked()
    corrected = []
    for account in read:
        try:
            for difference in _differences(account, seen[account.pk], ours):
                log.warning(
                    "difference", account=account.name, kind=difference.kind, symbol=difference.symbol
                )
                bells.add(_correct(account, difference, seen[account.pk], unbooked, now))
            changed_settings.note_margin_modes(account, seen[account.pk].positions, now)
            _keep_strangers(account, seen[account.pk], ours, now)
        except Exception as error:  # noqa: BLE001  # one account's oddity must not cost all others their halts
            _tell_uncorrected(account, error, now)
        else:
            corrected.append(f"{NOT_CORRECTED}{account.pk}")
    bells.add(unbooked.book(now))
    odd = {f"{NOT_CORRECTED}{account_id}" for account_id in unbooked.odd_accounts}
    clear_alerts([cause for cause in corrected if cause not in odd], now)
    return bells


def _keep_strangers(account: Account, picture: Picture, ours: "_Ours", now: datetime) -> None:
    """Orders that are not ours close their coin to entries while they rest."""
    listed = [*picture.orders, *picture.stops]
    strangers = [one for one in listed if one.client_order_id not in ours.known_ids]
    foreign_orders.keep(
        [Seen(account.pk, picture.market_of(one.symbol), one) for one in strangers],
        now,
    )
    foreign_orders.forget_unlisted(
        account.pk, picture.symbols, [one.client_order_id for one in strangers], now
    )


def _tell_uncorrected(account: Account, error: Exception, now: datetime) -> None:
    """What was not put right is read again at the next tick, and somebody is told."""
    log.error("account_not_corrected", account=account.name, exc_info=error)
    streams.doubt([account.pk])
    raise_alert(
        f"{NOT_CORRECTED}{account.pk}",
        Severity.CRITICAL,
        "NOT_CORRECTED",
        f"what differs from the exchange could not be put right: {type(error).__name__}",
        account=account.name,
        now=now,
    )


@dataclass(slots=True)
class _Unbooked:
    """Positions whose executions our rows lack: gone at the exchange, or of another quantity there."""

    vanished: list[int] = field(default_factory=list)
    changed: list[int] = field(default_factory=list)
    odd_accounts: set[int] = field(default_factory=set)
    """Whose executions could not be booked, for other reasons than that they were not read."""

    def book(self, now: datetime) -> Bells:
        """Read and record what the rows lack."""
        bells = Bells(positions=[*self.vanished, *self.changed])
        bells.add(self._booked(closing.settle_flat, self.vanished, now))
        bells.add(self._booked(_book_executions, self.changed, now))
        tell_reduced(self.changed, now)
        tell_taken(self.vanished, now)
        return bells

    def _booked(self, book: Book, position_ids: Sequence[int], now: datetime) -> Bells:
        """Book all together; where that fails each by itself: the odd one alone is left out, and told."""
        bells = Bells()
        try:
            return book(position_ids, now) if position_ids else bells
        except Exception as error:  # noqa: BLE001  # as above: all others must have theirs
            if len(position_ids) == 1:
                account = Account.objects.get(positions=position_ids[0])
                self.odd_accounts.add(account.pk)
                _tell_uncorrected(account, error, now)
                return bells
        for position_id in position_ids:
            bells.add(self._booked(book, [position_id], now))
        return bells


def _book_executions(position_ids: Sequence[int], now: datetime) -> Bells:
    rows = Position.objects.filter(pk__in=position_ids).select_related("account")
    since = {position: position.opened_at - FILLS_READ_BEFORE_OPENING for position in rows}
    owners = {position.pk: position for position in since}
    bells = Bells()
    for position_id, reports in pictures.fills_of(since).items():
        position = owners[position_id]
        bells.add(record_fills(position.account, Market(position.market), reports, now))
    return bells


@dataclass(frozen=True, slots=True)
class _Ours:
    """Our rows of several accounts, and the symbols of each that moved while we read."""

    positions: Mapping[int, Sequence[Position]]
    stops: Mapping[int, Sequence[Order]]
    known_ids: frozenset[str]
    busy: Mapping[int, frozenset[str]]

    @classmethod
    def load(cls, accounts: Sequence[Account], begun: datetime, seen: Mapping[int, Picture]) -> "_Ours":
        """Read after the pictures; whatever moved since `begun` is busy, for the pictures may not show it."""
        mine = Q(account__in=[account.pk for account in accounts])
        positions = list(Position.objects.filter(mine).filter(_open_or_moved(begun)))
        orders = Order.objects.filter(mine).select_related("position")
        listed = Q(client_order_id__in=_listed_ids(seen))
        of_positions = Q(purpose__in=STOPS, position__in=positions)
        live = list(orders.filter(Q(status__in=sorted(OPEN)) | of_positions | listed))
        moving = orders.filter(
            Q(status__in=sorted(AT_EXCHANGE - {RESTING}))
            | Q(acknowledged_at__gte=begun)
            | Q(submitted_at__gte=begun)
            | Q(
                fills_complete=False,
                status__in=[OrderStatus.FILLED, OrderStatus.EXPIRED, OrderStatus.CANCELLED],
            )
        )
        busy: dict[int, set[str]] = defaultdict(set)
        for account, symbol in moving.values_list("account_id", "symbol"):
            busy[account].add(symbol)
        for position in positions:
            if position.updated_at >= begun:
                busy[position.account_id].add(position.symbol)
        return cls(
            positions=_grouped([one for one in positions if one.status == PositionStatus.OPEN]),
            stops=_grouped([order for order in live if order.purpose in STOPS]),
            known_ids=frozenset(order.client_order_id for order in live),
            busy={account: frozenset(symbols) for account, symbols in busy.items()},
        )


def _listed_ids(seen: Mapping[int, Picture]) -> list[str]:
    """Ids of every order that rests: ours whatever our row says of it, so that no leftover looks foreign."""
    return [one.client_order_id for picture in seen.values() for one in (*picture.orders, *picture.stops)]


def _open_or_moved(begun: datetime) -> Q:
    return Q(status=PositionStatus.OPEN) | Q(updated_at__gte=begun)


Row = TypeVar("Row", Position, Order)


def _grouped(rows: Iterable[Row]) -> dict[int, list[Row]]:
    grouped: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        grouped[row.account_id].append(row)
    return grouped


def _differences(account: Account, picture: Picture, ours: _Ours) -> list[Difference]:
    busy = ours.busy.get(account.pk, frozenset())
    positions = [
        OurPosition(
            one.pk,
            one.symbol,
            one.is_long,
            one.quantity,
            is_foreign=one.is_foreign,
            foreign_quantity=one.foreign_quantity,
        )
        for one in ours.positions.get(account.pk, ())
        # A spot position is the fold of our fills; a wallet says nothing about it.
        if one.market == Market.FUTURES
    ]
    theirs = [TheirPosition(one.symbol, one.is_long, one.quantity) for one in picture.positions]
    resting = [
        TheirOrder(one.client_order_id, one.symbol)
        for one in (*picture.orders, *picture.stops)
        if one.symbol not in busy
    ]
    stops = [_our_stop(stop) for stop in ours.stops.get(account.pk, ()) if stop.symbol not in busy]
    return compare_positions(positions, theirs, busy) + compare_orders(
        stops, ours.known_ids, resting, picture.symbols
    )


def _our_stop(stop: Order) -> OurStop:
    position = stop.position
    return OurStop(
        order_id=stop.pk,
        client_order_id=stop.client_order_id,
        symbol=stop.symbol,
        position_id=stop.position_id or 0,
        is_resting=stop.status == RESTING,
        is_position_open=position is not None and position.status == PositionStatus.OPEN,
        is_long=stop.side == OrderSide.SELL,
    )


def _correct(
    account: Account, difference: Difference, picture: Picture, unbooked: _Unbooked, now: datetime
) -> Bells:
    kind, position_id, order_id = difference.kind, difference.position_id, difference.order_id
    if kind == DifferenceKind.ORPHAN_STOP and _is_held(difference, picture):
        # Not an orphan yet: what our rows call closed is still open there, and this stop protects it.
        return Bells(positions=[position_id] if position_id else [])
    _tell(account, difference, now)
    match kind:
        case DifferenceKind.VANISHED | DifferenceKind.SIDE_MISMATCH if position_id is not None:
            unbooked.vanished.append(position_id)
        case DifferenceKind.QUANTITY_MISMATCH if position_id is not None:
            if not _follow_foreign(difference, picture):
                unbooked.changed.append(position_id)
        case DifferenceKind.FOREIGN_POSITION:
            _show_foreign(account, difference, picture, now)
        case DifferenceKind.FOREIGN_GONE:
            _end_foreign(account, difference, now)
        case DifferenceKind.MISSING_STOP if order_id is not None:
            return execution.refresh([order_id], now)
        case DifferenceKind.ORPHAN_STOP | DifferenceKind.UNTRACKED_STOP if order_id is not None:
            execution.cancel_leftovers([order_id], now)
            return Bells(positions=[position_id] if position_id else [])
        case _:
            pass
    return Bells()


def _is_held(difference: Difference, picture: Picture) -> bool:
    place = (difference.symbol, difference.is_long)
    return any((one.symbol, one.is_long) == place and one.quantity > 0 for one in picture.positions)


def _follow_foreign(difference: Difference, picture: Picture) -> bool:
    """Show a stranger's position as it is now; False where the position is ours."""
    report = _report_of(difference, picture)
    foreign = Position.objects.filter(pk__in=[difference.position_id], is_foreign=True)
    return bool(
        foreign.update(quantity=report.quantity, entry_price=report.entry_price, updated_at=timezone.now())
    )


def _report_of(difference: Difference, picture: Picture) -> PositionReport:
    place = (difference.symbol, difference.is_long)
    return next(one for one in picture.positions if (one.symbol, one.is_long) == place)


def _tell(account: Account, difference: Difference, now: datetime) -> None:
    is_foreign = difference.kind in {DifferenceKind.FOREIGN_POSITION, DifferenceKind.FOREIGN_ORDER}
    subject = difference.client_order_id or difference.position_id or difference.symbol
    if difference.kind in {DifferenceKind.FOREIGN_GONE, DifferenceKind.VANISHED}:
        # A stop that did its work is no correction; who else closed it is told once its fills are read.
        return
    message = TEXTS[difference.kind].format(symbol=difference.symbol, quantity=difference.quantity)
    raise_alert(
        f"{difference.kind.lower()}:{account.pk}:{subject}",
        Severity.WARNING,
        "FOREIGN" if is_foreign else "CORRECTED",
        f"{message} ({difference.client_order_id})" if difference.client_order_id else message,
        account=account.name,
        symbol=difference.symbol,
        now=now,
    )


def _show_foreign(account: Account, difference: Difference, picture: Picture, now: datetime) -> None:
    """Give a stranger's position a row, so that pages show it and the gate keeps off its coin."""
    report = _report_of(difference, picture)
    Position.objects.get_or_create(
        account=account,
        market=Market.FUTURES,
        symbol=report.symbol,
        is_long=report.is_long,
        status=PositionStatus.OPEN,
        defaults={
            "base": _base_of(report.symbol),
            "is_foreign": True,
            "quantity": report.quantity,
            "initial_quantity": report.quantity,
            "entry_price": report.entry_price,
            "opened_at": now,
        },
    )


def _base_of(symbol: str) -> str:
    """The coin of a symbol; a contract the market table does not list is its own."""
    listed = market.instruments(Market.FUTURES).get(symbol)
    return listed.base if listed else symbol.partition("/")[0]


def _end_foreign(account: Account, difference: Difference, now: datetime) -> None:
    if difference.position_id is None:
        return
    Position.objects.filter(pk=difference.position_id, is_foreign=True, status=PositionStatus.OPEN).update(
        status=PositionStatus.CLOSED,
        closed_at=now,
        close_reason=CloseReason.FOREIGN,
        quantity=0,
        updated_at=timezone.now(),
    )
    clear_alert(f"foreign_position:{account.pk}:{difference.symbol}", now=now)


def _judge(accounts: Sequence[Account], now: datetime) -> None:
    """Warnings and automatic halts, from rows and the marks of the moment."""
    held = list(Position.objects.filter(status=PositionStatus.OPEN, is_foreign=False))
    marks: dict[str, Decimal] = {
        symbol: mark.mark_price for symbol, mark in prices.fresh_marks(held, now).items()
    }
    limits = usable_limits_of(accounts)
    at_stake = exposures(accounts, limits, marks, now)
    warnings.warn(accounts, limits, at_stake, marks, now)
    automatic_halts.check(accounts, limits, at_stake, _marks_age_seconds(), now)
    venue_halts.check(accounts, now)


def _marks_age_seconds() -> float | None:
    """The age of the newest streamed marks; without Valkey nobody can know that marks come."""
    try:
        return prices.stream_age_seconds()
    except RedisError:
        return None


TEXTS: dict[DifferenceKind, str] = {
    DifferenceKind.VANISHED: "{symbol}: our position is no longer open at the exchange; its fills are read.",
    DifferenceKind.QUANTITY_MISMATCH: "{symbol}: the exchange holds {quantity}, not ours; fills are read.",
    DifferenceKind.SIDE_MISMATCH: "{symbol}: the exchange holds {quantity} the other way; fills are read.",
    DifferenceKind.FOREIGN_POSITION: "{symbol}: {quantity} that are not ours; never closed by us.",
    DifferenceKind.FOREIGN_GONE: "{symbol}: a position that was not ours is gone.",
    DifferenceKind.FOREIGN_ORDER: "{symbol}: an open order that is not ours.",
    DifferenceKind.ORPHAN_STOP: "{symbol}: a stop without a position was cancelled.",
    DifferenceKind.MISSING_STOP: "{symbol}: a stop we counted on is in no list; it is looked up.",
    DifferenceKind.UNTRACKED_STOP: "{symbol}: a stop our row had ended still rested; it was cancelled.",
}
