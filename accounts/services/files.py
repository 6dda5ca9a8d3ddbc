"""Accounts as a file: their terms, tags and limits as CSV or JSON, and never a byte of their keys.

What is exported can be read back: a column that is left out stays as it is, a name that is not here is
refused, for an account is made together with its keys. All or nothing, each problem told with its line.
"""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from zoneinfo import available_timezones

from django.db import transaction

from accounts.errors import AccountRefused
from accounts.models import Account, AccountGroup, AccountSource, Tag
from accounts.services.bulk import REASON_LENGTH, TAG_LENGTH
from accounts.services.limits import check_owners, write_overrides
from accounts.services.registry import HIGHEST_LEVERAGE, group_named

FIXED = ("exchange", "mode", "source", "executors")
"""Told for whoever reads the file; they are chosen once and only compared."""
COLUMNS = (
    "name",
    *FIXED,
    "group",
    "tags",
    "time_zone",
    "leverage",
    "is_enabled",
    "pause_reason",
    "is_canary",
    "limits",
)
TOLD_BY_ENVIRONMENT = ("group", "leverage")
CSV, JSON = "csv", "json"
MOST_PROBLEMS = 20
GROUP_LENGTH = 40
FORMULA = ("=", "+", "-", "@", "'")
"""How a cell begins that a spreadsheet would calculate; such a text is written behind a quote."""
WORD, ESCAPED = re.compile(r"(?:[^;\\]|\\.)+", re.DOTALL), re.compile(r"\\(.)", re.DOTALL)
"""A word of a cell of several, and what in it stands behind a backslash."""

Line = dict[str, Any]


@dataclass(slots=True)
class Imported:
    """The names of the accounts that were changed, and how many were as the file says."""

    changed: list[str] = field(default_factory=list)
    unchanged: int = 0


# ── out ──────────────────────────────────────────────────────────────────────


def export_accounts(accounts: Iterable[Account], kind: str) -> str:
    """The accounts' terms as text of that kind, by name; in a number of queries that does not grow."""
    rows = Account.objects.filter(pk__in=[account.pk for account in accounts])
    read = rows.select_related("group").prefetch_related("tags", "executors", "limits").order_by("name")
    lines = [_line(account) for account in read]
    if kind == JSON:
        return json.dumps({"accounts": lines}, indent=1) + "\n"
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in line.items()} for line in lines)
    return out.getvalue()


def _line(account: Account) -> Line:
    return {
        "name": account.name,
        "exchange": account.exchange,
        "mode": account.mode,
        "source": account.source,
        "executors": [one.market for one in account.executors.all() if one.is_enabled],
        "group": account.group.name if account.group else "",
        "tags": sorted(tag.name for tag in account.tags.all()),
        "time_zone": account.time_zone,
        "leverage": account.leverage,
        "is_enabled": account.is_enabled,
        "pause_reason": account.pause_reason,
        "is_canary": account.is_canary,
        "limits": {row.name: row.value for row in account.limits.all()},
    }


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, dict):
        text = _joined([f"{name}={text}" for name, text in value.items()])
    elif isinstance(value, list):
        text = _joined(value)
    else:
        text = str(value)
    return f"'{text}" if text.startswith(FORMULA) else text


def _joined(words: Iterable[str]) -> str:
    """Words in one cell; a semicolon in a word is written behind a backslash, as the backslash itself is."""
    return "; ".join(word.replace("\\", "\\\\").replace(";", "\\;") for word in words)


def _parted(text: str) -> list[str]:
    words = [ESCAPED.sub(r"\1", part).strip() for part in WORD.findall(text)]
    return [word for word in words if word]


# ── in ───────────────────────────────────────────────────────────────────────


def import_accounts(text: str, kind: str, changed_by: str, *, is_trial: bool = False) -> Imported:
    """Make known accounts as the file says; with `is_trial` only tell what would be changed.

    Raises AccountRefused(BAD_FILE) naming every problem with its line, or BAD_LIMIT; then nothing is stored.
    """
    lines = _read(text, kind)
    with transaction.atomic():
        accounts = _known(lines)
        _refuse(_problems(lines, accounts))
        done = _apply(lines, accounts, changed_by)
        transaction.set_rollback(is_trial)
    return done


