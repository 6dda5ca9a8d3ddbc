"""The pre-trade gate: the first reason not to open, per account and executor, fail closed (section 3).

`BEFORE_SIZING` and `AFTER_SIZING` are one table, cut where the quantity becomes known; together they ask in
the order of `DenyCode`. Promises:
1. A figure that is missing refuses; it never passes for lack of an answer.
2. A refusal carries the numbers it was made of, as text, for the row and the page.
3. Every rule works with the stop that the account's exit policy will place, never with another.
Money is quote units, ratios are fractions.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from trading.domain.exit_plan import Distances, reward_risk, round_trip_cost
from trading.domain.instrument import Instrument, Market
from trading.domain.limits import Limits
from trading.domain.percent import ONE, ZERO, equity, price_move, sign
from trading.domain.sizing import Sizing
from trading.domain.states import DenyCode
from trading.domain.values import value

Detail = dict[str, str]


@value
class Refusal:
    """Why an allocation is denied, with the numbers behind it."""

    code: DenyCode
    detail: Mapping[str, str]


@value
class Stake:
    """A position or an entry in flight; `risk` is its loss at the stop with costs, never below 0."""

    symbol: str
    base: str
    is_long: bool
    notional: Decimal
    risk: Decimal


@dataclass(frozen=True, slots=True)
class SignalTerms:
    """What the signal said, and when one like it was last acted on.

    `last_acted_at` is the last decision on the same symbol and side that sent an order; None without one.
    """

    stop_price: Decimal
    take_profit_price: Decimal
    entry_price: Decimal | None = None
    expires_at: datetime | None = None
    last_acted_at: datetime | None = None


@value
class AccountState:
    """What is known of the account and of this executor's wallet.

    `halted_by` names the halt that reaches it ("" for none), `unhealthy` every reason it may not open.
    `picture_age_seconds` is None when it was never read. `available` lacks what orders in flight claim.
    `leverage` and `margin_mode` are as read back, `asked_*` as the operator set them; leverage is 1 on spot.
    `day_profit` is that of all its markets, `day_baseline` the futures money at midnight; None where today's
    was not seen.
    """

    wallet: Decimal
    unrealized: Decimal
    available: Decimal
    day_profit: Decimal | None
    day_baseline: Decimal | None
    leverage: Decimal | None
    asked_leverage: Decimal
    margin_mode: str | None = "isolated"
    asked_margin_mode: str = "isolated"
    trades_today: int = 0
    picture_age_seconds: float | None = None
    is_stream_alive: bool = False
    is_long_only: bool = False
    halted_by: str = ""
    unhealthy: tuple[str, ...] = ()

    @property
    def equity(self) -> Decimal:
        """Wallet and open profit together."""
        return equity(wallet=self.wallet, unrealized=self.unrealized)


@dataclass(frozen=True, slots=True)
class MarketState:
    """The figures of the market now; None is a figure that could not be read.

    `quote_volume_24h` and `depth_notional` say what the desk may take of the coin, in quote units.
    """

    mark_price: Decimal | None
    mark_age_seconds: float | None
    spread: Decimal | None
    range_24h: Decimal | None
    ema200: Decimal | None
    funding_rate: Decimal | None
    next_funding_at: datetime | None
    quote_volume_24h: Decimal | None
    depth_notional: Decimal | None


@value
class Book:
    """What the account holds and has on its way; foreign positions count in `open_bases`.

    `correlations` is Pearson's r of hourly log returns of the candidate with each symbol held; None or absent
    (too few common hours) counts as 1.
    """

    held: tuple[Stake, ...] = ()
    in_flight: tuple[Stake, ...] = ()
    unknown_bases: frozenset[str] = frozenset()
    pending_bases: frozenset[str] = frozenset()
    open_bases: frozenset[str] = frozenset()
    correlations: Mapping[str, Decimal | None] = field(default_factory=dict)

    @property
    def stakes(self) -> tuple[Stake, ...]:
        """Everything that is or may become a position."""
        return self.held + self.in_flight


@value
class Proposal:
    """The entry as it would be sent: its cap, the plan's stop and distances there, and its size."""

    cap_price: Decimal
    stop_price: Decimal
    distances: Distances
    sizing: Sizing
    taker_fee: Decimal


