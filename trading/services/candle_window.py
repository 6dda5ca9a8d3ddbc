"""Candles around a stretch of time, for a chart: as fine as a picture can show, kept some seconds for all."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import ceil

import structlog

from accounts.services.gateways import market_data
from exchange.budget import Priority, priority
from exchange.errors import GatewayError
from exchange.loop import IoLoop
from exchange.port import Candle, Market
from trading.services.valkey import keep, recall

STEPS = {
    "1m": timedelta(minutes=1),
    "5m": timedelta(minutes=5),
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "4h": timedelta(hours=4),
    "1d": timedelta(days=1),
}
MOST_SHOWN = 120
MOST_READ = 1000
"""Weight 5 at the exchange; further back nothing is read and the chart stands without candles."""

KEPT_SECONDS = 10
READ_SECONDS = 3.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CandleWindow:
    """The candles that begin in a stretch of time, oldest first, and how long each is."""

    timeframe: str
    step: timedelta
    candles: tuple[Candle, ...]


def candle_window(symbol: str, since: datetime, until: datetime, now: datetime) -> CandleWindow:
    """The perpetual's candles between two moments; none where they could not be read: no error here."""
    timeframe = next((name for name, step in STEPS.items() if (until - since) / step <= MOST_SHOWN), "1d")
    step = STEPS[timeframe]
    limit = ceil((now - since) / step) + 1
    read = _candles(symbol, timeframe, limit) if 0 < limit <= MOST_READ else ()
    shown = tuple(candle for candle in read if since - step < candle.opened_at <= until)
    return CandleWindow(timeframe, step, shown)


def _candles(symbol: str, timeframe: str, limit: int) -> Sequence[Candle]:
    # The same reading serves charts of the same coin that begin a little later.
    limit = next(size for size in (99, 499, MOST_READ) if limit <= size)
    key = f"desk:candles:{symbol}:{timeframe}:{limit}"
    kept = recall(key)
    if kept is not None:
        return [_candle(row) for row in json.loads(kept)]
    try:
        with priority(Priority.REPORT):
            call = market_data(Market.FUTURES).fetch_candles(symbol, timeframe, limit)
            read = IoLoop.current().run(call, READ_SECONDS)
    except (GatewayError, TimeoutError) as error:
        log.warning("chart_without_candles", symbol=symbol, error=type(error).__name__)
        read = ()
    keep(key, json.dumps([_row(candle) for candle in read]), KEPT_SECONDS)
    return read


def _row(candle: Candle) -> list[str | float]:
    prices = (candle.open, candle.high, candle.low, candle.close, candle.volume)
    return [candle.opened_at.timestamp(), candle.closed_at.timestamp(), *(str(price) for price in prices)]


def _candle(row: Sequence[str | float]) -> Candle:
    opened_at, closed_at = (datetime.fromtimestamp(float(moment), UTC) for moment in row[:2])
    return Candle(opened_at, closed_at, *(Decimal(str(price)) for price in row[2:]))
