"""Allocation: one share per account of a decision, gated, sized and committed before anything is sent.

`allocate` makes the shares of a decision's first route step, `advance_route` those of the next ones, `offer`
gives a share that certainly was not placed to the next executor or the next attempt. All of them read the
market first, then judge and write in one transaction that holds the accounts' rows: margin, risk and
notional that one decision has reserved are gone for the next.

A decision is locked before accounts and shares, and its key stays free: whoever writes a share twice in one
transaction is checked against it at the commit, shares in hand, and would wait in a ring.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from typing import Any

from django.conf import settings
from django.db import transaction

from accounts.services.among import Among
from accounts.services.entrants import Trader, hold_entrants
from exchange.port import Market, OrderSide
from trading.domain import fallback
from trading.domain.gate import Refusal
from trading.domain.percent import ZERO
from trading.domain.sizing import share_pro_rata
from trading.domain.start_order import start_order
from trading.domain.states import (
    OPEN,
    AllocationOutcome,
    DecisionStatus,
    DenyCode,
    ExpireCode,
    OrderPurpose,
    OrderStatus,
    SkipCode,
)
from trading.models import Allocation, Decision, Order
from trading.services import refusals, routes, waves
from trading.services.assessment import Assessment, assess, resized
from trading.services.bells import Bells
from trading.services.many_rows import insert_rows, new_row
from trading.services.orders import new_entry
from trading.services.scene import Scene, load_scene, market_scene

MONEY = Decimal("0.00000001")


def allocate(decision_id: int, now: datetime) -> Bells:
    """Make the shares of a decision that has none yet; nothing for one that has, or that chose nothing.

    Past its deadline every share expires unasked. Raises ReadFailed when the market table was never read; the
    decision then stays open until then.
    """
    decision = _open_decision(decision_id)
    if decision is None or decision.allocations.exists():
        return Bells()
    return _take_steps(decision, decision.route_step, now)


def advance_route(decision_id: int, now: datetime) -> Bells:
    """Take the next step of a cascade that has filled nothing and left nothing unknown; else nothing."""
    decision = _open_decision(decision_id)
    if decision is None or not routes.may_go_on(decision, now):
        return Bells()
    return _take_steps(decision, decision.route_step + 1, now)


def offer(allocation_ids: Sequence[int], now: datetime) -> Bells:
    """Offer shares that the exchange certainly does not have once more, gated and sized again.

    A refusal that another market may cure goes to the secondary executor, an attempt proven absent to the
    same one under a new client order id. After the deadline, or once the decision was stopped, nothing is.
    """
    bells = Bells()
    chosen = Allocation.objects.filter(pk__in=allocation_ids).values_list("decision_id", "pk")
    by_decision: dict[int, list[int]] = {}
    for decision_id, pk in chosen:
        by_decision.setdefault(decision_id, []).append(pk)
    for decision_id, ids in by_decision.items():
        bells.add(_offer_again(decision_id, ids, now))
    return bells


# ── first offers ─────────────────────────────────────────────────────────────


def _open_decision(decision_id: int) -> Decision | None:
    decision = Decision.objects.select_related("signal__source").filter(pk=decision_id).first()
    if decision is None or decision.status != DecisionStatus.OPEN or decision.signal is None:
        return None
    return None if decision.stopped_code else decision


def _take_steps(decision: Decision, number: int, now: datetime) -> Bells:
    """Take route steps until one has an account to offer to; without any the decision is over."""
    for step in routes.steps_from(decision, number):
        if step.account_ids:
            return _take_step(decision, step, now)
        routes.note_skipped(decision, step)
    if not decision.allocations.exists():
        _complete_empty(decision, now)
    return Bells()


def _take_step(decision: Decision, step: routes.Step, now: datetime) -> Bells:
    if routes.is_late(decision, now):
        return _expire_step(decision, step)
    seen = market_scene(_signal_symbol(decision), now)
    with transaction.atomic():
        locked = Decision.objects.select_for_update(no_key=True).get(pk=decision.pk)
        if locked.stopped_code or _is_taken(decision, step):
            return Bells()  # another worker was here between the look and the lock
        routes.note_taken(locked, step)
        scene = load_scene(decision, seen, hold_entrants(step.account_ids), now)
        return _write(
            scene, _shared(scene, [_first_offer(scene, step, account) for account in scene.accounts])
        )


def _expire_step(decision: Decision, step: routes.Step) -> Bells:
    """Past the deadline nobody is asked and nothing is read: an exchange that is away leaves none open."""
    with transaction.atomic():
        Decision.objects.select_for_update(no_key=True).get(pk=decision.pk)
        if _is_taken(decision, step):
            return Bells()
        routes.note_taken(decision, step)
        outcome, code = AllocationOutcome.EXPIRED, ExpireCode.DEADLINE
        Allocation.objects.bulk_create(
            Allocation(
                decision=decision,
                account_id=account_id,
                outcome=AllocationOutcome.SKIPPED if step.skipped else outcome,
                code=step.skipped or code,
                exit_policy=settings.EXIT_POLICY,
            )
            for account_id in step.account_ids
        )
    return Bells(decisions=[decision.pk])


def _is_taken(decision: Decision, step: routes.Step) -> bool:
    return decision.allocations.filter(Among("account_id", step.account_ids)).exists()


def _first_offer(scene: Scene, step: routes.Step, account: Trader) -> Assessment:
    """The primary executor's answer; the secondary's where it can cure the primary's refusal."""
    if step.skipped:
        return Assessment(account, Market.FUTURES, "", skipped=SkipCode(step.skipped))
    ways = scene.ways(account)
    if not ways:
        return _without_executor(account)
    first = assess(scene, account, ways[0].market, ways[0].executor)
    if first.refusal is None or first.refusal.code not in fallback.CURABLE_DENIALS:
        return first
    others = [assess(scene, account, way.market, way.executor) for way in ways[1:]]
    taker = next((other for other in others if other.is_entry), None)
    return replace(taker, refused_by=(first,)) if taker else replace(first, refused_by=tuple(others))