@dataclass(frozen=True, slots=True)
class GateInput:
    """One account, one executor, one candidate, before a quantity is known."""

    now: datetime
    limits: Limits
    is_long: bool
    instrument: Instrument
    signal: SignalTerms
    account: AccountState
    market: MarketState
    book: Book = field(default_factory=Book)
    gate_off: frozenset[DenyCode] = frozenset()


Rule = Callable[[GateInput], Detail | None]
SizedRule = Callable[[GateInput, Proposal], Detail | None]


def refusal_before_sizing(asked: GateInput) -> Refusal | None:
    """Return the first refusal of the rules that need no quantity: HALTED to DAILY_TRADES."""
    off = asked.gate_off
    for code, rule in BEFORE_SIZING:
        if code not in off and (detail := rule(asked)) is not None:
            return Refusal(code, detail)
    return None


def refusal_after_sizing(asked: GateInput, proposal: Proposal) -> Refusal | None:
    """Return the first refusal of the rules that weigh the sized entry: DAILY_LOSS to MARGIN."""
    off = asked.gate_off
    for code, rule in AFTER_SIZING:
        if code not in off and (detail := rule(asked, proposal)) is not None:
            return Refusal(code, detail)
    return None


@dataclass(frozen=True, slots=True)
class Answer:
    """One rule's answer: the numbers it refuses by, None where it lets the entry pass; or that it is off."""

    code: DenyCode
    detail: Mapping[str, str] | None
    is_off: bool = False

    @property
    def refuses(self) -> bool:
        """Whether it stands against the entry."""
        return self.detail is not None and not self.is_off


def every_answer(asked: GateInput, proposal: Proposal | None) -> list[Answer]:
    """Return what every rule says, in their order; without a proposal only of those that need no quantity."""
    off = asked.gate_off
    found = [Answer(code, rule(asked), code in off) for code, rule in BEFORE_SIZING]
    if proposal is None:
        return found
    return found + [Answer(code, rule(asked, proposal), code in off) for code, rule in AFTER_SIZING]


def _numbers(**numbers: object) -> Detail:
    """Numbers as text; a Decimal never with an exponent."""
    return {
        name: f"{number:f}" if isinstance(number, Decimal) else str(number)
        for name, number in numbers.items()
    }


def _missing(name: str) -> Detail:
    return {"missing": name}


# ── before sizing ────────────────────────────────────────────────────────────


def _halted(asked: GateInput) -> Detail | None:
    return _numbers(scope=asked.account.halted_by) if asked.account.halted_by else None


def _account_unhealthy(asked: GateInput) -> Detail | None:
    return _numbers(reasons=", ".join(asked.account.unhealthy)) if asked.account.unhealthy else None


def _stale_data(asked: GateInput) -> Detail | None:
    mark_age, limits = asked.market.mark_age_seconds, asked.limits
    if asked.market.mark_price is None or mark_age is None:
        return _missing("mark_price")
    if mark_age > limits.mark_max_age_seconds:
        return _numbers(mark_age_seconds=mark_age, limit=limits.mark_max_age_seconds)
    if not _is_fresh(asked.account, limits):
        return _numbers(
            picture_age_seconds=asked.account.picture_age_seconds, limit=limits.account_max_age_seconds
        )
    return _unread_room(asked.market)


def _unread_room(market: MarketState) -> Detail | None:
    """No volume or book leaves the desk no room in the coin; called MAX_ORDER it would look like a limit."""
    if market.quote_volume_24h is not None and market.depth_notional is not None:
        return None
    figures = {"quote_volume_24h": market.quote_volume_24h, "depth_notional": market.depth_notional}
    return _missing(", ".join(name for name, figure in figures.items() if figure is None))


def _is_fresh(account: AccountState, limits: Limits) -> bool:
    age = account.picture_age_seconds
    return account.is_stream_alive or (age is not None and age <= limits.account_max_age_seconds)


def _signal_expired(asked: GateInput) -> Detail | None:
    expires_at = asked.signal.expires_at
    return _numbers(expires_at=expires_at) if expires_at is not None and asked.now >= expires_at else None


def _duplicate(asked: GateInput) -> Detail | None:
    acted_at = asked.signal.last_acted_at
    if acted_at is None:
        return None
    age_seconds = (asked.now - acted_at).total_seconds()
    limit = asked.limits.duplicate_seconds
    return _numbers(age_seconds=age_seconds, limit=limit) if age_seconds < limit else None


