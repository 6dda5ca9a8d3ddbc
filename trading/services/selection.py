"""Selection: the best open signal becomes a decision, or the reason for none is written down.

`select` is the tick; `request` is an operator's own choice, which skips ranking and cooldown, never the gate.
A signal leads to at most one decision, ever: the rows' unique key decides every race.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Max

from accounts.services.limits import desk_limits
from exchange.port import Market
from trading.domain import dual, quality, selection, sizing
from trading.domain.exit_plan import PlanTerms, distances, reward_risk, round_trip_cost
from trading.domain.gate import funding_payment
from trading.domain.limits import Limits
from trading.domain.percent import ZERO
from trading.domain.states import DecisionStatus
from trading.models import Decision, Signal
from trading.models.signals import SignalAction, SignalStatus
from trading.services import candidates, halts, history, market, routes, signals
from trading.services.exposure import desk_stake
from trading.services.history import Record
from trading.services.market import TAKER_FEES, MarketFigures
from trading.services.terms import plan_terms

MOST_SHOWN = candidates.NEWEST
"""Of those below the shortlist and of those refused: the counts tell of all."""

REQUESTABLE = (SignalStatus.OPEN, SignalStatus.DUPLICATE, SignalStatus.EXPIRED)


class RequestRefused(ValueError):
    """A signal that cannot be executed on request; `code` is stable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


def select(now: datetime) -> list[Decision]:
    """Choose among the open signals when a choice is due; nothing when none is due or nothing is open.

    The decisions of one tick were made at the same `now`; one that chose nothing tells why.
    """
    signals.expire(now)
    signals.continue_actions(now)  # what it leaves due is in the rows, where the sweep finds it
    limits = desk_limits()
    if not _is_due(limits, now) or not candidates.is_anything_waiting():
        return []
    desk = _desk(limits, now)
    refusal = selection.desk_refusal(desk, limits)
    if refusal is not None:
        return [_record_none(refusal, [], {}, now)]
    return _choose(desk, limits, now)


def request(signal: Signal, now: datetime, *, is_staged: bool | None = None) -> Decision:
    """Decide on this signal now; the decision it already led to, when there is one.

    `is_staged` has the canaries go first, or not; None: as the desk is set.
    Raises RequestRefused for a signal that does not open or was cancelled, be it while the market is read,
    and for a staged cascade.
    A mark that cannot be read leaves the decision without a price, and every account is denied STALE_DATA.
    """
    known = Decision.objects.filter(signal=signal).first()
    if known is not None:
        return known
    if signal.action != SignalAction.OPEN:
        raise RequestRefused("ACTION", f"a signal that asks to {signal.action} is not executed")
    if signal.status == SignalStatus.CANCELLED:
        raise _cancelled()
    if is_staged and settings.ROUTE_POLICY == routes.CASCADE:
        raise RequestRefused("STAGED_CASCADE", "a cascade goes by steps of its own and is not staged")
    # The book is read beside the rest: the gate, a moment later, finds it.
    figures = market.figures([signal.symbol], now, with_depth=True)[signal.symbol]
    limits = desk_limits()
    assessed = _quality(signal, figures, history.records(limits.history_days, now), limits)
    shown = [_shown(signal, assessed, selection.Verdict.CHOSEN)]
    decided = _decide(
        signal, figures, assessed, limits, shown, {}, now, is_requested=True, is_staged=is_staged
    )
    decision = decided or Decision.objects.filter(signal=signal).first()
    if decision is None:
        raise _cancelled()
    return decision


def _cancelled() -> RequestRefused:
    return RequestRefused("CANCELLED", "its source has cancelled this signal")


# ── what is open ─────────────────────────────────────────────────────────────


def _is_due(limits: Limits, now: datetime) -> bool:
    chosen = Decision.objects.filter(signal__isnull=False, is_requested=False)
    fruitless = Decision.objects.filter(status=DecisionStatus.NONE)
    return selection.may_select(
        now,
        last_chosen_at=chosen.aggregate(at=Max("decided_at"))["at"],
        last_fruitless_at=fruitless.aggregate(at=Max("decided_at"))["at"],
        limits=limits,
    )


