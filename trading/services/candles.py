"""Candles of perpetuals, kept in Valkey until the next one closes: many readers cost one call."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from accounts.services.gateways import market_data
from exchange.budget import Priority, priority
from exchange.errors import ReadFailed
from exchange.loop import IoLoop
from exchange.port import Candle, Market
from trading.services.valkey import keep, recall

READ_SECONDS = 8.0
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECONDS = {"1m": 60, "5m": 300, "15m": 900, "1h": 3600}


def candles(symbol: str, timeframe: str, count: int, now: datetime) -> list[Candle]:
    """The newest closed candles of a perpetual, oldest first, `count` at most. Raises ReadFailed."""
    read = candles_of([symbol], timeframe, count, now)
    if symbol not in read:
        raise ReadFailed("CANDLES", f"no candles of {symbol}")
    return read[symbol]


def candles_of(
    symbols: Iterable[str], timeframe: str, count: int, now: datetime, urgency: Priority = Priority.ENTRY
) -> dict[str, list[Candle]]:
    """The newest closed candles of several perpetuals; a symbol whose read failed is left out.

    What is not kept is asked of the exchange, as urgently as an entry unless said otherwise.
    """
    found: dict[str, Sequence[Candle]] = {}
    lacking: list[str] = []
    for symbol in dict.fromkeys(symbols):
        kept = _kept(symbol, timeframe, count, now)
        if kept is None:
            lacking.append(symbol)
        else:
            found[symbol] = kept
    for symbol, fetched in _fetch_candles(lacking, timeframe, count + 1, urgency).items():
        _keep(symbol, timeframe, count, fetched)
        found[symbol] = fetched
    closed = {symbol: [row for row in rows if row.closed_at <= now] for symbol, rows in found.items()}
    return {symbol: rows[-count:] for symbol, rows in closed.items()}


def _fetch_candles(
    symbols: Sequence[str], timeframe: str, limit: int, urgency: Priority
) -> dict[str, Sequence[Candle]]:
    if not symbols:
        return {}
    gateway = market_data(Market.FUTURES)
    with priority(urgency):
        answers = IoLoop.current().run_all(
            [gateway.fetch_candles(symbol, timeframe, limit) for symbol in symbols], READ_SECONDS
        )
    return {
        symbol: answer
        for symbol, answer in zip(symbols, answers, strict=True)
        if not isinstance(answer, BaseException)
    }


def _candle_key(symbol: str, timeframe: str) -> str:
    return f"desk:candles:{symbol}:{timeframe}"


def _keep(symbol: str, timeframe: str, count: int, rows: Sequence[Candle]) -> None:
    # The forming candle is not kept: it would be read as closed later.
    value = json.dumps({"count": count, "rows": [_written(row) for row in rows[:-1]]})
    keep(_candle_key(symbol, timeframe), value, 2 * SECONDS[timeframe])


def _kept(symbol: str, timeframe: str, count: int, now: datetime) -> list[Candle] | None:
    raw = recall(_candle_key(symbol, timeframe))
    kept = json.loads(raw) if raw else None
    if not kept or kept["count"] < count or not kept["rows"]:
        return None
    rows = [_candle(row) for row in kept["rows"]]
    age = now - rows[-1].closed_at
    return rows if timedelta(0) <= age < timedelta(seconds=SECONDS[timeframe]) else None


def _written(row: Candle) -> list[int | str | None]:
    prices = [str(value) for value in (row.open, row.high, row.low, row.close, row.volume)]
    quote_volume = None if row.quote_volume is None else str(row.quote_volume)
    return [ms_of(row.opened_at), ms_of(row.closed_at), *prices, quote_volume]


def _candle(row: Sequence[Any]) -> Candle:
    opened_ms, closed_ms, first, high, low, close, volume, quote_volume = row
    return Candle(
        opened_at=moment_of(opened_ms),
        closed_at=moment_of(closed_ms),
        open=Decimal(first),
        high=Decimal(high),
        low=Decimal(low),
        close=Decimal(close),
        volume=Decimal(volume),
        quote_volume=None if quote_volume is None else Decimal(quote_volume),
    )


def ms_of(moment: datetime) -> int:
    """A time as whole milliseconds since 1970."""
    return round((moment - EPOCH) / timedelta(milliseconds=1))


def moment_of(ms: int) -> datetime:
    """The time of so many milliseconds since 1970."""
    return EPOCH + timedelta(milliseconds=ms)