def _outcome_unknown(asked: GateInput) -> Detail | None:
    return _on_base(asked, asked.book.unknown_bases)


def _order_pending(asked: GateInput) -> Detail | None:
    return _on_base(asked, asked.book.pending_bases)


def _position_open(asked: GateInput) -> Detail | None:
    return _on_base(asked, asked.book.open_bases)


def _on_base(asked: GateInput, bases: frozenset[str]) -> Detail | None:
    return _numbers(base=asked.instrument.base) if asked.instrument.base in bases else None


def _symbol_closed(asked: GateInput) -> Detail | None:
    market = asked.instrument
    if not market.trading or market.reduce_only:
        return _numbers(trading=market.trading, reduce_only=market.reduce_only)
    if market.delivery_at is None:
        return None
    closes = market.delivery_at - asked.now <= timedelta(hours=asked.limits.delivery_hours)
    return _numbers(delivery_at=market.delivery_at) if closes else None


def _max_positions(asked: GateInput) -> Detail | None:
    count, limit = len(asked.book.stakes), asked.limits.max_positions
    return _numbers(open=count, limit=limit) if count >= limit else None


def _daily_trades(asked: GateInput) -> Detail | None:
    count, limit = asked.account.trades_today, asked.limits.daily_trades
    return _numbers(today=count, limit=limit) if count >= limit else None


# ── after sizing ─────────────────────────────────────────────────────────────


def _risk(stakes: Iterable[Stake]) -> Decimal:
    return sum([stake.risk for stake in stakes], ZERO)


def _daily_loss(asked: GateInput, proposal: Proposal) -> Detail | None:
    profit, baseline = asked.account.day_profit, _day_baseline(asked)
    if profit is None or baseline is None:
        return _missing("day_baseline")
    if baseline <= 0:
        # An empty account has no day to lose: MARGIN tells the operator what is really missing.
        return None
    worst = profit - _risk(asked.book.stakes) - proposal.sizing.loss_at_stop
    floor = -asked.limits.daily_loss * baseline
    return _numbers(day_profit=profit, at_stops=worst, floor=floor) if worst <= floor else None


def _day_baseline(asked: GateInput) -> Decimal | None:
    """What the day's loss is measured on: the futures money at midnight, and for spot the spot money as well.

    Spot money is taken as it is now, which a loss only makes less, and so is a wallet empty at midnight.
    """
    account = asked.account
    if account.day_baseline is None:
        return None
    futures = ZERO if account.is_long_only else max(ZERO, account.day_baseline)
    is_measured = futures > 0 and asked.instrument.market is not Market.SPOT
    return futures if is_measured else futures + account.equity


def _risk_budget(asked: GateInput, proposal: Proposal) -> Detail | None:
    risk = _risk(asked.book.stakes) + proposal.sizing.loss_at_stop
    budget = asked.limits.risk_budget * asked.account.equity
    if risk > max(ZERO, budget):
        return _numbers(open_risk=risk, budget=budget)
    return _too_small(proposal, DenyCode.RISK_BUDGET)


def _same_direction(asked: GateInput, proposal: Proposal) -> Detail | None:
    same = [stake for stake in asked.book.stakes if stake.is_long == asked.is_long]
    risk = _risk(same) + proposal.sizing.loss_at_stop
    share = ONE if asked.account.is_long_only else asked.limits.same_direction
    budget = share * asked.limits.risk_budget * asked.account.equity
    return _numbers(side_risk=risk, budget=budget) if risk > max(ZERO, budget) else None


def _correlated(asked: GateInput, _proposal: Proposal) -> Detail | None:
    alike = [stake.symbol for stake in asked.book.held if _likeness(asked, stake) >= asked.limits.correlation]
    enough = len(alike) >= asked.limits.correlated_positions
    return _numbers(with_symbols=", ".join(alike), correlation=asked.limits.correlation) if enough else None


def _likeness(asked: GateInput, stake: Stake) -> Decimal:
    known = asked.book.correlations.get(stake.symbol)
    correlation = ONE if known is None else known
    return sign(is_long=asked.is_long) * sign(is_long=stake.is_long) * correlation