def _desk(limits: Limits, now: datetime) -> selection.Desk:
    """The desk's state from rows: its open risk is that of all active accounts against their equity."""
    risk, equity = desk_stake(routes.active_accounts().filter(mode=settings.MODE), limits)
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    sent = Decision.objects.filter(decided_at__gte=midnight, allocations__orders__isnull=False)
    return selection.Desk(
        is_halted=halts.standing(now).desk_level is not None,
        open_risk=risk / equity if equity > 0 else ZERO,
        trades_today=sent.distinct().count(),
    )


# ── choosing ─────────────────────────────────────────────────────────────────


def _choose(desk: selection.Desk, limits: Limits, now: datetime) -> list[Decision]:
    """Weigh the best candidates and write a decision for each winner, or the reason for none."""
    field = candidates.read_field(limits, now)
    weighed = _weigh(field.fit[: limits.candidates], limits, now)
    choice = selection.choose(
        [one.ranked for one in weighed if one.figures.mark_price],
        limits,
        at_most=selection.most_at_once(desk, limits),
    )
    shown = _shown_of(field, weighed, choice.verdicts)
    if choice.reason is not None:
        return [_record_none(choice.reason, shown, field.counts, now)]
    winners = {_pk(one.candidate) for one in choice.winners}
    decided = [
        _decide(one.signal, one.figures, one.ranked.quality, limits, shown, field.counts, now)
        for one in sorted(weighed, key=lambda one: -one.ranked.quality.value)
        if one.signal.pk in winners
    ]
    return [decision for decision in decided if decision is not None]


@dataclass(frozen=True, slots=True)
class _Weighed:
    """A candidate of the shortlist with what was seen of its market and what that is worth."""

    signal: Signal
    figures: MarketFigures
    ranked: selection.Ranked


def _weigh(short: Sequence[selection.Candidate], limits: Limits, now: datetime) -> list[_Weighed]:
    if not short:
        return []
    signals_of = _signals([_pk(one) for one in short])
    figures = market.figures([one.symbol for one in short], now)
    records = history.records(limits.history_days, now)
    return [
        _Weighed(
            signal,
            figures[one.symbol],
            selection.Ranked(one, _quality(signal, figures[one.symbol], records, limits)),
        )
        for one in short
        if (signal := signals_of.get(_pk(one))) is not None
    ]


def _signals(ids: Sequence[int]) -> dict[int, Signal]:
    return Signal.objects.select_related("source").in_bulk(ids)


def _shown_of(
    field: candidates.Field,
    weighed: Sequence[_Weighed],
    verdicts: Mapping[Any, selection.Verdict],
) -> list[dict[str, Any]]:
    """Every candidate that was weighed, and some of those below and of the refused, each with its verdict."""
    below = [_pk(one) for one in field.fit[len(weighed) : len(weighed) + MOST_SHOWN]]
    refused = field.newest_refused(MOST_SHOWN)
    rows = _signals([*below, *refused]) if below or refused else {}
    return [
        *(
            _shown(one.signal, one.ranked.quality, verdicts.get(one.signal.pk, selection.Verdict.NO_MARK))
            for one in weighed
        ),
        *(_shown(rows[pk], None, selection.Verdict.BELOW_SHORTLIST) for pk in below if pk in rows),
        *(_shown(rows[pk], None, reason) for pk, reason in refused.items() if pk in rows),
    ]


def _quality(
    signal: Signal, figures: MarketFigures, records: Mapping[history.Book, Record], limits: Limits
) -> quality.Quality:
    record = records.get((signal.symbol, signal.is_long), Record())
    return quality.quality(
        score=signal.score * signal.source.weight,
        wins=record.wins,
        decisions=record.closed,
        market_parts=quality.market_parts(
            is_long=signal.is_long,
            ema50=figures.ema50,
            ema200=figures.ema200,
            adx14=figures.adx14,
            range_24h=figures.range_24h,
            quote_volume_24h=figures.quote_volume_24h,
            spread=figures.spread,
        ),
        reward_risk=_reward_risk(signal, figures, limits),
    )


def _reward_risk(signal: Signal, figures: MarketFigures, limits: Limits) -> Decimal | None:
    """RR_net of the plan that would be followed from the mark as it is now; None without a mark."""
    if figures.mark_price is None:
        return None
    taker_fee = TAKER_FEES[Market.FUTURES]
    return reward_risk(
        distances(_terms(signal, figures, limits), figures.mark_price),
        cost=round_trip_cost(taker_fee, limits),
        funding_cost=funding_payment(figures.funding_rate, is_long=signal.is_long),
    )


