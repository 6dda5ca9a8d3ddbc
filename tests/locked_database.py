"""The database taken away from everybody else for a while, as each kind of it goes away."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from django.db import connection


@contextmanager
def database_away(seconds: float) -> Iterator[None]:
    """Do the body's work with the database just gone; it is back `seconds` after it went."""
    gone_at = time.monotonic()
    if connection.vendor == "sqlite":
        with closing(sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            yield
            time.sleep(max(0.0, gone_at + seconds - time.monotonic()))
            holder.execute("ROLLBACK")
        return
    yield
    while time.monotonic() < gone_at + seconds:
        _end_every_other_connection()
        time.sleep(0.05)


def _end_every_other_connection() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
