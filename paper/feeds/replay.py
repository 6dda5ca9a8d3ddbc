"""Recorded candles, passed one after another.

Files follow the Binance Vision columns (csv, csv.gz or zip; milliseconds or microseconds) and are named
``SYMBOL-INTERVAL[...]``. Each candle is four price points: open, then low and high when it rises (high and
low when it falls), then close; at the start, a quarter, half and the last millisecond of the interval.
Candles before the start are the past.

Files of single trades, ``SYMBOL-aggTrades[...]`` and ``SYMBOL-trades[...]``, become candles of one second:
they drive ``--timeframe 1s``, and longer ones when there are no candles. ``SYMBOL-8h-funding`` files give the
funding rates, else it is one basis point.
"""

import csv
import gzip
import io
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import numpy as np
import numpy.typing as npt

from paper.engine.exchange import Point
from paper.feeds.candles import DAY_MS, FUNDING_MS, INTERVALS_MS, Candle, next_funding, opening
from paper.feeds.feed import DataMissing, Settlement, on_grid
from paper.symbols import Instrument

NAME = re.compile(r"^([A-Z0-9]+)-(\d+[smhdw])(.*?)\.(csv|csv\.gz|zip)$")
TRADES = re.compile(r"^([A-Z0-9]+)-(aggTrades|trades)(.*?)\.(csv|csv\.gz|zip)$")
# Which columns hold price, quantity and time.
TRADE_COLUMNS = {"aggTrades": (1, 2, 5), "trades": (1, 2, 4)}
NOT_CANDLES = ("funding", "mark", "index", "premium", "spot")
MICROSECONDS_FROM = 10**14
USUAL_FUNDING = Decimal("0.0001")
POINTS = 4
SECOND_MS = 1000

Table = npt.NDArray[np.float64]  # open_ms, open, high, low, close, volume, quote_volume


def _lines(path: Path) -> Iterator[list[str]]:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                yield from csv.reader(io.TextIOWrapper(archive.open(name)))
        return
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        yield from csv.reader(lines)


def _milliseconds(text: str) -> int:
    value = int(float(text))
    return value // 1000 if value >= MICROSECONDS_FROM else value


def read_candles(path: Path) -> Table:
    """One file as a table; where quote volume is missing it is volume x close."""
    rows = []
    for cells in _lines(path):
        if not cells or not cells[0][:1].isdigit():
            continue
        close, volume, quote = float(cells[4]), float(cells[5]), float(cells[7] or 0)
        prices = (float(cells[1]), float(cells[2]), float(cells[3]), close)
        rows.append((_milliseconds(cells[0]), *prices, volume, quote or volume * close))
    return np.array(rows, dtype=np.float64).reshape(-1, 7)


def read_trades(path: Path, kind: str) -> Table:
    """Single trades as candles of one second."""
    price_at, quantity_at, time_at = TRADE_COLUMNS[kind]
    rows = []
    for cells in _lines(path):
        if cells and cells[0][:1].isdigit():
            price, quantity = float(cells[price_at]), float(cells[quantity_at])
            second = _milliseconds(cells[time_at]) // SECOND_MS * SECOND_MS
            rows.append((second, price, price, price, price, quantity, price * quantity))
    return coarser(np.array(rows, dtype=np.float64).reshape(-1, 7), SECOND_MS)


def read_funding(path: Path) -> dict[int, Decimal]:
    """Settlement time, on the hour, to funding rate."""
    hour = 3_600_000
    return {
        round(int(cells[0]) / hour) * hour: Decimal(cells[2])
        for cells in _lines(path)
        if cells and cells[0][:1].isdigit()
    }


def coarser(table: Table, interval_ms: int) -> Table:
    """The same candles at a longer interval."""
    if not len(table):
        return table
    offset = opening(0, interval_ms) % interval_ms
    starts = (table[:, 0] - offset) // interval_ms * interval_ms + offset
    edges = np.flatnonzero(np.diff(starts, prepend=-1.0))
    last = np.append(edges[1:], len(table)) - 1
    columns = [
        starts[edges],
        table[edges, 1],
        np.maximum.reduceat(table[:, 2], edges),
        np.minimum.reduceat(table[:, 3], edges),
        table[last, 4],
        np.add.reduceat(table[:, 5], edges),
        np.add.reduceat(table[:, 6], edges),
    ]
    return np.column_stack(columns)