def _without_executor(account: Trader) -> Assessment:
    refusal = Refusal(DenyCode.ACCOUNT_UNHEALTHY, {"reasons": "no executor is enabled"})
    return Assessment(account, Market.FUTURES, "", refusal=refusal)


def _shared(scene: Scene, assessments: Sequence[Assessment]) -> list[Assessment]:
    """Share what the desk may take in the coin by what each account wants; none is enlarged by it."""
    wanted = {one.account.pk: _notional(one) for one in assessments if one.is_entry}
    if sum(wanted.values(), ZERO) <= scene.desk_room:
        return list(assessments)
    shares = share_pro_rata(wanted, scene.desk_room)
    return [resized(scene, one, shares[one.account.pk]) if one.is_entry else one for one in assessments]


def _notional(assessment: Assessment) -> Decimal:
    return assessment.proposal.sizing.notional if assessment.proposal else ZERO


# ── rows ─────────────────────────────────────────────────────────────────────


def _write(scene: Scene, assessments: Sequence[Assessment]) -> Bells:
    """Commit shares and entries together; whoever is refused has no order."""
    allocations = [_allocation(scene, one) for one in assessments]
    pairs = zip(allocations, assessments, strict=True)
    offered = [(share, one) for share, one in pairs if share.outcome == AllocationOutcome.PENDING]
    starting = start_order(offered, scene.decision.turn)
    if scene.decision.is_staged:
        starting = waves.canaries_first(starting)
    for place, (share, _) in enumerate(starting, 1):
        share.place = place
    insert_rows(Allocation, allocations, known_by="uuid")
    # The order of the rows is the order in which they are rung, claimed and sent.
    entries = [waves.hold(_entry(scene, share, one, attempt=1), share) for share, one in starting]
    insert_rows(Order, entries, known_by="client_order_id")
    refusals.tell(scene.decision, allocations, scene.now)
    bells = Bells(entries=[entry.pk for entry in entries if entry.due_at is None])
    return bells or Bells(decisions=[scene.decision.pk])


