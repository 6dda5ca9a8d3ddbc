"""What a decision's allocations are judged by: the market, read over the network, then the accounts' rows.

The market is read before any transaction; the rows are loaded inside one, in a number of queries that does
not grow with the accounts.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from django.conf import settings
from django.db.models import BigIntegerField, CharField

from accounts.models import Health, SymbolSetting
from accounts.services import breakers
from accounts.services.entrants import Trader
from accounts.services.fixed_queries import AmongGiven, FixedQuery, Given
from accounts.services.limits import desk_and_effective_limits_of
from exchange.clock import TOO_FAR_MS
from exchange.errors import ReadFailed
from exchange.port import Market
from trading.domain.exit_plan import Distances, PlanTerms, distances
from trading.domain.gate import MarketState, SignalTerms
from trading.domain.instrument import Instrument, ceil_to, floor_to, round_stop
from trading.domain.limits import Limits, SizingModel
from trading.domain.percent import ZERO, price_at
from trading.domain.sizing import Kelly, desk_ceiling
from trading.domain.states import OPEN, DenyCode, OrderPurpose, PositionStatus
from trading.models import Decision, Order, Position, Signal
from trading.services import halts, history, hours, market, protections, routes
from trading.services.exposure import Exposure, exposures
from trading.services.market import MarketFigures
from trading.services.routes import Way
from trading.services.terms import plan_terms


@dataclass(frozen=True, slots=True)
class MarketScene:
    """One symbol's market now, the markets it is listed on, and what is needed to weigh everything held.

    `correlations` of it and `mark_prices` are by the symbols that positions and entries in flight have.
    """

    figures: MarketFigures
    instruments: Mapping[Market, Instrument]
    mark_prices: Mapping[str, Decimal] = field(default_factory=dict)
    correlations: Mapping[str, Decimal | None] = field(default_factory=dict)

    @property
    def base(self) -> str:
        """The base asset; its twin on the other market is the same coin."""
        return next(iter(self.instruments.values())).base


class ReadBack(NamedTuple):
    """A symbol's settings on one account as the exchange last told them."""

    leverage: int
    is_isolated: bool


class AtCap(NamedTuple):
    """An entry at the decision's cap on one market: the worst price it pays, and its stop and plan there."""

    cap_price: Decimal
    stop_price: Decimal
    distances: Distances


@dataclass(slots=True)
class Scene:
    """The market and the accounts of one decision at one moment; what is alike for all is worked out once."""

    decision: Decision
    now: datetime
    market: MarketScene
    accounts: Sequence[Trader]
    own_ways: Mapping[int, Sequence[Way]]
    limits: Mapping[int, Limits]
    contradicting: frozenset[int]
    settings_read: Mapping[int, ReadBack]
    exposures: Mapping[int, Exposure]
    broken: frozenset[int]
    halts: halts.HaltBoard
    vetoes: Mapping[int, str]
    last_acted_at: datetime | None
    kelly: Kelly | None
    desk_room: Decimal
    signal: Signal
    is_long: bool
    signal_terms: SignalTerms
    market_state: MarketState
    gate_off: frozenset[DenyCode]
    mode: str
    _at_cap: dict[tuple[Market, Decimal, int], AtCap] = field(default_factory=dict)

    def ways(self, account: Trader) -> Sequence[Way]:
        """The ways to ask an account, the first before the second."""
        return routes.ways(self.decision, account, self.own_ways[account.pk])

    def is_long_only(self, account: Trader) -> bool:
        """Whether no executor of the account can be short."""
        return all(way.market == Market.SPOT for way in self.own_ways[account.pk])

    def halted_by(self, account: Trader) -> str:
        """Names the first halt or protection that reaches the account and symbol; empty when none does."""
        for halt in self.halts.halts:
            if any(halts.covers(halt, account, one.symbol) for one in self.market.instruments.values()):
                return str(halt)
        return self.vetoes.get(account.pk, "")

    def at_cap(self, instrument: Instrument, on: Market, leverage: Decimal, limits: Limits) -> AtCap:
        """The entry at the cap as the plan would place it; equal accounts share one computation."""
        key = (on, leverage, id(limits))
        if key not in self._at_cap:
            self._at_cap[key] = self._entry_at_cap(instrument, self._terms(on, leverage, limits))
        return self._at_cap[key]

    def _entry_at_cap(self, instrument: Instrument, terms: PlanTerms) -> AtCap:
        # On this market's ticks, and never worse than the decision's: no account pays more than another.
        decided, tick, is_long = self.decision.cap_price or ZERO, instrument.tick, self.is_long
        cap_price = floor_to(decided, tick) if is_long else ceil_to(decided, tick)
        found = distances(terms, decided)
        stop_price = price_at(is_long=is_long, entry_price=cap_price, move=-found.stop)
        return AtCap(cap_price, round_stop(stop_price, tick, is_long=is_long), found)

    def _terms(self, on: Market, leverage: Decimal, limits: Limits) -> PlanTerms:
        return plan_terms(
            market=on,
            is_long=self.is_long,
            leverage=leverage,
            limits=limits,
            figures=self.market.figures,
            signal=self.signal,
        )


