"""The exchange's own ledger, from a file or from its administration. Read only; nothing of it is stored."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

READ_SECONDS = 120.0
"""A month of a thousand accounts is a long answer."""

NEEDED = frozenset({"kind", "account", "market", "symbol", "client_order_id", "store"})

LedgerRows = Sequence[Mapping[str, Any]]


class LedgerUnreadable(Exception):
    """There is no ledger to hold our rows against: nothing was compared, so nothing agrees."""


def read_ledger(path: Path) -> LedgerRows:
    """The rows of an exported file, CSV by its name and else JSON. Raises LedgerUnreadable."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LedgerUnreadable(f"{path}: {error}") from error
    if path.suffix == ".csv":
        return _checked(list(csv.DictReader(text.splitlines())), str(path))
    return _checked(_json(text, str(path)), str(path))


def fetch_ledger(url: str, secret: str) -> LedgerRows:
    """The ledger of a paper exchange, by its administration. Raises LedgerUnreadable."""
    if urlsplit(url).scheme not in {"http", "https"}:
        raise LedgerUnreadable(f"{url!r} is not an http address")
    asked = Request(  # noqa: S310 - the scheme was checked above
        f"{url.rstrip('/')}/paper/ledger?format=json", headers={"X-Paper-Secret": secret}
    )
    try:
        with urlopen(asked, timeout=READ_SECONDS) as answer:  # noqa: S310 - as above
            text = answer.read().decode()
    except (URLError, OSError, ValueError) as error:
        raise LedgerUnreadable(f"{url}: {error}") from error
    return _checked(_json(text, url), url)


def _json(text: str, origin: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise LedgerUnreadable(f"{origin}: no JSON: {error}") from error


def _checked(rows: Any, origin: str) -> LedgerRows:
    """Refuse what is no ledger; an empty one is a ledger in which nothing happened."""
    if not isinstance(rows, list) or not all(isinstance(row, dict) and row.keys() >= NEEDED for row in rows):
        raise LedgerUnreadable(f"{origin}: these are not the rows of a ledger")
    return rows
