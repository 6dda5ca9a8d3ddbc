"""The market as the desk sees it: marks, instruments, candles, tickers, depth, with source and age.

Reads only. A failed read raises `ReadFailed` or leaves its figure None and named; it never becomes a zero.
"""

import json
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from time import monotonic
from typing import Any, TypeVar

from django.conf import settings
from redis.exceptions import RedisError

from accounts.services.gateways import market_data
from exchange.budget import Priority, priority
from exchange.errors import GatewayError, ReadFailed
from exchange.loop import IoLoop
from exchange.marks import MarkBoard
from exchange.port import Candle, InstrumentReport, Market, MarkPrice, Ticker
from exchange.symbols import SymbolTable, UnknownSymbol
from trading.domain.instrument import Bracket, Instrument
from trading.domain.instrument import Market as InstrumentMarket
from trading.domain.market import pearson
from trading.services.indicators import Indicators, hourly_returns, indicators
from trading.services.valkey import keep, recall, valkey

Answer = TypeVar("Answer")

READ_SECONDS = 8.0
INSTRUMENTS_KEPT_SECONDS = 3600.0
ASKED_AGAIN_SECONDS = 30.0
KEPT_SECONDS = 4
TICKER_FIELDS = ("symbol", "last_price", "quote_volume", "bid", "ask")
DEPTH_WITHIN = Decimal("0.005")
HOURS_READ = 499
HOURS_OF_WEEK = 168
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECONDS = {"1m": 60, "5m": 300, "15m": 900, "1h": 3600}
TAKER_FEES = {Market.FUTURES: Decimal("0.0005"), Market.SPOT: Decimal("0.001")}
"""What an order at market costs as a fraction of its notional, at the venue's first fee level."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Where a figure came from and when it was true."""

    source: str
    at: datetime


