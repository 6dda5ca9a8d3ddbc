"""Intake of signals: one row for ever per source and external id, or a refusal and nothing stored.

What closes or cancels acts at once on what its own source opened and never meets the entry gate.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation

import structlog
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet

from accounts.services.limits import desk_limits
from exchange.errors import ReadFailed
from trading.domain.states import (
    AllocationOutcome,
    CloseReason,
    DecisionStatus,
    OrderPurpose,
    PositionStatus,
)
from trading.models import Allocation, Decision, Order, Position, Signal, SignalSource
from trading.models.signals import SignalAction, SignalSide, SignalStatus
from trading.services import market
from trading.services.bells import Bells
from trading.services.intents import intend_close
from trading.services.unsent import cancel_unsent

log = structlog.get_logger(__name__)

Number = Decimal | str | int | float
"""A figure as a sender wrote it; it is read by its text, never through a binary fraction."""

CLOCK_TOLERANCE_SECONDS = 5
LONGEST_LIFE = timedelta(days=366)
HIGHEST_PRICE = Decimal(10) ** 12
FINEST_EXPONENT = -12
WIDEST_RATIO = Decimal(10)
LONGEST_ID = 100
LONGEST_NAME = 60
CANCELLED_BY_SIGNAL = "SIGNAL_CANCELLED"


class SignalRefused(ValueError):
    """A signal that cannot be taken; `code` is stable, `message` names the offending value."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class SignalDraft:
    """A signal as a sender wrote it, nothing checked. Prices are quote units, the score is 0 to 1.

    An open signal needs score, stop and target; close and cancel need only the symbol. Without an entry
    price the signal means the market as it is now.
    """

    external_id: str
    symbol: str
    side: str
    score: Number | None = None
    stop_price: Number | None = None
    take_profit_price: Number | None = None
    entry_price: Number | None = None
    action: str = SignalAction.OPEN.value
    created_at: datetime | None = None
    expires_at: datetime | None = None
    trace_id: str = ""


def intake(source: str | SignalSource, draft: SignalDraft, now: datetime) -> tuple[Signal, bool]:
    """Take a signal in; the row, and whether it is new.

    The same source and external id give the row they gave before, whatever else the sender now says.
    Raises SignalRefused with nothing stored, and ReadFailed when the market table was never read.
    """
    name = source.name if isinstance(source, SignalSource) else source
    _check_name("SOURCE", name, LONGEST_NAME)
    _check_name("EXTERNAL_ID", draft.external_id, LONGEST_ID)
    if (known := _known(name, draft.external_id)) is not None:
        return known, False
    signal = _checked(draft, now)
    try:
        with transaction.atomic():
            signal.source, _ = SignalSource.objects.get_or_create(name=name)
            _refuse_unless(signal.source.is_active, "SOURCE_PAUSED", f"source {name} is paused")
            signal.save()
    except IntegrityError:
        return Signal.objects.get(source__name=name, external_id=draft.external_id), False
    return signal, True


def act(signal: Signal, now: datetime) -> Bells:
    """Carry out a close or cancel on what its source opened on its symbol; again until nothing is left.

    It reaches what was sent before it and nothing that the source sends afterwards. Undecided signals
    and unsent entries are cancelled by both; a close also closes the positions. It is DONE when every such
    entry is over and its executions are rows: a late one would open what should be closed.
    """
    if signal.action == SignalAction.OPEN or signal.status != SignalStatus.OPEN:
        return Bells()
    bells = _cancel_undone(signal, now)
    # Before the positions are read: what fills in between is met next time.
    is_over = not _entries(signal).filter(fills_complete=False).exists()
    if signal.action == SignalAction.CLOSE:
        bells.positions = _open_positions(signal)
        for position_id in bells.positions:
            intend_close(position_id, reason=CloseReason.SIGNAL, now=now)
    if is_over:
        Signal.objects.filter(pk=signal.pk).update(status=SignalStatus.DONE)
        signal.status = SignalStatus.DONE
    return bells


def continue_actions(now: datetime) -> Bells:
    """Carry on with every close and cancel that is not done yet."""
    undone = Signal.objects.filter(status=SignalStatus.OPEN).exclude(action=SignalAction.OPEN)
    return act_on(undone.order_by("pk").values_list("pk", flat=True), now)