def find_trades(folder: Path) -> dict[str, list[tuple[Path, str]]]:
    """The files of single trades of each symbol, with their kind."""
    found: dict[str, list[tuple[Path, str]]] = defaultdict(list)
    for path in sorted(folder.iterdir()):
        match = TRADES.match(path.name)
        if match:
            found[match[1]].append((path, match[2]))
    return found


def find_files(folder: Path, timeframe: str) -> dict[str, list[Path]]:
    """The candle files of each symbol that can drive this timeframe: exact ones, else the longest fitting."""
    wanted = INTERVALS_MS[timeframe]
    found: dict[str, dict[int, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(folder.iterdir()):
        match = NAME.match(path.name)
        if match and not any(word in match[3] for word in NOT_CANDLES):
            interval = INTERVALS_MS.get(match[2], 0)
            if interval and wanted % interval == 0 and (interval > SECOND_MS or wanted == SECOND_MS):
                found[match[1]][interval].append(path)
    return {symbol: sets[max(sets)] for symbol, sets in found.items()}


def load_folder(folder: Path, timeframe: str, symbols: set[str]) -> dict[str, Table]:
    """Each symbol's candles at the timeframe, in time order, each once."""
    tables = {}
    candles, trades = find_files(folder, timeframe), find_trades(folder)
    for symbol in sorted(candles | trades):
        if symbols and symbol not in symbols:
            continue
        if symbol in candles:
            table = np.concatenate([read_candles(path) for path in candles[symbol]])
        else:
            table = np.concatenate([read_trades(path, kind) for path, kind in trades[symbol]])
        _, first = np.unique(table[:, 0], return_index=True)
        tables[symbol] = coarser(table[first], INTERVALS_MS[timeframe])
    if not tables:
        raise DataMissing(f"no {timeframe} candles in {folder}")
    return tables


class ReplayFeed:
    """Candle tables as a feed over their common span."""

    kind = "replay"

    def __init__(
        self,
        tables: dict[str, Table],
        instruments: dict[str, Instrument],
        interval_ms: int,
        *,
        start_ms: int = 0,
        warmup_days: float = 8.3,
        funding: dict[str, dict[int, Decimal]] | None = None,
    ) -> None:
        self.tables = {symbol: table for symbol, table in tables.items() if symbol in instruments}
        if not self.tables:
            raise DataMissing("no candles of a known symbol")
        self.instruments = instruments
        self.interval_ms = interval_ms
        self.symbols = frozenset(self.tables)
        self.rates = funding or {}
        first = max(int(table[0, 0]) for table in self.tables.values())
        last = min(int(table[-1, 0]) for table in self.tables.values())
        start = max(first, start_ms or first + int(warmup_days * DAY_MS))
        times = np.unique(np.concatenate([table[:, 0] for table in self.tables.values()]))
        self.times = times[(times >= opening(start, interval_ms)) & (times <= last)].astype(np.int64).tolist()
        if not self.times:
            raise DataMissing("nothing is left to replay after the warm-up")
        self.step = 0
        self._day: dict[str, tuple[int, Candle]] = {}

    @property
    def now_ms(self) -> int:
        """The moment of the current price point."""
        offsets = (0, self.interval_ms // 4, self.interval_ms // 2, self.interval_ms - 1)
        return int(self.times[self.step // POINTS]) + offsets[self.step % POINTS]

    @property
    def done(self) -> bool:
        """The close of the last candle was passed."""
        return self.step >= len(self.times) * POINTS - 1

    def seek(self, now_ms: int) -> None:
        """Take up a replay where it was left."""
        while not self.done and self.now_ms < now_ms:
            self.step += 1

    def advance(self) -> bool:
        """Move one price point; whether it was a candle's close."""
        if not self.done:
            self.step += 1
        return self.step % POINTS == POINTS - 1

    def _row(self, symbol: str, open_ms: int) -> int:
        """Index of the first candle at or after that time."""
        return int(np.searchsorted(self.tables[symbol][:, 0], open_ms))

    def _seen(self, candle: Candle) -> list[float]:
        """The prices of this candle passed so far."""
        rises = candle.close >= candle.open
        turns = (candle.low, candle.high) if rises else (candle.high, candle.low)
        return [candle.open, *turns, candle.close][: self.step % POINTS + 1]

    def points(self) -> list[Point]:
        """The current point of every symbol that has a candle now, or its last known price at the start."""
        found = []
        open_ms, settles = self.times[self.step // POINTS], next_funding(self.now_ms)
        for symbol, table in self.tables.items():
            row = self._row(symbol, open_ms)
            if row < len(table) and table[row, 0] == open_ms:
                price = self._seen(Candle(*table[row].tolist()))[-1]
            elif self.step == 0 and row:
                price = float(table[row - 1, 4])
            else:
                continue
            value = on_grid(price, self.instruments[symbol])
            found.append(Point(symbol, value, value, value, self._funding_rate(symbol, settles), settles))
        return found

    def _funding_rate(self, symbol: str, settles_ms: int) -> Decimal:
        return self.rates.get(symbol, {}).get(settles_ms, USUAL_FUNDING)

    def funding(self, symbol: str, start_ms: int, end_ms: int) -> list[Settlement]:
        """Settlements that have happened, from the beginning of the candles."""
        first = max(start_ms, int(self.tables[symbol][0, 0]))
        times = range(next_funding(first - 1), min(end_ms, self.now_ms) + 1, FUNDING_MS)
        return [
            Settlement(time_ms, self._funding_rate(symbol, time_ms), self._opened(symbol, time_ms))
            for time_ms in times
        ]

    def _opened(self, symbol: str, time_ms: int) -> Decimal:
        """What the candle at or after that time opened with."""
        table = self.tables[symbol]
        row = min(self._row(symbol, time_ms), len(table) - 1)
        return on_grid(float(table[row, 1]), self.instruments[symbol])

    def _forming(self, symbol: str, row: int) -> list[Candle]:
        """The running candle, when the symbol has one now."""
        table, open_ms = self.tables[symbol], self.times[self.step // POINTS]
        if row >= len(table) or table[row, 0] != open_ms:
            return []
        whole = Candle(*table[row].tolist())
        seen = self._seen(whole)
        share = len(seen) / POINTS
        volume = round(whole.volume * share, 8)
        return [Candle(open_ms, seen[0], max(seen), min(seen), seen[-1], volume, whole.quote_volume * share)]

    def _past(self, symbol: str, start_ms: int) -> Table:
        """Candles from `start_ms` to now, the forming one last."""
        current = self._row(symbol, self.times[self.step // POINTS])
        past = self.tables[symbol][self._row(symbol, start_ms) : current]
        forming = self._forming(symbol, current)
        return np.concatenate([past, np.array(forming, dtype=np.float64)]) if forming else past

    def first_ms(self, symbol: str, interval_ms: int) -> int:
        """Where the recording of the symbol begins."""
        return opening(int(self.tables[symbol][0, 0]), max(interval_ms, self.interval_ms))

    def candles(self, symbol: str, interval_ms: int, start_ms: int, end_ms: int) -> list[Candle]:
        """Aggregated from the driving timeframe; a finer interval than that shows the driving one."""
        interval_ms = max(interval_ms, self.interval_ms)
        first = opening(start_ms, interval_ms)
        if first < start_ms:
            first += interval_ms
        table = coarser(self._past(symbol, first), interval_ms)
        rows = table[table[:, 0] <= end_ms].tolist() if len(table) else []
        return [Candle(int(row[0]), *row[1:]) for row in rows]

    def preparing(self, _symbol: str, _interval_ms: int, _start_ms: int, _end_ms: int) -> Iterator[None]:
        """Candles are at hand."""
        return iter(())

    def day(self, symbol: str) -> Candle:
        """The last 24 hours as one candle."""
        known = self._day.get(symbol)
        if known is None or known[0] != self.step:
            start = self.now_ms - DAY_MS
            table = self._past(symbol, start)
            known = (self.step, _merged(table, start))
            self._day[symbol] = known
        return known[1]


def _merged(table: Table, start_ms: int) -> Candle:
    columns = (
        table[0, 1],
        table[:, 2].max(),
        table[:, 3].min(),
        table[-1, 4],
        table[:, 5].sum(),
        table[:, 6].sum(),
    )
    return Candle(start_ms, *(float(value) for value in columns))


def open_replay(
    folder: Path,
    instruments: dict[str, Instrument],
    timeframe: str,
    symbols: set[str],
    start_ms: int,
    warmup_days: float,
) -> ReplayFeed:
    """The feed of a folder of candles, with its funding files."""
    tables = load_folder(folder, timeframe, symbols or set(instruments))
    funding = {
        symbol: read_funding(path) for symbol in tables for path in folder.glob(f"{symbol}-8h-funding.csv*")
    }
    return ReplayFeed(
        tables,
        instruments,
        INTERVALS_MS[timeframe],
        start_ms=start_ms,
        warmup_days=warmup_days,
        funding=funding,
    )
