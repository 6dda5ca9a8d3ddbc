"""What survives a restart, and a kill: one SQLite file, committed before any answer leaves.

The write-ahead log is handed to the operating system at commit, so a killed process loses nothing; only a
machine that loses power may lose the last moments. Each entity is kept as it was last, the ledger row by row.
"""

import fcntl
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import fields
from decimal import Decimal
from pathlib import Path
from typing import Any, get_type_hints

import orjson

from paper.engine.orders import (
    OPEN,
    Account,
    Conditional,
    Order,
    Position,
    SpotBalance,
    SpotOrder,
)
from paper.engine.venue import Entity, Portfolio, Venue
from paper.ledger import Row

SCHEMA = """
CREATE TABLE IF NOT EXISTS ledger (seq INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS entity (
    kind TEXT, id TEXT, body BLOB NOT NULL, PRIMARY KEY (kind, id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""

KINDS: dict[str, type[Entity]] = {
    kind.__name__: kind for kind in (Account, Order, Conditional, Position, SpotOrder, SpotBalance)
}


def entity_id(entity: Entity) -> str:
    """What tells one entity of a kind from another."""
    match entity:
        case Account():
            return entity.key
        case Conditional():
            return str(entity.algo_id)
        case Order() | SpotOrder():
            return str(entity.order_id)
        case Position():
            return f"{entity.account}/{entity.symbol}/{entity.position_side}"
        case SpotBalance():
            return f"{entity.account}/{entity.asset}"


def encoded(value: Entity | Row) -> bytes:
    """JSON with decimals as text."""
    return orjson.dumps(value, default=str)


def decoder(kind: type[Any]) -> Callable[[bytes], Any]:
    """Reads back what `encoded` wrote; fields that were added since take their defaults."""
    hints = get_type_hints(kind)
    known = {field.name for field in fields(kind)}
    decimals = {name for name, hint in hints.items() if hint is Decimal}

    def decode(body: bytes) -> Any:
        values = orjson.loads(body)
        return kind(
            **{
                name: Decimal(value) if name in decimals else value
                for name, value in values.items()
                if name in known
            }
        )

    return decode


class InUse(OSError):  # said to whoever starts a second exchange
    """The state belongs to an exchange that runs."""


class Store:
    """The state file. One writer: the exchange; a second one raises InUse."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            path /= "exchange.sqlite3"
        self.lock = path.with_name(f"{path.name}.lock").open("w")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.lock.close()
            raise InUse(f"{path} is in use by another exchange") from None
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA synchronous=NORMAL")
        self.connection.executescript(SCHEMA)

    def save(self, rows: Iterable[Row], entities: Iterable[Entity], meta: dict[str, str]) -> None:
        """All of it or none."""
        execute = self.connection.execute
        execute("BEGIN")
        try:
            self.connection.executemany(
                "INSERT INTO ledger VALUES (?, ?)", [(row.seq, encoded(row)) for row in rows]
            )
            self.connection.executemany(
                "REPLACE INTO entity VALUES (?, ?, ?)",
                [(type(entity).__name__, entity_id(entity), encoded(entity)) for entity in entities],
            )
            self.connection.executemany("REPLACE INTO meta VALUES (?, ?)", list(meta.items()))
        except BaseException:
            execute("ROLLBACK")
            raise
        execute("COMMIT")

    def meta(self) -> dict[str, str]:
        """Names and values kept beside the state."""
        return dict(self.connection.execute("SELECT name, value FROM meta").fetchall())

    def load(self, venue: Venue) -> None:
        """Put everything back where it was."""
        meta = self.meta()
        venue.last_id = int(meta.get("last_id", 0))
        venue.now_ms = int(meta.get("now_ms", 0))
        for entity in self._entities("Account"):
            venue.portfolios[entity.key] = Portfolio(entity)
        decode = decoder(Row)
        for (body,) in self.connection.execute("SELECT body FROM ledger ORDER BY seq"):
            row = decode(body)
            venue.ledger.append(row)
            venue.file(row)
        self._load_orders(venue)
        self._load_holdings(venue)

    def _entities(self, kind: str) -> list[Any]:
        decode = decoder(KINDS[kind])
        rows = self.connection.execute("SELECT body FROM entity WHERE kind = ?", (kind,)).fetchall()
        return [decode(body) for (body,) in rows]

    def _load_orders(self, venue: Venue) -> None:
        for order in sorted(self._entities("Order"), key=lambda order: int(order.order_id)):
            restore_order(venue, order)
        for order in sorted(self._entities("Conditional"), key=lambda order: int(order.algo_id)):
            restore_conditional(venue, order)
        for order in sorted(self._entities("SpotOrder"), key=lambda order: int(order.order_id)):
            restore_spot_order(venue, order)

    def _load_holdings(self, venue: Venue) -> None:
        for position in self._entities("Position"):
            place = (position.symbol, position.position_side)
            venue.portfolios[position.account].positions[place] = position
            venue.hold(position)
        for balance in self._entities("SpotBalance"):
            venue.portfolios[balance.account].spot[balance.asset] = balance

    def close(self) -> None:
        """Release the file."""
        self.connection.close()
        self.lock.close()


def restore_order(venue: Venue, order: Order) -> None:
    """Back into its account, and onto the book, or among those still to be executed, while it is open."""
    portfolio = venue.portfolios[order.account]
    portfolio.orders[order.order_id] = order
    portfolio.by_client_id[order.client_order_id] = order
    if order.status in OPEN:
        portfolio.open_orders[order.order_id] = order
        if order.hold_until_ms:
            venue.held_back[order.order_id] = order
        else:
            venue.resting[order.symbol][order.order_id] = order


def restore_conditional(venue: Venue, order: Conditional) -> None:
    """Back into its account, and among the waiting while it is open."""
    portfolio = venue.portfolios[order.account]
    portfolio.conditionals[order.algo_id] = order
    portfolio.conditional_by_client_id[order.client_algo_id] = order
    if order.is_open:
        portfolio.open_conditionals[order.algo_id] = order
        venue.wait(order)


def restore_spot_order(venue: Venue, order: SpotOrder) -> None:
    """Back into its account, and onto the book or among the stops while it is open."""
    portfolio = venue.portfolios[order.account]
    portfolio.spot_orders[order.order_id] = order
    portfolio.spot_by_client_id[order.client_order_id] = order
    if order.status in OPEN:
        portfolio.open_spot_orders[order.order_id] = order
        if order.hold_until_ms:
            venue.spot_held_back[order.order_id] = order
            return
        where = venue.spot_resting if order.working else venue.spot_stops
        where[order.symbol][order.order_id] = order
