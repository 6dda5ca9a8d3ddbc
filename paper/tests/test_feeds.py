import gzip
import zipfile
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest

from paper.feeds.candles import HOUR_MS, MINUTE_MS, Candle, aggregated
from paper.feeds.feed import DataMissing
from paper.feeds.replay import ReplayFeed, load_folder, open_replay, read_candles
from paper.feeds.synthetic import SyntheticFeed
from paper.symbols import load_markets

NOW_MS = 1_750_000_017_000
MARKETS = load_markets()
HEADER = "open_time,open,high,low,close,volume,close_time,quote_volume,count,a,b,ignore"


def synthetic(seed: int = 7, now_ms: int = NOW_MS) -> SyntheticFeed:
    chosen = {symbol: MARKETS.futures[symbol] for symbol in ("BTCUSDT", "ADAUSDT")}
    return SyntheticFeed(chosen, seed, now_ms)


def test_the_same_seed_gives_the_same_market_wherever_one_starts() -> None:
    early, late = synthetic(now_ms=NOW_MS - 3 * HOUR_MS), synthetic()
    early.seek(NOW_MS)
    window = ("BTCUSDT", MINUTE_MS, NOW_MS - 2 * HOUR_MS, NOW_MS)
    assert early.candles(*window) == late.candles(*window)
    assert early.points() == late.points()
    assert synthetic(seed=8).candles(*window) != late.candles(*window)


def test_it_has_a_past_of_thirty_days_of_hours_and_two_of_minutes() -> None:
    feed = synthetic()
    hours = feed.candles("ADAUSDT", HOUR_MS, NOW_MS - 720 * HOUR_MS, NOW_MS)
    minutes = feed.candles("ADAUSDT", MINUTE_MS, NOW_MS - 48 * HOUR_MS, NOW_MS)
    assert (len(hours), len(minutes)) == (720, 2880)
    assert [b.open_ms - a.open_ms for a, b in pairwise(hours)] == [HOUR_MS] * 719


def test_hours_are_made_of_their_minutes() -> None:
    feed = synthetic()
    hours = feed.candles("BTCUSDT", HOUR_MS, NOW_MS - 20 * HOUR_MS, NOW_MS)
    minutes = feed.candles("BTCUSDT", MINUTE_MS, hours[0].open_ms, NOW_MS)
    assert aggregated(minutes, HOUR_MS) == hours


def test_every_candle_holds_its_own_prices() -> None:
    for candle in synthetic().candles("BTCUSDT", MINUTE_MS, NOW_MS - 24 * HOUR_MS, NOW_MS):
        assert candle.low <= min(candle.open, candle.close) <= max(candle.open, candle.close) <= candle.high


def test_seconds_pass_within_the_candle_they_make() -> None:
    feed = synthetic(now_ms=NOW_MS // MINUTE_MS * MINUTE_MS)
    seen = []
    for _ in range(60):
        seen.append(next(p.last for p in feed.points() if p.symbol == "BTCUSDT"))
        feed.seek(feed.now_ms + 1000)
    candle = feed.candles("BTCUSDT", MINUTE_MS, feed.now_ms - MINUTE_MS, feed.now_ms - MINUTE_MS)[0]
    assert Decimal(str(candle.open)) == seen[0]
    assert Decimal(str(candle.low)) == min(*seen, Decimal(str(candle.close)))
    assert Decimal(str(candle.high)) == max(*seen, Decimal(str(candle.close)))


def candle_lines() -> list[str]:
    start = 1_750_000_020_000 // MINUTE_MS * MINUTE_MS
    rows = [("100", "103", "99", "102"), ("102", "102.5", "97", "98"), ("98", "98", "98", "98")]
    return [
        f"{start + i * MINUTE_MS},{','.join(row)},5,{start + (i + 1) * MINUTE_MS - 1},0,0,0,0,0"
        for i, row in enumerate(rows)
    ]


def replay(folder: Path, **more: float) -> ReplayFeed:
    (folder / "SOLUSDT-1m.csv").write_text("\n".join([HEADER, *candle_lines()]))
    return open_replay(folder, MARKETS.futures, "1m", set(), 0, more.get("warmup_days", 0))


def test_a_rising_candle_passes_low_before_high_and_a_falling_one_high_before_low(tmp_path: Path) -> None:
    feed = replay(tmp_path)
    path, closed = [feed.points()[0].mark], []
    while not feed.done:
        closed.append(feed.advance())
        path.append(feed.points()[0].mark)
    assert path == [
        Decimal(p) for p in ["100", "99", "103", "102", "102", "102.5", "97", "98", "98", "98", "98", "98"]
    ]
    assert closed == [False, False, True, False] * 2 + [False, False, True]


def test_the_forming_candle_shows_only_what_has_passed(tmp_path: Path) -> None:
    feed = replay(tmp_path)
    feed.advance()
    start = feed.now_ms - HOUR_MS
    assert feed.candles("SOLUSDT", MINUTE_MS, start, feed.now_ms)[-1][1:5] == (100, 100, 99, 99)
    feed.advance()
    assert feed.candles("SOLUSDT", MINUTE_MS, start, feed.now_ms)[-1][1:5] == (100, 103, 99, 103)
    feed.advance()
    whole = feed.candles("SOLUSDT", MINUTE_MS, start, feed.now_ms)[-1]
    assert (whole[1:5], whole.quote_volume) == ((100, 103, 99, 102), 5 * 102)


def test_packed_and_microsecond_files_are_the_same_candles(tmp_path: Path) -> None:
    plain = tmp_path / "a.csv"
    plain.write_text("\n".join(candle_lines()))
    packed = tmp_path / "a.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    zipped = tmp_path / "a.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        fine = "\n".join(line.replace(",", "000,", 1) for line in candle_lines())
        archive.writestr("a.csv", fine)
    tables = [read_candles(path).tolist() for path in (plain, packed, zipped)]
    assert tables[0] == tables[1] == tables[2]
    assert len(tables[0]) == 3


def test_a_folder_without_candles_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataMissing, match="no 1m candles"):
        open_replay(tmp_path, MARKETS.futures, "1m", set(), 0, 0)


