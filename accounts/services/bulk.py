"""Acting on many accounts at once: all of them or, where one stands in the way, none.

Set-based: a number of queries that does not grow with the accounts. Rows are locked in the order everybody
locks accounts in.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from django.db import transaction

from accounts.errors import AccountRefused
from accounts.models import Account, AccountSource, Tag
from accounts.services.limits import check_owners, set_overrides
from accounts.services.registry import group_named

REASON_LENGTH = 200
TAG_LENGTH = 40


def pause_all(accounts: Iterable[Account], reason: str) -> int:
    """No new entries on any; exits and monitoring go on. Raises AccountRefused(NO_REASON)."""
    if not reason.strip():
        raise AccountRefused("NO_REASON", "A pause needs a reason.")
    return _update(accounts, is_enabled=False, pause_reason=reason.strip()[:REASON_LENGTH])


def resume_all(accounts: Sequence[Account]) -> tuple[int, list[str]]:
    """Entries again, once verified; how many, and the names of archived ones, which stay as they are."""
    archived = [account.name for account in accounts if account.archived_at is not None]
    living = [account for account in accounts if account.archived_at is None]
    return _update(living, is_enabled=True, pause_reason=""), archived


def ask_verification(accounts: Iterable[Account], now: datetime) -> int:
    """Have every one verified, as fast as the rate budget allows: the ticks work through them."""
    return _update(
        (account for account in accounts if account.archived_at is None), verification_asked_at=now
    )


def move_all(accounts: Sequence[Account], group: str) -> int:
    """Put all into a group, made when it is new; an empty name takes them out of theirs.

    Raises AccountRefused: ENVIRONMENT_GROUP for one whose group the environment tells, BAD_LIMIT when an
    account's own limits contradict the group's. Then none is moved.
    """
    told = [account.name for account in accounts if account.source == AccountSource.ENVIRONMENT]
    if told:
        raise AccountRefused("ENVIRONMENT_GROUP", f"The environment tells the group of {_named(told)}.")
    with transaction.atomic():
        target = group_named(group)
        moved = _update(accounts, group=target)
        for account in accounts:
            account.group = target
        check_owners(accounts)
    return moved


def tag_all(accounts: Iterable[Account], tag: str) -> int:
    """Put a tag on all; how many had it not. Raises AccountRefused(NO_TAG) for no word."""
    through, word = Account.tags.through, _tag(tag)
    ids = {account.pk for account in accounts}
    with transaction.atomic():
        word_row, _ = Tag.objects.get_or_create(name=word)
        rows = through._default_manager.filter(tag_id=word_row.pk)  # noqa: SLF001 - Django's own name for it
        missing = sorted(ids - set(rows.values_list("account_id", flat=True)))
        through._default_manager.bulk_create(  # noqa: SLF001 - Django's own name for it
            (through(account_id=pk, tag_id=word_row.pk) for pk in missing), ignore_conflicts=True
        )
    return len(missing)


def untag_all(accounts: Iterable[Account], tag: str) -> int:
    """Take a tag from all; how many had it. Raises AccountRefused(NO_TAG) for no word."""
    through = Account.tags.through
    rows = through._default_manager.filter(  # noqa: SLF001 - Django's own name for it
        tag__name=_tag(tag), account__in=[account.pk for account in accounts]
    )
    return rows.delete()[0]


def set_limit_for_all(accounts: Sequence[Account], name: str, value: str, changed_by: str) -> int:
    """Set one limit of every account, or with an empty value let it be their group's or the desk's.

    Raises AccountRefused(BAD_LIMIT), naming the account that stands in the way; then none is changed.
    """
    return set_overrides(list(accounts), {name: value}, changed_by)


def _update(accounts: Iterable[Account], **values: object) -> int:
    ids = [account.pk for account in accounts]
    with transaction.atomic():
        locked = Account.objects.select_for_update().filter(pk__in=ids).order_by("pk")
        return Account.objects.filter(pk__in=list(locked.values_list("pk", flat=True))).update(**values)


def _tag(text: str) -> str:
    if not 1 <= len(text.strip()) <= TAG_LENGTH:
        raise AccountRefused("NO_TAG", f"A tag has 1 to {TAG_LENGTH} characters.")
    return text.strip()


def _named(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
