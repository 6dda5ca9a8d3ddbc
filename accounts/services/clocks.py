"""The exchanges' clocks beside ours: read once a minute for all accounts, told when they are too far apart.

The distance stands in every account's row, where the gate reads it: a desk whose clock is wrong judges the
age of marks and signals wrongly, so it enters nothing. Exits go on, signed by the clock as measured.
"""

from datetime import datetime

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from accounts.models import Account
from accounts.services.gateways import fetch_clock_offset_ms
from alerts.models import Severity
from alerts.services import clear_alert, raise_alert
from exchange.clock import TOO_FAR_MS
from exchange.errors import GatewayError

UNCHANGED_MS = 50
"""A trip's length is known no better; rows are not written for it."""

log = structlog.get_logger(__name__)


def watch_clocks(now: datetime) -> dict[str, int]:
    """Measure each exchange's clock and write it to its accounts; returns what was read, in ms from ours.

    One that does not answer keeps what is known.
    """
    active = Account.objects.filter(archived_at=None, mode=settings.MODE)
    read: dict[str, int] = {}
    for exchange in active.order_by().values_list("exchange", flat=True).distinct():
        try:
            read[exchange] = fetch_clock_offset_ms(exchange)
        except (GatewayError, TimeoutError) as error:
            log.warning("clock_not_read", exchange=exchange, error=type(error).__name__)
            continue
        _write(active.filter(exchange=exchange), read[exchange])
        _tell(exchange, read[exchange], now)
    return read


def _write(accounts: QuerySet[Account], offset_ms: int) -> None:
    """The rows whose distance changed, locked in the order everybody locks accounts in."""
    known = (offset_ms - UNCHANGED_MS, offset_ms + UNCHANGED_MS)
    with transaction.atomic():
        changed = accounts.exclude(clock_offset_ms__range=known).order_by("pk").select_for_update()
        ids = list(changed.values_list("pk", flat=True))
        Account.objects.filter(pk__in=ids).update(clock_offset_ms=offset_ms)


def _tell(exchange: str, offset_ms: int, now: datetime) -> None:
    cause = f"clock:{exchange}"
    if abs(offset_ms) <= TOO_FAR_MS:
        clear_alert(cause, now)
        return
    message = f"The clock of {exchange} is {offset_ms} ms from this machine's; nothing is entered meanwhile."
    raise_alert(cause, Severity.CRITICAL, "CLOCK", message, now=now)
