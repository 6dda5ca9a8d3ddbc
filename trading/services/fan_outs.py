"""What became of decisions over their accounts: one calculation for API, admin and pages.

One meaning of each figure, everywhere:
- latency counts from the moment the decision was recorded (`Decision.recorded_at`: the market was read, the
  choice made) to the arrival of the exchange's first acknowledgement, in milliseconds of the wall clock. An
  account whose order the exchange refused, or that never had one, has none. `Latency` is over the accounts of
  a decision; median and 99th percentile are nearest ranks, so each is a latency that was measured.
- slippage is by how much the average fill was worse than the decision's mark, in basis points; negative is
  better. `Slippage` is over the accounts that filled something, each counted once.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from django.db.models import Count, F, Max, Prefetch, Q, QuerySet, Sum, Window, prefetch_related_objects
from django.db.models.functions import RowNumber

from trading.domain.states import AllocationOutcome, OrderPurpose
from trading.models import Allocation, Decision, Order

SHOWN_BPS = Decimal("0.01")
WITH_ENTRIES = Prefetch("orders", Order.objects.filter(purpose=OrderPurpose.ENTRY).order_by("attempt", "pk"))
"""What `steps_of` reads of a share."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds from the decision's record to the exchange's acknowledgement, over its accounts."""

    first: int | None = None
    median: int | None = None
    p99: int | None = None
    last: int | None = None


