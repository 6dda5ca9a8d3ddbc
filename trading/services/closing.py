"""Closing: one intent in the position's row, one live EXIT order, tried again until the exchange is flat.

1. The intent (`closing_for`, or `reduction` for a part) is committed first and kept until it is carried out.
2. At most one EXIT of a position is alive: a unique index says so, whoever asks. An exit whose outcome or
   executions are unknown is resolved before the next one is made.
3. An exit never exceeds what our fills hold nor what the exchange says is open beside a stranger's share; a
   read that failed only takes the second bound away, because reduce-only keeps it at the exchange.
4. Nothing that refuses entries is asked here.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import structlog
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet

from alerts.models import Severity
from alerts.services import clear_alert, raise_alert
from exchange.budget import Priority
from exchange.port import Market, PositionReport
from trading.domain.instrument import Instrument, floor_quantity
from trading.domain.states import (
    AT_EXCHANGE,
    OPEN,
    CloseReason,
    OrderPurpose,
    OrderStatus,
    PositionStatus,
    Protection,
)
from trading.models import Order, Position
from trading.services import execution, intents, pictures, positions
from trading.services.attempts import failed_attempts, unended_names
from trading.services.bells import Bells
from trading.services.contact import in_contact, is_in_doubt
from trading.services.fills import record_fills
from trading.services.orders import new_exit
from trading.services.plans import instrument_of
from trading.services.position_rows import lock_many, look_again
from trading.services.stops import STOPS

FIRST_RETRY = timedelta(milliseconds=200)
LONGEST_RETRY = timedelta(seconds=1)
ATTEMPTS_BEFORE_WARNING = 2
ATTEMPTS_BEFORE_ALARM = 4
FILLS_READ_BEFORE_OPENING = timedelta(minutes=1)
INSUFFICIENT = "-2010"
"""How a spot wallet refuses to sell coins that it does not have free."""
PATIENCE_SECONDS = 1.0
"""An exit waits no longer for what the exchange says is open: that is its second bound alone."""

log = structlog.get_logger(__name__)


def request_close(
    position_id: int,
    *,
    reason: CloseReason,
    now: datetime,
    quantity: Decimal | None = None,
    legs: Sequence[int] = (),
) -> Bells:
    """Close a position, or `quantity` of it. Asked twice, the first intent stands and one order exists."""
    intents.intend_close(position_id, reason=reason, now=now, quantity=quantity, legs=legs)
    return continue_closing([position_id], now)


def request_closes(position_ids: Sequence[int], *, reason: CloseReason, now: datetime) -> Bells:
    """Close several positions whole, reading their accounts together."""
    for position_id in position_ids:
        intents.intend_close(position_id, reason=reason, now=now)
    return continue_closing(position_ids, now)


def continue_closing(position_ids: Sequence[int], now: datetime) -> Bells:
    """Carry out the intents that stand: the next attempt where none is alive and its wait is over.

    An exit that can go out waits for no other account: who needs more than one short look is rung again.
    """
    bells = Bells()
    intended = [position for position in _open_ones(position_ids) if position.is_closing]
    if not intended:
        return bells
    free = [position for position in intended if _is_free(position, bells, now)]
    _free_locked_coins([position for position in free if _lacks_coins(position)], now)
    on_futures = [position for position in free if position.market == Market.FUTURES]
    accounts = [position.account for position in on_futures]
    read = pictures.positions_of(accounts, PATIENCE_SECONDS, Priority.PROTECTION)
    flat = {position.pk for position in on_futures if pictures.is_flat(position, read)}
    doubtful = [position for position in free if position.pk not in flat and is_in_doubt(position)]
    later = flat.union(position.pk for position in doubtful)
    bells.add(_order_exits([position for position in free if position.pk not in later], read, now))
    if bells.exits:
        return bells.add(Bells(positions=sorted(later)))
    for position in on_futures:
        if position.pk in flat:
            look_again(position, now + LONGEST_RETRY)
    bells.add(settle_flat(sorted(flat), now))
    return bells.add(_order_exits(in_contact(doubtful, read, now), read, now))


def take_over(position_ids: Sequence[int], now: datetime) -> Bells:
    """Go on with exits whose worker may have died: send what nobody holds, look up what is unclear.

    For a caller that comes back by itself: no further look is rung.
    """
    exits = list(_unsettled_exits(position_ids).values_list("pk", flat=True))
    bells = execution.submit(exits, now)
    bells.add(execution.resolve(exits, now)).add(execution.refresh(exits, now))
    bells.resolve.clear()
    return bells


def settle_flat(position_ids: Sequence[int], now: datetime) -> Bells:
    """Book the executions of positions the exchange no longer has; what they do not explain stays open."""
    bells = _look_up_own_orders(position_ids, now)
    gone = _explicable(_open_ones(position_ids))
    since = {position: position.opened_at - FILLS_READ_BEFORE_OPENING for position in gone}
    for position_id, reports in pictures.fills_of(since).items():
        position = next(p for p in since if p.pk == position_id)
        bells.add(record_fills(position.account, Market(position.market), reports, now))
    _tell_unexplained(_open_ones([position.pk for position in since]), now)
    return bells


def _look_up_own_orders(position_ids: Sequence[int], now: datetime) -> Bells:
    """Learn first what became of our own orders: a fired stop's fills bear the id of another order."""
    ours = Order.objects.filter(position__in=position_ids, status__in=sorted(AT_EXCHANGE))
    return execution.refresh(list(ours.values_list("pk", flat=True)), now)


