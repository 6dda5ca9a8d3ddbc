"""The watcher checked by the rows: what it should watch, and what it should have acted upon.

1. It publishes how many positions it watches by symbol and side, and a sum over the states of their rows. A
   sum that differs in two checks in a row, ten seconds apart, is no change on its way: it is told.
2. A stop that the marks have passed while its position asks for nothing is followed from here, whatever the
   watcher does: the rows let each exit be wanted once.
"""

import json
from datetime import datetime, timedelta

import structlog
from django.conf import settings
from django.utils import timezone

from alerts.models import Severity
from alerts.services import clear_alert, raise_alert
from exchange.marks import MarkBoard, age_seconds
from exchange.port import MarkPrice
from trading.domain.exits import MarkSpan
from trading.domain.watch import Digest
from trading.models import Position
from trading.services import levels, watching
from trading.services.bells import Bells
from trading.services.valkey import keep, recall, valkey
from trading.services.watcher import CHUNK

DIGEST_KEY = "desk:watcher:watched"
DIGEST_KEPT_SECONDS = 60
DIFFERED_KEY = "desk:watcher:differed"
DIFFERED_KEPT_SECONDS = 25
OLDEST_DIGEST = timedelta(seconds=10)
DIFFERS_CAUSE, BEHIND_CAUSE = "watcher-differs", "watcher-behind"

Sums = dict[str, tuple[int, int]]

log = structlog.get_logger(__name__)


def check(now: datetime) -> Bells:
    """Compare what is watched with the rows, and follow what was missed."""
    if Position.objects.filter(levels.WATCHED).exists():
        compare(now)
    return follow_missed(now)


def compare(now: datetime) -> list[str]:
    """The symbols and sides that differed in this check and in the last, told as one alarm."""
    told, read_at = watched()
    wall = timezone.now()
    if read_at is None or wall - read_at > OLDEST_DIGEST:
        text = "No watcher has told for ten seconds what it watches"
        raise_alert(BEHIND_CAUSE, Severity.CRITICAL, "WATCHER_BEHIND", text, now=now)
        return []
    clear_alert(BEHIND_CAUSE, now)
    rows = _of_rows()
    differing = sorted(key for key in rows.keys() | told.keys() if rows.get(key) != told.get(key))
    before = json.loads(recall(DIFFERED_KEY) or b"[]")
    keep(DIFFERED_KEY, json.dumps(differing), DIFFERED_KEPT_SECONDS)
    lasting = [key for key in differing if key in before]
    if not lasting:
        clear_alert(DIFFERS_CAUSE, now)
        return []
    named = ", ".join(f"{key}: {_count(told, key)} watched, {_count(rows, key)} open" for key in lasting[:5])
    text = f"What is watched differs from the rows for {len(lasting)} symbols and sides: {named}"
    raise_alert(DIFFERS_CAUSE, Severity.CRITICAL, "WATCHER_DIFFERS", text[:500], now=now)
    return lasting


def follow_missed(now: datetime) -> Bells:
    """Follow the plans of positions whose stop is behind a fresh mark; whoever is closing is left alone.

    A row written since that mark waits for a newer one: its stop may have been moved past the old price.
    """
    fresh = _fresh_marks(now)
    behind = levels.stops_behind({symbol: mark.mark_price for symbol, mark in fresh.items()}) if fresh else {}
    missed = sorted(
        pk
        for pk, one in levels.levels_of(behind).items()
        if one is not None and one.version <= levels.version_at(fresh[one.symbol].at)
    )
    bells = Bells()
    for start in range(0, len(missed), CHUNK):
        spans = {pk: MarkSpan.at(behind[pk]) for pk in missed[start : start + CHUNK]}
        bells.add(watching.evaluate(spans, now))
    if bells:
        log.warning("stops_followed_by_the_sweep", positions=bells.positions)
    return bells


def _fresh_marks(now: datetime) -> dict[str, MarkPrice]:
    """The marks on the board that are young enough to act upon."""
    limit = settings.LIMITS.stream_max_age_seconds
    marks = MarkBoard(valkey()).read().values()
    return {mark.symbol: mark for mark in marks if abs(age_seconds(mark, now)) <= limit}


def watched() -> tuple[Sums, datetime | None]:
    """What the leading watcher last told, and up to when it had read the rows."""
    kept = recall(DIGEST_KEY)
    if kept is None:
        return {}, None
    told = json.loads(kept)
    return {key: (count, total) for key, (count, total) in told["sums"].items()}, datetime.fromisoformat(
        told["read_at"]
    )


def _of_rows() -> Sums:
    digest = Digest()
    for pk, symbol, is_long, version in levels.versions():
        digest.add(symbol, pk, version, is_long=is_long)
    return digest.sums()


def _count(sums: Sums, key: str) -> int:
    return sums.get(key, (0, 0))[0]