@dataclass(frozen=True, slots=True)
class MarketFigures:
    """Everything a rule may ask about one symbol; None is a figure that could not be read.

    Prices and volumes in quote units, spread and range fractions. `seen` tells source and time by name.
    """

    symbol: str
    mark_price: Decimal | None = None
    funding_rate: Decimal | None = None
    next_funding_at: datetime | None = None
    bid: Decimal | None = None
    ask: Decimal | None = None
    spread: Decimal | None = None
    quote_volume_24h: Decimal | None = None
    depth_notional: Decimal | None = None
    close: Decimal | None = None
    ema50: Decimal | None = None
    ema200: Decimal | None = None
    adx14: Decimal | None = None
    atr14: Decimal | None = None
    range_24h: Decimal | None = None
    seen: Mapping[str, Seen] = field(default_factory=dict)

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the figures that could not be read."""
        return tuple(f.name for f in fields(self) if getattr(self, f.name) is None)

    @property
    def mark_at(self) -> datetime | None:
        """When the exchange computed the mark."""
        return self.seen["mark_price"].at if "mark_price" in self.seen else None

    def as_inputs(self, now: datetime) -> dict[str, Any]:
        """The figures as a decision keeps them: value, source and age in seconds by name."""
        known = {name: self._as_input(name, now) for name in self.seen if getattr(self, name) is not None}
        return {**known, "missing": list(self.missing)}

    def _as_input(self, name: str, now: datetime) -> dict[str, Any]:
        seen = self.seen[name]
        age_seconds = round((now - seen.at).total_seconds(), 3)
        return {"value": str(getattr(self, name)), "source": seen.source, "age_seconds": age_seconds}


# ── what the exchange lists ──────────────────────────────────────────────────


class Listing:
    """The instruments of one market, kept by a process for an hour; an old table serves when a read fails.

    It serves for a while then, unasked: who reads it before a transaction asks nothing inside.
    """

    def __init__(self, market: Market) -> None:
        self.market = market
        self.reports: Sequence[InstrumentReport] = ()
        self.instruments: Mapping[str, Instrument] = {}
        self.version = 0
        self._kept_until = 0.0

    def current(self) -> "Listing":
        """This listing, read again when it is an hour old. Raises ReadFailed when it was never read."""
        if monotonic() < self._kept_until:
            return self
        try:
            self._replace(_read(market_data(self.market).fetch_instruments()))
        except ReadFailed:
            if not self.reports:
                raise
            self._kept_until = monotonic() + ASKED_AGAIN_SECONDS
        return self

    def _replace(self, reports: Sequence[InstrumentReport]) -> None:
        self.reports, self.version = reports, self.version + 1
        self.instruments = {report.symbol: _instrument(report) for report in reports}
        # Brackets come with an account's keys: without any account yet, the table is asked again soon.
        is_whole = self.market != Market.FUTURES or all(report.brackets for report in reports)
        self._kept_until = monotonic() + (INSTRUMENTS_KEPT_SECONDS if is_whole else ASKED_AGAIN_SECONDS)


@lru_cache(maxsize=len(Market))
def _listing(market: Market) -> Listing:
    return Listing(market)


def instruments(market: Market) -> Mapping[str, Instrument]:
    """The instruments of a market by unified symbol. Raises ReadFailed when they were never read."""
    return _listing(market).current().instruments


def symbol_table() -> SymbolTable:
    """How symbols may be spelt and which are twins. Raises ReadFailed when a market was never read."""
    return _table(*(_listing(market).current().version for market in Market))


@lru_cache(maxsize=1)
def _table(*_versions: int) -> SymbolTable:
    return SymbolTable([report for market in Market for report in _listing(market).reports])


def unified_symbol(written: str) -> str | None:
    """The perpetual that somebody wrote, in any accepted spelling; None when there is none of that name."""
    table = symbol_table()
    try:
        return table.futures_twin(table.unify(written))
    except UnknownSymbol:
        return None


def symbol_on(symbol: str, on: Market) -> str | None:
    """The symbol of the same coin and quote on a market; None when it is not listed there."""
    try:
        return symbol_table().twin_on(symbol, on)
    except UnknownSymbol:
        return None


def _instrument(report: InstrumentReport) -> Instrument:
    return Instrument(
        symbol=report.symbol,
        base=report.base,
        quote=report.quote,
        market=InstrumentMarket(report.market),
        tick=report.tick,
        step=report.step,
        min_quantity=report.min_quantity,
        max_quantity=report.max_quantity,
        max_market_quantity=report.max_market_quantity,
        min_notional=report.min_notional,
        brackets=tuple(
            Bracket(
                step.notional_floor, step.notional_cap, step.maint_margin_ratio, Decimal(step.max_leverage)
            )
            for step in report.brackets
        ),
        trading=report.is_trading,
        delivery_at=report.delivery_at,
    )


# ── prices ───────────────────────────────────────────────────────────────────


def marks(symbols: Iterable[str], now: datetime) -> dict[str, MarkPrice]:
    """Fresh marks by symbol: from the board, else by one call to the exchange; what has none is left out.

    Raises ReadFailed when the board is old or empty and the exchange does not answer.
    """
    wanted = sorted(set(symbols))
    return _board().read_fresh(wanted, now, settings.LIMITS.mark_max_age_seconds, _call_marks)


def _call_marks() -> Sequence[MarkPrice]:
    """All marks by one call, put on the board, so that everybody who finds it old at once costs one call."""
    called = _read(market_data(Market.FUTURES).fetch_mark_prices())
    with suppress(RedisError):  # a board that is away holds nothing back; the marks are here
        _board().publish(called)
    return called


@lru_cache(maxsize=1)
def _board() -> MarkBoard:
    return MarkBoard(valkey(), Market.FUTURES)


def tickers(now: datetime) -> Mapping[str, Ticker]:
    """The 24 h figures of all perpetuals by symbol, seconds old at most. Raises ReadFailed."""
    kept = _seen_lately("desk:tickers", now)
    if kept is None:
        read = _read(market_data(Market.FUTURES).fetch_tickers())
        kept = [[_text(getattr(ticker, name)) for name in TICKER_FIELDS] for ticker in read]
        _see("desk:tickers", kept, now)
    return {ticker.symbol: ticker for ticker in (_ticker(row) for row in kept)}


def depth_notional(symbol: str, now: datetime) -> Decimal | None:
    """Quote units within 0.5 % of the mid on the thinner side; None when it cannot be read."""
    key = f"desk:depth:{symbol}"
    kept = _seen_lately(key, now)
    if kept is not None:
        return Decimal(kept)
    try:
        depth = _read(market_data(Market.FUTURES).fetch_depth_quote(symbol, DEPTH_WITHIN))
    except ReadFailed:
        return None
    _see(key, str(depth), now)
    return depth


def _see(key: str, value: Any, now: datetime) -> None:
    keep(key, json.dumps({"at": _ms(now), "value": value}), KEPT_SECONDS)


def _seen_lately(key: str, now: datetime) -> Any:
    """What was kept, if the desk's clock says too that it is young: a replay may have moved on."""
    raw = recall(key)
    kept = json.loads(raw) if raw else None
    if kept is None or abs(_ms(now) - kept["at"]) > KEPT_SECONDS * 1000:
        return None
    return kept["value"]


