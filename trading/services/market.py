"""The market as the desk sees it: marks, instruments, candles, tickers, depth, with source and age.

Reads only. A failed read raises `ReadFailed` or leaves its figure None and named; it never becomes a zero.
"""

import json
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from time import monotonic
from typing import Any, TypeVar

import structlog
from django.conf import settings
from redis.exceptions import RedisError

from accounts.services.gateways import market_data
from exchange.budget import Priority, priority
from exchange.errors import GatewayError, ReadFailed
from exchange.loop import IoLoop
from exchange.marks import MarkBoard
from exchange.port import InstrumentReport, MarginBracket, Market, MarkPrice, Ticker
from exchange.symbols import SymbolTable, UnknownSymbol
from trading.domain.instrument import Bracket, Instrument
from trading.domain.instrument import Market as InstrumentMarket
from trading.domain.market import Regime
from trading.services.candles import READ_SECONDS, moment_of, ms_of
from trading.services.hours import Hours, hours_of
from trading.services.valkey import keep, recall, recall_many, valkey

Answer = TypeVar("Answer")

log = structlog.get_logger(__name__)

INSTRUMENTS_KEPT_SECONDS = 3600.0
BRACKETS_KEY = "desk:brackets"
BRACKETS_KEPT_SECONDS = 86_400
BRACKET_FIELDS = ("notional_floor", "notional_cap", "maint_margin_ratio", "max_leverage")
ASKED_AGAIN_SECONDS = 30.0
KEPT_SECONDS = 4
TICKER_FIELDS = ("symbol", "last_price", "quote_volume", "bid", "ask")
DEPTH_WITHIN = Decimal("0.005")
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

    Prices and volumes in quote units, spread, range and annualised volatility fractions. `seen` tells source
    and time by name.
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
    volatility: Decimal | None = None
    regime: Regime | None = None
    seen: Mapping[str, Seen] = field(default_factory=dict)

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the figures that could not be read."""
        return tuple(f.name for f in fields(self) if getattr(self, f.name) is None)

    @property
    def unread(self) -> tuple[str, ...]:
        """What could not be read though it was asked for: depth is asked for at a decision only."""
        return tuple(name for name in self.missing if name != "depth_notional")

    @property
    def sources(self) -> dict[str, datetime]:
        """When each source said what is here."""
        return {one.source: one.at for one in self.seen.values()}

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
        self.reports, self.version = _with_brackets(reports), self.version + 1
        self.instruments = {report.symbol: _instrument(report) for report in self.reports}
        # Brackets come with an account's keys: without any account yet, the table is asked again soon.
        is_whole = self.market != Market.FUTURES or all(report.brackets for report in self.reports)
        self._kept_until = monotonic() + (INSTRUMENTS_KEPT_SECONDS if is_whole else ASKED_AGAIN_SECONDS)


def _with_brackets(reports: Sequence[InstrumentReport]) -> Sequence[InstrumentReport]:
    """Whoever read brackets tells them on; who may not, having no keys, takes what was told last."""
    told = {
        report.symbol: [_written(step) for step in report.brackets] for report in reports if report.brackets
    }
    if told:
        keep(BRACKETS_KEY, json.dumps(told), BRACKETS_KEPT_SECONDS)
        return reports
    kept = json.loads(recall(BRACKETS_KEY) or "{}")
    return [replace(one, brackets=tuple(map(_bracket, kept.get(one.symbol, ())))) for one in reports]


def _written(step: MarginBracket) -> list[str]:
    return [str(getattr(step, name)) for name in BRACKET_FIELDS]


def _bracket(row: Sequence[str]) -> MarginBracket:
    floor, cap, ratio, leverage = row
    return MarginBracket(Decimal(floor), Decimal(cap), int(leverage), Decimal(ratio))


@lru_cache(maxsize=len(Market))
def _listing(market: Market) -> Listing:
    return Listing(market)


def instruments(market: Market) -> Mapping[str, Instrument]:
    """The instruments of a market by unified symbol. Raises ReadFailed when they were never read."""
    return _listing(market).current().instruments


def known_instruments(market: Market) -> Mapping[str, Instrument]:
    """The instruments as this process read them last, none where it never did; nothing is asked."""
    return _listing(market).instruments


def symbol_table() -> SymbolTable:
    """How symbols may be spelt and which are twins. Raises ReadFailed when a market was never read."""
    return _table(*(_listing(market).current().version for market in Market))


@lru_cache(maxsize=1)
def _table(*_versions: int) -> SymbolTable:
    return SymbolTable([report for market in Market for report in _listing(market).reports])


def listed_symbol(written: str) -> str | None:
    """The market symbol that somebody wrote, in any accepted spelling; None when none has that name."""
    try:
        return symbol_table().unify(written)
    except UnknownSymbol:
        return None


def unified_symbol(written: str) -> str | None:
    """As `listed_symbol`, the perpetual of that coin; None when it has none."""
    listed = listed_symbol(written)
    return None if listed is None else symbol_on(listed, Market.FUTURES)


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


@dataclass(frozen=True, slots=True)
class Tickers:
    """The 24 h figures of all perpetuals by symbol, as read at `at`."""

    at: datetime
    by_symbol: Mapping[str, Ticker]


@dataclass(frozen=True, slots=True)
class Depth:
    """Quote units resting within 0.5 % of the mid, on the thinner side, as read at `at`."""

    at: datetime
    notional: Decimal


def tickers(now: datetime) -> Tickers:
    """The 24 h figures of all perpetuals, seconds old at most. Raises ReadFailed."""
    found = _tickers_in(_quotes([TICKERS], now))
    if found is None:
        raise ReadFailed("MARKET", "the 24 h figures could not be read")
    return found


@dataclass(frozen=True, slots=True)
class _Kept:
    """What was read a moment ago, and when."""

    at: datetime
    value: Any


@dataclass(frozen=True, slots=True)
class _Quote:
    """What is read when it is asked for and kept for seconds: by what call, under which key, written how."""

    key: str
    call: Callable[[], Coroutine[Any, Any, Any]]
    written: Callable[[Any], Any]


def _written_tickers(read: Sequence[Ticker]) -> list[list[str | None]]:
    return [[_text(getattr(ticker, name)) for name in TICKER_FIELDS] for ticker in read]


TICKERS = _Quote("desk:tickers", lambda: market_data(Market.FUTURES).fetch_tickers(), _written_tickers)


def _book(symbol: str) -> _Quote:
    def call() -> Coroutine[Any, Any, Decimal]:
        return market_data(Market.FUTURES).fetch_depth_quote(symbol, DEPTH_WITHIN)

    return _Quote(_depth_key(symbol), call, str)


def _depth_key(symbol: str) -> str:
    return f"desk:depth:{symbol}"


def _tickers_in(quotes: Mapping[str, _Kept]) -> Tickers | None:
    kept = quotes.get(TICKERS.key)
    if kept is None:
        return None
    return Tickers(kept.at, {ticker.symbol: ticker for ticker in (_ticker(row) for row in kept.value)})


def _depths_in(quotes: Mapping[str, _Kept], symbols: Iterable[str]) -> dict[str, Depth]:
    kept = {symbol: quotes.get(_depth_key(symbol)) for symbol in symbols}
    return {symbol: Depth(one.at, Decimal(one.value)) for symbol, one in kept.items() if one is not None}


def _quotes(wanted: Sequence[_Quote], now: datetime) -> dict[str, _Kept]:
    """What was seen lately and, all asked for at once, what was not; what cannot be read is left out."""
    raw = recall_many([one.key for one in wanted])
    seen = {one.key: _kept_lately(text, now) for one, text in zip(wanted, raw, strict=True)}
    found = {key: kept for key, kept in seen.items() if kept is not None}
    lacking = [one for one in wanted if one.key not in found]
    # What an entry is decided by comes before what is only reported.
    with priority(Priority.ENTRY):
        answers = IoLoop.current().run_all([one.call() for one in lacking], READ_SECONDS)
    for one, answer in zip(lacking, answers, strict=True):
        if isinstance(answer, BaseException):
            log.warning("quote_not_read", quote=one.key, error=type(answer).__name__)
        else:
            found[one.key] = _keep(one.key, one.written(answer), now)
    return found


def _keep(key: str, value: Any, now: datetime) -> _Kept:
    keep(key, json.dumps({"at": ms_of(now), "value": value}), KEPT_SECONDS)
    return _Kept(now, value)


def _kept_lately(raw: bytes | None, now: datetime) -> _Kept | None:
    """What was kept, if the desk's clock says too that it is young: a replay may have moved on."""
    kept = json.loads(raw) if raw else None
    if kept is None or abs(ms_of(now) - kept["at"]) > KEPT_SECONDS * 1000:
        return None
    return _Kept(moment_of(kept["at"]), kept["value"])


