"""`Among("pk", ids)`: as `pk__in=ids`, for many ids.

`__in` prepares each value, writes a placeholder for it and has the driver look each of those up, which takes
longer than Postgres does to find the rows. Here all values are one parameter, an array.
"""

from collections.abc import Iterable
from typing import Any

import orjson
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BooleanField, F, Func
from django.db.models.sql.compiler import SQLCompiler


class Among(Func):
    """Whether a column holds one of these values: ids, or text. For `filter`; to exclude, say `~Q(...)`."""

    output_field = BooleanField()

    def __init__(self, column: str, values: Iterable[int | str], **extra: Any) -> None:
        super().__init__(F(column), **extra)
        self._values = list(values)

    def as_sql(  # type: ignore[override]  # an array is one parameter too
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **_: Any
    ) -> tuple[str, list[Any]]:
        """The words for Postgres; SQLite knows no array and takes a list apart."""
        column, values = compiler.compile(self.source_expressions[0])
        if connection.vendor == "postgresql":
            words = f"{column} = ANY(%s)"
        else:
            words = f"{column} IN (SELECT value FROM json_each(%s))"  # noqa: S608 -- a column of ours
        return words, [*values, as_parameter(self._values, connection)]


def as_parameter(values: Iterable[int | str], database: BaseDatabaseWrapper) -> str | list[int | str]:
    """Values as the one parameter that `Among` has for them.

    Ids as Postgres writes an array of them, for the driver would ask each one for its type.
    """
    listed = list(values)
    if database.vendor != "postgresql":
        return orjson.dumps(listed).decode()
    if listed and isinstance(listed[0], str):
        return listed
    return "{" + ",".join(map(str, listed)) + "}"
