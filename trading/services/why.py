"""Why an account would enter or not, now: every rule of the gate asked, none skipped, nothing written.

It is the very gate of a decision, over the same rows and the same market, asked about the best open signals,
or about a symbol and side that somebody names. Nothing is held or reserved: a moment later it may differ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal

from django.conf import settings

from accounts.models import Account
from accounts.services.limits import desk_limits
from exchange.port import Market
from trading.domain.gate import Answer, every_answer
from trading.domain.percent import ONE, ZERO
from trading.domain.sizing import margin_required
from trading.domain.states import DecisionStatus
from trading.models import Decision, Signal, SignalSource
from trading.models.signals import SignalAction, SignalSide, SignalStatus
from trading.services import market, routes
from trading.services.assessment import Assessment, assess, assess_sized, question
from trading.services.exposure import Wallet, first_wallet
from trading.services.scene import MarketScene, Scene, load_scene, market_scene
from trading.services.selection import cap_price

MOST_ASKED = 4
STOP_AWAY, TARGET_AWAY = Decimal("0.01"), Decimal("0.03")
SUPPOSED = "a signal at the mark, its stop 1 % and its target 3 % away"


@dataclass(frozen=True, slots=True)
class Standing:
    """One figure of the account beside what it may be; both are text with their unit in the name."""

    name: str
    value: Decimal | int | None
    limit: Decimal | int | None


@dataclass(frozen=True, slots=True)
class Reading:
    """What one executor of the account would answer to one signal, rule by rule."""

    symbol: str
    side: str
    about: str
    market: str
    executor: str
    code: str
    answers: Sequence[Answer]
    sizing: Mapping[str, str]

    @property
    def refusing(self) -> list[Answer]:
        """The rules that stand against it, in the gate's order: the first is what would be told."""
        return [answer for answer in self.answers if answer.refuses]


@dataclass(frozen=True, slots=True)
class Why:
    """The account's figures and every answer, as they were at `at`."""

    account: Account
    at: datetime
    standings: Sequence[Standing]
    readings: Sequence[Reading]


def read_why(account: Account, now: datetime, symbol: str = "", side: str = "") -> Why:
    """Ask the gate about an account: about one symbol and side when named, else about the best open signals.

    Raises ReadFailed when the market table was never read, ValueError for a symbol that is not listed.
    """
    signals = [_supposed(symbol, side, now)] if symbol else _best_open(now)
    standings: list[Standing] = []
    readings: list[Reading] = []
    for signal in signals:
        scene = _scene(account, signal, now)
        standings = standings or _standings(scene, account)
        readings += _answers(scene, account)
    return Why(account, now, standings, readings)


# ── what is asked about ──────────────────────────────────────────────────────


def _best_open(now: datetime) -> list[Signal]:
    """The best open signal of each symbol and side; without any, the coin last decided on, both sides."""
    waiting = Signal.objects.filter(
        status=SignalStatus.OPEN, action=SignalAction.OPEN, source__is_active=True, decision__isnull=True
    ).select_related("source")
    best: dict[tuple[str, str], Signal] = {}
    for signal in waiting.order_by("-score", "created_at")[: MOST_ASKED * 10]:
        best.setdefault((signal.symbol, signal.side), signal)
    if best:
        return list(best.values())[:MOST_ASKED]
    last = Decision.objects.filter(signal__isnull=False).select_related("signal").first()
    symbol = last.signal.symbol if last and last.signal else _any_symbol()
    return [_supposed(symbol, side, now) for side in SignalSide.values]


def _any_symbol() -> str:
    return min(market.instruments(Market.FUTURES))


def _supposed(symbol: str, side: str, now: datetime) -> Signal:
    """A signal nobody sent; its prices are told once the mark is read. It is never stored."""
    unified = market.unified_symbol(symbol)
    if unified is None:
        raise ValueError(f"{symbol} is not listed")
    chosen = SignalSide.SHORT if side.upper() == SignalSide.SHORT else SignalSide.LONG
    source = SignalSource(name=SUPPOSED)
    return Signal(source=source, symbol=unified, side=chosen, score=ONE, created_at=now, received_at=now)