def market_scene(symbol: str, now: datetime) -> MarketScene:
    """Read the market around one perpetual symbol. What does not answer stays None and the gate refuses it.

    Raises ReadFailed when the market table was never read.
    """
    held = _held_symbols()
    perpetuals = {
        own: perpetual for own in held if (perpetual := market.symbol_on(own, Market.FUTURES)) is not None
    }
    figures = market.figures([symbol], now, with_depth=True)[symbol]
    return MarketScene(
        figures=figures,
        instruments=listed_instruments(symbol),
        mark_prices=_mark_prices(perpetuals, now),
        correlations=_correlations(symbol, perpetuals, now),
    )


def listed_instruments(symbol: str) -> dict[Market, Instrument]:
    """The markets a perpetual symbol's coin is listed on, futures and its spot twin."""
    found: dict[Market, Instrument] = {}
    for on in Market:
        own = market.symbol_on(symbol, on)
        if own is not None:
            found[on] = market.instruments(on)[own]
    return found


def load_scene(decision: Decision, seen: MarketScene, accounts: Sequence[Trader], now: datetime) -> Scene:
    """Load the accounts' rows; call it inside the transaction that writes what follows from them."""
    ids = [account.pk for account in accounts]
    of_desk, effective = desk_and_effective_limits_of(accounts)
    desk, contradicting = of_desk.limits, frozenset(ids) - effective.keys()
    limits: dict[int, Limits] = dict.fromkeys(contradicting, desk)
    limits |= {pk: found.limits for pk, found in effective.items()}
    own_ways = routes.own_ways(ids)
    symbol, signal, last_acted_at = seen.figures.symbol, _signal_of(decision), _last_acted_at(decision)
    return Scene(
        decision=decision,
        now=now,
        market=seen,
        accounts=accounts,
        own_ways=own_ways,
        limits=limits,
        contradicting=contradicting,
        settings_read=_settings_read(ids, symbol),
        exposures=exposures(accounts, limits, seen.mark_prices, now, own_ways),
        broken=breakers.open_accounts(ids, symbol, now),
        halts=halts.standing(now),
        vetoes=protections.vetoes(accounts, symbol, now),
        last_acted_at=last_acted_at,
        kelly=_kelly(limits, desk, now),
        desk_room=_desk_room(seen, desk),
        signal=signal,
        is_long=signal.is_long,
        signal_terms=_signal_terms(signal, last_acted_at),
        market_state=_market_state(seen.figures, now),
        gate_off=settings.GATE_OFF,
        mode=settings.MODE,
    )


def _signal_of(decision: Decision) -> Signal:
    if decision.signal is None:
        raise ValueError(f"decision {decision.pk} chose nothing")
    return decision.signal


def _signal_terms(signal: Signal, last_acted_at: datetime | None) -> SignalTerms:
    return SignalTerms(
        stop_price=signal.stop_price or ZERO,
        take_profit_price=signal.take_profit_price or ZERO,
        entry_price=signal.entry_price,
        expires_at=signal.expires_at,
        last_acted_at=last_acted_at,
    )


def _market_state(figures: MarketFigures, now: datetime) -> MarketState:
    """The market of the decision: its mark is the decision's own, as old as it is now."""
    return MarketState(
        mark_price=figures.mark_price,
        mark_age_seconds=(now - figures.mark_at).total_seconds() if figures.mark_at else None,
        spread=figures.spread,
        range_24h=figures.range_24h,
        ema200=figures.ema200,
        funding_rate=figures.funding_rate,
        next_funding_at=figures.next_funding_at,
        quote_volume_24h=figures.quote_volume_24h,
        depth_notional=figures.depth_notional,
    )