def _text(value: Decimal | str | None) -> str | None:
    return None if value is None else str(value)


def _ticker(row: Sequence[str | None]) -> Ticker:
    symbol, last_price, quote_volume, bid, ask = row
    return Ticker(
        symbol=str(symbol),
        last_price=Decimal(last_price or 0),
        quote_volume=Decimal(quote_volume or 0),
        bid=None if bid is None else Decimal(bid),
        ask=None if ask is None else Decimal(ask),
    )


# ── candles ──────────────────────────────────────────────────────────────────


def candles(symbol: str, timeframe: str, count: int, now: datetime) -> list[Candle]:
    """The newest closed candles of a perpetual, oldest first, `count` at most. Raises ReadFailed."""
    read = candles_of([symbol], timeframe, count, now)
    if symbol not in read:
        raise ReadFailed("CANDLES", f"no candles of {symbol}")
    return read[symbol]


def candles_of(symbols: Iterable[str], timeframe: str, count: int, now: datetime) -> dict[str, list[Candle]]:
    """The newest closed candles of several perpetuals; a symbol whose read failed is left out.

    Kept in Valkey until the next candle closes, so that many readers cost one call.
    """
    found: dict[str, Sequence[Candle]] = {}
    lacking: list[str] = []
    for symbol in dict.fromkeys(symbols):
        kept = _kept(symbol, timeframe, count, now)
        if kept is None:
            lacking.append(symbol)
        else:
            found[symbol] = kept
    for symbol, fetched in _fetch_candles(lacking, timeframe, count + 1).items():
        _keep(symbol, timeframe, count, fetched)
        found[symbol] = fetched
    closed = {symbol: [row for row in rows if row.closed_at <= now] for symbol, rows in found.items()}
    return {symbol: rows[-count:] for symbol, rows in closed.items()}


def _fetch_candles(symbols: Sequence[str], timeframe: str, limit: int) -> dict[str, Sequence[Candle]]:
    if not symbols:
        return {}
    gateway = market_data(Market.FUTURES)
    with priority(Priority.ENTRY):
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
    return [_ms(row.opened_at), _ms(row.closed_at), *prices, quote_volume]


def _candle(row: Sequence[Any]) -> Candle:
    opened_ms, closed_ms, first, high, low, close, volume, quote_volume = row
    return Candle(
        opened_at=_moment(opened_ms),
        closed_at=_moment(closed_ms),
        open=Decimal(first),
        high=Decimal(high),
        low=Decimal(low),
        close=Decimal(close),
        volume=Decimal(volume),
        quote_volume=None if quote_volume is None else Decimal(quote_volume),
    )


# ── figures ──────────────────────────────────────────────────────────────────


