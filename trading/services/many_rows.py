"""Many rows written in one statement, each with values of its own.

An UPDATE for each row costs half a millisecond of this process, nearly all of it in building the query, and
`bulk_update` builds a CASE for every value. `bulk_create` prepares every column of every row, though most
columns of the rows that one decision leaves are the same. Here the values go as one JSON list, which the
database takes apart: the statement is the same for any number of rows, on Postgres and on SQLite alike.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from operator import attrgetter
from typing import Any, TypeVar

import orjson
from django.db import connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import CharField, DateField, Field, JSONField, Model, Q

from accounts.rows import Row
from accounts.services.fixed_queries import Statement, carry_out

Saved = TypeVar("Saved", bound=Model)
Made = TypeVar("Made", bound=Row)


def change_rows(
    model: type[Model],
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    same: Mapping[str, object] | None = None,
    first_stays: Sequence[str] = (),
    only: Q | None = None,
) -> list[int]:
    """Set `columns` of many rows and return the ids of those that changed.

    `rows` are the id and a value for each column; an id stands in one row only. `same` are further columns
    with one value for all. A column of `first_stays` keeps what it holds and is only filled where it is
    null. A row that `only` does not describe at the moment of the write stays as it is: the condition is
    part of the statement, as in a compare-and-set. It may name columns of the model itself.

    Rows are locked in no order: whoever may meet another writer locks their accounts first.
    """
    changes = changing(model, columns, rows, same=same, first_stays=first_stays, only=only)
    return [pk for changed in carry_out(*changes) for pk in changed]


def changing(
    model: type[Model],
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    same: Mapping[str, object] | None = None,
    first_stays: Sequence[str] = (),
    only: Q | None = None,
) -> list[Statement]:
    """The statement of `change_rows`, to be carried out with others; none where there is nothing to write."""
    if not rows:
        return []
    told, fixed = [_key(model), *_named(model, columns)], _named(model, same or {})
    statement = _update(model, tuple(columns), tuple(same or {}), tuple(first_stays), connection.alias)
    condition, asked = _condition(model, only, connection.alias)
    values = _prepared(fixed, (same or {}).values(), connection)
    return [
        Statement(
            f"{statement}{condition} RETURNING {_qualified(_key(model), connection)}",
            [_listed(told, rows, connection), *values, *asked],
            _first_of_each,
        )
    ]


def _first_of_each(rows: list[Any]) -> list[int]:
    return [row[0] for row in rows]


@lru_cache(maxsize=256)
def _update(
    model: type[Model],
    columns: tuple[str, ...],
    same: tuple[str, ...],
    first_stays: tuple[str, ...],
    alias: str,
) -> str:
    """The statement up to its condition; it is the same each time the same columns are written."""
    connection, key = connections[alias], _key(model)
    assigned = [
        _assigned(field, connection, stays=field.name in first_stays) for field in _named(model, columns)
    ]
    assigned += [f"{_column(field, connection)} = %s" for field in _named(model, same)]
    return (
        f"WITH told AS ({_told([key, *_named(model, columns)], connection)}) "  # noqa: S608 -- names of our own models
        f"UPDATE {_table(model, connection)} SET {', '.join(assigned)} FROM told "
        f"WHERE {_qualified(key, connection)} = told.{_column(key, connection)}"
    )


def new_row(model: type[Made], **columns: object) -> Made:
    """A row not yet saved, as `model(**columns)` makes it, in a tenth of the time.

    A relation is named by its column (`account_id`) and has no object until one is given.
    """
    blank, made = _blank(model)
    assert columns.keys() <= blank.keys(), f"{columns.keys() - blank.keys()} of {model.__name__}"  # noqa: S101
    fresh = {name: make() for name, make in made.items() if name not in columns}
    return model.of_columns(blank | fresh | columns)


@lru_cache(maxsize=64)
def _blank(model: type[Model]) -> tuple[dict[str, Any], dict[str, Callable[[], Any]]]:
    """The columns of a model in their order with their defaults, and what makes those that are made anew."""
    defaults = {field.attname: field.default for field in _fields(model) if field.has_default()}
    made = {name: default for name, default in defaults.items() if callable(default)}
    kept = {field.attname: None if field.attname in made else field.get_default() for field in _fields(model)}
    return kept, made


def insert_rows(model: type[Saved], rows: Sequence[Saved], *, known_by: str = "") -> None:
    """Insert new rows in one statement, and give them their ids when `known_by` names a unique column.

    A database promises no order of what it returns, so that ids are given by what was known before; without
    it the rows in memory stay without. As with `bulk_create`, nothing of `save` runs but what a field sets
    by itself.
    """
    carry_out(*inserting(model, rows, known_by=known_by))


def inserting(model: type[Saved], rows: Sequence[Saved], *, known_by: str = "") -> list[Statement]:
    """The statement of `insert_rows`, to be carried out with others; none where there is nothing to write."""
    if not rows:
        return []
    key = _key(model)
    columns = [(field, _values(field, rows)) for field in _fields(model) if field is not key]
    listed = [(field, values) for field, values in columns if values.count(values[0]) < len(values)]
    if not listed:  # a list needs a column
        listed = columns[:1]
    own = {field.column for field, _ in listed}
    same = [(field, values[0]) for field, values in columns if field.column not in own]
    fields = [field for field, _ in listed]
    statement = _insert(
        model, tuple(_names(fields)), tuple(_names(field for field, _ in same)), known_by, connection.alias
    )
    asked = [_listed(fields, list(zip(*(values for _, values in listed), strict=True)), connection)]
    asked += _prepared([field for field, _ in same], [value for _, value in same], connection)
    return [Statement(statement, asked, partial(_give_ids, rows, known_by))]


def _give_ids(rows: Sequence[Model], known_by: str, told: Sequence[Sequence[Any]]) -> None:
    if not known_by:
        return
    given = {str(name): pk for name, pk in told}
    for row in rows:
        row.pk = given[_name_of(row, known_by, connection)]
        row._state.adding, row._state.db = False, connection.alias  # noqa: SLF001 -- as bulk_create does


@lru_cache(maxsize=256)
def _insert(
    model: type[Model], listed: tuple[str, ...], same: tuple[str, ...], known_by: str, alias: str
) -> str:
    """The statement; it is the same for all rows that are alike in the same columns."""
    connection, fields = connections[alias], _named(model, listed)
    sources = [f"told.{_column(field, connection)}" for field in fields] + ["%s"] * len(same)
    names = [_column(field, connection) for field in [*fields, *_named(model, same)]]
    statement = (
        f"INSERT INTO {_table(model, connection)} ({', '.join(names)}) "  # noqa: S608 -- as above
        f"WITH told AS ({_told(fields, connection)}) SELECT {', '.join(sources)} FROM told"
    )
    if not known_by:
        return statement
    known = [_column(field, connection) for field in (_field(model, known_by), _key(model))]
    return f"{statement} RETURNING {', '.join(known)}"


def _name_of(row: Model, known_by: str, connection: BaseDatabaseWrapper) -> str:
    """A unique value as this database returns it."""
    field = _field(type(row), known_by)
    return str(field.get_db_prep_save(getattr(row, known_by), connection))


def _fields(model: type[Model]) -> list["Field[Any, Any]"]:
    return list(model._meta.concrete_fields)  # noqa: SLF001 -- Django documents it


def _table(model: type[Model], connection: BaseDatabaseWrapper) -> str:
    return str(connection.ops.quote_name(model._meta.db_table))  # noqa: SLF001 -- Django documents it


def _key(model: type[Model]) -> "Field[Any, Any]":
    key = model._meta.pk  # noqa: SLF001 -- as above
    assert key is not None  # noqa: S101 -- every model of ours has one
    return key


def _field(model: type[Model], name: str) -> "Field[Any, Any]":
    found = model._meta.get_field(name)  # noqa: SLF001 -- as above
    assert isinstance(found, Field)  # noqa: S101 -- a relation from elsewhere is no column
    return found


def _named(model: type[Model], names: Iterable[str]) -> list["Field[Any, Any]"]:
    return [_field(model, name) for name in names]


def _names(fields: Iterable["Field[Any, Any]"]) -> Iterator[str]:
    return (field.name for field in fields)


def _qualified(field: "Field[Any, Any]", connection: BaseDatabaseWrapper) -> str:
    return f"{_table(field.model, connection)}.{_column(field, connection)}"


def _column(field: "Field[Any, Any]", connection: BaseDatabaseWrapper) -> str:
    assert field.column is not None  # noqa: S101 -- a field of a table has one
    return str(connection.ops.quote_name(field.column))


def _values(field: "Field[Any, Any]", rows: Sequence[Model]) -> list[Any]:
    if isinstance(field, DateField) and (field.auto_now or field.auto_now_add):
        return [field.pre_save(row, add=True) for row in rows]
    return list(map(attrgetter(field.attname), rows))


def _assigned(field: "Field[Any, Any]", connection: BaseDatabaseWrapper, *, stays: bool) -> str:
    column = _column(field, connection)
    kept = f"COALESCE({_qualified(field, connection)}, told.{column})"
    return f"{column} = {kept if stays else f'told.{column}'}"


def _prepared(
    fields: Iterable["Field[Any, Any]"], values: Iterable[object], connection: BaseDatabaseWrapper
) -> list[Any]:
    """Values as the database takes them."""
    return [field.get_db_prep_save(value, connection) for field, value in zip(fields, values, strict=True)]


def _listed(
    fields: Sequence["Field[Any, Any]"], rows: Sequence[Sequence[object]], connection: BaseDatabaseWrapper
) -> str:
    """The values of rows as one text; Postgres casts what SQLite wants prepared."""
    if connection.vendor == "postgresql":
        return orjson.dumps(rows, default=str).decode()
    prepared = [_prepared(fields, row, connection) for row in rows]
    return orjson.dumps(prepared, default=str).decode()


def _told(fields: Sequence["Field[Any, Any]"], connection: BaseDatabaseWrapper) -> str:
    """The query that takes the text apart again, each value of the type of its column.

    Text is not cast: a cast would cut what is too long, where the column refuses it.
    """
    if connection.vendor == "postgresql":
        taken = (
            f"{_taken(field, place, connection)} AS {_column(field, connection)}"
            for place, field in enumerate(fields)
        )
        return f"SELECT {', '.join(taken)} FROM jsonb_array_elements(%s::jsonb) AS one"  # noqa: S608 -- as above
    taken = (
        f"json_extract(one.value, '$[{place}]') AS {_column(field, connection)}"
        for place, field in enumerate(fields)
    )
    return f"SELECT {', '.join(taken)} FROM json_each(%s) AS one"  # noqa: S608 -- as above


def _taken(field: "Field[Any, Any]", place: int, connection: BaseDatabaseWrapper) -> str:
    if isinstance(field, JSONField):
        return f"one->{place}"
    if isinstance(field, CharField):
        return f"one->>{place}"
    return f"CAST(one->>{place} AS {field.db_type(connection)})"


@lru_cache(maxsize=256)
def _condition(model: type[Model], only: Q | None, alias: str) -> tuple[str, Sequence[Any]]:
    """The words and values of a condition as Django says it for this database."""
    if only is None:
        return "", ()
    query = model._base_manager.filter(only).query  # noqa: SLF001 -- as above
    words, values = query.get_compiler(using=alias).compile(query.where)
    return f" AND ({words})", values