def act_on(signal_ids: Iterable[int], now: datetime) -> Bells:
    """Carry out these closes and cancels; the sweep tries one that fails again."""
    bells = Bells()
    for pk in signal_ids:
        try:
            bells.add(act(Signal.objects.select_related("source").get(pk=pk), now))
        except Exception:  # one signal's oddity must not cost all others their closing
            log.exception("signal_not_carried_on", signal=pk)
    return bells


def expire(now: datetime) -> int:
    """Mark undecided signals that are past their own expiry or the desk's greatest age; how many."""
    oldest = now - timedelta(seconds=desk_limits().signal_max_age_seconds)
    undecided = Signal.objects.filter(status=SignalStatus.OPEN, action=SignalAction.OPEN)
    too_old = undecided.filter(created_at__lt=oldest)
    expired = undecided.filter(expires_at__lte=now)
    return too_old.update(status=SignalStatus.EXPIRED, note="older than allowed") + expired.update(
        status=SignalStatus.EXPIRED, note="past its own expiry"
    )


# ── reading a draft ──────────────────────────────────────────────────────────


def _checked(draft: SignalDraft, now: datetime) -> Signal:
    signal = Signal(
        external_id=draft.external_id,
        symbol=_read_symbol(draft.symbol),
        side=_read_choice(SignalSide, draft.side, "SIDE", str.upper),
        action=_read_choice(SignalAction, draft.action, "ACTION", str.lower),
        entry_price=_read_price("entry_price", draft.entry_price),
        stop_price=_read_price("stop_price", draft.stop_price),
        take_profit_price=_read_price("take_profit_price", draft.take_profit_price),
        received_at=now,
        trace_id=draft.trace_id[:40],
    )
    signal.score = _read_score(draft.score, is_needed=signal.action == SignalAction.OPEN)
    signal.created_at, signal.expires_at = _read_times(draft, now)
    if signal.action == SignalAction.OPEN:
        _check_geometry(signal, now)
    return signal


def _check_name(code: str, name: str, longest: int) -> None:
    is_fine = bool(name.strip()) and len(name) <= longest and name.isprintable()
    _refuse_unless(is_fine, code, f"{code.lower()} has 1 to {longest} printable signs")


def _read_symbol(written: str) -> str:
    symbol = market.unified_symbol(written)
    if symbol is None:
        raise SignalRefused("UNKNOWN_SYMBOL", f"{written[:40]!r} is no perpetual market of this exchange")
    return symbol


def _read_choice(
    choices: type[SignalSide] | type[SignalAction], written: str, code: str, spell: Callable[[str], str]
) -> str:
    word = spell(written.strip())
    _refuse_unless(word in choices.values, code, f"{written[:40]!r} is none of {', '.join(choices.values)}")
    return word


def _read_number(name: str, written: Number) -> Decimal:
    try:
        number = Decimal(str(written).strip())
    except InvalidOperation:
        raise SignalRefused("NOT_A_NUMBER", f"{name} {str(written)[:40]!r} is not a number") from None
    _refuse_unless(number.is_finite(), "NOT_A_NUMBER", f"{name} {number} is not a number")
    return number


def _read_price(name: str, written: Number | None) -> Decimal | None:
    if written is None:
        return None
    price = _read_number(name, written)
    _refuse_unless(price > 0, "NEGATIVE", f"{name} {price} is not above zero")
    _refuse_unless(price < HIGHEST_PRICE and _is_storable(price), "ABSURD", f"{name} {price} is no price")
    return price


def _is_storable(price: Decimal) -> bool:
    exponent = price.normalize().as_tuple().exponent
    return isinstance(exponent, int) and exponent >= FINEST_EXPONENT


def _read_score(written: Number | None, *, is_needed: bool) -> Decimal:
    if written is None:
        _refuse_unless(not is_needed, "SCORE", "score is missing")
        return Decimal(0)
    score = _read_number("score", written)
    _refuse_unless(0 <= score <= 1, "SCORE", f"score {score} is outside 0 to 1")
    return score.quantize(Decimal("0.00001"))