def _read(text: str, kind: str) -> list[Line]:
    try:
        lines = _read_json(text) if kind == JSON else _read_csv(text)
    except (ValueError, csv.Error, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise AccountRefused("BAD_FILE", f"This is no {kind.upper()} of accounts.") from error
    unknown = sorted({str(name) for line in lines for name in line} - set(COLUMNS))
    if unknown:
        shown = ", ".join(name[:20] for name in unknown[:5])
        raise AccountRefused("BAD_FILE", f"Unknown columns: {shown}. Keys are typed, never imported.")
    return lines


def _read_json(text: str) -> list[Line]:
    return [dict(line) for line in json.loads(text)["accounts"]]


def _read_csv(text: str) -> list[Line]:
    lines = list(csv.DictReader(io.StringIO(text), strict=True))
    return [{name: _uncell(name, cell or "") for name, cell in line.items()} for line in lines]


def _uncell(name: str, cell: str) -> Any:
    text = cell.strip().removeprefix("'")
    if name == "limits":
        return {one.strip(): value.strip() for one, value in (part.split("=", 1) for part in _parted(text))}
    if name in {"tags", "executors"}:
        return _parted(text)
    if name in {"is_enabled", "is_canary"}:
        return {"on": True, "off": False}.get(text.lower(), text)
    if name == "leverage":
        return int(text) if text.isdecimal() else text
    return text


def _known(lines: Sequence[Line]) -> dict[str, Account]:
    """The accounts that the file names, locked in the order everybody locks accounts in."""
    names = {line["name"] for line in lines if isinstance(line.get("name"), str)}
    locked = Account.objects.select_for_update(of=("self",)).filter(name__in=names, archived_at=None)
    rows = locked.select_related("group").prefetch_related("tags", "executors", "limits").order_by("pk")
    return {account.name: account for account in rows}


def _problems(lines: Sequence[Line], accounts: Mapping[str, Account]) -> Iterator[str]:
    seen: set[str] = set()
    for number, line in enumerate(lines, 1):
        name = str(line.get("name", ""))
        account = accounts.get(name)
        if account is None:
            yield f"{number}: no active account is called {name[:80]!r}: it is added with its keys"
        elif name in seen:
            yield f"{number}: {name} is named twice"
        else:
            yield from (f"{number}: {name}: {problem}" for problem in _line_problems(line, account))
        seen.add(name)


def _line_problems(line: Line, account: Account) -> Iterator[str]:
    kept = _line(account)
    for name in FIXED:
        if name in line and line[name] != kept[name]:
            yield f"its {name} is chosen once"
    if account.source == AccountSource.ENVIRONMENT:
        for name in TOLD_BY_ENVIRONMENT:
            if name in line and line[name] != kept[name]:
                yield f"its {name} is told by the environment"
    for name, (is_good, wanted) in READABLE.items():
        if name in line and not is_good(line[name]):
            yield f"{name} is not {wanted}"
    is_paused_now = account.is_enabled and line.get("is_enabled") is False
    if is_paused_now and not str(line.get("pause_reason", "")).strip():
        yield "it is paused without a pause_reason"


def _is_text(longest: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and len(value) <= longest and "\x00" not in value


def _is_leverage(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= HIGHEST_LEVERAGE


def _are_tags(value: Any) -> bool:
    return isinstance(value, list) and all(_is_text(TAG_LENGTH)(one) and one.strip() for one in value)


def _are_limits(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for pair in value.items() for one in pair)


READABLE: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "group": (_is_text(GROUP_LENGTH), "the name of a group"),
    "tags": (_are_tags, "a list of words"),
    "time_zone": (lambda value: isinstance(value, str) and value in available_timezones(), "a time zone"),
    "leverage": (_is_leverage, f"a whole number from 1 to {HIGHEST_LEVERAGE}"),
    "is_enabled": (lambda value: isinstance(value, bool), "on or off"),
    "pause_reason": (_is_text(REASON_LENGTH), "a text"),
    "is_canary": (lambda value: isinstance(value, bool), "on or off"),
    "limits": (_are_limits, "names with values"),
}


def _refuse(problems: Iterable[str]) -> None:
    found = list(problems)
    if found:
        more = f" ... and {len(found) - MOST_PROBLEMS} more" if len(found) > MOST_PROBLEMS else ""
        raise AccountRefused("BAD_FILE", "; ".join(found[:MOST_PROBLEMS]) + more)


def _apply(lines: Sequence[Line], accounts: Mapping[str, Account], changed_by: str) -> Imported:
    groups = {name: group_named(name) for name in _all(lines, "group")}
    tags = {name: Tag.objects.get_or_create(name=name)[0] for name in _all(lines, "tags")}
    done = Imported()
    for line in lines:
        account = accounts[line["name"]]
        if not _differs(line, account):
            done.unchanged += 1
            continue
        done.changed.append(account.name)
        _write_terms(line, account, groups)
        if "tags" in line:
            account.tags.set([tags[name] for name in line["tags"]])
    limits = [(accounts[line["name"]], _all_limits(line, accounts)) for line in lines if "limits" in line]
    write_overrides(limits, changed_by)
    check_owners(list(accounts.values()))  # a group's limits may contradict those of who moved into it
    return done


def _all(lines: Sequence[Line], name: str) -> list[str]:
    """Each word once and in one order for all: two files at once must not wait for each other's new rows."""
    told = [line[name] for line in lines if line.get(name)]
    return sorted({one for value in told for one in ([value] if isinstance(value, str) else value)})


def _differs(line: Line, account: Account) -> bool:
    kept = _line(account)
    return any((sorted(value) if name == "tags" else value) != kept[name] for name, value in line.items())


def _write_terms(line: Line, account: Account, groups: Mapping[str, AccountGroup | None]) -> None:
    named = ("time_zone", "leverage", "is_enabled", "pause_reason", "is_canary")
    terms = {name: line[name] for name in named if name in line}
    if "group" in line:
        terms["group"] = groups.get(line["group"])
    for name, value in terms.items():
        setattr(account, name, value)
    if terms:
        account.save(update_fields=list(terms))


def _all_limits(line: Line, accounts: Mapping[str, Account]) -> dict[str, str]:
    """What the file says, and nothing of what it does not name."""
    kept = {row.name: "" for row in accounts[line["name"]].limits.all()}
    return kept | {name.lower(): value for name, value in line["limits"].items()}