def _volatility(asked: GateInput, _proposal: Proposal) -> Detail | None:
    found, limit = asked.market.range_24h, asked.limits.max_volatility
    if found is None:
        return _missing("range_24h")
    return _numbers(range_24h=found, limit=limit) if found > limit else None


def _trend_against(asked: GateInput, _proposal: Proposal) -> Detail | None:
    mark, ema200 = asked.market.mark_price, asked.market.ema200
    if asked.limits.counter_trend:
        return None
    if mark is None or ema200 is None:
        return _missing("ema200")
    is_with_trend = mark > ema200 if asked.is_long else mark < ema200
    return None if is_with_trend else _numbers(mark_price=mark, ema200=ema200)


def funding_payment(funding_rate: Decimal | None, *, is_long: bool) -> Decimal:
    """Return what one settlement costs this side, a fraction of the notional; negative is received."""
    return (funding_rate or ZERO) * sign(is_long=is_long)


def _funding(asked: GateInput, proposal: Proposal) -> Detail | None:
    rate, settles_at = asked.market.funding_rate, asked.market.next_funding_at
    if asked.instrument.market is Market.SPOT:
        return None
    if settles_at is None or rate is None:
        return _missing("funding")
    if settles_at - asked.now > timedelta(minutes=asked.limits.funding_minutes):
        return None
    payment, limit = (
        funding_payment(rate, is_long=asked.is_long),
        asked.limits.funding_share * proposal.distances.stop,
    )
    return _numbers(payment=payment, limit=limit, settles_at=settles_at) if payment > limit else None


def _spread(asked: GateInput, _proposal: Proposal) -> Detail | None:
    found, limit = asked.market.spread, asked.limits.max_spread
    if found is None:
        return _missing("spread")
    return _numbers(spread=found, limit=limit) if found > limit else None


def _price_away(asked: GateInput, _proposal: Proposal) -> Detail | None:
    mark, signal = asked.market.mark_price, asked.signal
    if mark is None:
        return _missing("mark_price")
    side = sign(is_long=asked.is_long)
    if (mark - signal.stop_price) * side <= 0 or (mark - signal.take_profit_price) * side >= 0:
        return _numbers(
            mark_price=mark, stop_price=signal.stop_price, take_profit_price=signal.take_profit_price
        )
    if signal.entry_price is None:
        return None
    away, limit = (
        abs(mark - signal.entry_price),
        asked.limits.price_away * abs(signal.entry_price - signal.stop_price),
    )
    return _numbers(mark_price=mark, away=away, limit=limit) if away > limit else None


def _reward_risk(asked: GateInput, proposal: Proposal) -> Detail | None:
    found = reward_risk(
        proposal.distances,
        cost=round_trip_cost(proposal.taker_fee, asked.limits),
        funding_cost=funding_payment(asked.market.funding_rate, is_long=asked.is_long),
    )
    limit = asked.limits.min_reward_risk
    return _numbers(reward_risk=found, limit=limit) if found < limit else None


def liquidation_distance(*, is_long: bool, margin_ratio: Decimal, maint_margin_ratio: Decimal) -> Decimal:
    """Return the price move to liquidation: long (x - m)/(1 - m), short (x - m)/(1 + m).

    `margin_ratio` is 1/L isolated; in cross margin it is the wallet, with every other position stopped out,
    against this notional.
    """
    return (margin_ratio - maint_margin_ratio) / (ONE - maint_margin_ratio * sign(is_long=is_long))


def _stop_invalid(asked: GateInput, proposal: Proposal) -> Detail | None:
    move = price_move(is_long=asked.is_long, entry_price=proposal.cap_price, price=proposal.stop_price)
    distance, nearest = -move, asked.limits.min_stop_distance
    if distance < nearest:
        return _numbers(stop_distance=distance, nearest=nearest)
    if asked.instrument.market is Market.SPOT:
        return None
    margin_ratio, bracket = (
        _margin_ratio(asked, proposal),
        asked.instrument.bracket_at(proposal.sizing.notional),
    )
    if margin_ratio is None or bracket is None:
        return _missing("leverage" if margin_ratio is None else "brackets")
    liquidation = liquidation_distance(
        is_long=asked.is_long, margin_ratio=margin_ratio, maint_margin_ratio=bracket.maint_margin_ratio
    )
    farthest = asked.limits.liquidation_share * liquidation
    return (
        _numbers(stop_distance=distance, liquidation=liquidation, farthest=farthest)
        if distance > farthest
        else None
    )


