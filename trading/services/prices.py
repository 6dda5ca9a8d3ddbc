"""The marks positions are read against, by the position's own symbol; spot is priced by its perpetual."""

from collections.abc import Iterable
from datetime import datetime

from redis.exceptions import RedisError

from exchange import heartbeat
from exchange.errors import GatewayError
from exchange.marks import MarkBoard
from exchange.port import Market, MarkPrice
from trading.models import Position
from trading.services import market
from trading.services.valkey import valkey


def seen_marks(positions: Iterable[Position]) -> dict[str, MarkPrice]:
    """The last marks the watcher published, however old: a page must show their age, and never wait."""
    priced_by = _priced_by(positions)
    try:
        board = MarkBoard(valkey()).read(set(priced_by.values()))
    except RedisError:
        return {}
    return _by_position_symbol(priced_by, board)


def fresh_marks(positions: Iterable[Position], now: datetime) -> dict[str, MarkPrice]:
    """Marks of the moment: from the board, else by one call; where both fail, the last seen."""
    listed = list(positions)
    priced_by = _priced_by(listed)
    if not priced_by:
        return {}
    try:
        return _by_position_symbol(priced_by, market.marks(set(priced_by.values()), now))
    except (GatewayError, RedisError):
        return seen_marks(listed)


def stream_age_seconds() -> float | None:
    """How long ago the stream brought marks, by the wall clock; None when it never did. Raises RedisError.

    The board cannot tell: whoever finds it old fills it by a call, and so would hide a dead stream.
    """
    return heartbeat.age_seconds(valkey(), heartbeat.MARKS)


def _priced_by(positions: Iterable[Position]) -> dict[str, str]:
    return {position.symbol: _perpetual(position) for position in positions}


def _perpetual(position: Position) -> str:
    if position.market == Market.FUTURES:
        return position.symbol
    quote = position.symbol.partition("/")[2]
    return f"{position.symbol}:{quote}"


def _by_position_symbol(priced_by: dict[str, str], marks: dict[str, MarkPrice]) -> dict[str, MarkPrice]:
    return {symbol: marks[perpetual] for symbol, perpetual in priced_by.items() if perpetual in marks}
