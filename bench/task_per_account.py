"""What the desk is compared with: one Celery task per account, as it is usually written.

`python -m celery -A bench.task_per_account worker -P prefork -c 8`. Each task reads its order, sends it with
ccxt's synchronous client, reads the executions behind it and writes what they mean, in one transaction. It
has none of the desk's gate, claims, fencing or budget. In its favour: one client a process, its markets
loaded before the first task, the account's key put into it for each task, one kept connection, no limiter.
"""

import os
from decimal import Decimal
from functools import lru_cache
from typing import Any

import ccxt
import django
from celery import Celery, signals

django.setup()

from django.conf import settings  # noqa: E402 -- models are there once Django is
from django.db import transaction  # noqa: E402
from django.utils import timezone  # noqa: E402

from exchange.quirks import Hosts  # noqa: E402
from trading.domain.states import AllocationOutcome, OrderStatus  # noqa: E402
from trading.models import Fill, Order, Position  # noqa: E402

BROKER_DATABASE = 1

# Not the current one: whoever asks it for something rings the desk's own bells elsewhere.
app = Celery(
    "task_per_account",
    broker=settings.REDIS_URL.rpartition("/")[0] + f"/{BROKER_DATABASE}",
    set_as_current=False,
)
app.conf.task_ignore_result = True


@signals.worker_process_init.connect
def warm_up(**_: Any) -> None:
    """Load the markets in every child, before its first task; not for the desk's own workers."""
    if os.environ.get("BENCH_COMPARED"):
        client()


@lru_cache(maxsize=1)
def client() -> Any:
    """The client of this process."""
    made = ccxt.binanceusdm(
        {
            "enableRateLimit": False,
            "urls": {"api": Hosts.single(settings.PAPER_EXCHANGE_URL).ccxt_urls()},
            "options": {
                "fetchCurrencies": False,
                "fetchMargins": False,
                "fetchMarkets": {"types": ["linear"]},
            },
        }
    )
    made.load_markets()
    return made


@app.task
def place_order(order_id: int) -> None:
    """Send one order and write what became of it."""
    order = Order.objects.select_related("account", "allocation").get(pk=order_id)
    exchange = client()
    exchange.apiKey = exchange.secret = order.account.name
    order.status, order.submitted_at = OrderStatus.SUBMITTED, timezone.now()
    order.save(update_fields=["status", "submitted_at"])
    params = {"timeInForce": "IOC", "clientOrderId": order.client_order_id}
    placed = exchange.create_order(
        order.symbol, "limit", order.side, str(order.quantity), str(order.price), params
    )
    order.exchange_order_id, order.acknowledged_at = placed["id"], timezone.now()
    trades = exchange.fetch_my_trades(order.symbol, params={"orderId": placed["id"]})
    with transaction.atomic():
        _record(order, trades)


def _record(order: Order, trades: list[dict[str, Any]]) -> None:
    filled = sum((Decimal(str(trade["amount"])) for trade in trades), Decimal(0))
    average = sum((Decimal(str(trade["cost"])) for trade in trades), Decimal(0)) / filled
    position = Position.objects.create(
        account=order.account,
        market=order.market,
        symbol=order.symbol,
        base=order.base,
        is_long=order.side == "buy",
        quantity=filled,
        initial_quantity=filled,
        entry_price=average,
        opened_at=timezone.now(),
    )
    for trade in trades:
        Fill.objects.create(
            order=order,
            position=position,
            account=order.account,
            market=order.market,
            symbol=order.symbol,
            trade_id=trade["id"],
            side=order.side,
            price=Decimal(str(trade["price"])),
            quantity=Decimal(str(trade["amount"])),
            fee=Decimal(str(trade["fee"]["cost"])),
            fee_asset=trade["fee"]["currency"],
            filled_at=timezone.now(),
        )
    order.status, order.filled_quantity, order.average_price = OrderStatus.FILLED, filled, average
    order.position, order.fills_complete, order.finished_at = position, True, timezone.now()
    order.save()
    share = order.allocation
    assert share is not None  # noqa: S101 -- every entry here has one
    share.outcome, share.filled_quantity, share.average_price = AllocationOutcome.FILLED, filled, average
    share.save()