def _text(value: Decimal | str | None) -> str | None:
    return None if value is None else str(value)


def _ticker(row: Sequence[str | None]) -> Ticker:
    symbol, last_price, quote_volume, bid, ask = row
    return Ticker(
        symbol=str(symbol),
        last_price=Decimal(last_price or 0),
        quote_volume=None if quote_volume is None else Decimal(quote_volume),
        bid=None if bid is None else Decimal(bid),
        ask=None if ask is None else Decimal(ask),
    )


# ── figures ──────────────────────────────────────────────────────────────────


def figures(symbols: Iterable[str], now: datetime, *, with_depth: bool = False) -> dict[str, MarketFigures]:
    """Everything known of several symbols, read in as few calls as there are kinds; depth only when asked."""
    wanted = list(dict.fromkeys(symbols))
    seen_marks = _or_nothing(lambda: marks(wanted, now))
    quotes = _quotes([TICKERS, *(_book(symbol) for symbol in wanted if with_depth)], now)
    seen_tickers, depths = _tickers_in(quotes), _depths_in(quotes, wanted)
    hours = hours_of(wanted, now)
    return {
        symbol: MarketFigures(
            symbol=symbol,
            **_of_mark(seen_marks.get(symbol)),
            **_of_ticker(seen_tickers.by_symbol.get(symbol) if seen_tickers else None, hours.get(symbol)),
            **_of_hours(hours.get(symbol)),
            depth_notional=depths[symbol].notional if symbol in depths else None,
            seen=_sources(symbol, seen_marks, seen_tickers, hours, depths),
        )
        for symbol in wanted
    }


