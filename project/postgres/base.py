"""Postgres as Django speaks to it, its times read by the standard library.

Django has each time taken apart by a regular expression and its parts given a zone again: 3.6 us, and a
decision over a thousand accounts reads seven thousand times. As ISO 8601 it is the same moment in 0.6.
"""

from datetime import UTC, datetime
from typing import Any

from django.db.backends.postgresql import base
from psycopg.abc import Buffer
from psycopg.adapt import AdaptersMap
from psycopg.types.datetime import TimestamptzLoader


class UtcLoader(TimestamptzLoader):
    """A moment as Postgres writes it, in UTC. Raises DataError for one that is no Python datetime."""

    timezone = UTC  # what Django asks of a loader, to see whether it is the connection's own

    def load(self, data: Buffer) -> datetime:
        """The moment; what is not ISO 8601 (infinity, a date style of the server's own) is read as ever."""
        try:
            return datetime.fromisoformat(str(data, "ascii")).astimezone(UTC)
        except (ValueError, OverflowError):
            return super().load(data).astimezone(UTC)


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's own connection with that reading of times."""

    def get_connection_params(self) -> dict[str, Any]:
        """As Django has them; where the desk lives in UTC, with our loader."""
        told: dict[str, Any] = super().get_connection_params()
        if self.timezone is UTC:
            told["context"] = adapters = AdaptersMap(told["context"])
            adapters.register_loader("timestamptz", UtcLoader)
        return told
