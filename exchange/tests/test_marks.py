from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from exchange.errors import ReadFailed
from exchange.marks import MarkBoard, age_seconds
from exchange.port import Market, MarkPrice

NOW = datetime(2026, 11, 20, 12, 0, 0, 250_000, tzinfo=UTC)
BTC = "BTC/USDT:USDT"
ETH = "ETH/USDT:USDT"


def mark(symbol: str = BTC, price: str = "70000.10000001", age: float = 0.0) -> MarkPrice:
    return MarkPrice(
        symbol=symbol,
        mark_price=Decimal(price),
        at=NOW - timedelta(seconds=age),
        funding_rate=Decimal("-0.00012345"),
        next_funding_at=NOW.replace(hour=16, minute=0, microsecond=0),
    )


@pytest.fixture
def board(redis: Redis) -> MarkBoard:
    return MarkBoard(redis, Market.FUTURES)


def never() -> list[MarkPrice]:
    raise AssertionError("nothing was missing")


def test_a_mark_comes_back_exactly_as_it_was_published(board: MarkBoard) -> None:
    board.publish([mark()])

    assert board.read([BTC, "XRP/USDT:USDT"]) == {BTC: mark()}


def test_one_publisher_serves_every_reader_of_the_market_and_no_other(board: MarkBoard, redis: Redis) -> None:
    board.publish([mark(), mark(ETH, "2000")])

    assert MarkBoard(redis, Market.FUTURES).read() == {BTC: mark(), ETH: mark(ETH, "2000")}
    assert MarkBoard(redis, Market.SPOT).read() == {}


def test_an_older_mark_never_replaces_a_newer_one(board: MarkBoard) -> None:
    board.publish([mark(price="70001", age=1)])
    board.publish([mark(price="69000", age=9)])

    assert board.read([BTC])[BTC].mark_price == Decimal(70001)


def test_age_is_told_against_the_clock_that_is_given() -> None:
    assert age_seconds(mark(age=2.5), NOW) == 2.5


def test_fresh_marks_cost_no_call(board: MarkBoard) -> None:
    board.publish([mark(age=2.9)])

    assert board.read_fresh([BTC], NOW, 3, never) == {BTC: mark(age=2.9)}


def test_old_and_missing_marks_are_fetched_in_one_call(board: MarkBoard) -> None:
    board.publish([mark(age=3.1)])
    calls: list[int] = []

    def fetch() -> list[MarkPrice]:
        calls.append(1)
        return [mark(price="70002"), mark(ETH, "2000"), mark("XRP/USDT:USDT", "2")]

    assert board.read_fresh([BTC, ETH], NOW, 3, fetch) == {BTC: mark(price="70002"), ETH: mark(ETH, "2000")}
    assert calls == [1]


def test_what_is_old_everywhere_stays_missing(board: MarkBoard) -> None:
    board.publish([mark(age=60)])

    assert board.read_fresh([BTC], NOW, 3, lambda: [mark(age=50)]) == {}


def test_a_failed_fetch_is_told_not_read_as_no_marks(board: MarkBoard) -> None:
    def fetch() -> list[MarkPrice]:
        raise ReadFailed("TIMEOUT")

    with pytest.raises(ReadFailed):
        board.read_fresh([BTC], NOW, 3, fetch)


def test_without_redis_the_call_still_serves() -> None:
    board = MarkBoard(Redis(port=1, retry=Retry(NoBackoff(), 0)))

    assert board.read([BTC]) == {}
    assert board.read_fresh([BTC], NOW, 3, lambda: [mark()]) == {BTC: mark()}
