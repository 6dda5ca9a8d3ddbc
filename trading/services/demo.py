"""The demonstration source: a small momentum rule over the exchange's own closed candles, with the trend.

Its signals go through the same intake as any other and come from a source marked as a demonstration. When the
rule is silent nothing is made up: the source's note says why, and when it was asked.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from exchange.errors import ReadFailed
from exchange.port import Candle, Market
from trading.domain.momentum import CANDLES_NEEDED, MomentumSignal, momentum
from trading.domain.percent import ZERO
from trading.models import Signal, SignalSource
from trading.models.signals import SignalSide
from trading.services import market
from trading.services.candles import candles_of
from trading.services.market import MarketFigures
from trading.services.signals import SignalDraft, SignalRefused, intake

SOURCE = "demo momentum"
TIMEFRAME = "15m"
CANDLE = timedelta(minutes=15)
LIVES_FOR = 2 * CANDLE
MOST_SYMBOLS = 20
NOTE_LENGTH = 200
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ENTRY_SHARE = Decimal("0.25")
"""How much of the way to the stop the mark may have gone from the entry before the advice is missed."""

ENTRY_MISSED = "ENTRY_MISSED"
NO_MARK = "NO_MARK"
NO_TREND = "NO_TREND"
AGAINST_TREND = "AGAINST_TREND"
NOT_READ = "NOT_READ"
SAID_BEFORE = "SAID_BEFORE"
PRICE = Decimal("1E-12")


def poll(now: datetime) -> list[Signal]:
    """Ask the rule once about each closed candle of the most traded symbols; the signals that are new.

    What could not be read is asked again; what was said before is the same row again.
    """
    source = demonstration_source()
    if not source.is_active or _is_asked(source, now):
        return []
    taken: list[Signal] = []
    try:
        taken, silent = _ask(source, now)
    except ReadFailed as error:
        silent = Counter({f"{NOT_READ} ({error.code})": MOST_SYMBOLS})
    _note(source, taken, silent, now)
    return taken


def demonstration_source() -> SignalSource:
    """The source's row, made where it is missing."""
    source, _ = SignalSource.objects.get_or_create(name=SOURCE, defaults={"is_demonstration": True})
    return source


def _is_asked(source: SignalSource, now: datetime) -> bool:
    """Whether the rule has spoken, or told its silence, of the candle that closed last."""
    closed_at = now - (now - EPOCH) % CANDLE
    return source.note_at is not None and closed_at <= source.note_at <= now


def _ask(source: SignalSource, now: datetime) -> tuple[list[Signal], Counter[str]]:
    """The new signals, and how often the rule gave each reason for none."""
    symbols = _most_traded(now)
    closed = candles_of(symbols, TIMEFRAME, CANDLES_NEEDED, now)
    figures = market.figures(symbols, now)
    taken: list[Signal] = []
    silent: Counter[str] = Counter()
    for symbol in symbols:
        answer = _hear(source, closed.get(symbol), figures[symbol], now)
        if isinstance(answer, Signal):
            taken.append(answer)
        else:
            silent[answer] += 1
    return taken, silent


def _most_traded(now: datetime) -> list[str]:
    listed = market.instruments(Market.FUTURES)
    volumes = {
        symbol: ticker.quote_volume or ZERO
        for symbol, ticker in market.tickers(now).by_symbol.items()
        if symbol in listed
    }
    return sorted(volumes, key=lambda symbol: (-volumes[symbol], symbol))[:MOST_SYMBOLS]


def _hear(
    source: SignalSource, candles: Sequence[Candle] | None, figures: MarketFigures, now: datetime
) -> Signal | str:
    """The new signal on one symbol, or why there is none."""
    if candles is None:
        return NOT_READ
    said = momentum(candles)
    if not isinstance(said, MomentumSignal):
        return said.value
    missed = _why_missed(said, figures)
    if missed or figures.mark_price is None:
        return missed
    try:
        signal, is_new = intake(source, _draft(figures.symbol, said, candles[-1], figures.mark_price), now)
    except SignalRefused as refusal:
        return refusal.code
    return signal if is_new else SAID_BEFORE


def _why_missed(said: MomentumSignal, figures: MarketFigures) -> str:
    """Why the advice is not worth giving now: no mark, against the hourly trend, or the price is past it."""
    if figures.mark_price is None:
        return NO_MARK
    if figures.ema200 is None:
        return NO_TREND
    if said.is_long != (figures.mark_price > figures.ema200):
        return AGAINST_TREND
    gone = abs(figures.mark_price - said.entry_price)
    return ENTRY_MISSED if gone > ENTRY_SHARE * abs(said.entry_price - said.stop_price) else ""


def _draft(symbol: str, said: MomentumSignal, candle: Candle, mark_price: Decimal) -> SignalDraft:
    """The rule's advice as from now: its distances, measured from the mark it is given at."""
    closed_at, moved = candle.closed_at, mark_price - said.entry_price
    return SignalDraft(
        external_id=f"momentum:{TIMEFRAME}:{symbol}:{closed_at:%Y-%m-%dT%H:%M}",
        symbol=symbol,
        side=SignalSide.LONG if said.is_long else SignalSide.SHORT,
        score=said.score,
        entry_price=mark_price,
        stop_price=(said.stop_price + moved).quantize(PRICE),
        take_profit_price=(said.take_profit_price + moved).quantize(PRICE),
        created_at=closed_at,
        expires_at=closed_at + LIVES_FOR,
    )


def _note(source: SignalSource, taken: Sequence[Signal], silent: Mapping[str, int], now: datetime) -> None:
    """What a page shows of the source: what it just said, or why it says nothing.

    `note_at` is left empty while a candle could not be read, so that it is asked again.
    """
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(silent.items()))
    said = ", ".join(f"{signal.side} {signal.symbol}" for signal in taken)
    text = f"said {said}" if said else f"silent on {TIMEFRAME} candles: {reasons}"
    is_whole = not any(reason.startswith(NOT_READ) for reason in silent)
    SignalSource.objects.filter(pk=source.pk).update(
        note=text[:NOTE_LENGTH], note_at=now if is_whole else None
    )