def figures(symbols: Iterable[str], now: datetime, *, with_depth: bool = False) -> dict[str, MarketFigures]:
    """Everything known of several symbols, read in as few calls as there are kinds; depth only when asked."""
    wanted = list(dict.fromkeys(symbols))
    seen_marks = _or_nothing(lambda: marks(wanted, now))
    seen_tickers = _or_nothing(lambda: tickers(now))
    hours = candles_of(wanted, "1h", HOURS_READ, now)
    return {
        symbol: _figures(
            symbol,
            seen_marks.get(symbol),
            seen_tickers.get(symbol),
            indicators(hours.get(symbol, [])),
            depth_notional(symbol, now) if with_depth else None,
            now,
        )
        for symbol in wanted
    }


def _figures(
    symbol: str,
    mark: MarkPrice | None,
    ticker: Ticker | None,
    values: Indicators,
    depth: Decimal | None,
    now: datetime,
) -> MarketFigures:
    seen: dict[str, Seen] = {}
    if mark:
        seen |= dict.fromkeys(("mark_price", "funding_rate", "next_funding_at"), Seen("mark stream", mark.at))
    if ticker:
        seen |= dict.fromkeys(("bid", "ask", "spread", "quote_volume_24h"), Seen("24 h ticker", now))
    if values.at:
        names = ("close", "ema50", "ema200", "adx14", "atr14", "range_24h")
        seen |= dict.fromkeys(names, Seen("closed 1 h candles", values.at))
    if depth is not None:
        seen["depth_notional"] = Seen("order book", now)
    return MarketFigures(
        symbol=symbol,
        mark_price=mark.mark_price if mark else None,
        funding_rate=mark.funding_rate if mark else None,
        next_funding_at=mark.next_funding_at if mark else None,
        bid=ticker.bid if ticker else None,
        ask=ticker.ask if ticker else None,
        spread=_spread(ticker),
        quote_volume_24h=ticker.quote_volume if ticker else None,
        depth_notional=depth,
        close=values.close,
        ema50=values.ema50,
        ema200=values.ema200,
        adx14=values.adx14,
        atr14=values.atr14,
        range_24h=values.range_24h,
        seen=seen,
    )


def _spread(ticker: Ticker | None) -> Decimal | None:
    if ticker is None or not ticker.bid or not ticker.ask:
        return None
    return (ticker.ask - ticker.bid) / ((ticker.ask + ticker.bid) / 2)


def correlations(symbol: str, others: Iterable[str], now: datetime) -> dict[str, Decimal | None]:
    """Pearson's r of hourly log returns over seven days with each other symbol.

    None where there are fewer common hours than the desk asks for, or a candle read failed.
    """
    wanted = set(others)
    if not wanted:
        return {}
    week = candles_of([symbol, *wanted], "1h", HOURS_READ, now)
    returns = {one: hourly_returns(rows[-HOURS_OF_WEEK - 1 :]) for one, rows in week.items()}
    mine = returns.get(symbol, {})
    hours = settings.LIMITS.correlation_min_hours
    return {other: pearson(mine, returns.get(other, {}), min_hours=hours) for other in wanted}


# ── reading ──────────────────────────────────────────────────────────────────


def _read(call: Coroutine[Any, Any, Answer]) -> Answer:
    try:
        # What an entry is decided by comes before what is only reported.
        with priority(Priority.ENTRY):
            return IoLoop.current().run(call, READ_SECONDS)
    except ReadFailed:
        raise
    except (GatewayError, TimeoutError) as error:
        raise ReadFailed("MARKET", str(error)[:200]) from error


def _or_nothing(read: Callable[[], Mapping[str, Answer]]) -> Mapping[str, Answer]:
    try:
        return read()
    except ReadFailed:
        return {}


def _ms(moment: datetime) -> int:
    return round((moment - EPOCH) / timedelta(milliseconds=1))


def _moment(ms: int) -> datetime:
    return EPOCH + timedelta(milliseconds=ms)
