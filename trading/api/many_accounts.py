# ruff: noqa: ARG001 - the framework gives every route its request
"""Accounts by the thousand: one deed for many, and their terms as a file without keys."""

from collections.abc import Callable
from typing import Annotated, Literal
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from ninja import File, Form, Router, Schema, UploadedFile
from pydantic import ConfigDict, Field

from accounts.errors import AccountRefused
from accounts.models import Account, AccountGroup, Tag
from accounts.services import bulk
from accounts.services.files import CSV, JSON, export_accounts, import_accounts
from accounts.tasks import verify_accounts
from trading.api.authentication import caller, needs
from trading.api.errors import ApiError
from trading.api.numbers import Text
from trading.services.tokens import Scope

router = Router(tags=["accounts"])

TYPES = {CSV: "text/csv; charset=utf-8", JSON: "application/json"}
LARGEST = 8 * 1024 * 1024
MOST = 10_000


class Chosen(Schema):
    """Which accounts: these, or all active ones of a group or with a tag. What is told narrows down."""

    model_config = ConfigDict(extra="forbid")

    ids: Annotated[list[UUID], Field(max_length=MOST)] | None = None
    group: Annotated[Text, Field(max_length=40)] | None = None
    tag: Annotated[Text, Field(max_length=40)] | None = None

    def read(self) -> list[Account]:
        """The accounts. Raises ApiError 422 when nothing was told or an id is nobody's."""
        if self.ids is None and self.group is None and self.tag is None:
            raise ApiError(422, "NOBODY_CHOSEN", "name ids, a group or a tag")
        rows = Account.objects.filter(archived_at=None)
        if self.group is not None:
            rows = rows.filter(group__name=self.group)
        if self.tag is not None:
            rows = rows.filter(tags__name=self.tag)
        if self.ids is None:
            return list(rows.order_by("pk"))
        found = list(rows.filter(uuid__in=self.ids).order_by("pk"))
        if len(found) != len(set(self.ids)):
            raise ApiError(
                422, "UNKNOWN_ACCOUNT", f"{len(set(self.ids)) - len(found)} of the ids are not chosen"
            )
        return found


class BulkIn(Schema):
    """One deed for many accounts: all of them, or none.

    `pause` needs `reason`, `move` the `group` (empty: none), `tag` and `untag` the `tag`, `limit` the limit's
    `name` with its `value` (empty: as its group or the desk has it).
    """

    model_config = ConfigDict(extra="forbid")

    accounts: Chosen
    action: Literal["pause", "resume", "verify", "move", "tag", "untag", "limit"]
    reason: Annotated[Text, Field(max_length=200)] = ""
    group: Annotated[Text, Field(max_length=40)] = ""
    tag: Annotated[Text, Field(max_length=40)] = ""
    name: Annotated[Text, Field(max_length=60)] = ""
    value: Annotated[Text, Field(max_length=40)] = ""


class BulkOut(Schema):
    """How many accounts were chosen, and on how many the deed changed something."""

    chosen: int
    changed: int


class ImportOut(Schema):
    """Whose terms were (on trial: would be) changed."""

    changed: list[str]
    unchanged: int
    is_trial: bool


class MembersOut(Schema):
    """A group or a tag, and how many accounts it has."""

    name: str
    accounts: int


@router.get("multi-account/groups", auth=needs(Scope.READ), response=list[MembersOut])
def list_groups(request: HttpRequest) -> list[MembersOut]:
    """The groups, by name."""
    rows = AccountGroup.objects.annotate(n=Count("accounts")).order_by("name")
    return [MembersOut(name=name, accounts=count) for name, count in rows.values_list("name", "n")]


@router.get("multi-account/tags", auth=needs(Scope.READ), response=list[MembersOut])
def list_tags(request: HttpRequest) -> list[MembersOut]:
    """The tags, by name."""
    rows = Tag.objects.annotate(n=Count("accounts")).order_by("name")
    return [MembersOut(name=name, accounts=count) for name, count in rows.values_list("name", "n")]


@router.post("multi-account/bulk", auth=needs(Scope.ADMIN), response=BulkOut)
def act_on_many(request: HttpRequest, body: BulkIn) -> BulkOut:
    """Pause, resume, verify, move to a group, tag, untag or limit many accounts at once."""
    chosen = body.accounts.read()
    try:
        changed = DEEDS[body.action](chosen, body, caller(request))
    except AccountRefused as refusal:
        raise ApiError(422, refusal.code, refusal.message) from refusal
    return BulkOut(chosen=len(chosen), changed=changed)


@router.get("multi-account/export", auth=needs(Scope.ADMIN), response={200: None})
def export(request: HttpRequest, kind: Literal["csv", "json"] = "csv") -> HttpResponse:
    """Terms, tags and limits of every active account; no byte of a key."""
    text = export_accounts(Account.objects.filter(archived_at=None), kind)
    answer = HttpResponse(text, content_type=TYPES[kind])
    answer["Content-Disposition"] = f'attachment; filename="accounts.{kind}"'
    return answer


@router.post("multi-account/import", auth=needs(Scope.ADMIN), response=ImportOut)
def bring(
    request: HttpRequest, file: File[UploadedFile], kind: Form[Literal["csv", "json"]], is_trial: Form[bool]
) -> ImportOut:
    """Make known accounts as an exported file says: all of it, or nothing of it."""
    if (file.size or 0) > LARGEST:
        raise ApiError(413, "TOO_LARGE", f"the file has more than {LARGEST} bytes")
    try:
        text = file.read().decode("utf-8-sig")
        done = import_accounts(text, kind, caller(request), is_trial=is_trial)
    except UnicodeDecodeError as error:
        raise ApiError(422, "BAD_FILE", "the file is not UTF-8") from error
    except AccountRefused as refusal:
        raise ApiError(422, refusal.code, refusal.message) from refusal
    return ImportOut(changed=done.changed, unchanged=done.unchanged, is_trial=is_trial)


def _verify(chosen: list[Account], _: BulkIn, __: str) -> int:
    asked = bulk.ask_verification(chosen, settings.CLOCK.now())
    transaction.on_commit(verify_accounts.delay, robust=True)
    return asked


DEEDS: dict[str, Callable[[list[Account], BulkIn, str], int]] = {
    "pause": lambda chosen, told, _: bulk.pause_all(chosen, told.reason),
    "resume": lambda chosen, _, __: bulk.resume_all(chosen)[0],
    "verify": _verify,
    "move": lambda chosen, told, _: bulk.move_all(chosen, told.group),
    "tag": lambda chosen, told, _: bulk.tag_all(chosen, told.tag),
    "untag": lambda chosen, told, _: bulk.untag_all(chosen, told.tag),
    "limit": lambda chosen, told, by: bulk.set_limit_for_all(chosen, told.name, told.value, by),
}
