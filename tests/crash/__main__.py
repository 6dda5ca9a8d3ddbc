"""`python -m tests.crash`: recorded days through the whole desk twice, the second time with crashes in them.

The first pass tells when positions are held; then one minute of each coin and third of a day, some minutes
after a position was opened, crashes against it. Every position of the second pass is judged;
a line of JSON tells.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from project.replay.stage import candle_symbols
from tests.crash.candles import TIMEFRAME, Crash, write_crashed
from tests.crash.oracle import Life, StopOut, Verdict, stop_outs_of
from tests.crash.replayed import replay

AFTER_OPENING = timedelta(minutes=4)
HOURS_BETWEEN = 8
MOST_SECONDS = 86_400.0


def main() -> int:
    """Run both passes; 0 when every position was closed as it had to be."""
    parse = argparse.ArgumentParser(prog="crash", description=__doc__)
    parse.add_argument("--data", type=Path, required=True, help="folder of one-minute candle files")
    parse.add_argument("--days", type=float, default=3.0)
    parse.add_argument("--warmup-days", type=float, default=8.3)
    parse.add_argument("--accounts", type=int, default=20)
    parse.add_argument("--move", type=Decimal, default=Decimal("0.06"), help="of a crash, a fraction")
    told = parse.parse_args()
    recorded, symbols = told.data.resolve(), candle_symbols(told.data, TIMEFRAME)
    length = {"days": told.days, "warmup_days": told.warmup_days}
    with tempfile.TemporaryDirectory(prefix="phalanx-crash-") as name:
        place = Path(name)
        plain, crashed = place / "plain", place / "crashed"
        write_crashed(recorded, plain, symbols, [])
        first = replay(plain, place / "first", accounts=1, seconds=MOST_SECONDS, **length)
        crashes = crashes_against(first.lives(), told.move)
        sys.stderr.write("".join(f"{one.symbol} {one.minute:%m-%d %H:%M} {one.move:+}\n" for one in crashes))
        write_crashed(recorded, crashed, symbols, crashes)
        second = replay(crashed, place / "second", accounts=told.accounts, seconds=MOST_SECONDS, **length)
        lives, verdict = second.lives(), second.judge()
    sys.stdout.write(json.dumps(summary(lives, crashes, verdict)) + "\n")
    return 1 if verdict.wrong else 0


def crashes_against(lives: Iterable[Life], move: Decimal) -> list[Crash]:
    """One for each symbol and stretch of hours in which a position was opened, against it."""
    chosen: dict[tuple[str, int], Crash] = {}
    for life in lives:
        opened_at = datetime.fromtimestamp(life.rows[0].time_ms / 1000).astimezone()
        stretch = int(opened_at.timestamp()) // (HOURS_BETWEEN * 3600)
        minute = (opened_at + AFTER_OPENING).replace(second=0, microsecond=0)
        crash = Crash(life.symbol, minute, -move if life.is_long else move)
        chosen.setdefault((life.symbol, stretch), crash)
    return list(chosen.values())


def summary(lives: Iterable[Life], crashes: list[Crash], verdict: Verdict) -> dict[str, object]:
    """What was judged, and what was found."""
    stop_outs = stop_outs_of(lives)
    crashed = [one for one in stop_outs if any(is_in(one, crash) for crash in crashes)]
    return {
        "positions": len(list(lives)),
        "crashes": len(crashes),
        "stop_outs": len(stop_outs),
        "stop_outs_in_a_crash": len(crashed),
        "worst_slip_pct": f"{100 * max((one.slip for one in stop_outs), default=Decimal(0)):.3f}",
        **{kind: len(found) for kind, found in asdict(verdict).items()},
    }


def is_in(stop_out: StopOut, crash: Crash) -> bool:
    """Whether the stop fired in that crash."""
    return stop_out.symbol == crash.symbol and crash.covers(stop_out.time_ms)


if __name__ == "__main__":
    sys.exit(main())