def _scene(account: Account, signal: Signal, now: datetime) -> Scene:
    seen = market_scene(signal.symbol, now)
    if signal.source.name == SUPPOSED:
        _price(signal, seen)
    limits = desk_limits()
    decision = Decision(
        signal=signal,
        status=DecisionStatus.OPEN,
        route_policy=settings.ROUTE_POLICY,
        mark_price=seen.figures.mark_price,
        cap_price=cap_price(signal, seen.figures, limits),
        decided_at=now,
        deadline_at=now + timedelta(seconds=limits.deadline_seconds),
    )
    return load_scene(decision, seen, [account], now)


def _price(signal: Signal, seen: MarketScene) -> None:
    mark, way = seen.figures.mark_price, 1 if signal.is_long else -1
    if mark is None:
        return
    signal.entry_price = mark
    signal.stop_price = mark * (1 - way * STOP_AWAY)
    signal.take_profit_price = mark * (1 + way * TARGET_AWAY)


# ── what is answered ─────────────────────────────────────────────────────────


def _answers(scene: Scene, account: Account) -> list[Reading]:
    """One reading for each way the account has to the signal's coin."""
    return [_reading(scene, account, way) for way in scene.ways(account)]


def _reading(scene: Scene, account: Account, way: routes.Way) -> Reading:
    instrument = scene.market.instruments.get(way.market)
    if instrument is None or (way.market == Market.SPOT and not scene.is_long):
        return _unasked(scene, way, assess(scene, account, way.market, way.executor))
    blank = Assessment(account, way.market, way.executor)
    asked = question(scene, account, way.market, instrument)
    if scene.decision.cap_price is None:
        answers = every_answer(asked, None)
        return _told(scene, way, _first(answers), answers, {})
    sized = assess_sized(scene, blank, asked, scene.desk_room)
    answers = every_answer(asked, sized.proposal)
    return _told(scene, way, _first(answers), answers, replace(sized, refusal=None).detail)


def _unasked(scene: Scene, way: routes.Way, told: Assessment) -> Reading:
    """Without a market there is no rule to ask: what the decision would tell."""
    answers = [Answer(told.refusal.code, told.refusal.detail)] if told.refusal else []
    return _told(scene, way, told.code, answers, {})


def _first(answers: Sequence[Answer]) -> str:
    return next((answer.code for answer in answers if answer.refuses), "")


def _told(
    scene: Scene, way: routes.Way, code: str, answers: Sequence[Answer], sizing: Mapping[str, str]
) -> Reading:
    signal = scene.signal
    return Reading(
        symbol=signal.symbol,
        side=signal.side,
        about=_about(signal),
        market=way.market,
        executor=way.executor,
        code=code,
        answers=answers,
        sizing=sizing,
    )


def _about(signal: Signal) -> str:
    name = signal.source.name
    return name if name == SUPPOSED else f"open signal of {name}, score {signal.score.normalize():f}"


def _standings(scene: Scene, account: Account) -> list[Standing]:
    """What the limits are measured on. Money is that of the account's first executor."""
    exposure, limits = scene.exposures[account.pk], scene.limits[account.pk]
    money = first_wallet(exposure, (way.market for way in scene.own_ways[account.pk]))
    room = max(ZERO, money.available - limits.margin_reserve * max(ZERO, money.equity))
    floor = None if exposure.day_baseline is None else -limits.daily_loss * exposure.day_baseline
    return [
        Standing(
            "positions and entries in flight",
            len(exposure.held) + len(exposure.in_flight),
            limits.max_positions,
        ),
        Standing("trades today", exposure.entries_today, limits.daily_trades),
        Standing("open risk", exposure.risk(), limits.risk_budget * money.equity),
        Standing("risk of longs", exposure.risk(is_long=True), _side_budget(scene, account, money)),
        Standing("risk of shorts", exposure.risk(is_long=False), _side_budget(scene, account, money)),
        Standing("gross notional", exposure.notional(), limits.gross_notional * money.equity),
        Standing("day's profit, never to fall to", exposure.day_profit, floor),
        Standing("equity", money.equity, None),
        Standing("available, with the reserve", money.available, None),
        Standing("margin an entry may claim", room / margin_required(ONE, ONE, limits), None),
    ]


def _side_budget(scene: Scene, account: Account, money: Wallet) -> Decimal:
    limits = scene.limits[account.pk]
    return (ONE if scene.is_long_only(account) else limits.same_direction) * limits.risk_budget * money.equity
