"""The marks of a market, published by the watcher and read by everyone, each with its age."""

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol

from redis.exceptions import RedisError

from exchange.port import Market, MarkPrice

EPOCH = datetime.fromtimestamp(0, UTC)


class RedisHashes(Protocol):
    """The part of a synchronous Redis client that the board needs."""

    def hset(self, name: str, *, mapping: Mapping[Any, Any]) -> Any:
        """Set fields of a hash."""
        ...

    def hmget(self, name: str, keys: list[Any]) -> Any:
        """Get fields of a hash."""
        ...

    def hgetall(self, name: str) -> Any:
        """Get a whole hash."""
        ...


class MarkBoard:
    """Marks under one key, ``desk:marks:{market}``: symbol to ``[price, at_ms, rate, due_ms]``.

    Times are the exchange's own, so that age is told against the desk's clock, in a replay too.
    """

    def __init__(self, redis: RedisHashes, market: Market = Market.FUTURES) -> None:
        """Redis is given, synchronous."""
        self._redis = redis
        self._key = f"desk:marks:{market}"
        self._published: dict[str, datetime] = {}

    def publish(self, marks: Iterable[MarkPrice]) -> None:
        """Put marks on the board; one older than what this publisher put there before is left out."""
        fresh = {mark.symbol: mark for mark in marks if mark.at >= self._published.get(mark.symbol, EPOCH)}
        if fresh:
            self._redis.hset(self._key, mapping={symbol: _written(mark) for symbol, mark in fresh.items()})
            self._published.update({symbol: mark.at for symbol, mark in fresh.items()})

    def read(self, symbols: Iterable[str] | None = None) -> dict[str, MarkPrice]:
        """The marks on the board, of some symbols or all, whatever their age; none when Redis is gone."""
        try:
            rows = self._rows(None if symbols is None else list(symbols))
        except (RedisError, OSError):
            return {}
        return {symbol: _read(symbol, row) for symbol, row in rows.items() if row}

    def read_fresh(
        self,
        symbols: Iterable[str],
        now: datetime,
        max_age_seconds: float,
        fetch: Callable[[], Iterable[MarkPrice]],
    ) -> dict[str, MarkPrice]:
        """Marks of the symbols, none older than asked for; one REST call through `fetch` fills the gaps.

        What stays missing is missing. Whatever `fetch` raises goes through: error is not empty.
        """
        wanted = set(symbols)
        oldest = now - timedelta(seconds=max_age_seconds)
        marks = {symbol: mark for symbol, mark in self.read(wanted).items() if mark.at >= oldest}
        if len(marks) == len(wanted):
            return marks
        fetched = {mark.symbol: mark for mark in fetch() if mark.at >= oldest}
        return {symbol: mark for symbol, mark in (marks | fetched).items() if symbol in wanted}

    def _rows(self, symbols: list[str] | None) -> dict[str, Any]:
        if symbols is None:
            return {_text(symbol): row for symbol, row in self._redis.hgetall(self._key).items()}
        return dict(zip(symbols, self._redis.hmget(self._key, symbols), strict=True)) if symbols else {}


def age_seconds(mark: MarkPrice, now: datetime) -> float:
    """How old a mark is; negative when the exchange's clock is ahead."""
    return (now - mark.at).total_seconds()


def _written(mark: MarkPrice) -> str:
    due = None if mark.next_funding_at is None else _milliseconds(mark.next_funding_at)
    rate = None if mark.funding_rate is None else str(mark.funding_rate)
    return json.dumps([str(mark.mark_price), _milliseconds(mark.at), rate, due])


def _read(symbol: str, row: str | bytes) -> MarkPrice:
    price, at_ms, rate, due = json.loads(row)
    return MarkPrice(
        symbol=symbol,
        mark_price=Decimal(price),
        at=EPOCH + timedelta(milliseconds=at_ms),
        funding_rate=None if rate is None else Decimal(rate),
        next_funding_at=None if due is None else EPOCH + timedelta(milliseconds=due),
    )


def _milliseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(milliseconds=1)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
