"""A replay of candles through the whole desk, and what its exchange and its desk kept of it."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from paper.feeds.replay import open_replay
from paper.ledger import Row
from paper.store import Store, decoder
from paper.symbols import load_markets
from tests.crash.candles import TIMEFRAME
from tests.crash.oracle import Life, Verdict, judge, lives_of, points_of
from tests.processes import ROOT

SENT_BESIDE_A_STOP = """
    SELECT exits.client_order_id
    FROM trading_order AS exits JOIN trading_position AS held ON held.id = exits.position_id
    WHERE held.close_reason = 'STOP_LOSS' AND exits.purpose = 'EXIT' AND exits.reason = 'STOP_LOSS'
      AND exits.submitted_at IS NOT NULL
"""
"""What the desk sent to close a position that its stop closed: the exchange may have refused it, untold."""


class ReplayFailed(RuntimeError):
    """It did not end, or not reconciled; its last words."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """A replay that ended well, its place still there."""

    data: Path
    warmup_days: float
    place: Path
    report: str

    def lives(self) -> list[Life]:
        """Every position on futures, as the exchange's ledger tells it."""
        store = Store(self.place / "replay" / "paper")
        try:
            bodies = store.connection.execute("SELECT body FROM ledger ORDER BY seq").fetchall()
        finally:
            store.close()
        decode = decoder(Row)
        rows: Iterator[Row] = (decode(body) for (body,) in bodies)
        return list(lives_of(row for row in rows if row.market == "futures"))

    def judge(self) -> Verdict:
        """The oracle's verdict on every position."""
        table = load_markets().futures
        feed = open_replay(self.data, table, TIMEFRAME, set(), 0, self.warmup_days)
        verdict = judge(self.lives(), points_of(feed), table)
        verdict.doubled += [f"{name} was sent beside a stop" for name in self._sent_beside_stops()]
        return verdict

    def _sent_beside_stops(self) -> list[str]:
        with closing(sqlite3.connect(self.place / "replay" / "phalanx.sqlite3")) as rows:
            return [name for (name,) in rows.execute(SENT_BESIDE_A_STOP)]


def replay(
    data: Path, place: Path, *, days: float, warmup_days: float, accounts: int, seconds: float
) -> Replayed:
    """Replay in a place of its own. Raises ReplayFailed."""
    words: Sequence[str] = (
        *("--data", str(data), "--timeframe", TIMEFRAME, "--accounts", str(accounts)),
        *("--days", str(days), "--warmup-days", str(warmup_days)),
    )
    run = subprocess.run(
        [sys.executable, "manage.py", "replay", *words],
        cwd=ROOT,
        env={**os.environ, "VAR_DIR": str(place)},
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
    if run.returncode:
        raise ReplayFailed(run.stdout[-4000:] + run.stderr[-2000:])
    return Replayed(data, warmup_days, place, run.stdout)