def _allocation(scene: Scene, one: Assessment) -> Allocation:
    outcome, code = _outcome(scene, one)
    allocation = new_row(
        Allocation,
        decision_id=scene.decision.pk,
        account_id=one.account.pk,
        outcome=outcome,
        code=code,
        exit_policy=settings.EXIT_POLICY,
        attempts=int(outcome == AllocationOutcome.PENDING),
        refusals=[_refusal(other, attempt=1) for other in one.refused_by],
    )
    _give(allocation, one)
    return allocation


def _outcome(scene: Scene, one: Assessment) -> tuple[AllocationOutcome, str]:
    if one.skipped:
        return AllocationOutcome.SKIPPED, one.code
    if one.refusal:
        return AllocationOutcome.DENIED, one.code
    if routes.is_late(scene.decision, scene.now):
        return AllocationOutcome.EXPIRED, ExpireCode.DEADLINE
    return AllocationOutcome.PENDING, ""


def _give(allocation: Allocation, one: Assessment) -> None:
    """Write on the share which executor has it now, and for what."""
    allocation.market, allocation.executor, allocation.detail = one.market, one.executor, one.detail
    if one.is_entry and one.proposal is not None:
        allocation.quantity = one.proposal.sizing.quantity
        allocation.planned_risk = one.planned_risk.quantize(MONEY)


def _refusal(one: Assessment, *, attempt: int) -> dict[str, Any]:
    """An executor's refusal as the share keeps it beside its outcome."""
    told = {"executor": one.executor, "market": one.market, "code": one.code, "numbers": one.detail}
    return {"attempt": attempt, **told}


def _entry(scene: Scene, allocation: Allocation, one: Assessment, *, attempt: int) -> Order:
    assert one.proposal is not None and one.asked is not None  # noqa: S101, PT018 -- an entry has both
    assert scene.decision.deadline_at is not None  # noqa: S101 -- a decision with a cap has a deadline
    sizing = one.proposal.sizing
    return new_entry(
        allocation,
        market=one.market,
        executor=one.executor,
        symbol=one.asked.instrument.symbol,
        base=one.asked.instrument.base,
        side=OrderSide.BUY if scene.is_long else OrderSide.SELL,
        quantity=sizing.quantity,
        price=one.proposal.cap_price,
        attempt=attempt,
        deadline_at=scene.decision.deadline_at,
        reserved_margin=sizing.margin_required.quantize(MONEY, ROUND_CEILING),
        reserved_risk=max(sizing.loss_at_stop, ZERO).quantize(MONEY, ROUND_CEILING),
        reserved_notional=sizing.notional.quantize(MONEY, ROUND_CEILING),
        is_hedge_mode=one.account.is_hedge_mode,
        trace_id=scene.decision.trace_id,
        now=scene.now,
    )


def _complete_empty(decision: Decision, now: datetime) -> None:
    """Nobody could be offered anything: the decision is over, and its route says why."""
    Decision.objects.filter(pk=decision.pk, status=DecisionStatus.OPEN).update(
        status=DecisionStatus.COMPLETE, completed_at=now
    )


def _signal_symbol(decision: Decision) -> str:
    assert decision.signal is not None  # noqa: S101 -- only decisions with a signal are allocated
    return decision.signal.symbol


# ── further offers ───────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _NextOffer:
    """A share that is offered once more, after its `last` attempt; without a way nobody is left to ask."""

    share: Allocation
    last: Order
    way: routes.Way | None

    @property
    def attempt(self) -> int:
        return self.last.attempt + 1


