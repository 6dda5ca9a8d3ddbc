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

from accounts.models import Account, Executor, Health
from accounts.services.limits import effective_limits_of
from exchange.port import Market
from trading.domain import dual, quality, selection, sizing
from trading.domain.exit_plan import PlanTerms, distances, reward_risk, round_trip_cost
from trading.domain.gate import funding_payment
from trading.domain.percent import ZERO
from trading.domain.states import OPEN, DecisionStatus, OrderPurpose, PositionStatus
from trading.models import Decision, Order, Position, Signal
from trading.models.signals import SignalAction, SignalStatus
from trading.services import halts, history, market, routes, signals
from trading.services.exposure import exposures
from trading.services.history import Record
from trading.services.market import TAKER_FEES, MarketFigures
from trading.services.terms import plan_terms

MOST_REFUSED_SHOWN = 20
NO_MARK = "NO_MARK"
REQUESTABLE = (SignalStatus.OPEN, SignalStatus.DUPLICATE, SignalStatus.EXPIRED)


class RequestRefused(ValueError):
    """A signal that cannot be executed on request; `code` is stable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


def select(now: datetime) -> Decision | None:
    """Choose among the open signals when a choice is due; None when none is due or nothing is open."""
    signals.expire(now)
    signals.continue_actions(now)  # what it leaves due is in the rows, where the sweep finds it
    if not _is_due(now):
        return None
    waiting = _waiting()
    if not waiting:
        return None
    refusal = selection.desk_refusal(_desk(now), settings.LIMITS)
    if refusal is not None:
        return _record_none(refusal, [], now)
    return _choose(waiting, now)


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
    figures = market.figures([signal.symbol], now)[signal.symbol]
    assessed = _quality(signal, figures, history.records(settings.LIMITS.history_days, now))
    shown = [_shown(signal, assessed)]
    decided = _decide(signal, figures, assessed, shown, now, is_requested=True, is_staged=is_staged)
    decision = decided or Decision.objects.filter(signal=signal).first()
    if decision is None:
        raise _cancelled()
    return decision


def _cancelled() -> RequestRefused:
    return RequestRefused("CANCELLED", "its source has cancelled this signal")


# ── what is open ─────────────────────────────────────────────────────────────


def _is_due(now: datetime) -> bool:
    chosen = Decision.objects.filter(signal__isnull=False, is_requested=False)
    fruitless = Decision.objects.filter(status=DecisionStatus.NONE)
    return selection.may_select(
        now,
        last_chosen_at=chosen.aggregate(at=Max("decided_at"))["at"],
        last_fruitless_at=fruitless.aggregate(at=Max("decided_at"))["at"],
        limits=settings.LIMITS,
    )


def _waiting() -> list[Signal]:
    waiting = Signal.objects.filter(
        status=SignalStatus.OPEN, action=SignalAction.OPEN, source__is_active=True, decision__isnull=True
    )
    return list(waiting.select_related("source").order_by("pk"))


def _desk(now: datetime) -> selection.Desk:
    """The desk's state from rows: its open risk is that of all active accounts against their equity."""
    accounts = list(routes.active_accounts().filter(mode=settings.MODE))
    limits = {pk: found.limits for pk, found in effective_limits_of(accounts).items()}
    usable = [account for account in accounts if account.pk in limits]
    found = exposures(usable, limits, {}, now).values()
    equity = sum((wallet.equity for one in found for wallet in one.wallets.values()), ZERO)
    risk = sum((one.risk() for one in found), ZERO)
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    sent = Decision.objects.filter(decided_at__gte=midnight, allocations__orders__isnull=False)
    return selection.Desk(
        is_halted=halts.standing(now).desk_level is not None,
        open_risk=risk / equity if equity > 0 else ZERO,
        trades_today=sent.distinct().count(),
    )