def _read_times(draft: SignalDraft, now: datetime) -> tuple[datetime, datetime | None]:
    """When it was made and when it ends, in UTC; only what lies near now can be told in every zone."""
    for name, moment in (("created_at", draft.created_at), ("expires_at", draft.expires_at)):
        _refuse_unless(moment is None or moment.tzinfo is not None, "TIME", f"{name} names no time zone")
    created_at, expires_at = draft.created_at or now, draft.expires_at
    age_seconds = (now - created_at).total_seconds()
    limit_seconds = desk_limits().signal_max_age_seconds
    _refuse_unless(age_seconds >= -CLOCK_TOLERANCE_SECONDS, "FUTURE", f"created {-age_seconds:.0f} s ahead")
    _refuse_unless(age_seconds <= limit_seconds, "STALE", f"created {age_seconds:.0f} s ago")
    if expires_at is None:
        return created_at.astimezone(UTC), None
    _refuse_unless(expires_at > now, "EXPIRED", "expired before it came")
    _refuse_unless(expires_at <= now + LONGEST_LIFE, "TIME", f"ends in more than {LONGEST_LIFE.days} days")
    return created_at.astimezone(UTC), expires_at.astimezone(UTC)


def _check_geometry(signal: Signal, now: datetime) -> None:
    stop, target = signal.stop_price, signal.take_profit_price
    if stop is None or target is None:
        missing = "stop_price" if stop is None else "take_profit_price"
        raise SignalRefused("MISSING", f"{missing} is missing")
    entry = signal.entry_price or _market_price(signal.symbol, now) or (stop + target) / 2
    shape = f"{signal.side} with entry {entry}, stop {stop}, target {target}"
    _refuse_unless(stop < entry if signal.is_long else stop > entry, "STOP_WRONG_SIDE", shape)
    _refuse_unless(target > entry if signal.is_long else target < entry, "TARGET_WRONG_SIDE", shape)
    _refuse_unless(max(entry, stop, target) < WIDEST_RATIO * min(entry, stop, target), "ABSURD", shape)


def _market_price(symbol: str, now: datetime) -> Decimal | None:
    try:
        mark = market.marks([symbol], now).get(symbol)
    except ReadFailed:
        return None  # the gate asks again, with a mark or not at all
    return mark.mark_price if mark else None


def _refuse_unless(is_fine: bool, code: str, message: str) -> None:
    if not is_fine:
        raise SignalRefused(code, message)


# ── rows ─────────────────────────────────────────────────────────────────────


def _known(source_name: str, external_id: str) -> Signal | None:
    known = Signal.objects.filter(source__name=source_name, external_id=external_id)
    return known.select_related("source").first()


def _sent_before(signal: Signal) -> QuerySet[Signal]:
    """What its source asked to open on its symbol until then; the row's order settles equal times."""
    earlier = Q(received_at__lt=signal.received_at) | Q(received_at=signal.received_at, pk__lt=signal.pk)
    same = Signal.objects.filter(source=signal.source, symbol=signal.symbol, action=SignalAction.OPEN)
    return same.filter(earlier)


def _open_positions(signal: Signal) -> list[int]:
    opened = Position.objects.filter(allocation__decision__signal__in=_sent_before(signal))
    return list(opened.filter(status=PositionStatus.OPEN).values_list("pk", flat=True))


def _entries(signal: Signal) -> QuerySet[Order]:
    return Order.objects.filter(
        purpose=OrderPurpose.ENTRY, allocation__decision__signal__in=_sent_before(signal)
    )


def _cancel_undone(signal: Signal, now: datetime) -> Bells:
    """Nothing undecided, unsent or not yet offered of what was sent before is pursued any further."""
    undecided = _sent_before(signal).filter(status=SignalStatus.OPEN)
    # A complete one may be opened again by an offer that reads the market now, until its deadline.
    offered = Decision.objects.filter(
        Q(status=DecisionStatus.OPEN) | Q(deadline_at__gt=now), signal__in=_sent_before(signal)
    )
    with transaction.atomic():
        undecided.update(status=SignalStatus.CANCELLED, note=f"{signal.action} by its source")
        decision_ids = list(offered.values_list("pk", flat=True))
        offered.update(stopped_code=CANCELLED_BY_SIGNAL)
        allocation_ids = cancel_unsent(_entries(signal), CANCELLED_BY_SIGNAL, now)
        Allocation.objects.filter(pk__in=allocation_ids, outcome=AllocationOutcome.PENDING).update(
            outcome=AllocationOutcome.SKIPPED, code=CANCELLED_BY_SIGNAL
        )
    return Bells(decisions=decision_ids)