def _offer_again(decision_id: int, allocation_ids: Sequence[int], now: datetime) -> Bells:
    decision = Decision.objects.select_related("signal__source").get(pk=decision_id)
    if decision.stopped_code or routes.is_late(decision, now):
        return Bells()
    seen = market_scene(_signal_symbol(decision), now)
    with transaction.atomic():
        if Decision.objects.select_for_update(no_key=True).get(pk=decision_id).stopped_code:
            return Bells()  # stopped between the look and the lock
        shares = Allocation.objects.filter(pk__in=allocation_ids)
        # Accounts before shares, as whoever records an answer holds them.
        accounts = hold_entrants(list(shares.values_list("account_id", flat=True)))
        held = shares.select_for_update(of=("self",)).order_by("pk").prefetch_related("orders")
        by_account = {share.account_id: share for share in held}
        scene = load_scene(decision, seen, accounts, now)
        offers = [
            found
            for account in scene.accounts
            if (found := _next_offer(scene, by_account[account.pk], account)) is not None
        ]
        return _write_again(scene, sorted(offers, key=lambda one: one.share.place or 0))


def _next_offer(scene: Scene, share: Allocation, account: Trader) -> _NextOffer | None:
    """Who is asked next; None while anything of it may be at the exchange, was filled, or cannot be cured."""
    entries = sorted(
        (order for order in share.orders.all() if order.purpose == OrderPurpose.ENTRY),
        key=lambda one: one.attempt,
    )
    if not entries or any(entry.status in OPEN or entry.filled_quantity > 0 for entry in entries):
        return None
    last = entries[-1]
    if share.was_offered_after(last.attempt):
        return None
    if not fallback.leaves_share_to_offer(OrderStatus(last.status), last.code):
        return None
    own = routes.Way(Market(last.market), last.executor)
    ways = scene.ways(account)
    left = ways[ways.index(own) :] if own in ways else []
    if last.status == OrderStatus.REJECTED:
        left = left[1:]
    return _NextOffer(share, last, left[0] if left else None)


def _write_again(scene: Scene, offers: Sequence[_NextOffer]) -> Bells:
    accounts = {account.pk: account for account in scene.accounts}
    asked = [(one, one.way) for one in offers if one.way is not None]
    answers = _shared(
        scene,
        [assess(scene, accounts[one.share.account_id], way.market, way.executor) for one, way in asked],
    )
    entries: list[Order] = []
    for (one, _), answer in zip(asked, answers, strict=True):
        if answer.is_entry:
            entries.append(_take_over(scene, one, answer))
        else:
            one.share.refusals = [*one.share.refusals, _refusal(answer, attempt=one.attempt)]
    for one in offers:
        if one.way is None:
            one.share.refusals = [*one.share.refusals, _nobody_left(one)]
    Allocation.objects.bulk_update([one.share for one in offers], _OFFERED_COLUMNS)
    created = Order.objects.bulk_create(entries)
    if not created:
        return Bells(decisions=[scene.decision.pk] if offers else [])
    # Settling may have called the decision complete between the refusal and this offer.
    Decision.objects.filter(pk=scene.decision.pk).update(status=DecisionStatus.OPEN, completed_at=None)
    return Bells(entries=[entry.pk for entry in created])


_OFFERED_COLUMNS = (
    "outcome", "code", "market", "executor", "quantity", "planned_risk", "detail", "refusals", "attempts"
)  # fmt: skip


def _take_over(scene: Scene, one: _NextOffer, answer: Assessment) -> Order:
    """Give the share to the executor that takes it; its order's fence begins above every claim before."""
    share = one.share
    _give(share, answer)
    share.outcome, share.code, share.attempts = AllocationOutcome.PENDING, "", one.attempt
    order = _entry(scene, share, answer, attempt=one.attempt)
    order.fence = one.last.fence + 1
    return order


def _nobody_left(one: _NextOffer) -> dict[str, Any]:
    return {"attempt": one.attempt, "executor": "", "market": "", "code": SkipCode.NO_EXECUTOR, "numbers": {}}