@dataclass(frozen=True, slots=True)
class _Reach:
    """Which active accounts could take a side of a coin; one that holds or awaits the coin could not."""

    futures: frozenset[int]
    spot: frozenset[int]
    taken: Mapping[str, frozenset[int]]

    def has_account(self, *, base: str, is_long: bool) -> bool:
        able = self.futures | self.spot if is_long else self.futures
        return bool(able - self.taken.get(base, frozenset()))


def _reach() -> _Reach:
    fit = Account.objects.filter(
        is_enabled=True, archived_at__isnull=True, mode=settings.MODE, health=Health.HEALTHY
    )
    executors = Executor.objects.filter(is_enabled=True, account__in=fit).values_list("account_id", "market")
    held = Position.objects.filter(status=PositionStatus.OPEN).values_list("base", "account_id")
    entering = Order.objects.filter(purpose=OrderPurpose.ENTRY, status__in=sorted(OPEN))
    taken: dict[str, set[int]] = {}
    for base, account_id in [*held, *entering.values_list("base", "account_id")]:
        taken.setdefault(base, set()).add(account_id)
    return _Reach(
        futures=frozenset(pk for pk, on in executors if on == Market.FUTURES),
        spot=frozenset(pk for pk, on in executors if on == Market.SPOT),
        taken={base: frozenset(ids) for base, ids in taken.items()},
    )


# ── choosing ─────────────────────────────────────────────────────────────────


def _choose(waiting: Sequence[Signal], now: datetime) -> Decision | None:
    by_id = {signal.pk: signal for signal in waiting}
    candidates = _candidates(waiting, now)
    shown = _refused(by_id, candidates, now)
    short = selection.shortlist(candidates, now, settings.LIMITS)
    figures = market.figures([by_id[_pk(one)].symbol for one in short], now) if short else {}
    records = history.records(settings.LIMITS.history_days, now)
    ranked: list[selection.Ranked] = []
    for one in short:
        signal = by_id[_pk(one)]
        seen = figures[signal.symbol]
        assessed = _quality(signal, seen, records)
        shown.append(_shown(signal, assessed, "" if seen.mark_price else NO_MARK))
        if seen.mark_price:
            ranked.append(selection.Ranked(one, assessed))
    choice = selection.choose(ranked, settings.LIMITS)
    if choice.winner is None:
        return _record_none(choice.reason or selection.NoneReason.NO_CANDIDATES, shown, now)
    winner = by_id[_pk(choice.winner.candidate)]
    return _decide(winner, figures[winner.symbol], choice.winner.quality, shown, now)


def _candidates(waiting: Sequence[Signal], now: datetime) -> list[selection.Candidate]:
    decided_at, reach = _decided_at(now), _reach()
    listed = market.instruments(Market.FUTURES)
    return [
        selection.Candidate(
            signal_id=signal.pk,
            symbol=signal.symbol,
            is_long=signal.is_long,
            score=signal.score,
            created_at=signal.created_at,
            expires_at=signal.expires_at,
            last_decided_at=decided_at.get((signal.symbol, signal.side)),
            has_account=signal.symbol in listed
            and reach.has_account(base=listed[signal.symbol].base, is_long=signal.is_long),
        )
        for signal in waiting
    ]


def _decided_at(now: datetime) -> dict[tuple[str, str], datetime]:
    since = now - timedelta(seconds=settings.LIMITS.duplicate_seconds)
    recent = Decision.objects.filter(signal__isnull=False, decided_at__gte=since).order_by("decided_at")
    rows = recent.values_list("signal__symbol", "signal__side", "decided_at")
    return {(symbol, side): at for symbol, side, at in rows}


