"""From an entry's fill to a stop that was seen at the exchange, through workers and watcher of the desk.

The paper exchange keeps stops and tells of them; it answers at once. The entry's sending stands for its fill,
whose own time is that of the market's last tick; the stop is verified when a row says so.
"""

import json
import time
from collections.abc import Iterator
from decimal import Decimal
from http.client import HTTPConnection
from statistics import quantiles

from django.utils import timezone

from accounts.models import Account
from bench import rows
from bench.desk import Desk
from bench.figures import Bound, Figure, middle
from bench.orders import PRICE, VENUE_SYMBOL
from bench.stage import Scale, Stage
from exchange.loop import gc_freeze
from trading import tasks
from trading.domain.states import OrderPurpose, Protection
from trading.models import Order, Position
from trading.services.bells import Bells

SECRET = "bench"  # noqa: S105 -- of an exchange that lives as long as a measurement
QUEUES = ("orders", "exits", "lookups")
SINGLES = 60
WARMING = 5
BELOW = Decimal("0.999")
"""The mark is a little under the entries' cap, so that all of them fill."""

LONGEST_SECONDS = 20.0
LOOK_SECONDS = 0.002


def measured(stage: Stage, scale: Scale) -> Iterator[list[Figure]]:
    """One account after another enters; then its position is left alone."""
    count = scale.accounts_or(SINGLES) + WARMING
    stage.start_valkey()
    stage.start_paper_exchange("--admin-secret", SECRET)
    _pin(stage.exchange_port)
    accounts = rows.fit_accounts(count)
    with Desk(stage, count) as desk:
        desk.start(workers=1, queues=QUEUES)
        desk.start_watchers()
        desk.wait_heard(count)
        gc_freeze()
        legs = [_enter(account) for account in accounts][WARMING:]
    taken = [one[-1] for one in legs]
    known, sent, answered, _ = (middle(column) for column in zip(*legs, strict=True))
    note = f"stop ordered after {known:.0f}, sent after {sent:.0f}, answered after {answered:.0f}"
    p99 = quantiles(taken, n=100)[98]
    about = f"{stage.database}_fill_to_protection_verified"
    yield [
        Figure(f"{about}_median", middle(taken), "ms", None, Bound(60), note),
        Figure(f"{about}_p99", p99, "ms", None, Bound(250)),
    ]


def _enter(account: Account) -> tuple[float, ...]:
    """Milliseconds from the entry's sending to the stop's row, sending, answer, and to the verified row."""
    tasks.ring(Bells(entries=rows.committed_entries([account])))
    end = time.monotonic() + LONGEST_SECONDS
    verified = Position.objects.filter(account=account, protection=Protection.VERIFIED)
    while not verified.exists():
        if time.monotonic() > end:
            raise TimeoutError(f"no verified stop of {account.name}")
        time.sleep(LOOK_SECONDS)
    verified_at = timezone.now()
    sent_at = Order.objects.get(account=account, purpose=OrderPurpose.ENTRY).submitted_at
    stop = Order.objects.get(account=account, purpose=OrderPurpose.HARD_STOP)
    moments = (stop.created_at, stop.submitted_at, stop.acknowledged_at, verified_at)
    time.sleep(0.1)  # what follows is not the next one's
    return tuple((at - sent_at).total_seconds() * 1000 for at in moments if at and sent_at)


def _pin(port: int) -> None:
    """Hold the mark of BTC a little under the entries' cap."""
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    told = json.dumps({"symbol": VENUE_SYMBOL, "price": str(Decimal(PRICE) * BELOW)})
    headers = {"X-Paper-Secret": SECRET, "Content-Type": "application/json"}
    connection.request("POST", "/paper/mark", told, headers)
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    if answer.status != 200:  # noqa: PLR2004 -- the status is its own name
        raise RuntimeError(f"the mark could not be held: {said[:200]!r}")