def _terms(signal: Signal, figures: MarketFigures, limits: Limits) -> PlanTerms:
    return plan_terms(
        market=Market.FUTURES,
        is_long=signal.is_long,
        leverage=Decimal(limits.leverage),
        limits=limits,
        figures=figures,
        signal=signal,
    )


def _pk(candidate: selection.Candidate) -> int:
    return int(candidate.signal_id)


# ── rows ─────────────────────────────────────────────────────────────────────


def _decide(
    signal: Signal,
    figures: MarketFigures,
    assessed: quality.Quality,
    limits: Limits,
    shown: list[dict[str, Any]],
    considered: dict[str, int],
    now: datetime,
    *,
    is_requested: bool = False,
    is_staged: bool | None = None,
) -> Decision | None:
    """Move the signal and write its decision; None when another worker or a cancel was first."""
    mark_at = min(figures.mark_at or now, now)
    possible = routes.possible_markets(signal, figures.mark_price)
    decision = Decision(
        signal=signal,
        status=DecisionStatus.OPEN,
        reason="requested" if is_requested else "",
        is_requested=is_requested,
        candidates=shown,
        considered=considered,
        quality=assessed.value.quantize(Decimal("0.00001")),
        confidence=dual.confidence(possible, signal.score) if possible else None,
        route_policy=settings.ROUTE_POLICY,
        turn=_next_turn(),
        is_staged=settings.STAGED if is_staged is None else is_staged,
        mark_price=figures.mark_price,
        cap_price=cap_price(signal, figures, limits),
        inputs=figures.as_inputs(now),
        decided_at=now,
        deadline_at=mark_at + timedelta(seconds=limits.deadline_seconds),
        trace_id=signal.trace_id,
    )
    try:
        with transaction.atomic():
            decidable = Signal.objects.filter(
                pk=signal.pk, status__in=REQUESTABLE if is_requested else [SignalStatus.OPEN]
            )
            if not decidable.update(status=SignalStatus.DECIDED):
                return None
            decision.save()
    except IntegrityError:
        return None
    return decision


def _next_turn() -> int:
    """One more than the last choice's. Two chosen at once may share it: their start orders are then alike."""
    chosen = Decision.objects.filter(turn__gt=0).order_by("-pk")
    return (chosen.values_list("turn", flat=True).first() or 0) + 1


def cap_price(signal: Signal, figures: MarketFigures, limits: Limits) -> Decimal | None:
    """The worst entry any account may pay, on the perpetual's ticks; None without a mark."""
    if figures.mark_price is None:
        return None
    return sizing.entry_cap(
        mark_price=figures.mark_price,
        stop_distance=distances(_terms(signal, figures, limits), figures.mark_price).stop,
        is_long=signal.is_long,
        tick=market.instruments(Market.FUTURES)[signal.symbol].tick,
        limits=limits,
    )


def _record_none(
    reason: str, shown: list[dict[str, Any]], considered: dict[str, int], now: datetime
) -> Decision:
    return Decision.objects.create(
        status=DecisionStatus.NONE,
        reason=reason,
        candidates=shown,
        considered=considered,
        route_policy=settings.ROUTE_POLICY,
        decided_at=now,
        completed_at=now,
    )


def _shown(
    signal: Signal,
    assessed: quality.Quality | None,
    verdict: selection.Verdict | selection.NotCandidate,
) -> dict[str, Any]:
    """A candidate as the decision keeps it: parts as text, what was missing by name, why it won or lost."""
    kept: dict[str, Any] = {
        "signal": str(signal.uuid),
        "symbol": signal.symbol,
        "side": signal.side,
        "score": str(signal.score),
        "source": signal.source.name,
        "weight": f"{signal.source.weight:f}",
        "verdict": str(verdict),
    }
    if assessed is not None:
        kept["quality"] = f"{assessed.value:.5f}"
        kept["parts"] = {name: _text(part) for name, part in assessed.parts.items()}
        kept["market_parts"] = {name: _text(part) for name, part in assessed.market_parts.items()}
        kept["missing"] = list(assessed.missing)
    return kept


def _text(part: Decimal | None) -> str | None:
    return None if part is None else f"{part:.5f}"
