"""Lists by cursor: stable under new rows, where an offset would show a row twice."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Annotated, Generic, TypeVar

from django.db.models import Model, QuerySet
from ninja import Query, Schema
from pydantic import Field

from trading.api.errors import ApiError

RowT = TypeVar("RowT", bound=Model)
ItemT = TypeVar("ItemT")

LONGEST_PAGE = 500


class Page(Schema, Generic[ItemT]):
    """Some of a list, newest first; `next` is the cursor of the following ones, null at the end."""

    items: list[ItemT]
    next: str | None = None


class Paging(Schema):
    """Which part of a list is asked for."""

    cursor: str = ""
    limit: Annotated[int, Field(ge=1, le=LONGEST_PAGE)] = 100


PagingQuery = Annotated[Paging, Query(...)]


def page_of(rows: QuerySet[RowT], paging: Paging) -> tuple[list[RowT], str | None]:
    """The rows of the page and the next cursor. Raises ApiError 422 for a cursor that is not ours."""
    newest_first = rows.order_by("-pk")
    if paging.cursor:
        newest_first = newest_first.filter(pk__lt=_read(paging.cursor))
    found = list(newest_first[: paging.limit + 1])
    shown = found[: paging.limit]
    return shown, _write(shown[-1].pk) if len(found) > paging.limit else None


def _write(pk: int) -> str:
    return urlsafe_b64encode(f"after:{pk}".encode()).decode().rstrip("=")


def _read(cursor: str) -> int:
    try:
        text = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        return int(text.removeprefix("after:"))
    except ValueError as error:
        raise ApiError(422, "CURSOR", "the cursor is not one this list gave") from error
