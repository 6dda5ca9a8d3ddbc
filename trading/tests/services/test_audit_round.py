"""The round of audits: every account of one address read in turn, by the exchange's own count of weight.

`make audit-round ACCOUNTS=1000` takes as many beside a real exchange's minute, and a quarter of an hour.
"""

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from django.db.models import Q
from pytest_django import Settings

from accounts.models import Account
from exchange.budget import SHARES, Priority
from tests.processes import PaperExchange
from trading.domain.states import Protection
from trading.models import Position
from trading.services import audits, execution, monitoring
from trading.services.allocation import allocate
from trading.services.selection import request
from trading.services.status import read_status
from trading.tests.services.holding import answer
from trading.tests.services.journey import WEATHER, a_signal, fit_accounts, now
from trading.tests.services.test_flatten_budget import exchange_of

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.drill,
    pytest.mark.usefixtures("redis"),
    pytest.mark.timeout(3600),
]

ACCOUNTS = int(os.environ.get("AUDITED_ACCOUNTS", "100"))
CHUNK = 50
ROOM = 2400
"""The weight of a minute at the exchange."""

LONGEST_ROUND_SECONDS = 240 + 3 * ACCOUNTS


@pytest.fixture
def exchange(tmp_path: Path, settings: Settings) -> Iterator[PaperExchange]:
    """A protected position of every account, at an exchange that has since begun to count."""
    settings.GATE_OFF = WEATHER
    # What is sent chunk by chunk here is sent side by side by a desk's workers.
    settings.LIMITS = replace(settings.LIMITS, deadline_seconds=900)
    with exchange_of(tmp_path, 0) as uncounted:
        uncounted.set_mark("BTCUSDT", "100000")
        fit_accounts(ACCOUNTS)
        Account.objects.update(fresh_at=now())  # the first of many were made a while ago
        entries = allocate(request(a_signal(), now()).pk, now()).entries
        for start in range(0, ACCOUNTS, CHUNK):
            answer(execution.submit(entries[start : start + CHUNK], now()))
    assert Position.objects.filter(protection=Protection.VERIFIED).count() == ACCOUNTS
    with exchange_of(tmp_path, ROOM) as counting:
        yield counting


def test_audits_go_round_all_accounts_of_one_address_and_leave_entries_their_room(
    exchange: PaperExchange,
) -> None:
    begun, began = now(), time.monotonic()
    unread = Account.objects.filter(Q(audited_at=None) | Q(audited_at__lt=begun))
    while unread.exists():
        assert time.monotonic() - began < LONGEST_ROUND_SECONDS, f"{unread.count()} were not read"
        next_tick = time.monotonic() + audits.TICK_SECONDS
        monitoring.monitor(now())
        time.sleep(max(0.0, next_tick - time.monotonic()))

    oldest = read_status(now()).accounts.oldest_audit_at
    minutes = [minute for minute in exchange.get("/paper/weights") if "spot" not in minute["address"]]
    sys.stdout.write(f"{ACCOUNTS} audited in {time.monotonic() - began:.0f} s; {minutes}\n")
    assert oldest is not None
    assert oldest >= begun
    assert max(minute["used"] for minute in minutes) <= SHARES[Priority.ENTRY] * ROOM
    assert sum(minute["refused"] for minute in minutes) == 0
    assert not Position.objects.exclude(protection=Protection.VERIFIED).exists()
