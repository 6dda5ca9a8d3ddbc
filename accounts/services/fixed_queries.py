"""Queries whose words never change: worked out once, by Django, and asked with other values.

Django builds a query anew at each use. For a few rows that costs this process several times what the
database takes to carry it out, and where a position waits for its exit it is most of the way. Here a queryset
says once what is meant; what differs from use to use is `Given` in it, by name.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Expression, Field, Model, QuerySet
from django.db.models.query import get_related_populators
from django.db.models.sql import Query, UpdateQuery
from django.db.models.sql.compiler import SQLCompiler

from accounts.services.among import Among, as_parameter

Meant = Callable[[], "QuerySet[Any, Any]"]
"""Says what is asked, at the first use: a module is read before there is a database."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a value that is told at each use stands among the parameters."""

    name: str
    bound: Callable[[Any, BaseDatabaseWrapper], Any]


class Given(Expression):
    """A value of a field's kind that is told at each use."""

    def __init__(self, name: str, output_field: "Field[Any, Any]") -> None:
        super().__init__(output_field=output_field)
        self._place = _Place(name, output_field.get_db_prep_value)

    def as_sql(self, *_: Any, **__: Any) -> tuple[str, list[Any]]:  # type: ignore[override]  # values to be told
        """One parameter."""
        return "%s", [self._place]


class AmongGiven(Among):
    """`Among`, with ids that are told at each use."""

    def __init__(self, column: str, name: str) -> None:
        super().__init__(column, ())
        self._place = _Place(name, as_parameter)

    def as_sql(self, *about: Any, **more: Any) -> tuple[str, list[Any]]:  # type: ignore[override]  # as above
        """The words of `Among`, whose last parameter is the ids."""
        words, values = super().as_sql(*about, **more)
        return words, [*values[:-1], self._place]


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement with its values, and what makes of its rows what whoever asked wants."""

    text: str
    values: Sequence[Any]
    read: Callable[[list[Any]], Any]


def carry_out(*statements: Statement) -> list[Any]:
    """Carry out statements one after the other, and return what each read.

    On Postgres all are sent at once and answered at once: each still sees what was committed before it began,
    a lock waited for by the one before included. The first that fails is raised, and none behind it is done.
    """
    if not statements:
        return []
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            values = [value for one in statements for value in one.values]
            cursor.execute("; ".join(one.text for one in statements), values)
            answers = [_rows(cursor)]
            while cursor.nextset():
                answers.append(_rows(cursor))
        else:
            answers = [_one_by_one(cursor, one) for one in statements]
    return [one.read(rows) for one, rows in zip(statements, answers, strict=True)]


def _one_by_one(cursor: Any, statement: Statement) -> list[Any]:
    cursor.execute(statement.text, statement.values)
    return _rows(cursor)


def _rows(cursor: Any) -> list[Any]:
    """What a statement tells; nothing where it tells no rows."""
    return list(cursor.fetchall()) if cursor.description else []


@dataclass(frozen=True, slots=True)
class _Words:
    """A statement as one kind of database takes it, and what makes of its answer what Django would."""

    text: str
    parameters: Sequence[Any]
    read: Callable[[list[Any]], Iterable[Any]]

    def told(self, given: Mapping[str, Any]) -> Statement:
        return Statement(
            self.text,
            [
                one.bound(given[one.name], connection) if isinstance(one, _Place) else one
                for one in self.parameters
            ],
            lambda rows: list(self.read(rows)),
        )


class _Fixed(ABC):
    """Words that are worked out at the first use with each kind of database."""

    def __init__(self) -> None:
        self._words: dict[str, _Words] = {}

    def ask(self, **given: Any) -> list[Any]:
        """Carry it out with these values. Raises KeyError when one is missing."""
        return list(carry_out(self.told(**given))[0])

    def told(self, **given: Any) -> Statement:
        """The statement with these values, to be carried out with others. Raises KeyError as `ask`."""
        words = self._words.get(connection.vendor)
        if words is None:
            words = self._words[connection.vendor] = self._worked_out()
        return words.told(given)

    @abstractmethod
    def _worked_out(self) -> _Words:
        """What is meant, as this kind of database takes it."""


class FixedQuery(_Fixed):
    """A queryset's objects, or the tuples of its `values_list`, as they are at each use."""

    def __init__(self, meant: Meant) -> None:
        super().__init__()
        self._meant = meant

    def _worked_out(self) -> _Words:
        compiler = self._meant().query.get_compiler(connection=connection)
        text, parameters = compiler.as_sql()
        return _Words(text, parameters, _reader(compiler))


