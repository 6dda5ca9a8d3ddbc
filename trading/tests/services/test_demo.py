from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from pytest_django import Settings
from redis import Redis

from exchange.port import Candle
from tests.processes import PaperExchange
from trading.domain.momentum import CANDLES_NEEDED, MomentumSignal, momentum
from trading.models import Decision, Signal, SignalSource
from trading.services import candles as closed_candles
from trading.services import demo, market, selection
from trading.services.allocation import allocate
from trading.services.candles import candles_of
from trading.tests.services.journey import BTC, fit_accounts, now

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("paper_exchange")]


def move_the_market(symbol: str) -> None:
    """Let the last closed candles of a symbol lead to its mark, the way of its hourly trend.

    The invented prices are those of the hour the test runs in, and in some hours no symbol moves.
    """
    at = now()
    figures = market.figures([symbol], at)[symbol]
    assert figures.mark_price is not None
    assert figures.ema200 is not None
    step = Decimal("0.002") if figures.mark_price > figures.ema200 else Decimal("-0.002")
    last_closed = datetime.fromtimestamp(
        at.timestamp() // demo.CANDLE.total_seconds() * demo.CANDLE.total_seconds(), UTC
    )
    candles = []
    for ago in range(CANDLES_NEEDED, -2, -1):  # the last is still forming
        close = figures.mark_price * (1 - step * ago)
        closed_at = last_closed - demo.CANDLE * ago
        prices = {"open": close, "high": close, "low": close, "close": close, "volume": Decimal(1)}
        candles.append(Candle(closed_at - demo.CANDLE, closed_at, **prices))
    closed_candles._keep(symbol, demo.TIMEFRAME, CANDLES_NEEDED, candles)


def test_its_signals_come_from_a_source_marked_as_a_demonstration_through_the_common_intake() -> None:
    move_the_market(BTC)
    taken = demo.poll(now())
    assert taken, SignalSource.objects.get().note
    source = SignalSource.objects.get(name=demo.SOURCE)
    assert source.is_demonstration
    assert source.note.startswith("said ")
    for signal in Signal.objects.all():
        assert signal.source_id == source.pk
        assert signal.expires_at == signal.created_at + demo.LIVES_FOR


def test_asking_again_within_a_candle_adds_no_signal() -> None:
    first = demo.poll(now())
    SignalSource.objects.update(note_at=None)  # as if it had to ask again
    again = demo.poll(now())
    candle_changed = now().minute % 15 == 0
    assert again == [] or candle_changed
    assert Signal.objects.count() == len(first) + len(again)


def test_a_candle_is_asked_about_once_and_the_next_one_again() -> None:
    at = now()
    demo.poll(at)
    source = demo.demonstration_source()
    assert demo._is_asked(source, at)
    assert not demo._is_asked(source, at + demo.CANDLE)


def test_an_exchange_that_does_not_answer_is_named_and_asked_again(
    paper_exchange: PaperExchange, redis: Redis
) -> None:
    at = now()
    fault = {"endpoint": "GET /fapi/v1/klines", "kind": "http", "status": 500, "code": -1000, "count": 1000}
    paper_exchange.add_fault(**fault)
    try:
        assert demo.poll(at) == []
    finally:
        paper_exchange.delete("/paper/faults")
    source = SignalSource.objects.get(name=demo.SOURCE)
    assert source.note == "silent on 15m candles: 20 NOT_READ"
    assert source.note_at is None
    assert not Signal.objects.exists()


def test_every_signal_is_what_the_rule_says_of_that_candle_and_nothing_else() -> None:
    at = now()
    taken = {signal.symbol: signal for signal in demo.poll(at)}
    candles = candles_of(taken, demo.TIMEFRAME, CANDLES_NEEDED, at)
    for symbol, signal in taken.items():
        said = momentum(candles[symbol])
        assert isinstance(said, MomentumSignal)
        assert (signal.is_long, signal.score) == (said.is_long, said.score)
        assert signal.entry_price is not None
        assert signal.stop_price is not None
        # Its distances from the mark it was given at; the mark has not gone far from the candle's close.
        to_the_stop = said.entry_price - said.stop_price.quantize(demo.PRICE)
        assert signal.entry_price - signal.stop_price == to_the_stop
        gone = abs(signal.entry_price - said.entry_price)
        assert gone <= demo.ENTRY_SHARE * abs(said.entry_price - said.stop_price)
        assert signal.created_at == candles[symbol][-1].closed_at


def test_a_silent_rule_says_why_and_stores_no_signal() -> None:
    at = now() - timedelta(days=29, hours=23)  # before which the exchange has no candles
    assert demo.poll(at) == []
    source = SignalSource.objects.get(name=demo.SOURCE)
    assert source.note.startswith("silent on 15m candles: ")
    assert source.note_at == at
    assert not Signal.objects.exists()


def test_a_paused_demonstration_says_nothing() -> None:
    SignalSource.objects.create(name=demo.SOURCE, is_demonstration=True, is_active=False)
    assert demo.poll(now()) == []
    assert not Signal.objects.exists()


def test_a_fresh_desk_has_its_first_decision_from_the_first_poll_and_the_first_selection(
    settings: Settings,
) -> None:
    fit_accounts(1)
    move_the_market(BTC)
    demo.poll(now())
    (decision,) = selection.select(now())
    assert decision is not None
    assert decision.signal is not None, decision.reason
    assert decision.signal.source.is_demonstration
    allocate(decision.pk, now())
    assert Decision.objects.get().allocations.count() == 1