HOURLY = ("close", "ema50", "ema200", "adx14", "atr14", "range_24h", "volatility", "regime")
PRICED = ("mark_price", "funding_rate", "next_funding_at")
QUOTED = ("bid", "ask", "spread")


def _of_mark(mark: MarkPrice | None) -> dict[str, Any]:
    return {name: getattr(mark, name) for name in PRICED} if mark else {}


def _of_ticker(ticker: Ticker | None, hours: Hours | None) -> dict[str, Any]:
    """Best prices and volume; a venue that tells no quote volume has that of its candles."""
    volume = ticker.quote_volume if ticker else None
    told = {"quote_volume_24h": hours.quote_volume_24h if volume is None and hours else volume}
    return told | ({"bid": ticker.bid, "ask": ticker.ask, "spread": _spread(ticker)} if ticker else {})


def _of_hours(hours: Hours | None) -> dict[str, Any]:
    if hours is None:
        return {}
    of_candles = {name: getattr(hours.values, name) for name in HOURLY if hasattr(hours.values, name)}
    return of_candles | {"volatility": hours.volatility, "regime": hours.regime}


def _sources(
    symbol: str,
    seen_marks: Mapping[str, MarkPrice],
    seen_tickers: Tickers | None,
    hours: Mapping[str, Hours],
    depths: Mapping[str, Depth],
) -> dict[str, Seen]:
    """Where each figure came from and when it was true."""
    seen: dict[str, Seen] = {}
    if symbol in hours and (at := hours[symbol].values.at):
        seen |= dict.fromkeys(HOURLY, Seen("closed 1 h candles", at))
        seen["quote_volume_24h"] = Seen("volume of closed 1 h candles", at)
    if symbol in seen_marks:
        seen |= dict.fromkeys(PRICED, Seen("mark stream", seen_marks[symbol].at))
    if seen_tickers and symbol in seen_tickers.by_symbol:
        quoted = Seen("24 h ticker", seen_tickers.at)
        seen |= dict.fromkeys(QUOTED, quoted)
        if seen_tickers.by_symbol[symbol].quote_volume is not None:
            seen["quote_volume_24h"] = quoted
    if symbol in depths:
        seen["depth_notional"] = Seen("order book", depths[symbol].at)
    return seen


def _spread(ticker: Ticker) -> Decimal | None:
    if not ticker.bid or not ticker.ask:
        return None
    return (ticker.ask - ticker.bid) / ((ticker.ask + ticker.bid) / 2)


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