def unhealthy_reasons(scene: Scene, account: Trader) -> Iterator[str]:
    """Every reason the account may open nothing, whatever the market says."""
    pk = account.pk
    if account.archived_at is not None:
        yield "archived"
    if not account.is_enabled:
        yield "paused"
    if account.mode != scene.mode:
        yield f"mode {account.mode}"
    if account.health != Health.HEALTHY:
        yield f"health {account.health} {account.health_code}".strip()
    if account.is_multi_assets:
        yield "multi-assets margin"
    if abs(account.clock_offset_ms) > TOO_FAR_MS:
        yield f"clock {account.clock_offset_ms} ms away"
    if pk in scene.contradicting:
        yield "limits contradict"
    if pk in scene.broken:
        yield "circuit open"


# ── reading ──────────────────────────────────────────────────────────────────


def _held_symbols() -> set[str]:
    held = Position.objects.filter(status=PositionStatus.OPEN).order_by().values_list("symbol", flat=True)
    in_flight = Order.objects.filter(purpose=OrderPurpose.ENTRY, status__in=sorted(OPEN)).order_by()
    return {*held.distinct(), *in_flight.values_list("symbol", flat=True).distinct()}


def _mark_prices(perpetuals: Mapping[str, str], now: datetime) -> dict[str, Decimal]:
    try:
        seen = market.marks(set(perpetuals.values()), now) if perpetuals else {}
    except ReadFailed:
        return {}
    return {own: seen[perpetual].mark_price for own, perpetual in perpetuals.items() if perpetual in seen}


def _correlations(symbol: str, perpetuals: Mapping[str, str], now: datetime) -> dict[str, Decimal | None]:
    found = hours.correlations(symbol, set(perpetuals.values()), now)
    return {own: found.get(perpetual) for own, perpetual in perpetuals.items()}


# ── rows ─────────────────────────────────────────────────────────────────────

_SETTINGS = FixedQuery(
    lambda: (
        SymbolSetting.objects.filter(AmongGiven("account_id", "ids"), symbol=Given("symbol", CharField()))
        .order_by()
        .values_list("account_id", "leverage", "is_isolated")
    )
)
_ACTED = FixedQuery(
    lambda: (
        Decision.objects.filter(
            signal__symbol=Given("symbol", CharField()),
            signal__side=Given("side", CharField()),
            allocations__orders__isnull=False,
        )
        .exclude(pk=Given("but", BigIntegerField()))
        .order_by("-decided_at")
        .values_list("decided_at")[:1]
    )
)
_HELD = FixedQuery(
    lambda: (
        Position.objects.filter(status=PositionStatus.OPEN, base=Given("base", CharField()))
        .order_by()
        .values_list("quantity", "entry_price")
    )
)
_IN_FLIGHT = FixedQuery(
    lambda: (
        Order.objects.filter(
            purpose=OrderPurpose.ENTRY, status__in=sorted(OPEN), base=Given("base", CharField())
        )
        .order_by()
        .values_list("reserved_notional")
    )
)


def _settings_read(account_ids: Sequence[int], symbol: str) -> dict[int, ReadBack]:
    told = _SETTINGS.ask(ids=account_ids, symbol=symbol)
    return {account_id: ReadBack(leverage, is_isolated) for account_id, leverage, is_isolated in told}


def _last_acted_at(decision: Decision) -> datetime | None:
    """When the last other decision on this symbol and side that sent an order was made."""
    if decision.signal is None:
        return None
    signal = decision.signal
    found = _ACTED.ask(symbol=signal.symbol, side=signal.side, but=decision.pk or 0)
    return found[0][0] if found else None


def _kelly(limits: Mapping[int, Limits], desk: Limits, now: datetime) -> Kelly | None:
    """What closed decisions earned, read only where somebody is sized by it."""
    is_asked = any(one.sizing_model is SizingModel.CAPPED_KELLY for one in limits.values())
    return history.kelly(desk.history_days, now) if is_asked else None


def _desk_room(seen: MarketScene, limits: Limits) -> Decimal:
    """What the desk may still take of this coin: the ceiling less everything held and on its way."""
    ceiling = desk_ceiling(
        limits,
        quote_volume_24h=seen.figures.quote_volume_24h,
        depth_notional=seen.figures.depth_notional,
    )
    taken = sum((quantity * entry for quantity, entry in _HELD.ask(base=seen.base)), ZERO)
    claimed = sum((notional for (notional,) in _IN_FLIGHT.ask(base=seen.base)), ZERO)
    return max(ZERO, ceiling - taken - claimed)