class FixedUpdate(_Fixed):
    """An UPDATE of the rows of a queryset, which tells the ids of those that changed."""

    def __init__(self, meant: Meant, **values: Any) -> None:
        """`values` as for `QuerySet.update`."""
        super().__init__()
        self._meant, self._values = meant, values

    def words(self) -> tuple[str, Sequence[Any]]:
        """The statement up to what it tells, and its parameters."""
        query: Query = self._meant().order_by().query.chain(UpdateQuery)
        query.add_update_values(self._values)  # type: ignore[attr-defined]  # of an UpdateQuery
        text, parameters = query.get_compiler(connection=connection).as_sql()
        return text, parameters

    def _worked_out(self) -> _Words:
        query, (text, parameters) = self._meant().query, self.words()
        key = connection.ops.quote_name(str(query.get_meta().pk.column))
        return _Words(f"{text} RETURNING {key}", parameters, _first_columns)


class FixedTake(_Fixed):
    """An UPDATE of the rows of a queryset, which reads those that changed as they are after it.

    `read` says what is read of them and of what belongs to them, of the same model and without a condition of
    its own. On Postgres both are one statement, and one commit outside of a transaction: whoever dies has
    done all of it or nothing. What belongs to the rows is then as it was when the statement began.
    """

    def __init__(self, meant: Meant, read: Meant, **values: Any) -> None:
        """`values` as for `QuerySet.update`."""
        super().__init__()
        self._change = FixedUpdate(meant, **values)
        self._read = read
        self._changed = FixedQuery(lambda: read().filter(AmongGiven("pk", "changed")))

    def ask(self, **given: Any) -> list[Any]:
        """Carry it out with these values. Raises KeyError when one is missing."""
        if connection.vendor == "postgresql":
            return super().ask(**given)
        changed = self._change.ask(**given)
        return self._changed.ask(changed=changed) if changed else []

    def _worked_out(self) -> _Words:
        text, values = self._change.words()
        compiler = self._read().query.get_compiler(connection=connection)
        # What changed goes by the table's own name, so that the words of the query fit as they are.
        table = connection.ops.quote_name(compiler.query.get_meta().db_table)
        read, asked = compiler.as_sql()
        words = f"WITH {table} AS ({text} RETURNING {table}.*) {read}"
        return _Words(words, [*values, *asked], _reader(compiler))


def _first_columns(rows: list[Any]) -> Iterable[Any]:
    return (row[0] for row in rows)


def _reader(compiler: SQLCompiler) -> Callable[[list[Any]], Iterable[Any]]:
    """What turns rows of the database into values as their fields have them, and those into objects."""
    converters = compiler.get_converters([column for column, *_ in compiler.select or ()])
    kept = _maker(compiler) if compiler.query.default_cols else tuple

    def read(rows: list[Any]) -> Iterable[Any]:
        return map(kept, compiler.apply_converters(rows, converters) if converters else rows)

    return read


def _maker(compiler: SQLCompiler) -> Callable[[Sequence[Any]], Model]:
    """What makes an object of a row, with the related ones that are read along."""
    info, alias = compiler.klass_info or {}, connection.alias
    model, places = info["model"], info["select_fields"]
    first, beyond = places[0], places[-1] + 1
    names = [column.target.attname for column, *_ in (compiler.select or ())[first:beyond]]
    related = get_related_populators(info, compiler.select, alias)  # type: ignore[call-arg]  # of a later Django

    def made(row: Sequence[Any]) -> Model:
        one: Model = model.from_db(alias, names, row[first:beyond])
        for populator in related:
            populator.populate(row, one)
        return one

    return made