def _refused(
    by_id: Mapping[int, Signal], candidates: Sequence[selection.Candidate], now: datetime
) -> list[dict[str, Any]]:
    """Name what is no candidate and why; a duplicate is marked for good, so that it is counted once."""
    reasons = {_pk(one): why for one in candidates if (why := selection.why_not(one, now, settings.LIMITS))}
    duplicates = [pk for pk, why in reasons.items() if why == selection.NotCandidate.DUPLICATE]
    Signal.objects.filter(pk__in=duplicates, status=SignalStatus.OPEN).update(
        status=SignalStatus.DUPLICATE, note="same symbol and side as a decision just made"
    )
    newest = sorted(reasons, reverse=True)[:MOST_REFUSED_SHOWN]
    return [_shown(by_id[pk], None, reasons[pk]) for pk in newest]


def _quality(
    signal: Signal, figures: MarketFigures, records: Mapping[history.Book, Record]
) -> quality.Quality:
    record = records.get((signal.symbol, signal.is_long), Record())
    return quality.quality(
        score=signal.score,
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
        reward_risk=_reward_risk(signal, figures),
    )


def _reward_risk(signal: Signal, figures: MarketFigures) -> Decimal | None:
    """RR_net of the plan that would be followed from the mark as it is now; None without a mark."""
    if figures.mark_price is None:
        return None
    limits, taker_fee = settings.LIMITS, TAKER_FEES[Market.FUTURES]
    return reward_risk(
        distances(_terms(signal, figures), figures.mark_price),
        cost=round_trip_cost(taker_fee, limits),
        funding_cost=funding_payment(figures.funding_rate, is_long=signal.is_long),
    )


def _terms(signal: Signal, figures: MarketFigures) -> PlanTerms:
    return plan_terms(
        market=Market.FUTURES,
        is_long=signal.is_long,
        leverage=Decimal(settings.LIMITS.leverage),
        limits=settings.LIMITS,
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
    shown: list[dict[str, Any]],
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
        quality=assessed.value.quantize(Decimal("0.00001")),
        confidence=dual.confidence(possible, signal.score) if possible else None,
        route_policy=settings.ROUTE_POLICY,
        turn=_next_turn(),
        is_staged=settings.STAGED if is_staged is None else is_staged,
        mark_price=figures.mark_price,
        cap_price=_cap_price(signal, figures),
        inputs=figures.as_inputs(now),
        decided_at=now,
        deadline_at=mark_at + timedelta(seconds=settings.LIMITS.deadline_seconds),
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


def _cap_price(signal: Signal, figures: MarketFigures) -> Decimal | None:
    """The worst entry any account may pay, on the perpetual's ticks; None without a mark."""
    if figures.mark_price is None:
        return None
    return sizing.entry_cap(
        mark_price=figures.mark_price,
        stop_distance=distances(_terms(signal, figures), figures.mark_price).stop,
        is_long=signal.is_long,
        tick=market.instruments(Market.FUTURES)[signal.symbol].tick,
        limits=settings.LIMITS,
    )


def _record_none(reason: str, shown: list[dict[str, Any]], now: datetime) -> Decision:
    return Decision.objects.create(
        status=DecisionStatus.NONE,
        reason=reason,
        candidates=shown,
        route_policy=settings.ROUTE_POLICY,
        decided_at=now,
        completed_at=now,
    )


def _shown(signal: Signal, assessed: quality.Quality | None, reason: str = "") -> dict[str, Any]:
    """A candidate as the decision keeps it: parts as text, what was missing by name, why it is none."""
    kept: dict[str, Any] = {
        "signal": str(signal.uuid),
        "symbol": signal.symbol,
        "side": signal.side,
        "score": str(signal.score),
        "source": signal.source.name,
    }
    if assessed is not None:
        kept["quality"] = f"{assessed.value:.5f}"
        kept["parts"] = {name: _text(part) for name, part in assessed.parts.items()}
        kept["market_parts"] = {name: _text(part) for name, part in assessed.market_parts.items()}
        kept["missing"] = list(assessed.missing)
    return kept | ({"reason": str(reason)} if reason else {})


def _text(part: Decimal | None) -> str | None:
    return None if part is None else f"{part:.5f}"
