"""Recorded candles with invented flash crashes in them: a minute that falls, or leaps, and half recovers."""

import csv
import gzip
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

TIMEFRAME = "1m"
MINUTE = timedelta(minutes=1)
OPEN_TIME, OPEN, HIGH, LOW, CLOSE = range(5)


@dataclass(frozen=True, slots=True)
class Crash:
    """One minute of a symbol, as the exchange writes it; `move` is a fraction of its open, negative down."""

    symbol: str
    minute: datetime
    move: Decimal

    @property
    def open_ms(self) -> int:
        """When its candle opens."""
        return int(self.minute.timestamp() * 1000)

    def covers(self, time_ms: int) -> bool:
        """Whether this moment lies in its minute."""
        return 0 <= time_ms - self.open_ms < MINUTE.total_seconds() * 1000


def write_crashed(recorded: Path, folder: Path, symbols: Sequence[str], crashes: Iterable[Crash]) -> None:
    """Write the minutes of these symbols to a new folder, the crashes in them, beside their funding rates."""
    folder.mkdir(parents=True)
    by_symbol: dict[str, dict[str, Crash]] = {symbol: {} for symbol in symbols}
    for crash in crashes:
        by_symbol[crash.symbol][str(crash.open_ms)] = crash
    for symbol, ours in by_symbol.items():
        name = f"{symbol}-{TIMEFRAME}.csv.gz"
        _copy(recorded / name, folder / name, ours)
        for funding in recorded.glob(f"{symbol}-8h-funding.csv*"):
            (folder / funding.name).symlink_to(funding)


def _copy(recorded: Path, crashed: Path, crashes: Mapping[str, Crash]) -> None:
    with gzip.open(recorded, "rt") as lines, gzip.open(crashed, "wt", compresslevel=1) as out:
        writer = csv.writer(out)
        for row in csv.reader(lines):
            crash = crashes.get(row[OPEN_TIME])
            writer.writerow(row if crash is None else _crashed(row, crash))


def _crashed(row: list[str], crash: Crash) -> list[str]:
    begun = Decimal(row[OPEN])
    end, half = begun * (1 + crash.move), begun * (1 + crash.move / 2)
    changed = list(row)
    changed[HIGH], changed[LOW], changed[CLOSE] = (
        f"{max(begun, end):f}",
        f"{min(begun, end):f}",
        f"{half:f}",
    )
    return changed