def _explicable(gone: Sequence[Position]) -> list[Position]:
    """Those whose orders are all ended or still listed as resting.

    Booked while one was not looked up, its fills would be a stranger's for ever.
    """
    unended = {position.pk: unended_names(position) for position in gone}
    listed = pictures.resting_stops_of(position for position in gone if unended[position.pk])
    seen = {pk: {report.client_order_id for report in reports} for pk, reports in listed.items()}
    return [position for position in gone if unended[position.pk] <= seen.get(position.pk, set())]


def _open_ones(position_ids: Sequence[int]) -> list[Position]:
    wanted = Position.objects.filter(pk__in=position_ids, status=PositionStatus.OPEN)
    return list(wanted.select_related("account"))


def _tell_crossed_open(
    open_ones: Sequence[Position], read: Mapping[int, Sequence[PositionReport]], now: datetime
) -> None:
    """A stop the mark went through, and the exchange still holds the position: the stop there has failed."""
    for position in open_ones:
        if position.crossed_at is not None and position.account_id in read and _is_verified(position):
            raise_alert(
                f"stop-crossed:{position.pk}",
                Severity.CRITICAL,
                "STOP_CROSSED_OPEN",
                f"The mark went through the stop at {position.stop_price} and the position is still open",
                account=position.account.name,
                symbol=position.symbol,
                now=now,
            )


def _is_verified(position: Position) -> bool:
    return position.protection == Protection.VERIFIED


def _is_free(position: Position, bells: Bells, now: datetime) -> bool:
    """Whether the next attempt may be made now; else what has to happen first is rung or waited for."""
    live = _unsettled_exits([position.pk]).first()
    if live is not None:
        if live.status == OrderStatus.PENDING:
            bells.exits.append(live.pk)
        look_again(position, now + LONGEST_RETRY)
        return False
    if position.market == Market.SPOT and (locking := _locking_stops(position)):
        bells.cancel.extend(locking)
        look_again(position, now + LONGEST_RETRY)
        return False
    wait_until = _wait_until(position)
    if wait_until is None or wait_until <= now:
        return True
    look_again(position, wait_until)
    return False


def _unsettled_exits(position_ids: Iterable[int]) -> QuerySet[Order]:
    """Exits alive, or ended with executions still unread: they may have sold all that is wanted sold."""
    unsettled = Q(status__in=OPEN) | Q(fills_complete=False)
    return Order.objects.filter(unsettled, position__in=position_ids, purpose=OrderPurpose.EXIT)


def _locking_stops(position: Position) -> list[int]:
    """Resting spot stops: they lock the coins that the exit must sell."""
    stops = Order.objects.filter(position=position, purpose__in=STOPS, status__in=OPEN)
    return list(stops.values_list("pk", flat=True))


def _lacks_coins(position: Position) -> bool:
    """Whether the wallet refused the last sale of what our fills say is in it."""
    failed = failed_attempts(position) if position.market == Market.SPOT else []
    return bool(failed) and failed[0].code == INSUFFICIENT


def _free_locked_coins(refused: Sequence[Position], now: datetime) -> None:
    """Cancel stops of ours that rest although their rows have ended: the coins are locked in them.

    The audit leaves a coin alone while an order of it is under way, and refused sales follow each other.
    """
    if not refused:
        return
    for position_id, reports in pictures.resting_stops_of(refused).items():
        position = next(one for one in refused if one.pk == position_id)
        names = [report.client_order_id for report in reports]
        resting = Order.objects.filter(account=position.account, purpose__in=STOPS, client_order_id__in=names)
        if execution.cancel_leftovers(list(resting.values_list("pk", flat=True)), now):
            log.warning("coins_were_locked", account=position.account.name, symbol=position.symbol)