def test_coarser_candles_are_aggregated_in_time_order() -> None:
    fine = [Candle(i * MINUTE_MS, i, i + 2, i - 1, i + 1, 1, 10) for i in range(10)]
    assert aggregated(fine, 5 * MINUTE_MS) == [
        Candle(0, 0, 6, -1, 5, 5, 50),
        Candle(5 * MINUTE_MS, 5, 11, 4, 10, 5, 50),
    ]


@pytest.mark.recorded
def test_the_recorded_minutes_replay_over_their_common_span(recorded_candles: Path) -> None:
    feed = open_replay(recorded_candles, MARKETS.futures, "1m", set(), 0, 8.3)
    assert feed.symbols == {"BTCUSDT", "SOLUSDT", "XRPUSDT"}
    assert feed.now_ms == 1_746_372_960_000 + int(8.3 * 86_400_000) // MINUTE_MS * MINUTE_MS
    assert feed.times[-1] == 1_748_964_660_000
    hours = feed.candles("BTCUSDT", HOUR_MS, feed.now_ms - 199 * HOUR_MS, feed.now_ms)
    assert len(hours) == 199
    rates = feed.funding("BTCUSDT", feed.now_ms - 86_400_000, feed.now_ms)
    assert rates[0].mark_price == Decimal("104072.7")
    assert [(settled.time_ms, settled.funding_rate) for settled in rates] == [
        (1_747_008_000_000, Decimal("0.00004454")),
        (1_747_036_800_000, Decimal("0.0001")),
        (1_747_065_600_000, Decimal("0.00002301")),
    ]


def test_single_trades_become_candles_of_a_second(tmp_path: Path) -> None:
    lines = ["agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker"]
    prices = [("100.0", 0), ("103.0", 200), ("99.0", 400), ("101.0", 900), ("102.0", 1100), ("98.0", 61_500)]
    start = 1_750_000_020_000
    lines += [f"{n},{price},0.5,{n},{n},{start + at},true" for n, (price, at) in enumerate(prices, 1)]
    (tmp_path / "SOLUSDT-aggTrades-2025-06-15.csv").write_text("\n".join(lines))
    seconds = load_folder(tmp_path, "1s", {"SOLUSDT"})["SOLUSDT"].tolist()
    assert seconds[0] == [start, 100, 103, 99, 101, 2.0, 201.5]
    assert [row[0] - start for row in seconds] == [0, 1000, 61_000]
    minutes = load_folder(tmp_path, "1m", {"SOLUSDT"})["SOLUSDT"].tolist()
    assert minutes[0][1:5] == [100, 103, 99, 102]
    feed = open_replay(tmp_path, MARKETS.futures, "1s", set(), start, 0)
    passed = [feed.points()[0].last]
    for _ in range(3):
        feed.advance()
        passed.append(feed.points()[0].last)
    assert passed == [100, 99, 103, 101]
