"""Shares settle: each allocation's outcome is derived from its orders, never kept beside them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from django.db import transaction
from django.utils import timezone

from accounts.services.fixed_queries import AmongGiven, FixedQuery
from trading.domain import fallback
from trading.domain.states import (
    OPEN,
    UNDECIDED,
    AllocationOutcome,
    DenyCode,
    ExpireCode,
    OrderPurpose,
    OrderStatus,
    SkipCode,
)
from trading.models import Allocation, Decision, Order
from trading.models.signals import SignalSide
from trading.services.many_rows import change_rows

BASIS_POINTS = Decimal(10_000)

WRITTEN = (
    "outcome",
    "code",
    "market",
    "executor",
    "attempts",
    "filled_quantity",
    "average_price",
    "slippage_bps",
)


@dataclass(frozen=True, slots=True)
class Entry:
    """What an attempt to enter says of its share."""

    status: str
    code: str
    market: str
    executor: str
    exchange_order_id: str
    filled_quantity: Decimal
    average_price: Decimal | None
    fills_complete: bool


COLUMNS = tuple(Entry.__dataclass_fields__)

_SHARES = FixedQuery(
    lambda: (
        Allocation.objects.select_for_update()
        .filter(AmongGiven("pk", "ids"))
        .order_by("pk")
        .values_list("pk", "decision_id", "quantity", "outcome", "code", "attempts", "filled_quantity")
    )
)
_ENTRIES = FixedQuery(
    lambda: (
        Order.objects.filter(AmongGiven("allocation_id", "ids"), purpose=OrderPurpose.ENTRY)
        .order_by("attempt")
        .values_list("allocation_id", *COLUMNS)
    )
)
_DECIDED = FixedQuery(
    lambda: (
        Decision.objects.filter(AmongGiven("pk", "ids"))
        .order_by()
        .values_list("pk", "mark_price", "signal__side")
    )
)
_UNDECIDED = FixedQuery(
    lambda: (
        Allocation.objects.filter(AmongGiven("decision_id", "ids"), outcome__in=sorted(UNDECIDED))
        .order_by()
        .values_list("decision_id")
        .distinct()
    )
)


def settle_shares(allocation_ids: Iterable[int], now: datetime) -> None:
    """Write the outcome that each share's orders amount to; a later fill corrects an earlier end.

    Whoever settles a share holds its row first and reads its orders then: what somebody read earlier is
    never written over what another found. The number of statements does not grow with the shares.
    """
    wanted = set(allocation_ids)
    if not wanted:
        return
    with transaction.atomic(savepoint=False):
        shares = _SHARES.ask(ids=wanted)
        entries = _entries_of([share[0] for share in shares])
        decisions = _decisions_of({share[1] for share in shares})
        awaiting = _awaiting_offer(entries, now)
        rows: list[tuple[object, ...]] = []
        unordered: list[int] = []
        for pk, decision_id, quantity, *known in shares:
            if not entries[pk]:
                unordered.append(pk)
                continue
            outcome, code = outcome_of(entries[pk], quantity)
            if pk in awaiting:
                outcome, code = AllocationOutcome.PENDING, ""
            filled = filled_of(entries[pk])
            if known == [outcome, code, len(entries[pk]), filled]:
                continue  # every chunk settles its decision: what others settled is not written again
            last, average = entries[pk][-1], _average(entries[pk], filled)
            slippage = _slippage_bps(average, decisions[decision_id])
            rows.append(
                (
                    pk,
                    outcome,
                    code,
                    last.market,
                    last.executor,
                    len(entries[pk]),
                    filled,
                    average,
                    slippage,
                )
            )
        change_rows(Allocation, WRITTEN, rows, same={"updated_at": timezone.now()})
        _expire_unordered(unordered, now)


def settled_decisions(decision_ids: Iterable[int]) -> list[int]:
    """Those of the decisions all of whose shares have their end. Ask after the commit that settled one.

    Asked inside it, the last two chunks of a decision would each find the other's shares undecided.
    """
    wanted = set(decision_ids)
    if not wanted:
        return []
    return sorted(wanted - {pk for (pk,) in _UNDECIDED.ask(ids=wanted)})


def outcome_of(entries: Sequence[Entry], quantity: Decimal | None) -> tuple[AllocationOutcome, str]:
    """The outcome and code that attempts, oldest first, amount to."""
    filled = filled_of(entries)
    last = entries[-1]
    if any(entry.status == OrderStatus.UNKNOWN for entry in entries):
        return AllocationOutcome.UNKNOWN, last.code
    if any(entry.status in OPEN or not entry.fills_complete for entry in entries):
        return AllocationOutcome.PENDING, ""
    if filled:
        whole = quantity is not None and filled >= quantity
        return (AllocationOutcome.FILLED if whole else AllocationOutcome.PARTIAL), ""
    return _unfilled(last)


def filled_of(entries: Sequence[Entry]) -> Decimal:
    """What all attempts filled together."""
    return sum((entry.filled_quantity for entry in entries), Decimal(0))


def _entries_of(allocation_ids: Sequence[int]) -> dict[int, list[Entry]]:
    found: dict[int, list[Entry]] = defaultdict(list)
    for allocation_id, *told in _ENTRIES.ask(ids=allocation_ids):
        found[allocation_id].append(Entry(*told))
    return found


def _decisions_of(decision_ids: Iterable[int]) -> dict[int, tuple[Decimal | None, str | None]]:
    """Mark and side of decisions, by id."""
    return {pk: (mark, side) for pk, mark, side in _DECIDED.ask(ids=set(decision_ids))}


def _awaiting_offer(entries: Mapping[int, Sequence[Entry]], now: datetime) -> set[int]:
    """The shares whose next executor is still to be asked: an end told before would lose them to nobody.

    It would complete the decision, or send a cascade on to its next step beside the secondary.
    """
    attempts = {pk: len(of_share) for pk, of_share in entries.items() if _leaves_share_to_offer(of_share)}
    if not attempts:
        return set()
    going_on = Allocation.objects.filter(
        pk__in=attempts, decision__stopped_code="", decision__deadline_at__gt=now
    )
    return {share.pk for share in going_on if not share.was_offered_after(attempts[share.pk])}


def _leaves_share_to_offer(entries: Sequence[Entry]) -> bool:
    if not entries or any(entry.status in OPEN or entry.filled_quantity > 0 for entry in entries):
        return False
    return fallback.leaves_share_to_offer(OrderStatus(entries[-1].status), entries[-1].code)


def _unfilled(last: Entry) -> tuple[AllocationOutcome, str]:
    if last.status == OrderStatus.REJECTED:
        return AllocationOutcome.REJECTED, last.code
    if last.status == OrderStatus.CANCELLED and not last.exchange_order_id:
        is_denied = last.code in set(DenyCode) - set(SkipCode)
        return (AllocationOutcome.DENIED if is_denied else AllocationOutcome.SKIPPED), last.code
    return AllocationOutcome.EXPIRED, last.code if last.code in set(ExpireCode) else ExpireCode.NO_FILL


def _expire_unordered(allocation_ids: Sequence[int], now: datetime) -> None:
    """Shares that never became an order end at the deadline."""
    if not allocation_ids:
        return
    late = Allocation.objects.filter(
        pk__in=allocation_ids, outcome=AllocationOutcome.PENDING, decision__deadline_at__lt=now
    )
    late.update(outcome=AllocationOutcome.EXPIRED, code=ExpireCode.DEADLINE, updated_at=timezone.now())


def _average(entries: Sequence[Entry], filled: Decimal) -> Decimal | None:
    if not filled:
        return None
    paid = sum(
        (entry.average_price * entry.filled_quantity for entry in entries if entry.average_price is not None),
        Decimal(0),
    )
    return paid / filled


def _slippage_bps(average: Decimal | None, decided: tuple[Decimal | None, str | None]) -> Decimal | None:
    """How much worse than the decision's mark the average was, in basis points; negative is better."""
    mark, side = decided
    if average is None or not mark or side is None:
        return None
    worse = average - mark if side == SignalSide.LONG else mark - average
    return worse / mark * BASIS_POINTS