def _wait_until(position: Position) -> datetime | None:
    failed = failed_attempts(position)
    if not failed:
        return None
    _tell_failing(position, len(failed), failed[0])
    wait: timedelta = FIRST_RETRY * 2 ** min(len(failed) - 1, 8)
    return failed[0].created_at + min(LONGEST_RETRY, wait)


def _order_exits(
    ready: Sequence[Position], read: Mapping[int, Sequence[PositionReport]], now: datetime
) -> Bells:
    """Commit the next EXIT of each position in one transaction; none where there was another meanwhile."""
    _tell_crossed_open(ready, read, now)
    bells = Bells()
    with transaction.atomic():
        locked = lock_many(position.pk for position in ready)
        unsettled = _unsettled_exits(position.pk for position in locked)
        busy = set(unsettled.values_list("position_id", flat=True))
        for position in locked:
            if not position.is_closing or position.status != PositionStatus.OPEN:
                continue
            look_again(position, now + LONGEST_RETRY)
            open_quantity = _open_quantity(position, read)
            if open_quantity and position.pk not in busy:
                bells.add(_order_exit(position, open_quantity, now))
    return bells


def _open_quantity(position: Position, read: Mapping[int, Sequence[PositionReport]]) -> Decimal:
    """What may be sold: our fills, and no more than is ours at the exchange where it could be read."""
    if position.market == Market.SPOT or position.account_id not in read:
        return position.quantity
    return min(position.quantity, pictures.our_share(read[position.account_id], position))


def _order_exit(position: Position, open_quantity: Decimal, now: datetime) -> Bells:
    quantity = _exit_quantity(position, open_quantity, instrument_of(position))
    if quantity <= 0:
        return _give_up_dust(position, now)
    legs = () if position.closing_for else position.reduction["legs"]
    order = new_exit(position, quantity=quantity, reason=position.exit_reason, legs=legs, now=now)
    try:
        with transaction.atomic():
            order.save()
    except IntegrityError:
        return Bells()  # another exit lives: the unique index has the last word
    log.info(
        "exit_ordered", client_order_id=order.client_order_id, reason=order.reason, quantity=str(quantity)
    )
    return Bells(exits=[order.pk])


def _give_up_dust(position: Position, now: datetime) -> Bells:
    """What is left is too small to sell: a whole position ends here, a part is no longer wanted."""
    if position.closing_for:
        return positions.close_dust(position, now)
    intents.drop_intent(position, now, "under the minimum")
    return Bells(positions=[position.pk])


def _exit_quantity(position: Position, open_quantity: Decimal, instrument: Instrument | None) -> Decimal:
    """What the next exit sells: the intent, within what is open and what one order may hold; 0 for spot dust.

    Without the market's filters it goes out as it is: a refusal costs less than no attempt.
    """
    is_whole = bool(position.closing_for)
    wanted = position.quantity if is_whole else Decimal(position.reduction["quantity"])
    quantity = min(wanted, open_quantity, position.quantity)
    if instrument is None:
        return quantity
    if instrument.max_market_quantity:
        quantity = min(quantity, instrument.max_market_quantity)
    if position.market == Market.FUTURES:
        return quantity
    quantity = floor_quantity(instrument, quantity)
    return Decimal(0) if positions.is_dust(quantity, instrument, position.entry_price) else quantity


def _tell_failing(position: Position, attempts: int, last: Order) -> None:
    if attempts < ATTEMPTS_BEFORE_WARNING:
        return
    cause = f"exit-failing:{position.pk}"
    raise_alert(
        cause,
        Severity.CRITICAL if attempts >= ATTEMPTS_BEFORE_ALARM else Severity.WARNING,
        "EXIT_FAILING",
        f"The last {attempts} attempts to close ended without a fill, the newest with"
        f" {last.code or last.status}",
        account=position.account.name,
        symbol=position.symbol,
        now=last.created_at,
    )
    # Closed since it was read: whoever closed it has ended its alerts, and this one would stand for ever.
    if not Position.objects.filter(pk=position.pk, status=PositionStatus.OPEN).exists():
        clear_alert(cause, last.created_at)


def _tell_unexplained(still_open: Sequence[Position], now: datetime) -> None:
    """Our fills still hold what the exchange, asked once more, does not: nothing is invented to close it."""
    read = pictures.positions_of(one.account for one in still_open if one.market == Market.FUTURES)
    for position in still_open:
        if not pictures.is_flat(position, read):
            continue
        raise_alert(
            f"flat-unexplained:{position.pk}",
            Severity.CRITICAL,
            "FLAT_UNEXPLAINED",
            f"The exchange holds no position, our fills still hold {position.quantity}",
            account=position.account.name,
            symbol=position.symbol,
            now=now,
        )
