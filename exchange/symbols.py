"""Symbols, by the market table only: no string surgery decides what is traded."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from exchange.port import InstrumentReport, Market


class UnknownSymbol(ValueError):
    """A written symbol that names no listed market; `written` is what was asked for."""

    def __init__(self, written: str) -> None:
        """Keep the name that was refused, cut to what a page can show."""
        super().__init__(f"unknown symbol {written[:64]!r}")
        self.written = written


@dataclass(frozen=True, slots=True)
class _Pair:
    """One base and quote with the markets it is listed on."""

    futures: str | None = None
    spot: str | None = None


class SymbolTable:
    """Every listed market under every way of writing it.

    The ways are generated from the listed markets, so what is not listed is unknown however it is written.
    A writing that both markets share (``DOTUSDT``, ``DOT-USDT``, ``DOT/USDT``) means the perpetual where
    there is one: signals are about futures unless they say otherwise.
    """

    def __init__(self, instruments: Iterable[InstrumentReport]) -> None:
        """Futures and spot instruments of one venue together."""
        self._listed: dict[str, InstrumentReport] = {item.symbol: item for item in instruments}
        self._pairs = _pairs(self._listed.values())
        self._written = _writings(self._listed.values())

    def __contains__(self, symbol: str) -> bool:
        return symbol in self._listed

    def __len__(self) -> int:
        return len(self._listed)

    def unify(self, written: str) -> str:
        """The unified symbol of what somebody wrote; raises `UnknownSymbol`."""
        unified = self._written.get(written.strip().upper())
        if unified is None:
            raise UnknownSymbol(written)
        return unified

    def instrument(self, symbol: str) -> InstrumentReport:
        """The rules of a unified symbol; raises `UnknownSymbol`."""
        found = self._listed.get(symbol)
        if found is None:
            raise UnknownSymbol(symbol)
        return found

    def futures_twin(self, symbol: str) -> str | None:
        """The perpetual of the same base and quote, or None."""
        return self._pair_of(symbol).futures

    def spot_twin(self, symbol: str) -> str | None:
        """The spot market of the same base and quote, or None."""
        return self._pair_of(symbol).spot

    def twin_on(self, symbol: str, market: Market) -> str | None:
        """The same base and quote on a market, or None."""
        return self.futures_twin(symbol) if market is Market.FUTURES else self.spot_twin(symbol)

    def _pair_of(self, symbol: str) -> _Pair:
        item = self.instrument(symbol)
        return self._pairs[item.base, item.quote]


def _pairs(instruments: Iterable[InstrumentReport]) -> Mapping[tuple[str, str], _Pair]:
    pairs: dict[tuple[str, str], _Pair] = {}
    for item in instruments:
        known = pairs.get((item.base, item.quote), _Pair())
        is_futures = item.market is Market.FUTURES
        pairs[item.base, item.quote] = _Pair(
            futures=item.symbol if is_futures else known.futures,
            spot=known.spot if is_futures else item.symbol,
        )
    return pairs


def _writings(instruments: Iterable[InstrumentReport]) -> Mapping[str, str]:
    """Every accepted writing; the perpetual is written last and so wins what both share."""
    written: dict[str, str] = {}
    for item in sorted(instruments, key=lambda item: item.market is Market.FUTURES):
        for way in _ways(item):
            written[way.upper()] = item.symbol
    return written


def _ways(item: InstrumentReport) -> Iterable[str]:
    base, quote = item.base, item.quote
    yield from (item.symbol, f"{base}{quote}", f"{base}-{quote}", f"{base}/{quote}", f"BINANCE:{base}{quote}")
    if item.venue_symbol:
        yield item.venue_symbol
    if item.market is Market.FUTURES:
        yield from (f"{base}{quote}:{quote}", f"{base}{quote}.P", f"BINANCE:{base}{quote}.P")