@dataclass(frozen=True, slots=True)
class Slippage:
    """Basis points against the decision's mark over the accounts that filled; positive costs."""

    mean: Decimal | None = None
    worst: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How many accounts ended one way: an outcome with its code, which is empty where there is none."""

    outcome: str
    code: str
    accounts: int

    @property
    def summary(self) -> str:
        """Such as ``2 DENIED: MARGIN``."""
        return f"{self.accounts} {self.outcome}" + (f": {self.code}" if self.code else "")


@dataclass(frozen=True, slots=True)
class FanOut:
    """What became of a decision over its accounts; `endings` with the most frequent first."""

    endings: Sequence[Ending] = ()
    latency: Latency = field(default_factory=Latency)
    slippage: Slippage = field(default_factory=Slippage)

    @property
    def counts(self) -> dict[str, int]:
        """Accounts by outcome."""
        counted: Counter[str] = Counter()
        for ending in self.endings:
            counted[ending.outcome] += ending.accounts
        return dict(sorted(counted.items()))

    @property
    def accounts(self) -> int:
        """How many accounts have a share."""
        return sum(ending.accounts for ending in self.endings)

    @property
    def summary(self) -> str:
        """One line such as ``18 FILLED, 2 DENIED: MARGIN``."""
        return ", ".join(ending.summary for ending in self.endings)


@dataclass(frozen=True, slots=True)
class Step:
    """One executor's part in a share: an attempt with its order, or a refusal without one.

    `executor` and `market` are empty where nobody was left to ask. `status` is the order's, DENIED where the
    gate refused, SKIPPED where a rule did.
    """

    attempt: int
    executor: str
    market: str
    status: str
    code: str
    client_order_id: str | None = None
    numbers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def summary(self) -> str:
        """One line such as ``primary futures REJECTED -2019``."""
        return " ".join(word for word in (self.executor, self.market, self.status, self.code) if word)


def read_fan_outs(decisions: Sequence[Decision]) -> dict[int, FanOut]:
    """The fan-out of each decision by its id, in two queries however many there are."""
    ids = [decision.pk for decision in decisions]
    shares = Allocation.objects.filter(decision__in=ids).order_by()
    groups = shares.values_list("decision_id", "outcome", "code").annotate(
        accounts=Count("pk"),
        priced=Count("slippage_bps"),
        paid=Sum("slippage_bps"),
        worst=Max("slippage_bps"),
    )
    endings: dict[int, list[Ending]] = {pk: [] for pk in ids}
    slips: dict[int, list[tuple[int, Decimal, Decimal]]] = {pk: [] for pk in ids}
    for pk, outcome, code, accounts, priced, paid, worst in groups:
        endings[pk].append(Ending(outcome, code, accounts))
        if paid is not None and worst is not None:
            slips[pk].append((priced, paid, worst))
    latencies = _latencies(shares)
    return {
        pk: FanOut(
            sorted(endings[pk], key=lambda one: (-one.accounts, one.outcome, one.code)),
            latencies.get(pk, Latency()),
            _slippage_of(slips[pk]),
        )
        for pk in ids
    }


def _latencies(shares: QuerySet[Allocation]) -> dict[int, Latency]:
    """The nearest ranks by decision, ranked by the database: a page of decisions has 100,000 shares."""
    answered = shares.filter(latency_ms__isnull=False).annotate(
        rank=Window(RowNumber(), partition_by="decision_id", order_by="latency_ms"),
        of=Window(Count("pk"), partition_by="decision_id"),
    )
    # Of whole numbers (n + 1) / 2 and (99 n + 99) / 100 are the nearest ranks of 50 and 99 %.
    median, p99 = (F("of") + 1) / 2, (F("of") * 99 + 99) / 100
    wanted = answered.filter(Q(rank=1) | Q(rank=F("of")) | Q(rank=median) | Q(rank=p99))
    ranked: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    for pk, rank, of, latency_ms in wanted.values_list("decision_id", "rank", "of", "latency_ms"):
        ranked[pk].append((rank, of, latency_ms or 0))
    return {pk: _latency_at(told) for pk, told in ranked.items()}


def _latency_at(told: Sequence[tuple[int, int, int]]) -> Latency:
    of = told[0][1]
    at = {rank: latency_ms for rank, _, latency_ms in told}
    return Latency(at[1], at[(of + 1) // 2], at[(of * 99 + 99) // 100], at[of])


def read_steps(shares: Sequence[Allocation]) -> dict[int, list[Step]]:
    """The steps of each share by its id, in the order they were taken; one query for all."""
    prefetch_related_objects(shares, WITH_ENTRIES)
    return {share.pk: steps_of(share) for share in shares}


def steps_of(share: Allocation) -> list[Step]:
    """The steps of a share whose orders were read `WITH_ENTRIES`."""
    taken = [_refused(told) for told in share.refusals]
    entries = list(share.orders.all())
    if not entries and share.outcome in {AllocationOutcome.DENIED, AllocationOutcome.SKIPPED}:
        own = Step(1, share.executor, share.market, share.outcome, share.code, numbers=share.detail)
        return [own, *taken]
    # Whoever refused an attempt was asked before the one that made it.
    return sorted([*taken, *map(_attempted, entries)], key=lambda step: step.attempt)


def route_of(decision: Decision) -> str:
    """How a decision went from step to step: ``environment: 3 accounts, house: NO_MARKET``, or its policy."""
    kept: Sequence[Mapping[str, Any]] = decision.inputs.get("route", [])
    if not kept:
        return decision.route_policy
    return ", ".join(
        f"{step['step']}: {step['skipped'] if 'skipped' in step else str(step['accounts']) + ' accounts'}"
        for step in kept
    )


def _attempted(entry: Order) -> Step:
    return Step(entry.attempt, entry.executor, entry.market, entry.status, entry.code, entry.client_order_id)


def _refused(told: Mapping[str, Any]) -> Step:
    status = AllocationOutcome.DENIED if told["executor"] else AllocationOutcome.SKIPPED
    return Step(
        told["attempt"], told["executor"], told["market"], status, told["code"], numbers=told["numbers"]
    )


def _slippage_of(slips: Sequence[tuple[int, Decimal, Decimal]]) -> Slippage:
    if not slips:
        return Slippage()
    accounts = sum(priced for priced, _, _ in slips)
    paid = sum((paid for _, paid, _ in slips), Decimal(0))
    worst = max(worst for _, _, worst in slips)
    return Slippage((paid / accounts).quantize(SHOWN_BPS), worst.quantize(SHOWN_BPS))