def _margin_ratio(asked: GateInput, proposal: Proposal) -> Decimal | None:
    account, notional = asked.account, proposal.sizing.notional
    if account.leverage is None:
        return None
    if account.margin_mode != "cross" or notional <= 0:
        return ONE / account.leverage
    return (account.wallet - _risk(asked.book.stakes)) / notional


def _settings(asked: GateInput, _proposal: Proposal) -> Detail | None:
    account = asked.account
    if asked.instrument.market is Market.SPOT:
        return None
    is_as_asked = (
        account.leverage == account.asked_leverage and account.margin_mode == account.asked_margin_mode
    )
    return (
        None
        if is_as_asked
        else _numbers(
            leverage=account.leverage,
            asked_leverage=account.asked_leverage,
            margin_mode=account.margin_mode,
            asked_margin_mode=account.asked_margin_mode,
        )
    )


def _leverage_bracket(_asked: GateInput, proposal: Proposal) -> Detail | None:
    return _too_small(proposal, DenyCode.LEVERAGE_BRACKET)


def _min_notional(asked: GateInput, proposal: Proposal) -> Detail | None:
    denied = _too_small(proposal, DenyCode.MIN_NOTIONAL)
    return denied and denied | _numbers(min_notional=asked.instrument.min_notional)


def _min_quantity(asked: GateInput, proposal: Proposal) -> Detail | None:
    denied = _too_small(proposal, DenyCode.MIN_QUANTITY)
    return denied and denied | _numbers(min_quantity=asked.instrument.min_quantity)


def _max_order(_asked: GateInput, proposal: Proposal) -> Detail | None:
    return _too_small(proposal, DenyCode.MAX_ORDER)


def _margin(asked: GateInput, proposal: Proposal) -> Detail | None:
    denied = _too_small(proposal, DenyCode.MARGIN)
    return denied and denied | _numbers(available=asked.account.available)


def _too_small(proposal: Proposal, code: DenyCode) -> Detail | None:
    """Sizing has already said which minimum or cap left too little; each code is asked in its own turn."""
    sizing = proposal.sizing
    if sizing.denied is not code:
        return None
    return _numbers(
        quantity=sizing.quantity,
        notional=sizing.notional,
        wanted_quantity=sizing.wanted_quantity,
        cap=sizing.bound_by,
    )


BEFORE_SIZING: tuple[tuple[DenyCode, Rule], ...] = (
    (DenyCode.HALTED, _halted),
    (DenyCode.ACCOUNT_UNHEALTHY, _account_unhealthy),
    (DenyCode.STALE_DATA, _stale_data),
    (DenyCode.SIGNAL_EXPIRED, _signal_expired),
    (DenyCode.DUPLICATE, _duplicate),
    (DenyCode.OUTCOME_UNKNOWN, _outcome_unknown),
    (DenyCode.ORDER_PENDING, _order_pending),
    (DenyCode.POSITION_OPEN, _position_open),
    (DenyCode.SYMBOL_CLOSED, _symbol_closed),
    (DenyCode.MAX_POSITIONS, _max_positions),
    (DenyCode.DAILY_TRADES, _daily_trades),
)

AFTER_SIZING: tuple[tuple[DenyCode, SizedRule], ...] = (
    (DenyCode.DAILY_LOSS, _daily_loss),
    (DenyCode.RISK_BUDGET, _risk_budget),
    (DenyCode.SAME_DIRECTION, _same_direction),
    (DenyCode.CORRELATED, _correlated),
    (DenyCode.VOLATILITY, _volatility),
    (DenyCode.TREND_AGAINST, _trend_against),
    (DenyCode.FUNDING, _funding),
    (DenyCode.SPREAD, _spread),
    (DenyCode.PRICE_AWAY, _price_away),
    (DenyCode.REWARD_RISK, _reward_risk),
    (DenyCode.STOP_INVALID, _stop_invalid),
    (DenyCode.SETTINGS, _settings),
    (DenyCode.LEVERAGE_BRACKET, _leverage_bracket),
    (DenyCode.MIN_NOTIONAL, _min_notional),
    (DenyCode.MIN_QUANTITY, _min_quantity),
    (DenyCode.MAX_ORDER, _max_order),
    (DenyCode.MARGIN, _margin),
)
